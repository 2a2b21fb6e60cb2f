//! Every map of the kernel side, and why it is of this kind and size.
//!
//! Where the size depends on the machine it stands as [`BY_AGENT`] here and is set by the agent when
//! it loads the object (`observe/kernel/layout.rs`). The oldest kernel that has the type stands with
//! each; none is younger than 4.20, bar aya-log's ring buffer (5.8).
//!
//! The tables of counters are per-CPU arrays: an index computed from what is already in hand, then
//! one addition on memory that no other CPU writes. No hash, no atomic operation, no message.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray},
};
use steer_common::{
    abi,
    cells::Block,
    flow::{Arrival, FlowKey, FlowStat, RxFlow},
    knobs::Config,
    nic::{Napi, NicConfig, NicKey, NicRef, QueueState},
    toeplitz::Table,
};

/// The agent sets the size.
const BY_AGENT: u32 = 1;

/// Interfaces by index and namespace: [`abi::IFINDEXES_PER_NIC`] for each NIC. Hash, 3.19.
#[map]
pub(crate) static NICS: HashMap<NicKey, NicRef> = HashMap::with_max_entries(BY_AGENT, 0);

/// Settings by slot: one for each NIC. Array, 3.19.
#[map]
pub(crate) static NIC_CONFIG: Array<NicConfig> = Array::with_max_entries(BY_AGENT, 0);

/// Hashes of parts of the input by slot, where the hash is computed: 4.5 KiB for each NIC, too much
/// to stand among its settings. Array, 3.19.
#[map]
pub(crate) static HASH_TABLES: Array<Table> = Array::with_max_entries(BY_AGENT, 0);

/// Last NAPI id and CPU by slot and queue. A queue is polled on one CPU at a time, so that nobody
/// else writes its value. Array, 3.19.
#[map]
pub(crate) static QUEUE_STATE: Array<QueueState> = Array::with_max_entries(BY_AGENT, 0);

/// Slot, queue and CPU by NAPI id: four for each queue, at least [`abi::NAPIS_MIN`], because ids of
/// reopened NICs stay until the agent removes them. Not an LRU: with so few entries its per-CPU
/// lists would evict ids that are in use. Hash, 3.19.
#[map]
pub(crate) static NAPIS: HashMap<u32, Napi> = HashMap::with_max_entries(BY_AGENT, 0);

/// Packets by slot and bucket, counted on the CPU that polls. Per-CPU array, 4.6.
#[map]
pub(crate) static LOAD: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Packets by slot and queue, counted on the CPU that polls. Per-CPU array, 4.6.
#[map]
pub(crate) static QUEUE_PACKETS: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Consumption by slot and bucket, counted on the consumer's CPU. Per-CPU array, 4.6.
#[map]
pub(crate) static DEMAND: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Consumption by slot and queue, counted on the consumer's CPU. Per-CPU array, 4.6.
#[map]
pub(crate) static CONSUMED_QUEUE: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Consumption by slot and polling CPU, counted on the consumer's CPU. Per-CPU array, 4.6.
#[map]
pub(crate) static BY_NAPI_CPU: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Consumption by slot and protocol CPU, counted on the consumer's CPU. Per-CPU array, 4.6.
#[map]
pub(crate) static BY_PROTOCOL_CPU: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Consumption without a known queue by slot, on the consumer's CPU. Per-CPU array, 4.6.
#[map]
pub(crate) static UNATTRIBUTED: PerCpuArray<Block> = PerCpuArray::with_max_entries(BY_AGENT, 0);

/// Failures by `Health`: one block holds them all. Per-CPU array, 4.6.
#[map]
pub(crate) static HEALTH: PerCpuArray<Block> = PerCpuArray::with_max_entries(1, 0);

/// Flows that were consumed: [`abi::FLOWS`], the least recently consumed give way. LRU hash, 4.10.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, FlowStat> =
    LruHashMap::with_max_entries(abi::FLOWS, 0);

/// Flows seen by the XDP observer: [`abi::RX_FLOWS`], set to 1 where it is off. LRU hash, 4.10.
#[map]
pub(crate) static RX_FLOWS: LruHashMap<FlowKey, RxFlow> =
    LruHashMap::with_max_entries(abi::RX_FLOWS, 0);

/// Where packets came in by their hash: [`abi::ARRIVALS`], at [`Arrival::place`]. Written where it
/// differs, so that a steady flow costs one look. Array, 3.19.
#[map]
pub(crate) static ARRIVALS: Array<Arrival> = Array::with_max_entries(abi::ARRIVALS, 0);

/// What the agent may change at run time: one value. Array, 3.19.
#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
