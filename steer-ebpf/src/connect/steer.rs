//! Which connections are steered. Each of the others has a reason that is counted.

use core::hint::black_box;

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::{bpf_get_smp_processor_id, generated},
    programs::SockAddrContext,
};
use steer_common::connect::{
    Outcome, ROUTE_STEER, ROUTE_UNKNOWN, Route, RouteKey, Settings, V4, V6,
};

use crate::{
    maps::{self, count},
    pick::{self, Wanted},
    socket::{self, Address, Ends, MAPPED, field},
};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;

/// A connection that is about to be made.
struct Connection {
    remote: Address,
    /// What the socket is bound to, zeros for nothing; IPv4 in its mapped form.
    bound: Address,
    v6_socket: bool,
}

/// `connect(2)` of an IPv4 socket.
#[inline(always)]
pub(crate) fn connecting_v4(ctx: &SockAddrContext) {
    let sock = socket::of(ctx);
    let bound = field!(sock, src_ip4);
    let connection = Connection {
        remote: [0, 0, MAPPED, field!(ctx.sock_addr, user_ip4)],
        // Without a branch, which the verifier would follow to the end twice.
        bound: [0, 0, MAPPED & black_box(0_u32.wrapping_sub(u32::from(bound != 0))), bound],
        v6_socket: false,
    };
    count(attempt(ctx, sock, &connection));
}

/// `connect(2)` of an IPv6 socket.
#[inline(always)]
pub(crate) fn connecting_v6(ctx: &SockAddrContext) {
    let sock = socket::of(ctx);
    let connection = Connection {
        remote: [
            field!(ctx.sock_addr, user_ip6[0]),
            field!(ctx.sock_addr, user_ip6[1]),
            field!(ctx.sock_addr, user_ip6[2]),
            field!(ctx.sock_addr, user_ip6[3]),
        ],
        bound: [
            field!(sock, src_ip6[0]),
            field!(sock, src_ip6[1]),
            field!(sock, src_ip6[2]),
            field!(sock, src_ip6[3]),
        ],
        v6_socket: true,
    };
    count(attempt(ctx, sock, &connection));
}

#[inline(always)]
fn attempt(ctx: &SockAddrContext, sock: *const bpf_sock, connection: &Connection) -> Outcome {
    if field!(ctx.sock_addr, type_) != SOCK_STREAM || field!(ctx.sock_addr, protocol) != IPPROTO_TCP
    {
        return Outcome::NotTcp;
    }
    if field!(sock, src_port) != 0 {
        return Outcome::Bound;
    }
    if field!(sock, bound_dev_if) != 0 {
        return Outcome::Device;
    }
    let Some(settings) = maps::SETTINGS.get(0) else { return Outcome::Off };
    // SAFETY: the helper takes the program's context.
    if unsafe { generated::bpf_get_netns_cookie(ctx.sock_addr.cast()) } != settings.netns_cookie {
        return Outcome::Namespace;
    }
    if socket::has_own_range(sock) {
        return Outcome::OwnRange;
    }
    let key = RouteKey {
        remote: bytes(&connection.remote),
        bound: bytes(&connection.bound),
        mark: field!(sock, mark),
        pad: 0,
    };
    // SAFETY: the agent replaces a value as a whole; one that is torn by that is caught by `pick`,
    // which checks what it is about to do.
    let Some(route) = (unsafe { maps::ROUTES.get(key) }) else {
        // A full table that refuses is a destination that stays unknown.
        let _ =
            maps::ROUTES.insert(key, Route { verdict: ROUTE_UNKNOWN, slot: 0, local: [0; 16] }, 0);
        return Outcome::Unknown;
    };
    match route.verdict {
        ROUTE_UNKNOWN => return Outcome::Unknown,
        ROUTE_STEER => {}
        _ => return Outcome::Elsewhere,
    }
    if settings.enabled == 0 {
        return Outcome::Off;
    }
    through(ctx, connection, settings, route)
}

/// Steers a connection whose way is known.
#[inline(always)]
fn through(
    ctx: &SockAddrContext,
    connection: &Connection,
    settings: &Settings,
    route: &Route,
) -> Outcome {
    let v4 = connection.remote[2] == MAPPED && connection.remote[0] | connection.remote[1] == 0;
    let ends = Ends {
        remote: connection.remote,
        local: words(&route.local),
        remote_port: field!(ctx.sock_addr, user_port) as u16,
        v4,
    };
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let wanted = Wanted { slot: route.slot, family: if v4 { V4 } else { V6 }, cpu };
    pick::port(ctx, &wanted, &ends, &connection.bound, connection.v6_socket, settings)
}

/// The bytes of an address as they lie in memory.
#[inline(always)]
pub(crate) fn bytes(address: &Address) -> [u8; 16] {
    // SAFETY: both are 16 bytes of integers.
    unsafe { core::mem::transmute::<Address, [u8; 16]>(*address) }
}

#[inline(always)]
fn words(address: &[u8; 16]) -> Address {
    // SAFETY: both are 16 bytes of integers.
    unsafe { core::mem::transmute::<[u8; 16], Address>(*address) }
}
