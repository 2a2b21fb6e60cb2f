//! Decides what to change: a [`NicWorld`], its [`Host`], a [`Policy`] and the [`Experience`] of earlier
//! periods in, a [`Plan`] out.
//!
//! # Problem
//! Every bucket of the indirection table is consumed on some CPUs (its *demand*). The table gives
//! the bucket to a queue, the queue's interrupt to a CPU. Choose both so that as much consumption as
//! possible happens on the CPU that polls the queue, and no CPU is given more packets than it can
//! take.
//!
//! # Method
//! 1. [`setting`] turns the world into numbers: distances by the placement policy, how much each
//!    CPU may carry ([`capacity`]), what may be moved and how much of it in one period.
//! 2. [`solve`] finds the table and the affinities of least cost; its own text says how and what it
//!    guarantees. What it finds is kept if it saves a share of the present cost that is worth the
//!    writes, or cures an overload.
//! 3. [`experience`] is what earlier periods taught: traffic is smoothed, moves cost more where promises
//!    did not come true or a bucket has just moved, and where consumers roam only load counts.
//! 4. XPS follows: the TX queue with a queue's number is given the queue's CPU.
//! 5. [`pins`], if the policy asks for it: the heaviest flows that the table leaves far from their
//!    consumers get exact-match rules.
//! 6. [`levers`] says what table, rules and accept steering could each reach.
//!    Where accept steering is on, queues go one to one to the workers' CPUs first, and stay there
//!    ([`accept`]).
//! 7. [`explain`] says what was left undone, and why.
//!
//! # Guarantees
//! Each has a test of the same name in `tests.rs`.
//! - `a_balanced_world_needs_no_step`
//! - `planning_again_after_the_plan_changes_nothing`
//! - `a_plan_undone_is_where_it_began`
//! - `no_move_without_gain`
//! - `load_is_never_pushed_above_the_cap`
//! - `whole_buckets_are_not_paid_for_with_overload`
//! - `an_unverified_table_is_not_touched`
//! - `only_allowed_cpus_are_given_interrupts`
//! - `interrupts_stay_where_they_are_not_to_be_moved`
//! - `the_same_world_gives_the_same_plan`
//! - `moves_are_limited_after_the_first_plan`
//! - `nics_that_share_cpus_share_their_room`
//! - `a_table_that_costs_the_link_stays_and_interrupts_move`
//! - `a_plan_without_time_is_no_worse_than_none`
//!
//! Pure: no I/O, no clock, no randomness; who calls may say that time is over.

pub mod accept;
mod capacity;
pub mod experience;
mod explain;
mod host;
mod levers;
pub mod pins;
pub mod problem;
mod setting;
pub mod solve;
mod step;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::{CpuId, MappingVerdict, NicWorld, QueueId};
use crate::policy::Policy;

use setting::Setting;
use solve::{Budget, Solution};

pub use experience::{Experience, Forecast, Outcome};
pub use host::{Host, Shared};
pub use levers::{Levers, PinLever};
pub use pins::PinSet;
pub use solve::Workspace;
pub use step::{Change, Step, Target, Value};

/// What is to be done to one NIC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Share of all packets whose bucket changes its queue by `steps`.
    pub load_moved: f64,
    /// Why these steps, and why not others; at least one sentence where there is no step.
    pub reasons: Vec<String>,
    /// What each lever could reach on this traffic; `None` where there is nothing to plan by,
    /// and in the periods of a daemon in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levers: Option<Levers>,
    /// What each bucket that comes to another CPU is expected to save there.
    #[serde(skip)]
    pub forecast: Vec<Forecast>,
    /// Packets per second of this NIC on each CPU after `steps`.
    #[serde(skip)]
    pub carried: Vec<(CpuId, f64)>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Why the step that gains most is one.
    #[must_use]
    pub fn main_reason(&self) -> Option<String> {
        let most = self.steps.iter().max_by(|a, b| a.gain_per_s.total_cmp(&b.gain_per_s))?;
        Some(most.reason.clone())
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

/// Plans for one NIC.
#[must_use]
pub fn plan(world: &NicWorld, host: &Host<'_>, policy: &Policy, experience: &Experience) -> Plan {
    plan_with(&mut Workspace::default(), world, host, policy, experience, &mut || true)
}

/// [`plan`] in memory that is used again: what was in it changes nothing. `keep_going` is asked now and then
/// whether there is time to look for something a little better; a plan that is made in less time is
/// as legal. What could be reached, by the table and by other levers, is not cut short: it would be told
/// wrong.
#[must_use]
pub fn plan_with(
    workspace: &mut Workspace,
    world: &NicWorld,
    host: &Host<'_>,
    policy: &Policy,
    experience: &Experience,
    keep_going: &mut dyn FnMut() -> bool,
) -> Plan {
    let pace = experience.pace();
    let mut plan =
        Plan { nic: world.nic.name.clone(), share_now: world.alignment.share, ..Plan::default() };
    let Basis { table, demand, load } = match Basis::of(world, policy) {
        Ok(basis) => basis,
        Err(why) => {
            plan.reasons.push(why);
            return plan;
        }
    };
    let all = experience.demand().unwrap_or(demand);
    let all_load = experience.load().unwrap_or(load);
    let traffic = experience.pins().split(all, all_load, &world.queues);
    let setting = Setting {
        world,
        host,
        policy,
        experience,
        table,
        demand: &traffic.demand,
        load: &traffic.load,
        traffic: &traffic,
    };
    if to_workers(&setting, &mut plan) {
        return plan;
    }
    let policy = &with_queues_at_workers(policy);
    let setting = Setting { policy, ..setting };
    let indices = setting.indices();
    // What is possible is not what is worth the moves: that has no limits, and moves are free.
    let (Some(free), Some(problem)) = (
        setting.problem(&indices, Pace::First, 0.0),
        setting.problem(&indices, pace, policy.move_price / experience.trust()),
    ) else {
        plan.reasons.push("no CPU may be given interrupts".to_owned());
        return plan;
    };
    let best = workspace.solve(&free, &Budget::QUICK, policy.seed, &mut || true);
    plan.achievable = setting.share(&setting.arrangement(&indices, &best));
    let budget = Budget::thorough(problem.buckets(), problem.allowed.len());
    let budget = match pace {
        Pace::First => budget,
        Pace::Steady => Budget { kicks: budget.kicks / 8, ..budget },
    };
    let solution = workspace.solve(&problem, &budget, policy.seed, keep_going);
    let chosen = if is_worth_it(&problem, &solution, policy) {
        setting.arrangement(&indices, &solution)
    } else {
        setting.present()
    };
    plan.share_planned = setting.share(&chosen);
    if plan.achievable < plan.share_planned {
        plan.achievable = plan.share_planned;
    }
    plan.reasons = explain::reasons(&setting, &indices, &problem, &chosen, pace);
    plan.steps = step::steps(&setting, &chosen);
    plan.load_moved = setting.load_moved(&chosen);
    let cap = |cpu| problem.cap.get(indices.of(Some(cpu))).copied().unwrap_or(0.0);
    let mut rules = pins::choose(&setting, &chosen, &cap);
    plan.steps.append(&mut rules.steps);
    plan.reasons.append(&mut rules.reasons);
    let total: f64 = all.iter().flatten().map(|(_, rate)| rate).sum();
    plan.share_planned =
        plan.share_planned.map(|share| (share + rules.gain_per_s / total).min(1.0));
    if experience.is_time_for_levers() {
        plan.levers = levers::levers(&setting, all, all_load, workspace);
    }
    plan.forecast = setting.forecast(&chosen);
    plan.carried = setting.carried(&chosen);
    if plan.steps.is_empty() && plan.reasons.is_empty() {
        plan.reasons.push("every bucket is with the consumer that it can be with".to_owned());
    }
    plan
}

/// What a plan is made by.
struct Basis<'a> {
    table: &'a [QueueId],
    /// Consumption per second by bucket and CPU.
    demand: &'a [Vec<(CpuId, f64)>],
    /// Packets per second by bucket.
    load: &'a [f64],
}

impl<'a> Basis<'a> {
    /// It, or why there is none.
    fn of(world: &'a NicWorld, policy: &Policy) -> Result<Self, String> {
        let table = world.nic.rss.as_ref().map_or(&[][..], |rss| &rss.table);
        if table.is_empty() {
            return Err("the driver offers no indirection table".to_owned());
        }
        if let Some(why) = explain::nobody_reads(world) {
            return Err(why);
        }
        let (Some(demand), Some(load)) = (&world.demand_per_s, &world.load_per_s) else {
            let why = "the bucket of a packet cannot be known: the NIC reports no hash and its key \
                       is hidden";
            return Err(why.to_owned());
        };
        if let Some(why) = world.nic.polled_by_threads() {
            return Err(why);
        }
        match world.mapping.verdict() {
            MappingVerdict::Verified => {}
            MappingVerdict::Unverified => return Err(world.unverified()),
            MappingVerdict::TooFewFlows => {
                return Err(format!("too little traffic to plan by: {}", world.mapping.evidence()));
            }
        }
        if world.demand_samples < policy.least_samples {
            return Err(explain::too_little(world, policy));
        }
        Ok(Self { table, demand, load })
    }
}

/// The policy once queues are at the CPUs of the workers: there they stay, whatever consumes a little
/// more elsewhere.
fn with_queues_at_workers(policy: &Policy) -> Policy {
    Policy { move_irqs: policy.move_irqs && policy.workers.is_none(), ..policy.clone() }
}

/// Plans queues to the CPUs of the workers, if accept steering knows them and some queue is elsewhere.
fn to_workers(setting: &Setting<'_>, plan: &mut Plan) -> bool {
    let workers = setting.policy.workers.as_ref();
    let Some(chosen) = workers.and_then(|workers| accept::queues::arrange(setting, workers)) else {
        return false;
    };
    let steps = step::steps(setting, &chosen);
    if steps.is_empty() {
        return false;
    }
    plan.share_planned = setting.share(&chosen);
    plan.carried = setting.carried(&chosen);
    plan.steps = steps;
    plan.reasons.push(
        "queues go one to one to the CPUs of the workers, and accept steering brings each new \
         connection to the worker of its queue"
            .to_owned(),
    );
    true
}

/// Whether `solution` repairs something, takes load off an overloaded CPU, or saves enough.
fn is_worth_it(problem: &solve::Problem, solution: &Solution, policy: &Policy) -> bool {
    if !problem.is_legal(&problem.table, &problem.affinity) {
        return true;
    }
    let now = problem.cost(&problem.table, &problem.affinity);
    let saved = now.total() - solution.cost.total();
    let cured = now.overload - solution.cost.overload;
    saved > policy.least_gain * now.total() || cured > policy.least_gain * now.overload
}
