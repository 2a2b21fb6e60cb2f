//! The status document: what `steer status --json` prints and the daemon answers with.
//!
//! Fields may be added. None is renamed or removed without raising [`Status::SCHEMA`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::accept::ListenerReport;
use super::change::EventReport;
use super::connect::ConnectStatus;
use super::cost::Cost;
use super::flow::{FlowReport, MismatchReport};
use super::lever::{self, LeverReport};
use super::pace::Pace;
use super::planner::PlannerReport;
use crate::model::{CpuId, CpuPair, Distance, MappingVerdict, NicWorld, QueueId, World};
use crate::plan::{Levers, Plan};

/// The whole document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// [`Status::SCHEMA`] of the writer.
    pub schema: u32,
    /// Who observed.
    pub source: Source,
    /// Length of the window in seconds.
    pub window_s: f64,
    /// When it was over, in seconds since 1970 (UTC); null where that is not known.
    #[serde(default)]
    pub at_unix_s: Option<f64>,
    /// Each NIC.
    pub nics: Vec<NicStatus>,
    /// What could not be read.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Who else writes affinities here, and what follows.
    #[serde(default)]
    pub neighbours: Vec<String>,
    /// Listeners whose connections a daemon steers or was asked to; empty without accept steering.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerReport>,
    /// Whether the daemon keeps its period; null where none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// Connect steering, by cgroup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connects: Vec<ConnectStatus>,
    /// Accept and connect steering, which are the whole host's: whether they are used, and why not.
    #[serde(default)]
    pub lever_states: Vec<LeverReport>,
    /// What steer itself takes of the machine; null where it was not measured.
    #[serde(default)]
    pub cost: Option<Cost>,
}

/// Who observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Which levers are used here, and why others are not.
    #[serde(default)]
    pub lever_states: Vec<LeverReport>,
    /// What the daemon last did here, in words.
    #[serde(default)]
    pub history: Vec<String>,
    /// The same with times and reasons, the latest last.
    #[serde(default)]
    pub events: Vec<EventReport>,
    /// When and why something was last written here; null where nothing was since the daemon began.
    #[serde(default)]
    pub last_change: Option<EventReport>,
    /// What the operator should do now, what counts most first.
    #[serde(default)]
    pub next: Vec<String>,
}

/// The indirection table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TableReport {
    /// Number of buckets.
    pub size: usize,
    /// RX queue by bucket.
    pub entries: Vec<QueueId>,
}

/// One RX queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Share of the queue's packets that this CPU polled; null for a silent queue.
    #[serde(default)]
    pub softirq_share: Option<f64>,
    /// Share of its time that this CPU spends in softirqs, of whatever kind; null where unknown.
    #[serde(default)]
    pub load: Option<f64>,
    /// Packets per second.
    pub packets_per_s: f64,
    /// Consumption per second.
    pub consumed_per_s: f64,
}

/// Where consumption happens relative to arrival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlignmentReport {
    /// Share on the CPU that polls the flow's queue; null without consumption.
    pub share: Option<f64>,
    /// Share on the CPU that did the protocol work.
    pub protocol_share: Option<f64>,
    /// Share that table and interrupts could reach on this traffic; null where not to be told.
    pub achievable: Option<f64>,
    /// Shares by distance.
    pub by_distance: BTreeMap<Distance, f64>,
    /// Consumption by its two CPUs, those with any, in the order of their numbers.
    #[serde(default)]
    pub by_cpu: Vec<CpuPair>,
    /// Consumption per second.
    pub consumed_per_s: f64,
    /// Modelled cost, nanoseconds per second.
    pub cost_ns_per_s: f64,
    /// Consumption per second whose RX queue is unknown.
    pub unattributed_per_s: f64,
}

/// The check that the table decides the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
            at_unix_s: None,
            nics,
            missing: world.missing.clone(),
            neighbours: Vec::new(),
            listeners: Vec::new(),
            pace: None,
            connects: Vec::new(),
            lever_states: lever::of_host(source, &[], &[]),
            cost: None,
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
                    softirq_share: queue.softirq_cpu.map(|_| queue.softirq_share),
                    load: queue.softirq_cpu.and_then(|cpu| world.softirq_share_of(cpu)),
                    packets_per_s: queue.packets_per_s,
                    consumed_per_s: queue.consumed_per_s,
                })
                .collect(),
            alignment: AlignmentReport {
                share: alignment.share,
                protocol_share: alignment.protocol_share,
                achievable: plan.achievable,
                by_distance: alignment.by_distance.iter().copied().collect(),
                by_cpu: alignment.by_cpu.clone(),
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
            lever_states: Vec::new(),
            history: Vec::new(),
            events: Vec::new(),
            last_change: None,
            next: Vec::new(),
        }
    }
}
