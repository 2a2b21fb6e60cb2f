//! `steer restore`: puts back what the journal holds.

use std::path::Path;

use anyhow::bail;

use super::args::RestoreArgs;
use super::output::{note, print_line};
use super::{Exit, Settings, rights};
use crate::apply::listener::ListenerJournal;
use crate::apply::{self, Journal, RestoreError, Trust};
use crate::config::keys::OnExit;
use crate::observe::kernel::accept::{AcceptSide, Chooser};
use crate::observe::nic;
use crate::run::steered::complaints;
use crate::sys::listener::{LiveSockets, Sockets as _};
use crate::sys::owner::{Claim, claim};
use crate::sys::{Machine, Port as _};

pub(super) fn restore(args: &RestoreArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = settings.machine()?;
    let state_dir = settings.state_dir.as_path();
    let trust = if args.force { Trust::Force } else { Trust::OwnOnly };
    if args.all {
        return all(args, settings, &machine, trust);
    }
    if args.interfaces.is_empty() {
        let with_journal = Journal::all(state_dir)?;
        if with_journal.is_empty() {
            note(&format!("there is no journal in {}: nothing to restore", state_dir.display()));
            return Ok(Exit::NotMet);
        }
        bail!(
            "name the interface to restore, or all by --all; there are journals of {}",
            with_journal.join(", ")
        );
    }
    let mut names: Vec<String> = Vec::new();
    for name in &args.interfaces {
        names.extend(nic::members(&machine, name).unwrap_or_else(|| vec![name.clone()]));
    }
    let mut worst = Exit::NotMet;
    for name in &names {
        worst = worse(worst, both(&machine, name, state_dir, trust)?);
    }
    Ok(worst)
}

/// Every NIC that has a journal, whatever becomes of the others.
fn all(
    args: &RestoreArgs,
    settings: &Settings,
    machine: &Machine,
    trust: Trust,
) -> anyhow::Result<Exit> {
    let state_dir = settings.state_dir.as_path();
    let mut names = Journal::all(state_dir)?;
    names.extend(ListenerJournal::all(state_dir)?);
    names.sort();
    names.dedup();
    if names.is_empty() {
        print_line(&format!("there is no journal in {}: nothing to restore", state_dir.display()))?;
        return Ok(Exit::Done);
    }
    if args.as_on_exit && settings.config.values(None).on_exit == OnExit::Keep {
        let names = names.join(", ");
        print_line(&format!("{names}: left as corrected, for `run.on_exit` is \"keep\""))?;
        return Ok(Exit::Done);
    }
    let mut worst = Exit::Done;
    for name in &names {
        let exit = both(machine, name, state_dir, trust).unwrap_or_else(|error| {
            note(&format!("{name}: {error:#}"));
            Exit::NotRestored
        });
        worst = worse(worst, exit);
    }
    Ok(worst)
}

/// What steer set on the NIC, and what it set on sockets.
fn both(machine: &Machine, name: &str, state_dir: &Path, trust: Trust) -> anyhow::Result<Exit> {
    let had_sockets = ListenerJournal::exists(state_dir, name);
    let nic = one(machine, name, state_dir, trust, had_sockets)?;
    Ok(worse(nic, sockets(machine, name, state_dir, trust)?))
}

fn worse(worst: Exit, exit: Exit) -> Exit {
    match (worst, exit) {
        (Exit::NotRestored, _) | (_, Exit::NotRestored) => Exit::NotRestored,
        (Exit::Done, _) | (_, Exit::Done) => Exit::Done,
        _ => Exit::NotMet,
    }
}

/// Puts back what accept steering has set on sockets.
fn sockets(machine: &Machine, name: &str, state_dir: &Path, trust: Trust) -> anyhow::Result<Exit> {
    if !ListenerJournal::exists(state_dir, name) {
        return Ok(Exit::NotMet);
    }
    let sockets = LiveSockets::new(machine.root().clone());
    let journal = ListenerJournal::open(state_dir, name, &machine.boot_id()?, sockets.netns())?;
    let programs = match journal.programs().next() {
        // The kernel tells whose program a group has by a program of its own.
        Some(_) => {
            AcceptSide::start(Chooser::Lookup).ok().and_then(|mut side| side.group_programs())
        }
        None => None,
    };
    let outcome = journal.restore(&sockets, programs.as_ref(), trust)?;
    print_line(&format!("{name}: {outcome}"))?;
    for sentence in &outcome.open {
        note(&format!("{name}: {sentence}"));
    }
    Ok(if outcome.open.is_empty() { Exit::Done } else { Exit::NotRestored })
}

/// The journal of the NIC that is called `name`, or was when steer began; and its name now.
fn find(
    machine: &Machine,
    name: &str,
    state_dir: &Path,
) -> anyhow::Result<Option<(String, Journal)>> {
    let journal = match machine.identity(name) {
        Ok(device) => Journal::of_device(state_dir, name, &device, machine)?,
        Err(error) => {
            let Some(journal) = Journal::load(state_dir, name)? else {
                // Without a journal a name that does not exist is most likely a slip.
                return Err(error.into());
            };
            if let Some(present) = journal.device_elsewhere(machine) {
                note(&format!("{name} is called {present} now"));
                return Ok(Some((present, journal)));
            }
            Some(journal)
        }
    };
    Ok(journal.map(|journal| (name.to_owned(), journal)))
}

fn one(
    machine: &Machine,
    name: &str,
    state_dir: &Path,
    trust: Trust,
    had_sockets: bool,
) -> anyhow::Result<Exit> {
    let Some((name, journal)) = find(machine, name, state_dir)? else {
        if let Ok(Ok(Claim::Ours(_owner))) =
            machine.identity(name).map(|device| claim(device.ifindex))
        {
            Journal::sweep(state_dir, name);
        }
        if had_sockets {
            return Ok(Exit::NotMet);
        }
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
    Journal::sweep(state_dir, name);
    let outcome = match apply::restore(journal, name, machine, trust) {
        Ok(outcome) => outcome,
        Err(RestoreError::Journal(error)) => return Err(error.into()),
        Err(RestoreError::Device(error)) => return Err(error.into()),
    };
    print_line(&outcome.describe(name))?;
    for complaint in complaints(name, &outcome) {
        note(&format!("{name}: {complaint}"));
    }
    Ok(if outcome.complete() { Exit::Done } else { Exit::NotRestored })
}
