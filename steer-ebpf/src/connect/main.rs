//! Connect steering: a new connection leaves from a port whose replies come back to this CPU.
//!
//! An object of its own beside the observing one, because it acts: it is loaded only where connect
//! steering is asked for, and its maps belong to one cgroup. It lets every connection pass: whatever
//! it finds, `connect(2)` goes on, in doubt as if it had not been there.
//!
//! Entry points only; what they do is in [`steer`], where a port comes from in [`pick`].
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
    reason = "ports and sizes of kernel structures fit; a checked conversion is one more branch"
)]
#![allow(clippy::cast_possible_wrap, reason = "sizes of structures on the stack are small")]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]

mod maps;
mod pick;
mod socket;
mod steer;

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

/// The version of the shared types. The agent reads it from its own map before it attaches.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.abi")]
static ABI: u32 = steer_common::connect::VERSION;

/// Some helpers are open to programs under the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// What the kernel takes for "go on" (`BPF_CGROUP_RUN_SA_PROG`); anything else refuses the
/// connection, and is never returned.
const GO_ON: i32 = 1;

/// `connect(2)` of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    steer::connecting_v4(&ctx);
    GO_ON
}

/// `connect(2)` of an IPv6 socket, to an IPv4 address in its mapped form too.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    steer::connecting_v6(&ctx);
    GO_ON
}

/// Never reached: a program from which it could be is refused by the verifier, because it does not
/// allow a loop without an end.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
