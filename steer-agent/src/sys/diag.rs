//! Sockets of the present network namespace, by `sock_diag(7)`.
//!
//! The dump is filtered in the kernel, so that its length depends on the listeners and not on the
//! connections, as that of /proc/net/tcp does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_bindings::inet_diag::{IterableReplyAttrs, Msg, ReqV2, Request};
use netlink_bindings::rt_addr;

use super::SysError;
use super::netlink::{Netlink, Refusal};
use crate::model::listener::{Endpoint, ListeningSocket};

/// `SOCK_DIAG_BY_FAMILY` (`include/uapi/linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bits by TCP state (`include/net/tcp_states.h`). A UDP socket that is not connected is "closed".
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;
/// Every state that a connection can have.
const ALL: u32 = (1 << 13) - 1;

/// `RTM_GETADDR` (include/uapi/linux/rtnetlink.h).
const RTM_GETADDR: u16 = 22;
/// `INET_DIAG_SKV6ONLY`: a byte, which the bindings take for a flag.
const SKV6ONLY: u16 = 11;

/// The TCP sockets that listen in the present network namespace, by cookie.
pub fn listeners() -> Result<Vec<ListeningSocket>, SysError> {
    let failed = |refusal: Refusal| {
        SysError::new("sock_diag", "listeners", refusal.errno).with_kernel_message(refusal.words)
    };
    let mut netlink = Netlink::sock_diag().map_err(failed)?;
    // A dump that is repeated tells the same sockets again.
    let mut found = BTreeMap::new();
    for family in [AF_INET, AF_INET6] {
        let mut header = ReqV2::new();
        (header.family, header.protocol, header.states) = (family, TCP, LISTEN);
        let request = Request::new().op_tcp_diag_dump(&header);
        netlink
            .ask(&request, BY_FAMILY, |(message, attributes)| {
                let socket = listening_socket(&message, &attributes);
                if socket.endpoint.port != 0 {
                    found.insert(socket.cookie, socket);
                }
            })
            .map_err(failed)?;
    }
    Ok(found.into_values().collect())
}

fn listening_socket(message: &Msg, attributes: &IterableReplyAttrs<'_>) -> ListeningSocket {
    let id = &message.sockid;
    let [a, b, c, d, ..] = id.src;
    let v6_only = (message.family == AF_INET6)
        .then(|| attribute(attributes.get_buf(), SKV6ONLY))
        .flatten()
        .and_then(|value| value.first().map(|only| *only != 0));
    ListeningSocket {
        cookie: u64::from_ne_bytes(id.cookie),
        inode: u64::from(message.inode),
        endpoint: Endpoint {
            port: id.sport(),
            address: if message.family == AF_INET {
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            } else {
                // A socket for IPv6 that is bound to a mapped address takes IPv4 connections to it.
                IpAddr::V6(Ipv6Addr::from(id.src)).to_canonical()
            },
            v6_only,
            device: id.r#if,
        },
        uid: message.uid,
        queued: message.rqueue,
    }
}

/// The value of the first attribute of this type (netlink(7), `struct nlattr`).
fn attribute(mut buffer: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let (header, rest) = buffer.split_first_chunk::<4>()?;
        let [a, b, c, d] = *header;
        let length = usize::from(u16::from_ne_bytes([a, b])).checked_sub(4)?;
        let value = rest.get(..length)?;
        if u16::from_ne_bytes([c, d]) & 0x3fff == kind {
            return Some(value);
        }
        buffer = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Addresses of the present network namespace (rtnetlink(7), `RTM_GETADDR`).
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, SysError> {
    let failed = |refusal: Refusal| {
        SysError::new("RTM_GETADDR", "all interfaces", refusal.errno)
            .with_kernel_message(refusal.words)
    };
    let mut netlink = Netlink::route().map_err(failed)?;
    let request = rt_addr::Request::new().op_getaddr_dump(&rt_addr::Ifaddrmsg::new());
    let mut addresses = BTreeSet::new();
    netlink
        .ask(&request, RTM_GETADDR, |(_, attributes)| {
            // Of a point-to-point interface the first is the far end's.
            let own = attributes.get_local().or_else(|_| attributes.get_address());
            addresses.extend(own.ok());
        })
        .map_err(failed)?;
    Ok(addresses)
}

/// What this host takes connections and datagrams on: (IP protocol, local port).
pub fn listening() -> Result<BTreeSet<(u8, u16)>, SysError> {
    let failed = |refusal: Refusal| {
        SysError::new("sock_diag", "listeners", refusal.errno).with_kernel_message(refusal.words)
    };
    let mut netlink = Netlink::sock_diag().map_err(failed)?;
    let mut ports = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        for (protocol, states) in [(TCP, LISTEN), (UDP, CLOSE)] {
            let mut header = ReqV2::new();
            (header.family, header.protocol, header.states) = (family, protocol, states);
            // One request for all protocols: the header says which.
            let request = Request::new().op_tcp_diag_dump(&header);
            netlink
                .ask(&request, BY_FAMILY, |(message, _)| {
                    ports.extend(port(&message).map(|port| (protocol, port)));
                })
                .map_err(failed)?;
        }
    }
    Ok(ports)
}

/// Local ports from `low` to `high` that TCP connections have, in TIME-WAIT too. The kernel walks all
/// of its connections for that, and hands out those that are in the range.
pub fn local_ports(low: u16, high: u16) -> Result<BTreeSet<u16>, SysError> {
    let failed = |refusal: Refusal| {
        SysError::new("sock_diag", "connections", refusal.errno).with_kernel_message(refusal.words)
    };
    let mut netlink = Netlink::sock_diag().map_err(failed)?;
    let mut ports = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        let mut header = ReqV2::new();
        (header.family, header.protocol, header.states) = (family, TCP, ALL & !LISTEN);
        let mut request = Request::new().op_tcp_diag_dump(&header);
        let _ = request.encode().push_bytecode(&between(low, high));
        netlink
            .ask(&request, BY_FAMILY, |(message, _)| {
                let port = message.sockid.sport();
                if (low..=high).contains(&port) {
                    ports.insert(port);
                }
            })
            .map_err(failed)?;
    }
    Ok(ports)
}

/// The kernel's filter for "the local port is not less than `low` and not more than `high`"
/// (`INET_DIAG_REQ_BYTECODE`, `include/uapi/linux/inet_diag.h`): two conditions of two words each. What
/// holds goes on with the next condition, what does not jumps over the end.
fn between(low: u16, high: u16) -> Vec<u8> {
    const PORT_NOT_LESS: u8 = 2;
    const PORT_NOT_MORE: u8 = 3;
    let condition = |code: u8, port: u16, rest: u16| {
        let [no, number] = [rest + 4, port].map(u16::to_ne_bytes);
        [code, 8, no[0], no[1], 0, 0, number[0], number[1]]
    };
    [condition(PORT_NOT_LESS, low, 16), condition(PORT_NOT_MORE, high, 8)].concat()
}

/// The local port of a socket. An answer that is cut short reads as zeros.
fn port(message: &Msg) -> Option<u16> {
    Some(message.sockid.sport()).filter(|port| *port != 0)
}

/// Any bytes as an answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_bytes(bytes: &[u8]) {
    use netlink_bindings::traits::NetlinkRequest as _;
    let (message, _) = netlink_bindings::inet_diag::OpTcpDiagDump::decode_reply(bytes);
    let _ = port(&message);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn listeners_are_told_with_what_they_are_bound_to() {
        let v4 = TcpListener::bind("127.0.0.1:0").expect("a port");
        let v6 = TcpListener::bind("[::1]:0").expect("a port");
        let both = TcpListener::bind("[::]:0").expect("a port");
        let sockets = listeners().expect("answered");
        for (listener, only_v6) in [(&v4, None), (&v6, Some(true)), (&both, Some(false))] {
            let address = listener.local_addr().expect("an address");
            let cookie = rustix::net::sockopt::socket_cookie(listener).expect("told");
            let socket = sockets.iter().find(|socket| socket.cookie == cookie).expect("found");
            let Endpoint { address: ip, port, v6_only, device } = socket.endpoint;
            assert_eq!((ip, port, device), (address.ip(), address.port(), 0));
            assert_eq!(v6_only, only_v6);
            assert!(socket.inode > 0);
        }
    }

    #[test]
    fn the_loopback_address_is_an_own_one() {
        let addresses = own_addresses().expect("answered");
        assert!(addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{addresses:?}");
    }

    #[test]
    fn an_attribute_that_is_cut_off_is_absent() {
        let buffer = [5, 0, 7, 0, 9, 0, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0];
        assert_eq!(attribute(&buffer, 11), Some(&[1][..]));
        assert_eq!(attribute(&buffer, 7), Some(&[9][..]));
        assert_eq!(attribute(&buffer, 3), None);
        assert_eq!(attribute(&buffer[..12], 11), None);
        assert_eq!(attribute(&[0; 8], 11), None, "a length of zero leads nowhere");
    }

    #[test]
    fn listeners_are_found_and_connections_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connects");
        let datagrams = UdpSocket::bind("[::1]:0").expect("a port");
        let ports = listening().expect("answered");
        assert!(ports.contains(&(TCP, port)));
        assert!(!ports.contains(&(TCP, client.local_addr().expect("an address").port())));
        assert!(ports.contains(&(UDP, datagrams.local_addr().expect("an address").port())));
    }

    #[test]
    fn ports_of_connections_are_found_within_their_range() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(address).expect("connects");
        let port = client.local_addr().expect("an address").port();
        assert!(local_ports(port, port).expect("answered").contains(&port));
        assert!(!local_ports(1, port - 1).expect("answered").contains(&port));
        assert!(!local_ports(port + 1, u16::MAX).expect("answered").contains(&port));
    }
}
