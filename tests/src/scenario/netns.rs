//! A NIC is moved into another network namespace and back. It keeps its table and its interrupts on
//! the way, so what steer set in them has to be undone all the same.

use std::{thread, time::Duration};

use anyhow::Result;

use super::{
    align::{alignable_load, correctable_load, until_aligned},
    events::heard,
};
use crate::{
    guest::{Guest, NIC, ip},
    nic::State,
    steer::{Daemon, exit},
};

/// The namespace that it is moved to.
const ELSEWHERE: &str = "elsewhere";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    ip(&format!("netns add {ELSEWHERE}"))?;
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    // Its address goes with the move, and no answer comes from a host that has none.
    guest.expect_nothing_lost(load)?;

    ip(&format!("link set {NIC} netns {ELSEWHERE}"))?;
    heard(guest, &daemon, "eth0 is gone")?;
    thread::sleep(Duration::from_secs(2));
    bring_back()?;
    heard(guest, &daemon, "eth0 is back")?;
    let load = alignable_load(guest)?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("moved there and back, then SIGTERM", &original)?;

    // The daemon ends while the NIC is elsewhere: what cannot be reached is said and kept.
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    guest.expect_nothing_lost(load)?;
    ip(&format!("link set {NIC} netns {ELSEWHERE}"))?;
    heard(guest, &daemon, "eth0 is gone")?;
    let ended = daemon.terminate()?;
    guest.say(format_args!("steer, ended meanwhile ({}): {}", ended.code, ended.stderr.trim()));
    guest.expect_equal("exit code of run without its NIC", &ended.code, &exit::NOT_RESTORED)?;
    let away = guest.steer(&["restore", NIC])?;
    guest.say(format_args!("restore meanwhile ({}): {}", away.code, away.stderr.trim()));
    guest.expect_equal("exit code of restore without the NIC", &away.code, &exit::FAILED)?;
    bring_back()?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    guest.expect_state("restored when it was back", &original)
}

fn bring_back() -> Result<()> {
    ip(&format!("-n {ELSEWHERE} link set {NIC} netns 1"))?;
    ip(&format!("address add 10.9.0.1/24 dev {NIC}"))?;
    ip(&format!("link set {NIC} up"))
}
