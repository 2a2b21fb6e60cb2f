//! `steer restore`: puts back what the journal holds.

use std::path::Path;

use anyhow::bail;

use super::args::RestoreArgs;
use super::output::{note, print_line};
use super::{Exit, Settings, rights};
use crate::apply::{self, Journal, RestoreError, Trust};
use crate::observe::nic;
use crate::run::steered::complaints;
use crate::sys::owner::{Claim, claim};
use crate::sys::{Machine, Port as _};

pub(super) fn restore(args: &RestoreArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = Machine::open()?;
    let state_dir = settings.state_dir.as_path();
    if args.interfaces.is_empty() {
        let with_journal = Journal::all(state_dir)?;
        if with_journal.is_empty() {
            note(&format!("there is no journal in {}: nothing to restore", state_dir.display()));
            return Ok(Exit::NotMet);
        }
        bail!("name the interface to restore; there are journals of {}", with_journal.join(", "));
    }
    let trust = if args.force { Trust::Force } else { Trust::OwnOnly };
    let mut names: Vec<String> = Vec::new();
    for name in &args.interfaces {
        names.extend(nic::members(&machine, name).unwrap_or_else(|| vec![name.clone()]));
    }
    let mut worst = Exit::NotMet;
    for name in &names {
        let exit = one(&machine, name, state_dir, trust)?;
        worst = match (worst, exit) {
            (Exit::NotRestored, _) | (_, Exit::NotRestored) => Exit::NotRestored,
            (Exit::Done, _) | (_, Exit::Done) => Exit::Done,
            _ => Exit::NotMet,
        };
    }
    Ok(worst)
}

/// The journal of the NIC that is called `name`, or was when steer began; and its name now.
fn find(
    machine: &Machine,
    name: &str,
    state_dir: &Path,
) -> anyhow::Result<Option<(String, Journal)>> {
    let journal = match machine.identity(name) {
        Ok(device) => Journal::of_device(state_dir, name, &device)?,
        Err(error) => {
            let Some(journal) = Journal::load(state_dir, name)? else {
                // Without a journal a name that does not exist is most likely a slip.
                return Err(error.into());
            };
            let device = &journal.record().device;
            if let Some(present) = nic::called(machine, device.ifindex)
                && machine.identity(&present).is_ok_and(|found| found == *device)
            {
                note(&format!("{name} is called {present} now"));
                return Ok(Some((present, journal)));
            }
            Some(journal)
        }
    };
    Ok(journal.map(|journal| (name.to_owned(), journal)))
}

fn one(machine: &Machine, name: &str, state_dir: &Path, trust: Trust) -> anyhow::Result<Exit> {
    let Some((name, journal)) = find(machine, name, state_dir)? else {
        note(&format!(
            "{name}: there is no journal in {}, so steer has left nothing to restore",
            state_dir.display()
        ));
        return Ok(Exit::NotMet);
    };
    let name = name.as_str();
    rights::to_restore(machine)?;
    let _owner = match machine.identity(name).map(|device| claim(device.ifindex)) {
        Ok(Ok(Claim::Taken(pid))) => {
            bail!("{name} is being steered by process {pid}; stop it first, it restores by itself")
        }
        Ok(Ok(Claim::Ours(owner))) => Some(owner),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => None,
    };
    let outcome = match apply::restore(journal, name, machine, trust) {
        Ok(outcome) => outcome,
        Err(RestoreError::Journal(error)) => return Err(error.into()),
        Err(RestoreError::Device(error)) => return Err(error.into()),
    };
    print_line(&outcome.describe(name))?;
    for complaint in complaints(&outcome) {
        note(&format!("{name}: {complaint}"));
    }
    Ok(if outcome.complete() { Exit::Done } else { Exit::NotRestored })
}
