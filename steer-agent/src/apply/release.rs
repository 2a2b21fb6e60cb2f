//! Gives a NIC up: what is set stays, and nobody comes back to it.
//!
//! A table that was set through ethtool is marked as a user's (`IFF_RXFH_CONFIGURED`), and while it is,
//! `ethtool -L` refuses a number of queues that the table does not fit (`ethtool_check_max_channel`,
//! net/ethtool/common.c). Only "default" takes the mark away, which moves buckets unless the table is
//! the default one already. So that is done unasked only where it moves none.

use std::path::PathBuf;

use super::restore::is_default;
use super::{Failure, Journal, JournalError, Lifted, lift, read};
use crate::model::QueueId;
use crate::plan::{Change, Target, Value};
use crate::sys::{Port, SysError};

/// What became of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// The NIC has none.
    NoTable,
    /// It is the default and no longer marked; so many buckets changed their queue.
    Default(usize),
    /// It stays as it is and marked; "default" would move so many buckets, and until then no fewer
    /// than so many queues are allowed.
    Marked {
        /// Buckets that "default" would move.
        would_move: usize,
        /// Queues that the table needs.
        queues: QueueId,
    },
}

/// Why it was not given up.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The journal could not be kept in step.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The device could not be asked.
    #[error(transparent)]
    Device(#[from] SysError),
    /// The table could not be set to the default, and is as it was.
    #[error("{0}; the table is as it was")]
    Failed(Failure),
    /// irqbalance could not be told that the interrupts are its own again.
    #[error("irqbalance still leaves the IRQs alone: {0}; try again")]
    StillBanned(String),
}

/// Gives `nic` up. With `to_default` its table becomes the kernel's default even if that moves
/// buckets. Returns what became of the table, and where the journal was moved if there was one.
pub fn release(
    mut journal: Journal,
    nic: &str,
    port: &dyn Port,
    to_default: bool,
) -> Result<(Released, Option<PathBuf>), ReleaseError> {
    // Without the journal nobody would know what to take off its list.
    if let Some(Lifted::Failed(why)) = lift(&mut journal, port)? {
        return Err(ReleaseError::StillBanned(why));
    }
    let released = match (port.rss_table(nic)?, port.rx_rings(nic)?) {
        (Some(table), Some(rings)) if !table.is_empty() && rings > 0 => {
            let default: Vec<QueueId> = (0..rings).cycle().take(table.len()).collect();
            let moves = table.iter().zip(&default).filter(|(now, then)| now != then).count();
            if to_default || is_default(&table, rings) {
                reset(&mut journal, nic, port, &table, default)?;
                Released::Default(moves)
            } else {
                let queues = table.iter().max().map_or(0, |highest| highest + 1);
                Released::Marked { would_move: moves, queues }
            }
        }
        _ => Released::NoTable,
    };
    let aside = if journal.record().entries.is_empty() { None } else { Some(journal.set_aside()?) };
    Ok((released, aside))
}

fn reset(
    journal: &mut Journal,
    nic: &str,
    port: &dyn Port,
    from: &[QueueId],
    default: Vec<QueueId>,
) -> Result<(), ReleaseError> {
    let target = Target::Table;
    if from != default.as_slice() {
        let (from, to) = (Value::Table(from.to_vec()), Value::Table(default.clone()));
        journal.intend(&[Change { target: target.clone(), from, to }], |_| None)?;
    }
    let failed =
        |why: String, gone| ReleaseError::Failed(Failure { target: target.clone(), why, gone });
    let outcome = port.reset_rss_table(nic);
    let found = read(nic, &target, port).map_err(ReleaseError::Failed)?;
    match outcome {
        Ok(()) if found == Value::Table(default) => Ok(()),
        Ok(()) if found == Value::Table(from.to_vec()) => {
            Err(failed("the kernel agreed to \"default\", and nothing changed".to_owned(), false))
        }
        // Neither the old nor the default one: put the old one back.
        Ok(()) => {
            port.set_rss_table(nic, from)?;
            Err(failed(format!("set to \"default\", and {found} is read back"), false))
        }
        Err(error) => Err(failed(error.to_string(), error.is_gone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Ban;
    use crate::golden::golden;
    use crate::model::Process;
    use crate::sys::fake::FakeMachine;
    use rustix::io::Errno;

    fn journal(machine: &FakeMachine, dir: &std::path::Path) -> Journal {
        let device = machine.identity("eth0").expect("there");
        Journal::new(dir, "eth0", device, machine.boot_id().expect("booted"))
    }

    /// A machine whose table steer has set to `table`, with the journal that it left.
    fn steered(table: &[QueueId]) -> (FakeMachine, Journal, tempfile::TempDir) {
        let machine = FakeMachine::igb4();
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = journal(&machine, dir.path());
        let from = read("eth0", &Target::Table, &machine).expect("a table");
        let to = Value::Table(table.to_vec());
        journal.intend(&[Change { target: Target::Table, from, to }], |_| None).expect("noted");
        machine.set_rss_table("eth0", table).expect("written");
        (machine, journal, dir)
    }

    #[test]
    fn the_default_loses_its_mark_and_nothing_moves() {
        let default: Vec<QueueId> = (0..4).cycle().take(128).collect();
        let (machine, journal, dir) = steered(&default);
        assert!(machine.set_rings("eth0", 2).is_err(), "ethtool -L is blocked");
        let (released, aside) = release(journal, "eth0", &machine, false).expect("released");
        assert_eq!(released, Released::Default(0));
        assert!(aside.is_some_and(|path| path.exists()), "what was before is kept for the reader");
        assert!(Journal::load(dir.path(), "eth0").expect("readable").is_none());
        machine.set_rings("eth0", 2).expect("no longer blocked");
    }

    #[test]
    fn irqbalance_has_the_interrupts_back() {
        let by = Process { pid: 812, started: 4711 };
        let dir = tempfile::tempdir().expect("a directory");
        let machine = FakeMachine::igb4().with_irqbalance(by, &[9, 24]);
        let mut journal = journal(&machine, dir.path());
        journal.note_ban(Some(Ban { by, irqs: [24].into() })).expect("noted");
        machine.deafen_irqbalance(true);
        let kept = || Journal::load(dir.path(), "eth0").expect("readable").expect("there");
        let error = release(kept(), "eth0", &machine, false).expect_err("nobody listens");
        golden("release-deaf.txt", &format!("steer: {error}\n"));
        machine.deafen_irqbalance(false);
        release(kept(), "eth0", &machine, false).expect("released");
        assert_eq!(machine.irqbalance_bans(812), Ok([9].into()));
        assert!(Journal::load(dir.path(), "eth0").expect("readable").is_none());
    }

    #[test]
    fn another_table_stays_unless_asked() {
        let (machine, journal, dir) = steered(&[1; 128]);
        let (released, _) = release(journal, "eth0", &machine, false).expect("released");
        // Of 128 buckets in turn over four queues a quarter is on queue 1 already.
        assert_eq!(released, Released::Marked { would_move: 96, queues: 2 });
        assert_eq!(machine.rss_table("eth0"), Ok(Some(vec![1; 128])));
        let again = self::journal(&machine, dir.path());
        let (released, _) = release(again, "eth0", &machine, true).expect("released");
        assert_eq!(released, Released::Default(96));
        machine.set_rings("eth0", 2).expect("no longer blocked");
    }

    #[test]
    fn what_fails_leaves_everything() {
        let (machine, journal, dir) = steered(&[1; 128]);
        machine.fail_write(machine.attempts() + 1, Errno::IO);
        let error = release(journal, "eth0", &machine, true).expect_err("refused");
        golden("release-refused.txt", &format!("steer: {error}\n"));
        assert_eq!(machine.rss_table("eth0"), Ok(Some(vec![1; 128])));
        assert!(Journal::load(dir.path(), "eth0").expect("readable").is_some());
    }
}
