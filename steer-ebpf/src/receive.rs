//! The softirq side: which queue and bucket a packet came through, and which CPU polled it.
//!
//! The hooks fire before GRO and before RPS, on the CPU that polls the queue, once for each packet
//! and with the hash as the NIC reported it. `net:netif_receive_skb` would be dearer to interpret:
//! it fires after RPS, on the CPU that the packet was handed to (`net/core/dev.c`,
//! `__netif_receive_skb_core`).
//!
//! Nothing is counted twice: a packet given to GRO goes on through `netif_receive_skb_list_internal`,
//! which has no `_entry` tracepoint; `netif_receive_skb_entry` and its list variant fire only where a
//! driver calls those functions itself. Bridges do that again for the same packet, with themselves
//! as its device; hence only packets whose device is the NIC itself are counted, not its uppers'.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use steer_common::{
    flow::{Arrival, NONE},
    health::Health,
    nic::{HASH_REPORTED, Napi, NicConfig, NicKey},
};

use crate::{
    field::{Skb, knob, present},
    health::{add_one, note},
    maps,
};

/// A packet that a driver gives to GRO. Its NAPI id was set a line before (`skb_mark_napi_id`).
#[inline(always)]
pub(crate) fn napi_packet(skb: *const c_void) {
    let skb = Skb::new(skb);
    packet(skb, skb.napi_id());
}

/// A packet that a driver gives to the stack past GRO. Its NAPI id need not be set: the field may
/// still hold the number of the CPU that sent it (`sender_cpu` lies in a union with it).
#[inline(always)]
pub(crate) fn direct_packet(skb: *const c_void) {
    packet(Skb::new(skb), 0);
}

#[inline(always)]
fn packet(skb: Skb, napi_id: u32) {
    if !present!(skb_dev, dev_ifindex) {
        return note(Health::FieldAbsent);
    }
    let device = skb.device();
    let Some(Watched { slot, config }) = watched(device.ifindex(), device.netns()) else {
        return;
    };
    let hash = if config.hash_source == HASH_REPORTED { skb.nic_hash() } else { 0 };
    if config.hash_source == HASH_REPORTED {
        count_bucket(slot, config, hash);
    }
    let cpu = cpu();
    let queue = named_or_only(skb.rx_queue(), config);
    if queue != NONE {
        count_queue(slot, config, queue, cpu, napi_id);
        if hash != 0 {
            remember_arrival(Arrival::new(hash, slot as u16, queue));
        }
    } else if napi_id != 0 {
        remember_napi(napi_id, Napi { nic: slot as u16, queue: NONE, cpu, pad: 0 });
    }
}

/// A NIC that is watched.
pub(crate) struct Watched {
    pub(crate) slot: u32,
    pub(crate) config: &'static NicConfig,
}

/// The NIC with this index; `None` for interfaces that are not watched and for those stacked on one.
#[inline(always)]
pub(crate) fn watched(ifindex: u32, netns: u32) -> Option<Watched> {
    // SAFETY: the value is read once; the agent replaces it as a whole.
    let nic = unsafe { maps::NICS.get(NicKey { ifindex, netns }) }?;
    if nic.upper != 0 {
        return None;
    }
    let slot = nic.slot;
    let config = maps::NIC_CONFIG.get(slot)?;
    Some(Watched { slot, config })
}

/// The queue of a packet that names one, or the only one that there is.
#[inline(always)]
pub(crate) fn named_or_only(queue: u16, config: &NicConfig) -> u16 {
    if queue == NONE && config.queues == 1 { 0 } else { queue }
}

/// The current CPU, as far as 16 bits hold it: no kernel is built for more than 8192.
#[inline(always)]
pub(crate) fn cpu() -> u16 {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_get_smp_processor_id() as u16 }
}

#[inline(always)]
fn count_bucket(slot: u32, config: &NicConfig, hash: u32) {
    let bucket = hash & config.bucket_mask;
    let stride = knob!(bucket_stride);
    if hash == 0 {
        note(Health::NoHash);
    } else if bucket >= stride {
        note(Health::BucketOutOfRange);
    } else {
        add_one(&maps::LOAD, slot * stride + bucket);
    }
}

/// Whether a queue has a place in the tables.
#[inline(always)]
pub(crate) fn has_counter(config: &NicConfig, queue: u16) -> bool {
    u32::from(queue) < config.queues && u32::from(queue) < knob!(queue_stride)
}

/// The place of a queue that [`has_counter`].
#[inline(always)]
pub(crate) fn queue_counter(slot: u32, queue: u16) -> u32 {
    slot * knob!(queue_stride) + u32::from(queue)
}

/// Counts a packet of a queue and keeps the queue's NAPI id and CPU up to date.
#[inline(always)]
pub(crate) fn count_queue(slot: u32, config: &NicConfig, queue: u16, cpu: u16, napi_id: u32) {
    if !has_counter(config, queue) {
        return note(Health::QueueOutOfRange);
    }
    let counter = queue_counter(slot, queue);
    add_one(&maps::QUEUE_PACKETS, counter);

    let Some(state) = maps::QUEUE_STATE.get_ptr_mut(counter) else {
        return;
    };
    let cpu_plus_one = u32::from(cpu) + 1;
    // SAFETY: a value of the map; a queue is polled, and its state written, on one CPU at a time.
    unsafe {
        let moved = (*state).cpu_plus_one != cpu_plus_one;
        let renamed = napi_id != 0 && (*state).napi_id != napi_id;
        if moved {
            (*state).cpu_plus_one = cpu_plus_one;
        }
        if renamed {
            (*state).napi_id = napi_id;
        }
        if napi_id != 0 && (moved || renamed) {
            remember_napi(napi_id, Napi { nic: slot as u16, queue, cpu, pad: 0 });
        }
    }
}

/// Notes where packets of this hash come in, if that is new.
#[inline(always)]
fn remember_arrival(arrival: Arrival) {
    if let Some(known) = maps::ARRIVALS.get_ptr_mut(Arrival::place(arrival.hash())) {
        // SAFETY: a value of the map, one aligned word. Two CPUs that write at once have two hashes of
        // one place, of which either may stay.
        unsafe {
            if *known != arrival {
                *known = arrival;
            }
        }
    }
}

/// Notes what a NAPI id stands for, if that is new. One NAPI may poll several queues.
#[inline(always)]
fn remember_napi(napi_id: u32, napi: Napi) {
    if let Some(known) = maps::NAPIS.get_ptr_mut(napi_id) {
        // SAFETY: a value of the map; a NAPI is polled on one CPU at a time.
        unsafe {
            if (*known).cpu != napi.cpu || (*known).queue != napi.queue || (*known).nic != napi.nic
            {
                *known = napi;
            }
        }
    } else if maps::NAPIS.insert(napi_id, napi, 0).is_err() {
        note(Health::NapiTableFull);
    }
}
