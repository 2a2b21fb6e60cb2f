//! Applying and restoring on the fake machine, with every write failing in turn.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::io::Errno;

use super::*;
use crate::model::{CpuSet, QueueId};
use crate::sys::fake::{FakeMachine, FakeNic, Write};

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

/// While an interrupt is on its way its affinity shows the CPUs that it comes from.
#[test]
fn an_interrupt_on_its_way_is_no_failed_write() {
    let bench = Bench::new();
    let before = settings(&bench.machine);
    (24..28).for_each(|irq| bench.machine.alter_irq(irq, |fake| fake.lag = 3));
    let receipt = bench.apply();
    assert_eq!((receipt.done.len(), &receipt.failed), (9, &None));
    assert!(bench.restore(Trust::OwnOnly).complete());
    assert_eq!(settings(&bench.machine), before);
}

#[test]
fn an_interrupt_on_its_way_since_steer_was_killed_is_put_back() {
    let bench = Bench::new();
    let before = settings(&bench.machine);
    bench.apply();
    bench.machine.alter_irq(26, |fake| fake.coming_from.1 = 1);
    let outcome = bench.restore(Trust::OwnOnly);
    assert_eq!((outcome.restored.len(), outcome.already.len()), (9, 0), "{outcome:?}");
    assert_eq!(settings(&bench.machine), before);
}

fn serving(machine: &FakeMachine) -> Vec<Option<CpuSet>> {
    (24..28).map(|irq| machine.irq_effective(irq).expect("there")).collect()
}

/// An affinity of several CPUs is not all: the CPU among them that served the interrupt does so again.
#[test]
fn interrupts_are_served_again_by_the_cpus_that_served_them() {
    let bench = Bench::new();
    let before = serving(&bench.machine);
    bench.apply();
    assert_ne!(serving(&bench.machine), before);
    let outcome = bench.restore(Trust::OwnOnly);
    assert!(outcome.complete() && outcome.away.is_empty(), "{outcome:?}");
    assert_eq!(serving(&bench.machine), before);

    // Likewise if it is taken back since a later write failed: the last is the table's.
    bench.machine.fail_write(bench.machine.attempts() + WRITES, Errno::IO);
    let receipt = bench.apply();
    assert!(receipt.failed.is_some() && receipt.not_taken_back.is_empty(), "{receipt:?}");
    assert_eq!(serving(&bench.machine), before);
}

/// One that does not fire, or that cannot be sent: its affinity is back, and it is said where it is.
#[test]
fn an_interrupt_that_does_not_come_home_is_named() {
    for fault in [None, Some(Errno::IO)] {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.apply();
        match fault {
            None => bench.machine.alter_irq(24, |irq| irq.idle = true),
            // After the table.
            Some(errno) => bench.machine.fail_write(bench.machine.attempts() + 2, errno),
        }
        let outcome = bench.restore(Trust::OwnOnly);
        assert!(outcome.complete(), "{outcome:?}");
        assert_eq!(outcome.away, [(24, 3)]);
        assert_eq!(settings(&bench.machine), before);
    }
}

/// Killed while an interrupt was led home: that one CPU is steer's doing, not somebody else's.
#[test]
fn a_crash_on_the_way_home_can_be_restored() {
    let bench = Bench::new();
    let before = settings(&bench.machine);
    bench.apply();
    bench.machine.set_irq_affinity(25, &CpuSet::single(0)).expect("led home");
    let outcome = bench.restore(Trust::OwnOnly);
    assert!(outcome.complete(), "{outcome:?}");
    assert_eq!(settings(&bench.machine), before);
}

/// What kernel and drivers say to a write that they do not do: EIO for an affinity that is managed
/// (before 6.12), EBUSY during a reset, EOPNOTSUPP for what a driver lacks, ENOSPC without an interrupt
/// vector, EINVAL, ENODEV when it has just gone, EPERM without the capability.
const ERRORS: [Errno; 7] = [
    Errno::IO,
    Errno::BUSY,
    Errno::OPNOTSUPP,
    Errno::NOSPC,
    Errno::INVAL,
    Errno::NODEV,
    Errno::PERM,
];

/// Number of writes that [`steps`] takes.
const WRITES: u64 = 9;
/// Interrupts that it sends to another CPU than 0, which served them all: its first writes. Each is led
/// home by a write before it may go everywhere again.
const AWAY: u64 = 3;

#[test]
fn every_write_failing_in_turn_leaves_everything_as_it_was() {
    for (n, errno) in (1..=WRITES).flat_map(|n| ERRORS.map(|errno| (n, errno))) {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.machine.fail_write(n, errno);
        let receipt = bench.apply();
        let what = format!("write {n}, {errno}: {receipt:?}");
        let failure = receipt.failed.as_ref().expect("noticed");
        let index = usize::try_from(n - 1).expect("small");
        assert_eq!(failure.target, steps(&bench.machine)[index].change.target, "{what}");
        assert!(failure.why.contains(&errno.to_string()), "it is said: {what}");
        assert_eq!(receipt.not_taken_back, [], "{what}");
        assert!(receipt.done.is_empty(), "{what}");
        assert_eq!(settings(&bench.machine), before, "{what}");
        assert!(bench.restore(Trust::OwnOnly).complete(), "{what}");
        assert_eq!(settings(&bench.machine), before, "{what}");
    }
}

#[test]
fn every_write_ignored_in_turn_is_noticed() {
    for n in 1..=WRITES {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.machine.ignore_write(n);
        let receipt = bench.apply();
        let failure = receipt.failed.expect("noticed");
        assert!(failure.why.contains("read back"), "write {n}: {failure}");
        assert_eq!(settings(&bench.machine), before, "write {n}");
    }
}

/// Each write fails, and on the way back each undo does: what is left is named, object by object, and
/// is brought back once the device answers again.
#[test]
fn an_undo_that_fails_is_named_and_nothing_is_lost() {
    for (failing, undo) in (2..=WRITES).flat_map(|n| (1..n).map(move |undo| (n, undo))) {
        for errno in ERRORS {
            let bench = Bench::new();
            let before = settings(&bench.machine);
            bench.machine.fail_write(failing, errno);
            // The failed write left nothing to undo, so the undo of the one before it comes next, after
            // the interrupts were led home.
            let led = AWAY.min(failing - 1);
            bench.machine.fail_write(failing + led + undo, errno);
            let receipt = bench.apply();
            let what = format!("write {failing}, undo {undo}, {errno}: {receipt:?}");
            assert!(receipt.failed.is_some() && receipt.done.is_empty(), "{what}");
            let index = usize::try_from(failing - undo - 1).expect("small");
            let target = &steps(&bench.machine)[index].change.target;
            assert_eq!(receipt.not_taken_back.len(), 1, "{what}");
            assert_eq!(receipt.not_taken_back[0].target, *target, "{what}");
            let done = usize::try_from(failing).expect("small");
            assert_eq!(receipt.taken_back.len(), done - 1, "every other is taken back: {what}");
            let outcome = bench.restore(Trust::OwnOnly);
            assert!(outcome.complete(), "{what}: {outcome:?}");
            assert_eq!(outcome.restored, std::slice::from_ref(target), "{what}");
            assert_eq!(settings(&bench.machine), before, "{what}");
            assert!(bench.stored().is_none(), "{what}");
        }
    }
}

/// Restoring, each write in turn fails or does nothing: it is said, the rest is put back, and another
/// try completes it.
#[test]
fn every_write_of_a_restoration_failing_in_turn() {
    for n in 1..=WRITES {
        for errno in ERRORS.map(Some).into_iter().chain([None]) {
            let bench = Bench::new();
            let before = settings(&bench.machine);
            bench.apply();
            // The table comes first, then the interrupts are led home.
            let led = if n == 1 { 0 } else { AWAY };
            let at = bench.machine.attempts() + n + led;
            match errno {
                Some(errno) => bench.machine.fail_write(at, errno),
                None => bench.machine.ignore_write(at),
            }
            let outcome = bench.restore(Trust::OwnOnly);
            let what = format!("write {n}, {errno:?}: {outcome:?}");
            assert!(!outcome.complete(), "exit code 3: {what}");
            assert_eq!((outcome.failed.len(), outcome.restored.len()), (1, 8), "{what}");
            assert!(outcome.describe("eth0").contains("1 not restored"), "{what}");
            assert!(bench.restore(Trust::OwnOnly).complete(), "{what}");
            assert_eq!(settings(&bench.machine), before, "{what}");
            assert!(bench.stored().is_none(), "{what}");
        }
    }
}

/// What the system says, and what makes it say so in a directory.
type Hurdle = (&'static str, fn(&Path));

/// Places where a journal cannot be kept, each with the part of writing it that fails there.
fn hurdles() -> [Hurdle; 4] {
    [
        // Every write to /dev/full is answered ENOSPC (full(4)).
        ("No space left", |dir| {
            symlink("/dev/full", dir.join("journal-eth0~new")).expect("linked");
        }),
        // /dev/null takes every write and cannot be synced: EINVAL (fsync(2)).
        ("Invalid argument", |dir| {
            symlink("/dev/null", dir.join("journal-eth0~new")).expect("linked");
        }),
        // The file cannot be made.
        ("Is a directory", |dir| {
            std::fs::create_dir(dir.join("journal-eth0~new")).expect("made");
        }),
        // It cannot take the journal's name.
        ("directory", |dir| {
            let _ = std::fs::remove_file(dir.join("journal-eth0"));
            std::fs::create_dir_all(dir.join("journal-eth0/x")).expect("made");
        }),
    ]
}

#[test]
fn a_journal_that_cannot_be_kept_stops_everything_before_the_first_write() {
    for (why, hurdle) in hurdles() {
        let bench = Bench::new();
        hurdle(bench.dir.path());
        let mut journal = bench.journal();
        let error = apply("eth0", &steps(&bench.machine), &bench.machine, &mut journal)
            .expect_err("no journal");
        let text = error.to_string();
        assert!(text.contains(why) && text.contains("nothing may be written"), "{text}");
        assert_eq!(bench.machine.attempts(), 0, "{text}");
        assert!(journal.record().is_empty(), "what is not on disk is not noted: {text}");
    }
}

#[test]
fn a_journal_that_can_no_longer_be_kept_still_holds_what_it_held() {
    // All but the last, which takes the journal's own place.
    for (why, hurdle) in hurdles().into_iter().take(3) {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.apply();
        let written = settings(&bench.machine);
        let writes = bench.machine.attempts();
        hurdle(bench.dir.path());
        let mut journal = bench.stored().expect("there");
        let back = Step {
            change: Change {
                target: Target::Table,
                from: Value::Table(written.0.clone()),
                to: Value::Table(before.0.clone()),
            },
            gain_per_s: 0.0,
            reason: String::new(),
        };
        assert!(apply("eth0", &[back], &bench.machine, &mut journal).is_err(), "{why}");
        assert_eq!(bench.machine.attempts(), writes, "{why}");
        assert_eq!(settings(&bench.machine), written, "{why}");
        // To take away the file needs neither room nor a sync of it.
        assert!(bench.restore(Trust::OwnOnly).complete(), "{why}");
        assert_eq!(settings(&bench.machine), before, "{why}");
    }
}

/// The disk is full or read-only by then: everything is put back all the same, and it is said what
/// became of the journal and that it does no harm.
#[test]
fn a_journal_that_cannot_be_shortened_keeps_nothing_from_being_put_back() {
    for hurdle in hurdles().map(|(_, hurdle)| hurdle).into_iter().skip(3) {
        let bench = Bench::new();
        let before = settings(&bench.machine);
        bench.apply();
        let journal = bench.stored().expect("a journal");
        hurdle(bench.dir.path());
        let outcome = restore(journal, "eth0", &bench.machine, Trust::OwnOnly).expect("restored");
        assert!(outcome.complete(), "{outcome:?}");
        assert_eq!(settings(&bench.machine), before);
        let text = outcome.unkept.expect("said").to_string();
        assert!(text.contains("journal-eth0"), "{text}");
    }
}

/// The device goes just before each write in turn: said as such, and the journal stays.
#[test]
fn a_device_that_vanishes_at_any_write_is_said_to_be_gone() {
    for n in 1..=WRITES {
        let bench = Bench::new();
        bench.machine.vanish_before_write(n, "eth0");
        let receipt = bench.apply();
        let failure = receipt.failed.as_ref().expect("noticed");
        // Of an interrupt the file is missing; of the NIC the device.
        assert!(failure.gone || failure.why.contains("No such file"), "write {n}: {failure}");
        assert!(receipt.done.is_empty() && receipt.taken_back.is_empty(), "write {n}: {receipt:?}");
        assert_eq!(receipt.not_taken_back.len() as u64, n, "write {n}: {receipt:?}");
        assert!(bench.stored().is_some(), "write {n}");
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
    let mut journal = Journal::new(Path::new("/proc/steer"), "eth0", device, "boot".to_owned());
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

/// The file by itself says what was changed, on which device, in which boot, from what to what, by whom
/// and why.
#[test]
fn the_journal_says_who_changed_what_and_why() {
    let bench = Bench::new();
    let mut steps = steps(&bench.machine);
    for step in &mut steps {
        step.reason = format!("a reason for {}", step.change.target);
    }
    apply("eth0", &steps, &bench.machine, &mut bench.journal()).expect("journalled");
    let journal = bench.stored().expect("a journal");
    let record = journal.record();
    assert_eq!(record.boot_id, bench.machine.boot_id().expect("booted"));
    assert_eq!(record.device, bench.machine.identity("eth0").expect("there"));
    let by = record.by.as_ref().expect("noted");
    assert_eq!((record.pid, by.version.as_str()), (std::process::id(), env!("CARGO_PKG_VERSION")));
    assert!(by.command.contains("steer"), "{by:?}");
    for (entry, step) in record.entries.iter().zip(&steps) {
        let Change { target, from, to } = &step.change;
        assert_eq!((&entry.target, &entry.original), (target, from));
        assert_eq!(entry.ours, std::slice::from_ref(to));
        assert_eq!(entry.why.as_ref(), Some(&step.reason));
    }
    // A steer that knew neither wrote this one; it is read all the same.
    let path = Journal::path_in(bench.dir.path(), "eth0");
    let mut document = serde_json::to_value(record).expect("a document");
    document.as_object_mut().expect("an object").remove("by");
    for entry in document["entries"].as_array_mut().expect("entries") {
        entry.as_object_mut().expect("an object").remove("why");
    }
    let text = document.to_string();
    std::fs::write(&path, format!("{text}\ncrc32 {:08x}\n", crc32fast::hash(text.as_bytes())))
        .expect("written");
    assert!(bench.restore(Trust::OwnOnly).complete());
}

/// A bond gives its members one hardware address, an administrator any other: the settings stay.
#[test]
fn another_hardware_address_makes_no_other_device() {
    let bench = Bench::new();
    let before = settings(&bench.machine);
    bench.apply();
    bench.machine.alter_nic("eth0", |nic| nic.id.address = Some("02:00:00:00:00:01".to_owned()));
    let outcome = bench.restore(Trust::OwnOnly);
    assert!(outcome.complete() && outcome.stale.is_none(), "{outcome:?}");
    assert_eq!(settings(&bench.machine), before);
}

/// A driver that was loaded anew gives the NIC another index: what was set went with the old one.
#[test]
fn a_driver_loaded_anew_makes_another_device() {
    let bench = Bench::new();
    bench.apply();
    bench.machine.alter_nic("eth0", |nic| nic.id.ifindex = 9);
    let writes = bench.machine.attempts();
    let outcome = bench.restore(Trust::OwnOnly);
    let (why, aside) = outcome.stale.expect("recognised");
    assert!(why.contains("its driver was loaded anew"), "{why}");
    assert!(aside.exists() && bench.stored().is_none());
    assert_eq!(bench.machine.attempts(), writes);
}

/// `eth0` is renamed, and another NIC takes the name: its journal is found under the new name, and
/// nobody mistakes it for the journal of the other one, which would throw it away.
#[test]
fn a_journal_follows_its_device_through_names() {
    let bench = Bench::new();
    let machine = &bench.machine;
    bench.apply();
    machine.rename("eth0", "lan0");
    let identity = |name: &str| machine.identity(name).expect("there");
    let journal = |name: &str| Journal::of_device(bench.dir.path(), name, &identity(name), machine);
    assert!(journal("lan0").expect("readable").is_some());

    machine.add_nic("eth0", FakeNic::igb(77, 4));
    let error = journal("eth0").expect_err("of another device").to_string();
    assert!(error.contains("journal-eth0 is of the device that is called lan0 now"), "{error}");
    assert!(error.contains("`steer restore lan0` puts that back"), "{error}");
    assert!(journal("lan0").expect("readable").is_some(), "it still applies");

    // The one that was called so is gone: then the journal is of no use, and said to be.
    machine.vanish("lan0");
    assert!(
        journal("eth0").expect("readable").is_some_and(|old| old.record().device.ifindex != 77)
    );
}

/// An igb's own table is not the kernel's default. It goes back to the byte, and what cannot go back, the
/// mark, is said.
#[test]
fn a_table_that_stays_marked_is_said_to() {
    let bench = Bench::new();
    bench.apply();
    let outcome = bench.restore(Trust::OwnOnly);
    // Blocks of 32 against queues in turn: a quarter of each block is where it would be anyway.
    assert_eq!(outcome.marked, Some((96, 4)));
    assert!(bench.machine.set_rings("eth0", 2).is_err(), "it is so");

    let bench = Bench::new();
    let default: Vec<QueueId> = (0..4).cycle().take(128).collect();
    bench.machine.alter_nic("eth0", |nic| nic.table = Some(default));
    bench.apply();
    assert_eq!(bench.restore(Trust::OwnOnly).marked, None);
    bench.machine.set_rings("eth0", 2).expect("no longer blocked");
}

/// A driver that is set up after a rename names its interrupts anew; their affinities are steer's still.
/// A number that another device has now is not.
#[test]
fn interrupts_that_were_renamed_with_their_nic_are_put_back() {
    let bench = Bench::new();
    let machine = &bench.machine;
    let before = settings(machine).1;
    bench.apply();
    machine.rename("eth0", "lan0");
    for irq in 24..28 {
        machine.alter_irq(irq, |fake| fake.name = fake.name.replace("eth0", "lan0"));
    }
    machine.alter_irq(27, |fake| fake.name = "nvme0q3".to_owned());
    let journal = bench.stored().expect("a journal");
    let outcome = restore(journal, "lan0", machine, Trust::OwnOnly).expect("restored");
    assert_eq!((outcome.restored.len(), outcome.failed.len()), (8, 1), "{outcome:?}");
    assert!(outcome.failed[0].why.contains("is now `nvme0q3`"), "{outcome:?}");
    let affinities: Vec<CpuSet> =
        (24..27).map(|irq| machine.irq_affinity(irq).expect("there")).collect();
    assert_eq!(affinities, before[..3]);
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

/// Power goes while the journal is written. The old one is replaced as a whole, so that half of one
/// can only be found where a file system loses what it said it had synced: it is refused, by name and
/// reason, at every length, and nothing is written.
#[test]
fn a_journal_cut_off_anywhere_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    bench.apply();
    let writes = bench.machine.attempts();
    let path = Journal::path_in(bench.dir.path(), "eth0");
    let whole = std::fs::read(&path).expect("readable");
    for length in 0..whole.len() - 1 {
        std::fs::write(&path, &whole[..length]).expect("written");
        let error = Journal::load(bench.dir.path(), "eth0").expect_err("refused").to_string();
        assert!(error.contains("journal-eth0 is damaged"), "{length} bytes: {error}");
        assert!(error.contains("nothing was changed"), "{length} bytes: {error}");
    }
    assert_eq!(bench.machine.attempts(), writes);
    // All but the last line end is all of it.
    std::fs::write(&path, &whole[..whole.len() - 1]).expect("written");
    assert!(bench.restore(Trust::OwnOnly).complete());
}

/// The same while the new one is still beside the old one: what counts is the old one.
#[test]
fn a_journal_that_was_being_written_does_not_count() {
    let bench = Bench::new();
    let before = settings(&bench.machine);
    bench.apply();
    let path = Journal::path_in(bench.dir.path(), "eth0");
    let whole = std::fs::read(&path).expect("readable");
    let beside = bench.dir.path().join("journal-eth0~new");
    for length in (0..whole.len()).step_by(97) {
        std::fs::write(&beside, &whole[..length]).expect("written");
        assert_eq!(Journal::all(bench.dir.path()).expect("listed"), ["eth0"]);
        assert_eq!(std::fs::read(&path).expect("readable"), whole);
    }
    assert!(bench.restore(Trust::OwnOnly).complete());
    assert_eq!(settings(&bench.machine), before);
}

/// A block of it was never written and reads as zeros, as after a power loss without barriers.
#[test]
fn a_journal_with_a_hole_is_refused() {
    let bench = Bench::new();
    bench.apply();
    let path = Journal::path_in(bench.dir.path(), "eth0");
    let whole = std::fs::read(&path).expect("readable");
    for start in (0..whole.len() - 1).step_by(64) {
        let mut torn = whole.clone();
        let end = (start + 64).min(torn.len() - 1);
        torn[start..end].fill(0);
        std::fs::write(&path, torn).expect("written");
        let error = Journal::load(bench.dir.path(), "eth0").expect_err("refused").to_string();
        assert!(error.contains("is damaged"), "from byte {start}: {error}");
    }
}
