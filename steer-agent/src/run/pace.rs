//! Whether the loop keeps its period. Pure: the times are given.

use std::time::{Duration, Instant};

use crate::report::Pace;

/// Counts windows against the clock.
#[derive(Debug)]
pub(super) struct Pacer {
    period: Duration,
    last: Instant,
    pace: Pace,
}

impl Pacer {
    /// The first window begins at `now`.
    pub(super) fn new(period: Duration, now: Instant) -> Self {
        Self { period, last: now, pace: Pace::default() }
    }

    /// The period is another one from `now` on.
    pub(super) fn change(&mut self, period: Duration, now: Instant) {
        self.period = period;
        self.last = now;
    }

    /// A window's work begins. One that begins half a period late or less is not missed.
    pub(super) fn begin(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.last).as_nanos();
        let period = self.period.as_nanos().max(1);
        let periods = u64::try_from((passed + period / 2) / period).unwrap_or(u64::MAX);
        self.pace.missed += periods.saturating_sub(1);
        self.pace.windows += 1;
        self.last = now;
    }

    /// The work that began last ends. Returns the pace so far.
    pub(super) fn end(&mut self, now: Instant) -> Pace {
        let took = now.saturating_duration_since(self.last).as_micros();
        self.pace.tick_us = u64::try_from(took).unwrap_or(u64::MAX);
        self.pace.tick_max_us = self.pace.tick_max_us.max(self.pace.tick_us);
        self.pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_late_window_is_not_missed_and_one_that_never_came_is() {
        let start = Instant::now();
        let mut pacer = Pacer::new(ms(1000), start);
        pacer.begin(start + ms(1000));
        assert_eq!(
            pacer.end(start + ms(1003)),
            Pace { windows: 1, missed: 0, tick_us: 3000, tick_max_us: 3000 }
        );
        // 1,400 ms after the one before: late.
        pacer.begin(start + ms(2400));
        assert_eq!(pacer.end(start + ms(2401)).missed, 0);
        // 2,600 ms after the one before: rounds to three periods, of which two had no window.
        pacer.begin(start + ms(5000));
        assert_eq!(
            pacer.end(start + ms(5001)),
            Pace { windows: 3, missed: 2, tick_us: 1000, tick_max_us: 3000 }
        );
        // A new period counts from when it began.
        pacer.change(ms(200), start + ms(6000));
        pacer.begin(start + ms(6200));
        assert_eq!(pacer.end(start + ms(6200)).missed, 2);
    }
}
