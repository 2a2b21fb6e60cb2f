//! Flows: the key by which they are found and what is remembered of them.

use crate::plain;

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

/// A flow as this host sees it.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// This host's address, network order; IPv4 in its mapped form.
    pub local: [u8; 16],
    /// The far end's address, likewise.
    pub remote: [u8; 16],
    /// This host's port, host order; 0 where the packet was a fragment.
    pub local_port: u16,
    /// The far end's port, likewise.
    pub remote_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Always zero: the key is compared byte by byte.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey>() == 40 && core::mem::offset_of!(FlowKey, local_port) == 32);

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

plain!(FlowKey, FlowStat, RxFlow);

impl FlowKey {
    /// Whether both addresses are IPv4 ones in mapped form.
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
    use core::net::Ipv4Addr;

    #[test]
    fn mapped_is_what_std_calls_mapped() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(mapped(address.octets()), address.to_ipv6_mapped().octets());
    }

    #[test]
    fn knows_its_family() {
        let mut key = FlowKey {
            local: mapped([192, 0, 2, 1]),
            remote: mapped([192, 0, 2, 2]),
            local_port: 1,
            remote_port: 2,
            protocol: TCP,
            pad: [0; 3],
        };
        assert!(key.is_v4());
        key.remote[0] = 0x20;
        assert!(!key.is_v4());
    }
}
