//! Topologies of machines with gaps, and this one's.

use super::*;
use crate::model::Distance;
use crate::observe::fixture::Fixture;
use proptest::prelude::*;

const TWO_SOCKETS: &str = include_str!("../../tests/fixtures/two-sockets.tree");

#[test]
fn two_sockets_with_a_cpu_missing() {
    let topology = topology(&Fixture::new(TWO_SOCKETS).root()).expect("readable");
    assert_eq!(topology.online().to_string(), "0-4,6-7");
    assert_eq!(topology.distance(0, 4), Distance::SmtSibling);
    assert_eq!(topology.distance(0, 1), Distance::SameLlc);
    assert_eq!(topology.distance(0, 2), Distance::Remote);
    assert_eq!(topology.distance(0, 5), Distance::Remote, "offline");
    let first = topology.cpu(0).expect("online");
    assert_eq!((first.package, first.node, first.capacity), (Some(0), Some(0), None));
    assert_eq!(first.l2.as_ref().map(ToString::to_string).as_deref(), Some("0,4"));
    assert_eq!(first.llc.as_ref().map(ToString::to_string).as_deref(), Some("0-1,4"));
    let alone = topology.cpu(1).expect("online");
    assert_eq!(alone.smt, CpuSet::single(1), "its sibling is offline");
}

#[test]
fn what_is_known_is_read_again_when_other_cpus_are_online() {
    let fixture = Fixture::new(TWO_SOCKETS);
    let root = fixture.root();
    let whole = topology(&root).expect("readable");
    let mut known = whole.clone();
    known.cpus[0].package = Some(7);
    assert_eq!(topology_after(&root, known.clone()).expect("readable"), known, "taken as it is");
    known.cpus.pop();
    assert_eq!(topology_after(&root, known).expect("readable"), whole);
}

#[test]
fn softirq_time_keeps_the_cpus_numbers() {
    let times = softirq_ns(&Fixture::new(TWO_SOCKETS).root()).expect("readable");
    let tick_ns = NS_PER_S / procfs::ticks_per_second();
    let expected: Vec<(CpuId, u64)> =
        [0, 1, 2, 3, 4, 6, 7].map(|cpu| (cpu, u64::from(cpu) * tick_ns)).into();
    assert_eq!(times, expected);
}

#[test]
fn what_is_not_told_is_absent() {
    let fixture = Fixture::new(
        "sys/devices/system/cpu/online = 0
         sys/devices/system/cpu/cpu0/topology/physical_package_id = -1
         sys/devices/system/cpu/cpu0/topology/thread_siblings_list = 0
         sys/devices/system/cpu/cpu0/cache/index0/level = 2
         sys/devices/system/cpu/cpu0/cache/index0/type = Instruction
         sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list = 0
         sys/devices/system/cpu/cpu0/cpu_capacity = 512
         proc/stat = intr 1",
    );
    let topology = topology(&fixture.root()).expect("readable");
    let expected = CpuInfo {
        id: 0,
        package: None,
        node: None,
        smt: CpuSet::single(0),
        l2: None,
        llc: None,
        capacity: Some(512),
    };
    assert_eq!(topology.cpus, [expected]);
    let error = softirq_ns(&fixture.root()).expect_err("no CPU");
    assert!(error.to_string().ends_with("/proc/stat: it has no line of a CPU"), "{error}");
}

#[test]
fn no_tree_is_an_error() {
    assert!(topology(&Root::new("/nowhere", "/nowhere")).expect_err("nothing").is_absent());
    assert!(softirq_ns(&Root::new("/nowhere", "/nowhere")).expect_err("nothing").is_absent());
}

#[test]
fn this_machine() {
    let topology = topology(&Root::default()).expect("readable");
    let times = softirq_ns(&Root::default()).expect("readable");
    assert!(!topology.cpus.is_empty());
    assert!(times.iter().all(|(cpu, _)| topology.cpu(*cpu).is_some()), "{times:?}");
    let before = monotonic_ns();
    assert!(before > 0 && monotonic_ns() >= before);
}

proptest! {
    #[test]
    fn any_stat_is_answered(text in "(cpu[0-9]{0,2} ?([0-9 ]|x){0,30}\n|\\PC{0,20}\n){0,6}") {
        let _ = softirq_ticks(&text);
    }
}

#[test]
fn segments_are_found_by_name() {
    // The fields of Linux 6.18, and one more that some later kernel may put before them.
    let text = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
                Tcp: RtoAlgorithm New RtoMin InSegs OutSegs RetransSegs InErrs\n\
                Tcp: 1 9 200 700 800 3 0\nUdp: InDatagrams\nUdp: 5\n";
    assert_eq!(segments(text), Ok(TcpSegments { sent: 800, retransmitted: 3 }));
    let why = segments("Tcp: OutSegs\nTcp: 8\n").expect_err("no RetransSegs");
    assert!(why.contains("RetransSegs"), "{why}");
    assert!(segments("Tcp: OutSegs RetransSegs\n").is_err());
    assert!(segments("").is_err());
}

#[test]
fn this_host_counts_its_segments() {
    tcp_segments(&Root::default()).expect("readable");
}

#[test]
fn a_machine_says_what_it_is_or_not() {
    let x86 = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu de hypervisor lm\n\n";
    assert_eq!(cpu_facts(x86), (Some("AMD EPYC 7B13".to_owned()), Some(true)));
    assert_eq!(cpu_facts("flags : fpu hypervisorish\n"), (None, Some(false)));
    assert_eq!(cpu_facts("processor : 0\nFeatures : fp asimd\n"), (None, None));
}
