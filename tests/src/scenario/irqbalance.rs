//! Beside a running irqbalance: without consent only the table is corrected; with it irqbalance is
//! asked to leave the NIC's interrupts alone, does, and is told otherwise in the end.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Result, ensure};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, PATIENCE, read, wait_for},
    irqbalance::{Irqbalance, Socket},
    load::Load,
    nic,
    steer::{Daemon, exit},
};

const CONFIG: &str = "/tmp/ban.toml";
const JOURNAL: &str = "/var/lib/steer/journal-eth0";
const KEPT: u32 = 10;
const ENOUGH: f64 = 0.90;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    fs::write(CONFIG, "[run]\nirqbalance = \"ban\"\n")?;
    let load = correctable_load(guest)?;
    // One that an administrator has banned, and that must stay so: any that is not the NIC's.
    let irqs: BTreeSet<u32> = nic::queues(NIC)?.into_values().collect();
    let other = (1..irqs.first().copied().unwrap_or(1))
        .rev()
        .find(|irq| fs::metadata(format!("/proc/irq/{irq}/smp_affinity_list")).is_ok());
    let before: Vec<u32> = other.into_iter().collect();

    let irqbalance = Irqbalance::start(Socket::Path, 1, &before)?;
    let original = irqbalance.banned()?;
    guest.expect_equal("list at first", &original, &before.iter().copied().collect())?;
    without_consent(guest, &irqbalance, &original)?;
    let irqbalance = with_consent(guest, &load, irqbalance, &original, &irqs)?;
    drop(irqbalance);
    killed(guest, &load, &before, &irqs)?;
    restarted(guest, &before, &irqs)?;
    guest.expect_nothing_lost(load)
}

fn without_consent(guest: &Guest, irqbalance: &Irqbalance, original: &BTreeSet<u32>) -> Result<()> {
    let daemon = Daemon::start(guest, &[NIC])?;
    wait_for("the daemon's first write", PATIENCE, || Ok(fs::exists(JOURNAL)?))?;
    guest.await_windows(3)?;
    let journal = read(JOURNAL)?;
    guest.expect(
        "without consent no affinity is written",
        !journal.contains("irq-affinity"),
        &journal,
    )?;
    let neighbours = guest.neighbours()?;
    let named = neighbours.contains(&format!("irqbalance (process {})", irqbalance.pid()));
    let said = named && neighbours.contains("only tables are corrected");
    guest.expect("status says so", said, &neighbours)?;
    guest.expect_equal("list without consent", &irqbalance.banned()?, original)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run without consent", &ended.code, &exit::DONE)
}

fn with_consent(
    guest: &Guest,
    load: &Load,
    mut irqbalance: Irqbalance,
    original: &BTreeSet<u32>,
    irqs: &BTreeSet<u32>,
) -> Result<Irqbalance> {
    let daemon = Daemon::start(guest, &[NIC, "--config", CONFIG])?;
    until_aligned(guest, load, &daemon)?;
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    let union: BTreeSet<u32> = original.union(irqs).copied().collect();
    guest.expect_equal("list with consent", &irqbalance.banned()?, &union)?;
    let neighbours = guest.neighbours()?;
    guest.expect("status says so", neighbours.contains("as it was asked"), &neighbours)?;

    // Now it places anew whatever it may.
    irqbalance.rescan()?;
    let placed = affinities(irqs)?;
    for second in 1..=KEPT {
        let share = load.window(Duration::from_secs(1))?.share();
        ensure!(share >= ENOUGH, "{second} s after alignment the share is {share:.2}");
        let now = affinities(irqs)?;
        ensure!(now == placed, "{second} s after alignment IRQs are at {now:?}, were {placed:?}");
    }
    guest.say(format_args!("ok: for {KEPT} s aligned, IRQs at {placed:?}"));
    let status = guest.status(NIC, &[])?;
    guest.expect_equal("state", &status["state"].as_str(), &Some("steering"))?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_equal("list after SIGTERM", &irqbalance.banned()?, original)?;
    guest.expect("irqbalance is alive", irqbalance.is_alive()?, "it is not")?;
    Ok(irqbalance)
}

/// Killed, with an irqbalance that has no directory for its socket.
fn killed(guest: &Guest, load: &Load, before: &[u32], irqs: &BTreeSet<u32>) -> Result<()> {
    let mut irqbalance = Irqbalance::start(Socket::Abstract, 1, before)?;
    let original = irqbalance.banned()?;
    let daemon = Daemon::start(guest, &[NIC, "--config", CONFIG])?;
    until_aligned(guest, load, &daemon)?;
    daemon.kill()?;
    let banned = irqbalance.banned()?;
    guest.expect(
        "the list outlives the daemon",
        banned.is_superset(irqs),
        format!("{banned:?}"),
    )?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    guest.expect_equal("list after restore", &irqbalance.banned()?, &original)?;
    guest.expect("irqbalance is alive", irqbalance.is_alive()?, "it is not")?;
    guest.expect("the journal is gone", !fs::exists(JOURNAL)?, "it is not")
}

/// irqbalance is restarted under a running daemon, and has forgotten what it was asked.
fn restarted(guest: &Guest, before: &[u32], irqs: &BTreeSet<u32>) -> Result<()> {
    let first = Irqbalance::start(Socket::Path, 1, before)?;
    let daemon = Daemon::start(guest, &[NIC, "--config", CONFIG])?;
    // By then its periods run, which they do not while it loads its programs.
    wait_for("the daemon's status", PATIENCE, || {
        Ok(guest.neighbours()?.contains("as it was asked"))
    })?;
    guest.expect("the first one was asked", first.banned()?.is_superset(irqs), "it was not")?;
    drop(first);
    // Its first round is after its first interval.
    let second = Irqbalance::start(Socket::Path, 8, before)?;
    let took = wait_for("the ban after the restart", Duration::from_secs(8), || {
        Ok(second.banned()?.is_superset(irqs))
    })?;
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    guest.say(format_args!("ok: asked again {:.1} s after the restart", took.as_secs_f64()));
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    let original: BTreeSet<u32> = before.iter().copied().collect();
    guest.expect_equal("list of the second after SIGTERM", &second.banned()?, &original)
}

fn affinities(irqs: &BTreeSet<u32>) -> Result<Vec<String>> {
    irqs.iter().map(|irq| read(&format!("/proc/irq/{irq}/smp_affinity_list"))).collect()
}
