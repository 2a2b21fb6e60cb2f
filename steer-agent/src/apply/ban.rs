//! The request to irqbalance to leave interrupts alone: its note in the journal, and its end.
//!
//! irqbalance has one list for everybody, and it can only be replaced. What is undone is therefore
//! not the list but what was added to it: of two NICs each takes its own interrupts off again,
//! whatever the order, and what an administrator banned meanwhile stays. A list that nobody else
//! touched ends as it began.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Journal, JournalError};
use crate::model::Process;
use crate::sys::{Port, SysError};

/// Interrupts that steer added to irqbalance's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The irqbalance that was asked; another one has never heard of it.
    pub by: Process,
    /// What was not on its list before.
    pub irqs: BTreeSet<u32>,
}

impl Ban {
    /// This ban together with what was noted `before`.
    #[must_use]
    pub fn after(mut self, before: Option<&Ban>) -> Self {
        if let Some(before) = before.filter(|before| before.by == self.by) {
            self.irqs.extend(&before.irqs);
        }
        self
    }
}

/// What became of a ban that was to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifted {
    /// These are off the list again.
    Off(BTreeSet<u32>),
    /// That irqbalance is gone, and its list with it.
    Gone,
    /// It could not be told; the journal keeps it.
    Failed(String),
}

/// Ends the ban that `journal` holds, if it holds one, and forgets it once it has ended.
pub fn lift(journal: &mut Journal, port: &dyn Port) -> Result<Option<Lifted>, JournalError> {
    let Some(ban) = journal.record().ban.clone() else { return Ok(None) };
    let lifted = if port.process(ban.by.pid) == Some(ban.by) {
        match take_off(&ban, port) {
            Ok(()) => Lifted::Off(ban.irqs),
            // It may have ended just now.
            Err(_) if port.process(ban.by.pid) != Some(ban.by) => Lifted::Gone,
            Err(error) => Lifted::Failed(error.to_string()),
        }
    } else {
        Lifted::Gone
    };
    if !matches!(lifted, Lifted::Failed(_)) {
        journal.note_ban(None)?;
    }
    Ok(Some(lifted))
}

fn take_off(ban: &Ban, port: &dyn Port) -> Result<(), SysError> {
    let pid = ban.by.pid;
    let present = port.irqbalance_bans(pid)?;
    let rest: BTreeSet<u32> = present.difference(&ban.irqs).copied().collect();
    if rest == present {
        return Ok(());
    }
    port.set_irqbalance_bans(pid, &rest)?;
    let found = port.irqbalance_bans(pid)?;
    if found.is_disjoint(&ban.irqs) {
        return Ok(());
    }
    let what = format!("it still leaves alone {found:?}");
    Err(SysError::unexpected("settings ban irqs", format!("irqbalance (process {pid})"), what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{Trust, restore};
    use crate::sys::fake::FakeMachine;

    const BY: Process = Process { pid: 812, started: 4711 };

    fn journal(machine: &FakeMachine, dir: &std::path::Path, irqs: &[u32]) -> Journal {
        let device = machine.identity("eth0").expect("there");
        let boot_id = machine.boot_id().expect("booted");
        let mut journal = Journal::new(dir, "eth0", device, boot_id);
        let ban = Ban { by: BY, irqs: irqs.iter().copied().collect() };
        journal.note_ban(Some(ban)).expect("noted");
        journal
    }

    #[test]
    fn restore_takes_off_what_was_added_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = FakeMachine::igb4().with_irqbalance(BY, &[9, 24, 25, 40]);
        let outcome =
            restore(journal(&machine, dir.path(), &[24, 25]), "eth0", &machine, Trust::OwnOnly)
                .expect("journalled");
        assert_eq!(outcome.ban, Some(Lifted::Off(BTreeSet::from([24, 25]))));
        assert!(outcome.complete());
        assert_eq!(machine.irqbalance_bans(812), Ok(BTreeSet::from([9, 40])));
        assert!(Journal::load(dir.path(), "eth0").expect("readable").is_none());
    }

    #[test]
    fn another_irqbalance_is_not_spoken_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let later = Process { started: 5000, ..BY };
        let machine = FakeMachine::igb4().with_irqbalance(later, &[24]);
        let outcome =
            restore(journal(&machine, dir.path(), &[24]), "eth0", &machine, Trust::OwnOnly)
                .expect("journalled");
        assert_eq!(outcome.ban, Some(Lifted::Gone));
        assert_eq!(machine.irqbalance_bans(812), Ok(BTreeSet::from([24])));
        assert!(Journal::load(dir.path(), "eth0").expect("readable").is_none());
    }

    #[test]
    fn an_irqbalance_that_does_not_listen_is_tried_again_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = FakeMachine::igb4().with_irqbalance(BY, &[24]);
        machine.deafen_irqbalance(true);
        let outcome =
            restore(journal(&machine, dir.path(), &[24]), "eth0", &machine, Trust::OwnOnly)
                .expect("journalled");
        assert!(!outcome.complete(), "{outcome:?}");
        machine.deafen_irqbalance(false);
        let kept = Journal::load(dir.path(), "eth0").expect("readable").expect("kept");
        let outcome = restore(kept, "eth0", &machine, Trust::OwnOnly).expect("journalled");
        assert!(outcome.complete());
        assert_eq!(machine.irqbalance_bans(812), Ok(BTreeSet::new()));
    }

    #[test]
    fn a_ban_adds_up_for_the_same_irqbalance_only() {
        let first = Ban { by: BY, irqs: BTreeSet::from([24]) };
        let second = Ban { by: BY, irqs: BTreeSet::from([25]) };
        assert_eq!(second.clone().after(Some(&first)).irqs, BTreeSet::from([24, 25]));
        let other = Ban { by: Process { started: 1, ..BY }, irqs: BTreeSet::from([9]) };
        assert_eq!(second.clone().after(Some(&other)), second);
    }
}
