//! Accept steering: gives a new connection to the listener whose worker lives on the CPU where the
//! connection arrives, and sees where it is then consumed.
//!
//! An object of its own, because its map of sockets takes `CAP_NET_ADMIN`, which observing does not. The
//! agent decides everything and writes it into maps; whatever is in doubt here passes, and then the
//! kernel chooses as if nobody were there. No connection is ever refused.
//!
//! Built for instruction set v2: no fetching atomics, which 5.10 refuses.
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "maps and kernel memory are pointers here; the verifier checks each"
)]
#![allow(
    clippy::inline_always,
    reason = "a call costs the verifier of old kernels what it knows of the arguments"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "CPU, group and member numbers fit 16 bits, and a checked conversion is one more branch"
)]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]

mod choice;
mod consumed;
#[path = "../field.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "packets are the other object's business"
)]
mod field;
mod groups;
#[path = "../key.rs"]
#[allow(dead_code, reason = "datagrams are the other object's business")]
mod key;
mod lookup;
mod maps;
mod member;

use core::ffi::c_void;

use aya_ebpf::{
    macros::{btf_tracepoint, sk_lookup, sk_reuseport},
    programs::{BtfTracePointContext, SkLookupContext, SkReuseportContext},
};
use steer_common::accept::AcceptKnobs;

/// The version of the shared types. The agent reads it from its own map before it attaches.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.abi")]
static ABI: u32 = steer_common::abi::VERSION;

/// Some helpers are open to programs under the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The load-time constants that only these programs have.
#[unsafe(no_mangle)]
static ACCEPT_KNOBS: AcceptKnobs = AcceptKnobs::UNSET;

/// One of them.
macro_rules! accept_knob {
    ($field:ident) => {
        $crate::field::constant(&raw const $crate::accept_knobs().$field)
    };
}
pub(crate) use accept_knob;

#[inline(always)]
pub(crate) fn accept_knobs() -> &'static AcceptKnobs {
    &ACCEPT_KNOBS
}

/// `SK_PASS`: go on with the socket that was assigned, or without one as the kernel would.
const SK_PASS: u32 = 1;

/// Runs for every packet that belongs to no connection yet, on the CPU that processes it.
#[sk_lookup]
fn steer_accept(ctx: SkLookupContext) -> u32 {
    lookup::choose(&ctx);
    SK_PASS
}

/// Runs for every packet that belongs to no connection yet and that the kernel has put down to the group,
/// only where it was asked for by name. It never answers `SK_DROP`, which would refuse a connection.
#[sk_reuseport]
fn steer_member(ctx: SkReuseportContext) -> u32 {
    member::choose(&ctx);
    SK_PASS
}

/// prototype: `tp_btf tcp_rcv_space_adjust(struct sock *sk)`
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn accept_consumed(ctx: BtfTracePointContext) -> i32 {
    consumed::first(ctx.arg::<*const c_void>(0));
    0
}

/// prototype: `tp_btf inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn accept_state(ctx: BtfTracePointContext) -> i32 {
    groups::changed(ctx.arg::<*const c_void>(0), ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    0
}

/// Tells the reuseport group of each listener. Not aya's macro, which this version has not got.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn list_groups(ctx: *const groups::IterContext) -> i32 {
    groups::list(ctx)
}

/// Never reached: a program from which it could be is refused by the verifier, because it does not
/// allow a loop without an end.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
