//! Connections to backends leave from ports whose replies come to the CPU that connects.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    guest::{Guest, NIC},
    load::connects::{Connects, Stats},
    nic::State,
    steer::{Daemon, exit},
};

const WINDOW: Duration = Duration::from_secs(5);
const ENOUGH: f64 = 0.90;
const CGROUP: &str = "/sys/fs/cgroup/balancer";
/// Connections of the long form.
const MANY: u64 = 100_000;

pub(super) fn short(guest: &Guest) -> Result<()> {
    run(guest, 0)
}

pub(super) fn long(guest: &Guest) -> Result<()> {
    run(guest, MANY)
}

/// On a kernel that is too old for it: that is said, and everything else goes on.
pub(super) fn refused(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    fs::create_dir_all(CGROUP).context(CGROUP)?;
    let load = Connects::start(guest, Path::new(CGROUP))?;
    let daemon = Daemon::start(guest, &[NIC, "--connect", CGROUP])?;
    let said = daemon.said();
    for line in &said {
        guest.say(format_args!("steer: {line}"));
    }
    let why =
        said.iter().any(|line| line.contains("connects are left alone") && line.contains("5.14"));
    guest.expect("why connects are left alone is said", why, said.join("; "))?;
    guest.expect_within("aligned share", &load.window(WINDOW)?.share(), ..0.5)?;
    let status = guest.status(NIC, &[])?;
    guest.expect_equal("status goes on", &status["name"].as_str(), &Some(NIC))?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    nothing_failed(guest, &load.stop()?)
}

fn run(guest: &Guest, connections: u64) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    fs::create_dir_all(CGROUP).context(CGROUP)?;
    let load = Connects::start(guest, Path::new(CGROUP))?;
    let before = load.window(WINDOW)?;
    guest.say(format_args!("without steer: {before:?}"));
    guest.expect_within("aligned share before", &before.share(), 0.10..0.45)?;

    let daemon = Daemon::start(guest, &[NIC, "--connect", CGROUP])?;
    until_aligned(guest, &load, &daemon)?;
    let steered = load.window(WINDOW)?;
    guest.say(format_args!("with connect steering: {steered:?}"));
    guest.expect_within("aligned share after", &steered.share(), ENOUGH..)?;
    while load.stats()?.connections < connections {
        thread::sleep(Duration::from_secs(1));
    }
    let status = status(guest)?;
    guest.say(format_args!("status: {status}"));
    guest.expect_equal("state", &status["state"], &Value::from("steering"))?;
    let figure = |name: &str| status[name].as_f64().with_context(|| format!("no {name}"));
    guest.expect_within("hit rate", &figure("hit_rate")?, 0.99..)?;
    guest.expect_within("replies looked up", &figure("predicted")?, 32.0..)?;
    guest.expect_within("achievable without", &figure("achievable_without")?, 0.2..0.3)?;
    guest.expect_within("achievable with", &figure("achievable_with")?, 0.99..)?;
    nothing_failed(guest, &load.stats()?)?;

    // Killed, it leaves nothing: connections are made as ever, from the next one on.
    daemon.kill()?;
    let killed = load.window(WINDOW)?;
    guest.say(format_args!("after kill -9: {killed:?}"));
    guest.expect_within("aligned share after a kill", &killed.share(), ..0.5)?;
    nothing_failed(guest, &load.stats()?)?;

    // Another one takes over, is told a process instead of its cgroup, and ends in order.
    let process = format!("pid:{}", load.pid());
    let daemon = Daemon::start(guest, &[NIC, "--connect", &process])?;
    until_aligned(guest, &load, &daemon)?;
    guest.expect_equal("its cgroup", &self::status(guest)?["cgroup"], &Value::from(CGROUP))?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    let _ = guest.steer(&["restore", NIC])?;
    guest.expect_state("after SIGTERM", &original)?;
    let total = load.stop()?;
    guest.say(format_args!("in all: {total:?}"));
    nothing_failed(guest, &total)
}

fn status(guest: &Guest) -> Result<Value> {
    let text = guest.steer_expecting(exit::DONE, &["status", NIC, "--json"])?;
    let document: Value = serde_json::from_str(&text)?;
    Ok(document["connects"][0].clone())
}

fn nothing_failed(guest: &Guest, stats: &Stats) -> Result<()> {
    guest.expect_equal("connections without a port", &stats.no_port, &0)?;
    guest.expect_equal("connections that failed", &stats.failed, &0)
}

fn until_aligned(guest: &Guest, load: &Connects, daemon: &Daemon) -> Result<()> {
    let mut shares = Vec::new();
    for second in 1..=40 {
        let share = load.window(Duration::from_secs(1))?.share();
        shares.push(format!("{share:.2}"));
        if share >= ENOUGH {
            guest.say(format_args!("ok: aligned after {second} s: {}", shares.join(" ")));
            for line in daemon.said() {
                guest.say(format_args!("steer: {line}"));
            }
            return Ok(());
        }
    }
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    guest.say(status(guest)?);
    bail!("not aligned within 40 s: {}", shares.join(" "))
}
