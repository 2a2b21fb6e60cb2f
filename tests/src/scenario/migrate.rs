//! A worker that changes CPU every 20 seconds: steer follows, and moves no more than it must.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::align::{correctable_on, until_aligned};
use crate::{
    guest::{Guest, NIC},
    load::Spec,
    nic::State,
    steer::{Daemon, exit},
};

/// Time between two migrations.
const CALM: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_secs(1);
/// Periods that steer has to be back, and the alignment that counts as back.
const PERIODS: u64 = 4;
const BACK: f64 = 0.85;
/// (worker, CPU): always to the one that has no worker.
const MIGRATIONS: [(usize, usize); 3] = [(2, 3), (0, 2), (1, 0)];

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    // 64 flows, the first 23 times as fast as the last, on three workers of four CPUs.
    let spec = Spec { flows: 64, skew: 0.75, workers: vec![0, 1, 2], ..Spec::default() };
    let load = correctable_on(guest, &[NIC], &spec, 0.92)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    let mut before = planner(guest)?;
    for (worker, cpu) in MIGRATIONS {
        let windows = guest.pace()?.windows;
        load.move_worker(worker, cpu)?;
        let moved = Instant::now();
        let mut shares = Vec::new();
        let mut back = false;
        // The worker moves somewhere within a period of steer's, whose windows are not these.
        while !back && guest.pace()?.windows <= windows + PERIODS {
            let share = load.window(PERIOD)?.share();
            shares.push(format!("{share:.2}"));
            back = share >= BACK;
        }
        let what = format!("worker {worker} moved to CPU {cpu}; back above {BACK}");
        let shares = shares.join(" ");
        guest.expect(&what, back, &shares)?;
        guest.say(format_args!("   second by second: {shares}"));
        thread::sleep(CALM.saturating_sub(moved.elapsed()));
        let share = load.window(PERIOD)?.share();
        guest.expect_within("aligned before the next migration", &share, BACK..)?;
        let after = planner(guest)?;
        let count = |name: &str| -> Result<f64> {
            Ok(after[name].as_f64().context("a count")? - before[name].as_f64().unwrap_or(0.0))
        };
        let (writes, buckets, irqs) =
            (count("writes")?, count("buckets_moved")?, count("irqs_moved")?);
        let load_moved: f64 = count("load_moved")?;
        guest.say(format_args!(
            "   for it: {writes} writes, {irqs} interrupts, {buckets} buckets with {:.1} % of the load; trust {}",
            100.0 * load_moved,
            after["trust"]
        ));
        // What a worker has is a third of all; following it must not turn everything over.
        guest.expect_within("share of the load that changed queue", &load_moved, ..0.5)?;
        before = after;
    }
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(load)
}

/// What the daemon says of its planner.
fn planner(guest: &Guest) -> Result<Value> {
    let status = guest.status(NIC, &[])?;
    Ok(status["planner"].clone())
}
