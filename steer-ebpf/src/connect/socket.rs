//! The socket that connects, and others that may be in its way.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr, bpf_sock_tuple, sockaddr},
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel, generated},
    programs::SockAddrContext,
};
use steer_common::{connect::Settings, knobs::ABSENT};

use crate::maps::knob;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOL_SOCKET: i32 = 1;
const SO_REUSEADDR: i32 = 2;
/// The caller's own network namespace (`BPF_F_CURRENT_NETNS`).
const CURRENT_NETNS: u64 = u64::MAX;
/// `TCP_TIME_WAIT` of `include/net/tcp_states.h`: the connection is closed on both sides.
const TIME_WAIT: u8 = 6;

/// An address as four words in the order of memory; IPv4 in its mapped form.
pub(crate) type Address = [u32; 4];

/// The third word of a mapped address, as it stands in memory.
pub(crate) const MAPPED: u32 = 0xffff_u32.to_be();

/// Reads a field of a kernel structure of which the verifier wants one load of just that width.
macro_rules! field {
    ($pointer:expr, $($field:tt)+) => {
        // SAFETY: the pointer is the kernel's, and the verifier checks the field.
        unsafe { (&raw const (*$pointer).$($field)+).read_volatile() }
    };
}
pub(crate) use field;

/// The socket behind a context.
#[inline(always)]
pub(crate) fn of(ctx: &SockAddrContext) -> *const bpf_sock {
    field!(ctx.sock_addr, __bindgen_anon_1.sk)
}

/// Whether the socket has a port range of its own, `IP_LOCAL_PORT_RANGE`.
#[inline(always)]
pub(crate) fn has_own_range(sock: *const bpf_sock) -> bool {
    let offset = knob(|knobs| &raw const knobs.local_port_range);
    if offset == ABSENT {
        return false;
    }
    // SAFETY: the helper takes any socket, and gives none for one that is not TCP.
    let tcp = unsafe { generated::bpf_skc_to_tcp_sock(sock.cast_mut().cast()) };
    // One that cannot be looked at is left alone.
    tcp.is_null() || read::<u32>(tcp.cast(), offset, 1) != 0
}

/// Reads a field at an offset; `failed` where that cannot be read.
#[inline(always)]
fn read<T: Copy>(base: *const c_void, offset: u32, failed: T) -> T {
    // SAFETY: the helper checks the address and fails where it is none of the kernel's.
    match unsafe { bpf_probe_read_kernel(base.byte_add(offset as usize).cast::<T>()) } {
        Ok(value) => value,
        Err(_) => failed,
    }
}

/// What is to be found at both ends of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) remote: Address,
    pub(crate) local: Address,
    /// As in a packet.
    pub(crate) remote_port: u16,
    pub(crate) v4: bool,
}

/// Who is at these ends already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occupant {
    Nobody,
    /// A connection that is closed on both sides, and may be taken over.
    Leftover,
    Somebody,
}

#[repr(C)]
struct TupleV4 {
    remote: u32,
    local: u32,
    remote_port: u16,
    local_port: u16,
}

#[repr(C)]
struct TupleV6 {
    remote: Address,
    local: Address,
    remote_port: u16,
    local_port: u16,
}

/// Looks the four-tuple up.
#[inline(always)]
pub(crate) fn occupant(
    ctx: &SockAddrContext,
    ends: &Ends,
    port: u16,
    settings: &Settings,
) -> Occupant {
    let found = if ends.v4 {
        let tuple = TupleV4 {
            remote: ends.remote[3],
            local: ends.local[3],
            remote_port: ends.remote_port,
            local_port: port.to_be(),
        };
        look_up(ctx, &tuple)
    } else {
        let tuple = TupleV6 {
            remote: ends.remote,
            local: ends.local,
            remote_port: ends.remote_port,
            local_port: port.to_be(),
        };
        look_up(ctx, &tuple)
    };
    if found.is_null() {
        return Occupant::Nobody;
    }
    // Read where it is used, or the compiler would make two loops of one for the verifier to follow.
    // SAFETY: a field of a map's value.
    let may_reuse = unsafe { (&raw const settings.reuse_time_wait).read_volatile() };
    let leftover = may_reuse != 0 && is_leftover(found);
    // SAFETY: the reference that the look-up took, given back once.
    unsafe { generated::bpf_sk_release(found.cast()) };
    if leftover { Occupant::Leftover } else { Occupant::Somebody }
}

#[inline(always)]
fn look_up<T>(ctx: &SockAddrContext, tuple: &T) -> *mut bpf_sock {
    // SAFETY: the tuple is whole, and its size tells the helper which of the two it is.
    unsafe {
        generated::bpf_skc_lookup_tcp(
            ctx.sock_addr.cast(),
            (&raw const *tuple).cast_mut().cast::<bpf_sock_tuple>(),
            size_of::<T>() as u32,
            CURRENT_NETNS,
            0,
        )
    }
}

/// Whether this is a TIME-WAIT that the kernel lets a bound socket take over, and whose last
/// timestamp came over a second ago: `tcp_twsk_unique` asks the former of a socket with a port of
/// its own, the latter of others where `tcp_tw_reuse` is 1. It is asked here too.
#[inline(always)]
fn is_leftover(found: *mut bpf_sock) -> bool {
    let stamp_at = knob(|knobs| &raw const knobs.tw_ts_recent_stamp);
    let substate_at = knob(|knobs| &raw const knobs.tw_substate);
    if stamp_at == ABSENT || substate_at == ABSENT {
        return false;
    }
    // SAFETY: the helper takes any socket, and gives none for one that is not in TIME-WAIT.
    let wait = unsafe { generated::bpf_skc_to_tcp_timewait_sock(found.cast()) };
    if wait.is_null() {
        return false;
    }
    let stamp_s: u32 = read(wait.cast(), stamp_at, 0);
    let substate: u8 = read(wait.cast(), substate_at, 0);
    // SAFETY: a helper without arguments.
    let now_s = (unsafe { bpf_ktime_get_ns() } / 1_000_000_000) as u32;
    let age_s = now_s.wrapping_sub(stamp_s);
    // A stamp of this second and one from the future are both young.
    stamp_s != 0 && substate == TIME_WAIT && age_s > 1 && age_s < 1 << 31
}

/// `SO_REUSEADDR` of the socket, as the kernel told it; `None` where it does not tell.
#[inline(always)]
pub(crate) fn sharing(ctx: &SockAddrContext) -> Option<i32> {
    let mut value: i32 = 0;
    // SAFETY: `value` is four bytes and outlives the call.
    let failed = unsafe {
        generated::bpf_getsockopt(
            ctx.sock_addr.cast(),
            SOL_SOCKET,
            SO_REUSEADDR,
            (&raw mut value).cast(),
            size_of::<i32>() as i32,
        )
    };
    if failed == 0 { Some(value) } else { None }
}

/// Sets `SO_REUSEADDR`: with 1 a port serves one connection to each destination, and not one alone.
/// False where the kernel does not let a program do it (before 6.1).
#[inline(always)]
pub(crate) fn set_sharing(ctx: &SockAddrContext, mut value: i32) -> bool {
    // SAFETY: `value` is four bytes and outlives the call.
    let failed = unsafe {
        generated::bpf_setsockopt(
            ctx.sock_addr.cast(),
            SOL_SOCKET,
            SO_REUSEADDR,
            (&raw mut value).cast(),
            size_of::<i32>() as i32,
        )
    };
    failed == 0
}

#[repr(C)]
struct SockaddrV4 {
    family: u16,
    port: u16,
    address: u32,
    zero: [u32; 2],
}

#[repr(C)]
struct SockaddrV6 {
    family: u16,
    port: u16,
    flow: u32,
    address: Address,
    scope: u32,
}

/// Binds the socket to a port (0: none), and to the address that it was bound to before, if any.
#[inline(always)]
pub(crate) fn bind(ctx: &SockAddrContext, v6_socket: bool, bound: &Address, port: u16) -> bool {
    if v6_socket {
        let address =
            SockaddrV6 { family: AF_INET6, port: port.to_be(), flow: 0, address: *bound, scope: 0 };
        bind_to(ctx.sock_addr, &address)
    } else {
        let address =
            SockaddrV4 { family: AF_INET, port: port.to_be(), address: bound[3], zero: [0; 2] };
        bind_to(ctx.sock_addr, &address)
    }
}

#[inline(always)]
fn bind_to<T>(ctx: *mut bpf_sock_addr, address: &T) -> bool {
    let pointer = (&raw const *address).cast_mut().cast::<sockaddr>();
    // SAFETY: the address is whole, as its size says, and outlives the call.
    unsafe { generated::bpf_bind(ctx, pointer, size_of::<T>() as i32) == 0 }
}
