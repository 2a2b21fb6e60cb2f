//! Somebody else sets what steer has set: steer stands down, says so, and overwrites it only when told to.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, PATIENCE, read, run as command, wait_for, write},
    load::Load,
    nic::{self, State},
    steer::{Daemon, exit},
};

/// Windows in which it is noticed: the one that is not over yet, the next, and what passes while status
/// is asked.
const NOTICED: u64 = 3;
const QUIET: Duration = Duration::from_secs(5);
const RULE: &str = "/etc/udev/rules.d/90-lab-irq.rules";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;

    contested(guest, &load, &original, &["indirection table"], || {
        command("ethtool", &["-X", NIC, "equal", "2"]).map(drop)
    })?;

    // Who may have done it is named: here one that is called tuned, and a rule.
    fs::copy("/bin/sleep", "/tmp/tuned")?;
    let mut tuned = Command::new("/tmp/tuned").arg("1000").spawn().context("cannot run tuned")?;
    fs::create_dir_all("/etc/udev/rules.d")?;
    let rule = "ACTION==\"add\", SUBSYSTEM==\"net\", RUN+=\"/bin/sh -c 'echo 1 > smp_affinity'\"\n";
    fs::write(RULE, rule)?;
    let doctor = guest.steer(&["doctor"])?;
    let named = doctor.stdout.contains("tuned runs") && doctor.stdout.contains(RULE);
    guest.expect("doctor names both", named, &doctor.stdout)?;
    let irq = *nic::queues(NIC)?.values().next().context("no queue")?;
    let path = format!("/proc/irq/{irq}/smp_affinity_list");
    let words = [&format!("IRQ {irq}"), "tuned (process", RULE];
    contested(guest, &load, &original, &words, || {
        // Two CPUs, which steer never sets.
        let cpus = if read(&path)? == "1" { "2-3" } else { "1-2" };
        write(&path, cpus)
    })?;
    tuned.kill()?;
    tuned.wait()?;
    guest.expect_nothing_lost(load)
}

/// steer aligns, `foreign` is done, and everything that follows from that is looked at.
fn contested(
    guest: &Guest,
    load: &Load,
    original: &State,
    words: &[&str],
    foreign: impl Fn() -> Result<()>,
) -> Result<()> {
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, load, &daemon)?;
    let before = guest.pace()?.windows;
    foreign()?;
    let took = wait_for("the daemon to say that it is contested", PATIENCE, || {
        Ok(daemon.said().iter().any(|line| line.contains("contested")))
    })?;
    guest.say(format_args!("ok: contested after {:.1} s", took.as_secs_f64()));
    let windows = guest.pace()?.windows - before;
    guest.expect_within("windows until it was noticed", &windows, ..=NOTICED)?;
    let status = guest.status(NIC, &[])?;
    guest.expect_equal("state", &status["state"].as_str(), &Some("contested"))?;
    let reason = status["reason"].as_str().unwrap_or_default();
    for word in words {
        ensure!(reason.contains(word), "the reason does not mention {word}: {reason}");
    }
    guest.say(format_args!("ok: the reason: {reason}"));

    let left = State::read(NIC)?;
    thread::sleep(QUIET);
    let difference = left.difference(&State::read(NIC)?);
    guest.expect("no more writes", difference.is_empty(), difference)?;

    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run", &ended.code, &exit::NOT_RESTORED)?;
    // All but what the other has set is back.
    let theirs = State::read(NIC)?;
    let open = original.difference(&theirs).lines().count();
    guest.expect_equal("values that are not as before", &open, &1)?;
    for again in [&["restore", NIC][..], &["restore", NIC][..]] {
        let refused = guest.steer(again)?;
        guest.expect_equal("exit code of restore", &refused.code, &exit::NOT_RESTORED)?;
        let named = refused.stderr.contains(words[0]) && refused.stderr.contains("--force");
        guest.expect("restore names what it leaves", named, &refused.stderr)?;
    }
    let refused = guest.steer(&["run", NIC])?;
    guest.expect_equal("exit code of another run", &refused.code, &exit::FAILED)?;
    let difference = theirs.difference(&State::read(NIC)?);
    guest.expect("what the other has set stays", difference.is_empty(), difference)?;
    guest.steer_expecting(exit::DONE, &["restore", NIC, "--force"])?;
    guest.expect_state("after restore --force", original)
}
