//! Sockets of the present network namespace, by `sock_diag(7)`.
//!
//! The dump is filtered in the kernel, so that its length depends on the listeners and not on the
//! connections, as that of /proc/net/tcp does.

use std::collections::BTreeSet;

use netlink_bindings::inet_diag::{ReqV2, Request};

use super::SysError;
use super::netlink::{Netlink, Refusal};

/// `SOCK_DIAG_BY_FAMILY` (`include/uapi/linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bits by TCP state (`include/net/tcp_states.h`). A UDP socket that is not connected is "closed".
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;

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
                    // An answer that is cut short reads as zeros.
                    let port = message.sockid.sport();
                    if port != 0 {
                        ports.insert((protocol, port));
                    }
                })
                .map_err(failed)?;
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

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
}
