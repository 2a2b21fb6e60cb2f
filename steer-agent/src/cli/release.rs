//! `steer release`: gives a NIC up without changing its traffic.

use anyhow::bail;

use super::args::ReleaseArgs;
use super::output::{note, print_line};
use super::{Exit, Settings, rights};
use crate::apply::{Journal, Released, release as give_up};
use crate::sys::owner::{Claim, claim};
use crate::sys::{Machine, Port as _};

pub(super) fn release(args: &ReleaseArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = settings.machine()?;
    if args.interfaces.is_empty() {
        let held = Journal::all(&settings.state_dir)?;
        let held = if held.is_empty() {
            format!("there is no journal in {}", settings.state_dir.display())
        } else {
            format!("there are journals of {}", held.join(", "))
        };
        bail!("name the interface to give up, as in `steer release eth0`; {held}");
    }
    let mut exit = Exit::NotMet;
    for name in &args.interfaces {
        if one(&machine, name, args.default_table, settings)? {
            exit = Exit::Done;
        }
    }
    Ok(exit)
}

/// False where there was nothing to give up.
fn one(machine: &Machine, name: &str, default: bool, settings: &Settings) -> anyhow::Result<bool> {
    let device = machine.identity(name)?;
    rights::to_restore(machine)?;
    let _owner = match claim(device.ifindex)? {
        Claim::Ours(owner) => owner,
        Claim::Taken(pid) => bail!(
            "{name} is being steered by process {pid}; stop it first (with `--on-exit keep` it \
             leaves what it has set)"
        ),
    };
    let state_dir = settings.state_dir.as_path();
    let journal = match Journal::of_device(state_dir, name, &device, machine)? {
        Some(journal) => journal,
        None if machine.rss_table(name)?.is_none_or(|table| table.is_empty()) => {
            note(&format!(
                "{name}: there is nothing to give up: no journal in {}, and no indirection table",
                state_dir.display()
            ));
            return Ok(false);
        }
        None => Journal::new(state_dir, name, device, machine.boot_id()?),
    };
    let (released, aside) = give_up(journal, name, machine, default)?;
    print_line(&format!("{name}: given up; everything that is set stays"))?;
    match released {
        Released::NoTable => {}
        Released::Default(0) => {
            print_line(&format!(
                "{name}: the table is the default one and no longer marked as a user's"
            ))?;
        }
        Released::Default(moved) => {
            print_line(&format!("{name}: the table is the default one; {moved} buckets moved"))?;
        }
        Released::Marked { would_move, queues } => note(&format!(
            "{name}: the table stays marked as a user's, so `ethtool -L` takes no fewer than {queues} \
             queues, and more are not used; `steer release {name} --default-table` ends that and \
             moves {would_move} buckets"
        )),
    }
    if let Some(aside) = aside {
        note(&format!("{name}: what was set before steer is in {}", aside.display()));
    }
    Ok(true)
}
