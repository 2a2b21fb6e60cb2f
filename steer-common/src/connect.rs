//! What the connect program and the agent share.
//!
//! The program runs in `connect(2)` of every socket in a cgroup and picks a source port whose reply
//! comes back to the CPU that connects. All that it needs to know stands in these types; what it
//! decides by is worked out by the agent (`model/connect`).

use crate::{knobs::ABSENT, plain};

/// Raised with every change of a type in this module. The object carries it in
/// [`crate::abi::SECTION`].
pub const VERSION: u32 = 1;

/// Ports that are tried for one connection before it is left to the kernel.
pub const TRIES: u32 = 8;

/// Ports in one value of map `PORTS`. A power of two, so that a mask shows the verifier that an
/// access is inside.
pub const PORTS_PER_BLOCK: u32 = 512;

/// Most ports of one NIC and address family: those of one parity.
pub const PORTS_MAX: u32 = 32_768;

/// Steered connections that are remembered for each CPU, for the agent to look up where their
/// replies came. A power of two.
pub const RECENT_PER_CPU: u32 = 64;

/// Destinations that are known at a time; the least recently used give way.
pub const DESTINATIONS: u32 = 4096;

/// Address families that have tables of their own.
pub const FAMILIES: u32 = 2;
/// Index of IPv4 among them.
pub const V4: u32 = 0;
/// Index of IPv6 among them.
pub const V6: u32 = 1;

/// Where the kernel keeps the fields that no helper tells, [`ABSENT`] where it has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectKnobs {
    /// `struct tcp_sock`: the socket's own port range (`IP_LOCAL_PORT_RANGE`, 6.3), 32 bits.
    pub local_port_range: u32,
    /// `struct tcp_timewait_sock`: when the peer's last timestamp came, seconds, 32 bits.
    pub tw_ts_recent_stamp: u32,
    /// `struct tcp_timewait_sock`: the state that it stands for, 8 bits.
    pub tw_substate: u32,
}

impl ConnectKnobs {
    /// What the object carries until the agent sets it.
    pub const UNSET: Self =
        Self { local_port_range: ABSENT, tw_ts_recent_stamp: ABSENT, tw_substate: ABSENT };
}

/// What holds for all connections: the only value of map `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Cookie of the agent's network namespace (`SO_NETNS_COOKIE`, 5.14).
    pub netns_cookie: u64,
    /// Random; makes ports unpredictable for whoever does not know it (RFC 6056).
    pub secret: u64,
    /// 1: steer. 0: note destinations and steer nothing.
    pub enabled: u32,
    /// 1: a connection in TIME-WAIT for over a second may be taken over, as `tcp_tw_reuse=1` says.
    pub reuse_time_wait: u32,
    /// CPUs that each NIC has spans for.
    pub cpus: u32,
    /// Buckets that each NIC has room for.
    pub buckets: u32,
}

/// One NIC, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Entries of the indirection table, less one.
    pub mask: u32,
    /// What the hash of an empty input is.
    pub initial: u32,
    /// 1 by family: whether its TCP packets are hashed with their ports.
    pub families: [u32; FAMILIES as usize],
}

/// A piece of an array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub start: u32,
    /// How long it is.
    pub length: u32,
}

/// A part of the list of ports, host order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PortBlock {
    /// The ports.
    pub ports: [u16; PORTS_PER_BLOCK as usize],
}

/// What decides the way of a connection's packets. Addresses as they stand in packets, IPv4 in its
/// mapped form.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// The far end.
    pub remote: [u8; 16],
    /// The address that the socket is bound to; zeros where it is not.
    pub bound: [u8; 16],
    /// The socket's mark (`SO_MARK`).
    pub mark: u32,
    /// Always zero: the key is compared byte by byte.
    pub pad: u32,
}

/// [`Route::verdict`]: the agent has not looked yet.
pub const ROUTE_UNKNOWN: u32 = 0;
/// [`Route::verdict`]: through the NIC of that slot, from that address.
pub const ROUTE_STEER: u32 = 1;
/// [`Route::verdict`]: not to be steered; the agent knows why.
pub const ROUTE_LEAVE: u32 = 2;

/// Where a connection leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// [`ROUTE_UNKNOWN`], [`ROUTE_STEER`] or [`ROUTE_LEAVE`].
    pub verdict: u32,
    /// Slot of the NIC.
    pub slot: u32,
    /// The address that the kernel will choose, or that is bound.
    pub local: [u8; 16],
}

/// A connection that was given its port: one value of map `RECENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steered {
    /// `bpf_ktime_get_ns`; 0 in a value that was never written.
    pub at_ns: u64,
    /// The far end, mapped.
    pub remote: [u8; 16],
    /// This end, mapped.
    pub local: [u8; 16],
    /// The far end's port, host order.
    pub remote_port: u16,
    /// This end's, likewise.
    pub local_port: u16,
    /// The bucket that its reply is to come to.
    pub bucket: u32,
    /// The CPU that connected.
    pub cpu: u32,
    /// Slot of the NIC.
    pub slot: u32,
}

const _: () = assert!(size_of::<Settings>() == 32);
const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(size_of::<Span>() == 8);
const _: () = assert!(size_of::<PortBlock>() == 1024);
const _: () = assert!(size_of::<RouteKey>() == 40);
const _: () = assert!(size_of::<Route>() == 24);
const _: () = assert!(size_of::<Steered>() == 56);
const _: () = assert!(size_of::<ConnectKnobs>() == 12);

plain!(ConnectKnobs, Settings, Slot, Span, PortBlock, RouteKey, Route, Steered);

/// What became of a connection, and events on its way. The number is the counter's index.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It got a port whose replies come to the CPU that connected.
    Steered = 0,
    /// Steering is switched off.
    Off = 1,
    /// Not TCP.
    NotTcp = 2,
    /// The socket has its port already.
    Bound = 3,
    /// The socket has a port range of its own (`IP_LOCAL_PORT_RANGE`).
    OwnRange = 4,
    /// The socket is bound to a device.
    Device = 5,
    /// The socket is in another network namespace than the agent.
    Namespace = 6,
    /// The way to this destination is not known yet.
    Unknown = 7,
    /// The destination is not one to steer.
    Elsewhere = 8,
    /// No queue is near this CPU.
    NoQueue = 9,
    /// No port leads to this CPU's queue.
    NoPort = 10,
    /// All ports that were tried are taken.
    Crowded = 11,
    /// The kernel lets no program set `SO_REUSEADDR` (before 6.1).
    NoReuse = 12,
    /// A port was passed over: the agent's tables contradict each other, they are being rewritten.
    Torn = 13,
    /// A port was passed over: there is a connection to this destination from it.
    InUse = 14,
    /// A port was passed over: somebody holds it who does not share.
    Held = 15,
    /// A connection in TIME-WAIT was taken over.
    TimeWait = 16,
}

impl Outcome {
    /// All of them, by rising number.
    pub const ALL: [Self; 17] = [
        Self::Steered,
        Self::Off,
        Self::NotTcp,
        Self::Bound,
        Self::OwnRange,
        Self::Device,
        Self::Namespace,
        Self::Unknown,
        Self::Elsewhere,
        Self::NoQueue,
        Self::NoPort,
        Self::Crowded,
        Self::NoReuse,
        Self::Torn,
        Self::InUse,
        Self::Held,
        Self::TimeWait,
    ];

    /// Whether it ended a connection's way; the others are events on it.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Torn | Self::InUse | Self::Held | Self::TimeWait)
    }

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Off => "off",
            Self::NotTcp => "not_tcp",
            Self::Bound => "bound",
            Self::OwnRange => "own_range",
            Self::Device => "device",
            Self::Namespace => "namespace",
            Self::Unknown => "unknown",
            Self::Elsewhere => "elsewhere",
            Self::NoQueue => "no_queue",
            Self::NoPort => "no_port",
            Self::Crowded => "crowded",
            Self::NoReuse => "no_reuse",
            Self::Torn => "torn",
            Self::InUse => "port_in_use",
            Self::Held => "port_held",
            Self::TimeWait => "time_wait_reused",
        }
    }

    /// The reason as people read it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Off => "steering was off",
            Self::NotTcp => "not TCP",
            Self::Bound => "port bound by the program",
            Self::OwnRange => "port range of the socket's own",
            Self::Device => "bound to a device",
            Self::Namespace => "other network namespace",
            Self::Unknown => "destination seen for the first time",
            Self::Elsewhere => "destination not by a steered NIC, or not predictable",
            Self::NoQueue => "no queue near the CPU",
            Self::NoPort => "no port leads to the CPU's queue",
            Self::Crowded => "the ports tried were taken",
            Self::NoReuse => "the kernel lets ports not be shared",
            Self::Torn => "ports passed over, tables being rewritten",
            Self::InUse => "ports passed over, in use to that destination",
            Self::Held => "ports passed over, held by others",
            Self::TimeWait => "TIME-WAIT taken over",
        }
    }
}

// All counters are read with one call.
const _: () = assert!(Outcome::ALL.len() <= crate::cells::CELLS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (position, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, position, "{}", outcome.name());
        }
    }

    #[test]
    fn blocks_are_whole() {
        assert!(PORTS_PER_BLOCK.is_power_of_two() && RECENT_PER_CPU.is_power_of_two());
        assert_eq!(PORTS_MAX % PORTS_PER_BLOCK, 0);
    }
}
