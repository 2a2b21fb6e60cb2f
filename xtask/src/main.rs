//! Set-up, checks, test machine and demonstration of steer: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a task talks to whoever started it")]
#![allow(clippy::print_stderr, reason = "a task talks to whoever started it")]

mod apt;
mod balancers;
mod bench;
mod bpf;
mod check;
mod demo;
mod dist;
#[cfg(test)]
mod documents;
mod exact;
mod example;
mod fuzz;
mod initramfs;
mod kernel;
mod lab;
mod layers;
mod machine;
mod matrix;
mod process;
mod run;
mod servers;
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
    /// Run the same correction on every kernel and NIC of the lab and on this machine: the table in
    /// docs/drivers.md.
    Matrix(matrix::Options),
    /// Set up, check, run the tests and the short scenarios of the lab.
    Test,
    /// Make what is handed out: static program, Debian package, container, checksums.
    Dist(dist::Options),
    /// Generate man pages and completions, into target/manual.
    Gen,
    /// Measure, and print a table.
    Bench(bench::Options),
    /// Compare the planner with an exact solver (installs cmake and libclang, builds for minutes).
    Exact,
    /// Hold real load balancers' contests between the default, irqbalance, RFS and steer: the tables
    /// in docs/load-balancers.md.
    Balancers(balancers::Options),
    /// Feed every parser, and the XDP program, with what nobody would send.
    Fuzz(fuzz::Options),
    /// Record a daemon's first seconds in the lab, and make the example report of docs/ from that.
    Example,
    /// See steer correct a mismatched load in an emulated machine.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup => setup::setup(),
        Task::Check => check::check(),
        Task::Lab(options) => lab::lab(&options),
        Task::Matrix(options) => matrix::matrix(&options),
        Task::Test => test::test(),
        Task::Bench(options) => bench::bench(&options),
        Task::Exact => exact::exact(),
        Task::Balancers(options) => balancers::balancers(&options),
        Task::Demo(options) => demo::demo(&options),
        Task::Example => example::example(),
        Task::Dist(options) => dist::dist(&options),
        Task::Gen => dist::generate().map(drop),
        Task::Fuzz(options) => fuzz::fuzz(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
