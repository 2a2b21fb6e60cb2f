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
    flow::NONE,
    health::Health,
    knobs::ABSENT,
    nic::{HASH_REPORTED, Napi, NicConfig, NicKey},
};

use crate::{
    field::{Device, Skb, knob, netns},
    health::{add_one, note},
    maps,
};

/// A packet that a driver gives to GRO. Its NAPI id was set a line before (`skb_mark_napi_id`).
#[inline(always)]
pub(crate) fn napi_packet(skb: *const c_void) {
    let skb = Skb::new(skb);
    packet(skb, skb.napi_id().unwrap_or(0));
}

/// A packet that a driver gives to the stack past GRO. Its NAPI id need not be set: the field may
/// still hold the number of the CPU that sent it (`sender_cpu` lies in a union with it).
#[inline(always)]
pub(crate) fn direct_packet(skb: *const c_void) {
    packet(Skb::new(skb), 0);
}

#[inline(always)]
fn packet(skb: Skb, napi_id: u32) {
    let Some(device) = skb.dev().map(Device::new) else {
        return note(Health::FieldAbsent);
    };
    let Some(ifindex) = device.ifindex() else {
        return note(Health::FieldAbsent);
    };
    let Some(slot) = slot_of(ifindex, netns(device.net())) else {
        return;
    };
    let Some(config) = maps::NIC_CONFIG.get(slot) else {
        return;
    };
    if config.hash_source == HASH_REPORTED {
        count_bucket(slot, config, skb);
    }
    let cpu = cpu();
    let Some(queue) = skb.rx_queue().or(only_queue(config)) else {
        if napi_id != 0 {
            remember_napi(napi_id, Napi { nic: slot as u16, queue: NONE, cpu, pad: 0 });
        }
        return;
    };
    count_queue(slot, config, queue, cpu, napi_id);
}

/// The slot of a NIC; `None` for interfaces that are not watched and for those stacked on one.
#[inline(always)]
pub(crate) fn slot_of(ifindex: u32, netns: u32) -> Option<u32> {
    // SAFETY: the value is read once; the agent replaces it as a whole.
    let nic = unsafe { maps::NICS.get(NicKey { ifindex, netns }) }?;
    if nic.upper != 0 { None } else { Some(nic.slot) }
}

/// The queue of a packet that does not name one.
#[inline(always)]
pub(crate) fn only_queue(config: &NicConfig) -> Option<u16> {
    if config.queues == 1 { Some(0) } else { None }
}

/// The current CPU, as far as 16 bits hold it: no kernel is built for more than 8192.
#[inline(always)]
pub(crate) fn cpu() -> u16 {
    // SAFETY: the helper has no conditions.
    unsafe { bpf_get_smp_processor_id() as u16 }
}

#[inline(always)]
fn count_bucket(slot: u32, config: &NicConfig, skb: Skb) {
    let Some(hash) = skb.nic_hash() else {
        return note(Health::NoHash);
    };
    match bucket_counter(slot, config, hash) {
        Some(counter) => add_one(&maps::LOAD, counter),
        None => note(Health::BucketOutOfRange),
    }
}

/// Where the bucket of a hash is counted.
#[inline(always)]
pub(crate) fn bucket_counter(slot: u32, config: &NicConfig, hash: u32) -> Option<u32> {
    let bucket = hash & config.bucket_mask;
    let stride = knob!(bucket_stride);
    if bucket < stride { Some(slot * stride + bucket) } else { None }
}

/// Where a queue is counted.
#[inline(always)]
pub(crate) fn queue_counter(slot: u32, config: &NicConfig, queue: u16) -> Option<u32> {
    let queue = u32::from(queue);
    let stride = knob!(queue_stride);
    if queue < config.queues && queue < stride { Some(slot * stride + queue) } else { None }
}

/// Counts a packet of a queue and keeps the queue's NAPI id and CPU up to date.
#[inline(always)]
pub(crate) fn count_queue(slot: u32, config: &NicConfig, queue: u16, cpu: u16, napi_id: u32) {
    let Some(counter) = queue_counter(slot, config, queue) else {
        return note(Health::QueueOutOfRange);
    };
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

/// Notes what a NAPI id stands for, if that is new. One NAPI may poll several queues.
#[inline(always)]
fn remember_napi(napi_id: u32, napi: Napi) {
    if let Some(known) = maps::NAPIS.get_ptr_mut(napi_id) {
        // SAFETY: a value of the map; a NAPI is polled on one CPU at a time.
        unsafe {
            if (*known).cpu != napi.cpu || (*known).queue != napi.queue || (*known).nic != napi.nic {
                *known = napi;
            }
        }
    } else if maps::NAPIS.insert(napi_id, napi, 0).is_err() {
        note(Health::NapiTableFull);
    }
}

// A queue's number plus one is never the absent marker.
const _: () = assert!(ABSENT > NONE as u32);
