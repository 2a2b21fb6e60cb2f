//! Where a thread wakes, by the rules of the kernel's fair scheduler (`wake_affine_idle`,
//! `wake_affine_weight` and `select_idle_sibling` in Linux 6.12), as far as they matter here.

/// The CPUs in one tick.
pub(super) struct Cpus<'a> {
    /// Last-level cache of each.
    caches: &'a [usize],
    /// Whether ksoftirqd runs.
    ksoftirqd: Vec<bool>,
    /// Threads that woke there in this tick.
    running: Vec<usize>,
}

impl<'a> Cpus<'a> {
    pub(super) fn new(caches: &'a [usize], ksoftirqd: Vec<bool>) -> Self {
        Self { caches, running: vec![0; ksoftirqd.len()], ksoftirqd }
    }

    fn is_idle(&self, cpu: usize) -> bool {
        self.running[cpu] == 0 && !self.ksoftirqd[cpu]
    }

    fn queued(&self, cpu: usize) -> usize {
        self.running[cpu] + usize::from(self.ksoftirqd[cpu])
    }

    fn share_cache(&self, one: usize, other: usize) -> bool {
        self.caches[one] == self.caches[other]
    }

    /// Wakes a thread that last ran on `previous`, from the softirq on `waking`; where it runs now.
    pub(super) fn wake(&mut self, waking: usize, previous: usize) -> usize {
        let target = self.affine(waking, previous);
        let cpu = self.idle_sibling(target, previous);
        self.running[cpu] += 1;
        cpu
    }

    /// Between the waking CPU and the previous one.
    fn affine(&self, waking: usize, previous: usize) -> usize {
        if self.is_idle(waking) && self.share_cache(waking, previous) {
            return if self.is_idle(previous) { previous } else { waking };
        }
        if self.is_idle(previous) || self.queued(waking) >= self.queued(previous) {
            return previous;
        }
        waking
    }

    /// Near `target`: itself, the previous CPU, or any idle one under the same cache.
    fn idle_sibling(&self, target: usize, previous: usize) -> usize {
        if self.is_idle(target) {
            return target;
        }
        if self.share_cache(previous, target) && self.is_idle(previous) {
            return previous;
        }
        let count = self.caches.len();
        let around = (1..count).map(|step| (target + step) % count);
        let mut idle = around.filter(|cpu| self.share_cache(*cpu, target) && self.is_idle(*cpu));
        idle.next().unwrap_or(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHES: [usize; 4] = [0, 0, 1, 1];

    fn cpus(ksoftirqd: [bool; 4]) -> Cpus<'static> {
        Cpus::new(&CACHES, ksoftirqd.to_vec())
    }

    #[test]
    fn a_thread_stays_where_its_cpu_is_idle() {
        for waking in 0..4 {
            assert_eq!(cpus([false; 4]).wake(waking, 1), 1);
        }
    }

    #[test]
    fn softirq_pulls_within_the_cache_only_and_only_from_a_busy_cpu() {
        let mut near = cpus([false, true, false, false]);
        assert_eq!(near.wake(0, 1), 0);
        // From the other cache nothing pulls while loads are equal; the sibling of 1 is idle.
        let mut far = cpus([false, true, true, false]);
        assert_eq!(far.wake(2, 1), 0);
    }

    #[test]
    fn ksoftirqd_drives_an_aligned_thread_away() {
        assert_eq!(cpus([true, false, false, false]).wake(0, 0), 1);
    }

    #[test]
    fn without_an_idle_cpu_it_waits() {
        let mut full = cpus([true; 4]);
        assert_eq!(full.wake(0, 1), 1);
        assert_eq!(full.wake(1, 1), 1);
    }
}
