//! The maps of accept steering. The agent writes all but the last four, and reads those.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ReusePortSockArray, SockMap},
};
use steer_common::{
    accept::{
        Choice, GROUPS, MEMBERS, Outcomes, PENDING, PLACES, PORTS, Pending, SEEN, Seen, SeenKey,
        TARGETS, Target, Trial,
    },
    flow::FlowKey,
};

/// The agent sets the size.
const BY_AGENT: u32 = 1;

/// Groups by what a connection is made to; [`NOBODY`](steer_common::accept::NOBODY) for listeners that
/// are left alone, so that none of their connections goes to a less exact match. Hash, 3.19.
#[map]
pub(crate) static TARGET_GROUPS: HashMap<Target, u16> = HashMap::with_max_entries(TARGETS, 0);

/// The listening sockets: `socket(group, member)`. A socket that is closed leaves by itself. 4.14.
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::with_max_entries(GROUPS * MEMBERS, 0);

/// The same sockets where a program in their group finds them; a socket can be in one such map alone, and
/// not in [`LISTENERS`] beside it. 4.19. The agent sets the size where it is asked for.
#[map]
pub(crate) static GROUP_LISTENERS: ReusePortSockArray =
    ReusePortSockArray::with_max_entries(BY_AGENT, 0);

/// Choices by group and CPU. Array, 3.19.
#[map]
pub(crate) static CHOICES: Array<Choice> = Array::with_max_entries(BY_AGENT, 0);

/// Trials by group. Array, 3.19.
#[map]
pub(crate) static TRIALS: Array<Trial> = Array::with_max_entries(GROUPS, 0);

/// Interfaces whose connections are steered, by index. Hash, 3.19.
#[map]
pub(crate) static INTERFACES: HashMap<u32, u32> = HashMap::with_max_entries(PLACES, 0);

/// Addresses of this host: connections from them are its own. Hash, 3.19.
#[map]
pub(crate) static OWN_ADDRESSES: HashMap<[u8; 16], u32> = HashMap::with_max_entries(PLACES, 0);

/// Until when the agent knows the listeners of a port, `bpf_ktime_get_ns`. Hash, 3.19.
#[map]
pub(crate) static KNOWN_NS: HashMap<u16, u64> = HashMap::with_max_entries(PORTS, 0);

/// When the listeners of a port last changed. The agent makes the entries. Hash, 3.19.
#[map]
pub(crate) static CHANGED_NS: HashMap<u16, u64> = HashMap::with_max_entries(PORTS, 0);

/// Connections that wait for their first consumption. LRU hash, 4.10.
#[map]
pub(crate) static PENDING_FLOWS: LruHashMap<FlowKey, Pending> =
    LruHashMap::with_max_entries(PENDING, 0);

/// Where members consume. Hash, 3.19.
#[map]
pub(crate) static SEEN_MEMBERS: HashMap<SeenKey, Seen> = HashMap::with_max_entries(SEEN, 0);

/// What became of connections, by group. Per-CPU array, 4.6.
#[map]
pub(crate) static OUTCOMES: PerCpuArray<Outcomes> = PerCpuArray::with_max_entries(GROUPS, 0);
