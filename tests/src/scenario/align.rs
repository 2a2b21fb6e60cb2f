//! The main job: a mismatched load is aligned, no request is lost, and everything comes back.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    guest::{Guest, NIC},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

const WINDOW: Duration = Duration::from_secs(3);
const ENOUGH: f64 = 0.90;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    guest.expect_within("aligned share before", &load.window(WINDOW)?.share(), ..0.40)?;

    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    guest.expect_within("aligned share after", &load.window(WINDOW)?.share(), ENOUGH..)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;

    let daemon = Daemon::start(guest, &[NIC, "--on-exit", "keep"])?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run --on-exit keep", &ended.code, &exit::DONE)?;
    guest.expect_within("aligned share that is kept", &load.window(WINDOW)?.share(), ENOUGH..)?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    guest.expect_state("after restore", &original)?;
    guest.steer_expecting(exit::NOT_MET, &["restore", NIC])?;

    guest.expect_nothing_lost(load)
}

/// A mismatched load that a table can align.
///
/// Where two of the 16 flows fall into one of 128 buckets and have different workers, no table can
/// align both. One load of six has two such pairs or more, and then less than 90 % can be reached;
/// steer says so beforehand.
pub(super) fn correctable_load(guest: &Guest) -> Result<Load> {
    correctable(guest, &Spec::default(), ENOUGH)
}

/// A mismatched load of this kind of which a table can align at least `enough`.
pub(super) fn correctable(guest: &Guest, spec: &Spec, enough: f64) -> Result<Load> {
    Load::start_until(guest, spec, |load| {
        if !load.is_mismatched()? {
            return Ok(false);
        }
        let status = guest.status(NIC, &["--for", "1s"])?;
        // A NIC whose mapping is unknown has no such figure, and the scenario will tell why.
        Ok(status["alignment"]["achievable"].as_f64().is_none_or(|share| share > enough))
    })
}

/// Waits for a second that is aligned, for as long as steer may take.
pub(super) fn until_aligned(guest: &Guest, load: &Load, daemon: &Daemon) -> Result<()> {
    let mut shares = Vec::new();
    for second in 1..=40 {
        let share = load.window(Duration::from_secs(1))?.share();
        shares.push(format!("{share:.2}"));
        if share >= ENOUGH {
            guest.say(format_args!("ok: aligned after {second} s: {}", shares.join(" ")));
            return Ok(());
        }
    }
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    bail!("not aligned within 40 s: {}", shares.join(" "))
}

impl Guest {
    /// The NIC is set as it was, to the byte.
    pub(super) fn expect_state(&self, when: &str, original: &State) -> Result<()> {
        let difference = original.difference(&State::read(NIC)?);
        let what = format!("{when}, table, affinities and XPS are as before");
        self.expect(&what, difference.is_empty(), difference)
    }

    /// Every request that was sent has had its answer.
    pub(super) fn expect_nothing_lost(&self, load: Load) -> Result<()> {
        let client = load.stop()?;
        self.say(format_args!("{} requests were sent", client.sent));
        self.expect_equal("requests failed or lost", &client.failed, &0)?;
        self.expect_equal("requests without answer", &(client.sent - client.answered), &0)?;
        self.expect_equal("connections made anew", &client.reconnects, &0)
    }
}
