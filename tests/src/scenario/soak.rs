//! A daemon that runs for long under a load that changes: memory and open files stay level, no
//! period is missed, no request is lost.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    guest::{Guest, NIC},
    host_pace::HostPace,
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

/// How long, and in what parts.
struct Length {
    whole: Duration,
    /// After this a daemon has all that it needs.
    warm: Duration,
    /// Time between two changes of the load.
    phase: Duration,
}

pub(super) fn short(guest: &Guest) -> Result<()> {
    let secs = Duration::from_secs;
    run(guest, &Length { whole: secs(72), warm: secs(36), phase: secs(12) })
}

pub(super) fn long(guest: &Guest) -> Result<()> {
    let mins = Duration::from_mins;
    run(guest, &Length { whole: mins(60), warm: mins(5), phase: mins(1) })
}

/// A period that is missed in a phase in which the host gives this machine less than such a part of what it
/// gave at its best is not steer's fault: the longest tick of an emulated machine, about a third of a
/// period, is longer than a period then.
const QUIET: f64 = 3.0;

/// What steer has done, and why, as far as it was told already.
#[derive(Default)]
struct History {
    last: Option<String>,
}

impl History {
    /// What came since.
    fn news(&mut self, guest: &Guest) -> Result<Vec<String>> {
        let status = guest.status(NIC, &[])?;
        let lines = status["history"].as_array().context("status has no history")?;
        let lines: Vec<String> =
            lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
        let known = lines.iter().rposition(|line| Some(line) == self.last.as_ref());
        self.last = lines.last().cloned();
        Ok(lines.into_iter().skip(known.map_or(0, |index| index + 1)).collect())
    }
}

/// What the process has.
#[derive(Clone, Copy, Debug)]
struct Weight {
    rss_kb: u64,
    files: usize,
}

fn run(guest: &Guest, length: &Length) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    let begun = Instant::now();
    let mut warm: Option<Weight> = None;
    let mut most = Weight { rss_kb: 0, files: 0 };
    let (mut sent, mut lost) = (0, 0);
    let host = HostPace::measure();
    // All, and those in phases in which the host was quiet.
    let (mut missed, mut missed_by_steer) = (0, 0);
    let mut phase = 0;
    let mut history = History::default();
    while begun.elapsed() < length.whole {
        let load = Load::start(guest, &spec(phase))?;
        let half = length.phase / 2;
        let first = load.window(half)?.share();
        // Somebody pins a worker anew in the middle of each phase.
        load.move_worker(phase % guest.cpus, (phase + 1) % guest.cpus)?;
        let second = load.window(half)?.share();
        let client = load.stop()?;
        sent += client.sent;
        lost += client.failed + (client.sent - client.answered);
        let weight = Weight::of(daemon.pid())?;
        let pace = guest.pace()?;
        for line in history.news(guest)? {
            guest.say(format_args!("   steer: {line}"));
        }
        let slowness = host.slowness();
        if slowness <= QUIET {
            missed_by_steer += pace.missed - missed;
        }
        missed = pace.missed;
        guest.say(format_args!(
            "   {:.0} s: {} flows, aligned {first:.2} then {second:.2}; {} kB, {} files; {} windows, \
             {} missed, longest {} ms; machine {slowness:.1} times slower",
            begun.elapsed().as_secs_f64(),
            spec(phase).flows,
            weight.rss_kb,
            weight.files,
            pace.windows,
            pace.missed,
            pace.longest.as_millis(),
        ));
        if warm.is_some() {
            most.rss_kb = most.rss_kb.max(weight.rss_kb);
            most.files = most.files.max(weight.files);
        } else if begun.elapsed() >= length.warm {
            warm = Some(weight);
        }
        phase += 1;
    }
    // Before anything is judged, so that all of it is known of a run that fails.
    guest.say(format_args!(
        "{sent} requests were sent, {lost} failed or lost; {missed} periods missed, {missed_by_steer} of \
         them on a quiet host"
    ));
    let warm = warm.context("the run was shorter than its warming up")?;
    let grown = most.rss_kb.saturating_sub(warm.rss_kb);
    guest.expect_within("kB that the memory grew once it was warm", &grown, ..1024)?;
    let opened = most.files.saturating_sub(warm.files);
    guest.expect_equal("files that it holds open more than then", &opened, &0)?;
    guest.expect_equal("periods missed on a quiet host", &missed_by_steer, &0)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_equal("requests failed or lost", &lost, &0)
}

/// The load of a phase: few flows and many, even and uneven, slow and fast in turn, so that flows
/// and rows of the daemon's maps come and go. Never so much that the emulation is the bottleneck.
fn spec(phase: usize) -> Spec {
    let flows = [16, 200, 64, 400, 8][phase % 5];
    let rate = [600, 900, 300][phase % 3];
    let skew = [0.0, 0.75][phase % 2];
    Spec { flows, rate, skew, ..Spec::default() }
}

impl Weight {
    /// Of the process, from `/proc/PID/status` and `/proc/PID/fd`.
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
        // What it holds, not what it reads just now: the least of some looks.
        let mut files = usize::MAX;
        for _ in 0..10 {
            files = files.min(fs::read_dir(format!("/proc/{pid}/fd"))?.count());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { rss_kb: kb.parse()?, files })
    }
}
