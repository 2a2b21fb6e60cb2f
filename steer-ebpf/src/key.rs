//! The key of a TCP flow, from its socket.

use steer_common::flow::{FlowKey, TCP, mapped};

use crate::field::{Sock, present};

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;

/// Fills in the key; false where fields that it needs are absent.
#[inline(always)]
pub(crate) fn tcp_key(sock: Sock, key: &mut FlowKey) -> bool {
    if !present!(skc_family, skc_daddr, skc_rcv_saddr, skc_dport, skc_num) {
        return false;
    }
    match sock.family() {
        AF_INET => {
            key.remote = mapped(sock.daddr());
            key.local = mapped(sock.rcv_saddr());
        }
        // An IPv4 connection of an IPv6 socket has its addresses in mapped form here already.
        AF_INET6 if present!(skc_v6_daddr, skc_v6_rcv_saddr) => {
            key.remote = bytes(sock.v6_daddr());
            key.local = bytes(sock.v6_rcv_saddr());
        }
        _ => return false,
    }
    key.remote_port = sock.dport();
    key.local_port = sock.num().to_be_bytes();
    key.protocol = TCP;
    true
}

/// The bytes of an address in the order in which they lie in memory.
#[inline(always)]
pub(crate) fn bytes(words: [u64; 2]) -> [u8; 16] {
    let [high, low] = words.map(u64::to_ne_bytes);
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&high);
    second.copy_from_slice(&low);
    bytes
}
