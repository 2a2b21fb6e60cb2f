//! A daemon that is killed in the middle of its work leaves nothing that `restore` cannot undo.

use std::{thread, time::Duration};

use anyhow::Result;

use super::align::until_aligned;
use crate::{
    guest::{Guest, NIC, wait_for},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

/// How long after the first write that is seen from outside the daemon is killed: among the
/// writes, which take some milliseconds in all, then during the check of their effect.
const DELAYS: [u64; 4] = [0, 5, 50, 1500];

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = Load::start_mismatched(guest, &Spec::default())?;

    let daemon = Daemon::start(guest, &[NIC])?;
    daemon.kill()?;
    guest.expect_state("killed before its first write", &original)?;
    // There may or may not be a journal yet; either way restore leaves things as they were.
    let early = guest.steer(&["restore", NIC])?;
    let done = [exit::DONE, exit::NOT_MET].contains(&early.code);
    guest.expect("restore after that has nothing to do", done, early.stderr)?;

    for delay in DELAYS {
        let daemon = Daemon::start(guest, &[NIC])?;
        wait_for("the first write", Duration::from_secs(15), || {
            Ok(!original.difference(&State::read(NIC)?).is_empty())
        })?;
        thread::sleep(Duration::from_millis(delay));
        daemon.kill()?;
        let changed = original.difference(&State::read(NIC)?).lines().count();
        guest.say(format_args!("killed {delay} ms after the first write: {changed} values differ"));
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
