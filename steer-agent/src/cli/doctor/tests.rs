//! What the doctor says of NICs, over captured trees and over hand-made ones, compared as text. After a
//! wanted change run the tests with `STEER_ACCEPT=1` in the environment and look at the difference in
//! `golden/`.
//!
//! A tree has files only. What the ioctl and netlink answer (table, features, flags, rules, contexts,
//! XDP) is put in by hand: for the captured trees as the lab shows it.

use crate::golden::golden;
use crate::model::{Fact, Facts, HashFields, Neighbours, Nic, Rss, RssKey, Topology};
use crate::observe::fixture::Fixture;
use crate::observe::nic::{read, why_not_steerable};
use crate::policy::Policy;
use crate::report::doctor::{self, Finding};

const IGB: &str = include_str!("../../../tests/fixtures/igb-6.12.tree");
const VIRTIO: &str = include_str!("../../../tests/fixtures/virtio-6.12.tree");
const VMXNET3: &str = include_str!("../../../tests/fixtures/vmxnet3-6.12.tree");
const E1000E: &str = include_str!("../../../tests/fixtures/e1000e-6.12.tree");

fn facts(flow_entries: u64) -> Facts {
    Facts {
        kernel_release: "6.12.0".to_owned(),
        btf: Fact::Yes,
        may_trace: Fact::Yes,
        may_set_nic: Fact::Yes,
        may_set_irq: Fact::Yes,
        netlink_rss_get: Fact::Yes,
        netlink_rss_set: Fact::Yes,
        netlink_queues: Fact::Yes,
        neighbours: Neighbours::default(),
        rps_sock_flow_entries: Some(flow_entries),
    }
}

fn findings(nic: &Nic, flow_entries: u64) -> Vec<Finding> {
    let topology = Topology::regular(1, 4, 1);
    let why_not = why_not_steerable(nic);
    doctor::nic(nic, why_not.as_deref(), &facts(flow_entries), &topology, &Policy::default())
}

/// The NIC of a tree, with a table of `buckets` and these features.
fn nic(tree: &Fixture, name: &str, buckets: usize, features: &[(&str, bool)]) -> Nic {
    let mut nic = read(&tree.machine(), name).expect("readable");
    let queues = u32::try_from(nic.queues.len()).expect("few");
    nic.rss = (buckets > 0).then(|| Rss {
        table: (0..queues).cycle().take(buckets).collect(),
        key: Some(RssKey { bytes: vec![1; 40], from_driver: true }),
        hash_function: Some("toeplitz".to_owned()),
        hash_fields: HashFields { tcp4_ports: Some(true), ..HashFields::default() },
        extra_contexts: Some(0),
        ..Rss::default()
    });
    nic.features = features.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect();
    nic
}

/// The captured igb under the name of another driver: hand-made.
fn as_driver(driver: &str, more: &str) -> Fixture {
    let names = match driver {
        "i40e" | "ice" | "iavf" => format!("{driver}-eth0-rx-"),
        _ => "eth0-rx-".to_owned(),
    };
    let tree = IGB.replace("drivers/igb", &format!("drivers/{driver}")).replace("eth0-rx-", &names);
    let fixture = Fixture::new(&tree);
    fixture.add(more);
    fixture
}

#[test]
fn the_nics_of_the_lab() {
    let mut igb = nic(&Fixture::new(IGB), "eth0", 128, &[("rx-hashing", true)]);
    igb.features.insert("rx-ntuple-filter".to_owned(), false);
    let vmxnet3 = nic(&Fixture::new(VMXNET3), "eth1", 128, &[("rx-hashing", true)]);
    let virtio = nic(&Fixture::new(VIRTIO), "eth0", 128, &[]);
    let e1000e = nic(&Fixture::new(E1000E), "eth1", 0, &[("rx-hashing", true)]);
    for (name, nic) in [("igb", igb), ("vmxnet3", vmxnet3), ("virtio", virtio), ("e1000e", e1000e)]
    {
        golden(&format!("doctor-{name}.txt"), &doctor::text(&findings(&nic, 0)));
    }
}

#[test]
fn everything_that_can_stand_beside_the_table() {
    let dir = "sys/devices/pci0000:00/0000:00:03.0";
    let tree = as_driver(
        "ice",
        &format!(
            "{dir}/sriov_numvfs = 2
             {dir}/net/eth0/threaded = 1
             {dir}/net/eth0/queues/rx-0/rps_cpus = f
             {dir}/net/eth0/queues/rx-0/rps_flow_cnt = 4096"
        ),
    );
    let on = ["rx-ntuple-filter", "rx-lro", "rx-gro-hw"].map(|feature| (feature, true));
    let mut ice = nic(&tree, "eth0", 512, &on);
    assert_eq!(ice.virtual_functions, Some(2));
    ice.features.insert("rx-hashing".to_owned(), false);
    ice.rule_count = Some(3);
    ice.xdp_program = Some(42);
    ice.rss.as_mut().expect("a table").extra_contexts = Some(1);
    let findings = findings(&ice, 32_768);
    golden("doctor-beside.txt", &doctor::text(&findings));
    let json = serde_json::to_string_pretty(&findings).expect("serialised");
    golden("doctor-beside.json", &(json + "\n"));
}

#[test]
fn drivers_that_decide_by_themselves() {
    let ntuple_off = [("rx-hashing", true), ("rx-ntuple-filter", false)];
    let ixgbe = nic(&as_driver("ixgbe", ""), "eth0", 128, &ntuple_off);
    let mut i40e = nic(&as_driver("i40e", ""), "eth0", 512, &ntuple_off);
    i40e.private_flags.insert("flow-director-atr".to_owned(), true);
    let vf = "sys/devices/pci0000:00/0000:00:03.0/physfn -> ../0000:00:02.0
              sys/devices/pci0000:00/0000:00:02.0/class = 0x020000";
    let iavf = nic(&as_driver("iavf", vf), "eth0", 64, &[("rx-hashing", true)]);
    assert!(iavf.is_virtual_function);
    let mut text = String::new();
    for nic in [ixgbe, i40e, iavf] {
        text += &format!("# {}\n", nic.driver.as_deref().unwrap_or_default());
        text += &doctor::text(&findings(&nic, 0));
    }
    golden("doctor-overrules.txt", &text);
}

#[test]
fn drivers_whose_table_is_left_alone() {
    let mut text = String::new();
    for driver in ["bnxt_en", "nobody"] {
        let nic = nic(&as_driver(driver, ""), "eth0", 128, &[("rx-hashing", true)]);
        text += &format!("# {driver}\n");
        text += &doctor::text(&findings(&nic, 0));
    }
    golden("doctor-left-alone.txt", &text);
}
