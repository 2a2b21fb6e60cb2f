//! The port of a connection whose way is known.
//!
//! The Toeplitz hash is linear: the hash of a packet is that of its addresses and the far port,
//! joined by XOR with what this end's port adds. The agent has sorted the ports by what they add to the
//! bucket, so that the ports for a bucket are found by one subtraction of bits and one look into the
//! list, whatever the addresses are. Nothing is searched for; what is tried again is only whether a
//! port is free.
//!
//! Each CPU goes round its list, from a place that depends on the destination and a secret. A port is
//! thus used again as late as can be, and two CPUs never want the same port for one destination:
//! it leads to one of them.

use core::hint::black_box;

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::SockAddrContext};
use steer_common::{
    connect::{
        FAMILIES, Outcome, PORTS_MAX, PORTS_PER_BLOCK, RECENT_PER_CPU, Settings, Slot, Span, TRIES,
        V4,
    },
    toeplitz::Table,
};

use crate::{
    maps::{self, count},
    socket::{self, Address, Ends, Occupant},
    steer::bytes,
};

/// Where the replies are wanted.
pub(crate) struct Wanted {
    pub(crate) slot: u32,
    pub(crate) family: u32,
    pub(crate) cpu: u32,
}

/// Odd, so that multiplying by it loses nothing: 2^32 over the golden ratio.
const SCATTER: u32 = 0x9e37_79b9;

/// Gives the socket a port, if one can be found.
#[inline(always)]
pub(crate) fn port(
    ctx: &SockAddrContext,
    wanted: &Wanted,
    ends: &Ends,
    bound: &Address,
    v6_socket: bool,
    settings: &Settings,
) -> Outcome {
    let (Some(slot), Some(hashes)) = (maps::SLOTS.get(wanted.slot), maps::HASHES.get(wanted.slot))
    else {
        return Outcome::Off;
    };
    if wanted.cpu >= settings.cpus {
        return Outcome::NoQueue;
    }
    let Some(near) = maps::CPUS.get(wanted.slot * settings.cpus + wanted.cpu) else {
        return Outcome::NoQueue;
    };
    if near.length == 0 {
        return Outcome::NoQueue;
    }
    if slot.families[usize::from(wanted.family != V4)] == 0 {
        return Outcome::NoPort;
    }
    let base = slot.initial ^ without_port(hashes, ends);
    let Some(turn) = maps::TURNS.get_ptr_mut(0) else { return Outcome::Off };
    // SAFETY: a value of this CPU.
    let turn = unsafe {
        *turn = (*turn).wrapping_add(1);
        *turn
    };
    let start = turn.wrapping_add(place(base, settings.secret));

    let Some(sharing) = socket::sharing(ctx) else { return Outcome::NoReuse };
    if !socket::set_sharing(ctx, 1) {
        return Outcome::NoReuse;
    }
    let mut free_to_try = 0;
    let mut tried = 0;
    while tried < TRIES {
        let index = start.wrapping_add(tried);
        tried += 1;
        let Some((bucket, port)) = candidate(wanted, settings, slot, near, base, index) else {
            continue;
        };
        if (base ^ added(hashes, ends.v4, port) ^ bucket) & slot.mask != 0 {
            count(Outcome::Torn);
            continue;
        }
        // The verifier follows each value on its own, unless it does not know it.
        free_to_try = black_box(1);
        let occupant = socket::occupant(ctx, ends, port, settings);
        if occupant == Occupant::Somebody {
            count(Outcome::InUse);
            continue;
        }
        if socket::bind(ctx, v6_socket, bound, port) {
            if occupant == Occupant::Leftover {
                count(Outcome::TimeWait);
            }
            note(wanted, ends, port, bucket, turn);
            return Outcome::Steered;
        }
        count(Outcome::Held);
        // A bind that fails takes the socket's address away too (`__inet_bind`); give it back.
        socket::bind(ctx, v6_socket, bound, 0);
    }
    socket::set_sharing(ctx, sharing);
    if free_to_try == 0 { Outcome::NoPort } else { Outcome::Crowded }
}

/// The hash of everything but this end's port.
#[inline(always)]
fn without_port(hashes: &Table, ends: &Ends) -> u32 {
    let port = ends.remote_port.to_ne_bytes();
    let ports = [port[0], port[1], 0, 0];
    let (remote, local) = (&ends.remote, &ends.local);
    if ends.v4 {
        return hashes.word(0, remote[3].to_ne_bytes())
            ^ hashes.word(1, local[3].to_ne_bytes())
            ^ hashes.word(2, ports);
    }
    hashes.word(0, remote[0].to_ne_bytes())
        ^ hashes.word(1, remote[1].to_ne_bytes())
        ^ hashes.word(2, remote[2].to_ne_bytes())
        ^ hashes.word(3, remote[3].to_ne_bytes())
        ^ hashes.word(4, local[0].to_ne_bytes())
        ^ hashes.word(5, local[1].to_ne_bytes())
        ^ hashes.word(6, local[2].to_ne_bytes())
        ^ hashes.word(7, local[3].to_ne_bytes())
        ^ hashes.word(8, ports)
}

/// What this end's port adds.
#[inline(always)]
fn added(hashes: &Table, v4: bool, port: u16) -> u32 {
    let [high, low] = port.to_be_bytes();
    let ports = [0, 0, high, low];
    if v4 { hashes.word(2, ports) } else { hashes.word(8, ports) }
}

/// Where in its list a CPU begins for a destination: scattered by a secret, so that who sees one
/// destination's ports cannot tell another's.
#[inline(always)]
fn place(base: u32, secret: u64) -> u32 {
    let mixed = (base ^ secret as u32).wrapping_mul(SCATTER);
    (mixed ^ (mixed >> 15) ^ (secret >> 32) as u32).wrapping_mul(SCATTER) >> 8
}

/// The bucket and the port at a place of the list.
#[inline(always)]
fn candidate(
    wanted: &Wanted,
    settings: &Settings,
    slot: &Slot,
    near: &Span,
    base: u32,
    index: u32,
) -> Option<(u32, u16)> {
    // The verifier of some kernels wants to see that a divisor is not zero.
    let buckets = near.length.max(1);
    let bucket =
        *maps::BUCKETS.get(wanted.slot * settings.buckets + near.start + index % buckets)?;
    let tables = wanted.slot * FAMILIES + wanted.family;
    let class = maps::CLASSES.get(tables * settings.buckets + ((base ^ bucket) & slot.mask))?;
    if class.length == 0 {
        return None;
    }
    let at = class.start + (index / buckets) % class.length;
    let block = maps::PORTS
        .get(tables * (PORTS_MAX / PORTS_PER_BLOCK) + (at & (PORTS_MAX - 1)) / PORTS_PER_BLOCK)?;
    let ports = (&raw const block.ports).cast::<u16>();
    // SAFETY: the position is masked to the block's size.
    Some((bucket, unsafe { *ports.add((at & (PORTS_PER_BLOCK - 1)) as usize) }))
}

/// Remembers a connection for the agent to look up.
#[inline(always)]
fn note(wanted: &Wanted, ends: &Ends, port: u16, bucket: u32, turn: u32) {
    let place = wanted.cpu * RECENT_PER_CPU + (turn & (RECENT_PER_CPU - 1));
    if let Some(recent) = maps::RECENT.get_ptr_mut(place) {
        // SAFETY: a value of the map that this CPU alone writes. The agent may read it half written;
        // it checks that the bucket is that of the ends.
        unsafe {
            (*recent).remote = bytes(&ends.remote);
            (*recent).local = bytes(&ends.local);
            (*recent).remote_port = u16::from_be(ends.remote_port);
            (*recent).local_port = port;
            (*recent).bucket = bucket;
            (*recent).cpu = wanted.cpu;
            (*recent).slot = wanted.slot;
            (*recent).at_ns = bpf_ktime_get_ns();
        }
    }
}
