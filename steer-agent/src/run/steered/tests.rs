//! What becomes of a NIC, over the fake machine.

use super::*;
use crate::model::{CpuId, CpuSet, Mapping, Queue, QueueId, QueueWorld, Rss, Topology};
use crate::sys::fake::{FakeMachine, FakeNic, Write};

const QUEUES: u32 = 4;

/// `eth0` of `driver` with four queues, polled on CPUs 4 to 7 of eight. The ownership of a NIC goes by
/// its index, so each test has its own.
fn machine(driver: &str, ifindex: u32) -> FakeMachine {
    let mut nic = FakeNic::igb(2, QUEUES);
    nic.id.ifindex = ifindex;
    nic.id.driver = Some(driver.to_owned());
    nic.xps = Some((4..8).map(CpuSet::single).collect());
    let online: CpuSet = (0..8).collect();
    let machine = FakeMachine::new(online).with_nic("eth0", nic);
    (0..QUEUES).fold(machine, |machine, queue| {
        machine.with_irq(24 + queue, &format!("eth0-TxRx-{queue}"), CpuSet::single(4 + queue))
    })
}

/// The same as the model sees it: buckets of each queue are consumed on two of the CPUs 0 to 3.
fn world(machine: &FakeMachine) -> NicWorld {
    let id = machine.identity("eth0").expect("there");
    let table = machine.rss_table("eth0").expect("there").expect("a table");
    let demand = |bucket: usize, queue: QueueId| -> Vec<(CpuId, f64)> {
        vec![(if bucket.is_multiple_of(2) { queue } else { (queue + 1) % QUEUES }, 10.0)]
    };
    let queue = |id: QueueId| Queue {
        id,
        irq: Some(24 + id),
        affinity: machine.irq_affinity(24 + id).ok(),
        effective: machine.irq_effective(24 + id).ok().flatten(),
        xps: machine.xps("eth0", id).ok().flatten(),
        ..Queue::default()
    };
    let seen = |id: QueueId| QueueWorld {
        queue: id,
        irq: Some(24 + id),
        softirq_cpu: machine
            .irq_effective(24 + id)
            .ok()
            .flatten()
            .and_then(|cpus| cpus.as_single()),
        ..QueueWorld::default()
    };
    NicWorld {
        demand_per_s: Some(table.iter().enumerate().map(|(b, queue)| demand(b, *queue)).collect()),
        load_per_s: Some(vec![10.0; table.len()]),
        demand_samples: 10_000,
        mapping: Mapping { checked: 1000, agreeing: 1000, flows: 16, ..Mapping::default() },
        queues: (0..QUEUES).map(seen).collect(),
        nic: Nic {
            name: "eth0".to_owned(),
            ifindex: id.ifindex,
            driver: id.driver,
            up: true,
            rss: Some(Rss { table, ..Rss::default() }),
            queues: (0..QUEUES).map(queue).collect(),
            ..Nic::default()
        },
        ..NicWorld::default()
    }
}

/// One window of `run` under `policy`: what was written, and the state with its reason.
fn window(machine: &FakeMachine, policy: &Policy) -> (Vec<Write>, NicState, Option<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let nic = world(machine);
    let mut steered = Steered::begin(&nic.nic, machine, dir.path(), false, &|_| {}).expect("begun");
    let topology = Topology::regular(1, 8, 1);
    let hand = Hand { port: machine, policy, say: &|_| {} };
    let _ = steered.tick(&nic, &Host::alone(&topology, None), &hand);
    let (state, reason) = steered.state();
    (machine.log(), state, reason.map(str::to_owned))
}

fn is_table(write: &Write) -> bool {
    matches!(write, Write::Table(..) | Write::ResetTable(..))
}

#[test]
fn a_bnxt_keeps_its_table_and_its_interrupts_move() {
    let machine = machine("bnxt_en", 990_001);
    let (log, state, reason) = window(&machine, &Policy::default());
    assert!(!log.iter().any(is_table), "{log:?}");
    assert!(log.iter().any(|write| matches!(write, Write::Affinity(..))), "{log:?}");
    assert!(log.iter().any(|write| matches!(write, Write::Xps(..))), "{log:?}");
    assert_eq!(state, NicState::Steering);
    let reason = reason.expect("said");
    assert!(reason.contains("bnxt_en closes and reopens the NIC"), "{reason}");
    assert!(reason.contains("policy.allow_link_reset"), "{reason}");
}

#[test]
fn what_was_permitted_is_written() {
    let machine = machine("bnxt_en", 990_002);
    let policy = Policy { allow_link_reset: true, ..Policy::default() };
    let (log, state, _) = window(&machine, &policy);
    assert!(log.iter().any(is_table), "{log:?}");
    assert_eq!(state, NicState::Steering);
}

#[test]
fn an_unknown_driver_keeps_its_table_too() {
    let (log, _, reason) = window(&machine("nobody", 990_003), &Policy::default());
    assert!(!log.iter().any(is_table), "{log:?}");
    assert!(reason.is_some_and(|why| why.contains("nobody is a driver that steer does not know")));
    let (log, ..) = window(&machine("igb", 990_004), &Policy::default());
    assert!(log.iter().any(is_table), "a known one is written: {log:?}");
}

#[test]
fn a_plan_that_writes_the_table_all_the_same_is_refused() {
    let machine = machine("bnxt_en", 990_005);
    let dir = tempfile::tempdir().expect("a directory");
    let nic = world(&machine);
    let topology = Topology::regular(1, 8, 1);
    let permitted = Policy { allow_link_reset: true, ..Policy::default() };
    let host = Host::alone(&topology, None);
    let plan = plan::plan(&nic, &host, &permitted, &Experience::default());
    let mut steered =
        Steered::begin(&nic.nic, &machine, dir.path(), false, &|_| {}).expect("begun");
    let hand = Hand { port: &machine, policy: &Policy::default(), say: &|_| {} };
    steered.correct(&nic, &host, &plan, &hand);
    assert_eq!((machine.attempts(), steered.state().0), (0, NicState::Observing));
}
