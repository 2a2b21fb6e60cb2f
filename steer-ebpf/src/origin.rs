//! Where a consumed flow came from: NIC, RX queue, and the CPU that polls that queue.
//!
//! Four sources, the best first:
//!
//! 1. the NAPI id that the socket or packet carries, which `receive` has tied to a NIC, a queue and
//!    the CPU that polls it *now*: it stays right when the queue's interrupt moves;
//! 2. the interface of the socket's route with the queue that the socket remembers, for drivers
//!    that bypass GRO and set no NAPI id;
//! 3. the NIC's hash, which stays with a packet on its way through bridges, routing, address
//!    translation and virtual pairs into a container, while queue and NAPI id are lost there
//!    (`veth_xmit`, `netdev_core_pick_tx`): `receive` noted where it came in;
//! 4. with the XDP observer, what it noted for the very flow.
//!
//! A flow whose NIC none of them names (loopback, an unwatched NIC, a container behind a NIC that
//! reports no hash) has no origin and is not counted anywhere. That another flow's hash is taken for
//! it takes the same 32 bits.

use steer_common::{
    flow::{Arrival, FlowKey, NONE},
    nic::{NicConfig, NicKey},
};

use crate::{
    maps,
    receive::{has_counter, named_or_only, queue_counter},
};

/// Where a flow's packets arrive.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// Slot of the NIC, or [`NO_NIC`].
    pub(crate) nic: u32,
    /// RX queue, or [`NONE`].
    pub(crate) queue: u16,
    /// CPU that polls it, or [`NONE`].
    pub(crate) napi_cpu: u16,
}

/// Not a watched NIC. A number rather than `None`; see `field::read`.
pub(crate) const NO_NIC: u32 = u32::MAX;

/// What a socket or a packet says of its way here.
pub(crate) struct Trace {
    /// Its NAPI id; 0 for none.
    pub(crate) napi_id: u32,
    /// Its interface; 0 for none.
    pub(crate) ifindex: u32,
    /// The namespace of that.
    pub(crate) netns: u32,
    /// Its queue, or [`NONE`].
    pub(crate) queue: u16,
    /// Its hash; 0 for none.
    pub(crate) hash: u32,
}

impl Origin {
    const NOWHERE: Self = Self { nic: NO_NIC, queue: NONE, napi_cpu: NONE };

    /// From what `receive` learned.
    #[inline(always)]
    pub(crate) fn traced(trace: &Trace) -> Self {
        // Numbers too small for a NAPI id are CPU numbers (`sender_cpu`), and never in the table.
        if trace.napi_id != 0
            // SAFETY: the agent removes only ids that no packet carries any more.
            && let Some(napi) = unsafe { maps::NAPIS.get(trace.napi_id) }
        {
            // The socket's own word first: one NAPI may poll several queues. But now and then a socket
            // of a virtual interface remembers a queue that there is not (seen on 6.18).
            let config = maps::NIC_CONFIG.get(u32::from(napi.nic));
            let named = config.is_some_and(|config| has_counter(config, trace.queue));
            let queue = if named { trace.queue } else { napi.queue };
            return Self { nic: u32::from(napi.nic), queue, napi_cpu: napi.cpu };
        }
        let key = NicKey { ifindex: trace.ifindex, netns: trace.netns };
        // SAFETY: the value is read once; the agent replaces it as a whole.
        let (nic, queue) = match unsafe { maps::NICS.get(key) } {
            Some(nic) => (nic.slot, trace.queue),
            None => {
                let arrival = arrival(trace.hash);
                if arrival == Arrival::NONE {
                    return Self::NOWHERE;
                }
                (u32::from(arrival.nic()), arrival.queue())
            }
        };
        let Some(config) = maps::NIC_CONFIG.get(nic) else {
            return Self::NOWHERE;
        };
        let queue = named_or_only(queue, config);
        Self { nic, queue, napi_cpu: polling_cpu(nic, config, queue) }
    }

    /// From what the XDP observer noted.
    #[inline(always)]
    pub(crate) fn of_flow(key: &FlowKey) -> Self {
        // SAFETY: an entry that is evicted meanwhile is another flow's; that costs one count.
        match unsafe { maps::RX_FLOWS.get(key) } {
            Some(flow) => Self { nic: u32::from(flow.nic), queue: flow.queue, napi_cpu: flow.cpu },
            None => Self::NOWHERE,
        }
    }
}

/// Where packets of this hash came in, or [`Arrival::NONE`].
#[inline(always)]
fn arrival(hash: u32) -> Arrival {
    match maps::ARRIVALS.get(Arrival::place(hash)) {
        Some(arrival) if arrival.hash() == hash => *arrival,
        _ => Arrival::NONE,
    }
}

/// The CPU that polled a queue last, or [`NONE`].
#[inline(always)]
fn polling_cpu(nic: u32, config: &NicConfig, queue: u16) -> u16 {
    if !has_counter(config, queue) {
        return NONE;
    }
    match maps::QUEUE_STATE.get(queue_counter(nic, queue)) {
        // Zero, "not polled yet", wraps round to `NONE`.
        Some(state) => state.cpu_plus_one.wrapping_sub(1) as u16,
        None => NONE,
    }
}
