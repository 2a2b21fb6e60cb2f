//! What was read in one go, and when. No rates, no conclusions.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{CpuId, Interrupts, Matrix, Nic, QueueId, Topology};

/// One reading of everything. Two of them make a `World`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Monotonic clock (`CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`), in nanoseconds.
    pub at_ns: u64,
    /// When observing began, on the same clock: flows first seen about then may be older.
    #[serde(default)]
    pub since_ns: u64,
    /// Online CPUs.
    pub topology: Topology,
    /// Softirq time since boot by CPU, in nanoseconds; `None` where /proc/stat could not be read.
    pub softirq_ns: Option<Vec<(CpuId, u64)>>,
    /// TCP segments of the network namespace since boot; `None` where they could not be read.
    #[serde(default)]
    pub tcp: Option<TcpSegments>,
    /// The NICs under observation.
    pub nics: Vec<NicSample>,
    /// The flows that the kernel side remembers (a bounded set of recent ones).
    pub flows: Vec<Flow>,
    /// What this host accepts connections on, as (IP protocol, port); `None` where it could not be
    /// read.
    #[serde(default)]
    pub listening: Option<BTreeSet<(u8, u16)>>,
    /// Interrupts of the NICs and calls from CPU to CPU; `None` where nobody asked for them, or they
    /// could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupts: Option<Interrupts>,
    /// One consumption in 2 to the power of this was put down to its flow; `None` where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_sampling: Option<u32>,
    /// In-kernel failure counters by name.
    pub health: Vec<(String, u64)>,
    /// Sentences about what could not be read this time.
    pub missing: Vec<String>,
}

/// TCP segments, of a network namespace and not of a NIC: the kernel does not tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpSegments {
    /// Sent for the first time (`OutSegs` of /proc/net/snmp, RFC 2012).
    pub sent: u64,
    /// Sent again (`RetransSegs`).
    pub retransmitted: u64,
}

impl TcpSegments {
    /// What was sent since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(earlier.sent),
            retransmitted: self.retransmitted.saturating_sub(earlier.retransmitted),
        }
    }

    /// Share of the segments that were sent again.
    #[must_use]
    pub fn share(self) -> f64 {
        self.retransmitted as f64 / self.sent.max(1) as f64
    }
}

/// One NIC in a sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NicSample {
    /// Its settings.
    pub nic: Nic,
    /// Its counters since the programs were attached.
    pub counters: NicCounters,
}

/// Cumulative counters of one NIC. Columns are CPUs by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NicCounters {
    /// Packets by bucket and softirq CPU; `None` where packets carry no NIC hash.
    pub load: Option<Matrix>,
    /// Consumption by bucket and consumer CPU; `None` where the bucket cannot be known.
    pub demand: Option<Matrix>,
    /// Packets by RX queue and softirq (NAPI) CPU.
    pub queue_packets: Matrix,
    /// Consumption by RX queue and consumer CPU.
    pub queue_consumed: Matrix,
    /// Consumption by NAPI CPU of the flow's queue (row) and consumer CPU (column).
    pub consumed_by_napi: Matrix,
    /// Consumption by protocol CPU (`sk_incoming_cpu`, row) and consumer CPU (column).
    pub consumed_by_protocol: Matrix,
    /// Consumption whose RX queue was not known; it is in none of the tables above.
    pub unattributed: u64,
}

/// The two ends of a flow, this host's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FlowAddr {
    /// IP protocol: 6 is TCP, 17 is UDP.
    pub protocol: u8,
    /// This host's end.
    pub local: SocketAddr,
    /// The far end.
    pub remote: SocketAddr,
}

/// One flow as the kernel side remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Addresses and ports.
    pub addr: FlowAddr,
    /// Interface index of the NIC that its last packet came through.
    pub ifindex: Option<u32>,
    /// RX queue of its last packet.
    pub queue: Option<QueueId>,
    /// The NIC's hash of its last packet, or the one computed from the key.
    pub hash: Option<u32>,
    /// `hash` was computed, not reported by the NIC.
    pub hash_computed: bool,
    /// The CPU that polls its queue.
    pub softirq_cpu: Option<CpuId>,
    /// The CPU that did its protocol work (`sk_incoming_cpu`).
    pub protocol_cpu: Option<CpuId>,
    /// The CPU where its data was last consumed.
    pub consumer_cpu: CpuId,
    /// Consumption since it was first seen.
    pub consumed: u64,
    /// Of that, on another CPU than the one that polled its queue.
    pub mismatched: u64,
    /// How often its consumer changed CPU.
    pub consumer_moves: u64,
    /// First consumption, on the clock of [`Sample::at_ns`].
    pub first_ns: u64,
    /// Last consumption, on the same clock.
    pub last_ns: u64,
    /// Process id of the last consumer; none where no process read it.
    pub pid: Option<u32>,
    /// Name of that task.
    pub comm: String,
}
