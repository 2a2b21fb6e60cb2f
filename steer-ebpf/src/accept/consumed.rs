//! Where an accepted connection is consumed for the first time, and by whom.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_get_smp_processor_id};
use steer_common::{
    accept::{Seen, SeenKey},
    flow::FlowKey,
};

use crate::{field::Sock, field::knob, key::tcp_key, maps};

/// Data was taken out of a TCP socket. After the first time its connection is no longer looked for.
#[inline(always)]
pub(crate) fn first(sock: *const c_void) {
    let sock = Sock::new(sock);
    // Most consumption is of other ports, or of connections that have been counted.
    // SAFETY: only its presence counts.
    if unsafe { maps::KNOWN_NS.get(sock.num()) }.is_none() || sock.netns() != knob!(netns) {
        return;
    }
    let mut key = FlowKey::EMPTY;
    if !tcp_key(sock, &mut key) {
        return;
    }
    // SAFETY: the value is read once, before it is removed.
    let Some(pending) = (unsafe { maps::PENDING_FLOWS.get(key) }).copied() else {
        return;
    };
    // Evicted meanwhile: it was counted, then, no more than once.
    let _ = maps::PENDING_FLOWS.remove(key);
    // SAFETY: the helper has no conditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u16;
    let ids = bpf_get_current_pid_tgid();
    let (pid, tid) = ((ids >> 32) as u32, ids as u32);
    let aligned = u64::from(pending.cpu == cpu);
    let at = SeenKey { group: pending.group, member: pending.member, cpu, pad: 0 };
    match maps::SEEN_MEMBERS.get_ptr_mut(at) {
        Some(seen) => {
            // SAFETY: a value of the map, whose key names this CPU.
            let seen = unsafe { &mut *seen };
            seen.connections += 1;
            seen.aligned += aligned;
            if seen.tid != tid {
                seen.thread_changes += 1;
                seen.pid = pid;
                seen.tid = tid;
            }
        }
        None => {
            let seen = Seen { connections: 1, aligned, thread_changes: 0, pid, tid };
            // With the table full the agent learns nothing of this pair, and steers nothing there.
            let _ = maps::SEEN_MEMBERS.insert(at, seen, 0);
        }
    }
}
