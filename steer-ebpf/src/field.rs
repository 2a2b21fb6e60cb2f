//! Reading fields of the kernel's structures.
//!
//! Rust has no relocatable access to them, so that the agent finds each field's offset in the
//! running kernel's type information and writes it to [`KNOBS`] before loading. A field that this
//! kernel has not is `None` here, and the verifier never sees the code behind it.
//!
//! Fields are read directly, not with `bpf_probe_read_kernel`: a pointer that the kernel gave to a
//! tracing program keeps its type when a known number is added, so that the verifier checks the
//! access against the structure and the JIT emits a plain load. A pointer that went stale reads as
//! zero; it cannot fault.

use core::ffi::c_void;

use steer_common::knobs::{ABSENT, Knobs};

/// The load-time constants.
#[unsafe(no_mangle)]
static KNOBS: Knobs = Knobs::UNSET;

/// One load-time constant.
macro_rules! knob {
    ($($field:ident).+) => {
        $crate::field::constant(&raw const $crate::field::knobs().$($field).+)
    };
}
pub(crate) use knob;

#[inline(always)]
pub(crate) fn knobs() -> &'static Knobs {
    &KNOBS
}

/// Reads a constant that the compiler must not take for the one it was given.
#[inline(always)]
pub(crate) fn constant(address: *const u32) -> u32 {
    // SAFETY: `address` is that of a field of `KNOBS`, which is read-only.
    unsafe { address.read_volatile() }
}

/// Reads a field at an offset; `None` where it is absent.
///
/// # Safety
///
/// `base` is a pointer to a kernel structure, as given to a tracing program or read from one, and
/// `offset` is that of a field as wide as `T` in it. The verifier refuses anything else.
#[inline(always)]
unsafe fn read<T: Copy>(base: *const c_void, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: promised by the caller; the kernel aligns its fields.
    Some(unsafe { base.byte_add(offset as usize).cast::<T>().read() })
}

/// Defines a kernel structure by the fields that are read from it.
macro_rules! structure {
    ($(#[$about:meta])* $name:ident { $($field:ident: $type:ty = $offset:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(*const c_void);

        impl $name {
            /// Takes a pointer that the kernel gave to a tracing program.
            #[inline(always)]
            pub(crate) fn new(pointer: *const c_void) -> Self {
                Self(pointer)
            }

            $(
                #[inline(always)]
                pub(crate) fn $field(self) -> Option<$type> {
                    // SAFETY: the pointer is the kernel's, the offset is this field's, and the
                    // agent gives it only where the field has this width.
                    unsafe { read(self.0, knob!(offsets.$offset)) }
                }
            )+
        }
    };
}

structure! {
    /// `struct sock`.
    Sock {
        family: u16 = skc_family,
        state: u8 = skc_state,
        daddr: [u8; 4] = skc_daddr,
        rcv_saddr: [u8; 4] = skc_rcv_saddr,
        v6_daddr: [u64; 2] = skc_v6_daddr,
        v6_rcv_saddr: [u64; 2] = skc_v6_rcv_saddr,
        dport: u16 = skc_dport,
        num: u16 = skc_num,
        net: *const c_void = skc_net,
        incoming_cpu: u32 = skc_incoming_cpu,
        rxhash: u32 = skc_rxhash,
        rx_queue_mapping: u16 = skc_rx_queue_mapping,
        napi_id: u32 = sk_napi_id,
        rx_dst_ifindex: u32 = sk_rx_dst_ifindex,
    }
}

structure! {
    /// `struct sk_buff`.
    Skb {
        dev: *const c_void = skb_dev,
        iif: u32 = skb_iif,
        raw_hash: u32 = skb_hash,
        queue_mapping: u16 = skb_queue_mapping,
        napi_id: u32 = skb_napi_id,
        protocol: u16 = skb_protocol,
        head: u64 = skb_head,
        network_header: u16 = skb_network_header,
        transport_header: u16 = skb_transport_header,
        sw_hash_byte: u8 = skb_sw_hash,
    }
}

structure! {
    /// `struct net_device`.
    Device {
        ifindex: u32 = dev_ifindex,
        net: *const c_void = dev_net,
    }
}

structure! {
    /// `struct net`, a network namespace.
    Net {
        inum: u32 = net_inum,
    }
}

/// Inode number of a namespace. Where the kernel does not tell, everything counts as being in the
/// agent's: on a kernel without namespaces that is true.
#[inline(always)]
pub(crate) fn netns(net: Option<*const c_void>) -> u32 {
    match net.and_then(|net| Net::new(net).inum()) {
        Some(inum) => inum,
        None => knob!(netns),
    }
}

impl Skb {
    /// The hash that the NIC reported; `None` where it reported none, or where the stack has
    /// replaced it by its own (`skb_get_hash` under RPS, `sw_hash`).
    #[inline(always)]
    pub(crate) fn nic_hash(self) -> Option<u32> {
        if let Some(byte) = self.sw_hash_byte()
            && (byte >> (knob!(offsets.skb_sw_hash_bit) & 7)) & 1 != 0
        {
            return None;
        }
        self.raw_hash().filter(|hash| *hash != 0)
    }

    /// The RX queue: the kernel stores it plus one, so that zero is "not recorded"
    /// (`skb_record_rx_queue`).
    #[inline(always)]
    pub(crate) fn rx_queue(self) -> Option<u16> {
        self.queue_mapping().filter(|mapping| *mapping != 0).map(|mapping| mapping - 1)
    }
}
