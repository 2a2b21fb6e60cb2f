//! A recording that is played to a screen: at its own pace, faster, slower, or not at all for a while.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::KeyCode;

use super::recorded::{Recorded, Window};

/// Longest that a key waits to be heeded.
const STEP: Duration = Duration::from_millis(50);
/// Speeds beyond these show nothing.
const SLOWEST: f64 = 1.0 / 16.0;
const FASTEST: f64 = 1024.0;
/// A recording whose machine was suspended must not wait as long here.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How it is played, which keys change under way.
#[derive(Debug)]
pub(super) struct Playback(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    speed: f64,
    paused: bool,
    at: Duration,
    /// There is nothing more to show.
    ended: bool,
    /// Nobody looks any more.
    closed: bool,
}

impl Playback {
    /// At this many times its own pace.
    pub(super) fn new(speed: f64) -> Self {
        let speed = speed.clamp(SLOWEST, FASTEST);
        let (paused, ended, closed) = (false, false, false);
        Self(Mutex::new(State { speed, paused, at: Duration::ZERO, ended, closed }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if `key` is one of its own.
    pub(super) fn key(&self, key: KeyCode) -> bool {
        let mut state = self.state();
        let by = match key {
            KeyCode::Char('p') => {
                state.paused = !state.paused;
                return true;
            }
            KeyCode::Char('+') => 2.0,
            KeyCode::Char('-') => 0.5,
            _ => return false,
        };
        state.speed = (state.speed * by).clamp(SLOWEST, FASTEST);
        true
    }

    /// Nobody looks any more: [`Playback::play`] returns.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    /// Where it is, in words.
    pub(super) fn describe(&self) -> String {
        let State { speed, paused, at, ended, .. } = *self.state();
        let how = match (ended, paused) {
            (true, _) => ", the end",
            (false, true) => ", paused",
            (false, false) => "",
        };
        format!("recording +{:.1} s, x{speed}{how} (p + -)", at.as_secs_f64())
    }

    /// Waits for as long as `time` takes at the speeds of the meantime.
    fn wait(&self, time: Duration) {
        let mut left = time.min(LONGEST_WAIT);
        while !left.is_zero() {
            let State { speed, paused, closed, .. } = *self.state();
            if closed {
                return;
            }
            if paused {
                thread::sleep(STEP);
                continue;
            }
            let step = STEP.min(left.div_f64(speed));
            thread::sleep(step);
            // Rounding must not leave a rest that is never waited for.
            left = left.saturating_sub(step.mul_f64(speed).max(Duration::from_micros(1)));
        }
    }

    /// Gives each window of the recording to `show` at its time, until it says no.
    pub(super) fn play(
        &self,
        path: &Path,
        mut show: impl FnMut(&Recorded, Window) -> bool,
    ) -> anyhow::Result<()> {
        let mut recorded = Recorded::open(path)?;
        let mut before = None;
        while let Some(window) = recorded.next_window()? {
            // The first is shown at once.
            let last = before.replace(window.at).unwrap_or(window.at);
            self.wait(window.at.saturating_sub(last));
            self.state().at = window.at;
            if self.state().closed || !show(&recorded, window) {
                return Ok(());
            }
        }
        self.state().ended = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_the_pace_within_bounds() {
        let playback = Playback::new(1.0);
        assert!(playback.key(KeyCode::Char('+')) && playback.key(KeyCode::Char('+')));
        assert_eq!(playback.describe(), "recording +0.0 s, x4 (p + -)");
        (0..40).for_each(|_| assert!(playback.key(KeyCode::Char('-'))));
        assert!((playback.state().speed - SLOWEST).abs() < 1e-12);
        (0..40).for_each(|_| assert!(playback.key(KeyCode::Char('+'))));
        assert!((playback.state().speed - FASTEST).abs() < 1e-9);
        assert!(playback.key(KeyCode::Char('p')));
        assert_eq!(playback.describe(), "recording +0.0 s, x1024, paused (p + -)");
        assert!(!playback.key(KeyCode::Char('q')));
    }

    #[test]
    fn a_pause_ends_when_nobody_looks() {
        let playback = Playback::new(1.0);
        assert!(playback.key(KeyCode::Char('p')));
        playback.close();
        // Otherwise this would not return.
        playback.wait(Duration::from_hours(1));
    }
}
