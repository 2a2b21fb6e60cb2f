//! The command line: arguments to settings to one stage or several, and an exit code.

mod apply;
pub mod args;
mod doctor;
mod output;
mod plan;
mod problem;
mod release;
mod restore;
mod rights;
mod run;
mod select;
mod settings;
mod simulate;
mod status;

use args::{Args, Command};
pub use output::Exit;
pub use settings::Settings;

/// Does what `args` say.
pub fn execute(args: &Args) -> anyhow::Result<Exit> {
    let settings = Settings::resolve(&args.common)?;
    match &args.command {
        Command::Doctor(args) => doctor::doctor(args),
        Command::Status(args) => status::status(args, &settings),
        Command::Plan(args) => plan::plan(args, &settings),
        Command::Apply(args) => apply::apply(args, &settings),
        Command::Run(args) => run::run(args, &settings),
        Command::Release(args) => release::release(args, &settings),
        Command::Restore(args) => restore::restore(args, &settings),
        Command::Simulate(args) => simulate::simulate(args, &settings),
    }
}
