//! Two samples, compared: rates, loads, who consumes what where, and how far to trust it.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    CpuId, Distance, FlowAddr, Mapping, Matrix, Nic, NicSample, QueueId, Sample, TcpSegments,
    Topology, canonical,
};

mod flows;

pub use flows::{FlowWorld, Mismatch, expected_residency};

/// The state of the host over a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// Length of the window in seconds.
    pub window_s: f64,
    /// Online CPUs.
    pub topology: Topology,
    /// Share of each CPU's time in softirq, 0 to 1; `None` where it could not be read.
    pub softirq_share: Option<Vec<(CpuId, f64)>>,
    /// TCP segments within the window.
    pub tcp: Option<TcpSegments>,
    /// The NICs.
    pub nics: Vec<NicWorld>,
    /// In-kernel failures within the window, by name.
    pub health: Vec<(String, u64)>,
    /// What could not be read.
    pub missing: Vec<String>,
}

/// One NIC over a window. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NicWorld {
    /// Its settings at the end of the window.
    pub nic: Nic,
    /// Whether the table decides the queue.
    pub mapping: Mapping,
    /// Each RX queue, in rising order.
    pub queues: Vec<QueueWorld>,
    /// Packets per second by bucket; `None` where neither measured nor to be estimated.
    pub load_per_s: Option<Vec<f64>>,
    /// `load_per_s` was shared out by consumption, since packets carry no NIC hash.
    pub load_estimated: bool,
    /// Consumption per second by bucket, as (consumer CPU, rate); `None` where buckets are unknown.
    /// What flows younger than [`NicWorld::YOUNG_S`] consumed is left out: they end before a plan
    /// made for them is written, and fitted to them it would promise what the next window breaks.
    pub demand_per_s: Option<Vec<Vec<(CpuId, f64)>>>,
    /// How many consumptions stand behind `demand_per_s`.
    pub demand_samples: u64,
    /// Share of all consumption that young flows had and `demand_per_s` leaves out, as far as flows
    /// are remembered.
    pub young_share: f64,
    /// Where consumption happens relative to arrival.
    pub alignment: Alignment,
    /// Flows consumed away from their queue's CPU, dearest first, at most [`NicWorld::MOST_FLOWS`].
    pub mismatches: Vec<Mismatch>,
    /// Flows active within the window.
    pub active_flows: usize,
    /// The heaviest of them, heaviest first, at most [`NicWorld::MOST_ACTIVE`].
    pub flows: Vec<FlowWorld>,
    /// Share of a flow's consumption that was on the CPU that consumed most of it, averaged over
    /// flows by what they consumed: 1 where consumers stay, 0.5 where they change CPU about four
    /// times in a window. `None` without consumption.
    pub residency: Option<f64>,
    /// Packets per second that it lost on receive, as far as it says.
    pub lost_per_s: Option<f64>,
}

/// One RX queue over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueWorld {
    /// Its number.
    pub queue: QueueId,
    /// Its interrupt.
    pub irq: Option<u32>,
    /// The CPU that its interrupt is set to, if only one.
    pub cpu: Option<CpuId>,
    /// The CPU that its interrupt is delivered to.
    pub effective_cpu: Option<CpuId>,
    /// The CPU that polled it most in this window, as seen.
    pub softirq_cpu: Option<CpuId>,
    /// Share of its packets that this CPU polled.
    pub softirq_share: f64,
    /// Packets per second.
    pub packets_per_s: f64,
    /// Consumption per second of what arrived here.
    pub consumed_per_s: f64,
}

impl QueueWorld {
    /// Where its packets are processed: as seen, else as its interrupt is set.
    #[must_use]
    pub fn napi_cpu(&self) -> Option<CpuId> {
        self.softirq_cpu.or(self.effective_cpu).or(self.cpu)
    }
}

/// Where consumption happens relative to arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alignment {
    /// Share of consumption on the CPU that polls the flow's RX queue; `None` without consumption.
    pub share: Option<f64>,
    /// Share of consumption on the CPU that did the protocol work. Higher than `share` under RPS
    /// or RFS, which hand packets over between cores first.
    pub protocol_share: Option<f64>,
    /// Shares by distance between the two CPUs, nearest first; they add up to one.
    pub by_distance: Vec<(Distance, f64)>,
    /// Consumption by its two CPUs, those with any, in the order of their numbers.
    pub by_cpu: Vec<CpuPair>,
    /// Consumption per second.
    pub consumed_per_s: f64,
    /// Modelled cost of one cache line per consumption over its distance, in nanoseconds per second.
    pub cost_ns_per_s: f64,
    /// Consumption per second whose RX queue is unknown; in none of the shares.
    pub unattributed_per_s: f64,
}

/// Consumption on one CPU of what another polled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuPair {
    /// The CPU that polled the RX queue.
    pub softirq_cpu: CpuId,
    /// The CPU that consumed.
    pub consumer_cpu: CpuId,
    /// Between the two.
    pub distance: Distance,
    /// Consumption per second.
    pub per_s: f64,
}

impl World {
    /// Share of its time that `cpu` spends in softirqs; `None` where unknown.
    #[must_use]
    pub fn softirq_share_of(&self, cpu: CpuId) -> Option<f64> {
        let shares = self.softirq_share.as_ref()?;
        shares.iter().find(|(id, _)| *id == cpu).map(|(_, share)| *share)
    }

    /// What happened between two samples. `settled_ns` is the moment (on the clock of
    /// [`Sample::at_ns`]) after which what is seen reflects the present settings: flows last
    /// consumed before it are left out of the check of the mapping.
    #[must_use]
    pub fn between(earlier: &Sample, now: &Sample, settled_ns: u64) -> Self {
        let window_ns = now.at_ns.saturating_sub(earlier.at_ns).max(1);
        let window = Window { earlier, now, seconds: window_ns as f64 / 1e9, settled_ns };
        let softirq_share = match (&earlier.softirq_ns, &now.softirq_ns) {
            (Some(before), Some(after)) => Some(softirq_shares(before, after, window_ns)),
            _ => None,
        };
        let earlier_health: HashMap<&str, u64> =
            earlier.health.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        Self {
            window_s: window.seconds,
            topology: now.topology.clone(),
            softirq_share,
            tcp: now.tcp.zip(earlier.tcp).map(|(now, then)| now.since(then)),
            nics: now.nics.iter().map(|nic| window.nic(nic)).collect(),
            health: now
                .health
                .iter()
                .map(|(name, count)| {
                    let before = earlier_health.get(name.as_str()).copied().unwrap_or(0);
                    (name.clone(), count.saturating_sub(before))
                })
                .collect(),
            missing: now.missing.clone(),
        }
    }
}

impl NicWorld {
    /// Longest list of mismatched flows that is kept.
    pub const MOST_FLOWS: usize = 256;
    /// Longest list of active flows that is kept.
    pub const MOST_ACTIVE: usize = 8192;
    /// Flows that live shorter than this, in seconds, are young: handshakes and single requests.
    pub const YOUNG_S: f64 = 0.5;

    /// Where packets of `queue` are processed: as seen, else as its interrupt is set.
    #[must_use]
    pub fn napi_cpu(&self, queue: QueueId) -> Option<CpuId> {
        self.queues.iter().find(|world| world.queue == queue).and_then(QueueWorld::napi_cpu)
    }
}

fn softirq_shares(
    before: &[(CpuId, u64)],
    after: &[(CpuId, u64)],
    window_ns: u64,
) -> Vec<(CpuId, f64)> {
    after
        .iter()
        .filter_map(|(cpu, now)| {
            let (_, then) = before.iter().find(|(id, _)| id == cpu)?;
            Some((*cpu, now.saturating_sub(*then) as f64 / window_ns as f64))
        })
        .collect()
}

/// The two samples at hand while one world is made of them.
struct Window<'a> {
    earlier: &'a Sample,
    now: &'a Sample,
    seconds: f64,
    settled_ns: u64,
}

impl Window<'_> {
    fn nic(&self, sample: &NicSample) -> NicWorld {
        let nic = &sample.nic;
        let earlier = self.earlier.nics.iter().find(|earlier| earlier.nic.ifindex == nic.ifindex);
        let now = &sample.counters;
        let empty = super::NicCounters::default();
        let before = earlier.map_or(&empty, |earlier| &earlier.counters);
        let lost = [Some(nic), earlier.map(|earlier| &earlier.nic)]
            .map(|nic| nic.and_then(|nic| nic.drops.lost_on_receive()));
        let table: &[QueueId] = nic.rss.as_ref().map_or(&[], |rss| &rss.table);

        let packets = now.queue_packets.since(&before.queue_packets);
        let consumed = now.queue_consumed.since(&before.queue_consumed);
        let queues = self.queues(nic, &packets, &consumed);
        let by_napi = now.consumed_by_napi.since(&before.consumed_by_napi);
        let by_protocol = now.consumed_by_protocol.since(&before.consumed_by_protocol);
        let unattributed = now.unattributed.saturating_sub(before.unattributed);

        let active = self.active_flows(nic.ifindex);
        let demand = difference(now.demand.as_ref(), before.demand.as_ref());
        let demand_per_s = demand.as_ref().map(|demand| self.rates_by_cpu(demand));
        let measured = difference(now.load.as_ref(), before.load.as_ref())
            .map(|load| self.row_sums(&load))
            .filter(|load| load.iter().any(|rate| *rate > 0.0));
        let load_estimated = measured.is_none();
        let load_per_s = measured
            .or_else(|| demand_per_s.as_ref().map(|demand| estimate_load(table, demand, &queues)));
        // Load is everybody's, demand only theirs who will still be there.
        let (lasting, young) = demand.map(|demand| self.lasting(demand, &active)).unzip();
        let demand_samples = lasting.as_ref().map_or(0, Matrix::total);
        let demand_per_s = lasting.map(|lasting| self.rates_by_cpu(&lasting));

        let ruled: HashSet<FlowAddr> = nic
            .rules
            .iter()
            .flat_map(|table| table.rules.values().flatten().map(|rule| rule.flow))
            .collect();
        let settled = active
            .iter()
            .filter(|active| active.flow.last_ns > self.settled_ns)
            // What an exact-match rule decides says nothing of the table.
            .filter(|active| !ruled.contains(&canonical(active.flow.addr)))
            .map(|active| (active.flow, active.consumed));
        NicWorld {
            mapping: Mapping::check(table, settled),
            alignment: self.alignment(&by_napi, &by_protocol, unattributed),
            mismatches: self.mismatches(table.len(), &active),
            active_flows: active.len(),
            flows: self.flows(table.len(), &active),
            residency: flows::residency(&active),
            young_share: young.unwrap_or(0.0),
            nic: nic.clone(),
            queues,
            load_per_s,
            load_estimated,
            demand_per_s,
            demand_samples,
            lost_per_s: lost[0]
                .zip(lost[1])
                .map(|(now, then)| now.saturating_sub(then) as f64 / self.seconds),
        }
    }

    fn queues(&self, nic: &Nic, packets: &Matrix, consumed: &Matrix) -> Vec<QueueWorld> {
        nic.queues
            .iter()
            .map(|queue| {
                let row = usize::try_from(queue.id).unwrap_or(usize::MAX);
                let total: u64 = packets.row(row).iter().sum();
                let busiest = packets
                    .row(row)
                    .iter()
                    .enumerate()
                    .filter(|(_, count)| **count > 0)
                    .max_by_key(|(cpu, count)| (**count, usize::MAX - cpu));
                QueueWorld {
                    queue: queue.id,
                    irq: queue.irq,
                    cpu: queue.affinity.as_ref().and_then(super::CpuSet::as_single),
                    effective_cpu: queue.effective.as_ref().and_then(super::CpuSet::as_single),
                    softirq_cpu: busiest.and_then(|(cpu, _)| CpuId::try_from(cpu).ok()),
                    softirq_share: busiest
                        .map_or(0.0, |(_, count)| *count as f64 / total.max(1) as f64),
                    packets_per_s: total as f64 / self.seconds,
                    consumed_per_s: consumed.row(row).iter().sum::<u64>() as f64 / self.seconds,
                }
            })
            .collect()
    }

    fn alignment(&self, by_napi: &Matrix, by_protocol: &Matrix, unattributed: u64) -> Alignment {
        let share_on_diagonal = |matrix: &Matrix| {
            let total = matrix.total();
            let same: u64 = (0..matrix.rows()).map(|cpu| matrix.get(cpu, cpu)).sum();
            (total > 0).then(|| same as f64 / total as f64)
        };
        let total = by_napi.total();
        let mut counts = [0u64; Distance::ALL.len()];
        let mut cost_ns = 0.0;
        let mut by_cpu = Vec::new();
        for napi in 0..by_napi.rows() {
            for (consumer, count) in by_napi.row(napi).iter().enumerate() {
                if *count == 0 {
                    continue;
                }
                let (Ok(softirq_cpu), Ok(consumer_cpu)) =
                    (CpuId::try_from(napi), CpuId::try_from(consumer))
                else {
                    continue;
                };
                let distance = self.now.topology.distance(softirq_cpu, consumer_cpu);
                let per_s = *count as f64 / self.seconds;
                by_cpu.push(CpuPair { softirq_cpu, consumer_cpu, distance, per_s });
                counts[distance as usize] += count;
                cost_ns += *count as f64 * distance.line_ns();
            }
        }
        Alignment {
            share: share_on_diagonal(by_napi),
            protocol_share: share_on_diagonal(by_protocol),
            by_distance: Distance::ALL
                .into_iter()
                .zip(counts)
                .map(|(distance, count)| (distance, count as f64 / total.max(1) as f64))
                .collect(),
            by_cpu,
            consumed_per_s: total as f64 / self.seconds,
            cost_ns_per_s: cost_ns / self.seconds,
            unattributed_per_s: unattributed as f64 / self.seconds,
        }
    }

    fn row_sums(&self, matrix: &Matrix) -> Vec<f64> {
        (0..matrix.rows())
            .map(|row| matrix.row(row).iter().sum::<u64>() as f64 / self.seconds)
            .collect()
    }

    fn rates_by_cpu(&self, matrix: &Matrix) -> Vec<Vec<(CpuId, f64)>> {
        (0..matrix.rows())
            .map(|row| {
                matrix
                    .row(row)
                    .iter()
                    .enumerate()
                    .filter(|(_, count)| **count > 0)
                    .filter_map(|(cpu, count)| {
                        Some((CpuId::try_from(cpu).ok()?, *count as f64 / self.seconds))
                    })
                    .collect()
            })
            .collect()
    }
}

fn difference(now: Option<&Matrix>, before: Option<&Matrix>) -> Option<Matrix> {
    now.map(|now| before.map_or_else(|| now.clone(), |before| now.since(before)))
}

/// Shares each queue's measured packets out over its buckets, in proportion to what is consumed of
/// each: the nearest to load per bucket on a NIC that reports no hash.
fn estimate_load(
    table: &[QueueId],
    demand: &[Vec<(CpuId, f64)>],
    queues: &[QueueWorld],
) -> Vec<f64> {
    let consumed: Vec<f64> =
        demand.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect();
    let mut by_queue: HashMap<QueueId, f64> = HashMap::new();
    for (queue, rate) in table.iter().zip(&consumed) {
        *by_queue.entry(*queue).or_default() += rate;
    }
    table
        .iter()
        .zip(&consumed)
        .map(|(queue, rate)| {
            let packets = queues
                .iter()
                .find(|world| world.queue == *queue)
                .map_or(0.0, |world| world.packets_per_s);
            let total = by_queue.get(queue).copied().unwrap_or(0.0);
            if total > 0.0 { packets * rate / total } else { 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests;
