//! Listeners and what becomes of their connections, for `status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::accept::CpuOutcomes;
use crate::model::listener::{Endpoint, Life};
use crate::model::{CpuId, CpuSet};
use crate::plan::accept::{Booked, GroupState};

/// How connections are brought to the CPU where they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// A lookup program with the sockets in a map; gone with the process.
    SkLookup,
    /// `SO_INCOMING_CPU` on each socket; gone with the socket.
    IncomingCpu,
    /// A program in each reuseport group, only where asked for by name; gone when it is taken out, or with
    /// the last socket of the group.
    Reuseport,
}

impl Mechanism {
    /// The name on the command line, in JSON and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SkLookup => "sk-lookup",
            Self::IncomingCpu => "incoming-cpu",
            Self::Reuseport => "reuseport",
        }
    }
}

/// The sockets on one address and port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListenerReport {
    /// Address and port.
    pub listen: String,
    /// Port.
    pub port: u16,
    /// How its connections are steered; null where they are not.
    pub mechanism: Option<Mechanism>,
    /// Why not.
    pub reason: Option<String>,
    /// Number of sockets.
    pub sockets: usize,
    /// CPUs that workers are at home on.
    pub cpus: CpuSet,
    /// Connections per second that were consumed for the first time.
    pub connections_per_s: f64,
    /// Share of them that was consumed on the CPU where they arrived; null without any.
    pub aligned: Option<f64>,
    /// Share that is to be expected with accept steering; null where not to be told.
    pub achievable: Option<f64>,
    /// The same by the kernel's hash alone.
    pub achievable_by_hash: Option<f64>,
    /// Connections of the busiest CPU as a multiple of the mean over all workers' CPUs; null without
    /// any.
    pub skew: Option<f64>,
    /// What became of connections in the window.
    pub outcomes: CpuOutcomes,
    /// The workers.
    pub workers: Vec<WorkerReport>,
}

/// A socket and who serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkerReport {
    /// The socket's cookie.
    pub cookie: u64,
    /// Process that consumed its connections last, or else holds it.
    pub pid: Option<u32>,
    /// The thread that did.
    pub tid: Option<u32>,
    /// Name of the process.
    pub comm: String,
    /// Where its connections are consumed.
    pub life: Life,
    /// Why it is given none, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was counted until some moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    outcomes: CpuOutcomes,
    consumed: u64,
    aligned: u64,
    by_cpu: BTreeMap<CpuId, u64>,
}

impl Counted {
    /// Of a group, until now.
    #[must_use]
    pub fn of(group: &GroupState) -> Self {
        Self {
            outcomes: group.outcomes,
            consumed: group.consumed,
            aligned: group.aligned,
            by_cpu: group.by_cpu.clone(),
        }
    }
}

impl ListenerReport {
    /// Of a group, for the window since `earlier`.
    #[must_use]
    pub fn new(
        endpoint: &Endpoint,
        group: &GroupState,
        earlier: &Counted,
        window_s: f64,
        mechanism: Mechanism,
    ) -> Self {
        let consumed = group.consumed.saturating_sub(earlier.consumed);
        let aligned = group.aligned.saturating_sub(earlier.aligned);
        let by_cpu = group.by_cpu.iter().map(|(cpu, count)| {
            count.saturating_sub(earlier.by_cpu.get(cpu).copied().unwrap_or_default())
        });
        let most = by_cpu.max().unwrap_or_default();
        let cpus = group.homes();
        let reason = group.refusal.clone().or_else(|| {
            let one = "it has one socket for all its workers: there is nothing to choose from";
            (group.members.len() < 2).then(|| one.to_owned())
        });
        Self {
            listen: endpoint.to_string(),
            port: endpoint.port,
            mechanism: reason.is_none().then_some(mechanism),
            reason,
            sockets: group.members.len(),
            connections_per_s: consumed as f64 / window_s.max(1e-3),
            aligned: (consumed > 0).then(|| aligned as f64 / consumed as f64),
            achievable: group.plan.achievable,
            achievable_by_hash: group.plan.by_hash,
            skew: (consumed > 0 && !cpus.is_empty())
                .then(|| most as f64 * cpus.len() as f64 / consumed as f64),
            cpus,
            outcomes: group.outcomes.since(&earlier.outcomes),
            workers: group.members.values().map(WorkerReport::new).collect(),
        }
    }
}

impl WorkerReport {
    fn new(booked: &Booked) -> Self {
        let thread = booked.memory.thread();
        let pid = thread.map(|(pid, _)| pid).or(booked.holders.first().map(|holder| holder.pid));
        let holder = booked.holders.iter().find(|holder| Some(holder.pid) == pid);
        let holder = holder.or(booked.holders.first());
        Self {
            cookie: booked.socket.cookie,
            pid,
            tid: thread.map(|(_, tid)| tid),
            comm: holder.map_or_else(|| "?".to_owned(), |holder| holder.comm.clone()),
            life: booked.memory.life(),
            reason: booked.refusal.clone(),
        }
    }
}
