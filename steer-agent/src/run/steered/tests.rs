//! What becomes of a NIC, over the fake machine.

use std::collections::BTreeMap;

use super::*;
use crate::apply::verify::Promise;
use crate::model::{
    CpuId, CpuSet, Mapping, Neighbours, Queue, QueueId, QueueWorld, Rss, TcpSegments, Topology,
};
use crate::sys::fake::{FakeIrq, FakeMachine, FakeNic, Write};

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
    window_that_is(None, machine, policy)
}

/// The same; `shut` is why nothing may be written, if so.
fn window_that_is(
    shut: Option<&str>,
    machine: &FakeMachine,
    policy: &Policy,
) -> (Vec<Write>, NicState, Option<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let nic = world(machine);
    let mut steered = Steered::begin(&nic.nic, machine, dir.path(), false, &|_| {}).expect("begun");
    let topology = Topology::regular(1, 8, 1);
    let hand =
        Hand { port: machine, policy, neighbours: &Neighbours::default(), shut, say: &|_| {} };
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
    let hand = Hand {
        port: &machine,
        policy: &Policy::default(),
        neighbours: &Neighbours::default(),
        shut: None,
        say: &|_| {},
    };
    steered.correct(&nic, &host, &plan, &hand);
    assert_eq!((machine.attempts(), steered.state().0), (0, NicState::Observing));
}

#[test]
fn outside_the_maintenance_window_nothing_is_written_and_it_is_said_why() {
    let machine = machine("igb", 990_006);
    let why = "it is Tue 12:00, outside `maintenance_window`";
    let (log, state, reason) = window_that_is(Some(why), &machine, &Policy::default());
    assert_eq!((log.len(), state, reason.as_deref()), (0, NicState::Observing, Some(why)));
}

#[test]
fn where_kernel_threads_poll_nothing_is_written() {
    let machine = machine("igb", 990_011);
    let dir = tempfile::tempdir().expect("a directory");
    let mut nic = world(&machine);
    nic.nic.threaded_napi = Some(true);
    let mut steered =
        Steered::begin(&nic.nic, &machine, dir.path(), false, &|_| {}).expect("begun");
    let topology = Topology::regular(1, 8, 1);
    let said = std::cell::RefCell::new(Vec::new());
    let hand = Hand {
        port: &machine,
        policy: &Policy::default(),
        neighbours: &Neighbours::default(),
        shut: None,
        say: &|line| said.borrow_mut().push(line.to_owned()),
    };
    let host = Host::alone(&topology, None);
    for _ in 0..3 {
        let _ = steered.tick(&nic, &host, &hand);
    }
    assert_eq!(said.borrow().len(), 1, "said once: {said:?}");
    let (state, reason) = steered.state();
    assert_eq!((machine.attempts(), state), (0, NicState::Observing));
    assert!(reason.is_some_and(|why| why.contains("/sys/class/net/eth0/threaded")), "{reason:?}");
    // It is switched off under the daemon.
    nic.nic.threaded_napi = Some(false);
    let _ = steered.tick(&nic, &host, &hand);
    assert_eq!(steered.state().0, NicState::Steering);
    assert!(!machine.log().is_empty());
}

/// Windows of a NIC to which something was written in the first; `resent` of 10,000 segments are sent again
/// in each of those after it, of which the first has the writing in it. Whether that stays, and what is said
/// of the last window but one, and at all.
fn after_windows(ifindex: u32, resent: &[u64]) -> (bool, String, Vec<String>) {
    let machine = machine("igb", ifindex);
    let dir = tempfile::tempdir().expect("a directory");
    let first = world(&machine);
    let said = std::cell::RefCell::new(Vec::new());
    let say = |line: &str| said.borrow_mut().push(line.to_owned());
    let mut steered = Steered::begin(&first.nic, &machine, dir.path(), false, &say).expect("begun");
    let topology = Topology::regular(1, 8, 1);
    let policy = Policy::default();
    let hand = Hand {
        port: &machine,
        policy: &policy,
        neighbours: &Neighbours::default(),
        shut: None,
        say: &say,
    };
    let mut states = Vec::new();
    for retransmitted in std::iter::once(&20).chain(resent) {
        let tcp = TcpSegments { sent: 10_000, retransmitted: *retransmitted };
        let host = Host { tcp: Some(tcp), ..Host::alone(&topology, None) };
        let _ = steered.tick(&world(&machine), &host, &hand);
        states.push(steered.state().1.unwrap_or_default().to_owned());
    }
    let affinity = machine.irq_affinity(24).expect("there");
    drop(steered);
    (affinity != CpuSet::single(4), states.swap_remove(states.len() - 2), said.into_inner())
}

#[test]
fn what_looks_like_harm_is_taken_back_where_it_lasts() {
    // 0.2 % before; 2 % in two windows, then as before: a network had a bad moment.
    let (stays, _, said) = after_windows(61, &[20, 200, 200, 20, 200]);
    assert!(stays && said.iter().any(|line| line.contains("verified")), "{said:?}");
    // Three windows in a row.
    let (stays, before, said) = after_windows(62, &[20, 200, 200, 200]);
    let why = "TCP sends 2.0 % of all segments again, 0.2 % before";
    assert_eq!(before, format!("pending: {why}; harm if that lasts"));
    let taken_back = format!("taken back: {why}, for 3 windows");
    assert!(!stays && said.iter().any(|line| line.contains(&taken_back)), "{said:?}");
}

/// The load is another in the window after a write, and the old settings would not serve it well either: what
/// was written stays, nothing rests, and the next plan is for the load that is there.
#[test]
fn a_load_that_is_another_costs_no_rest() {
    let machine = machine("igb", 990_010);
    let dir = tempfile::tempdir().expect("a directory");
    let topology = Topology::regular(1, 8, 1);
    let host = Host::alone(&topology, None);
    let policy = Policy::default();
    let said = std::cell::RefCell::new(Vec::new());
    let hand = Hand {
        port: &machine,
        policy: &policy,
        neighbours: &Neighbours::default(),
        shut: None,
        say: &|line| said.borrow_mut().push(line.to_owned()),
    };
    // Every bucket is consumed where its queue is polled, on CPUs 4 to 7.
    let mut before = world(&machine);
    let table = before.nic.rss.as_ref().expect("a table").table.clone();
    before.demand_per_s = Some(table.iter().map(|queue| vec![(4 + queue, 10.0)]).collect());
    before.alignment.share = Some(1.0);
    let mut steered =
        Steered::begin(&before.nic, &machine, dir.path(), false, hand.say).expect("begun");
    let promise = Promise::new(vec![], &before, &host, Some(1.0));
    steered.waiting = Some(Waiting { promise, windows: 0, suspect: 0 });
    // Then on CPU 3, but for half of the first queue's, which stays on CPU 4: an eighth. That queue and the next
    // are polled on CPUs 0 and 1 by then.
    let mut now = world(&machine);
    for (queue, cpu) in now.queues.iter_mut().zip([0, 1, 6, 7]) {
        queue.softirq_cpu = Some(cpu);
    }
    let cpu = |(bucket, queue): (usize, &QueueId)| match queue {
        0 if bucket.is_multiple_of(2) => 4,
        _ => 3,
    };
    now.demand_per_s = Some(table.iter().enumerate().map(|at| vec![(cpu(at), 10.0)]).collect());
    now.alignment.share = Some(0.0);
    steered.judge(&now, &host, &hand);
    assert_eq!((machine.log().len(), steered.rest, steered.harms), (0, 0, 0));
    assert!(!steered.is_waiting(), "the next plan need not wait");
    let last = said.borrow().last().cloned().expect("said");
    assert_eq!(
        last,
        "eth0: not judged, the load is another by now: alignment fell from 100 % to 0 %, and this \
         traffic would be at 12 % as it was before"
    );
}

/// A plan for the present settings, carried out while writes fail from the `n`-th on.
fn failing_from(n: u64, ifindex: u32) -> (FakeMachine, Steered, String) {
    let machine = machine("igb", ifindex);
    let dir = tempfile::tempdir().expect("a directory");
    let nic = world(&machine);
    let topology = Topology::regular(1, 8, 1);
    let host = Host::alone(&topology, None);
    let plan = plan::plan(&nic, &host, &Policy::default(), &Experience::default());
    assert!(plan.steps.len() > 2, "{plan:?}");
    let mut steered =
        Steered::begin(&nic.nic, &machine, dir.path(), false, &|_| {}).expect("begun");
    machine.fail_writes_from(n, rustix::io::Errno::IO);
    let neighbours = Neighbours::default();
    let policy = Policy::default();
    let hand =
        Hand { port: &machine, policy: &policy, neighbours: &neighbours, shut: None, say: &|_| {} };
    steered.correct(&nic, &host, &plan, &hand);
    let reason = steered.state().1.expect("said").to_owned();
    (machine, steered, reason)
}

#[test]
fn what_a_restoration_leaves_to_say_is_a_sentence_each() {
    use crate::apply::{JournalError, Restoration};
    let cause = std::io::Error::from(rustix::io::Errno::ROFS);
    let path = "/var/lib/steer/journal-eth0".into();
    let unkept = JournalError::Io { action: "write", path, cause, hint: "free space" };
    let outcome =
        Restoration { unkept: Some(unkept), marked: Some((96, 4)), ..Restoration::default() };
    assert!(outcome.complete(), "everything is back");
    assert_eq!(
        complaints("eth0", &outcome),
        [
            "the journal still names what is back already, which is harmless: cannot write \
             /var/lib/steer/journal-eth0: Read-only file system (os error 30); free space",
            "the table is as it was, and the kernel counts it as set by a user, so that `ethtool -L` \
             takes no fewer than 4 queues; `ethtool -X eth0 default` ends that and moves 96 buckets"
        ]
    );
}

/// Every write of a correction fails in turn, or is answered "done" and is not, as virtio does: nothing
/// is left changed, and status says which object it was and why.
#[test]
fn every_write_that_fails_is_said_in_the_status() {
    use rustix::io::Errno;
    let whole = machine("igb", 990_009);
    let (log, ..) = window(&whole, &Policy::default());
    let writes = u64::try_from(log.len()).expect("small");
    assert!(writes > 4, "{log:?}");
    for n in 1..=writes {
        for errno in [Some(Errno::IO), Some(Errno::BUSY), Some(Errno::OPNOTSUPP), None] {
            let machine = machine("igb", 990_009);
            let before = machine.snapshot();
            match errno {
                Some(errno) => machine.fail_write(n, errno),
                None => machine.ignore_write(n),
            }
            let (log, state, reason) = window(&machine, &Policy::default());
            let what = format!("write {n}, {errno:?}: {reason:?}, {log:?}");
            let reason = reason.expect("said");
            assert_eq!(state, NicState::Observing, "{what}");
            assert!(reason.starts_with("a write failed and all was taken back: "), "{what}");
            let why = errno.map_or("read back".to_owned(), |errno| errno.to_string());
            assert!(reason.contains(&why), "{what}");
            let object = ["affinity of IRQ", "XPS", "indirection table"];
            assert!(object.iter().any(|object| reason.contains(object)), "{what}");
            assert_eq!(settings(&machine.snapshot()), settings(&before), "{what}");
        }
    }
}

type Snapshot = (BTreeMap<String, FakeNic>, BTreeMap<u32, FakeIrq>);

/// What traffic depends on: not the mark on the table, which the kernel keeps to itself, nor where an
/// interrupt will be once it fires.
fn settings((nics, irqs): &Snapshot) -> (Vec<Settings>, Vec<CpuSet>) {
    let nics = nics.values().map(|nic| (nic.table.clone(), nic.xps.clone())).collect();
    (nics, irqs.values().map(|irq| irq.affinity.clone()).collect())
}

type Settings = (Option<Vec<QueueId>>, Option<Vec<CpuSet>>);

#[test]
fn what_could_not_be_taken_back_is_said_and_not_forgotten() {
    let (machine, steered, reason) = failing_from(1, 990_008);
    assert!(reason.starts_with("a write failed and all was taken back"), "{reason}");
    assert!(!steered.has_left_something(), "the first write did nothing: exit code 2");
    assert_eq!(machine.log(), []);

    let (machine, steered, reason) = failing_from(3, 990_007);
    assert_eq!(machine.log().len(), 2, "two writes stand");
    assert!(!reason.contains("all was taken back"), "{reason}");
    assert_eq!(reason.matches("; could not take back").count(), 2, "{reason}");
    assert!(reason.ends_with("`steer restore eth0` tries again"), "{reason}");
    assert!(steered.has_left_something(), "exit code 3");
    let left = steered.finish(&machine, true, &|_| {});
    assert!(!left, "a daemon that cannot put it back ends with 3 too");
}
