//! Carries a plan out: journal synced first, then each write, each read back.
//!
//! Guarantees:
//! - no write before its undo is on disk;
//! - no write over a value that is not the one the plan was made for (somebody else's, then);
//! - a write that does not read back is a failure, and a failure takes back, newest first, all that
//!   this call has done, trying every undo and reporting each that fails.
//!
//! Whether it helped is not decided here: see [`verify`].

pub mod journal;
mod release;
mod restore;
#[cfg(test)]
mod tests;
pub mod verify;

use std::fmt;

use crate::plan::{Change, Step, Target, Value};
use crate::sys::{Port, SysError};

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
        write!(
            f,
            "{} was set by somebody else: expected {}, found {}",
            self.target, self.expected, self.found
        )
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
    for Step { change, .. } in steps {
        match read(nic, &change.target, port) {
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
    journal.intend(&changes, |irq| port.irq_name(irq))?;
    for change in changes {
        match write(nic, &change, port) {
            Ok(()) => receipt.done.push(change),
            Err(failure) => {
                receipt.failed = Some(failure);
                // The failed one may have been carried out in part, so it is taken back as well.
                let mut undo = std::mem::take(&mut receipt.done);
                undo.push(change);
                take_back(nic, &undo, port, &mut receipt);
                break;
            }
        }
    }
    Ok(receipt)
}

/// Undoes `changes`, newest first, trying each, and notes in `receipt` what came of it.
pub fn take_back(nic: &str, changes: &[Change], port: &dyn Port, receipt: &mut Receipt) {
    for change in changes.iter().rev() {
        let undo = change.inverse();
        let outcome = match read(nic, &undo.target, port) {
            Ok(found) if found == undo.to => Ok(()),
            Ok(found) if found == undo.from => write(nic, &undo, port),
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
            Err(failure) => receipt.not_taken_back.push(failure),
        }
    }
}

/// Reads what `target` is set to.
pub fn read(nic: &str, target: &Target, port: &dyn Port) -> Result<Value, Failure> {
    let fail = |error: &SysError| Failure {
        target: target.clone(),
        why: error.to_string(),
        gone: error.is_gone(),
    };
    let absent =
        || Failure { target: target.clone(), why: format!("{nic} no longer has it"), gone: false };
    match target {
        Target::Table => match port.rss_table(nic) {
            Ok(table) => table.map(Value::Table).ok_or_else(absent),
            Err(error) => Err(fail(&error)),
        },
        Target::IrqAffinity { irq, .. } => {
            port.irq_affinity(*irq).map(Value::Cpus).map_err(|error| fail(&error))
        }
        Target::Xps { queue } => match port.xps(nic, *queue) {
            Ok(cpus) => cpus.map(Value::Cpus).ok_or_else(absent),
            Err(error) => Err(fail(&error)),
        },
    }
}

/// Writes one change and reads it back.
fn write(nic: &str, change: &Change, port: &dyn Port) -> Result<(), Failure> {
    let fail = |why: String, gone| Failure { target: change.target.clone(), why, gone };
    let written = match (&change.target, &change.to) {
        (Target::Table, Value::Table(table)) => port.set_rss_table(nic, table),
        (Target::IrqAffinity { irq, .. }, Value::Cpus(cpus)) => port.set_irq_affinity(*irq, cpus),
        (Target::Xps { queue }, Value::Cpus(cpus)) => port.set_xps(nic, *queue, cpus),
        (target, value) => {
            return Err(fail(format!("{value} is no value for {target}"), false));
        }
    };
    written.map_err(|error| fail(error.to_string(), error.is_gone()))?;
    let found = read(nic, &change.target, port)?;
    if found != change.to {
        return Err(fail(
            format!("wrote {}, the kernel agreed, and {found} is read back", change.to),
            false,
        ));
    }
    // Where an interrupt is delivered is not asked here: x86 moves it when it next fires
    // (kernel/irq/migration.c), and until then `effective_affinity_list` names the old CPU. Whether
    // the queue followed is for `verify` to see.
    Ok(())
}
