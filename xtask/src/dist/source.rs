//! When the sources were last changed: what is made of the same sources is then the same, to the byte.

use std::{fs, process::Command, time::UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::{process, workspace};

/// In seconds since 1970.
pub(super) fn changed_s() -> Result<u64> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
    // An archive of the sources has no history: its manifest's time will do.
    if let Ok(seconds) = process::capture(&mut git) {
        return seconds.trim().parse().context("what git says of the time");
    }
    let changed = fs::metadata(workspace::root().join("Cargo.toml"))?.modified()?;
    Ok(changed.duration_since(UNIX_EPOCH)?.as_secs())
}

/// As date(1) writes it with this option.
pub(super) fn date(format: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", format]).arg(format!("--date=@{}", changed_s()?)).env("LC_ALL", "C");
    process::capture(&mut date)
}
