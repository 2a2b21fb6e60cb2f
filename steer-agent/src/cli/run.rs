//! `steer run`: keeps correcting until told to stop.

use super::args::{OnExit, RunArgs};
use super::output::print_line;
use super::select::for_writing;
use super::{Exit, Settings, rights};
use crate::run::{Ended, Options, run as steer};
use crate::sys::Machine;

pub(super) fn run(args: &RunArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = Machine::open()?;
    let nics = for_writing(&machine, &args.interfaces)?;
    rights::to_write(&machine, args.planning.observer.resolve())?;
    let names: Vec<String> = nics.iter().map(|nic| nic.name.clone()).collect();
    let on_exit = args.on_exit.unwrap_or(settings.on_exit);
    let period = args.period.unwrap_or(settings.period);
    let end = match on_exit {
        OnExit::Restore => "on exit everything is put back",
        OnExit::Keep => "on exit everything is left as corrected",
    };
    print_line(&if args.dry_run {
        format!("observing {} every {period:?}; dry run, nothing is written", names.join(", "))
    } else {
        format!(
            "observing {} every {period:?}; table, IRQs and XPS may be written; {end}",
            names.join(", ")
        )
    })?;
    let options = Options {
        nics,
        period,
        restore_on_exit: on_exit == OnExit::Restore,
        observer: args.planning.observer.resolve(),
        policy: args.planning.over(&settings.policy),
        state_dir: settings.state_dir.clone(),
        runtime_dir: settings.runtime_dir.clone(),
        dry_run: args.dry_run,
    };
    let say = |line: &str| {
        if let Err(error) = print_line(line) {
            log::warn!("cannot write to standard output: {error}");
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(steer(options, &machine, &say))? {
        Ended::AsAsked => Exit::Done,
        Ended::NotRestored => Exit::NotRestored,
    })
}
