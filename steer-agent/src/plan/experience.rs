//! What earlier periods taught about one NIC: how traffic usually is, how far promises came true,
//! how long consumers stay, and which buckets have moved often enough.
//!
//! Kept by whoever plans again and again; a fresh one says nothing and limits nothing, which is right
//! for the first plan and for a single question. Pure: fed with worlds and plans, no clock.
//!
//! # Guarantees
//! Each has a test of the same name.
//! - `the_estimate_follows_and_smooths`
//! - `trust_is_what_came_true_of_what_was_promised`
//! - `a_bucket_that_moved_costs_more_until_it_rests`
//! - `a_bucket_that_goes_to_and_fro_is_frozen_longer_each_time`
//! - `roaming_consumers_set_the_brake_and_settled_ones_lift_it`
//! - `another_table_starts_anew`

use std::collections::BTreeMap;

use super::pins::{OwnRule, PinSet};
use super::setting::weight;
use super::{Host, Pace, Plan, Step, Target, Value};
use crate::model::{CpuId, NicWorld, QueueId};
use crate::policy::Policy;

/// Weight of the newest window in the estimate. Flat between 0.35 and 0.7; at 1 the moves double.
const NEWEST: f64 = 0.6;
/// Weight of the newest window in trust and residency.
const NEWEST_SLOW: f64 = 0.3;
/// Trust is not lost altogether, or nothing would ever be tried again.
const LEAST_TRUST: f64 = 0.05;
/// Trust regained in a period without a promise.
const REGAINED: f64 = 0.02;
/// Added to a bucket's back-off with every move.
const PER_MOVE: f64 = 1.0;
/// What is left of back-off after a period.
const KEPT: f64 = 0.8;
/// Rates below this share of their bucket's are dropped from the estimate, or it would only grow.
const FAINT: f64 = 1e-3;
/// Periods for which a bucket rests that went back to the CPU it came from; doubled with every
/// further return, at most so often.
const FREEZE: u32 = 10;
const MOST_DOUBLINGS: u32 = 6;
/// Periods after which a return is no longer one.
const FORGOTTEN: u32 = 60;
/// Factor on the price of moving a bucket that rests. More than distance pays for a bucket of its own,
/// and not so much that its whole queue could not follow a consumer.
const FROZEN: f64 = 20.0;
/// Periods from one look at the levers to the next.
const LEVERS_EVERY: u32 = 10;
/// Residency below which consumers roam: what is aligned now is not in a moment.
const ROAMING: f64 = 0.5;

/// What earlier periods taught.
#[derive(Clone, Debug, PartialEq)]
pub struct Experience {
    demand: Vec<Vec<(CpuId, f64)>>,
    load: Vec<f64>,
    residency: Option<f64>,
    trust: f64,
    back_off: Vec<f64>,
    paths: Vec<Path>,
    queues: BTreeMap<QueueId, Path>,
    period: u32,
    promised: Vec<Forecast>,
    promised_total: f64,
    last: Option<Outcome>,
    pace: Pace,
    pins: PinSet,
    /// Memory of the estimate.
    scratch: Vec<(CpuId, f64)>,
}

/// Where a bucket or a queue has been, to see that it goes to and fro.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Path {
    /// The CPU it left last, and when.
    left: Option<(CpuId, u32)>,
    /// How often it went back to where it came from.
    returns: u32,
    /// It rests until then.
    frozen_until: u32,
}

/// What a move of one bucket to another CPU is expected to save.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The bucket.
    pub bucket: usize,
    /// The CPU that polls its queue now; `None` where unknown.
    pub from: Option<CpuId>,
    /// The CPU that will.
    pub to: CpuId,
    /// The bucket changes its queue; else the queue's interrupt moves, which reorders nothing.
    pub by_table: bool,
    /// Distance saved, in cache-line transfers inside a last-level cache per second.
    pub saved_per_s: f64,
}

/// A promise and what became of it, by the window that followed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Distance that the moves were to save, in transfers per second.
    pub predicted_per_s: f64,
    /// Distance that they saved on the traffic that then came.
    pub realised_per_s: f64,
}

impl Default for Experience {
    fn default() -> Self {
        Self {
            demand: Vec::new(),
            load: Vec::new(),
            residency: None,
            trust: 1.0,
            back_off: Vec::new(),
            paths: Vec::new(),
            queues: BTreeMap::new(),
            period: 0,
            promised: Vec::new(),
            promised_total: 0.0,
            last: None,
            pace: Pace::First,
            pins: PinSet::default(),
            scratch: Vec::new(),
        }
    }
}

impl Experience {
    /// Takes in a window: first what it says of earlier promises, then the window itself.
    pub fn observe(&mut self, world: &NicWorld, host: &Host<'_>, policy: &Policy) {
        let (Some(demand), Some(load)) = (&world.demand_per_s, &world.load_per_s) else { return };
        if demand.len() != self.demand.len() || load.len() != self.load.len() {
            // Another table: buckets mean something else now.
            let pins = std::mem::take(&mut self.pins);
            *self = Self { trust: self.trust, pace: self.pace, pins, ..Self::default() };
        }
        self.period += 1;
        self.score(demand, host, policy);
        for factor in &mut self.back_off {
            *factor *= KEPT;
        }
        if let Some(now) = world.residency {
            let before = self.residency.unwrap_or(now);
            self.residency = Some(before + NEWEST_SLOW * (now - before));
        }
        if self.demand.is_empty() {
            self.demand.clone_from(demand);
            self.load.clone_from(load);
            return;
        }
        for (row, now) in self.demand.iter_mut().zip(demand) {
            blend(row, now, &mut self.scratch);
        }
        for (rate, now) in self.load.iter_mut().zip(load) {
            *rate += NEWEST * (now - *rate);
        }
    }

    /// Notes that `plan` was carried out.
    pub fn applied(&mut self, plan: &Plan) {
        self.pace = Pace::Steady;
        self.promised.clone_from(&plan.forecast);
        self.promised_total = total(&self.demand);
        self.rest_moved(&plan.forecast);
        for Step { change, .. } in &plan.steps {
            if let (Target::IrqAffinity { queue, .. }, Value::Cpus(from), Value::Cpus(to)) =
                (&change.target, &change.from, &change.to)
                && let Some(to) = to.as_single()
            {
                self.queues.entry(*queue).or_default().go(from.as_single(), to, self.period);
            }
        }
    }

    /// Notes that what was applied last did harm and was taken back: the promise is void, and its
    /// buckets rest the longer.
    pub fn taken_back(&mut self) {
        let back: Vec<Forecast> = std::mem::take(&mut self.promised)
            .into_iter()
            .filter_map(|forecast| {
                let to = forecast.from?;
                Some(Forecast { from: Some(forecast.to), to, saved_per_s: 0.0, ..forecast })
            })
            .collect();
        self.rest_moved(&back);
    }

    /// Takes in what the journal says of steer's exact-match rules: see [`PinSet::observe`]. To be
    /// called with each window, before it is planned by.
    pub fn observe_rules(&mut self, own: &[OwnRule], world: &NicWorld) {
        self.pins.observe(own, world);
    }

    /// The exact-match rules that are steer's.
    #[must_use]
    pub fn pins(&self) -> &PinSet {
        &self.pins
    }

    /// Notes whether the driver took the latest exact-match rules.
    pub fn wrote_rules(&mut self, taken: bool) {
        if taken {
            self.pins.written();
        } else {
            self.pins.refused();
        }
    }

    /// Consumption by bucket as it usually is; `None` before the first window.
    #[must_use]
    pub fn demand(&self) -> Option<&[Vec<(CpuId, f64)>]> {
        (!self.demand.is_empty()).then_some(self.demand.as_slice())
    }

    /// Packets per second by bucket as they usually are.
    #[must_use]
    pub fn load(&self) -> Option<&[f64]> {
        (!self.load.is_empty()).then_some(self.load.as_slice())
    }

    /// Share of what was promised that came true lately, 0.05 to 1.
    #[must_use]
    pub fn trust(&self) -> f64 {
        self.trust
    }

    /// Share of a flow's consumption on the CPU that consumed most of it, lately.
    #[must_use]
    pub fn residency(&self) -> Option<f64> {
        self.residency
    }

    /// Whether consumers change CPU faster than anything can follow, so that only load counts.
    #[must_use]
    pub fn is_braking(&self) -> bool {
        self.residency.is_some_and(|residency| residency < ROAMING)
    }

    /// The latest promise that could be judged.
    #[must_use]
    pub fn last_outcome(&self) -> Option<Outcome> {
        self.last
    }

    /// Whether what each lever could reach is to be worked out in this period: that takes ten plans,
    /// and changes slowly.
    #[must_use]
    pub fn is_time_for_levers(&self) -> bool {
        self.period <= 1 || self.period.is_multiple_of(LEVERS_EVERY)
    }

    /// Whether something was written before, so that limits per period hold.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether the interrupt of `queue` rests because it went to and fro.
    #[must_use]
    pub fn queue_rests(&self, queue: QueueId) -> bool {
        self.queues.get(&queue).is_some_and(|path| path.frozen_until > self.period)
    }

    /// How many buckets rest because they went to and fro.
    #[must_use]
    pub fn frozen(&self) -> usize {
        self.paths.iter().filter(|path| path.frozen_until > self.period).count()
    }

    /// Factor on the price of moving each bucket; empty for one.
    #[must_use]
    pub fn move_factors(&self) -> Vec<f64> {
        let factor = |(back_off, path): (&f64, &Path)| {
            if path.frozen_until > self.period { FROZEN } else { 1.0 + back_off }
        };
        self.back_off.iter().zip(&self.paths).map(factor).collect()
    }

    /// Compares what the last moves promised with what they save on the traffic of the window. Where
    /// traffic as a whole became more or less, so does what can be expected.
    fn score(&mut self, demand: &[Vec<(CpuId, f64)>], host: &Host<'_>, policy: &Policy) {
        let promised = std::mem::take(&mut self.promised);
        // What has a rule does not move with its bucket, and nothing was promised of it.
        let by_table = (!self.pins.is_empty()).then(|| self.pins.split(demand, &[], &[]).demand);
        let by_table = by_table.as_deref().unwrap_or(demand);
        let change = total(demand) / self.promised_total;
        let mut outcome = Outcome { predicted_per_s: 0.0, realised_per_s: 0.0 };
        for forecast in &promised {
            let Some(from) = forecast.from else { continue };
            outcome.predicted_per_s += forecast.saved_per_s * change;
            for (cpu, rate) in by_table.get(forecast.bucket).into_iter().flatten() {
                let cost = |at| weight(policy.placement, host.topology.distance(at, *cpu));
                outcome.realised_per_s += rate * (cost(from) - cost(forecast.to));
            }
        }
        // Moves for the sake of balance promise no distance; silence proves nothing.
        if outcome.predicted_per_s > 0.0 && outcome.predicted_per_s.is_finite() {
            let came_true = (outcome.realised_per_s / outcome.predicted_per_s).clamp(0.0, 1.0);
            self.trust += NEWEST_SLOW * (came_true - self.trust);
            self.last = Some(outcome);
        } else {
            self.trust += REGAINED;
        }
        self.trust = self.trust.clamp(LEAST_TRUST, 1.0);
    }

    /// Buckets that moved to another queue cost more for a while; one that went back to where it came
    /// from rests. What moved with its queue is not charged: that is the cheap way after a consumer,
    /// and in the simulator charging for it lost 6 to 14 points.
    fn rest_moved(&mut self, moves: &[Forecast]) {
        self.back_off.resize(self.demand.len(), 0.0);
        self.paths.resize(self.demand.len(), Path::default());
        for forecast in moves.iter().filter(|forecast| forecast.by_table) {
            if let (Some(back_off), Some(path)) =
                (self.back_off.get_mut(forecast.bucket), self.paths.get_mut(forecast.bucket))
            {
                *back_off += PER_MOVE;
                path.go(forecast.from, forecast.to, self.period);
            }
        }
    }
}

impl Path {
    /// Notes a move in `period`; a return makes it rest, the longer the more there were.
    fn go(&mut self, from: Option<CpuId>, to: CpuId, period: u32) {
        let lately = self.left.filter(|(_, when)| period - when <= FORGOTTEN);
        if lately.is_none() {
            self.returns = 0;
        }
        if lately.is_some_and(|(cpu, _)| cpu == to) {
            self.frozen_until = period + (FREEZE << self.returns.min(MOST_DOUBLINGS));
            self.returns += 1;
        }
        self.left = from.map(|cpu| (cpu, period));
    }
}

fn total(demand: &[Vec<(CpuId, f64)>]) -> f64 {
    demand.iter().flatten().map(|(_, rate)| rate).sum()
}

/// Makes `row`, the estimate of one bucket, that after one more window. `scratch` is memory to be used
/// again.
fn blend(row: &mut Vec<(CpuId, f64)>, now: &[(CpuId, f64)], scratch: &mut Vec<(CpuId, f64)>) {
    let before = row.iter().map(|(cpu, rate)| (*cpu, (1.0 - NEWEST) * rate));
    scratch.clear();
    scratch.extend(before.chain(now.iter().map(|(cpu, rate)| (*cpu, NEWEST * rate))));
    scratch.sort_unstable_by_key(|(cpu, _)| *cpu);
    scratch.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    let all: f64 = scratch.iter().map(|(_, rate)| rate).sum();
    row.clear();
    row.extend(scratch.iter().filter(|(_, rate)| *rate > FAINT * all));
}

#[cfg(test)]
#[path = "experience/tests.rs"]
mod tests;
