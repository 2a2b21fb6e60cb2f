//! What is remembered of single flows, and the hash of those whose NIC reports none.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid,
    generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
};
use steer_common::{
    flow::{FlowKey, FlowStat, HASH_COMPUTED, HASH_KNOWN, NONE, TCP},
    health::Health,
    nic::{self, FIELDS_PORTS, FIELDS_UNKNOWN, NicConfig, TCP4, TCP6, UDP4, UDP6},
};

use crate::{health::note, maps, origin::Origin};

/// A consumption as the flow sees it.
pub(crate) struct Touch {
    pub(crate) origin: Origin,
    /// The hash that the NIC reported; 0 for none.
    pub(crate) hash: u32,
    pub(crate) protocol_cpu: u16,
    pub(crate) consumer_cpu: u16,
    /// How many consumptions this one stands for; 0 to look up the hash only.
    pub(crate) weight: u64,
}

/// Whether this consumption is taken for the table of flows: 0, or how many it stands for.
#[inline(always)]
pub(crate) fn sample() -> u64 {
    let mask = match maps::CONFIG.get(0) {
        Some(config) => config.sample_mask,
        None => 0,
    };
    if mask == 0 {
        return 1;
    }
    // SAFETY: the helper has no conditions.
    let random = unsafe { bpf_get_prandom_u32() };
    if random & mask == 0 { u64::from(mask) + 1 } else { 0 }
}

/// Finds or makes the flow's entry and brings it up to date. Returns its hash; 0 for none.
#[inline(always)]
pub(crate) fn touch(key: &FlowKey, touch: &Touch, config: &NicConfig) -> u32 {
    match maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: a value of the map. If it is evicted meanwhile, a few counts go to another flow.
        Some(flow) => unsafe { renew(&mut *flow, touch) },
        None => insert(key, touch, config),
    }
}

#[inline(always)]
fn insert(key: &FlowKey, touch: &Touch, config: &NicConfig) -> u32 {
    let computed = config.hash_source == nic::HASH_COMPUTED;
    let hash = if computed { computed_hash(key, touch.origin.nic, config) } else { touch.hash };
    let flags = match (hash, computed) {
        (0, _) => 0,
        (_, true) => HASH_KNOWN | HASH_COMPUTED,
        (_, false) => HASH_KNOWN,
    };
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let flow = FlowStat {
        first_ns: now,
        last_ns: now,
        consumed: touch.weight,
        mismatched: if mismatch(touch) { touch.weight } else { 0 },
        consumer_moves: 0,
        hash,
        flags,
        nic: touch.origin.nic as u16,
        queue: touch.origin.queue,
        napi_cpu: touch.origin.napi_cpu,
        protocol_cpu: touch.protocol_cpu,
        consumer_cpu: touch.consumer_cpu,
        pad: 0,
        pid: pid(),
        comm: comm(),
    };
    if maps::FLOWS.insert(key, flow, 0).is_err() {
        note(Health::TableFull);
    }
    hash
}

#[inline(always)]
fn renew(flow: &mut FlowStat, touch: &Touch) -> u32 {
    if touch.hash != 0 {
        flow.hash = touch.hash;
        flow.flags = HASH_KNOWN;
    }
    if touch.weight != 0 {
        // SAFETY: the helper has no conditions.
        flow.last_ns = unsafe { bpf_ktime_get_ns() };
        flow.consumed += touch.weight;
        if mismatch(touch) {
            flow.mismatched += touch.weight;
        }
        if flow.consumer_cpu != touch.consumer_cpu {
            flow.consumer_cpu = touch.consumer_cpu;
            flow.consumer_moves += 1;
        }
        flow.nic = touch.origin.nic as u16;
        flow.queue = touch.origin.queue;
        flow.napi_cpu = touch.origin.napi_cpu;
        flow.protocol_cpu = touch.protocol_cpu;
        let pid = pid();
        if flow.pid != pid {
            flow.pid = pid;
            flow.comm = comm();
        }
    }
    flow.hash
}

#[inline(always)]
fn mismatch(touch: &Touch) -> bool {
    touch.origin.napi_cpu != NONE && touch.origin.napi_cpu != touch.consumer_cpu
}

/// The process that reads, as the user knows it: the thread group.
#[inline(always)]
fn pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn comm() -> [u8; 16] {
    bpf_get_current_comm().unwrap_or([0; 16])
}

/// The hash that the NIC computed for packets of this flow; 0 where it is not known over what.
#[inline(always)]
fn computed_hash(key: &FlowKey, nic: u32, config: &NicConfig) -> u32 {
    let fields = config.fields[match (key.protocol == TCP, key.is_v4()) {
        (true, true) => TCP4,
        (true, false) => TCP6,
        (false, true) => UDP4,
        (false, false) => UDP6,
    }];
    if fields == FIELDS_UNKNOWN {
        return 0;
    }
    match maps::HASH_TABLES.get(nic) {
        Some(table) => key.toeplitz(table, fields == FIELDS_PORTS),
        None => 0,
    }
}
