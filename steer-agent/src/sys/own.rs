//! What this process uses, from its own files in /proc (proc(5), `/proc/PID/stat`) and from its clock.

use std::time::{Duration, Instant};

use procfs::process::Process;

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// CPU time in user space and kernel, in seconds.
    pub cpu_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// What this process uses; `None` where /proc does not tell.
#[must_use]
pub fn usage() -> Option<Usage> {
    let stat = Process::myself().ok()?.stat().ok()?;
    let ticks = stat.utime.checked_add(stat.stime)?;
    let cpu_s = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    Some(Usage { cpu_s, resident_bytes: stat.rss.checked_mul(page)? })
}

/// What this process takes of a CPU from one look to the next.
#[derive(Debug)]
pub struct Meter {
    at: Instant,
    used: Option<Duration>,
}

impl Meter {
    /// Measures from now on.
    #[must_use]
    pub fn start() -> Self {
        Self { at: Instant::now(), used: cpu_time() }
    }

    /// Share of one CPU since the last look, where it can be told, and the seconds that have passed.
    pub fn take(&mut self) -> (Option<f64>, f64) {
        let now = Self::start();
        let passed_s = now.at.saturating_duration_since(self.at).as_secs_f64();
        let used = now.used.zip(self.used).map(|(now, then)| now.saturating_sub(then));
        *self = now;
        let share = used.filter(|_| passed_s > 0.0).map(|used| used.as_secs_f64() / passed_s);
        (share, passed_s)
    }
}

/// CPU time of this process (`clock_gettime`(2), `CLOCK_PROCESS_CPUTIME_ID`), finer than the ticks in
/// /proc.
fn cpu_time() -> Option<Duration> {
    rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = usage().expect("there is a /proc");
        assert!(usage.resident_bytes > 1 << 20 && usage.cpu_s >= 0.0, "{usage:?}");
    }

    #[test]
    fn work_is_measured() {
        let mut meter = Meter::start();
        let begun = cpu_time().expect("a clock");
        let mut sum = 0u64;
        // Until the clock of the process has moved on.
        while cpu_time().expect("a clock").saturating_sub(begun) < Duration::from_millis(2) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let (share, passed_s) = meter.take();
        assert!(share.is_some_and(|share| share > 0.0) && passed_s > 0.0, "{share:?} {passed_s}");
    }
}
