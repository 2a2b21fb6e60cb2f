//! Where a consumed flow came from: NIC, RX queue, and the CPU that polls that queue.
//!
//! Three sources, the best first:
//!
//! 1. the NAPI id that the socket or packet carries, which `receive` has tied to a NIC, a queue and
//!    the CPU that polls it *now*: it stays right when the queue's interrupt moves;
//! 2. the interface of the socket's route with the queue that the socket remembers, for drivers
//!    that bypass GRO and set no NAPI id;
//! 3. with the XDP observer, what it noted for the very flow.
//!
//! A flow whose NIC none of them names (loopback, another namespace, an unwatched NIC) has no origin
//! and is not counted anywhere.

use steer_common::{
    flow::{FlowKey, NONE},
    nic::{NicConfig, NicKey},
};

use crate::{
    maps,
    receive::{only_queue, queue_counter},
};

/// Where a flow's packets arrive.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// Slot of the NIC.
    pub(crate) nic: u32,
    /// RX queue, or [`NONE`].
    pub(crate) queue: u16,
    /// CPU that polls it, or [`NONE`].
    pub(crate) napi_cpu: u16,
}

/// What a socket or a packet says of its way here.
pub(crate) struct Trace {
    /// Its NAPI id; 0 for none.
    pub(crate) napi_id: u32,
    /// Its interface in its namespace.
    pub(crate) nic: Option<NicKey>,
    /// Its queue.
    pub(crate) queue: Option<u16>,
}

impl Origin {
    /// From what `receive` learned.
    #[inline(always)]
    pub(crate) fn traced(trace: &Trace) -> Option<Self> {
        // Numbers too small for a NAPI id are CPU numbers (`sender_cpu`), and never in the table.
        if trace.napi_id != 0
            // SAFETY: the agent removes only ids that no packet carries any more.
            && let Some(napi) = unsafe { maps::NAPIS.get(trace.napi_id) }
        {
            return Some(Self {
                nic: u32::from(napi.nic),
                // The socket's own word first: one NAPI may poll several queues.
                queue: trace.queue.unwrap_or(napi.queue),
                napi_cpu: napi.cpu,
            });
        }
        // SAFETY: the value is read once; the agent replaces it as a whole.
        let nic = unsafe { maps::NICS.get(trace.nic?) }?.slot;
        let config = maps::NIC_CONFIG.get(nic)?;
        let queue = trace.queue.or(only_queue(config));
        let napi_cpu = queue.and_then(|queue| polling_cpu(nic, config, queue));
        Some(Self { nic, queue: queue.unwrap_or(NONE), napi_cpu: napi_cpu.unwrap_or(NONE) })
    }

    /// From what the XDP observer noted.
    #[inline(always)]
    pub(crate) fn of_flow(key: &FlowKey) -> Option<Self> {
        // SAFETY: an entry that is evicted meanwhile is another flow's; that costs one count.
        let flow = unsafe { maps::RX_FLOWS.get(key) }?;
        Some(Self { nic: u32::from(flow.nic), queue: flow.queue, napi_cpu: flow.cpu })
    }
}

/// The CPU that polled a queue last.
#[inline(always)]
fn polling_cpu(nic: u32, config: &NicConfig, queue: u16) -> Option<u16> {
    let state = maps::QUEUE_STATE.get(queue_counter(nic, config, queue)?)?;
    // The map holds a CPU number plus one, which fits.
    if state.cpu_plus_one == 0 { None } else { Some((state.cpu_plus_one - 1) as u16) }
}
