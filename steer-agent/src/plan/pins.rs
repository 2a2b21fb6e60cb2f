//! Exact-match rules for elephants: which flows have one, and what of their traffic the table no
//! longer decides. Off unless the policy asks for it; not yet run on hardware.
//!
//! # Method
//! A flow is worth a rule by what it consumes, how much nearer its packets could arrive, and how long
//! it has lived: `per_s * (distance now - least distance) * age`. The age counts up to [`MOST_AGE_S`],
//! and below [`LEAST_AGE_S`] a flow is worth nothing: rules for short flows cost as many operations as
//! they are set and gain nothing ([`choice`]). The most worthy are taken while the CPU that they go to
//! has room; a flow keeps its rule unless another is worth [`KEEP`] times as much, so that two that are
//! nearly alike do not take it from each other in turn ([`packing`]).
//!
//! A rule goes with its flow: when that has not been consumed for [`PATIENCE`] periods, when its
//! consumer moved (it is re-targeted), when its packets keep coming by another queue, or when others
//! are worth more. Traffic of flows with rules is tied to their queues ([`Tied`]): it is taken out of
//! their buckets and put into the bill of moving the queue, or interrupts would be moved to and fro
//! with the elephants on them.
//!
//! # Guarantees
//! Each has a test of the same name in `pins/tests.rs`.
//! - `a_young_flow_never_gets_a_rule`
//! - `a_flow_on_its_cpu_never_gets_a_rule`
//! - `never_more_than_the_policy_the_table_and_the_period_allow`
//! - `no_cpu_is_given_more_than_its_cap`
//! - `the_same_world_gives_the_same_rules`
//! - `choosing_again_changes_nothing`
//! - `a_consumer_that_moves_takes_its_rule_along`
//! - `a_rule_goes_when_its_flow_has_gone`
//! - `rules_of_others_are_left_alone`
//!
//! Pure: no I/O, no clock.

mod choice;
mod operations;
mod packing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{
    CpuId, FlowAddr, FlowWorld, Location, NicWorld, QueueWorld, Rule, RuleTable, canonical,
};

pub(super) use choice::choose;

/// Age below which a flow gets no rule, in seconds. Without it a thousand rules for a load balancer's
/// clients were set and deleted 256 times a second and aligned nothing.
pub const LEAST_AGE_S: f64 = 5.0;
/// Age beyond which a flow is worth no more: heavy and settled is enough.
pub const MOST_AGE_S: f64 = 30.0;
/// How much more than a flow that has a rule another must be worth to take it.
pub const KEEP: f64 = 1.5;
/// Most rules added, changed and deleted in a period: each takes a driver's lock, some a firmware
/// command.
pub const MOST_OPERATIONS: usize = 256;
/// Periods that a flow may be silent, or arrive elsewhere, before its rule goes.
pub const PATIENCE: u32 = 3;
/// Changes of CPU per second above which a flow's consumer cannot be followed.
const ROAMING_PER_S: f64 = 2.0;
/// Weight of the newest window in a flow's rate, as in the estimate of buckets.
const NEWEST: f64 = 0.6;
/// Periods of rest after the driver refused a rule; doubled with every further time, up to 64-fold.
const REST: u32 = 60;
/// Most flows that are remembered for not following their rule.
const MOST_ASTRAY: usize = 1024;

/// The rules of one NIC that are steer's, and what is known of their flows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PinSet {
    pins: Vec<Pin>,
    /// Flows that arrived elsewhere in spite of their rule.
    astray: BTreeSet<FlowAddr>,
    rest: u32,
    failures: u32,
}

/// One rule that is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pin {
    location: Location,
    rule: Rule,
    bucket: Option<usize>,
    consumer_cpu: Option<CpuId>,
    per_s: f64,
    unseen: u32,
    astray: u32,
}

/// A place in the rule table where steer has written, and what it may have left there.
pub type OwnRule = (Location, Vec<Rule>);

impl PinSet {
    /// Takes in a window. `own` is what the journal says of steer's rules; in force are those that the
    /// NIC's table confirms, so that rules that were lost, taken back or replaced are none.
    pub fn observe(&mut self, own: &[OwnRule], world: &NicWorld) {
        self.rest = self.rest.saturating_sub(1);
        let none = RuleTable::default();
        let table = world.nic.rules.as_ref().unwrap_or(&none);
        let before: HashMap<FlowAddr, Pin> =
            self.pins.iter().map(|pin| (pin.rule.flow, *pin)).collect();
        let by_flow: HashMap<FlowAddr, Rule> =
            table.rules.values().flatten().map(|rule| (rule.flow, *rule)).collect();
        self.pins.clear();
        for (location, ours) in own {
            let found = match location {
                Location::At(number) => table.at(*number).exact(),
                Location::Any(flow) => by_flow.get(flow).copied(),
            };
            let Some(rule) = found.filter(|rule| ours.contains(rule)) else { continue };
            let mut pin = before.get(&rule.flow).copied().unwrap_or(Pin {
                location: *location,
                rule,
                bucket: None,
                consumer_cpu: None,
                per_s: 0.0,
                unseen: 0,
                astray: 0,
            });
            if pin.rule != rule {
                pin.astray = 0;
            }
            (pin.location, pin.rule) = (*location, rule);
            self.pins.push(pin);
        }
        self.pins.sort_by_key(|pin| pin.location);
        self.follow_flows(world);
    }

    fn follow_flows(&mut self, world: &NicWorld) {
        if self.pins.is_empty() {
            return;
        }
        let flows: HashMap<FlowAddr, &FlowWorld> =
            world.flows.iter().map(|flow| (canonical(flow.addr), flow)).collect();
        for pin in &mut self.pins {
            let Some(flow) = flows.get(&pin.rule.flow) else {
                pin.unseen = pin.unseen.saturating_add(1);
                pin.per_s *= 1.0 - NEWEST;
                continue;
            };
            let known = pin.consumer_cpu.is_some();
            pin.per_s =
                if known { pin.per_s + NEWEST * (flow.per_s - pin.per_s) } else { flow.per_s };
            pin.bucket = flow.bucket;
            pin.consumer_cpu = Some(flow.consumer_cpu);
            pin.unseen = 0;
            let elsewhere = flow.queue.is_some_and(|queue| queue != pin.rule.queue);
            pin.astray = if elsewhere { pin.astray + 1 } else { 0 };
            if pin.astray >= PATIENCE && self.astray.len() < MOST_ASTRAY {
                self.astray.insert(pin.rule.flow);
            }
        }
    }

    /// Notes that the driver refused a rule: for a while none is tried.
    pub fn refused(&mut self) {
        self.rest = REST << self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes that rules were written.
    pub fn written(&mut self) {
        self.failures = 0;
    }

    /// How many rules are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pins.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// `demand` and `load` by bucket without the flows that have rules, and their traffic by queue.
    pub(super) fn split<'a>(
        &self,
        demand: &'a [Vec<(CpuId, f64)>],
        load: &'a [f64],
        queues: &[QueueWorld],
    ) -> Traffic<'a> {
        let mut traffic = Traffic::new(demand, load, queues);
        for pin in &self.pins {
            if let (Some(bucket), Some(cpu)) = (pin.bucket, pin.consumer_cpu) {
                let queue = queues.iter().position(|queue| queue.queue == pin.rule.queue);
                traffic.tie(bucket, cpu, pin.per_s, queue);
            }
        }
        traffic
    }
}

/// Traffic of flows with rules, by position of their queue in `NicWorld::queues`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tied {
    /// Consumption by CPU.
    pub(super) demand: Vec<BTreeMap<CpuId, f64>>,
    /// Packets per second.
    pub(super) load: Vec<f64>,
}

impl Tied {
    /// Consumption as (queue's position, consumer CPU, rate).
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, CpuId, f64)> {
        let rows = self.demand.iter().enumerate();
        rows.flat_map(|(queue, row)| row.iter().map(move |(cpu, rate)| (queue, *cpu, *rate)))
    }
}

/// Traffic in two parts: what the table decides, and what rules tie to queues. Copied only where there
/// are rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Traffic<'a> {
    /// Consumption by bucket that goes by the table.
    pub(super) demand: Cow<'a, [Vec<(CpuId, f64)>]>,
    /// Packets per second by bucket that go by the table.
    pub(super) load: Cow<'a, [f64]>,
    /// The rest.
    pub(super) tied: Tied,
    per_consumption: Vec<f64>,
}

impl<'a> Traffic<'a> {
    /// All by the table.
    pub(super) fn new(
        demand: &'a [Vec<(CpuId, f64)>],
        load: &'a [f64],
        queues: &[QueueWorld],
    ) -> Self {
        let consumed = |row: &Vec<(CpuId, f64)>| row.iter().map(|(_, rate)| rate).sum::<f64>();
        let ratio = |(row, load): (_, &f64)| {
            let consumed = consumed(row);
            if consumed > 0.0 { load / consumed } else { 0.0 }
        };
        Self {
            per_consumption: demand.iter().zip(load).map(ratio).collect(),
            demand: Cow::Borrowed(demand),
            load: Cow::Borrowed(load),
            tied: Tied {
                demand: vec![BTreeMap::new(); queues.len()],
                load: vec![0.0; queues.len()],
            },
        }
    }

    /// Packets per second of a flow in `bucket` that consumes `per_s`: its share of the bucket's.
    pub(super) fn load_of(&self, bucket: usize, per_s: f64) -> f64 {
        self.per_consumption.get(bucket).map_or(0.0, |packets| packets * per_s)
    }

    /// Takes a flow out of its bucket, as far as it is there, and ties it to the queue at that
    /// position; without one it is only taken out.
    pub(super) fn tie(&mut self, bucket: usize, cpu: CpuId, per_s: f64, queue: Option<usize>) {
        let Some(row) = self.demand.to_mut().get_mut(bucket) else { return };
        let Some((_, rate)) = row.iter_mut().find(|(id, _)| *id == cpu) else { return };
        let taken = rate.min(per_s);
        *rate -= taken;
        let packets = self.load_of(bucket, taken);
        if let Some(load) = self.load.to_mut().get_mut(bucket) {
            *load = (*load - packets).max(0.0);
        }
        let Some(queue) = queue else { return };
        if let (Some(row), Some(load)) =
            (self.tied.demand.get_mut(queue), self.tied.load.get_mut(queue))
        {
            *row.entry(cpu).or_default() += taken;
            *load += packets;
        }
    }
}
