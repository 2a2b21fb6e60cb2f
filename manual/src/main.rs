//! Writes the man pages and the completions: `steer-manual DIRECTORY`, as `cargo xtask gen` calls it.

use std::path::PathBuf;

use clap::Parser;

/// Write the man pages and completions of steer.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to; made if it is not there.
    directory: PathBuf,
    /// The day that the pages name, as 2026-11-29.
    #[arg(long)]
    date: String,
}

fn main() -> anyhow::Result<()> {
    let Arguments { directory, date } = Arguments::parse();
    steer_manual::write(&directory, &date)
}
