//! Applying and restoring on the fake machine, with every write failing in turn.

use rustix::io::Errno;

use super::*;
use crate::model::{CpuSet, QueueId};
use crate::sys::fake::{FakeMachine, Write};

/// Queues 0..4 of `eth0` to CPUs 3..0, XPS likewise, and a striped table: nine steps.
fn steps(machine: &FakeMachine) -> Vec<Step> {
    let step = |target: Target, from: Value, to: Value| Step {
        change: Change { target, from, to },
        gain_per_s: 0.0,
        reason: String::new(),
    };
    let mut steps = Vec::new();
    for queue in 0..4 {
        let target = Target::IrqAffinity { irq: 24 + queue, queue };
        let from = read("eth0", &target, machine).expect("readable");
        steps.push(step(target, from, Value::Cpus(CpuSet::single(3 - queue))));
    }
    for queue in 0..4 {
        let target = Target::Xps { queue };
        let from = read("eth0", &target, machine).expect("readable");
        steps.push(step(target, from, Value::Cpus(CpuSet::single(3 - queue))));
    }
    let from = read("eth0", &Target::Table, machine).expect("readable");
    steps.push(step(Target::Table, from, Value::Table(striped())));
    steps
}

fn striped() -> Vec<QueueId> {
    (0..4).rev().cycle().take(128).collect()
}

struct Bench {
    machine: FakeMachine,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { machine: FakeMachine::igb4(), dir: tempfile::tempdir().expect("a directory") }
    }

    fn journal(&self) -> Journal {
        let device = self.machine.identity("eth0").expect("there");
        let boot_id = self.machine.boot_id().expect("booted");
        Journal::new(self.dir.path(), "eth0", device, boot_id)
    }

    fn apply(&self) -> Receipt {
        apply("eth0", &steps(&self.machine), &self.machine, &mut self.journal())
            .expect("journalled")
    }

    fn stored(&self) -> Option<Journal> {
        Journal::load(self.dir.path(), "eth0").expect("readable")
    }

    fn restore(&self, trust: Trust) -> Restoration {
        let journal = self.stored().expect("a journal");
        restore(journal, "eth0", &self.machine, trust).expect("restored")
    }
}

/// The values that traffic depends on. The mark on the table is left out: it cannot be read.
fn settings(machine: &FakeMachine) -> (Vec<QueueId>, Vec<CpuSet>, Vec<CpuSet>) {
    let table = machine.rss_table("eth0").expect("there").expect("a table");
    let irqs = (24..28).map(|irq| machine.irq_affinity(irq).expect("there")).collect();
    let xps = (0..4).map(|q| machine.xps("eth0", q).expect("there").expect("XPS")).collect();
    (table, irqs, xps)
}

#[test]
fn what_is_applied_comes_back_value_by_value() {
    let bench = Bench::new();
    let before = settings(&bench.machine);
    let receipt = bench.apply();
    assert_eq!((receipt.done.len(), &receipt.failed), (9, &None));
    assert_ne!(settings(&bench.machine), before);
    let outcome = bench.restore(Trust::OwnOnly);
    assert!(outcome.complete(), "{outcome:?}");
    assert_eq!(outcome.restored.len(), 9);
    assert_eq!(settings(&bench.machine), before);
    assert!(bench.stored().is_none(), "the journal goes with the last entry");
}

#[test]
fn every_write_failing_in_turn_leaves_everything_as_it_was() {
    for n in 1..=9 {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.machine.fail_write(n, Errno::IO);
        let receipt = bench.apply();
        assert!(receipt.failed.is_some(), "write {n}");
        assert_eq!(receipt.not_taken_back, [], "write {n}");
        assert!(receipt.done.is_empty(), "write {n}");
        assert_eq!(settings(&bench.machine), before, "write {n}");
    }
}

#[test]
fn every_write_ignored_in_turn_is_noticed() {
    for n in 1..=9 {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.machine.ignore_write(n);
        let receipt = bench.apply();
        let failure = receipt.failed.expect("noticed");
        assert!(failure.why.contains("read back"), "write {n}: {failure}");
        assert_eq!(settings(&bench.machine), before, "write {n}");
    }
}

#[test]
fn a_device_that_stops_answering_is_reported_in_full() {
    // From the fifth write on nothing works: four are done, none can be taken back.
    let bench = Bench::new();
    bench.machine.fail_writes_from(5, Errno::IO);
    let receipt = bench.apply();
    assert_eq!(receipt.not_taken_back.len(), 4, "{receipt:?}");
    assert!(bench.stored().is_some(), "the journal stays for another try");
}

#[test]
fn a_crash_between_any_two_writes_can_be_restored() {
    for n in 1..=9 {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        let steps = steps(&bench.machine);
        let changes: Vec<Change> = steps.iter().map(|step| step.change.clone()).collect();
        let mut journal = bench.journal();
        journal.intend(&changes, |irq| bench.machine.irq_name(irq)).expect("journalled");
        for change in &changes[..n] {
            Device::new("eth0", &bench.machine).write(change).expect("written");
        }
        drop(journal); // kill -9
        let outcome = bench.restore(Trust::OwnOnly);
        assert!(outcome.complete(), "after {n}: {outcome:?}");
        assert_eq!(settings(&bench.machine), before, "after {n}");
    }
}

#[test]
fn what_somebody_else_set_is_left_alone_and_named() {
    let bench = Bench::new();
    bench.apply();
    let theirs = Write::Affinity(25, "0-1".parse().expect("a list"));
    bench.machine.foreign(&theirs).expect("written");
    let outcome = bench.restore(Trust::OwnOnly);
    assert_eq!(outcome.foreign.len(), 1);
    let text = outcome.foreign[0].to_string();
    assert_eq!(
        text,
        "affinity of IRQ 25 (queue 1) was set by somebody else: expected CPU 2, found CPU 0-1"
    );
    assert_eq!(outcome.restored.len(), 8, "everything else is put back");
    assert!(bench.stored().is_some());

    let outcome = bench.restore(Trust::Force);
    assert!(outcome.complete());
    assert_eq!(bench.machine.irq_affinity(25).expect("there").to_string(), "0-3");
    assert!(bench.stored().is_none());
}

#[test]
fn a_plan_is_not_applied_over_what_somebody_else_set() {
    let bench = Bench::new();
    let steps = steps(&bench.machine);
    let theirs = Write::Affinity(25, CpuSet::single(1));
    bench.machine.foreign(&theirs).expect("written");
    let receipt = apply("eth0", &steps, &bench.machine, &mut bench.journal()).expect("journalled");
    assert_eq!(receipt.contested.len(), 1);
    assert!(receipt.done.is_empty(), "half of a plan is not the plan");
    assert_eq!(bench.machine.attempts(), 0);
    assert!(bench.stored().is_none());
}

#[test]
fn without_a_journal_nothing_is_written() {
    let bench = Bench::new();
    let device = bench.machine.identity("eth0").expect("there");
    let mut journal =
        Journal::new(std::path::Path::new("/proc/steer"), "eth0", device, "boot".to_owned());
    let steps = steps(&bench.machine);
    assert!(apply("eth0", &steps, &bench.machine, &mut journal).is_err());
    assert_eq!(bench.machine.attempts(), 0);
}

#[test]
fn a_journal_of_another_boot_is_not_applied() {
    let bench = Bench::new();
    bench.apply();
    bench.machine.reboot();
    let writes = bench.machine.attempts();
    let outcome = bench.restore(Trust::OwnOnly);
    let (why, aside) = outcome.stale.expect("recognised");
    assert!(why.contains("earlier boot"), "{why}");
    assert!(aside.exists());
    assert_eq!(bench.machine.attempts(), writes);
}

#[test]
fn a_vanished_nic_is_an_error_and_the_journal_stays() {
    let bench = Bench::new();
    bench.apply();
    bench.machine.vanish("eth0");
    let journal = bench.stored().expect("a journal");
    let error = restore(journal, "eth0", &bench.machine, Trust::OwnOnly).expect_err("no device");
    assert!(error.to_string().contains("eth0"), "{error}");
    assert!(bench.stored().is_some());
}

#[test]
fn the_kernels_own_default_goes_back_as_default() {
    let bench = Bench::new();
    let default: Vec<QueueId> = (0..4).cycle().take(128).collect();
    bench.machine.alter_nic("eth0", |nic| nic.table = Some(default.clone()));
    bench.apply();
    bench.restore(Trust::OwnOnly);
    let (nics, _) = bench.machine.snapshot();
    assert_eq!(nics["eth0"].table, Some(default));
    assert!(!nics["eth0"].configured, "the mark `set by a user` is cleared");
}
