//! The door to the kernel against this kernel, in a network namespace of its own.
//!
//! The test starts itself again inside a fresh namespace, with a /sys that shows it, so that
//! nothing on the machine is touched and nothing is left behind. A veth pair has queues, channels
//! and XPS, but no indirection table: what only hardware has is tried in the lab. It needs root
//! or user namespaces; without either it fails and says so.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::process::Command;

use steer_agent::model::CpuSet;
use steer_agent::observe::{nic, probe};
use steer_agent::sys::{Machine, Port as _};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "STEER_TEST_INSIDE";

/// Runs `body` inside a fresh network namespace: this very test is started again in one.
fn in_namespace(test: &str, setup: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let me = std::env::current_exe().expect("this program");
    let script = format!(
        "mount -t sysfs sysfs /sys && {setup} && exec {} --exact {test} --nocapture",
        me.display()
    );
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let status = command
        .args(["--net", "--mount", "sh", "-c", &script])
        .env(INSIDE, "1")
        .status()
        .expect("unshare(1) of util-linux");
    assert!(status.success(), "inside the namespace: {status}");
}

#[test]
fn a_veth_pair_is_read_and_its_xps_written() {
    let setup = "ip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 \
                 numrxqueues 2 numtxqueues 2 && ip link set v0 up && ip link set v1 up";
    in_namespace("a_veth_pair_is_read_and_its_xps_written", setup, || {
        let machine = Machine::open().expect("sockets");
        let mut missing = Vec::new();
        let veth = nic::read_noting(&machine, "v0", &mut missing).expect("readable");
        assert_eq!(missing, Vec::<String>::new());
        assert!(veth.up);
        assert_eq!(veth.carrier, Some(true));
        assert_eq!(veth.driver, None);
        assert_eq!(veth.queues.len(), 2);
        let channels = veth.channels.expect("veth has ETHTOOL_GCHANNELS");
        assert_eq!((channels.rx, channels.max_rx), (2, 2));
        assert_eq!(veth.rss, None);
        assert_eq!(veth.upper_ifindexes, Vec::<u32>::new());
        assert_eq!(veth.xdp_program, None);
        assert!(veth.features.contains_key("rx-gro"), "{:?}", veth.features);
        let why = nic::why_not_steerable(&veth).expect("virtual");
        assert!(why.starts_with("v0 is a virtual interface"), "{why}");

        assert_eq!(machine.xps("v0", 1), Ok(Some(CpuSet::default())));
        machine.set_xps("v0", 1, &CpuSet::single(0)).expect("written");
        assert_eq!(machine.xps("v0", 1), Ok(Some(CpuSet::single(0))));
        machine.set_xps("v0", 1, &CpuSet::default()).expect("written");
        assert_eq!(machine.xps("v0", 1), Ok(Some(CpuSet::default())));

        let error = machine.set_rss_table("v0", &[0, 1]).expect_err("veth has no table");
        assert!(error.is_unsupported(), "{error}");

        delete("v1");
        let error = nic::read(&machine, "v0").expect_err("gone with its peer");
        assert!(error.is_gone(), "{error}");
        assert!(machine.set_xps("v0", 1, &CpuSet::single(0)).expect_err("gone").is_gone());
    });
}

#[test]
fn one_queue_has_no_xps() {
    let setup = "ip link add v0 numrxqueues 1 numtxqueues 1 type veth peer name v1";
    in_namespace("one_queue_has_no_xps", setup, || {
        let machine = Machine::open().expect("sockets");
        assert_eq!(machine.xps("v0", 0), Ok(None));
        let error = machine.set_xps("v0", 0, &CpuSet::single(0)).expect_err("one queue");
        assert!(error.is_absent(), "{error}");
        let veth = nic::read(&machine, "v0").expect("readable");
        assert_eq!((veth.up, veth.carrier), (false, None));
    });
}

#[test]
fn nothing_is_seen_where_there_is_nothing() {
    let setup = "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up";
    in_namespace("nothing_is_seen_where_there_is_nothing", setup, || {
        let machine = Machine::open().expect("sockets");
        let index = machine.identity("v0").expect("there").ifindex;
        let ethnl = machine.ethnl().expect("a live machine");
        assert_eq!(ethnl.xdp_program("v0", index), Ok(None));
        // veth links no queue to its NAPI instances: an empty answer, not an error.
        let queues = ethnl.rx_queues("v0", index).expect("answered");
        assert!(queues.unwrap_or_default().is_empty());
    });
}

#[test]
fn both_paths_agree_on_what_is_not_there() {
    let setup = "ip link add v0 type veth peer name v1";
    in_namespace("both_paths_agree_on_what_is_not_there", setup, || {
        let machine = Machine::open().expect("sockets");
        let (ethtool, ethnl) = (machine.ethtool().expect("live"), machine.ethnl().expect("live"));
        assert_eq!(ethtool.rss("v0"), Ok(None));
        assert_eq!(ethnl.rss("v0"), Ok(None));
        assert!(ethtool.rss("v9").expect_err("none").is_gone());
        if probe::facts(&machine).netlink_rss_get.yes() {
            assert!(ethnl.rss("v9").expect_err("none").is_gone());
        }
    });
}

fn delete(link: &str) {
    let status = Command::new("ip").args(["link", "delete", link]).status().expect("ip(8)");
    assert!(status.success());
}
