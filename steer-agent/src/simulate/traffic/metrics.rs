//! The figures of one policy on one trace.

use serde::Serialize;

use crate::simulate::seen::{Changes, Demand, Nic};

/// Figures of one run, or means over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TrafficFigures {
    /// Share of packets consumed on the CPU that received them; under RFS, on the CPU that did the
    /// protocol work, which is all of them, after a hand-over.
    pub aligned: f64,
    /// Mean distance from there to the consumer, in transfers inside a last-level cache.
    pub distance_per_packet: f64,
    /// Greatest softirq load of a CPU over the average of all CPUs, by second; the mean.
    pub max_over_avg: f64,
    /// The same; the 99th percentile.
    pub p99_max_over_avg: f64,
    /// Greatest consumption of a CPU over the average, by second; the mean.
    pub consumer_max_over_avg: f64,
    /// Table entries changed per second.
    pub moves_per_s: f64,
    /// Load of their buckets, in per cent of all load, per second.
    pub moved_load_percent_per_s: f64,
    /// Interrupts moved per minute.
    pub irq_moves_per_min: f64,
    /// Exact-match rules written and removed per second.
    pub rule_ops_per_s: f64,
    /// What RFS hands from core to core.
    pub hand_off: Option<HandOff>,
}

/// What RFS hands from core to core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HandOff {
    /// Share of packets.
    pub share: f64,
    /// Inter-processor interrupts per packet, at most.
    pub ipi_per_packet: f64,
    /// Mean distance over which a packet is handed.
    pub distance_per_packet: f64,
}

impl TrafficFigures {
    /// Means over `runs`.
    #[must_use]
    pub fn mean(runs: &[Self]) -> Self {
        let mean =
            |of: fn(&Self) -> f64| runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64;
        let hand_off = runs.iter().any(|run| run.hand_off.is_some()).then(|| HandOff {
            share: mean(|run| run.hand_off.unwrap_or_default().share),
            ipi_per_packet: mean(|run| run.hand_off.unwrap_or_default().ipi_per_packet),
            distance_per_packet: mean(|run| run.hand_off.unwrap_or_default().distance_per_packet),
        });
        Self {
            aligned: mean(|run| run.aligned),
            distance_per_packet: mean(|run| run.distance_per_packet),
            max_over_avg: mean(|run| run.max_over_avg),
            p99_max_over_avg: mean(|run| run.p99_max_over_avg),
            consumer_max_over_avg: mean(|run| run.consumer_max_over_avg),
            moves_per_s: mean(|run| run.moves_per_s),
            moved_load_percent_per_s: mean(|run| run.moved_load_percent_per_s),
            irq_moves_per_min: mean(|run| run.irq_moves_per_min),
            rule_ops_per_s: mean(|run| run.rule_ops_per_s),
            hand_off,
        }
    }
}

/// One second of one policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Share of packets consumed where they were received.
    pub aligned: f64,
    /// Load of the buckets that then changed queue, in per cent of all.
    pub moved_load_percent: f64,
    /// Interrupts that then moved.
    pub irq_moves: usize,
}

/// Sums of one second, and what is kept of the seconds before.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) aligned: f64,
    pub(super) distance: f64,
    pub(super) softirq: Vec<f64>,
    pub(super) consumed: Vec<f64>,
    total: Totals,
    peaks: Vec<f64>,
    consumer_peaks: f64,
    changes: Changes,
    moved_percent: f64,
    hand_off: Option<HandOff>,
    seconds: u32,
    pub(super) timeline: Vec<Second>,
}

#[derive(Debug, Default)]
struct Totals {
    packets: f64,
    aligned: f64,
    distance: f64,
}

impl Meter {
    pub(super) fn new(cpus: usize) -> Self {
        Self { softirq: vec![0.0; cpus], consumed: vec![0.0; cpus], ..Self::default() }
    }

    /// Ends a second at the end of which `changes` were made; within the warm-up only the timeline
    /// remembers it.
    pub(super) fn second(&mut self, counts: bool, changes: Changes, hand_off: Option<HandOff>) {
        let packets: f64 = self.consumed.iter().sum();
        let average = packets / self.consumed.len().max(1) as f64;
        let peak = |of: &[f64]| of.iter().copied().fold(0.0, f64::max) / average.max(1e-9);
        let moved_percent = 100.0 * changes.load / packets.max(1e-9);
        self.timeline.push(Second {
            aligned: self.aligned / packets.max(1e-9),
            moved_load_percent: moved_percent,
            irq_moves: changes.irqs,
        });
        if counts {
            self.seconds += 1;
            self.total.packets += packets;
            self.total.aligned += self.aligned;
            self.total.distance += self.distance;
            self.peaks.push(peak(&self.softirq));
            self.consumer_peaks += peak(&self.consumed);
            self.changes.entries += changes.entries;
            self.changes.irqs += changes.irqs;
            self.moved_percent += moved_percent;
            if let Some(now) = hand_off {
                let sum = self.hand_off.get_or_insert_default();
                sum.share += now.share;
                sum.ipi_per_packet += now.ipi_per_packet;
                sum.distance_per_packet += now.distance_per_packet;
            }
        }
        self.aligned = 0.0;
        self.distance = 0.0;
        self.softirq.fill(0.0);
        self.consumed.fill(0.0);
    }

    pub(super) fn figures(&mut self) -> TrafficFigures {
        let seconds = f64::from(self.seconds.max(1));
        let packets = self.total.packets.max(1e-9);
        self.peaks.sort_by(f64::total_cmp);
        let rank = (self.peaks.len() * 99).div_ceil(100).max(1) - 1;
        let mut figures = TrafficFigures {
            aligned: self.total.aligned / packets,
            distance_per_packet: self.total.distance / packets,
            max_over_avg: self.peaks.iter().sum::<f64>() / seconds,
            p99_max_over_avg: self.peaks.get(rank).copied().unwrap_or(0.0),
            consumer_max_over_avg: self.consumer_peaks / seconds,
            moves_per_s: self.changes.entries as f64 / seconds,
            moved_load_percent_per_s: self.moved_percent / seconds,
            irq_moves_per_min: 60.0 * self.changes.irqs as f64 / seconds,
            rule_ops_per_s: 0.0,
            hand_off: None,
        };
        if let Some(sum) = self.hand_off {
            figures.hand_off = Some(HandOff {
                share: sum.share / seconds,
                ipi_per_packet: sum.ipi_per_packet / seconds,
                distance_per_packet: figures.distance_per_packet,
            });
            figures.aligned = 1.0;
            figures.distance_per_packet = 0.0;
        }
        figures
    }
}

/// Packets that a poll of a queue takes before it tells other CPUs of theirs.
const POLL: i32 = 16;

/// What RFS would have handed over: every packet that is consumed elsewhere, with one interrupt for
/// each other CPU that a poll of 16 packets has packets for.
pub(super) fn hand_off(nic: &Nic, demand: &Demand, cpus: usize) -> HandOff {
    let mut by_host = vec![vec![0.0; cpus]; cpus];
    for (bucket, row) in demand.rows().enumerate() {
        for (sum, rate) in by_host[nic.host(bucket)].iter_mut().zip(row) {
            *sum += rate;
        }
    }
    let (mut packets, mut handed, mut interrupts) = (0.0, 0.0, 0.0);
    for (host, row) in by_host.iter().enumerate() {
        let own: f64 = row.iter().sum();
        if own <= 0.0 {
            continue;
        }
        packets += own;
        for (_, rate) in row.iter().enumerate().filter(|(cpu, _)| *cpu != host) {
            handed += rate;
            // The chance that a poll has at least one packet for it.
            interrupts += own * (1.0 - (1.0 - rate / own).powi(POLL)) / f64::from(POLL);
        }
    }
    let packets = packets.max(1e-9);
    HandOff {
        share: handed / packets,
        ipi_per_packet: interrupts / packets,
        distance_per_packet: 0.0,
    }
}
