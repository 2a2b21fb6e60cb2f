//! The status document: what `steer status --json` prints and the daemon answers with.
//!
//! Fields may be added. None is renamed or removed without raising [`Status::SCHEMA`].

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::planner::PlannerReport;
use crate::model::{
    CpuId, Distance, Flow, FlowAddr, MappingVerdict, Mismatch, NicWorld, QueueId, World, bucket_of,
};
use crate::plan::{Levers, Plan};

/// The whole document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`Status::SCHEMA`] of the writer.
    pub schema: u32,
    /// Who observed.
    pub source: Source,
    /// Length of the window in seconds.
    pub window_s: f64,
    /// Each NIC.
    pub nics: Vec<NicStatus>,
    /// What could not be read.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Who else writes affinities here, and what follows.
    #[serde(default)]
    pub neighbours: Vec<String>,
}

/// Who observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A running `steer run`.
    Daemon,
    /// The process that prints it.
    #[serde(rename = "self")]
    Own,
}

/// What steer does with a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicState {
    /// A daemon corrects it.
    Steering,
    /// It is looked at and not written.
    Observing,
    /// Somebody else writes what steer wrote; steer stands down.
    Contested,
    /// The table does not decide the queue; it is not written.
    Unverified,
    /// It has nothing that could be steered.
    Unsteerable,
}

impl NicState {
    /// The name in JSON and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steering => "steering",
            Self::Observing => "observing",
            Self::Contested => "contested",
            Self::Unverified => "unverified",
            Self::Unsteerable => "unsteerable",
        }
    }
}

/// One NIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NicStatus {
    /// Name of the interface.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// What steer does with it.
    pub state: NicState,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// The indirection table.
    pub table: Option<TableReport>,
    /// Its RX queues.
    pub queues: Vec<QueueReport>,
    /// Where consumption happens relative to arrival.
    pub alignment: AlignmentReport,
    /// The check that the table decides the queue.
    pub mapping: MappingReport,
    /// Flows consumed away from their queue's CPU, dearest first.
    pub mismatches: Vec<MismatchReport>,
    /// Flows active in the window.
    pub active_flows: usize,
    /// All flows, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<Vec<FlowReport>>,
    /// In-kernel failures in the window, by name.
    pub health: BTreeMap<String, u64>,
    /// What table, exact-match rules and accept steering could each align; null where not to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levers: Option<Levers>,
    /// How far the daemon's plans come true; null where no daemon plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner: Option<PlannerReport>,
    /// What the daemon last did here, in words.
    #[serde(default)]
    pub history: Vec<String>,
}

/// The indirection table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// Number of buckets.
    pub size: usize,
    /// RX queue by bucket.
    pub entries: Vec<QueueId>,
}

/// One RX queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its number.
    pub queue: QueueId,
    /// Its interrupt.
    pub irq: Option<u32>,
    /// The CPU that the interrupt is set to; none where it may go to several.
    pub cpu: Option<CpuId>,
    /// The CPU that it is delivered to.
    pub effective_cpu: Option<CpuId>,
    /// The CPU that polled the queue, as seen.
    pub softirq_cpu: Option<CpuId>,
    /// Packets per second.
    pub packets_per_s: f64,
    /// Consumption per second.
    pub consumed_per_s: f64,
}

/// Where consumption happens relative to arrival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlignmentReport {
    /// Share on the CPU that polls the flow's queue; null without consumption.
    pub share: Option<f64>,
    /// Share on the CPU that did the protocol work.
    pub protocol_share: Option<f64>,
    /// Share that table and interrupts could reach on this traffic; null where not to be told.
    pub achievable: Option<f64>,
    /// Shares by distance.
    pub by_distance: BTreeMap<Distance, f64>,
    /// Consumption per second.
    pub consumed_per_s: f64,
    /// Modelled cost, nanoseconds per second.
    pub cost_ns_per_s: f64,
    /// Consumption per second whose RX queue is unknown.
    pub unattributed_per_s: f64,
}

/// The check that the table decides the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MappingReport {
    /// What follows.
    pub verdict: MappingVerdict,
    /// Consumption that was checked.
    pub checked: u64,
    /// Share of it that follows the table.
    pub agreement: Option<f64>,
    /// In words.
    pub evidence: String,
}

/// A flow that is consumed away from its queue's CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MismatchReport {
    /// `tcp` or `udp`.
    pub proto: String,
    /// This host's end.
    pub local: SocketAddr,
    /// The far end.
    pub remote: SocketAddr,
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
    /// Modelled cost, nanoseconds per second.
    pub cost_ns_per_s: f64,
    /// Consuming process.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: String,
}

/// A flow, aligned or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// `tcp` or `udp`.
    pub proto: String,
    /// This host's end.
    pub local: SocketAddr,
    /// The far end.
    pub remote: SocketAddr,
    /// The NIC's hash, or the computed one.
    pub hash: Option<u32>,
    /// Whether the hash was computed from the key.
    pub hash_computed: bool,
    /// Bucket of the hash.
    pub bucket: Option<usize>,
    /// Its RX queue.
    pub queue: Option<QueueId>,
    /// The CPU that polls the queue.
    pub softirq_cpu: Option<CpuId>,
    /// The CPU that consumes.
    pub consumer_cpu: CpuId,
    /// Consumption since it was first seen.
    pub consumed: u64,
}

impl Status {
    /// Raised when a field is renamed, removed or changes its meaning.
    pub const SCHEMA: u32 = 1;

    /// The document for `world`; `plans` are those made of it, by NIC, and tell what is achievable.
    #[must_use]
    pub fn new(source: Source, world: &World, nics: Vec<NicStatus>) -> Self {
        Self {
            schema: Self::SCHEMA,
            source,
            window_s: world.window_s,
            nics,
            missing: world.missing.clone(),
            neighbours: Vec::new(),
        }
    }
}

impl NicStatus {
    /// The part of `nic`, in `state`.
    #[must_use]
    pub fn new(
        world: &World,
        nic: &NicWorld,
        plan: &Plan,
        state: NicState,
        reason: Option<String>,
    ) -> Self {
        let alignment = &nic.alignment;
        Self {
            name: nic.nic.name.clone(),
            driver: nic.nic.driver.clone(),
            state,
            reason,
            table: nic
                .nic
                .rss
                .as_ref()
                .map(|rss| TableReport { size: rss.table.len(), entries: rss.table.clone() }),
            queues: nic
                .queues
                .iter()
                .map(|queue| QueueReport {
                    queue: queue.queue,
                    irq: queue.irq,
                    cpu: queue.cpu,
                    effective_cpu: queue.effective_cpu,
                    softirq_cpu: queue.softirq_cpu,
                    packets_per_s: queue.packets_per_s,
                    consumed_per_s: queue.consumed_per_s,
                })
                .collect(),
            alignment: AlignmentReport {
                share: alignment.share,
                protocol_share: alignment.protocol_share,
                achievable: plan.achievable,
                by_distance: alignment.by_distance.iter().copied().collect(),
                consumed_per_s: alignment.consumed_per_s,
                cost_ns_per_s: alignment.cost_ns_per_s,
                unattributed_per_s: alignment.unattributed_per_s,
            },
            mapping: MappingReport {
                verdict: nic.mapping.verdict(),
                checked: nic.mapping.checked,
                agreement: nic.mapping.agreement(),
                evidence: nic.mapping.evidence(),
            },
            mismatches: nic.mismatches.iter().map(MismatchReport::new).collect(),
            active_flows: nic.active_flows,
            flows: None,
            health: world.health.iter().cloned().collect(),
            levers: plan.levers.clone(),
            planner: None,
            history: Vec::new(),
        }
    }

    /// Adds the flows of this NIC that were consumed after `since_ns`.
    pub fn add_flows(&mut self, flows: &[Flow], ifindex: u32, since_ns: u64) {
        let buckets = self.table.as_ref().map_or(0, |table| table.size);
        let mut reports: Vec<FlowReport> = flows
            .iter()
            .filter(|flow| flow.ifindex == Some(ifindex) && flow.last_ns > since_ns)
            .map(|flow| FlowReport {
                proto: protocol(&flow.addr),
                local: flow.addr.local,
                remote: flow.addr.remote,
                hash: flow.hash,
                hash_computed: flow.hash_computed,
                bucket: flow.hash.and_then(|hash| bucket_of(hash, buckets)),
                queue: flow.queue,
                softirq_cpu: flow.softirq_cpu,
                consumer_cpu: flow.consumer_cpu,
                consumed: flow.consumed,
            })
            .collect();
        reports.sort_by_key(|flow| (flow.local, flow.remote));
        self.flows = Some(reports);
    }
}

impl MismatchReport {
    fn new(mismatch: &Mismatch) -> Self {
        Self {
            proto: protocol(&mismatch.addr),
            local: mismatch.addr.local,
            remote: mismatch.addr.remote,
            bucket: mismatch.bucket,
            queue: mismatch.queue,
            softirq_cpu: mismatch.softirq_cpu,
            consumer_cpu: mismatch.consumer_cpu,
            distance: mismatch.distance,
            per_s: mismatch.per_s,
            cost_ns_per_s: mismatch.cost_ns_per_s,
            pid: mismatch.pid,
            comm: mismatch.comm.clone(),
        }
    }
}

/// The protocol's name as `/etc/protocols` has it.
fn protocol(addr: &FlowAddr) -> String {
    match addr.protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}
