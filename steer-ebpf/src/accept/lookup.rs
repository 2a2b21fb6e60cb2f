//! A new connection at the kernel's socket lookup: read from the context what it is.
//!
//! The kernel's own order is kept: a listener on the very address before one on any address. Where the
//! most exact match is not steered, nothing is assigned and the kernel goes on by itself.

use core::mem::offset_of;

use aya_ebpf::{bindings::bpf_sk_lookup, programs::SkLookupContext};
use steer_common::flow::{FlowKey, TCP, mapped};

use crate::{
    accept_knob,
    choice::{self, Give},
    key::{AF_INET, AF_INET6},
    maps,
};

/// Do not spread by hash among the group of the socket that was assigned
/// (include/uapi/linux/bpf.h `BPF_SK_LOOKUP_F_NO_REUSEPORT`).
const THIS_VERY_SOCKET: u64 = 2;

/// Assigns a listener where one lives on this CPU.
#[inline(always)]
pub(crate) fn choose(ctx: &SkLookupContext) {
    let lookup = ctx.lookup;
    let protocol = word(lookup, offset_of!(bpf_sk_lookup, protocol));
    if protocol != u32::from(TCP) {
        return;
    }
    let port = word(lookup, offset_of!(bpf_sk_lookup, local_port)) as u16;
    let Some(known_ns) = choice::known_ns(port) else {
        return;
    };
    // All of them at once, those that this family does not use are zero: a compiler that may read them
    // later computes addresses from the context, which the verifier does not allow.
    let remote = address(lookup, offset_of!(bpf_sk_lookup, remote_ip6));
    let local = address(lookup, offset_of!(bpf_sk_lookup, local_ip6));
    let remote_v4 = word(lookup, offset_of!(bpf_sk_lookup, remote_ip4)).to_ne_bytes();
    let local_v4 = word(lookup, offset_of!(bpf_sk_lookup, local_ip4)).to_ne_bytes();
    // The port is in the first two bytes of the word, in network order, and zeros follow; before 5.18
    // the word as a whole is in network order, which on these machines is the same.
    let [high, low, ..] = word(lookup, offset_of!(bpf_sk_lookup, remote_port)).to_ne_bytes();
    let mut key = FlowKey::EMPTY;
    let version = match word(lookup, offset_of!(bpf_sk_lookup, family)) as u16 {
        AF_INET => {
            key.remote = mapped(remote_v4);
            key.local = mapped(local_v4);
            4
        }
        AF_INET6 => {
            key.remote = remote;
            key.local = local;
            6
        }
        _ => return,
    };
    key.remote_port = [high, low];
    key.local_port = port.to_be_bytes();
    key.protocol = TCP;
    if choice::comes_from_outside(&key) && comes_by_the_nic(lookup) {
        choice::choose(ctx, &key, port, version, known_ns);
    }
}

impl Give for SkLookupContext {
    #[inline(always)]
    fn give(&self, socket: u32) -> bool {
        // The socket may have been closed a moment ago, or another program of this namespace have chosen.
        maps::LISTENERS.redirect_sk_lookup(self, socket, THIS_VERY_SOCKET).is_ok()
    }
}

/// Whether a connection comes by a steered NIC, where the kernel tells the interface. That alone does not
/// tell this host's own: a connection of this host to the address of an interface is told as coming by
/// it, though its packets go over loopback (net/ipv4/route.c `ip_route_output_key_hash_rcu`, `orig_oif`).
#[inline(always)]
fn comes_by_the_nic(lookup: *mut bpf_sk_lookup) -> bool {
    if accept_knob!(tells_interface) == 0 {
        return true;
    }
    // The agent has tried that the kernel has the field.
    let ifindex = word(lookup, offset_of!(bpf_sk_lookup, ingress_ifindex));
    // SAFETY: only its presence counts.
    unsafe { maps::INTERFACES.get(ifindex) }.is_some()
}

/// A word of the context.
#[inline(always)]
fn word(lookup: *mut bpf_sk_lookup, offset: usize) -> u32 {
    // SAFETY: the offset is that of a field, and the verifier checks the access. Volatile, so that it
    // happens where it stands.
    unsafe { lookup.byte_add(offset).cast::<u32>().read_volatile() }
}

/// Four words of the context: an address in the order in which it lies in memory.
#[inline(always)]
fn address(lookup: *mut bpf_sk_lookup, offset: usize) -> [u8; 16] {
    let [a, b, c, d] = [0, 4, 8, 12].map(|at| word(lookup, offset + at).to_ne_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}
