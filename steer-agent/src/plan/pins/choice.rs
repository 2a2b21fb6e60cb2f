//! Which flows are to have a rule.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::packing::Packing;
use super::{LEAST_AGE_S, MOST_AGE_S, PATIENCE, PinSet, ROAMING_PER_S};
use crate::model::{CpuId, FlowAddr, QueueId, RuleTable, can_be_ruled, canonical, why_no_rules};
use crate::plan::Step;
use crate::plan::setting::{Arrangement, Setting};

/// What is to be done about rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::plan) struct Choice {
    /// Deletions, changes and additions, in this order.
    pub(in crate::plan) steps: Vec<Step>,
    /// Why not more.
    pub(in crate::plan) reasons: Vec<String>,
    /// Consumption per second that the steps align.
    pub(in crate::plan) gain_per_s: f64,
}

/// A flow that may have a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) flow: FlowAddr,
    pub(super) consumer: CpuId,
    /// Where its packets arrive by the table.
    pub(super) by_table: CpuId,
    pub(super) per_s: f64,
    /// Packets per second.
    pub(super) load: f64,
    /// What a rule saves, times its age.
    pub(super) value: f64,
    /// Its rule, by place in the set.
    pub(super) pin: Option<usize>,
}

/// A flow that is to have a rule, and the queue that it is to name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) candidate: usize,
    pub(super) cpu: CpuId,
    pub(super) queue: QueueId,
}

/// Chooses for the time when `to` holds. `cap` is how many packets per second a CPU may carry.
pub(in crate::plan) fn choose(
    setting: &Setting<'_>,
    to: &Arrangement,
    cap: &dyn Fn(CpuId) -> f64,
) -> Choice {
    let pins = setting.experience.pins();
    let most = setting.policy.pins;
    if most == 0 && pins.is_empty() {
        return Choice::default();
    }
    let mut choice = Choice::default();
    if pins.rest > 0 {
        let why = format!("no rules for {} more periods: the driver refused one", pins.rest);
        choice.reasons.push(why);
        return choice;
    }
    let none = RuleTable::default();
    let table = setting.world.nic.rules.as_ref().unwrap_or(&none);
    let room = match why_no_rules(&setting.world.nic, pins.len()) {
        Some(why) => {
            choice.reasons.push(why);
            0
        }
        None => most.min(table.free() + pins.len()),
    };
    let chooser = Chooser { setting, to, cap, pins, table, nearest: nearest(setting, to) };
    let candidates = chooser.candidates();
    let wishes = chooser.wishes(&candidates, room);
    chooser.operations(&candidates, &wishes, room, &mut choice);
    choice
}

pub(super) struct Chooser<'a> {
    pub(super) setting: &'a Setting<'a>,
    pub(super) to: &'a Arrangement,
    pub(super) cap: &'a dyn Fn(CpuId) -> f64,
    pub(super) pins: &'a PinSet,
    pub(super) table: &'a RuleTable,
    /// By consumer: the least distance of a CPU with a queue, and those CPUs.
    pub(super) nearest: BTreeMap<CpuId, (f64, Vec<CpuId>)>,
}

fn nearest(setting: &Setting<'_>, to: &Arrangement) -> BTreeMap<CpuId, (f64, Vec<CpuId>)> {
    let hosts: BTreeSet<CpuId> = to.cpus.iter().flatten().copied().collect();
    let consumers: BTreeSet<CpuId> = setting
        .world
        .flows
        .iter()
        .map(|flow| flow.consumer_cpu)
        .chain(setting.experience.pins().pins.iter().filter_map(|pin| pin.consumer_cpu))
        .collect();
    let of = |consumer: CpuId| {
        let cost = |host: CpuId| distance(setting, host, consumer);
        let least = hosts.iter().map(|host| cost(*host)).min_by(f64::total_cmp)?;
        let near = hosts.iter().copied().filter(|host| cost(*host) <= least).collect();
        Some((consumer, (least, near)))
    };
    consumers.into_iter().filter_map(of).collect()
}

fn distance(setting: &Setting<'_>, softirq: CpuId, consumer: CpuId) -> f64 {
    setting.weight(setting.host.topology.distance(softirq, consumer))
}

impl Chooser<'_> {
    /// Flows for which a rule saves something, in the order of the world; then flows with a rule that
    /// are silent for a while.
    fn candidates(&self) -> Vec<Candidate> {
        let own: HashMap<FlowAddr, usize> =
            self.pins.pins.iter().enumerate().map(|(at, pin)| (pin.rule.flow, at)).collect();
        let ruled: HashSet<FlowAddr> =
            self.table.rules.values().flatten().map(|rule| rule.flow).collect();
        let mut candidates = Vec::new();
        for flow in &self.setting.world.flows {
            let addr = canonical(flow.addr);
            let pin = own.get(&addr).copied();
            // A rule of somebody else's for the same flow stays, and would win or be refused beside.
            let is_theirs = pin.is_none() && ruled.contains(&addr);
            if is_theirs || self.pins.astray.contains(&addr) || !can_be_ruled(&addr) {
                continue;
            }
            if flow.moves_per_s > ROAMING_PER_S {
                continue;
            }
            // What has a rule was old enough; the kernel side may have forgotten it in between.
            let age_s = if pin.is_some() { flow.age_s.max(LEAST_AGE_S) } else { flow.age_s };
            let per_s = pin.map_or(flow.per_s, |at| self.pins.pins[at].per_s);
            candidates.extend(self.candidate(
                addr,
                flow.bucket,
                flow.consumer_cpu,
                (per_s, age_s),
                pin,
            ));
        }
        for (at, pin) in self.pins.pins.iter().enumerate() {
            if (1..PATIENCE).contains(&pin.unseen)
                && let Some(consumer) = pin.consumer_cpu
            {
                let worth = (pin.per_s, LEAST_AGE_S);
                candidates.extend(self.candidate(
                    pin.rule.flow,
                    pin.bucket,
                    consumer,
                    worth,
                    Some(at),
                ));
            }
        }
        candidates
    }

    fn candidate(
        &self,
        flow: FlowAddr,
        bucket: Option<usize>,
        consumer: CpuId,
        (per_s, age_s): (f64, f64),
        pin: Option<usize>,
    ) -> Option<Candidate> {
        let bucket = bucket?;
        let by_table = self.setting.cpu_of(*self.to.table.get(bucket)?, &self.to.cpus)?;
        let (least, _) = self.nearest.get(&consumer)?;
        let saved = distance(self.setting, by_table, consumer) - least;
        if age_s < LEAST_AGE_S || saved <= 0.0 || per_s <= 0.0 {
            return None;
        }
        let value = per_s * saved * age_s.min(MOST_AGE_S);
        let load = self.setting.traffic.load_of(bucket, per_s);
        Some(Candidate { flow, consumer, by_table, per_s, load, value, pin })
    }

    /// At most `room` candidates, the most worthy for which their CPU has room.
    fn wishes(&self, candidates: &[Candidate], room: usize) -> Vec<Wish> {
        // Packets by the table as if no flow had a rule.
        let carried = self.setting.carried_by_table(self.to);
        let mut by_table: BTreeMap<CpuId, f64> = carried.into_iter().collect();
        for pin in &self.pins.pins {
            let cpu = pin
                .bucket
                .and_then(|bucket| self.setting.cpu_of(*self.to.table.get(bucket)?, &self.to.cpus));
            if let (Some(cpu), Some(bucket)) = (cpu, pin.bucket) {
                *by_table.entry(cpu).or_default() +=
                    self.setting.traffic.load_of(bucket, pin.per_s);
            }
        }
        let held = |candidate: usize| {
            let queue = self.pins.pins[candidates[candidate].pin?].rule.queue;
            let cpu = self.setting.cpu_of(queue, &self.to.cpus)?;
            Some(Wish { candidate, cpu, queue })
        };
        let held: Vec<Wish> = (0..candidates.len()).filter_map(held).collect();
        Packing::new(self, candidates, room, by_table).pack(&held)
    }
}
