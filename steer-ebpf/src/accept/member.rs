//! A new connection at a reuseport group's own program: read from the packet what it is.
//!
//! Such a program outlives the agent, for the group holds it. So it chooses only while the agent looks.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
    programs::SkReuseportContext,
};
use steer_common::{
    accept::ABANDONED_NS,
    flow::{FlowKey, TCP, mapped},
};

use crate::{
    choice::{self, Give},
    maps,
};

/// Kinds of network header as they stand in memory.
const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();
/// Offsets count from the network header (include/uapi/linux/bpf.h `BPF_HDR_START_NET`).
const FROM_NETWORK_HEADER: u32 = 1;

impl Give for SkReuseportContext {
    #[inline(always)]
    fn give(&self, socket: u32) -> bool {
        // The kernel takes no socket of another group (net/core/filter.c `sk_select_reuseport`).
        maps::GROUP_LISTENERS.select_reuseport(self, socket).is_ok()
    }
}

/// Selects a member where one lives on this CPU.
#[inline(always)]
pub(crate) fn choose(ctx: &SkReuseportContext) {
    if ctx.ip_protocol() != u32::from(TCP) {
        return;
    }
    // The packet begins at the TCP header here.
    let mut ports = [[0u8; 2]; 2];
    // SAFETY: the helper writes so many bytes, or none and says so.
    let read = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), 0, to(&mut ports), 4) };
    if read != 0 {
        return;
    }
    let port = u16::from_be_bytes(ports[1]);
    let Some(known_ns) = choice::known_ns(port) else {
        return;
    };
    // SAFETY: the helper has no conditions.
    if unsafe { bpf_ktime_get_ns() } > known_ns + ABANDONED_NS {
        return;
    }
    let mut key = FlowKey::EMPTY;
    let version = match ctx.eth_protocol() as u16 {
        ETH_P_IP => {
            let mut addresses = [[0u8; 4]; 2];
            if !header(ctx, 12, to(&mut addresses), 8) {
                return;
            }
            key.remote = mapped(addresses[0]);
            key.local = mapped(addresses[1]);
            4
        }
        ETH_P_IPV6 => {
            let mut addresses = [[0u8; 16]; 2];
            if !header(ctx, 8, to(&mut addresses), 32) {
                return;
            }
            key.remote = addresses[0];
            key.local = addresses[1];
            6
        }
        _ => return,
    };
    key.remote_port = ports[0];
    key.local_port = ports[1];
    key.protocol = TCP;
    if choice::comes_from_outside(&key) {
        choice::choose(ctx, &key, port, version, known_ns);
    }
}

#[inline(always)]
fn to<T>(value: &mut T) -> *mut c_void {
    (&raw mut *value).cast()
}

/// Reads from the packet's network header; false where it is shorter.
#[inline(always)]
fn header(ctx: &SkReuseportContext, offset: u32, to: *mut c_void, bytes: u32) -> bool {
    let from = FROM_NETWORK_HEADER;
    // SAFETY: the verifier checks that there is room for so many bytes.
    unsafe { bpf_skb_load_bytes_relative(ctx.as_ptr(), offset, to, bytes, from) == 0 }
}
