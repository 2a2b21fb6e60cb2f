//! Set-up, checks, test machine and demonstration of steer: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a task talks to whoever started it")]
#![allow(clippy::print_stderr, reason = "a task talks to whoever started it")]

mod apt;
mod bench;
mod bpf;
mod check;
mod demo;
mod exact;
mod initramfs;
mod kernel;
mod lab;
mod layers;
mod machine;
mod process;
mod setup;
mod source;
mod summary;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, checks, test machine and demonstration of steer.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building and testing need, where it is missing.
    Setup,
    /// Check formatting, lints, documentation and import rules.
    Check,
    /// Run scenarios in machines with emulated NICs.
    Lab(lab::Options),
    /// Set up, check, run the tests and the whole lab.
    Test,
    /// Measure, and print a table.
    Bench(bench::Options),
    /// Compare the planner with an exact solver (installs cmake and libclang, builds for minutes).
    Exact,
    /// See steer correct a mismatched load in an emulated machine.
    Demo,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup => setup::setup(),
        Task::Check => check::check(),
        Task::Lab(options) => lab::lab(&options),
        Task::Test => test::test(),
        Task::Bench(options) => bench::bench(&options),
        Task::Exact => exact::exact(),
        Task::Demo => demo::demo(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
