//! Metrics of a daemon in the `OpenMetrics` text format: one table of what there is, which the pages,
//! docs/metrics.md and the tests of the dashboard are made from.
//!
//! Labels are bounded by the machine (interfaces, queues, CPUs) and by this program (distances, states,
//! kinds): never an address, a port or a process. Numbering and names do not change; rows may be added.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{NicState, NicStatus, Status};
use crate::model::{CpuId, Distance, NicSample, QueueId, Sample, Topology};

/// Whether a value only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does, from the start of what counts it; its name ends in `_total`.
    Counter,
    /// It does not.
    Gauge,
}

/// One metric: what it means, and how it is told from a [`Snapshot`].
pub struct Metric {
    /// Its name, for a counter without `_total`.
    pub name: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    tell: fn(&Snapshot, &mut Cells),
}

impl Metric {
    /// The name as it is asked for.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge => self.name.to_owned(),
        }
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_name())
    }
}

/// The values of one metric, by their labels.
#[derive(Debug, Default)]
struct Cells(Vec<(Vec<String>, f64)>);

impl Cells {
    fn add(&mut self, labels: &[&dyn fmt::Display], value: f64) {
        self.0.push((labels.iter().map(ToString::to_string).collect(), value));
    }

    /// The same for a value that may be unknown: then there is none.
    fn maybe(&mut self, labels: &[&dyn fmt::Display], value: Option<f64>) {
        if let Some(value) = value {
            self.add(labels, value);
        }
    }
}

/// What one window leaves to be asked about.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What is shown, without single flows.
    nics: Vec<NicStatus>,
    window_s: f64,
    missing: usize,
    totals: Vec<NicTotals>,
    softirq_s: Vec<(CpuId, f64)>,
    health: BTreeMap<String, u64>,
    own: OwnCost,
}

/// Counters of one NIC since it is observed.
#[derive(Clone, Debug, Default)]
struct NicTotals {
    name: String,
    /// Queue, packets, consumption.
    queues: Vec<(QueueId, u64, u64)>,
    by_distance: BTreeMap<Distance, u64>,
    unattributed: u64,
    drops: Vec<(&'static str, u64)>,
    carrier_changes: Option<u64>,
}

/// What steer itself costs.
#[derive(Clone, Debug, Default)]
pub struct OwnCost {
    /// When the last window was over, in seconds since 1970 (UTC).
    pub at_unix_s: f64,
    /// Windows since the start.
    pub ticks: u64,
    /// Windows that never came, because others took longer than the period.
    pub ticks_missed: u64,
    /// Time that they took to be read and decided on, in seconds.
    pub ticks_s: f64,
    /// Time that the last one took, in seconds.
    pub last_tick_s: f64,
    /// CPU time of the process in seconds; `None` where it could not be read.
    pub cpu_s: Option<f64>,
    /// Its resident memory; `None` where it could not be read.
    pub resident_bytes: Option<u64>,
    /// Run time of each BPF program in seconds, and how often it ran; empty unless asked for.
    pub programs: Vec<(String, f64, u64)>,
}

impl Snapshot {
    /// What `status`, which was made of `sample`, leaves to be asked about.
    #[must_use]
    pub fn new(status: &Status, sample: &Sample, own: OwnCost) -> Self {
        Self {
            nics: status.nics.clone(),
            window_s: status.window_s,
            missing: status.missing.len(),
            totals: sample.nics.iter().map(|nic| NicTotals::new(nic, &sample.topology)).collect(),
            softirq_s: sample
                .softirq_ns
                .iter()
                .flatten()
                .map(|(cpu, ns)| (*cpu, *ns as f64 / 1e9))
                .collect(),
            health: sample.health.iter().cloned().collect(),
            own,
        }
    }

    /// The page in the `OpenMetrics` text format, version 1.0.
    #[must_use]
    pub fn openmetrics(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut page, &registry);
        page
    }
}

/// The same page in the older text format of Prometheus (version 0.0.4), which the textfile collector
/// of `node_exporter` reads: there a counter's description has its whole name.
#[must_use]
pub fn classic(openmetrics: &str) -> String {
    let counters: Vec<&str> =
        METRICS.iter().filter(|row| row.kind == Kind::Counter).map(|row| row.name).collect();
    let mut page = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "EOF"] | ["#", "UNIT", ..] => {}
            ["#", word, name, rest] if counters.contains(name) => {
                page += &format!("# {word} {name}_total {rest}\n");
            }
            _ => {
                page += line;
                page.push('\n');
            }
        }
    }
    page
}

impl NicTotals {
    fn new(sample: &NicSample, topology: &Topology) -> Self {
        let NicSample { nic, counters } = sample;
        let index = |id: QueueId| usize::try_from(id).unwrap_or(usize::MAX);
        let sum = |row: &[u64]| row.iter().sum::<u64>();
        let queues = nic.queues.iter().map(|queue| {
            let packets = sum(counters.queue_packets.row(index(queue.id)));
            (queue.id, packets, sum(counters.queue_consumed.row(index(queue.id))))
        });
        let mut by_distance: BTreeMap<Distance, u64> =
            Distance::ALL.into_iter().map(|distance| (distance, 0)).collect();
        let consumed = &counters.consumed_by_napi;
        for (polled, row) in (0u32..).zip((0..consumed.rows()).map(|row| consumed.row(row))) {
            for (consumer, count) in (0u32..).zip(row).filter(|(_, count)| **count > 0) {
                *by_distance.entry(topology.distance(polled, consumer)).or_default() += count;
            }
        }
        let drops = &nic.drops;
        let drops = [
            ("rx-dropped", drops.rx_dropped),
            ("rx-missed", drops.rx_missed),
            ("rx-fifo", drops.rx_fifo),
            ("tx-dropped", drops.tx_dropped),
        ];
        Self {
            name: nic.name.clone(),
            queues: queues.collect(),
            by_distance,
            unattributed: counters.unattributed,
            drops: drops.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect(),
            carrier_changes: nic.carrier_changes,
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let mut cells = Cells::default();
            (metric.tell)(self, &mut cells);
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            // The library ends a description with a full stop of its own.
            let help = metric.help.trim_end_matches('.');
            let mut family = encoder.encode_descriptor(metric.name, help, None, kind)?;
            for (labels, value) in &cells.0 {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
                let mut one = family.encode_family(&labels)?;
                match metric.kind {
                    Kind::Counter => one.encode_counter::<NoLabelSet, _, f64>(value, None)?,
                    Kind::Gauge => one.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}

fn each_nic(of: &Snapshot, to: &mut Cells, value: fn(&NicStatus) -> Option<f64>) {
    for nic in &of.nics {
        to.maybe(&[&nic.name], value(nic));
    }
}

fn each_queue(of: &Snapshot, to: &mut Cells, value: fn(&(QueueId, u64, u64)) -> u64) {
    for nic in &of.totals {
        for queue in &nic.queues {
            to.add(&[&nic.name, &queue.0], value(queue) as f64);
        }
    }
}

fn each_tally(of: &Snapshot, to: &mut Cells, value: fn(&super::Tally) -> u64) {
    for nic in &of.nics {
        to.maybe(&[&nic.name], nic.planner.as_ref().map(|planner| value(&planner.tally) as f64));
    }
}

const STATES: [NicState; 5] = [
    NicState::Steering,
    NicState::Observing,
    NicState::Contested,
    NicState::Unverified,
    NicState::Unsteerable,
];

macro_rules! metric {
    ($kind:ident $name:literal [$($label:literal),*] $help:literal, $tell:expr) => {
        Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*], tell: $tell }
    };
}

/// All metrics.
pub static METRICS: &[Metric] = &[
    metric!(Gauge "steer_build_info" ["version"] "Version of steer; the value is always 1.", |_, to| {
        to.add(&[&env!("CARGO_PKG_VERSION")], 1.0);
    }),
    metric!(Gauge "steer_nic_state" ["nic", "state"]
        "What steer does with the NIC: 1 for the state that it is in, 0 for the others.", |of, to| {
        for nic in &of.nics {
            for state in STATES {
                to.add(&[&nic.name, &state.name()], f64::from(u8::from(nic.state == state)));
            }
        }
    }),
    metric!(Gauge "steer_nic_aligned_ratio" ["nic"]
        "Share of consumption on the CPU that polls the flow's RX queue; absent without consumption.",
        |of, to| each_nic(of, to, |nic| nic.alignment.share)),
    metric!(Gauge "steer_nic_protocol_aligned_ratio" ["nic"]
        "Share of consumption on the CPU that did the protocol work; above the aligned share under RPS and RFS.",
        |of, to| each_nic(of, to, |nic| nic.alignment.protocol_share)),
    metric!(Gauge "steer_nic_achievable_ratio" ["nic"]
        "Share that table and interrupts could reach on this traffic; absent where it cannot be told.",
        |of, to| each_nic(of, to, |nic| nic.alignment.achievable)),
    metric!(Gauge "steer_nic_crossing_cost_ratio" ["nic"]
        "Modelled time that consumption waits for cache lines of other CPUs, in CPU seconds per second.",
        |of, to| each_nic(of, to, |nic| Some(nic.alignment.cost_ns_per_s / 1e9))),
    metric!(Counter "steer_nic_consumed" ["nic", "distance"]
    "Consumptions by distance between the CPU that polls the flow's RX queue and the one that consumes.",
    |of, to| {
        for nic in &of.totals {
            for (distance, count) in &nic.by_distance {
                to.add(&[&nic.name, &distance.name()], *count as f64);
            }
        }
    }),
    metric!(Counter "steer_nic_unattributed" ["nic"]
    "Consumptions whose RX queue is not known; they are in no other metric.", |of, to| {
        for nic in &of.totals {
            to.add(&[&nic.name], nic.unattributed as f64);
        }
    }),
    metric!(Gauge "steer_nic_active_flows" ["nic"] "Flows that consumed in the last window, as far as remembered.",
        |of, to| each_nic(of, to, |nic| Some(nic.active_flows as f64))),
    metric!(Gauge "steer_nic_mapping_agreement_ratio" ["nic"]
        "Share of checked consumption that follows the indirection table; absent where nothing was checked.",
        |of, to| each_nic(of, to, |nic| nic.mapping.agreement)),
    metric!(Counter "steer_nic_drops" ["nic", "kind"] "Packets that the NIC or its driver dropped, since it is up.",
    |of, to| {
        for nic in &of.totals {
            for (kind, count) in &nic.drops {
                to.add(&[&nic.name, kind], *count as f64);
            }
        }
    }),
    metric!(Counter "steer_nic_carrier_changes" ["nic"] "How often the link went up or down.", |of, to| {
        for nic in &of.totals {
            to.maybe(&[&nic.name], nic.carrier_changes.map(|count| count as f64));
        }
    }),
    metric!(Counter "steer_queue_packets" ["nic", "queue"] "Packets received on the queue since it is observed.",
        |of, to| each_queue(of, to, |queue| queue.1)),
    metric!(Counter "steer_queue_consumed" ["nic", "queue"] "Consumptions of what arrived on the queue.",
        |of, to| each_queue(of, to, |queue| queue.2)),
    metric!(Gauge "steer_queue_polled_on_cpu" ["nic", "queue"]
    "Number of the CPU that polled the queue, as seen; absent for a silent queue.", |of, to| {
        for nic in &of.nics {
            for queue in &nic.queues {
                to.maybe(&[&nic.name, &queue.queue], queue.softirq_cpu.map(f64::from));
            }
        }
    }),
    metric!(Counter "steer_cpu_softirq_seconds" ["cpu"] "Time of the CPU in softirqs since boot.", |of, to| {
        for (cpu, seconds) in &of.softirq_s {
            to.add(&[cpu], *seconds);
        }
    }),
    metric!(Gauge "steer_planner_trust_ratio" ["nic"]
        "Share of what plans promised that came true on the traffic that followed.",
        |of, to| each_nic(of, to, |nic| nic.planner.as_ref().map(|planner| planner.trust))),
    metric!(Gauge "steer_planner_predicted_ratio" ["nic"]
        "Aligned share that the last written plan expected; absent before the first.",
        |of, to| each_nic(of, to, |nic| nic.planner.as_ref()?.predicted)),
    metric!(Gauge "steer_planner_realised_ratio" ["nic"]
        "Aligned share that was measured after it; absent before that.",
        |of, to| each_nic(of, to, |nic| nic.planner.as_ref()?.realised)),
    metric!(Gauge "steer_planner_braking" ["nic"]
        "1 while consumers change CPU too fast to be followed, else 0.",
        |of, to| each_nic(of, to, |nic| Some(f64::from(u8::from(nic.planner.as_ref()?.braking))))),
    metric!(Counter "steer_plans" ["nic"] "Plans that were written.",
        |of, to| each_tally(of, to, |tally| tally.plans)),
    metric!(Counter "steer_writes" ["nic"] "Values written: tables, affinities, XPS maps, rules.",
        |of, to| each_tally(of, to, |tally| tally.writes)),
    metric!(Counter "steer_buckets_moved" ["nic"] "Entries of the indirection table that were changed.",
        |of, to| each_tally(of, to, |tally| tally.buckets_moved)),
    metric!(Counter "steer_irqs_moved" ["nic"] "Interrupts that were given another CPU.",
        |of, to| each_tally(of, to, |tally| tally.irqs_moved)),
    metric!(Counter "steer_taken_back" ["nic"] "Written plans that were taken back because they did harm.",
        |of, to| each_tally(of, to, |tally| tally.taken_back)),
    metric!(Counter "steer_write_failures" ["nic"] "Plans that a refused write stopped; all of each was taken back.",
        |of, to| each_tally(of, to, |tally| tally.failures)),
    metric!(Counter "steer_kernel_failures" ["kind"] "Events that the BPF programs could not count, by reason.",
    |of, to| {
        for (kind, count) in &of.health {
            to.add(&[kind], *count as f64);
        }
    }),
    metric!(Gauge "steer_sources_missing" [] "Sources that could not be read in the last window.",
        |of, to| to.add(&[], of.missing as f64)),
    metric!(Gauge "steer_window_seconds" [] "Length of the last window.", |of, to| to.add(&[], of.window_s)),
    metric!(Gauge "steer_window_end_timestamp_seconds" [] "When the last window was over (UTC).",
        |of, to| to.add(&[], of.own.at_unix_s)),
    metric!(Counter "steer_ticks" [] "Windows that were worked on.", |of, to| to.add(&[], of.own.ticks as f64)),
    metric!(Counter "steer_ticks_missed" [] "Windows that never came, because others took longer than the period.",
        |of, to| to.add(&[], of.own.ticks_missed as f64)),
    metric!(Counter "steer_ticks_seconds" [] "Time that windows took to be read and decided on.",
        |of, to| to.add(&[], of.own.ticks_s)),
    metric!(Gauge "steer_last_tick_seconds" [] "Time that the last window took to be read and decided on.",
        |of, to| to.add(&[], of.own.last_tick_s)),
    metric!(Counter "steer_process_cpu_seconds" [] "CPU time of the daemon, in user space and kernel.",
        |of, to| to.maybe(&[], of.own.cpu_s)),
    metric!(Gauge "steer_process_resident_bytes" [] "Resident memory of the daemon.",
        |of, to| to.maybe(&[], of.own.resident_bytes.map(|bytes| bytes as f64))),
    metric!(Counter "steer_bpf_run_seconds" ["program"]
    "CPU time of the BPF program; only with metrics.bpf_run_time, for counting it has a cost of its own.",
    |of, to| {
        for (program, seconds, _) in &of.own.programs {
            to.add(&[program], *seconds);
        }
    }),
    metric!(Counter "steer_bpf_runs" ["program"] "How often the BPF program ran; only with metrics.bpf_run_time.",
    |of, to| {
        for (program, _, runs) in &of.own.programs {
            to.add(&[program], *runs as f64);
        }
    }),
];

#[cfg(test)]
mod tests;
