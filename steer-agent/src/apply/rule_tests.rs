//! Exact-match rules on the fake machine: applied, undone and restored, with every write failing in
//! turn, on drivers that take numbers and on those that give them.

use rustix::io::Errno;

use super::*;
use crate::model::testkit::flow;
use crate::model::{Location, QueueId, Rule, RuleTable};
use crate::sys::DeviceId;
use crate::sys::fake::{FakeMachine, FakeNic, Write};

/// Writes that [`steps`] takes: two additions, a change in place and a deletion, or, where the driver
/// numbers rules, the change as a deletion and an addition.
const WRITES: [(bool, u64); 2] = [(false, 4), (true, 5)];

fn rule(number: u32, queue: QueueId) -> Rule {
    Rule::new(flow(number, 0, 0).addr, queue)
}

struct Bench {
    machine: FakeMachine,
    dir: tempfile::TempDir,
    driver_numbers: bool,
    journal: Journal,
}

impl Bench {
    /// A NIC with room for eight rules, one of which is somebody else's, and two that this steer has
    /// set before: flow 1 to queue 1, flow 2 to queue 2.
    fn new(driver_numbers: bool) -> Self {
        let nic = FakeNic::igb(2, 4).with_rules(8, driver_numbers);
        let machine = FakeMachine::new((0..4).collect()).with_nic("eth0", nic);
        let number = (!driver_numbers).then_some(0);
        let theirs = Write::Rule("eth0".to_owned(), number, rule(90, 3));
        machine.foreign(&theirs).expect("written");
        let dir = tempfile::tempdir().expect("a directory");
        let device = machine.identity("eth0").expect("there");
        let journal = Journal::new(dir.path(), "eth0", device, "6f1b7b0e".to_owned());
        let mut bench = Self { machine, dir, driver_numbers, journal };
        let boot_id = bench.machine.boot_id().expect("booted");
        let device: DeviceId = bench.machine.identity("eth0").expect("there");
        bench.journal = Journal::new(bench.dir.path(), "eth0", device, boot_id);
        let first: Vec<Step> = [1, 2].map(|number| bench.step(number, None, Some(number))).into();
        let receipt = bench.apply(&first);
        assert_eq!((receipt.done.len(), receipt.failed), (2, None));
        bench
    }

    fn location(&self, number: u32) -> Location {
        if self.driver_numbers {
            Location::Any(flow(number, 0, 0).addr)
        } else {
            Location::At(7 - number)
        }
    }

    fn step(&self, number: u32, from: Option<QueueId>, to: Option<QueueId>) -> Step {
        let content = |queue: Option<QueueId>| {
            Value::Rule(
                queue.map_or(RuleContent::Empty, |queue| RuleContent::Exact(rule(number, queue))),
            )
        };
        let target = Target::Rule { location: self.location(number) };
        let change = Change { target, from: content(from), to: content(to) };
        Step { change, gain_per_s: 0.0, reason: String::new() }
    }

    /// Flow 2 loses its rule, flow 1 gets another queue, flows 3 and 4 get rules.
    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![self.step(2, Some(2), None)];
        if self.driver_numbers {
            steps.push(self.step(1, Some(1), None));
            steps.push(self.step(1, None, Some(3)));
        } else {
            steps.push(self.step(1, Some(1), Some(3)));
        }
        steps.push(self.step(3, None, Some(3)));
        steps.push(self.step(4, None, Some(0)));
        steps
    }

    fn apply(&mut self, steps: &[Step]) -> Receipt {
        apply("eth0", steps, &self.machine, &mut self.journal).expect("journalled")
    }

    fn table(&self) -> RuleTable {
        self.machine.rules("eth0").expect("there").expect("a table")
    }

    /// Flow and queue of every rule: where a driver puts a rule is its own affair.
    fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.table().rules.values().flatten().copied().collect();
        rules.sort();
        rules
    }

    fn restore(&self, trust: Trust) -> Restoration {
        let journal = Journal::load(self.dir.path(), "eth0").expect("readable").expect("there");
        restore(journal, "eth0", &self.machine, trust).expect("restored")
    }

    fn is_journalled(&self) -> bool {
        Journal::load(self.dir.path(), "eth0").expect("readable").is_some()
    }
}

#[test]
fn what_is_applied_comes_back_and_nothing_else_goes() {
    for (driver_numbers, writes) in WRITES {
        let mut bench = Bench::new(driver_numbers);
        let receipt = bench.apply(&bench.steps());
        assert_eq!((receipt.done.len() as u64, &receipt.failed), (writes, &None));
        assert_eq!(bench.rules(), [rule(1, 3), rule(3, 3), rule(4, 0), rule(90, 3)]);
        let noted = own_rules(&bench.journal);
        assert_eq!(noted.len(), 3, "the rule that is gone is forgotten: {noted:?}");
        let outcome = bench.restore(Trust::OwnOnly);
        assert!(outcome.complete(), "{outcome:?}");
        assert_eq!(outcome.describe("eth0"), "eth0: restored 3 exact-match rules");
        assert_eq!(bench.rules(), [rule(90, 3)], "a foreign rule stays");
        assert!(!bench.is_journalled());
    }
}

#[test]
fn every_write_failing_in_turn_leaves_all_as_it_was() {
    let errors = [Errno::IO, Errno::BUSY, Errno::NOSPC, Errno::OPNOTSUPP];
    for (driver_numbers, writes) in WRITES {
        for n in 1..=writes {
            for errno in errors {
                let mut bench = Bench::new(driver_numbers);
                let before = bench.rules();
                bench.machine.fail_write(bench.machine.attempts() + n, errno);
                let receipt = bench.apply(&bench.steps());
                let what = format!("write {n}, {errno}: {receipt:?}");
                assert!(receipt.failed.is_some(), "{what}");
                assert!(receipt.done.is_empty() && receipt.not_taken_back.is_empty(), "{what}");
                assert!(receipt.contested.is_empty(), "{what}");
                assert_eq!(bench.rules(), before, "{what}");
                assert_eq!(own_rules(&bench.journal).len(), 2, "only what is there: {what}");
                assert!(bench.restore(Trust::OwnOnly).complete(), "{what}");
                assert_eq!(bench.rules(), [rule(90, 3)], "{what}");
            }
        }
    }
}

#[test]
fn every_write_ignored_in_turn_is_noticed() {
    for (driver_numbers, writes) in WRITES {
        for n in 1..=writes {
            let mut bench = Bench::new(driver_numbers);
            let before = bench.rules();
            bench.machine.ignore_write(bench.machine.attempts() + n);
            let receipt = bench.apply(&bench.steps());
            let failure = receipt.failed.as_ref().expect("noticed");
            // An ignored deletion of a rule that the driver numbers shows in the addition: EEXIST.
            let noticed = failure.why.contains("read back") || failure.why.contains("exists");
            assert!(noticed, "write {n}: {failure}");
            assert!(receipt.not_taken_back.is_empty(), "write {n}: {receipt:?}");
            assert_eq!(bench.rules(), before, "write {n}");
        }
    }
}

#[test]
fn a_crash_between_any_two_writes_can_be_restored() {
    for (driver_numbers, writes) in WRITES {
        for n in 0..=usize::try_from(writes).expect("few") {
            let mut bench = Bench::new(driver_numbers);
            let changes: Vec<Change> =
                bench.steps().iter().map(|step| step.change.clone()).collect();
            bench.journal.intend(&changes, |_| None).expect("journalled");
            let mut device = Device::new("eth0", &bench.machine);
            for change in &changes[..n] {
                device.write(change).expect("written");
            }
            let outcome = bench.restore(Trust::OwnOnly); // after kill -9
            assert!(outcome.complete(), "after {n}: {outcome:?}");
            assert_eq!(bench.rules(), [rule(90, 3)], "after {n}");
        }
    }
}

#[test]
fn a_device_that_stops_answering_is_reported_in_full() {
    for (driver_numbers, writes) in WRITES {
        let mut bench = Bench::new(driver_numbers);
        bench.machine.fail_writes_from(bench.machine.attempts() + writes, Errno::IO);
        let receipt = bench.apply(&bench.steps());
        assert_eq!(receipt.not_taken_back.len() as u64, writes - 1, "{receipt:?}");
        assert!(bench.is_journalled(), "for another try");
        let mut bench = Bench::new(driver_numbers);
        bench.machine.vanish_before_write(bench.machine.attempts() + 2, "eth0");
        let receipt = bench.apply(&bench.steps());
        assert!(receipt.failed.is_some_and(|failure| failure.gone));
    }
}

#[test]
fn a_foreign_rule_in_our_place_is_named_and_left() {
    let mut bench = Bench::new(false);
    bench.apply(&bench.steps());
    // Somebody replaces the rule of flow 1 by one of another flow.
    let theirs = Write::Rule("eth0".to_owned(), Some(6), rule(91, 0));
    bench.machine.foreign(&theirs).expect("written");
    let outcome = bench.restore(Trust::OwnOnly);
    assert_eq!(
        outcome.foreign[0].to_string(),
        "rule 6 was set by somebody else: expected tcp 10.0.0.1:9000 <- 10.0.0.2:40001 to queue 3, \
         found tcp 10.0.0.1:9000 <- 10.0.0.2:40091 to queue 0"
    );
    assert_eq!((outcome.foreign.len(), outcome.restored.len()), (1, 2), "{outcome:?}");
    assert_eq!(bench.rules(), [rule(90, 3), rule(91, 0)]);
    let outcome = bench.restore(Trust::Force);
    assert!(outcome.complete(), "{outcome:?}");
    assert_eq!(bench.rules(), [rule(90, 3)]);
}

#[test]
fn a_rule_that_is_no_flows_is_never_taken_for_ours() {
    let mut bench = Bench::new(false);
    bench.machine.alter_nic("eth0", |nic| {
        if let Some(table) = &mut nic.rules {
            table.rules.insert(6, None);
        }
    });
    let receipt = bench.apply(&bench.steps());
    assert_eq!(receipt.contested.len(), 1, "{receipt:?}");
    assert_eq!(receipt.contested[0].found, Value::Rule(RuleContent::Other));
    let outcome = bench.restore(Trust::OwnOnly);
    assert_eq!((outcome.foreign.len(), outcome.restored.len()), (1, 1));
    assert_eq!(bench.table().at(6), RuleContent::Other);
}

#[test]
fn a_place_that_was_just_taken_is_not_overwritten() {
    let mut bench = Bench::new(false);
    let before = bench.rules();
    // Before the second of the writes somebody takes the place of the third.
    let at = bench.machine.attempts() + 2;
    let theirs = Write::Rule("eth0".to_owned(), Some(4), rule(92, 1));
    bench.machine.foreign_before_write(at, theirs);
    let receipt = bench.apply(&bench.steps());
    let failure = receipt.failed.expect("noticed");
    assert!(failure.why.contains("somebody else has just set it"), "{failure}");
    assert_eq!(bench.rules(), [&before[..], &[rule(92, 1)]].concat());
}

#[test]
fn a_full_table_and_a_second_rule_for_a_flow_are_refused_and_undone() {
    let mut bench = Bench::new(true);
    let before = bench.rules();
    let many: Vec<Step> = (10..20).map(|number| bench.step(number, None, Some(1))).collect();
    let receipt = bench.apply(&many);
    assert!(receipt.failed.is_some_and(|failure| failure.why.contains("rule table is full")));
    assert_eq!(bench.rules(), before);
    let mut bench = Bench::new(false);
    let twice = Step {
        change: Change {
            target: Target::Rule { location: Location::At(1) },
            from: Value::Rule(RuleContent::Empty),
            to: Value::Rule(RuleContent::Exact(rule(90, 1))),
        },
        gain_per_s: 0.0,
        reason: String::new(),
    };
    let receipt = bench.apply(&[twice]);
    assert!(receipt.failed.is_some_and(|failure| failure.why.contains("exists already")));
}

#[test]
fn rules_that_the_nic_lost_are_restored_by_doing_nothing() {
    for (driver_numbers, _) in WRITES {
        let bench = Bench::new(driver_numbers);
        bench.machine.lose_rules("eth0");
        let writes = bench.machine.attempts();
        let outcome = bench.restore(Trust::OwnOnly);
        assert_eq!((outcome.already.len(), outcome.complete()), (2, true));
        assert_eq!(bench.machine.attempts(), writes);
    }
}
