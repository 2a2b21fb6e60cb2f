//! Where the programs are.

use std::process::Command;

use crate::guest::Guest;

/// A program that `cargo xtask setup` unpacked, with the libraries that came along; else the
/// machine's own.
#[must_use]
pub fn command(guest: &Guest, name: &str) -> Command {
    let target = guest.program.ancestors().nth(2).map(|target| target.join("lab/servers/usr"));
    let unpacked = target.unwrap_or_default();
    let places = ["sbin", "bin"].map(|directory| unpacked.join(directory).join(name));
    match places.into_iter().find(|path| path.is_file()) {
        Some(path) => {
            let mut command = Command::new(path);
            command.env("LD_LIBRARY_PATH", unpacked.join("lib/x86_64-linux-gnu"));
            command
        }
        None => Command::new(name),
    }
}
