//! Reloads under load: new workers with new sockets, and nothing lost but what is lost anyway.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    ONE_REQUEST,
    contender::Contender,
    contest::{CLIENT_ENOUGH, Contest},
};
use crate::{guest::Guest, proxy::Program};

const MANY: u32 = 40;
/// As many as show the way of it: each is learned anew, and leaves nothing of the one before.
const FEW: u32 = 3;
/// From the first request to new workers.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// Without new workers for so long, a reload is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// For a reload to be carried out, on an emulated machine beside a load at its limit.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn haproxy(guest: &Guest) -> Result<()> {
    reloads(guest, Program::Haproxy, MANY)
}

pub(crate) fn nginx(guest: &Guest) -> Result<()> {
    reloads(guest, Program::Nginx, MANY)
}

/// Both, in short.
pub(crate) fn few(guest: &Guest) -> Result<()> {
    reloads(guest, Program::Haproxy, FEW)?;
    reloads(guest, Program::Nginx, FEW)
}

fn reloads(guest: &Guest, program: Program, count: u32) -> Result<()> {
    let contest = Contest::prepare(guest, program, false)?;
    let without = under(&contest, Contender::Default, count)?;
    let with = under(&contest, Contender::Steer, count)?;
    let name = program.name();
    let what = format!("requests lost in {count} reloads of {name}, and without steer {without}");
    guest.expect_within(&what, &with, ..=without)
}

/// Reloads under load, and returns how many requests failed.
fn under(contest: &Contest, contender: Contender, count: u32) -> Result<u64> {
    let guest = contest.guest;
    // Its first process reads the configuration, and would do so on the far end's CPU, whose program started it.
    contest.layout.take_part(contest.proxy.pid())?;
    let wrk = contest.load(&ONE_REQUEST)?;
    let active = contender.start(guest, &contest.layout)?;
    let steered = contender == Contender::Steer;
    if steered {
        ensure!(contest.await_alignment()?, "not aligned before the first reload");
    }
    let mut slowest = Duration::ZERO;
    for reload in 1..=count {
        let workers = contest.proxy.workers()?;
        contest.proxy.reload()?;
        let start = Instant::now();
        let mut asked = start;
        while contest.proxy.workers()?.is_subset(&workers) {
            ensure!(start.elapsed() < PATIENCE, "reload {reload} was not carried out");
            thread::sleep(Duration::from_millis(20));
            // A master that is still coming up from the reload before may miss the signal.
            if asked.elapsed() > ASK_AGAIN {
                contest.proxy.reload()?;
                asked = Instant::now();
            }
        }
        let replaced = Instant::now();
        let mut shares = Vec::new();
        loop {
            let share = contest.window(Duration::from_millis(500))?.client_hard;
            shares.push(format!("{share:.2}"));
            if !steered || share >= CLIENT_ENOUGH {
                break;
            }
            let late = replaced.elapsed() > BACK_WITHIN + Duration::from_millis(500);
            ensure!(!late, "reload {reload}: aligned {}", shares.join(" "));
        }
        slowest = slowest.max(replaced.elapsed());
    }
    let name = contender.name();
    if steered {
        let within = slowest.as_secs_f64();
        guest.say(format_args!("ok: aligned again within {within:.1} s of each reload"));
    }
    let clients = wrk.stop()?;
    guest.say(format_args!("{name}: {} requests, {} failed", clients.answered, clients.failed));
    active.stop(guest)?;
    contest.settings.restore(guest)?;
    Ok(clients.failed)
}
