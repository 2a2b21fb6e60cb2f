//! How fast the host lets this machine run.
//!
//! A busy host gives an emulated CPU a part of one, and nothing in the machine tells: what takes a
//! millisecond takes five. So the same piece of work is done again and again, and the CPU time that it
//! takes by the machine's own clock is compared with the least that it ever took. Threads of this
//! machine that come in between do not count, for they have a CPU time of their own.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Rounds of the work, which take some milliseconds on an emulated CPU.
const ROUNDS: u64 = 100_000;
/// Between two pieces of work.
const PAUSE: Duration = Duration::from_millis(200);

/// Does the work in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct HostPace {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Least CPU time that the work ever took.
    least_ns: AtomicU64,
    /// CPU time that it took since somebody asked, and how often it was done.
    taken_ns: AtomicU64,
    done: AtomicU64,
    over: AtomicBool,
}

impl HostPace {
    /// Begins to measure.
    #[must_use]
    pub fn measure() -> Self {
        let shared = Arc::new(Shared {
            least_ns: AtomicU64::new(u64::MAX),
            taken_ns: AtomicU64::new(0),
            done: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !own.over.load(Ordering::Relaxed) {
                let took_ns = work();
                own.least_ns.fetch_min(took_ns, Ordering::Relaxed);
                own.taken_ns.fetch_add(took_ns, Ordering::Relaxed);
                own.done.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many times slower than at its fastest the machine was, in the mean since this was last asked.
    /// In the mean, for its CPUs share those of the host among themselves: a piece of work that waits for
    /// its turn once takes ten times as long on the quietest host.
    #[must_use]
    pub fn slowness(&self) -> f64 {
        let taken_ns = self.shared.taken_ns.swap(0, Ordering::Relaxed);
        let done = self.shared.done.swap(0, Ordering::Relaxed);
        let least_ns = self.shared.least_ns.load(Ordering::Relaxed);
        taken_ns as f64 / done.max(1) as f64 / least_ns.max(1) as f64
    }
}

impl Drop for HostPace {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does the work and returns the CPU time that it took, in nanoseconds.
fn work() -> u64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap_or_default()
    };
    let begun = now();
    let mut state = black_box(1_u64);
    for round in 0..ROUNDS {
        // splitmix64: nothing that a compiler can foresee.
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(round);
    }
    black_box(state);
    u64::try_from(now().saturating_sub(begun).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_no_faster_than_the_fastest() {
        let pace = HostPace::measure();
        while pace.shared.done.load(Ordering::Relaxed) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(pace.slowness() >= 1.0);
    }
}
