//! What is installed beside the program for its users to read and their shells to ask: man pages and
//! completions.
//!
//! Nothing is written down here a second time. Commands and options are those of
//! [`steer_agent::cli::args::Args`], keys those of [`steer_agent::config::keys::KEYS`].

mod commands;
mod configuration;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use steer_agent::cli::args::Args;

/// The name of the program.
const PROGRAM: &str = "steer";

/// A file to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, below the directory of its kind.
    pub name: String,
    /// What is in it.
    pub text: Vec<u8>,
}

/// Every man page, as of `date`: steer(8), one for each command, steer.toml(5).
pub fn pages(date: &str) -> Result<Vec<File>> {
    let mut pages = commands::pages(date)?;
    pages.push(File { name: "steer.toml.5".to_owned(), text: configuration::page(date) });
    Ok(pages)
}

/// The completions of each shell, under the name that the shell looks for.
#[must_use]
pub fn completions() -> Vec<File> {
    let shells = [(Shell::Bash, PROGRAM), (Shell::Zsh, "_steer"), (Shell::Fish, "steer.fish")];
    let file = |(shell, name): (Shell, &str)| {
        let mut text = Vec::new();
        generate(shell, &mut Args::command(), PROGRAM, &mut text);
        File { name: name.to_owned(), text }
    };
    shells.map(file).into()
}

/// Writes all of it: `man/`, and `completions/` with a file for each shell.
pub fn write(directory: &Path, date: &str) -> Result<()> {
    for (kind, files) in [("man", pages(date)?), ("completions", completions())] {
        let place = directory.join(kind);
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        for file in files {
            let path = place.join(&file.name);
            fs::write(&path, &file.text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
