//! `steer release`: gives a NIC up without changing its traffic.

use anyhow::bail;

use super::args::ReleaseArgs;
use super::output::{note, print_line};
use super::{Exit, Settings, rights};
use crate::apply::{Journal, Released, release as give_up};
use crate::sys::owner::{Claim, claim};
use crate::sys::{Machine, Port as _};

pub(super) fn release(args: &ReleaseArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = Machine::open()?;
    if args.interfaces.is_empty() {
        bail!("name the interface to give up");
    }
    for name in &args.interfaces {
        one(&machine, name, args.default_table, settings)?;
    }
    Ok(Exit::Done)
}

fn one(machine: &Machine, name: &str, default: bool, settings: &Settings) -> anyhow::Result<()> {
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
    let journal = match Journal::of_device(state_dir, name, &device)? {
        Some(journal) => journal,
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
    Ok(())
}
