//! steer's alignment and an independent count of it are the same, before and after a correction.

use std::time::Duration;

use anyhow::{Context, Result};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC},
    load::Load,
    steer::Daemon,
};

/// How far the two may be apart. They look at the same window but for its ends.
const TOLERANCE: f64 = 0.03;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let load = correctable_load(guest)?;
    compare(guest, &load, "before", &["--for", "4s"])?;

    let daemon = Daemon::start(guest, &[NIC, "--period", "2s"])?;
    until_aligned(guest, &load, &daemon)?;
    // Asked of the daemon, whose last period began before: it must lie in aligned time too.
    load.window(Duration::from_secs(4))?;
    compare(guest, &load, "after, from the daemon", &[])?;
    // Observed beside the daemon.
    compare(guest, &load, "after, by itself", &["--for", "4s", "--observer", "tracing"])?;
    daemon.terminate()?;
    guest.expect_nothing_lost(load)
}

fn compare(guest: &Guest, load: &Load, when: &str, arguments: &[&str]) -> Result<()> {
    let (status, window) = load.window_of(|| {
        let status = guest.status(NIC, arguments)?;
        // A daemon answers at once, about its last period; the flows are steady.
        if !arguments.contains(&"--for") {
            load.window(Duration::from_secs(2))?;
        }
        Ok(status)
    })?;
    let share = status["alignment"]["share"].as_f64().context("status has no share")?;
    let counted = window.share();
    guest.say(format_args!("{when}: steer says {share:.3}, the server counted {counted:.3}"));
    let apart = (share - counted).abs();
    guest.expect_within(&format!("{when}, apart by"), &apart, ..=TOLERANCE)
}
