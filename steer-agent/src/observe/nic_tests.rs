//! The readers over trees of real drivers' shape, and over this machine's loopback.

use super::*;
use crate::model::CpuSet;
use crate::observe::fixture::Fixture;

const IGB_6_1: &str = include_str!("../../tests/fixtures/igb-6.1.tree");
const IGB: &str = include_str!("../../tests/fixtures/igb-6.12.tree");
const VIRTIO: &str = include_str!("../../tests/fixtures/virtio-6.12.tree");
const VMXNET3: &str = include_str!("../../tests/fixtures/vmxnet3-6.12.tree");
const E1000E: &str = include_str!("../../tests/fixtures/e1000e-6.12.tree");

/// A VLAN on eth0.
const VLAN: &str = "
    sys/devices/pci0000:00/0000:00:03.0/net/eth0/upper_eth0.5 -> ../../../../virtual/net/eth0.5
    sys/class/net/eth0.5 -> ../../devices/virtual/net/eth0.5
    sys/devices/virtual/net/eth0.5/ifindex = 5
    sys/devices/virtual/net/eth0.5/uevent = DEVTYPE=vlan\\nINTERFACE=eth0.5\\nIFINDEX=5
";

fn nic(text: &str, name: &str) -> Nic {
    read(&Fixture::new(text).machine(), name).expect("readable")
}

/// Queue, IRQ and effective CPU of each queue.
fn irqs(nic: &Nic) -> Vec<(QueueId, Option<u32>, Option<u32>)> {
    nic.queues.iter().map(|queue| (queue.id, queue.irq, queue.irq_cpu())).collect()
}

#[test]
fn an_igb_on_two_kernels() {
    for tree in [IGB_6_1, IGB] {
        let nic = nic(tree, "eth0");
        assert_eq!(nic.driver.as_deref(), Some("igb"));
        assert_eq!(nic.bus.as_deref(), Some("0000:00:03.0"));
        assert_eq!(nic.node, None, "-1 is no node");
        assert!(nic.up);
        assert_eq!((nic.carrier, nic.carrier_changes), (Some(true), Some(2)));
        let expected =
            [(29, 3), (30, 0), (31, 1), (32, 2)].map(|(irq, cpu)| (Some(irq), Some(cpu)));
        let found: Vec<_> = irqs(&nic).into_iter().map(|(_, irq, cpu)| (irq, cpu)).collect();
        assert_eq!(found, expected);
        let queue = &nic.queues[2];
        assert_eq!((queue.id, queue.irq_source), (2, Some(IrqSource::Name)));
        assert_eq!(queue.irq_name.as_deref(), Some("eth0-rx-2"));
        assert_eq!(queue.affinity, Some((0..4).collect()));
        assert_eq!(queue.xps, Some(CpuSet::default()));
        assert_eq!((queue.rps.clone(), queue.rps_flows), (Some(CpuSet::default()), Some(0)));
        assert!(!queue.managed);
        assert_eq!(nic.drops.rx_dropped, Some(0));
        assert_eq!(nic.threaded_napi, Some(false));
    }
}

#[test]
fn a_virtio_nic_is_known_by_its_pci_device() {
    let nic = nic(VIRTIO, "eth0");
    assert_eq!(nic.driver.as_deref(), Some("virtio_net"));
    assert_eq!(nic.bus.as_deref(), Some("0000:00:03.0"));
    let found: Vec<_> = nic.queues.iter().map(|queue| (queue.irq, queue.xps.clone())).collect();
    let expected = [(29, 0), (31, 1), (33, 2), (35, 3)];
    assert_eq!(found, expected.map(|(irq, cpu)| (Some(irq), Some(CpuSet::single(cpu)))));
    assert_eq!(nic.queues[3].irq_name.as_deref(), Some("virtio2-input.3"));
}

#[test]
fn a_vmxnet3_counts_vectors() {
    let nic = nic(VMXNET3, "eth1");
    let found: Vec<_> = nic.queues.iter().map(|queue| queue.irq).collect();
    assert_eq!(found, [31, 32, 33, 34].map(Some));
    assert_eq!(nic.queues[3].irq_name.as_deref(), Some("eth1-rxtx-3"));
}

#[test]
fn an_e1000e() {
    let nic = nic(E1000E, "eth1");
    assert_eq!(irqs(&nic).len(), 1);
    assert_eq!(nic.queues[0].irq_name.as_deref(), Some("eth1-rx-0"));
    assert_eq!(nic.queues[0].xps, None, "one queue has no XPS");
    assert_eq!(
        why_not_steerable(&nic).as_deref(),
        Some("eth1 cannot be steered: its driver e1000e offers no indirection table")
    );
}

#[test]
fn a_managed_interrupt_is_seen_without_writing() {
    let fixture = Fixture::new(IGB);
    fixture.add("proc/irq/30/smp_affinity_list (0444) = 1");
    let nic = read(&fixture.machine(), "eth0").expect("readable");
    let managed: Vec<bool> = nic.queues.iter().map(|queue| queue.managed).collect();
    assert_eq!(managed, [false, true, false, false]);
}

#[test]
fn an_unknown_driver_has_queues_without_interrupts() {
    let renamed = IGB.replace("drivers/igb", "drivers/nobody");
    let nic = nic(&renamed, "eth0");
    assert_eq!(nic.queues.len(), 4);
    assert!(nic.queues.iter().all(|queue| queue.irq.is_none() && queue.irq_source.is_none()));
}

#[test]
fn stacked_interfaces_count_over_layers_but_not_bridges() {
    let fixture = Fixture::new(IGB);
    fixture.add(VLAN);
    fixture.add(
        "sys/devices/virtual/net/eth0.5/upper_q -> ../q
         sys/class/net/q -> ../../devices/virtual/net/q
         sys/devices/virtual/net/q/ifindex = 9
         sys/devices/virtual/net/q/uevent = DEVTYPE=vlan
         sys/devices/pci0000:00/0000:00:03.0/net/eth0/upper_br0 -> ../../../../virtual/net/br0
         sys/class/net/br0 -> ../../devices/virtual/net/br0
         sys/devices/virtual/net/br0/ifindex = 10
         sys/devices/virtual/net/br0/uevent = DEVTYPE=bridge",
    );
    let nic = read(&fixture.machine(), "eth0").expect("readable");
    assert_eq!(nic.upper_ifindexes, [5, 9]);
}

#[test]
fn a_bond_has_members_and_nothing_else_has() {
    let fixture = Fixture::new(IGB);
    fixture.add(VLAN);
    fixture.add(
        "sys/class/net/bond0/ifindex = 7
         sys/class/net/bond0/bonding/slaves = eth0 eth1
         sys/class/net/bonding_masters = bond0",
    );
    let machine = fixture.machine();
    assert_eq!(members(&machine, "bond0"), Some(vec!["eth0".to_owned(), "eth1".to_owned()]));
    assert_eq!(members(&machine, "eth0"), None);
    // A VLAN on the bond, beside a port that is no NIC: packets come through the members' devices.
    fixture.add(
        "sys/class/net/bond0.7/lower_bond0 = x
         sys/class/net/bond0/lower_eth0 = x
         sys/class/net/bond0/lower_tap0 = x
         sys/class/net/tap0/ifindex = 11",
    );
    assert_eq!(carriers(&machine, "bond0.7"), ["eth0"]);
    assert_eq!(carriers(&machine, "tap0"), Vec::<String>::new());
    assert_eq!(list(&machine).expect("listed"), ["bond0", "bond0.7", "eth0", "eth0.5", "tap0"]);
}

#[test]
fn the_systems_key_stands_in_for_a_hidden_one() {
    let fixture = Fixture::new(IGB);
    let key = system_key(&fixture.root()).expect("drawn");
    assert_eq!((key.bytes.len(), key.bytes[0], key.from_driver), (52, 0x49, false));
    fixture.add("proc/sys/net/core/netdev_rss_key = 00:00:00");
    assert_eq!(system_key(&fixture.root()), None, "not drawn yet");
    fixture.add("proc/sys/net/core/netdev_rss_key = 6d:zz");
    assert_eq!(system_key(&fixture.root()), None);
}

#[test]
fn reasons_are_sentences() {
    let mut nic = nic(IGB, "eth0");
    let table = vec![0, 1, 2, 3];
    nic.rss = Some(Rss { table, ..Rss::default() });
    nic.rx_rings = Some(4);
    assert_eq!(why_not_steerable(&nic), None);
    let reason = |change: &dyn Fn(&mut Nic)| {
        let mut changed = nic.clone();
        change(&mut changed);
        why_not_steerable(&changed).expect("a reason")
    };
    assert_eq!(
        reason(&|nic| nic.up = false),
        "eth0 is down: bring it up first (`ip link set eth0 up`)"
    );
    assert!(reason(&|nic| nic.driver = None).contains("virtual interface"));
    assert!(reason(&|nic| nic.rss = None).contains("driver igb offers no indirection table"));
    assert!(reason(&|nic| nic.rss = Some(Rss::default())).contains("size 0"));
    assert!(reason(&|nic| nic.rx_rings = Some(1)).contains("one RX queue"));
}

#[test]
fn the_loopback_of_this_machine_is_virtual() {
    let machine = Machine::open().expect("sockets");
    let mut missing = Vec::new();
    let nic = read_noting(&machine, "lo", &mut missing).expect("always there");
    assert_eq!((nic.ifindex, nic.driver.as_deref(), &nic.rss), (1, None, &None));
    assert_eq!(nic.features.get("rx-ntuple-filter"), Some(&false));
    assert_eq!(missing, Vec::<String>::new());
    assert!(
        why_not_steerable(&nic).is_some_and(|why| why.starts_with("lo is a virtual interface"))
    );
    assert!(list(&machine).expect("listed").contains(&"lo".to_owned()));
}

#[test]
fn an_interface_that_is_not_there_is_gone() {
    let error = read(&Machine::open().expect("sockets"), "nosuchnic0").expect_err("none");
    assert!(error.is_gone());
    assert_eq!(
        error.to_string(),
        "find interface nosuchnic0: No such device (os error 19); \
         there is no such interface (any more): `ip link` lists those that exist"
    );
    assert!(read(&Fixture::new(IGB).machine(), "eth9").expect_err("none").is_gone());
}
