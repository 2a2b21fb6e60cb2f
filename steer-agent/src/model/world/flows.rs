//! Flows within a window: what each consumed, how long it has been there, how often it moved.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{NicWorld, Window};
use crate::model::{CpuId, Distance, Flow, FlowAddr, Matrix, QueueId, bucket_of};

/// A flow that is consumed away from its queue's CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Its addresses.
    pub addr: FlowAddr,
    /// Bucket of its hash.
    pub bucket: Option<usize>,
    /// Its RX queue.
    pub queue: Option<QueueId>,
    /// The CPU that polls the queue.
    pub softirq_cpu: CpuId,
    /// The CPU that consumes.
    pub consumer_cpu: CpuId,
    /// Between the two.
    pub distance: Distance,
    /// Consumption per second.
    pub per_s: f64,
    /// Modelled cost in nanoseconds per second, as in [`Alignment::cost_ns_per_s`](super::Alignment::cost_ns_per_s).
    pub cost_ns_per_s: f64,
    /// Consuming process.
    pub pid: Option<u32>,
    /// Its task's name.
    pub comm: String,
}

/// A flow that was consumed in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowWorld {
    /// Its addresses.
    pub addr: FlowAddr,
    /// Bucket of its hash.
    pub bucket: Option<usize>,
    /// Its RX queue.
    pub queue: Option<QueueId>,
    /// The CPU that consumes.
    pub consumer_cpu: CpuId,
    /// Consumption per second.
    pub per_s: f64,
    /// Time from its first consumption that was seen to its last.
    pub age_s: f64,
    /// How often its consumer changed CPU, per second.
    pub moves_per_s: f64,
    /// Whether this host listens on its local port, so that the far end connected; `None` where
    /// listeners are unknown.
    pub accepted: Option<bool>,
}

/// A flow that was active in the window, with what it consumed there.
pub(super) struct Active<'a> {
    pub(super) flow: &'a Flow,
    pub(super) consumed: u64,
    mismatched: u64,
    moves: u64,
}

impl Active<'_> {
    /// Whether it may be gone before anything is done for it. Flows that were there when observing
    /// began are not: how old they are is not known.
    fn is_young(&self, since_ns: u64) -> bool {
        let young_ns = NicWorld::YOUNG_S * 1e9;
        let seen_ns = self.flow.last_ns.saturating_sub(self.flow.first_ns);
        let began_ns = self.flow.first_ns.saturating_sub(since_ns);
        (seen_ns as f64) < young_ns && began_ns as f64 >= young_ns
    }

    fn residency(&self) -> f64 {
        expected_residency(self.moves.min(self.consumed))
    }
}

/// Expected share of a flow's consumption on the CPU that consumed most, from how often its consumer
/// changed CPU: `moves` changes at random moments cut the window into one piece more, the longest of n
/// pieces is H(n) / n of it on average (H: harmonic number; the broken-stick problem).
#[must_use]
pub fn expected_residency(moves: u64) -> f64 {
    let pieces = moves.saturating_add(1);
    // Past a hundred pieces H(n) is ln n + 0.577 to three digits.
    let harmonic = if pieces <= 100 {
        (1..=pieces).map(|piece| 1.0 / piece as f64).sum()
    } else {
        (pieces as f64).ln() + 0.577_216
    };
    harmonic / pieces as f64
}

/// Mean [`Active::residency`] by consumption.
pub(super) fn residency(active: &[Active<'_>]) -> Option<f64> {
    let total: u64 = active.iter().map(|active| active.consumed).sum();
    let stayed: f64 = active.iter().map(|active| active.consumed as f64 * active.residency()).sum();
    (total > 0).then(|| stayed / total as f64)
}

impl Window<'_> {
    pub(super) fn active_flows(&self, ifindex: u32) -> Vec<Active<'_>> {
        let earlier: HashMap<FlowAddr, &Flow> =
            self.earlier.flows.iter().map(|flow| (flow.addr, flow)).collect();
        self.now
            .flows
            .iter()
            .filter(|flow| flow.ifindex == Some(ifindex) && flow.last_ns > self.earlier.at_ns)
            .map(|flow| {
                // An evicted and re-created entry starts again from zero.
                let before = earlier.get(&flow.addr).filter(|old| old.first_ns == flow.first_ns);
                Active {
                    flow,
                    consumed: flow.consumed.saturating_sub(before.map_or(0, |old| old.consumed)),
                    mismatched: flow
                        .mismatched
                        .saturating_sub(before.map_or(0, |old| old.mismatched)),
                    moves: flow
                        .consumer_moves
                        .saturating_sub(before.map_or(0, |old| old.consumer_moves)),
                }
            })
            .filter(|active| active.consumed > 0)
            .collect()
    }

    pub(super) fn mismatches(&self, buckets: usize, active: &[Active<'_>]) -> Vec<Mismatch> {
        let mut mismatches: Vec<Mismatch> = active
            .iter()
            .filter_map(|Active { flow, mismatched, .. }| {
                let softirq_cpu = flow.softirq_cpu?;
                if *mismatched == 0 || softirq_cpu == flow.consumer_cpu {
                    return None;
                }
                let distance = self.now.topology.distance(softirq_cpu, flow.consumer_cpu);
                let per_s = *mismatched as f64 / self.seconds;
                Some(Mismatch {
                    addr: flow.addr,
                    bucket: flow.hash.and_then(|hash| bucket_of(hash, buckets)),
                    queue: flow.queue,
                    softirq_cpu,
                    consumer_cpu: flow.consumer_cpu,
                    distance,
                    per_s,
                    cost_ns_per_s: per_s * distance.line_ns(),
                    pid: flow.pid,
                    comm: flow.comm.clone(),
                })
            })
            .collect();
        mismatches.sort_by(|a, b| {
            b.cost_ns_per_s.total_cmp(&a.cost_ns_per_s).then_with(|| a.addr.cmp(&b.addr))
        });
        mismatches.truncate(NicWorld::MOST_FLOWS);
        mismatches
    }

    /// The heaviest active flows.
    pub(super) fn flows(&self, buckets: usize, active: &[Active<'_>]) -> Vec<FlowWorld> {
        let mut heaviest: Vec<&Active<'_>> = active.iter().collect();
        heaviest.sort_by(|a, b| {
            b.consumed.cmp(&a.consumed).then_with(|| a.flow.addr.cmp(&b.flow.addr))
        });
        heaviest.truncate(NicWorld::MOST_ACTIVE);
        let world = |active: &&Active<'_>| {
            let Active { flow, consumed, moves, .. } = active;
            FlowWorld {
                addr: flow.addr,
                bucket: flow.hash.and_then(|hash| bucket_of(hash, buckets)),
                queue: flow.queue,
                consumer_cpu: flow.consumer_cpu,
                per_s: *consumed as f64 / self.seconds,
                age_s: flow.last_ns.saturating_sub(flow.first_ns) as f64 / 1e9,
                moves_per_s: *moves as f64 / self.seconds,
                accepted: self
                    .now
                    .listening
                    .as_ref()
                    .map(|ports| ports.contains(&(flow.addr.protocol, flow.addr.local.port()))),
            }
        };
        heaviest.iter().map(world).collect()
    }

    /// `demand` without what young flows consumed, and the share that they had of it.
    pub(super) fn lasting(&self, mut demand: Matrix, active: &[Active<'_>]) -> (Matrix, f64) {
        let all = demand.total();
        for active in active.iter().filter(|active| active.is_young(self.now.since_ns)) {
            let bucket = active.flow.hash.and_then(|hash| bucket_of(hash, demand.rows()));
            let Ok(cpu) = usize::try_from(active.flow.consumer_cpu) else { continue };
            if let Some(bucket) = bucket {
                demand.take(bucket, cpu, active.consumed);
            }
        }
        let young = all - demand.total();
        (demand, young as f64 / all.max(1) as f64)
    }
}
