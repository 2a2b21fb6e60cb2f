//! What the kernel side knows of the NICs it watches.

use crate::plain;

/// [`NicConfig::hash_source`]: the bucket cannot be known.
pub const HASH_NONE: u32 = 0;
/// [`NicConfig::hash_source`]: the NIC reports its hash with each packet.
pub const HASH_REPORTED: u32 = 1;
/// [`NicConfig::hash_source`]: the hash is computed from the key, once for each flow.
pub const HASH_COMPUTED: u32 = 2;

/// [`NicConfig::fields`]: not known which fields enter the hash; it is not computed.
pub const FIELDS_UNKNOWN: u8 = 0;
/// [`NicConfig::fields`]: the addresses alone.
pub const FIELDS_ADDRESSES: u8 = 1;
/// [`NicConfig::fields`]: addresses and ports.
pub const FIELDS_PORTS: u8 = 2;

/// Index into [`NicConfig::fields`].
pub const TCP4: usize = 0;
/// Index into [`NicConfig::fields`].
pub const TCP6: usize = 1;
/// Index into [`NicConfig::fields`].
pub const UDP4: usize = 2;
/// Index into [`NicConfig::fields`].
pub const UDP6: usize = 3;

/// An interface. Its index alone is no name: each network namespace counts its own, and packets of
/// all of them pass the same hooks.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NicKey {
    /// Interface index.
    pub ifindex: u32,
    /// Inode number of the network namespace; 0 on kernels without namespaces.
    pub netns: u32,
}

/// Which NIC an interface belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NicRef {
    /// Slot of the NIC, by which all tables are indexed.
    pub slot: u32,
    /// 1 if the interface is stacked on the NIC, 0 if it is the NIC. Only the NIC's own packets
    /// are counted, or those that pass both would be counted twice.
    pub upper: u32,
}

/// Settings of a watched NIC, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NicConfig {
    /// Entries of the indirection table, less one: NICs take the low bits of the hash, and
    /// tables have a power of two of entries. Where one has not, the agent says [`HASH_NONE`].
    pub bucket_mask: u32,
    /// [`HASH_NONE`], [`HASH_REPORTED`] or [`HASH_COMPUTED`].
    pub hash_source: u32,
    /// RX queues. Of a NIC with one, a packet that does not name its queue came from that one.
    pub queues: u32,
    /// What enters the hash, by [`TCP4`], [`TCP6`], [`UDP4`], [`UDP6`].
    pub fields: [u8; 4],
}

/// One RX queue as last seen by the softirq side.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QueueState {
    /// Its NAPI id; 0 where packets carry none.
    pub napi_id: u32,
    /// The CPU that polled it last, plus one; 0 until it was polled.
    pub cpu_plus_one: u32,
}

/// What a NAPI id stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Napi {
    /// Slot of the NIC.
    pub nic: u16,
    /// RX queue, or [`crate::flow::NONE`] where the driver does not record it.
    pub queue: u16,
    /// The CPU that polled it last.
    pub cpu: u16,
    /// Always zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<NicKey>() == 8);
const _: () = assert!(size_of::<NicRef>() == 8);
const _: () = assert!(size_of::<NicConfig>() == 16);
const _: () = assert!(size_of::<QueueState>() == 8);
const _: () = assert!(size_of::<Napi>() == 8);

plain!(NicKey, NicRef, NicConfig, QueueState, Napi);
