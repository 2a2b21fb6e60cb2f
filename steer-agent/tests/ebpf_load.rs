//! The kernel side on the running kernel: every program passes the verifier and attaches, with all
//! kernel fields, without each of them in turn, and without any.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

#[path = "ebpf/support.rs"]
mod support;

use steer_agent::model::Matrix;
use steer_agent::observe::kernel::{
    HashSource, KernelSide, Observer, StartOptions, WatchedNic, field_names, verifier,
};

/// Loopback carries no RX queue, but any interface can be named.
fn watched() -> WatchedNic {
    WatchedNic {
        name: "lo".to_owned(),
        ifindex: 1,
        upper_ifindexes: Vec::new(),
        buckets: 128,
        queues: 4,
        hash: HashSource::Computed { key: (0..40).collect(), fields: support::ports() },
    }
}

fn options() -> StartOptions {
    StartOptions { nics: vec![watched()], ..StartOptions::default() }
}

#[test]
fn everything_attaches() {
    if !support::may_load() {
        return;
    }
    let mut side = KernelSide::start(&options()).expect("loads");
    for program in side.programs() {
        println!("{}: {:?} instructions", program.hook, program.verified_instructions);
    }
    assert!(support::all_attached(&side));
    let refused = side.programs().iter().filter(|program| !program.attached.yes()).count();
    let reading = side.read().expect("reads");
    assert_eq!(reading.missing.len(), refused, "{:?}", reading.missing);
    assert_eq!(reading.counters.len(), 1);
    assert_eq!(reading.counters[0].queue_packets.rows(), 4);
    assert_eq!(reading.counters[0].demand.as_ref().map(Matrix::rows), Some(128));
    assert!(reading.counters[0].load.is_none(), "no hash is reported");
    assert!(!reading.health.is_empty());
}

/// Most instructions that a program may cost the verifier on any kernel: a tenth of what the kernel
/// allows. The lab holds other kernels to the same (`verifier`).
const MOST_INSTRUCTIONS: u32 = verifier::LIMIT / 10;

#[test]
fn every_program_stays_far_below_the_verifiers_limit() {
    if !support::may_load() {
        return;
    }
    // In a process of its own, as for a moment it can open no file.
    let name = "measured_by_another_process";
    let program = std::env::current_exe().expect("this test");
    let output = std::process::Command::new(program)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    println!("{text}");
}

#[test]
#[ignore = "run by every_program_stays_far_below_the_verifiers_limit"]
fn measured_by_another_process() {
    let counts = verifier::instructions().expect("measured");
    let names = ["consume_tcp", "observe_xdp", "receive_gro", "receive_skb"];
    for name in names {
        assert!(counts[name].is_ok(), "{name}: {:?}", counts[name]);
    }
    for (name, count) in counts {
        println!("{name}: {count:?}");
        assert!(count.is_ok_and(|count| count <= MOST_INSTRUCTIONS) || name == "consume_udp");
    }
}

#[test]
fn loads_without_each_field() {
    if !support::may_load() {
        return;
    }
    for field in field_names() {
        let options = StartOptions { absent: vec![field.to_owned()], ..options() };
        let mut side = KernelSide::start(&options).unwrap_or_else(|error| {
            panic!("without {field}: {error:#}");
        });
        assert!(support::all_attached(&side), "without {field}");
        let missing = side.read().expect("reads").missing;
        assert!(missing.iter().any(|why| why.contains("as asked")), "without {field}");
    }
}

#[test]
fn loads_without_any_field() {
    if !support::may_load() {
        return;
    }
    for observer in [Observer::Tracing, Observer::Xdp] {
        let absent: Vec<String> = field_names().map(str::to_owned).collect();
        let fields = absent.len();
        let nics = Vec::new();
        let mut side = KernelSide::start(&StartOptions { observer, nics, absent, debug: false })
            .expect("loads");
        assert!(support::all_attached(&side));
        let missing = side.read().expect("reads").missing;
        assert_eq!(missing.iter().filter(|why| why.contains("as asked")).count(), fields);
    }
}

#[test]
fn loads_with_logging() {
    if !support::may_load() {
        return;
    }
    let mut side = KernelSide::start(&StartOptions { debug: true, ..options() }).expect("loads");
    side.read().expect("reads");
}

#[test]
fn an_unknown_field_is_refused() {
    let options = StartOptions { absent: vec!["sk_nonsense".to_owned()], ..options() };
    let error = KernelSide::start(&options).expect_err("no such field");
    assert!(format!("{error:#}").contains("sk_nonsense"), "{error:#}");
}
