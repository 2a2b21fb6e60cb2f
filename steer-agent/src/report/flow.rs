//! The part of the status document about single flows.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::status::NicStatus;
use crate::model::{CpuId, Distance, Flow, FlowAddr, Mismatch, QueueId, bucket_of};

/// A flow that is consumed away from its queue's CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Consuming process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(default)]
    pub comm: String,
}

impl NicStatus {
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
                pid: flow.pid,
                comm: flow.comm.clone(),
            })
            .collect();
        reports.sort_by_key(|flow| (flow.local, flow.remote));
        self.flows = Some(reports);
    }
}

impl MismatchReport {
    pub(super) fn new(mismatch: &Mismatch) -> Self {
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
