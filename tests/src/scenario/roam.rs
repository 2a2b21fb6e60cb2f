//! Workers that nobody pinned: the scheduler moves them, steer may not chase them for ever.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{
    guest::{Guest, NIC},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

const SHORT: Duration = Duration::from_mins(1);
const LONG: Duration = Duration::from_mins(10);
/// Time over which moves are counted together.
const SPAN: Duration = Duration::from_secs(20);

pub(super) fn short(guest: &Guest) -> Result<()> {
    run(guest, SHORT)
}

pub(super) fn long(guest: &Guest) -> Result<()> {
    run(guest, LONG)
}

fn run(guest: &Guest, length: Duration) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let spec = Spec { flows: 64, roam: true, ..Spec::default() };
    let load = Load::start(guest, &spec)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    let begun = Instant::now();
    let mut before = 0.0;
    let mut spans = Vec::new();
    while begun.elapsed() < length {
        let share = load.window(SPAN)?.share();
        let planner = guest.status(NIC, &[])?["planner"].clone();
        let count = |name: &str| planner[name].as_f64().context("a count");
        let moves = count("buckets_moved")? + count("irqs_moved")?;
        let residency = planner["residency"].as_f64().unwrap_or(0.0);
        guest.say(format_args!(
            "   {:.0} s: {} moves, aligned {share:.2}, trust {:.2}, residency {residency:.2}{}",
            begun.elapsed().as_secs_f64(),
            moves - before,
            count("trust")?,
            if planner["braking"] == true { ", braking" } else { "" }
        ));
        spans.push(moves - before);
        before = moves;
    }
    let last: f64 = spans.iter().rev().take(spans.len() / 3).sum();
    let per_min = last / (SPAN.as_secs_f64() * (spans.len() / 3) as f64) * 60.0;
    guest.expect_within("moves per minute in the last third", &per_min, ..MOST_PER_MIN)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(load)
}

/// Out of up to 4 interrupts and 4 buckets a second, 480 a minute, that the limits would allow.
const MOST_PER_MIN: f64 = 6.0;
