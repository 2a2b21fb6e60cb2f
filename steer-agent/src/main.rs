//! The `steer` binary: arguments in, exit code out.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use steer_agent::cli::{self, Exit, args::Args};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("STEER_LOG", "warn"))
        .format(|buffer, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(buffer, "steer: {level}: {}", record.args())
        })
        .init();
    match cli::execute(&Args::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // Standard error that cannot be written leaves nobody to tell.
            let _ = writeln!(std::io::stderr().lock(), "steer: {error:#}");
            Exit::Failed.into()
        }
    }
}
