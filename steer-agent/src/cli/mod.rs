//! The command line: arguments to settings to one stage or several, and an exit code.

mod apply;
pub mod args;
mod config;
mod correction;
mod doctor;
mod output;
mod plan;
mod playback;
mod problem;
mod record;
mod recorded;
mod release;
mod replay;
mod report;
mod restore;
mod rights;
mod run;
mod select;
mod settings;
mod simulate;
mod status;
mod top;
mod watch;

use args::{Args, Command};
pub use output::Exit;
pub use settings::Settings;

/// Does what `args` say.
pub fn execute(args: &Args) -> anyhow::Result<Exit> {
    let settings = match &args.command {
        Command::Config(command) => return config::config(command, &args.common),
        // What puts things back must not fail for a slip of the pen.
        Command::Restore(_) => Settings::resolve_leniently(&args.common)?,
        _ => Settings::resolve(&args.common)?,
    };
    match &args.command {
        Command::Config(command) => config::config(command, &args.common),
        Command::Doctor(args) => doctor::doctor(args, &settings),
        Command::Status(args) => status::status(args, &settings),
        Command::Top(args) => top::top(args, &settings),
        Command::Plan(args) => plan::plan(args, &settings),
        Command::Apply(args) => apply::apply(args, &settings),
        Command::Run(arguments) => run::run(arguments, &args.common, &settings),
        Command::Record(args) => record::record(args, &settings),
        Command::Replay(args) => replay::replay(args),
        Command::Report(args) => report::report(args, &settings),
        Command::Release(args) => release::release(args, &settings),
        Command::Restore(args) => restore::restore(args, &settings),
        Command::Simulate(args) => simulate::simulate(args, &settings),
    }
}
