//! One policy on the trace: its NIC, its workers where accept steering chooses them, its figures.

use crate::model::Topology;
use crate::policy::Policy;
use crate::simulate::scenario::Traffic;
use crate::simulate::seen::{Changes, Demand, Nic, Seen};
use crate::simulate::steer::Steer;

use super::metrics::{Meter, hand_off};
use super::policy::{Mover, TrafficPolicy};
use super::trace::Trace;
use super::{TrafficRun, irqbalance, rsspp};

/// Share of a packet's work that stays on the CPU that received it when RFS hands it over.
const RFS_STAYS: f64 = 0.35;

pub(super) struct Lane<'a> {
    policy: TrafficPolicy,
    traffic: &'a Traffic,
    topology: Topology,
    distances: Vec<f64>,
    nic: Nic,
    /// The worker of the flow in each place.
    workers: Vec<usize>,
    /// Whoever plans by consumption.
    planner: Option<Steer>,
    /// Consumption in this second: for planners that of lasting flows, unless they are naive.
    demand: Option<Demand>,
    only_lasting: bool,
    meter: Meter,
    /// Packets by bucket since irqbalance last looked.
    ten_seconds: Vec<f64>,
}

impl<'a> Lane<'a> {
    pub(super) fn new(policy: TrafficPolicy, traffic: &'a Traffic, base: &Policy) -> Self {
        let cpus = traffic.machine.cpus();
        let planner = match policy.mover {
            Mover::Steer | Mover::SteerAbs => Some(Steer::new(policy.planner(base))),
            Mover::NaiveW => Some(Steer::naive(policy.planner(base))),
            _ => None,
        };
        let wants_demand = planner.is_some() || policy.mover == Mover::Rfs;
        Self {
            policy,
            traffic,
            topology: traffic.machine.topology(),
            distances: traffic.machine.distances(),
            nic: Nic::new(traffic.buckets, traffic.queues, cpus),
            workers: Vec::new(),
            planner,
            demand: wants_demand.then(|| Demand::new(traffic.buckets, cpus)),
            only_lasting: matches!(policy.mover, Mover::Steer | Mover::SteerAbs),
            meter: Meter::new(cpus),
            ten_seconds: vec![0.0; traffic.buckets],
        }
    }

    /// Takes what arrives in a tick of `tick_s`.
    pub(super) fn tick(&mut self, trace: &Trace<'_>, tick_s: f64) {
        self.workers.resize(trace.flows.len(), 0);
        for place in &trace.born {
            self.workers[*place] = self.worker_for(trace, *place);
        }
        let hosts: Vec<usize> =
            (0..self.nic.table.len()).map(|bucket| self.nic.host(bucket)).collect();
        let cpus = self.topology.cpus.len();
        let rfs = self.policy.mover == Mover::Rfs;
        for ((flow, rate), worker) in trace.flows.iter().zip(&trace.rates).zip(&self.workers) {
            if *rate <= 0.0 {
                continue;
            }
            let packets = rate * tick_s;
            let host = hosts[flow.bucket];
            let consumer = trace.cpu_of[*worker];
            if host == consumer {
                self.meter.aligned += packets;
            } else {
                self.meter.distance += packets * self.distances[host * cpus + consumer];
            }
            self.meter.consumed[consumer] += packets;
            if rfs {
                self.meter.softirq[host] += RFS_STAYS * packets;
                self.meter.softirq[consumer] += (1.0 - RFS_STAYS) * packets;
            } else {
                self.meter.softirq[host] += packets;
            }
            let counts = !self.only_lasting || trace.now_s >= flow.lasting_s;
            if let Some(demand) = self.demand.as_mut().filter(|_| counts) {
                demand.add(flow.bucket, consumer, packets);
            }
        }
    }

    /// The worker of a new flow.
    fn worker_for(&self, trace: &Trace<'_>, place: usize) -> usize {
        let flow = &trace.flows[place];
        if !self.policy.accept || !flow.client {
            return flow.worker;
        }
        let cpus = self.topology.cpus.len();
        let group = self.traffic.accept_cpus;
        let first = self.nic.host(flow.bucket) / group * group;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a number of CPUs"
        )]
        let offset = (flow.place * group as f64) as usize;
        trace.worker_on[(first + offset).min(cpus - 1)]
    }

    /// Ends a second; `load` is what arrived in it by bucket.
    pub(super) fn second(&mut self, second: u32, load: &[f64]) {
        let next = match (self.policy.mover, &mut self.planner, &self.demand) {
            (Mover::RssPlusPlus, _, _) => {
                Some(rsspp::rebalance(&self.nic, load, self.topology.cpus.len()))
            }
            (Mover::Irqbalance, _, _) => self.irqbalance(second, load),
            (_, Some(planner), Some(demand)) => Some(planner.period(&Seen {
                topology: &self.topology,
                nic: &self.nic,
                load,
                lasting: demand,
                // Workers move once in minutes: too seldom to tell from none within a second.
                residency: Some(1.0),
                time_per_packet: self.traffic.time_per_packet(),
            })),
            _ => None,
        };
        let handed = match (&self.demand, self.policy.mover) {
            (Some(demand), Mover::Rfs) => {
                Some(hand_off(&self.nic, demand, self.topology.cpus.len()))
            }
            _ => None,
        };
        let changes = match next {
            Some(next) => self.nic.become_like(next, load),
            None => Changes::default(),
        };
        self.meter.second(second >= self.traffic.warm_up_s, changes, handed);
        if let Some(demand) = &mut self.demand {
            demand.clear();
        }
    }

    fn irqbalance(&mut self, second: u32, load: &[f64]) -> Option<Nic> {
        for (sum, load) in self.ten_seconds.iter_mut().zip(load) {
            *sum += load;
        }
        if !(second + 1).is_multiple_of(irqbalance::PERIOD_S) {
            return None;
        }
        let next = irqbalance::rebalance(&self.nic, &self.ten_seconds, &self.topology);
        self.ten_seconds.fill(0.0);
        Some(next)
    }

    pub(super) fn finish(mut self) -> TrafficRun {
        TrafficRun {
            policy: self.policy,
            figures: self.meter.figures(),
            timeline: self.meter.timeline,
        }
    }
}
