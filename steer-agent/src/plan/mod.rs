//! Decides what to change: a [`NicWorld`] and a [`Policy`] in, a [`Plan`] out.
//!
//! # Problem
//! Every bucket of the indirection table is consumed on some CPUs (its *demand*). The table gives
//! the bucket to a queue, the queue's interrupt to a CPU. Choose both so that as much consumption as
//! possible happens on the CPU that polls the queue, and no CPU is given more packets than it can
//! take.
//!
//! # Method
//! 1. [`affinity`]: every CPU that consumes gets a queue of its own, heaviest consumer first; a queue
//!    that already sits on such a CPU stays.
//! 2. [`table`]: every bucket goes to the queue on the CPU that consumes most of it, heaviest gain
//!    first, as long as that CPU stays within its load.
//! 3. XPS follows: the TX queue with a queue's number is given the queue's CPU.
//!
//! # Guarantees
//! Each has a test of the same name in `tests.rs`.
//! - `a_balanced_world_needs_no_step`
//! - `planning_again_after_the_plan_changes_nothing`
//! - `a_plan_undone_is_where_it_began`
//! - `no_move_without_gain`
//! - `load_is_never_pushed_above_the_cap`
//! - `an_unverified_table_is_not_touched`
//! - `only_allowed_cpus_are_given_interrupts`
//! - `the_same_world_gives_the_same_plan`
//! - `moves_are_limited_after_the_first_plan`
//!
//! Pure: no I/O, no clock, no randomness.

mod affinity;
mod step;
mod table;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::{CpuId, MappingVerdict, NicWorld, QueueId, Topology};
use crate::policy::Policy;

pub use step::{Change, Step, Target, Value};

/// What is to be done to one NIC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The NIC.
    pub nic: String,
    /// In the order in which they are to be applied; may be empty.
    pub steps: Vec<Step>,
    /// Share of consumption that is aligned now.
    pub share_now: Option<f64>,
    /// Share that would be aligned after `steps`, on the traffic of the window. Fitted, never
    /// reported as a result.
    pub share_planned: Option<f64>,
    /// Share that table and interrupts could reach without limits per period.
    pub achievable: Option<f64>,
    /// Why these steps, and why not others; at least one sentence where there is no step.
    pub reasons: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many table entries change.
    #[must_use]
    pub fn buckets_moved(&self) -> usize {
        self.steps.iter().map(Step::buckets_moved).sum()
    }
}

/// Limits that depend on what has been done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The first plan for a NIC, or a question about the best possible: no limit on moves.
    First,
    /// A later period: moves are limited, as in [`Policy::most_bucket_moves`].
    Steady,
}

/// Plans for one NIC. `softirq_share` is the share of each CPU's time in softirq, where known.
#[must_use]
pub fn plan(
    world: &NicWorld,
    topology: &Topology,
    softirq_share: Option<&[(CpuId, f64)]>,
    policy: &Policy,
    pace: Pace,
) -> Plan {
    let mut plan =
        Plan { nic: world.nic.name.clone(), share_now: world.alignment.share, ..Plan::default() };
    let Some(rss) = world.nic.rss.as_ref().filter(|rss| !rss.table.is_empty()) else {
        plan.reasons.push("the driver offers no indirection table".to_owned());
        return plan;
    };
    let (Some(demand), Some(load)) = (&world.demand_per_s, &world.load_per_s) else {
        plan.reasons.push(
            "the bucket of a packet cannot be known: the NIC reports no hash and its key is \
             hidden"
                .to_owned(),
        );
        return plan;
    };
    match world.mapping.verdict() {
        MappingVerdict::Verified => {}
        MappingVerdict::Unverified => {
            plan.reasons.push(format!("mapping unverified: {}", world.mapping.evidence()));
            return plan;
        }
        MappingVerdict::TooFewFlows => {
            plan.reasons
                .push(format!("too little traffic to plan by: {}", world.mapping.evidence()));
            return plan;
        }
    }
    if world.demand_samples < policy.least_samples {
        plan.reasons.push(format!(
            "too little traffic to plan by: {} consumptions in the window, {} are needed",
            world.demand_samples, policy.least_samples
        ));
        return plan;
    }

    let problem =
        Problem { world, topology, softirq_share, policy, table: &rss.table, demand, load };
    let best = problem.solve(Pace::First);
    plan.achievable = problem.share(&best.table, &best.cpus);
    let chosen = match pace {
        Pace::First => best,
        Pace::Steady => problem.solve(Pace::Steady),
    };
    plan.share_planned = problem.share(&chosen.table, &chosen.cpus);
    plan.reasons = chosen.reasons;
    plan.steps = step::steps(world, &rss.table, &chosen.table, &chosen.cpus);
    if plan.steps.is_empty() && plan.reasons.is_empty() {
        plan.reasons.push("every bucket is with the consumer that it can be with".to_owned());
    }
    plan
}

/// What the two halves of the method work on.
struct Problem<'a> {
    world: &'a NicWorld,
    topology: &'a Topology,
    softirq_share: Option<&'a [(CpuId, f64)]>,
    policy: &'a Policy,
    table: &'a [QueueId],
    demand: &'a [Vec<(CpuId, f64)>],
    load: &'a [f64],
}

/// A table and a CPU for each queue (by position in `world.queues`).
struct Solution {
    table: Vec<QueueId>,
    cpus: Vec<Option<CpuId>>,
    reasons: Vec<String>,
}

impl Problem<'_> {
    fn solve(&self, pace: Pace) -> Solution {
        let mut reasons = Vec::new();
        let cpus = affinity::choose(self, pace, &mut reasons);
        let table = table::choose(self, &cpus, pace, &mut reasons);
        Solution { table, cpus, reasons }
    }

    /// CPU of `queue` under `cpus`.
    fn cpu_of(&self, queue: QueueId, cpus: &[Option<CpuId>]) -> Option<CpuId> {
        let index = self.world.queues.iter().position(|world| world.queue == queue)?;
        cpus.get(index).copied().flatten()
    }

    /// Consumption per second of bucket `bucket` on `cpu`.
    fn demand_on(&self, bucket: usize, cpu: Option<CpuId>) -> f64 {
        let Some(cpu) = cpu else { return 0.0 };
        self.demand[bucket]
            .iter()
            .find(|(consumer, _)| *consumer == cpu)
            .map_or(0.0, |(_, rate)| *rate)
    }

    /// Consumption per second by CPU, over all buckets, in rising order of CPUs.
    fn consumers(&self) -> Vec<(CpuId, f64)> {
        let mut totals = std::collections::BTreeMap::new();
        for (cpu, rate) in self.demand.iter().flatten() {
            *totals.entry(*cpu).or_insert(0.0) += rate;
        }
        totals.into_iter().collect()
    }

    /// Share of consumption that would be aligned with this table and these CPUs.
    fn share(&self, table: &[QueueId], cpus: &[Option<CpuId>]) -> Option<f64> {
        let total: f64 = self.consumers().iter().map(|(_, rate)| rate).sum();
        let aligned: f64 = table
            .iter()
            .enumerate()
            .map(|(bucket, queue)| self.demand_on(bucket, self.cpu_of(*queue, cpus)))
            .sum();
        (total > 0.0).then(|| (aligned / total).min(1.0))
    }
}
