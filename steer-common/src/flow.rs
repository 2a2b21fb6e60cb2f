//! Flows: the key by which they are found and what is remembered of them.

use crate::{plain, toeplitz::Table};

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// A 16-bit CPU, queue or NIC slot that is not known.
pub const NONE: u16 = u16::MAX;

/// [`FlowStat::flags`]: `hash` holds a hash.
pub const HASH_KNOWN: u32 = 1 << 0;
/// [`FlowStat::flags`]: `hash` was computed from the key, not reported by the NIC.
pub const HASH_COMPUTED: u32 = 1 << 1;

/// First twelve bytes of an IPv4 address in its IPv6-mapped form (RFC 4291, 2.5.5.2).
pub const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// A flow as this host sees it. The first 36 bytes are in the order in which they enter the hash of
/// a received packet, whose source is the far end.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// The far end's address; IPv4 in its mapped form.
    pub remote: [u8; 16],
    /// This host's address, likewise.
    pub local: [u8; 16],
    /// The far end's port, network order; 0 where the packet was a fragment.
    pub remote_port: [u8; 2],
    /// This host's port, likewise.
    pub local_port: [u8; 2],
    /// IP protocol.
    pub protocol: u8,
    /// Always zero: the key is compared byte by byte.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(core::mem::offset_of!(FlowKey, remote_port) == 32);

/// What is remembered of a flow that was consumed. Counts are scaled up by the sampling factor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FlowStat {
    /// First consumption, `bpf_ktime_get_ns`.
    pub first_ns: u64,
    /// Last consumption.
    pub last_ns: u64,
    /// Consumption: calls of the receive hook.
    pub consumed: u64,
    /// Of that, on another CPU than the one that polls the flow's queue.
    pub mismatched: u64,
    /// How often the consumer was on another CPU than the time before.
    pub consumer_moves: u64,
    /// Hash of the last packet, if [`HASH_KNOWN`].
    pub hash: u32,
    /// [`HASH_KNOWN`], [`HASH_COMPUTED`].
    pub flags: u32,
    /// Slot of the NIC.
    pub nic: u16,
    /// RX queue, or [`NONE`].
    pub queue: u16,
    /// CPU that polls the queue, or [`NONE`].
    pub napi_cpu: u16,
    /// CPU that did the protocol work, or [`NONE`].
    pub protocol_cpu: u16,
    /// CPU of the last consumer.
    pub consumer_cpu: u16,
    /// Always zero.
    pub pad: u16,
    /// Process (thread group) of the last consumer.
    pub pid: u32,
    /// Its name, up to the first zero byte.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<FlowStat>() == 80 && core::mem::offset_of!(FlowStat, comm) == 64);

/// What the XDP observer remembers of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RxFlow {
    /// Packets seen.
    pub packets: u64,
    /// Slot of the NIC.
    pub nic: u16,
    /// RX queue of the last packet.
    pub queue: u16,
    /// CPU that polled it.
    pub cpu: u16,
    /// Always zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<RxFlow>() == 16);

/// Where a packet with a certain hash came in last, as one word that is read and written whole.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival(pub u64);

#[allow(clippy::cast_possible_truncation, reason = "each takes its own bits of the word")]
impl Arrival {
    /// None: what the place of a hash holds before its first packet. No hash is zero.
    pub const NONE: Self = Self(0);

    /// A packet with this hash came through this queue of the NIC in this slot.
    #[inline(always)]
    #[must_use]
    pub const fn new(hash: u32, nic: u16, queue: u16) -> Self {
        Self(((hash as u64) << 32) | ((nic as u64) << 16) | queue as u64)
    }

    /// Its hash.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Slot of its NIC.
    #[inline(always)]
    #[must_use]
    pub const fn nic(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Its queue.
    #[inline(always)]
    #[must_use]
    pub const fn queue(self) -> u16 {
        self.0 as u16
    }

    /// The place of a hash in a table of [`crate::abi::ARRIVALS`]. Its low bits, which pick the bucket
    /// and so the CPU that writes, come first: what lies together in a cache line is of one bucket of
    /// any table of 256 entries or fewer, so that CPUs do not write to each other's lines.
    #[inline(always)]
    #[must_use]
    pub const fn place(hash: u32) -> u32 {
        ((hash & 0xff) << 8) | ((hash >> 8) & 0xff)
    }
}

plain!(FlowKey, FlowStat, RxFlow, Arrival);

impl FlowKey {
    /// No flow.
    pub const EMPTY: Self = Self {
        remote: [0; 16],
        local: [0; 16],
        remote_port: [0; 2],
        local_port: [0; 2],
        protocol: 0,
        pad: [0; 3],
    };

    /// Whether the far end's address is an IPv4 one in mapped form.
    #[inline(always)]
    #[must_use]
    pub fn is_v4(&self) -> bool {
        let mut different = 0;
        let mut at = 0;
        while at < V4_PREFIX.len() {
            different |= self.remote[at] ^ V4_PREFIX[at];
            at += 1;
        }
        different == 0
    }

    /// The NIC's hash of a received packet of this flow, over the ports too or not.
    #[inline(always)]
    #[must_use]
    pub fn toeplitz(&self, table: &Table, ports: bool) -> u32 {
        let mut hash = 0;
        let mut place = 0;
        if self.is_v4() {
            hash ^= table.word(0, last_four(&self.remote));
            hash ^= table.word(1, last_four(&self.local));
            place = 2;
        } else {
            while place < 4 {
                hash ^= table.word(place, four(&self.remote, place * 4));
                hash ^= table.word(place + 4, four(&self.local, place * 4));
                place += 1;
            }
            place = 8;
        }
        if ports {
            let [remote, local] = [self.remote_port, self.local_port];
            hash ^= table.word(place, [remote[0], remote[1], local[0], local[1]]);
        }
        hash
    }
}

#[inline(always)]
fn four(address: &[u8; 16], at: usize) -> [u8; 4] {
    [address[at], address[at + 1], address[at + 2], address[at + 3]]
}

#[inline(always)]
fn last_four(address: &[u8; 16]) -> [u8; 4] {
    four(address, 12)
}

/// The mapped form of an IPv4 address in network order.
#[inline(always)]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toeplitz;
    use core::net::Ipv4Addr;

    #[test]
    fn mapped_is_what_std_calls_mapped() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(mapped(address.octets()), address.to_ipv6_mapped().octets());
    }

    #[test]
    fn knows_its_family() {
        let mut key = FlowKey { remote: mapped([192, 0, 2, 2]), ..FlowKey::EMPTY };
        assert!(key.is_v4());
        key.remote[0] = 0x20;
        assert!(!key.is_v4());
    }

    #[test]
    fn an_arrival_is_one_word_in_its_buckets_line() {
        let arrival = Arrival::new(0xdead_beef, 3, 65_534);
        assert_eq!((arrival.hash(), arrival.nic(), arrival.queue()), (0xdead_beef, 3, 65_534));
        // Every place is inside, and each has its hashes: two bytes that are swapped twice are as before.
        for hash in 0..1_u32 << 16 {
            assert!(Arrival::place(hash) < crate::abi::ARRIVALS);
            assert_eq!(Arrival::place(Arrival::place(hash)), hash);
        }
        // Eight arrivals are a line of 64 bytes: all of one bucket of 256.
        for hash in 0..1_u32 << 16 {
            let line = |place: u32| place / 8;
            let neighbour = (hash & 0xff) | (((hash >> 8) ^ 1) << 8);
            assert_eq!(line(Arrival::place(hash)), line(Arrival::place(neighbour)));
        }
    }

    #[test]
    fn hashes_what_the_nic_hashes() {
        let table_key: [u8; 40] =
            core::array::from_fn(|at| u8::try_from(at * 7 % 251).expect("small"));
        let table = Table::new(&table_key).expect("long enough");
        let mut key = FlowKey {
            remote: core::array::from_fn(|at| u8::try_from(at + 1).expect("small")),
            local: core::array::from_fn(|at| u8::try_from(at + 101).expect("small")),
            remote_port: [0x12, 0x34],
            local_port: [0xab, 0xcd],
            ..FlowKey::EMPTY
        };
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&key.remote);
        v6[16..32].copy_from_slice(&key.local);
        v6[32..].copy_from_slice(&[0x12, 0x34, 0xab, 0xcd]);
        assert_eq!(Some(key.toeplitz(&table, true)), toeplitz::hash(&table_key, &v6));
        assert_eq!(Some(key.toeplitz(&table, false)), toeplitz::hash(&table_key, &v6[..32]));

        key.remote = mapped([10, 0, 0, 2]);
        key.local = mapped([10, 0, 0, 1]);
        let v4 = [10, 0, 0, 2, 10, 0, 0, 1, 0x12, 0x34, 0xab, 0xcd];
        assert_eq!(Some(key.toeplitz(&table, true)), toeplitz::hash(&table_key, &v4));
        assert_eq!(Some(key.toeplitz(&table, false)), toeplitz::hash(&table_key, &v4[..8]));
    }
}
