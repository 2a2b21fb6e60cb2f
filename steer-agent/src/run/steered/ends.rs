//! How steer takes a NIC over, and how it gives it back.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::Steered;
use crate::apply::{self, Ban, Journal, JournalError, Lifted, Restoration, Trust};
use crate::model::Nic;
use crate::plan::{Experience, Workspace};
use crate::report::{NicState, Tally};
use crate::run::holding::Holding;
use crate::sys::Port;
use crate::sys::owner::{Claim, Owner, claim};

impl Steered {
    /// Takes ownership of `nic` and opens its journal. Writes nothing to the NIC. A journal that a
    /// killed steer left is taken over, so that what it holds is what is restored in the end.
    pub fn begin(
        nic: &Nic,
        port: &dyn Port,
        state_dir: &Path,
        dry_run: bool,
        say: &dyn Fn(&str),
    ) -> anyhow::Result<Self> {
        let name = &nic.name;
        let owner = if dry_run { None } else { Some(own(nic)?) };
        let device = port.identity(name)?;
        let boot_id = port.boot_id()?;
        let found = match Journal::of_device(state_dir, name, &device, port) {
            // Who only looks needs none.
            Err(JournalError::Elsewhere { .. }) if dry_run => None,
            found => found?,
        };
        let mut journal = match found {
            None => Journal::new(state_dir, name, device.clone(), boot_id.clone()),
            Some(journal) if dry_run => journal,
            Some(old)
                if old.record().boot_id != boot_id || !old.record().device.is_same(&device) =>
            {
                // The NIC is another, but irqbalance may still be the one that was asked.
                let ban = old.record().ban.clone().filter(|_| old.record().boot_id == boot_id);
                let aside = old.set_aside()?;
                say(&format!(
                    "{name}: an old journal of another boot or device was moved to {}",
                    aside.display()
                ));
                let mut journal = Journal::new(state_dir, name, device, boot_id);
                if ban.is_some() {
                    journal.note_ban(ban)?;
                }
                journal
            }
            Some(journal) => {
                say(&format!(
                    "{name}: taking over the journal of process {}, which holds the settings from \
                     before it",
                    journal.record().pid
                ));
                journal
            }
        };
        let holding = Holding::left_by(&journal, name, port);
        let found = holding.compare(name, &journal, false, port);
        if let Some(contest) = found.contested.first() {
            bail!(
                "{name}: {contest}; `steer restore {name} --force` puts the old value back, then \
                 start again"
            );
        }
        if !dry_run {
            journal.prove_writable().context("nothing was changed")?;
        }
        Ok(Self {
            name: name.clone(),
            ifindex: nic.ifindex,
            holding,
            last: None,
            wake: 0,
            _owner: owner,
            journal,
            dry_run,
            state: NicState::Observing,
            reason: Some("the first window is not over yet".to_owned()),
            history: VecDeque::new(),
            last_change: None,
            waiting: None,
            just_written: false,
            settling: false,
            experience: Experience::default(),
            workspace: Workspace::default(),
            planning: None,
            expected: None,
            tally: Tally::default(),
            levers: None,
            rest: 0,
            harms: 0,
            last_said: None,
            left_behind: 0,
        })
    }

    /// Notes in the journal what irqbalance is about to be asked for this NIC.
    pub fn note_ban(&mut self, ban: Ban) -> Result<(), JournalError> {
        let ban = ban.after(self.journal.record().ban.as_ref());
        self.journal.note_ban(Some(ban))
    }

    /// Takes back what irqbalance was asked for this NIC, which is gone.
    pub fn lift_ban(&mut self, port: &dyn Port, say: &dyn Fn(&str)) {
        match apply::lift(&mut self.journal, port) {
            Ok(None | Some(Lifted::Off(_) | Lifted::Gone)) => {}
            Ok(Some(Lifted::Failed(why))) => say(&format!("{}: {}", self.name, still_banned(&why))),
            Err(error) => say(&format!("{}: {error}", self.name)),
        }
    }

    /// Ends it: puts everything back if `restore`. False where something could not be put back.
    #[must_use]
    pub fn finish(self, port: &dyn Port, restore: bool, say: &dyn Fn(&str)) -> bool {
        let name = self.name;
        if self.dry_run || self.journal.record().is_empty() {
            say(&format!("{name}: nothing was changed"));
            return true;
        }
        if !restore {
            say(&format!("{name}: left as corrected; `steer restore {name}` puts it back"));
            return true;
        }
        match apply::restore(self.journal, &name, port, Trust::OwnOnly) {
            Ok(outcome) => {
                say(&outcome.describe(&name));
                for line in complaints(&name, &outcome) {
                    say(&format!("{name}: {line}"));
                }
                outcome.complete()
            }
            Err(error) => {
                say(&format!("{name}: not restored: {error}"));
                false
            }
        }
    }
}

/// What a restoration left undone, a sentence each.
#[must_use]
pub fn complaints(nic: &str, outcome: &Restoration) -> Vec<String> {
    let foreign = outcome
        .foreign
        .iter()
        .map(|contest| format!("{contest}; left as it is, `steer restore --force` overrides"));
    let failed = outcome.failed.iter().map(|failure| format!("not restored: {failure}"));
    let banned = match &outcome.ban {
        Some(Lifted::Failed(why)) => Some(still_banned(why)),
        _ => None,
    };
    let unkept = outcome.unkept.as_ref().map(|error| {
        format!("the journal still names what is back already, which is harmless: {error}")
    });
    let away = outcome.away.iter().map(|(irq, cpu)| {
        format!(
            "IRQ {irq} may go where it could before, and CPU {cpu} serves it still: it has not fired since, \
             and the kernel leaves it there"
        )
    });
    let marked = outcome.marked.map(|(moves, queues)| {
        format!(
            "the table is as it was, and the kernel counts it as set by a user, so that `ethtool -L` takes \
             no fewer than {queues} queues; `ethtool -X {nic} default` ends that and moves {moves} buckets"
        )
    });
    foreign.chain(failed).chain(banned).chain(unkept).chain(away).chain(marked).collect()
}

fn still_banned(why: &str) -> String {
    format!("irqbalance still leaves the IRQs alone: {why}; `steer restore` tries again")
}

fn own(nic: &Nic) -> anyhow::Result<Owner> {
    match claim(nic.ifindex)? {
        Claim::Ours(owner) => Ok(owner),
        Claim::Taken(pid) => bail!(
            "{} is already steered by process {pid}; nothing was changed (`steer status` shows \
             what it does)",
            nic.name
        ),
    }
}
