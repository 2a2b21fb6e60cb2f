//! A server in a network namespace of its own behind a veth, as container engines make them: bridged
//! to the NIC, and routed. Its consumption is the NIC's.
//!
//! The independent count is the server's as everywhere: without RPS the veth hands a packet on where
//! it is, so that the CPU of the protocol work is the one that polled the NIC's queue.

use std::time::Instant;

use anyhow::{Context, Result};

use super::align::{correctable, corrects};
use super::kinds::named_by_mistake;
use crate::{
    guest::{Guest, NIC, PEER, ip, run as command, write},
    load::{Load, Spec},
};

/// The container's namespace.
const BOX: &str = "box";

pub(super) fn run(guest: &Guest) -> Result<()> {
    command("modprobe", &["-a", "bridge", "veth"])?;
    guest.spread()?;
    ip(&format!("netns add {BOX}"))?;
    ip(&format!("link add vbox type veth peer name eth0 netns {BOX}"))?;
    ip("link set vbox up")?;
    let inside = |command: &str| ip(&format!("-n {BOX} {command}"));
    inside("link set lo up")?;
    inside("link set eth0 up")?;

    guest.say("bridged:");
    ip("link add br0 type bridge")?;
    ip("link set br0 up")?;
    for port in [NIC, "vbox"] {
        ip(&format!("link set {port} master br0"))?;
    }
    inside("address add 10.9.0.3/24 dev eth0")?;
    named_by_mistake(guest, "br0", &[NIC])?;
    serves(guest, "10.9.0.3")?;

    guest.say("routed:");
    for port in [NIC, "vbox"] {
        ip(&format!("link set {port} nomaster"))?;
    }
    ip("link del br0")?;
    inside("address flush dev eth0")?;
    inside("address add 10.20.0.2/24 dev eth0")?;
    ip("address add 10.20.0.1/24 dev vbox")?;
    inside("route add default via 10.20.0.1")?;
    ip(&format!("-n {PEER} route add 10.20.0.0/24 via 10.9.0.1"))?;
    write("/proc/sys/net/ipv4/ip_forward", "1")?;
    serves(guest, "10.20.0.2")
}

/// A load on the container is seen whole, attributed, and aligned.
fn serves(guest: &Guest, address: &str) -> Result<()> {
    let spec = Spec {
        addresses: vec![address.to_owned()],
        server_in: Some(BOX.to_owned()),
        ..Spec::default()
    };
    let load = correctable(guest, &spec)?;
    agrees(guest, &load)?;
    corrects(guest, &[NIC], vec![load])
}

/// steer counts what the server counts, and lists every flow with the CPU that the server names.
fn agrees(guest: &Guest, load: &Load) -> Result<()> {
    let begun = Instant::now();
    let (status, window) = load.window_of(|| guest.status(NIC, &["--for", "3s", "--flows"]))?;
    let received_per_s = window.received as f64 / begun.elapsed().as_secs_f64();
    let share = status["alignment"]["share"].as_f64().context("status has no share")?;
    let apart = (share - window.share()).abs();
    guest.say(format_args!("steer says {share:.3}, the server counted {:.3}", window.share()));
    guest.expect_within("apart by", &apart, ..=0.03)?;
    let consumed_per_s = status["alignment"]["consumed_per_s"].as_f64().unwrap_or_default();
    // One receive takes one segment, so that both count the same; but the server's window holds the
    // start of the observation too, which takes the emulated CPUs seconds of work.
    let ratio = consumed_per_s / received_per_s;
    guest.expect_within("consumption as a multiple of the server's count", &ratio, 0.85..)?;
    let listed = status["flows"].as_array().context("status lists no flows")?;
    let flows = load.flows()?;
    let known = flows.iter().filter(|flow| {
        listed.iter().any(|listed| {
            listed["remote"] == flow.remote.to_string()
                && listed["softirq_cpu"] == flow.incoming_cpu
                && listed["queue"].is_u64()
        })
    });
    guest.expect_equal("flows of the container with queue and CPU", &known.count(), &flows.len())
}
