//! Every map of the connect program. Those marked [`BY_AGENT`] get their size when they are loaded.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use steer_common::{
    cells::{Block, block_of, cell_of},
    connect::{
        ConnectKnobs, DESTINATIONS, Outcome, PortBlock, Route, RouteKey, Settings, Slot, Span,
        Steered,
    },
    toeplitz::Table,
};

/// The agent sets the size.
const BY_AGENT: u32 = 1;

/// The load-time constants.
#[unsafe(no_mangle)]
static CONNECT_KNOBS: ConnectKnobs = ConnectKnobs::UNSET;

/// What holds for all connections: one value.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Each NIC, by slot.
#[map]
pub(crate) static SLOTS: Array<Slot> = Array::with_max_entries(BY_AGENT, 0);

/// Its hash, in parts, by slot.
#[map]
pub(crate) static HASHES: Array<Table> = Array::with_max_entries(BY_AGENT, 0);

/// By slot and CPU: which piece of `BUCKETS` comes to that CPU.
#[map]
pub(crate) static CPUS: Array<Span> = Array::with_max_entries(BY_AGENT, 0);

/// By slot: its buckets, those of a CPU side by side.
#[map]
pub(crate) static BUCKETS: Array<u32> = Array::with_max_entries(BY_AGENT, 0);

/// By slot, family and what a port adds to the bucket: which piece of `PORTS` adds that.
#[map]
pub(crate) static CLASSES: Array<Span> = Array::with_max_entries(BY_AGENT, 0);

/// By slot and family: the ports, in blocks; those that add the same side by side.
#[map]
pub(crate) static PORTS: Array<PortBlock> = Array::with_max_entries(BY_AGENT, 0);

/// Where each destination leads. The program enters it, the agent finds out. LRU: a scan over many
/// addresses pushes out what is idle, and costs nobody a connection.
#[map]
pub(crate) static ROUTES: LruHashMap<RouteKey, Route> =
    LruHashMap::with_max_entries(DESTINATIONS, 0);

/// By CPU, in turns: connections that were steered.
#[map]
pub(crate) static RECENT: Array<Steered> = Array::with_max_entries(BY_AGENT, 0);

/// How many connections each CPU has steered: where it goes on in its list of ports.
#[map]
pub(crate) static TURNS: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// What became of connections, by `Outcome`: one block holds them all.
#[map]
pub(crate) static OUTCOMES: PerCpuArray<Block> = PerCpuArray::with_max_entries(1, 0);

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(outcome: Outcome) {
    if let Some(block) = OUTCOMES.get_ptr_mut(block_of(outcome as u32)) {
        // SAFETY: the map's value is a block of this CPU, and the position is masked to its size.
        unsafe {
            let cell = (&raw mut (*block).cells).cast::<u64>().add(cell_of(outcome as u32));
            *cell += 1;
        }
    }
}

/// A load-time constant, which the compiler must not take for the one it was given.
#[inline(always)]
pub(crate) fn knob(of: fn(&'static ConnectKnobs) -> *const u32) -> u32 {
    // SAFETY: the address is that of a field of a static.
    unsafe { of(&CONNECT_KNOBS).read_volatile() }
}
