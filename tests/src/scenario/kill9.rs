//! A daemon that is killed in the middle of its work leaves nothing that `restore` cannot undo.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC},
    nic::State,
    steer::{Daemon, exit},
};

/// How many milliseconds after its journal appears the daemon is killed: before the first write,
/// among the writes, which take some milliseconds in all, and during the check of their effect.
const DELAYS: [u64; 7] = [0, 1, 2, 4, 8, 20, 1500];

const JOURNAL: &str = "/var/lib/steer/journal-eth0";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;

    let daemon = Daemon::start(guest, &[NIC])?;
    daemon.kill()?;
    guest.expect_state("killed before its first write", &original)?;
    // There may or may not be a journal yet; either way restore leaves things as they were.
    let early = guest.steer(&["restore", NIC])?;
    let done = [exit::DONE, exit::NOT_MET].contains(&early.code);
    guest.expect("restore after that has nothing to do", done, early.stderr)?;

    for delay in DELAYS {
        let daemon = Daemon::start(guest, &[NIC])?;
        await_journal()?;
        thread::sleep(Duration::from_millis(delay));
        daemon.kill()?;
        let changed = original.difference(&State::read(NIC)?).lines().count();
        guest.say(format_args!("killed {delay} ms after the journal: {changed} values differ"));
        guest.steer_expecting(exit::DONE, &["restore", NIC])?;
        guest.expect_state("after restore", &original)?;
    }

    // The journal of the killed one is not in the way of the next.
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    daemon.kill()?;
    let daemon = Daemon::start(guest, &[NIC])?;
    thread::sleep(Duration::from_secs(2));
    daemon.terminate()?;
    guest.expect_state("after a kill, another run and its end", &original)?;
    guest.expect_nothing_lost(load)
}

/// The same two hundred times, at moments all over the first seconds of a correction.
pub(super) fn many(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    let mut caught = 0;
    for round in 0..ROUNDS {
        let daemon = Daemon::start(guest, &[NIC])?;
        await_journal()?;
        thread::sleep(moment(round));
        daemon.kill()?;
        caught += u32::from(!original.difference(&State::read(NIC)?).is_empty());
        guest.steer_expecting(exit::DONE, &["restore", NIC])?;
        let left = original.difference(&State::read(NIC)?);
        guest.expect(
            &format!("restored after kill {} of {ROUNDS}", round + 1),
            left.is_empty(),
            left,
        )?;
    }
    guest.expect_within("kills that left something to restore", &caught, ROUNDS / 4..)?;
    guest.expect_nothing_lost(load)
}

const ROUNDS: u32 = 200;

/// From 0 to 4 s, as many in each tenth part of that as in the next: multiples of the golden ratio
/// leave no gaps and repeat nothing.
fn moment(round: u32) -> Duration {
    let place = (f64::from(round) * 0.618_034).fract();
    Duration::from_secs_f64((10f64.powf(place * 3.6) - 1.0) / 1000.0)
}

/// Spins, for a look every 20 ms would miss what happens in between.
fn await_journal() -> Result<()> {
    let give_up = Instant::now() + Duration::from_secs(15);
    while !Path::new(JOURNAL).exists() {
        ensure!(Instant::now() < give_up, "no journal within 15 s");
    }
    Ok(())
}
