//! The figures of one policy under the scheduler model.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::simulate::scenario::Scheduler;
use crate::simulate::seen::Changes;

/// The end of a run that is shown by itself: whatever moves there moves for ever.
const LAST_S: u32 = 30;

/// What is done about table and interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerPolicy {
    /// Nothing.
    Static,
    /// The planner.
    Steer,
}

impl SchedulerPolicy {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Static, Self::Steer];

    /// Its name on screen and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Steer => "steer",
        }
    }
}

impl fmt::Display for SchedulerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for SchedulerPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Figures of one run, or means over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SchedulerFigures {
    /// Share of packets consumed on the CPU that received them.
    pub aligned: f64,
    /// Mean distance from there to the consumer, in transfers inside a last-level cache.
    pub distance_per_packet: f64,
    /// Table entries changed per second.
    pub moves_per_s: f64,
    /// Interrupts moved per minute.
    pub irq_moves_per_min: f64,
    /// Changes of CPU per second, all threads together.
    pub migrations_per_s: f64,
}

impl SchedulerFigures {
    /// Means over `runs`.
    #[must_use]
    pub fn mean(runs: &[Self]) -> Self {
        let mean =
            |of: fn(&Self) -> f64| runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64;
        Self {
            aligned: mean(|run| run.aligned),
            distance_per_packet: mean(|run| run.distance_per_packet),
            moves_per_s: mean(|run| run.moves_per_s),
            irq_moves_per_min: mean(|run| run.irq_moves_per_min),
            migrations_per_s: mean(|run| run.migrations_per_s),
        }
    }
}

/// One policy under the model.
#[derive(Clone, Debug)]
pub struct SchedulerRun {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// After the warm-up.
    pub figures: SchedulerFigures,
    /// Of the last 30 seconds.
    pub last: SchedulerFigures,
    /// Second by second, the warm-up included.
    pub timeline: Vec<SchedulerFigures>,
}

/// Sums of the second at hand, and the seconds before.
pub(super) struct Tally {
    warm_up_s: u32,
    packets: f64,
    aligned: f64,
    distance: f64,
    timeline: Vec<SchedulerFigures>,
}

impl Tally {
    pub(super) fn new(scheduler: &Scheduler) -> Self {
        Self {
            warm_up_s: scheduler.warm_up_s,
            packets: 0.0,
            aligned: 0.0,
            distance: 0.0,
            timeline: Vec::new(),
        }
    }

    pub(super) fn consume(&mut self, packets: f64, aligned: bool, distance: f64) {
        self.packets += packets;
        self.distance += packets * distance;
        if aligned {
            self.aligned += packets;
        }
    }

    /// Ends a second at the end of which `changes` were made.
    pub(super) fn second(&mut self, changes: Changes, migrations: u64) {
        let packets = self.packets.max(1e-9);
        self.timeline.push(SchedulerFigures {
            aligned: self.aligned / packets,
            distance_per_packet: self.distance / packets,
            moves_per_s: changes.entries as f64,
            irq_moves_per_min: 60.0 * changes.irqs as f64,
            migrations_per_s: migrations as f64,
        });
        (self.packets, self.aligned, self.distance) = (0.0, 0.0, 0.0);
    }

    pub(super) fn finish(self, policy: SchedulerPolicy) -> SchedulerRun {
        let from = |second: usize| self.timeline.get(second..).unwrap_or_default();
        let warm_up = usize::try_from(self.warm_up_s).unwrap_or(usize::MAX);
        let last = usize::try_from(LAST_S).unwrap_or(usize::MAX);
        SchedulerRun {
            policy,
            figures: SchedulerFigures::mean(from(warm_up)),
            last: SchedulerFigures::mean(from(self.timeline.len().saturating_sub(last))),
            timeline: self.timeline,
        }
    }
}
