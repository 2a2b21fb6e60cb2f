//! Carries a plan out: journal synced first, then each write, each read back.
//!
//! Guarantees:
//! - no write before its undo is on disk;
//! - no write over a value that is not the one the plan was made for (somebody else's, then);
//! - a write that does not read back is a failure, and a failure takes back, newest first, all that
//!   this call has done, trying every undo and reporting each that fails.
//!
//! Whether it helped is not decided here: see [`verify`].

mod ban;
pub mod connect;
mod device;
mod home;
pub mod journal;
pub mod listener;
mod release;
mod restore;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod tests;
pub mod verify;

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::model::{CpuSet, RuleContent};
use crate::plan::pins::OwnRule;
use crate::plan::{Change, Step, Target, Value};
use crate::sys::Port;

pub use ban::{Ban, Lifted, lift};
pub use device::Device;
use home::Home;
use journal::Irq;
pub use journal::{Journal, JournalError};
pub use release::{ReleaseError, Released, release};
pub use restore::{Restoration, RestoreError, Trust, restore};

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Written and read back.
    pub done: Vec<Change>,
    /// Left alone: the value found is not the one that the plan was made for.
    pub contested: Vec<Contest>,
    /// The write that failed and stopped the rest.
    pub failed: Option<Failure>,
    /// Taken back because of that failure.
    pub taken_back: Vec<Change>,
    /// Could not be taken back.
    pub not_taken_back: Vec<Failure>,
}

/// An object that somebody else has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The object.
    pub target: Target,
    /// What was expected there.
    pub expected: Value,
    /// What was found.
    pub found: Value,
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was set by somebody else: ", self.target)?;
        match (&self.expected, &self.found) {
            // Two tables in full are nothing to read.
            (Value::Table(expected), Value::Table(found)) if expected.len() == found.len() => {
                let others = expected.iter().zip(found).filter(|(a, b)| a != b).count();
                write!(f, "{others} of {} buckets are on other queues", found.len())
            }
            (expected, found) => write!(f, "expected {expected}, found {found}"),
        }
    }
}

/// A write that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The object.
    pub target: Target,
    /// What happened.
    pub why: String,
    /// The device is gone.
    pub gone: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.why)
    }
}

/// Carries `steps` out on `nic`.
pub fn apply(
    nic: &str,
    steps: &[Step],
    port: &dyn Port,
    journal: &mut Journal,
) -> Result<Receipt, JournalError> {
    let mut receipt = Receipt::default();
    let mut changes = Vec::new();
    let mut device = Device::new(nic, port);
    // What this plan has set by then, where it sets something twice: a rule that the driver numbers
    // is replaced by deleting and adding it.
    let mut ahead: HashMap<&Target, &Value> = HashMap::new();
    for Step { change, .. } in steps {
        let found = match ahead.insert(&change.target, &change.to) {
            Some(value) => Ok(value.clone()),
            None => device.read_expecting(&change.target, &change.from),
        };
        match found {
            Ok(found) if found == change.from => changes.push(change.clone()),
            Ok(found) => receipt.contested.push(Contest {
                target: change.target.clone(),
                expected: change.from.clone(),
                found,
            }),
            Err(failure) => {
                receipt.failed = Some(failure);
                return Ok(receipt);
            }
        }
    }
    // Half of a plan is not the plan: the table counts on the interrupts being where it thinks.
    if !receipt.contested.is_empty() || changes.is_empty() {
        return Ok(receipt);
    }
    let why = |change: &Change| {
        let step = steps.iter().find(|step| step.change == *change)?;
        (!step.reason.is_empty()).then(|| step.reason.clone())
    };
    journal.intend_because(&changes, why, |irq| Irq {
        name: port.irq_name(irq),
        served_by: home::served_by(irq, port),
    })?;
    let mut changes = changes.into_iter();
    for change in changes.by_ref() {
        match device.write(&change) {
            Ok(()) => receipt.done.push(change),
            Err(failure) => {
                receipt.failed = Some(failure);
                // The failed one may have been carried out in part, so it is taken back as well.
                let mut undo = std::mem::take(&mut receipt.done);
                undo.push(change);
                take_back(nic, &undo, journal, port, &mut receipt);
                break;
            }
        }
    }
    // What was written, what was not come to, and what was taken back; never what is in doubt.
    let undone = receipt.taken_back.iter().map(Change::inverse);
    let untouched = changes.rev().map(|change| change.inverse());
    let doubtful: HashSet<&Target> = receipt
        .not_taken_back
        .iter()
        .map(|failure| &failure.target)
        .chain(receipt.contested.iter().map(|contest| &contest.target))
        .collect();
    let settled: Vec<Change> = receipt
        .done
        .iter()
        .cloned()
        .chain(untouched)
        .chain(undone)
        .filter(|change| !doubtful.contains(&change.target))
        .collect();
    forget_rules(journal, &settled);
    Ok(receipt)
}

/// Undoes `changes`, newest first, trying each, and notes in `receipt` what came of it.
pub fn take_back(
    nic: &str,
    changes: &[Change],
    journal: &Journal,
    port: &dyn Port,
    receipt: &mut Receipt,
) {
    let mut device = Device::new(nic, port);
    let home = |change: &Change, device: &mut Device<'_>| {
        let Target::IrqAffinity { irq, .. } = change.target else { return None };
        let served_by = journal.entry(&change.target)?.served_by;
        let is_ours = device.read(&change.target).is_ok_and(|found| found == change.to);
        home::of(irq, &change.from, served_by).filter(|_| is_ours)
    };
    let homes: Vec<Home> = changes.iter().filter_map(|change| home(change, &mut device)).collect();
    home::lead(&homes, port);
    let on_its_way_home = |target: &Target, found: &Value| match (target, found) {
        (Target::IrqAffinity { irq, .. }, Value::Cpus(cpus)) => {
            homes.iter().any(|(led, cpu)| led == irq && *cpus == CpuSet::single(*cpu))
        }
        _ => false,
    };
    let mut stuck: HashSet<&Target> = HashSet::new();
    for change in changes.iter().rev() {
        let undo = change.inverse();
        if stuck.contains(&undo.target) {
            receipt.not_taken_back.push(Failure {
                target: undo.target,
                why: "a later change of it could not be taken back".to_owned(),
                gone: false,
            });
            continue;
        }
        let outcome = match device.read_settled(&undo.target, &undo.to) {
            Ok(found) if found == undo.to => Ok(()),
            Ok(found) if found == undo.from || on_its_way_home(&undo.target, &found) => {
                device.write(&undo)
            }
            Ok(found) => {
                receipt.contested.push(Contest {
                    target: undo.target.clone(),
                    expected: undo.from.clone(),
                    found,
                });
                continue;
            }
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(()) => receipt.taken_back.push(change.clone()),
            Err(failure) => {
                stuck.insert(&change.target);
                receipt.not_taken_back.push(failure);
            }
        }
    }
}

/// Reads what `target` is set to.
pub fn read(nic: &str, target: &Target, port: &dyn Port) -> Result<Value, Failure> {
    Device::new(nic, port).read(target)
}

/// The exact-match rules of `journal` that were not there before steer, with what steer may have left
/// in their places.
#[must_use]
pub fn own_rules(journal: &Journal) -> Vec<OwnRule> {
    let own = |entry: &journal::Entry| {
        let Target::Rule { location } = entry.target else { return None };
        let exact = |value: &Value| match value {
            Value::Rule(content) => content.exact(),
            _ => None,
        };
        let is_new = entry.original == Value::Rule(RuleContent::Empty);
        is_new.then(|| (location, entry.ours.iter().filter_map(exact).collect()))
    };
    journal.record().entries.iter().filter_map(own).collect()
}

/// Forgets rules that are as they were before steer. They come and go with their flows, and each flow
/// that ever had one must not stay in the journal. That a journal names more than it must is harmless
/// (`restore` finds it as it should be), so that failing to shorten it is none here.
pub fn forget_rules(journal: &mut Journal, settled: &[Change]) {
    // A target may come up more than once; the last time counts.
    let now: HashMap<&Target, &Value> = settled
        .iter()
        .filter(|change| change.target.is_rule())
        .map(|change| (&change.target, &change.to))
        .collect();
    let is_back = |target: &Target, value: &Value| {
        journal.entry(target).is_some_and(|entry| entry.original == *value)
    };
    let back: HashSet<Target> = now
        .into_iter()
        .filter(|(target, value)| is_back(target, value))
        .map(|(target, _)| target.clone())
        .collect();
    if !back.is_empty()
        && let Err(error) = journal.forget(&back)
    {
        log::debug!("rules that are gone stay in the journal: {error}");
    }
}
