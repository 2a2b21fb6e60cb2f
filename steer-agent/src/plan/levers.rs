//! What each lever could reach on the present traffic, and which one to take.
//!
//! Figures fitted to the window, as if nothing had to be moved or kept: table and interrupts alone;
//! with a number of exact-match rules, table and rules fitted to each other in turn (the table to what
//! the rules leave, the rules to the heaviest flows that the table leaves); with accept steering,
//! which brings every connection that this host accepts to the CPU where it arrives, so that the table
//! is free for the others; and with both. Only flows that the kernel side remembers can be given rules
//! or accepted elsewhere, so with more of them the figures err towards too little.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Pace;
use super::pins::Traffic;
use super::setting::{Arrangement, Indices, Setting};
use super::solve::{Budget, Workspace};
use crate::model::{CpuId, FlowWorld, NicWorld, can_be_ruled, why_no_rules};

/// Rules that the figures are given for, whatever the NIC has room for.
const RULES: usize = 128;
/// How often table and rules are fitted to each other.
const ROUNDS: usize = 3;
/// Cells of the cost table (buckets times CPUs) above which that is done once, for the time it takes.
const MODERATE: usize = 1 << 15;
/// Flows that were seen for less than about two periods count neither for rules nor for the advice.
const LASTING_S: f64 = 2.0;
/// Flows per bucket below which the table is enough, and above which it is little better than chance.
const FEW: f64 = 2.0;
const MANY: f64 = 16.0;
/// What rules must add to be worth a word, where flows are too many for them all.
const WORTH_IT: f64 = 0.1;
/// Share of consumption by young flows above which nothing that follows flows can work.
const FLEETING: f64 = 0.5;

/// Shares of consumption that each lever could align. Fitted to the window: an upper bound where
/// flows are short, and never reported as a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Levers {
    /// Table and interrupts alone.
    pub table: f64,
    /// With exact-match rules, by their number; empty where flows are unknown.
    pub pins: Vec<PinLever>,
    /// With accept steering; `None` where it is unknown which flows this host accepted.
    pub accept: Option<f64>,
    /// With accept steering and the most of `pins`.
    pub accept_and_pins: Option<f64>,
    /// Effective number of lasting flows per bucket, (sum of rates) squared over the sum of their
    /// squares over the number of buckets; `None` where there are none.
    pub flows_per_bucket: Option<f64>,
    /// Share of consumption by flows that are known one by one.
    pub flows_known: f64,
    /// What follows.
    pub advice: Option<String>,
}

/// What a number of exact-match rules could reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PinLever {
    /// How many.
    pub rules: usize,
    /// Share of consumption that would be aligned.
    pub share: f64,
}

impl fmt::Display for Levers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {:.2}", self.table)?;
        for PinLever { rules, share } in &self.pins {
            write!(f, ", with {rules} pins {share:.2}")?;
        }
        if let Some(share) = self.accept {
            write!(f, ", with accept steering {share:.2}")?;
        }
        if let Some(share) = self.accept_and_pins {
            write!(f, ", with both {share:.2}")?;
        }
        Ok(())
    }
}

/// The levers' figures for `demand` and `load` by bucket, with nothing tied to queues yet. `None`
/// without consumption.
pub(super) fn levers(
    setting: &Setting<'_>,
    demand: &[Vec<(CpuId, f64)>],
    load: &[f64],
    workspace: &mut Workspace,
) -> Option<Levers> {
    let all = Traffic::new(demand, load, &setting.world.queues);
    let total: f64 = demand.iter().flatten().map(|(_, rate)| rate).sum();
    if total <= 0.0 {
        return None;
    }
    let mut fitter = Fitter { setting, workspace, total };
    let (by_table, table) = fitter.fit(&all, 0.0)?;
    let flows: Vec<&FlowWorld> =
        setting.world.flows.iter().filter(|flow| flow.bucket.is_some()).collect();
    let known: f64 = flows.iter().map(|flow| flow.per_s).sum();
    let mut levers = Levers { table, flows_known: (known / total).min(1.0), ..Levers::default() };
    if !flows.is_empty() {
        let counts = rule_counts(setting);
        let heavy: Vec<&FlowWorld> =
            flows.iter().copied().filter(|flow| is_lasting(flow)).collect();
        for rules in &counts {
            let share = fitter.with_rules(&all, 0.0, &heavy, *rules, (&by_table, table));
            levers.pins.push(PinLever { rules: *rules, share });
        }
        if flows.iter().any(|flow| flow.accepted.is_some()) {
            let (accepted, others): (Vec<&FlowWorld>, _) =
                heavy_first(&flows).into_iter().partition(|flow| flow.accepted == Some(true));
            let mut rest = all.clone();
            let mut aligned = 0.0;
            for flow in accepted {
                aligned += take(rest.demand.to_mut(), flow);
            }
            let (by_table, share) = fitter.fit(&rest, aligned)?;
            levers.accept = Some(share);
            let heavy: Vec<&FlowWorld> =
                others.into_iter().filter(|flow| is_lasting(flow)).collect();
            let most = counts.last().copied().unwrap_or(RULES);
            let both = fitter.with_rules(&rest, aligned, &heavy, most, (&by_table, share));
            levers.accept_and_pins = Some(both);
        }
    }
    levers.flows_per_bucket = flows_per_bucket(&flows, demand.len());
    levers.advice = advice(&levers, setting.world, flows.len());
    Some(levers)
}

/// 128, and what the policy or else the NIC allows if that is more.
fn rule_counts(setting: &Setting<'_>) -> Vec<usize> {
    let slots = setting.world.nic.rules.as_ref().map_or(0, |table| table.size);
    let slots = usize::try_from(slots).unwrap_or(usize::MAX);
    let more = if setting.policy.pins > 0 { setting.policy.pins } else { slots };
    if more > RULES { vec![RULES, more] } else { vec![RULES] }
}

fn is_lasting(flow: &FlowWorld) -> bool {
    flow.age_s >= LASTING_S && can_be_ruled(&flow.addr)
}

fn heavy_first<'a>(flows: &[&'a FlowWorld]) -> Vec<&'a FlowWorld> {
    let mut flows = flows.to_vec();
    flows.sort_by(|a, b| b.per_s.total_cmp(&a.per_s).then_with(|| a.addr.cmp(&b.addr)));
    flows
}

/// Takes a flow out of its bucket, as far as it is there, and returns how much that was.
fn take(demand: &mut [Vec<(CpuId, f64)>], flow: &FlowWorld) -> f64 {
    let row = flow.bucket.and_then(|bucket| demand.get_mut(bucket));
    let cell = row.into_iter().flatten().find(|(cpu, _)| *cpu == flow.consumer_cpu);
    let Some((_, rate)) = cell else { return 0.0 };
    let taken = rate.min(flow.per_s);
    *rate -= taken;
    taken
}

struct Fitter<'a> {
    setting: &'a Setting<'a>,
    workspace: &'a mut Workspace,
    total: f64,
}

impl Fitter<'_> {
    /// The table and interrupts for `traffic`, and the share that they and what is `aligned` by other
    /// means reach together.
    fn fit(&mut self, traffic: &Traffic<'_>, aligned: f64) -> Option<(Arrangement, f64)> {
        let setting =
            Setting { demand: &traffic.demand, load: &traffic.load, traffic, ..*self.setting };
        let indices: Indices = setting.indices();
        let problem = setting.problem(&indices, Pace::First, 0.0)?;
        let seed = setting.policy.seed;
        let solution = self.workspace.solve(&problem, &Budget::QUICK, seed, &mut || true);
        let arrangement = setting.arrangement(&indices, &solution);
        let (_, by_table) = setting.aligned(&arrangement);
        Some((arrangement, ((by_table + aligned) / self.total).min(1.0)))
    }

    /// The share with `rules` rules among `flows`, starting from a table that reaches `share`.
    fn with_rules(
        &mut self,
        all: &Traffic<'_>,
        aligned: f64,
        flows: &[&FlowWorld],
        rules: usize,
        (by_table, share): (&Arrangement, f64),
    ) -> f64 {
        let cells = all.demand.len() * self.setting.host.topology.cpus.len();
        let rounds = if cells > MODERATE { 1 } else { ROUNDS };
        let flows = heavy_first(flows);
        let mut arrangement = by_table.clone();
        let mut best = share;
        for round in 0..=rounds {
            let traffic = self.ruled(all, &flows, rules, &arrangement);
            let (_, reached) = Setting {
                demand: &traffic.demand,
                load: &traffic.load,
                traffic: &traffic,
                ..*self.setting
            }
            .aligned(&arrangement);
            best = best.max(((reached + aligned) / self.total).min(1.0));
            if round == rounds {
                break;
            }
            match self.fit(&traffic, aligned) {
                Some((next, _)) => arrangement = next,
                None => break,
            }
        }
        best
    }

    /// `all` with the heaviest flows that `arrangement` leaves elsewhere tied to a queue of their
    /// consumer, where it has one.
    fn ruled<'a>(
        &self,
        all: &Traffic<'a>,
        flows: &[&FlowWorld],
        rules: usize,
        arrangement: &Arrangement,
    ) -> Traffic<'a> {
        let queue_on: BTreeMap<CpuId, usize> = (0..)
            .zip(&arrangement.cpus)
            .filter_map(|(queue, cpu)| Some(((*cpu)?, queue)))
            .collect();
        let mut traffic = all.clone();
        let mut left = rules;
        for flow in flows {
            if left == 0 {
                break;
            }
            let Some(bucket) = flow.bucket else { continue };
            let by_table = arrangement
                .table
                .get(bucket)
                .and_then(|queue| self.setting.cpu_of(*queue, &arrangement.cpus));
            let Some(queue) = queue_on.get(&flow.consumer_cpu) else { continue };
            if by_table != Some(flow.consumer_cpu) {
                traffic.tie(bucket, flow.consumer_cpu, flow.per_s, Some(*queue));
                left -= 1;
            }
        }
        traffic
    }
}

fn flows_per_bucket(flows: &[&FlowWorld], buckets: usize) -> Option<f64> {
    let rates = || flows.iter().filter(|flow| flow.age_s >= LASTING_S).map(|flow| flow.per_s);
    let sum: f64 = rates().sum();
    let squares: f64 = rates().map(|rate| rate * rate).sum();
    (squares > 0.0 && buckets > 0).then(|| sum * sum / squares / buckets as f64)
}

/// Which lever to take, by how many flows share a bucket.
fn advice(levers: &Levers, world: &NicWorld, flows: usize) -> Option<String> {
    if world.young_share > FLEETING {
        return Some(format!(
            "{:.0} % of consumption is of flows shorter than {} s: only accept steering can align \
             them",
            world.young_share * 100.0,
            NicWorld::YOUNG_S
        ));
    }
    let per_bucket = levers.flows_per_bucket?;
    let most = levers.pins.last()?;
    let follows = if per_bucket < FEW {
        "table and interrupts are enough".to_owned()
    } else if per_bucket > MANY {
        "only accept steering aligns most of it; the table is for balance and nodes".to_owned()
    } else if flows <= 10 * most.rules || most.share - levers.table >= WORTH_IT {
        match why_no_rules(&world.nic, 0) {
            None => "exact-match rules close the gap (--pins; not yet run on hardware)".to_owned(),
            Some(why) => format!("exact-match rules would close the gap, but {why}"),
        }
    } else {
        "too many for rules: accept steering reaches more".to_owned()
    };
    Some(format!("{per_bucket:.1} lasting flows per bucket: {follows}"))
}

#[cfg(test)]
#[path = "levers/tests.rs"]
mod tests;
