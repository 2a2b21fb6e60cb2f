//! The planner's part of the status document: what it promised, what came true, what was written.

use serde::{Deserialize, Serialize};

use crate::plan::{Change, Experience, Plan, Target};

/// How far the daemon's plans come true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannerReport {
    /// Aligned share that the last plan that was written expected, fitted to the traffic of then.
    pub predicted: Option<f64>,
    /// Aligned share that was measured in the first whole window after it.
    pub realised: Option<f64>,
    /// Share of what plans promised that came true on the traffic that followed, smoothed: 1 where
    /// all did. Moves cost as much more as this is below 1.
    pub trust: f64,
    /// Share of a flow's consumption on the CPU that consumes most of it, smoothed; null without
    /// consumption.
    pub residency: Option<f64>,
    /// Consumers change CPU too fast to be followed: planned by load alone.
    pub braking: bool,
    /// What was written since the daemon began.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What was written to a NIC since the daemon began; what was taken back is in it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tally {
    /// Plans that were carried out.
    pub plans: u64,
    /// Values written: tables, affinities, XPS maps.
    pub writes: u64,
    /// Table entries changed.
    pub buckets_moved: u64,
    /// Interrupts given another CPU.
    pub irqs_moved: u64,
    /// Plans that were taken back because they did harm.
    #[serde(default)]
    pub taken_back: u64,
    /// Plans that a write that failed stopped.
    #[serde(default)]
    pub failures: u64,
    /// Load that changed queue, in multiples of all load.
    pub load_moved: f64,
}

impl Tally {
    /// Adds `plan`, of which `changes` were written.
    pub fn count(&mut self, changes: &[Change], plan: &Plan) {
        self.plans += 1;
        self.writes += changes.len() as u64;
        self.buckets_moved += plan.buckets_moved() as u64;
        let irq = |change: &&Change| matches!(change.target, Target::IrqAffinity { .. });
        self.irqs_moved += changes.iter().filter(irq).count() as u64;
        self.load_moved += plan.load_moved;
    }
}

impl PlannerReport {
    /// The report of `experience`; `expected` is a share with what became of it.
    #[must_use]
    pub fn new(
        experience: &Experience,
        expected: Option<(f64, Option<f64>)>,
        tally: Tally,
    ) -> Self {
        Self {
            predicted: expected.map(|(share, _)| share),
            realised: expected.and_then(|(_, share)| share),
            trust: experience.trust(),
            residency: experience.residency(),
            braking: experience.is_braking(),
            tally,
        }
    }
}
