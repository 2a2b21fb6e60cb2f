//! What a host does to a daemon: it is stopped for a while, its clock jumps, its disk can no longer be
//! written, its NIC goes down in the middle of a write. Each time steer goes on, or says why it does
//! not, and leaves nothing behind.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    align::{correctable_load, until_aligned},
    events::heard,
    kill9::await_journal,
};
use crate::{
    guest::{Guest, NIC, PATIENCE, ip, run as command, wait_for},
    load::Load,
    nic::State,
    steer::{Daemon, exit},
};

const STOPPED: Duration = Duration::from_secs(10);
const DISK: &str = "/tmp/disk";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    settled(guest)?;
    stopped(guest, &load, &daemon)?;
    clock(guest, &load, &daemon)?;

    let refused = guest.steer(&["apply", NIC])?;
    guest.expect_equal("exit code of apply beside a daemon", &refused.code, &exit::FAILED)?;
    let named = refused.stderr.contains(&format!("steered by process {}", daemon.pid()));
    guest.expect("it names the daemon", named, &refused.stderr)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;

    disk(guest, &load, &original)?;
    guest.expect_nothing_lost(load)?;
    down_while_writing(guest, &original)?;
    released(guest)
}

/// Everything that was written has been judged.
fn settled(guest: &Guest) -> Result<()> {
    wait_for("the daemon to have judged what it wrote", PATIENCE, || {
        let history = guest.status(NIC, &[])?["history"].clone();
        let last = history.as_array().and_then(|lines| lines.last()).cloned();
        Ok(last.is_some_and(|line| line.as_str().unwrap_or_default().starts_with("verified")))
    })
    .map(drop)
}

/// A window of ten seconds is a window like any other, and the ones that never came are counted.
fn stopped(guest: &Guest, load: &Load, daemon: &Daemon) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(daemon.pid())?).context("a process")?;
    let before = guest.pace()?;
    let set = State::read(NIC)?;
    kill_process(pid, Signal::STOP)?;
    thread::sleep(STOPPED);
    kill_process(pid, Signal::CONT)?;
    guest.await_windows(3)?;
    let missed = guest.pace()?.missed - before.missed;
    guest.expect_within("periods that are said to be missed", &missed, 8..=12)?;
    let status = guest.status(NIC, &[])?;
    guest.expect_equal(
        "state after it was stopped",
        &status["state"].as_str(),
        &Some("steering"),
    )?;
    let difference = set.difference(&State::read(NIC)?);
    guest.expect("nothing was written for that", difference.is_empty(), difference)?;
    until_aligned(guest, load, daemon)
}

/// Periods and rates go by a clock that nobody sets.
fn clock(guest: &Guest, load: &Load, daemon: &Daemon) -> Result<()> {
    let before = guest.pace()?;
    let set = State::read(NIC)?;
    for day in ["+1 day", "-2 days", "+1 day"] {
        command("date", &["-s", day])?;
        guest.await_windows(2)?;
    }
    let missed = guest.pace()?.missed - before.missed;
    guest.expect_within("periods missed by that", &missed, ..=1)?;
    let difference = set.difference(&State::read(NIC)?);
    guest.expect("nothing was written for it either", difference.is_empty(), difference)?;
    until_aligned(guest, load, daemon)
}

/// The place of the journal becomes read-only under a running daemon: no journal, no write. What was
/// written before is put back in the end all the same.
fn disk(guest: &Guest, load: &Load, original: &State) -> Result<()> {
    fs::create_dir_all(DISK)?;
    command("mount", &["-t", "tmpfs", "none", DISK])?;
    let daemon = Daemon::start(guest, &[NIC, "--state-dir", DISK])?;
    until_aligned(guest, load, &daemon)?;
    settled(guest)?;
    let set = State::read(NIC)?;
    command("mount", &["-o", "remount,ro", DISK])?;
    // Workers that change CPUs ask for a correction.
    for worker in 0..guest.cpus {
        load.move_worker(worker, (worker + 1) % guest.cpus)?;
    }
    heard(guest, &daemon, "without a journal nothing may be written")?;
    let difference = set.difference(&State::read(NIC)?);
    guest.expect("and nothing was", difference.is_empty(), difference)?;
    let ended = daemon.terminate()?;
    guest.say(format_args!("steer: {}", ended.stdout.lines().last().unwrap_or_default()));
    guest.expect_equal("exit code of run on a read-only disk", &ended.code, &exit::DONE)?;
    let harmless = ended.stdout.contains("still names what is back already");
    guest.expect("it says what became of the journal", harmless, &ended.stdout)?;
    guest.expect_state("put back on a read-only disk", original)?;
    command("mount", &["-o", "remount,rw", DISK])?;
    guest.steer_expecting(exit::DONE, &["restore", NIC, "--state-dir", DISK])?;
    guest.steer_expecting(exit::NOT_MET, &["restore", NIC, "--state-dir", DISK])?;
    guest.expect_state("restored once more", original)?;
    command("umount", &[DISK]).map(drop)
}

/// The link goes while the first correction is written.
fn down_while_writing(guest: &Guest, original: &State) -> Result<()> {
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    await_journal()?;
    ip(&format!("link set {NIC} down"))?;
    ip(&format!("link set {NIC} up"))?;
    heard(guest, &daemon, "the carrier changed")?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after a link that went down in the middle of a write", original)?;
    guest.expect_nothing_lost(load)
}

/// What was given up is nobody's: there is nothing to restore, and `ethtool -L` is free again.
fn released(guest: &Guest) -> Result<()> {
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC, "--on-exit", "keep"])?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run --on-exit keep", &ended.code, &exit::DONE)?;
    let kept = State::read(NIC)?;
    guest.steer_expecting(exit::DONE, &["release", NIC])?;
    guest.steer_expecting(exit::NOT_MET, &["restore", NIC])?;
    let difference = kept.difference(&State::read(NIC)?);
    guest.expect("everything stays as it was given up", difference.is_empty(), difference)?;
    guest.expect_nothing_lost(load)?;
    guest.steer_expecting(exit::DONE, &["release", NIC, "--default-table"])?;
    command("ethtool", &["-L", NIC, "combined", "2"])?;
    command("ethtool", &["-L", NIC, "combined", "4"]).map(drop)
}
