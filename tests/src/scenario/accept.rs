//! Accept steering: a connection for each request, four workers with a listener each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    guest::{Guest, NIC, run as command},
    load::{Load, Spec, server::Assign},
    nic::State,
    steer::{Daemon, exit},
};

const WINDOW: Duration = Duration::from_secs(4);
/// Windows of a second within which connections must be aligned.
const WINDOWS: usize = 20;
/// What a window must come to, to count.
const ENOUGH_RECEIVED: u64 = 16;
/// Longest that is waited for such windows.
const PATIENCE: Duration = Duration::from_secs(90);
/// The load's port.
const PORT: &str = "9000";
/// What is promised, on the CPU of the softirq.
const ENOUGH: f64 = 0.95;
/// Most that a worker may have, as a multiple of its even share.
const MOST: f64 = 1.5;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let spec =
        Spec { flows: 64, rate: 1000, assign: Assign::Reuseport, short: true, ..Spec::default() };
    let load = Load::start(guest, &spec)?;
    let by_hash = load.window(WINDOW)?.share();
    guest.expect_within("aligned share by the kernel's hash", &by_hash, 0.10..0.45)?;

    let daemon = Daemon::start(guest, &[NIC, "--accept", PORT])?;
    until_aligned(guest, &load, &daemon)?;
    guest.expect_within("aligned share, steered", &load.window(WINDOW)?.share(), ENOUGH..)?;
    let listener = busy_listener(guest)?;
    guest.say(format_args!("{listener:#}"));
    guest.expect_equal("mechanism", &listener["mechanism"].as_str(), &Some("sk-lookup"))?;
    guest.expect_equal("sockets", &listener["sockets"].as_u64(), &Some(guest.cpus as u64))?;
    let told = listener["aligned"].as_f64().context("no share is told")?;
    guest.expect_within("aligned share by steer's own count", &told, ENOUGH..)?;
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }

    // With the process the lookup is gone, and the kernel's hash is back; nobody is refused.
    daemon.kill()?;
    let after = load.window(WINDOW)?.share();
    guest.expect_within("aligned share after the daemon was killed", &after, 0.10..0.50)?;
    let restored = guest.steer(&["restore", NIC])?;
    // Where table and interrupts were right as they were, steer had nothing to write.
    let is_back = [exit::DONE, exit::NOT_MET].contains(&restored.code);
    guest.expect("everything is restored", is_back, restored.stderr)?;
    guest.expect_state("after restore", &original)?;
    let daemon = Daemon::start(guest, &[NIC, "--accept", PORT])?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    hot_queue(guest, &load, &original)?;

    let client = load.stop()?;
    guest.say(format_args!("{} connections were made", client.sent));
    guest.expect_equal("connections refused, or without answer", &client.failed, &0)?;
    guest.expect_equal("requests without answer", &(client.sent - client.answered), &0)
}

/// Most of the traffic comes to one queue, as from one client behind a hash over addresses.
fn hot_queue(guest: &Guest, load: &Load, original: &State) -> Result<()> {
    let daemon = Daemon::start(guest, &[NIC, "--accept", PORT])?;
    until_aligned(guest, load, &daemon)?;
    let mut weights = vec!["-X", NIC, "weight", "12"];
    weights.extend(std::iter::repeat_n("1", guest.cpus - 1));
    command("ethtool", &weights)?;
    std::thread::sleep(Duration::from_secs(2));
    let most = most_of_a_worker(load, 3 * WINDOW)?;
    guest.expect_within("the busiest worker's multiple of its even share", &most, ..MOST)?;
    // Whether the table is steer's or somebody else's by now depends on whether steer had set it before,
    // and on whether it has set it since: either way it is not steer that must keep it.
    daemon.terminate()?;
    guest.steer(&["restore", NIC, "--force"])?;
    guest.spread()?;
    guest.expect_state("after restore --force, and the table as it was", original)
}

/// What status says of the listener.
fn listener(guest: &Guest) -> Result<Value> {
    let text = guest.steer_expecting(exit::DONE, &["status", NIC, "--json"])?;
    let document: Value = serde_json::from_str(&text)?;
    let listeners = document["listeners"].as_array().context("status has no listeners")?;
    listeners.first().cloned().context("status knows no listener")
}

/// The same for a window in which anything was consumed: an emulated machine on a busy host may come to
/// nothing in a second.
fn busy_listener(guest: &Guest) -> Result<Value> {
    let mut told = Value::Null;
    for _ in 0..20 {
        told = listener(guest)?;
        if told["aligned"].is_number() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(told)
}

/// Waits until connections are aligned. Windows count in which the service came to something: an emulated
/// machine on a busy host stands still now and then, and learning takes connections, not seconds.
fn until_aligned(guest: &Guest, load: &Load, daemon: &Daemon) -> Result<()> {
    let start = Instant::now();
    let mut shares = Vec::new();
    while shares.len() < WINDOWS && start.elapsed() < PATIENCE {
        let window = load.window(Duration::from_secs(1))?;
        if window.received < ENOUGH_RECEIVED {
            continue;
        }
        let share = window.share();
        shares.push(format!("{share:.2}"));
        if share >= ENOUGH {
            let seconds = start.elapsed().as_secs();
            guest.say(format_args!("ok: aligned after {seconds} s: {}", shares.join(" ")));
            return Ok(());
        }
    }
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    guest.say(format_args!("{:#}", listener(guest)?));
    let seconds = start.elapsed().as_secs();
    bail!("not aligned within {seconds} s: {}", shares.join(" "))
}

/// What the busiest worker serves, as a multiple of its even share.
fn most_of_a_worker(load: &Load, length: Duration) -> Result<f64> {
    let before = load.server()?;
    std::thread::sleep(length);
    let after = load.server()?;
    let served: Vec<f64> = before
        .workers
        .iter()
        .zip(&after.workers)
        .map(|(before, after)| (after.received - before.received) as f64)
        .collect();
    let total: f64 = served.iter().sum();
    let most = served.iter().copied().fold(0.0, f64::max);
    Ok(most * served.len() as f64 / total)
}
