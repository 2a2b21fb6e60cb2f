//! What happens to a NIC in its life: each time steer goes on by itself, or stands down and says so.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, ip, run as program, wait_for, write},
    load::Load,
    steer::{Daemon, exit},
};

/// Longer than a link takes to come up, a driver to start, and steer to observe, plan and settle.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    let check = |event: &str, said: &str| recovers(guest, &load, &daemon, event, said);

    ip(&format!("link set {NIC} down"))?;
    thread::sleep(Duration::from_millis(1500));
    ip(&format!("link set {NIC} up"))?;
    check("link down and up", "the interface was set down")?;

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
    program("ethtool", &["-L", NIC, "combined", "2"])?;
    guest.spread()?;
    let load = Load::start_until(guest, &crate::load::Spec::default(), Load::is_mismatched)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    wait_for("a first correction", PATIENCE, || {
        Ok(guest.status(NIC, &[])?["planner"]["plans"].as_u64().unwrap_or(0) > 0)
    })?;
    program("ethtool", &["-L", NIC, "combined", "4"])?;
    recovers(guest, &load, &daemon, "4 queues instead of 2", "it has 4 RX queues instead of 2")?;
    // The clients would wait for a host that has lost its address.
    load.stop()?;

    let device = fs::canonicalize(format!("/sys/class/net/{NIC}/device"))?;
    let bus = device.file_name().context("a bus address")?.to_string_lossy().into_owned();
    let driver = fs::canonicalize(device.join("driver"))?;
    let driver = driver.to_str().context("a path")?;
    write(&format!("{driver}/unbind"), &bus)?;
    heard(guest, &daemon, "eth0 is gone")?;
    write(&format!("{driver}/bind"), &bus)?;
    // The kernel may have given it another name on the way.
    for entry in fs::read_dir(device.join("net"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != NIC {
            ip(&format!("link set {name} name {NIC}"))?;
        }
    }
    ip(&format!("address add 10.9.0.1/24 dev {NIC}"))?;
    ip(&format!("link set {NIC} up"))?;
    heard(guest, &daemon, "eth0 is back")?;
    guest.spread()?;
    let load = correctable_load(guest)?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_nothing_lost(load)
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
fn heard(guest: &Guest, daemon: &Daemon, words: &str) -> Result<()> {
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
