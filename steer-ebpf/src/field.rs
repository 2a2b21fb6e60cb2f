//! Reading fields of the kernel's structures.
//!
//! Rust has no relocatable access to them, so that the agent finds each field's offset in the
//! running kernel's type information and writes it to [`KNOBS`] before loading. A field that this
//! kernel has not has its absent value here, and the verifier never looks at the code that reads it.
//!
//! Fields are read directly, not with `bpf_probe_read_kernel`: a pointer that the kernel gave to a
//! tracing program keeps its type when a known number is added, so that the verifier checks the
//! access against the structure and the JIT emits a plain load. A pointer that went stale reads as
//! zero; it cannot fault.

use core::ffi::c_void;

use steer_common::{
    flow::NONE,
    knobs::{ABSENT, Knobs},
};

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

/// Reads a field at an offset; `absent` where this kernel has not got it.
///
/// The absent value is a number like the others, not `None`: the compiler leaves the inside of a
/// `None` unset, and the verifier refuses a program that merely copies an unset register.
///
/// # Safety
///
/// `base` is a pointer to a kernel structure, as given to a tracing program or read from one, and
/// `offset` is that of a field as wide as `T` in it. The verifier refuses anything else.
#[inline(always)]
unsafe fn read<T: Copy>(base: *const c_void, offset: u32, absent: T) -> T {
    if offset == ABSENT {
        return absent;
    }
    // SAFETY: promised by the caller; the kernel aligns its fields.
    unsafe { base.byte_add(offset as usize).cast::<T>().read() }
}

/// Defines a kernel structure by the fields that are read from it, and what each is where it is
/// absent.
macro_rules! structure {
    ($(#[$about:meta])* $name:ident { $($field:ident: $type:ty = $offset:ident, $absent:expr;)+ }) => {
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
                pub(crate) fn $field(self) -> $type {
                    // SAFETY: the pointer is the kernel's, the offset is this field's, and the
                    // agent gives it only where the field has this width.
                    unsafe { read(self.0, knob!(offsets.$offset), $absent) }
                }
            )+
        }
    };
}

/// A network namespace that is not known.
const NO_NET: *const c_void = core::ptr::null();

structure! {
    /// `struct sock`.
    Sock {
        family: u16 = skc_family, 0;
        state: u8 = skc_state, 0;
        daddr: [u8; 4] = skc_daddr, [0; 4];
        rcv_saddr: [u8; 4] = skc_rcv_saddr, [0; 4];
        v6_daddr: [u64; 2] = skc_v6_daddr, [0; 2];
        v6_rcv_saddr: [u64; 2] = skc_v6_rcv_saddr, [0; 2];
        dport: [u8; 2] = skc_dport, [0; 2];
        num: u16 = skc_num, 0;
        net: *const c_void = skc_net, NO_NET;
        incoming_cpu: u32 = skc_incoming_cpu, u32::MAX;
        rxhash: u32 = skc_rxhash, 0;
        rx_queue_mapping: u16 = skc_rx_queue_mapping, NONE;
        napi_id: u32 = sk_napi_id, 0;
        rx_dst_ifindex: u32 = sk_rx_dst_ifindex, 0;
    }
}

structure! {
    /// `struct sk_buff`.
    Skb {
        iif: u32 = skb_iif, 0;
        raw_hash: u32 = skb_hash, 0;
        queue_mapping: u16 = skb_queue_mapping, 0;
        napi_id: u32 = skb_napi_id, 0;
        protocol: u16 = skb_protocol, 0;
        head: u64 = skb_head, 0;
        network_header: u16 = skb_network_header, 0;
        transport_header: u16 = skb_transport_header, 0;
        sw_hash_byte: u8 = skb_sw_hash, 0;
    }
}

structure! {
    /// `struct net_device`.
    Device {
        ifindex: u32 = dev_ifindex, 0;
        net: *const c_void = dev_net, NO_NET;
    }
}

/// Whether this kernel has all of these fields.
macro_rules! present {
    ($($offset:ident),+) => {
        $($crate::field::is_present($crate::field::knob!(offsets.$offset)))&&+
    };
}
pub(crate) use present;

#[inline(always)]
pub(crate) fn is_present(offset: u32) -> bool {
    offset != ABSENT
}

/// Inode number of a namespace. Where the kernel does not tell, everything counts as being in the
/// agent's: on a kernel without namespaces that is true.
#[inline(always)]
fn inum(net: *const c_void) -> u32 {
    // SAFETY: `net` comes from the kernel, and the offset is that of a field of 32 bits.
    unsafe { read(net, knob!(offsets.net_inum), knob!(netns)) }
}

impl Sock {
    /// Inode number of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        if present!(skc_net) { inum(self.net()) } else { knob!(netns) }
    }
}

impl Device {
    /// Inode number of the device's network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        if present!(dev_net) { inum(self.net()) } else { knob!(netns) }
    }
}

impl Skb {
    /// The packet's device; only where the field is [`present!`].
    #[inline(always)]
    pub(crate) fn device(self) -> Device {
        // SAFETY: the pointer is the kernel's, and so is what it reads.
        Device::new(unsafe { read(self.0, knob!(offsets.skb_dev), core::ptr::null()) })
    }

    /// The hash that the NIC reported; 0 where it reported none, or where the stack has replaced it
    /// by its own (`skb_get_hash` under RPS, `sw_hash`).
    #[inline(always)]
    pub(crate) fn nic_hash(self) -> u32 {
        let software = (self.sw_hash_byte() >> (knob!(offsets.skb_sw_hash_bit) & 7)) & 1;
        if software == 0 { self.raw_hash() } else { 0 }
    }

    /// The RX queue, or [`NONE`]. The kernel stores it plus one, so that zero is "not recorded"
    /// (`skb_record_rx_queue`) and wraps round to that.
    #[inline(always)]
    pub(crate) fn rx_queue(self) -> u16 {
        self.queue_mapping().wrapping_sub(1)
    }
}

const _: () = assert!(NONE == 0_u16.wrapping_sub(1));
