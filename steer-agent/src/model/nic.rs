//! One NIC as it was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CpuId, CpuSet, KeyVariant, QueueId, RuleTable};

/// A NIC and its settings at one moment. Optional means "this kernel or driver does not say".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Name of the interface.
    pub name: String,
    /// Its index in this network namespace.
    pub ifindex: u32,
    /// Indexes of the interfaces stacked on it whose packets arrive through it (VLANs).
    pub upper_ifindexes: Vec<u32>,
    /// The driver's name (`/sys/class/net/IF/device/driver`); none for virtual interfaces.
    pub driver: Option<String>,
    /// Bus address of the device, such as `0000:00:03.0`: its identity over renames.
    pub bus: Option<String>,
    /// Permanent or current hardware address as in `/sys/class/net/IF/address`.
    pub address: Option<String>,
    /// NUMA node of the device; -1 in sysfs is `None` here.
    pub node: Option<u32>,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether the link has carrier; unknown while the interface is down.
    pub carrier: Option<bool>,
    /// How often the carrier changed since the driver was loaded.
    pub carrier_changes: Option<u64>,
    /// Its MTU.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Descriptors of an RX ring (`ETHTOOL_GRINGPARAM`).
    #[serde(default)]
    pub ring_size: Option<u32>,
    /// Channel counts (`ETHTOOL_GCHANNELS`).
    pub channels: Option<Channels>,
    /// RX rings that the table may name (`ETHTOOL_GRXRINGS`).
    pub rx_rings: Option<u32>,
    /// What RSS is set to; `None` where the driver has no indirection table.
    pub rss: Option<Rss>,
    /// RX queues in rising order, as in sysfs.
    pub queues: Vec<Queue>,
    /// Name of each offload and feature that matters here, with its state (`ethtool -k`).
    pub features: BTreeMap<String, bool>,
    /// Private flags of the driver that matter here ([`super::Driver::flags`]), with their state.
    #[serde(default)]
    pub private_flags: BTreeMap<String, bool>,
    /// Exact-match rules in the NIC; `None` where it has no place for any.
    #[serde(default)]
    pub rule_count: Option<u32>,
    /// Virtual functions that are enabled on it (`device/sriov_numvfs`); `None` where it has none.
    #[serde(default)]
    pub virtual_functions: Option<u32>,
    /// It is a virtual function itself (`device/physfn`).
    #[serde(default)]
    pub is_virtual_function: bool,
    /// Exact-match rules; `None` where the driver has none or they are switched off.
    #[serde(default)]
    pub rules: Option<RuleTable>,
    /// Threaded NAPI (`/sys/class/net/IF/threaded`).
    pub threaded_napi: Option<bool>,
    /// Id of an XDP program on the interface.
    pub xdp_program: Option<u32>,
    /// Settings of interrupt moderation.
    pub coalesce: Option<Coalesced>,
    /// Counters of what went wrong.
    pub drops: DropCounters,
}

/// Interrupt moderation, as far as steer reports it (`ETHTOOL_GCOALESCE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coalesced {
    /// Delay of an RX interrupt in microseconds.
    pub rx_us: u32,
    /// Whether the driver adapts that delay by itself.
    pub adaptive_rx: bool,
}

/// Channel counts now and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// RX-only channels in use.
    pub rx: u32,
    /// TX-only channels in use.
    pub tx: u32,
    /// Combined channels in use.
    pub combined: u32,
    /// Most RX-only channels.
    pub max_rx: u32,
    /// Most TX-only channels.
    pub max_tx: u32,
    /// Most combined channels.
    pub max_combined: u32,
}

/// RSS settings of the main context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rss {
    /// The indirection table: RX queue by bucket. May be empty where the driver says size 0.
    pub table: Vec<QueueId>,
    /// The hash key, and how it is known; `None` where nothing tells it.
    pub key: Option<RssKey>,
    /// What live flows say about that key, where packets carry no hash.
    #[serde(default)]
    pub key_variant: KeyVariant,
    /// Name of the hash function in use (`toeplitz`, `xor`, `crc32`).
    pub hash_function: Option<String>,
    /// The `input_xfrm` field: 0 is plain, bit 0 symmetric XOR; `None` where the kernel lacks it.
    pub input_xfrm: Option<u8>,
    /// Additional RSS contexts that exist, whose traffic is outside `table`; unknown before the
    /// kernel could list them (`ETHTOOL_MSG_RSS_GET`).
    pub extra_contexts: Option<u32>,
    /// Which header fields the hash covers, by flow type.
    pub hash_fields: HashFields,
}

/// A hash key with its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RssKey {
    /// The bytes, most significant first; 40 or 52 of them as a rule.
    pub bytes: Vec<u8>,
    /// Read from the driver; else it is the kernel's key for all NICs
    /// (`/proc/sys/net/core/netdev_rss_key`), which drivers that hide theirs usually take.
    pub from_driver: bool,
}

/// Whether ports enter the hash (`ETHTOOL_GRXFH`: `RXH_L4_B_0_1 | RXH_L4_B_2_3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashFields {
    /// TCP over IPv4.
    pub tcp4_ports: Option<bool>,
    /// TCP over IPv6.
    pub tcp6_ports: Option<bool>,
    /// UDP over IPv4.
    pub udp4_ports: Option<bool>,
    /// UDP over IPv6.
    pub udp6_ports: Option<bool>,
}

/// Where the IRQ of a queue was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IrqSource {
    /// The netdev netlink family: queue to NAPI to IRQ.
    Netlink,
    /// The IRQ's name in `/sys/kernel/irq/N/actions` or `/proc/interrupts`.
    Name,
}

/// One RX queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its number.
    pub id: QueueId,
    /// The interrupt that serves it.
    pub irq: Option<u32>,
    /// How `irq` is known.
    pub irq_source: Option<IrqSource>,
    /// The interrupt's action name, such as `eth0-rx-0`.
    pub irq_name: Option<String>,
    /// The NAPI id, where netlink tells it.
    pub napi_id: Option<u32>,
    /// The CPU of the threaded-NAPI kernel thread's pid, where there is one.
    pub napi_pid: Option<u32>,
    /// `/proc/irq/N/smp_affinity_list`.
    pub affinity: Option<CpuSet>,
    /// `/proc/irq/N/effective_affinity_list`.
    pub effective: Option<CpuSet>,
    /// The kernel owns this affinity and refuses writes (mode 0444).
    pub managed: bool,
    /// `queues/tx-N/xps_cpus` of the TX queue with the same number.
    pub xps: Option<CpuSet>,
    /// `queues/rx-N/rps_cpus`; not empty means that RPS hands packets over.
    pub rps: Option<CpuSet>,
    /// `queues/rx-N/rps_flow_cnt`; above zero means RFS.
    pub rps_flows: Option<u32>,
}

impl Queue {
    /// Whether steer can move its interrupt.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.irq.is_some() && self.affinity.is_some() && !self.managed
    }

    /// The CPU that its interrupt is delivered to, as far as settings tell.
    #[must_use]
    pub fn irq_cpu(&self) -> Option<CpuId> {
        self.effective.as_ref().or(self.affinity.as_ref()).and_then(CpuSet::as_single)
    }
}

/// Counters that must not rise because of steer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCounters {
    /// `statistics/rx_dropped`.
    pub rx_dropped: Option<u64>,
    /// `statistics/rx_missed_errors`.
    pub rx_missed: Option<u64>,
    /// `statistics/rx_fifo_errors`.
    pub rx_fifo: Option<u64>,
    /// `statistics/tx_dropped`.
    pub tx_dropped: Option<u64>,
}

impl DropCounters {
    /// Packets that were lost on receive for want of room, as far as the NIC says.
    #[must_use]
    pub fn lost_on_receive(&self) -> Option<u64> {
        let parts = [self.rx_missed, self.rx_fifo, self.rx_dropped];
        parts.iter().any(Option::is_some).then(|| parts.into_iter().flatten().sum())
    }
}
