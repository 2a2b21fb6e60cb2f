//! A daemon that is killed in the middle of its work leaves nothing that `restore` cannot undo.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, PATIENCE},
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

/// The same two hundred times, at moments all over the first seconds of a correction: with four
/// windows a second these are the first sixteen, with what is written, judged and corrected in them.
pub(super) fn many(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    let mut caught = 0;
    let (mut loading, mut waiting) = (Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    for round in 0..ROUNDS {
        let start = Instant::now();
        let daemon = Daemon::start(guest, &[NIC, "--period", "250ms"])?;
        loading += start.elapsed();
        await_journal()?;
        waiting += start.elapsed();
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
    let each = |whole: Duration| whole.as_secs_f64() / f64::from(ROUNDS);
    guest.say(format_args!(
        "{:.1} s a round, {:.1} s of them until steer is ready, {:.1} s until its journal",
        each(begun.elapsed()),
        each(loading),
        each(waiting)
    ));
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
pub(super) fn await_journal() -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !Path::new(JOURNAL).exists() {
        ensure!(Instant::now() < give_up, "no journal within {} s", PATIENCE.as_secs());
    }
    Ok(())
}
