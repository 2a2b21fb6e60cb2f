//! Load-time constants of the kernel side.
//!
//! The agent writes them into the object's read-only data before it is loaded. The verifier knows
//! the values of frozen read-only data (since 5.5), so that an offset from here is as good as one
//! that was compiled in, and code for a field that this kernel has not is never even looked at.

use crate::plain;

/// An offset or a setting that does not exist here.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of the kernel's fields. Named after the field, with the structure's short name
/// before it where the field has none; [`ABSENT`] where this kernel has no such field, or one of
/// another width than the kernel side reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `struct sock`: address family, 16 bits.
    pub skc_family: u32,
    /// `struct sock`: TCP state, 8 bits.
    pub skc_state: u32,
    /// `struct sock`: far end, IPv4, 32 bits in network order.
    pub skc_daddr: u32,
    /// `struct sock`: this end, IPv4, 32 bits in network order.
    pub skc_rcv_saddr: u32,
    /// `struct sock`: far end, IPv6, 16 bytes.
    pub skc_v6_daddr: u32,
    /// `struct sock`: this end, IPv6, 16 bytes.
    pub skc_v6_rcv_saddr: u32,
    /// `struct sock`: far port, 16 bits in network order.
    pub skc_dport: u32,
    /// `struct sock`: this port, 16 bits in host order.
    pub skc_num: u32,
    /// `struct sock`: network namespace, a pointer.
    pub skc_net: u32,
    /// `struct sock`: CPU of the last packet's protocol work, 32 bits.
    pub skc_incoming_cpu: u32,
    /// `struct sock`: hash of the last packet, 32 bits (`CONFIG_RPS`).
    pub skc_rxhash: u32,
    /// `struct sock`: RX queue of the last packet, 16 bits (`CONFIG_SOCK_RX_QUEUE_MAPPING`).
    pub skc_rx_queue_mapping: u32,
    /// `struct sock`: NAPI id of the last packet, 32 bits (`CONFIG_NET_RX_BUSY_POLL`).
    pub sk_napi_id: u32,
    /// `struct sock`: interface of the cached route, 32 bits. Before 5.17 it is in `struct inet_sock`,
    /// outside of what the hook has the type of, and absent here.
    pub sk_rx_dst_ifindex: u32,
    /// `struct sk_buff`: device, a pointer.
    pub skb_dev: u32,
    /// `struct sk_buff`: interface it came in through, 32 bits.
    pub skb_iif: u32,
    /// `struct sk_buff`: hash, 32 bits.
    pub skb_hash: u32,
    /// `struct sk_buff`: RX queue plus one, 16 bits.
    pub skb_queue_mapping: u32,
    /// `struct sk_buff`: NAPI id, 32 bits (`CONFIG_NET_RX_BUSY_POLL`).
    pub skb_napi_id: u32,
    /// `struct sk_buff`: kind of network header (`eth_type`), 16 bits in network order.
    pub skb_protocol: u32,
    /// `struct sk_buff`: start of the buffer, a pointer.
    pub skb_head: u32,
    /// `struct sk_buff`: offset of the IP header from `head`, 16 bits.
    pub skb_network_header: u32,
    /// `struct sk_buff`: offset of the UDP header from `head`, 16 bits.
    pub skb_transport_header: u32,
    /// `struct sk_buff`: byte that holds the bit `sw_hash`.
    pub skb_sw_hash: u32,
    /// The bit's position in that byte.
    pub skb_sw_hash_bit: u32,
    /// `struct net_device`: interface index, 32 bits.
    pub dev_ifindex: u32,
    /// `struct net_device`: network namespace, a pointer.
    pub dev_net: u32,
    /// `struct net`: inode number of the namespace, 32 bits.
    pub net_inum: u32,
}

/// All load-time constants.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// 1: log through aya-log. Off, the verifier removes the code.
    pub debug: u32,
    /// 1: flows' queues come from the XDP observer.
    pub xdp: u32,
    /// Inode number of the agent's network namespace.
    pub netns: u32,
    /// Counters by bucket for each NIC, a multiple of [`crate::cells::CELLS`].
    pub bucket_stride: u32,
    /// Counters by queue for each NIC, likewise.
    pub queue_stride: u32,
    /// Counters by CPU for each NIC, likewise.
    pub cpu_stride: u32,
    /// Where the kernel keeps its fields.
    pub offsets: Offsets,
}

/// Settings that the agent may change while the programs run: the only value of map `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A consumption touches the table of flows if a random number has none of these bits:
    /// 0 takes all, 2^n - 1 one in 2^n.
    pub sample_mask: u32,
}

const FIELDS: usize = size_of::<Offsets>() / size_of::<u32>();
const _: () = assert!(FIELDS == 28);
const _: () = assert!(size_of::<Knobs>() == 6 * 4 + FIELDS * 4);
const _: () = assert!(size_of::<Config>() == 4);

plain!(Offsets, Knobs, Config);

impl Offsets {
    /// No field is known.
    pub const ABSENT: Self = Self {
        skc_family: ABSENT,
        skc_state: ABSENT,
        skc_daddr: ABSENT,
        skc_rcv_saddr: ABSENT,
        skc_v6_daddr: ABSENT,
        skc_v6_rcv_saddr: ABSENT,
        skc_dport: ABSENT,
        skc_num: ABSENT,
        skc_net: ABSENT,
        skc_incoming_cpu: ABSENT,
        skc_rxhash: ABSENT,
        skc_rx_queue_mapping: ABSENT,
        sk_napi_id: ABSENT,
        sk_rx_dst_ifindex: ABSENT,
        skb_dev: ABSENT,
        skb_iif: ABSENT,
        skb_hash: ABSENT,
        skb_queue_mapping: ABSENT,
        skb_napi_id: ABSENT,
        skb_protocol: ABSENT,
        skb_head: ABSENT,
        skb_network_header: ABSENT,
        skb_transport_header: ABSENT,
        skb_sw_hash: ABSENT,
        skb_sw_hash_bit: ABSENT,
        dev_ifindex: ABSENT,
        dev_net: ABSENT,
        net_inum: ABSENT,
    };
}

impl Knobs {
    /// What the object carries until the agent sets it: enough to load, and to find nothing.
    pub const UNSET: Self = Self {
        debug: 0,
        xdp: 0,
        netns: 0,
        bucket_stride: 0,
        queue_stride: 0,
        cpu_stride: 0,
        offsets: Offsets::ABSENT,
    };
}
