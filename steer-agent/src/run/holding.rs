//! What steer has set and takes to be in force, object by object; and who else has a hand in it.
//!
//! A value that is not steer's any more was either taken over by somebody, and then it is theirs, or
//! lost because a driver or the kernel set it anew, and then it is steer's to set again. Nothing in
//! the value itself tells which. So a value counts as lost only in the wake of an event that makes
//! drivers and kernels do so, and a table only if it is one that they would write.

use std::collections::BTreeMap;

use crate::apply::{Contest, Device, Journal, JournalError};
use crate::model::{QueueId, RuleContent};
use crate::plan::{Change, Target, Value};
use crate::sys::Port;

/// What steer has set on one NIC.
#[derive(Debug, Default)]
pub(super) struct Holding {
    values: BTreeMap<Target, Value>,
}

/// Differences between what is held and what is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Set by somebody else.
    pub(super) contested: Vec<Contest>,
    /// Set anew by a driver or the kernel.
    pub(super) lost: Vec<Contest>,
}

impl Holding {
    /// What an earlier steer left, by its journal. It may have been killed between two writes, so
    /// that any of its values may be in force, and so may the original.
    #[must_use]
    pub(super) fn left_by(journal: &Journal, nic: &str, port: &dyn Port) -> Self {
        let mut device = Device::new(nic, port);
        let entries = journal.record().entries.iter();
        let values = entries.map(|entry| {
            let found = device.read(&entry.target).ok();
            let known =
                found.filter(|found| *found == entry.original || entry.ours.contains(found));
            let last = entry.ours.last().unwrap_or(&entry.original);
            (entry.target.clone(), known.unwrap_or_else(|| last.clone()))
        });
        let mut holding = Self { values: values.collect() };
        holding.let_go();
        holding
    }

    /// Notes what was written.
    pub(super) fn wrote(&mut self, changes: &[Change]) {
        self.values.extend(changes.iter().map(|change| (change.target.clone(), change.to.clone())));
        self.let_go();
    }

    /// Notes what was taken back.
    pub(super) fn took_back(&mut self, changes: &[Change]) {
        self.values
            .extend(changes.iter().map(|change| (change.target.clone(), change.from.clone())));
        self.let_go();
    }

    /// A place in the rule table without a rule of steer's is anybody's.
    fn let_go(&mut self) {
        self.values.retain(|_, value| *value != Value::Rule(RuleContent::Empty));
    }

    /// Compares with what is there now. `after_event` says whether something has happened lately
    /// that drivers answer by setting things anew. What cannot be read is left out.
    #[must_use]
    pub(super) fn compare(
        &self,
        nic: &str,
        journal: &Journal,
        after_event: bool,
        port: &dyn Port,
    ) -> Difference {
        let mut difference = Difference::default();
        let mut device = Device::new(nic, port);
        for (target, expected) in &self.values {
            let Ok(found) = device.read_expecting(target, expected) else { continue };
            if found == *expected {
                continue;
            }
            let original = journal.entry(target).map(|entry| &entry.original);
            let by_driver = match &found {
                Value::Table(table) => original == Some(&found) || is_spread(table),
                // Affinities and XPS are re-spread in ways that differ by driver.
                Value::Cpus(_) => true,
                // Drivers forget rules, they make none.
                Value::Rule(content) => *content == RuleContent::Empty,
            };
            let contest = Contest { target: target.clone(), expected: expected.clone(), found };
            if after_event && by_driver {
                difference.lost.push(contest);
            } else {
                difference.contested.push(contest);
            }
        }
        difference
    }

    /// Takes what was lost as it is now.
    pub(super) fn concede(
        &mut self,
        lost: &[Contest],
        journal: &mut Journal,
    ) -> Result<(), JournalError> {
        for contest in lost {
            journal.concede(&contest.target, &contest.found)?;
            self.values.insert(contest.target.clone(), contest.found.clone());
        }
        self.let_go();
        Ok(())
    }

    /// The NIC's queues are others now: what it has come with is where steer starts from.
    pub(super) fn begin_anew(
        &mut self,
        nic: &str,
        journal: &mut Journal,
        port: &dyn Port,
    ) -> Result<(), JournalError> {
        let mut device = Device::new(nic, port);
        // Rules are steer's alone and stay so.
        let values = std::mem::take(&mut self.values).into_iter();
        let (rules, others): (BTreeMap<_, _>, Vec<_>) = {
            let (rules, others): (Vec<_>, Vec<_>) =
                values.partition(|(target, _)| target.is_rule());
            (rules.into_iter().collect(), others)
        };
        let found: Vec<(Target, Value)> = others
            .into_iter()
            .filter_map(|(target, _)| device.read(&target).ok().map(|value| (target, value)))
            .collect();
        self.values = rules;
        journal.begin_anew(&found)?;
        self.values.extend(found);
        Ok(())
    }
}

/// Whether a driver would write this by itself: queues in turn (`ethtool_rxfh_indir_default`) or in
/// blocks of equal length (igb), over as many queues as it names.
fn is_spread(table: &[QueueId]) -> bool {
    let Some(rings) = table.iter().max().map(|highest| highest + 1) else { return false };
    let length = u64::try_from(table.len()).unwrap_or(u64::MAX);
    let in_turn = table.iter().zip((0..rings).cycle()).all(|(queue, turn)| *queue == turn);
    let in_blocks = (0u64..)
        .zip(table)
        .all(|(bucket, queue)| u64::from(*queue) == bucket * u64::from(rings) / length);
    in_turn || in_blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::read;
    use crate::model::CpuSet;
    use crate::sys::fake::{FakeMachine, Write};

    fn journal(machine: &FakeMachine) -> Journal {
        let dir = tempfile::tempdir().expect("a directory").keep();
        let device = machine.identity("eth0").expect("there");
        Journal::new(&dir, "eth0", device, machine.boot_id().expect("booted"))
    }

    /// Steer has set a table of ones on an igb that came with blocks.
    fn set(machine: &FakeMachine) -> (Holding, Journal) {
        let from = read("eth0", &Target::Table, machine).expect("a table");
        let change = Change { target: Target::Table, from, to: Value::Table(vec![1; 128]) };
        let mut journal = journal(machine);
        journal.intend(std::slice::from_ref(&change), |_| None).expect("noted");
        machine.set_rss_table("eth0", &[1; 128]).expect("written");
        let mut holding = Holding::default();
        holding.wrote(&[change]);
        (holding, journal)
    }

    #[test]
    fn a_table_that_somebody_set_is_theirs_even_if_it_is_the_default() {
        let machine = FakeMachine::igb4();
        let (holding, journal) = set(&machine);
        assert_eq!(holding.compare("eth0", &journal, false, &machine), Difference::default());
        let default: Vec<QueueId> = (0..4).cycle().take(128).collect();
        machine.foreign(&Write::Table("eth0".to_owned(), default)).expect("written");
        let difference = holding.compare("eth0", &journal, false, &machine);
        assert_eq!((difference.contested.len(), difference.lost.len()), (1, 0));
    }

    #[test]
    fn after_an_event_a_drivers_table_is_a_lost_one_and_any_other_is_not() {
        let machine = FakeMachine::igb4();
        let (mut holding, mut journal) = set(&machine);
        machine.foreign(&Write::ResetTable("eth0".to_owned())).expect("written");
        let difference = holding.compare("eth0", &journal, true, &machine);
        assert_eq!((difference.contested.len(), difference.lost.len()), (0, 1));
        holding.concede(&difference.lost, &mut journal).expect("noted");
        assert_eq!(holding.compare("eth0", &journal, false, &machine), Difference::default());

        machine.foreign(&Write::Table("eth0".to_owned(), vec![2; 128])).expect("written");
        let difference = holding.compare("eth0", &journal, true, &machine);
        assert_eq!((difference.contested.len(), difference.lost.len()), (1, 0));
    }

    /// The kernel shows the CPUs that it comes from, which are not somebody else's.
    #[test]
    fn an_interrupt_on_its_way_is_not_contested() {
        let machine = FakeMachine::igb4();
        let target = Target::IrqAffinity { irq: 24, queue: 0 };
        let from = read("eth0", &target, &machine).expect("readable");
        let change = Change { target, from, to: Value::Cpus(CpuSet::single(2)) };
        let mut journal = journal(&machine);
        journal.intend(std::slice::from_ref(&change), |_| None).expect("noted");
        machine.alter_irq(24, |irq| irq.lag = 3);
        machine.set_irq_affinity(24, &CpuSet::single(2)).expect("written");
        let mut holding = Holding::default();
        holding.wrote(&[change]);
        assert_eq!(holding.compare("eth0", &journal, false, &machine), Difference::default());
        machine.alter_irq(24, |irq| irq.lag = 0);
        machine.foreign(&Write::Affinity(24, CpuSet::single(1))).expect("written");
        assert_eq!(holding.compare("eth0", &journal, false, &machine).contested.len(), 1);
    }

    #[test]
    fn other_queues_are_another_beginning() {
        let machine = FakeMachine::igb4();
        let (mut holding, mut journal) = set(&machine);
        machine.foreign(&Write::ResetTable("eth0".to_owned())).expect("reset");
        machine.set_rings("eth0", 2).expect("allowed");
        holding.begin_anew("eth0", &mut journal, &machine).expect("noted");
        let entry = journal.entry(&Target::Table).expect("still an object of steer's");
        let blocks: Vec<QueueId> = (0..128).map(|bucket| bucket / 64).collect();
        assert_eq!(entry.original, Value::Table(blocks));
        assert_eq!(holding.compare("eth0", &journal, false, &machine), Difference::default());
    }

    #[test]
    fn spreads_are_told_from_choices() {
        assert!(is_spread(&[0, 1, 2, 0, 1, 2]));
        assert!(is_spread(&[0, 0, 1, 1, 2, 2]));
        assert!(is_spread(&[0, 0, 0]));
        assert!(!is_spread(&[1, 1, 1]));
        assert!(!is_spread(&[0, 1, 1, 0]));
        assert!(!is_spread(&[]));
    }
}
