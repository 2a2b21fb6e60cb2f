//! What happens to a NIC in its life: each time steer goes on by itself, or stands down and says so.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::align::{alignable_load, correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, PATIENCE, ip, run as program, wait_for, write},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    let check = |event: &str, said: &str| recovers(guest, &load, &daemon, event, said);

    ip(&format!("link set {NIC} down"))?;
    heard(guest, &daemon, "the interface was set down")?;
    ip(&format!("link set {NIC} up"))?;
    check("link down and up", "the interface was set up")?;

    ip(&format!("link set {NIC} mtu 1400"))?;
    check("MTU", "the MTU was changed from 1500 to 1400")?;

    program("ethtool", &["-G", NIC, "rx", "512"])?;
    check("ring size", "its rings were resized")?;

    // A flap of the far end that is over before steer looks again.
    ip(&format!("link set {NIC} down"))?;
    ip(&format!("link set {NIC} up"))?;
    check("a flap within a period", "the carrier changed")?;

    let cpu = "/sys/devices/system/cpu/cpu3/online";
    write(cpu, "0")?;
    // Its worker now runs on one of the other three.
    check("CPU 3 offline", "CPUs [3] went offline")?;
    write(cpu, "1")?;
    check("CPU 3 online", "CPUs [3] came online")?;

    ip(&format!("link set {NIC} down"))?;
    ip(&format!("link set {NIC} name lan0"))?;
    ip("link set lan0 up")?;
    heard(guest, &daemon, "eth0 is called lan0 now")?;
    ip("link set lan0 down")?;
    ip(&format!("link set lan0 name {NIC}"))?;
    ip(&format!("link set {NIC} up"))?;
    check("rename and back", "lan0 is called eth0 now")?;

    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_nothing_lost(load)
}

/// The queues become more under a running daemon, and the device goes and comes back.
pub(super) fn anew(guest: &Guest) -> Result<()> {
    let queues = |number: &str| -> Result<()> {
        // A table that a user has set bars fewer queues than it names.
        program("ethtool", &["-X", NIC, "default"])?;
        program("ethtool", &["-L", NIC, "combined", number])?;
        guest.spread()
    };
    // Four queues can align all of it, which is asked for below; with two there is something to do.
    queues("2")?;
    let spec = Spec { apart: true, ..Spec::default() };
    let load = Load::start_until(guest, &spec, Load::is_mismatched)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    wait_for("a first correction", PATIENCE, || {
        Ok(guest.status(NIC, &[])?["planner"]["plans"].as_u64().unwrap_or(0) > 0)
    })?;
    program("ethtool", &["-L", NIC, "combined", "4"])?;
    recovers(guest, &load, &daemon, "4 queues instead of 2", "it has 4 RX queues instead of 2")?;
    // The clients would wait for a host that has lost its address.
    load.stop()?;

    let unbound = guest.unbind()?;
    heard(guest, &daemon, "eth0 is gone")?;
    unbound.bind()?;
    heard(guest, &daemon, "eth0 is back")?;
    guest.spread()?;
    let load = alignable_load(guest)?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_nothing_lost(load)
}

/// A proxy is reloaded: new workers take over while the old ones answer what they have, three times. They do so
/// at any moment, also while the latest write is still to be judged.
pub(super) fn reload(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let mut old = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &old, &daemon)?;
    for generation in 1..=3_u16 {
        let mut workers: Vec<usize> = (0..guest.cpus).collect();
        workers.rotate_left(usize::from(generation));
        let spec = Spec {
            name: format!("lab{generation}"),
            port: 9000 + generation,
            workers,
            ..Spec::default()
        };
        let new = Load::start(guest, &spec)?;
        guest.expect_nothing_lost(std::mem::replace(&mut old, new))?;
        let first = old.window(Duration::from_secs(3))?.share();
        let followed = follows(guest, &old, generation, first);
        if followed.is_err() {
            for line in daemon.said() {
                guest.say(format_args!("steer: {line}"));
            }
        }
        followed?;
    }
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(old)
}

/// The workers' connections come to be aligned as far as a table can align them, but for a tenth.
fn follows(guest: &Guest, load: &Load, generation: u16, first: f64) -> Result<()> {
    let mut shares = vec![format!("{first:.2}")];
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let share = load.window(Duration::from_secs(1))?.share();
        shares.push(format!("{share:.2}"));
        let status = guest.status(NIC, &[])?;
        let achievable = status["alignment"]["achievable"].as_f64();
        if achievable.is_some_and(|most| most > 0.5 && share >= most - 0.1) {
            let shares = shares.join(" ");
            guest.say(format_args!("ok: reload {generation}: {shares} of {achievable:?}"));
            return Ok(());
        }
    }
    bail!("reload {generation} is not followed: {}", shares.join(" "))
}

/// steer says what happened, and the load is aligned again.
fn recovers(guest: &Guest, load: &Load, daemon: &Daemon, event: &str, said: &str) -> Result<()> {
    heard(guest, daemon, said)?;
    let begun = Instant::now();
    let mut shares = Vec::new();
    while begun.elapsed() < PATIENCE {
        let share = load.window(Duration::from_secs(1))?.share();
        shares.push(format!("{share:.2}"));
        if share >= 0.85 {
            guest.say(format_args!("ok: {event}: aligned again: {}", shares.join(" ")));
            return Ok(());
        }
    }
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    bail!("{event}: not aligned again: {}", shares.join(" "))
}

/// Waits until the daemon has said so.
pub(super) fn heard(guest: &Guest, daemon: &Daemon, words: &str) -> Result<()> {
    let mut lines = Vec::new();
    let waited = wait_for(words, PATIENCE, || {
        lines.extend(daemon.said());
        Ok(lines.iter().any(|line| line.contains(words)))
    });
    if waited.is_err() {
        for line in &lines {
            guest.say(format_args!("steer: {line}"));
        }
    }
    waited.map(drop)
}
