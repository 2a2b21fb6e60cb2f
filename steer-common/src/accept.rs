//! Accept steering: what its programs and the agent tell each other.
//!
//! A *group* is a set of listening sockets on one address and port, a *member* one of them. Both have
//! numbers that the agent gives out; a member keeps its number for as long as its socket lives.

use crate::plain;

/// Groups that are steered at a time.
pub const GROUPS: u32 = 64;
/// Members that a group can have. A power of two: member `m` of group `g` is socket `g * MEMBERS + m`.
pub const MEMBERS: u32 = 256;
/// Members that one CPU's connections of a group are shared out among. A power of two.
pub const WAYS: u32 = 4;
/// Members that are tried in turn to learn where each consumes. A power of two.
pub const TRIED: u32 = 64;
/// A share of connections that is all of them; see [`Choice::share`].
pub const ALL: u32 = 1 << 16;
/// No group, or no member.
pub const NOBODY: u16 = u16::MAX;

/// Connections that are remembered from their first packet to their first consumption:
/// 32,768 x (40 B key + 8 B value + about 64 B for the kernel's element) is 3.5 MiB.
pub const PENDING: u32 = 32_768;
/// Pairs of a member and a CPU that have been seen together: members mostly stay on one.
pub const SEEN: u32 = 16_384;
/// Addresses that groups can be bound to.
pub const TARGETS: u32 = 1024;
/// Interfaces that connections are steered from, and this host's addresses.
pub const PLACES: u32 = 4096;
/// Ports whose listeners are followed.
pub const PORTS: u32 = 64;
/// A program in a reuseport group outlives the agent: longer than this after the agent's last look it
/// chooses nobody. Twelve looks, for a machine that is at its limit.
pub const ABANDONED_NS: u64 = 3_000_000_000;

/// Load-time constants of the accept programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKnobs {
    /// 1: the kernel tells by which interface a connection comes (`bpf_sk_lookup.ingress_ifindex`).
    pub tells_interface: u32,
    /// Choices of each group, one for each CPU.
    pub cpu_stride: u32,
    /// `struct sock`: its reuseport group, a pointer.
    pub sk_reuseport_cb: u32,
    /// `struct sock_reuseport`: its program, a pointer.
    pub reuse_prog: u32,
    /// `struct sock`: its cookie, 64 bits.
    pub skc_cookie: u32,
    /// `struct bpf_prog`: what goes with it, a pointer.
    pub prog_aux: u32,
    /// `struct bpf_prog_aux`: the number of the program, 32 bits.
    pub aux_id: u32,
}

impl AcceptKnobs {
    /// What the object carries until the agent sets it.
    pub const UNSET: Self = Self {
        tells_interface: 0,
        cpu_stride: 0,
        sk_reuseport_cb: crate::knobs::ABSENT,
        reuse_prog: crate::knobs::ABSENT,
        skc_cookie: crate::knobs::ABSENT,
        prog_aux: crate::knobs::ABSENT,
        aux_id: crate::knobs::ABSENT,
    };
}

/// What a connection is made to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// This host's address, IPv4 in mapped form; all zero for any.
    pub address: [u8; 16],
    /// This host's port, host order.
    pub port: u16,
    /// Version of the packet: 4 or 6.
    pub version: u8,
    /// Always zero: the key is compared byte by byte.
    pub pad: u8,
}

/// Who is given the connections of one group that arrive on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// How many of [`ALL`] connections are given; the kernel's hash has the others.
    pub share: u32,
    /// How many of `members` there are.
    pub ways: u32,
    /// The members, by number.
    pub members: [u16; WAYS as usize],
}

/// Members of a group that are tried to learn where each consumes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// How many of [`ALL`] connections are given to one of them.
    pub share: u32,
    /// How many of `members` there are.
    pub count: u32,
    /// The members, by number.
    pub members: [u16; TRIED as usize],
}

/// A connection between its first packet and its first consumption.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Its group.
    pub group: u16,
    /// The member that it was given to, or [`NOBODY`] where the kernel's hash decided.
    pub member: u16,
    /// CPU on which its first packet was processed.
    pub cpu: u16,
    /// Always zero.
    pub pad: u16,
}

/// A member that was seen to consume on a CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenKey {
    /// Its group.
    pub group: u16,
    /// The member, or [`NOBODY`] for all that the kernel's hash decided.
    pub member: u16,
    /// The CPU.
    pub cpu: u16,
    /// Always zero.
    pub pad: u16,
}

/// What was seen of a member on a CPU. Written on that CPU alone.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Connections whose first data was consumed there.
    pub connections: u64,
    /// Of those, such whose first packet arrived on that CPU.
    pub aligned: u64,
    /// How often another thread consumed than the time before.
    pub thread_changes: u64,
    /// Thread group of the last consumer.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
}

/// What became of connections to a group on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcomes {
    /// Given to a member of this CPU.
    pub steered: u64,
    /// Given to a member to learn where it consumes.
    pub tried: u64,
    /// Left to the kernel's hash, because the member has its share.
    pub over_share: u64,
    /// Left to it, because no member consumes on this CPU.
    pub nobody_here: u64,
    /// Left to it, because the member's socket was just closed, or the kernel refused it.
    pub missed: u64,
    /// Left to it, because the listeners have changed and the agent has not looked yet.
    pub suspended: u64,
}

/// What the agent is told of a listening socket beside its cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerRecord {
    /// Socket cookie; 0 while nobody has asked for it.
    pub cookie: u64,
    /// `SO_INCOMING_CPU`; all ones where it is not set.
    pub incoming_cpu: u32,
    /// Local port.
    pub port: u16,
    /// 1: in a reuseport group; 2: and the group has a program of its own.
    pub group: u8,
    /// Its TCP state.
    pub state: u8,
    /// Number of the group's program; 0 without one, and for one of the classic kind, which has none.
    pub program: u32,
    /// Always zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<AcceptKnobs>() == 28);
const _: () = assert!(size_of::<Target>() == 20);
const _: () = assert!(size_of::<Choice>() == 16);
const _: () = assert!(size_of::<Trial>() == 8 + 2 * TRIED as usize);
const _: () = assert!(size_of::<Pending>() == 8 && size_of::<SeenKey>() == 8);
const _: () = assert!(size_of::<Seen>() == 32 && size_of::<Outcomes>() == 48);
const _: () = assert!(size_of::<ListenerRecord>() == 24);
const _: () =
    assert!(MEMBERS.is_power_of_two() && WAYS.is_power_of_two() && TRIED.is_power_of_two());

plain!(AcceptKnobs, Target, Choice, Trial, Pending, SeenKey, Seen, Outcomes);

impl ListenerRecord {
    /// Bytes of a record.
    pub const BYTES: usize = size_of::<Self>();

    /// A record from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let [c0, c1, incoming_cpu, rest, program, pad] = [0, 1, 2, 3, 4, 5].map(|at| words[at]);
        let [low, high, group, state] = rest;
        let mut cookie = [0; 8];
        cookie[..4].copy_from_slice(&c0);
        cookie[4..].copy_from_slice(&c1);
        Self {
            cookie: u64::from_ne_bytes(cookie),
            incoming_cpu: u32::from_ne_bytes(incoming_cpu),
            port: u16::from_ne_bytes([low, high]),
            group,
            state,
            program: u32::from_ne_bytes(program),
            pad: u32::from_ne_bytes(pad),
        }
    }
}

/// Number of a member's socket.
#[inline(always)]
#[must_use]
pub const fn socket(group: u32, member: u32) -> u32 {
    group * MEMBERS + member
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_lies_in_memory() {
        let mut bytes = [0; ListenerRecord::BYTES];
        bytes[..8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&3_u32.to_ne_bytes());
        bytes[12..14].copy_from_slice(&8080_u16.to_ne_bytes());
        bytes[14..16].copy_from_slice(&[2, 10]);
        bytes[16..20].copy_from_slice(&77_u32.to_ne_bytes());
        let record = ListenerRecord {
            cookie: 0x0102_0304_0506_0708,
            incoming_cpu: 3,
            port: 8080,
            group: 2,
            state: 10,
            program: 77,
            pad: 0,
        };
        assert_eq!(ListenerRecord::from_bytes(&bytes), record);
        assert_eq!(core::mem::offset_of!(ListenerRecord, group), 14);
    }
}
