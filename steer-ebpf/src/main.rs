//! The kernel side of steer: it counts, and decides nothing.
//!
//! Entry points only; each calls one function. Above each stands the kernel prototype that it relies
//! on, tagged `prototype:`, which the lab compares with the type information of every kernel it boots.
//! Which of them are needed, and what stands in for one that a kernel lacks, is the agent's table
//! (`observe/kernel/programs.rs`).
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
    reason = "CPU, queue and slot numbers fit 16 bits, and a checked conversion is one more branch"
)]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]

mod consume;
mod field;
mod flow;
mod health;
mod key;
mod maps;
mod origin;
mod parse;
mod receive;
mod xdp;

use aya_ebpf::{
    bindings::xdp_action,
    macros::{btf_tracepoint, fentry, xdp},
    programs::{BtfTracePointContext, FEntryContext, XdpContext},
};

/// The version of the shared types. The agent reads it from its own map before it attaches.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.abi")]
static ABI: u32 = steer_common::abi::VERSION;

/// Some helpers are open to programs under the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// prototype: `tp_btf tcp_rcv_space_adjust(struct sock *sk)`
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn consume_tcp(ctx: BtfTracePointContext) -> i32 {
    consume::tcp(&ctx);
    0
}

/// prototype: `fentry skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)`
#[fentry(function = "skb_consume_udp")]
fn consume_udp(ctx: FEntryContext) -> i32 {
    consume::udp(&ctx);
    0
}

/// prototype: `tp_btf napi_gro_receive_entry(const struct sk_buff *skb)`
#[btf_tracepoint(function = "napi_gro_receive_entry")]
fn receive_gro(ctx: BtfTracePointContext) -> i32 {
    receive::napi_packet(ctx.arg(0));
    0
}

/// prototype: `tp_btf napi_gro_frags_entry(const struct sk_buff *skb)`
#[btf_tracepoint(function = "napi_gro_frags_entry")]
fn receive_frags(ctx: BtfTracePointContext) -> i32 {
    receive::napi_packet(ctx.arg(0));
    0
}

/// prototype: `tp_btf netif_receive_skb_entry(const struct sk_buff *skb)`
#[btf_tracepoint(function = "netif_receive_skb_entry")]
fn receive_skb(ctx: BtfTracePointContext) -> i32 {
    receive::direct_packet(ctx.arg(0));
    0
}

/// prototype: `tp_btf netif_receive_skb_list_entry(const struct sk_buff *skb)`
#[btf_tracepoint(function = "netif_receive_skb_list_entry")]
fn receive_list(ctx: BtfTracePointContext) -> i32 {
    receive::direct_packet(ctx.arg(0));
    0
}

/// Counts and passes: whatever it finds, the packet goes on.
#[xdp]
fn observe_xdp(ctx: XdpContext) -> u32 {
    xdp::packet(&ctx);
    xdp_action::XDP_PASS
}

/// Never reached: a program from which it could be is refused by the verifier, because it does not
/// allow a loop without an end.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
