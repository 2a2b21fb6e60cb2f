//! Exact-match rules as bytes: `struct ethtool_rxnfc` with its `struct ethtool_rx_flow_spec`.
//!
//! Offsets are those of include/uapi/linux/ethtool.h on 64-bit machines, where `ring_cookie` is
//! aligned to eight bytes; they were printed by a C compiler from the header of Linux 6.1, and a test
//! asks the compiler of this machine again where there is one. Addresses and ports are in network
//! order. A mask bit of one says "must match" (`ethtool_rx_flow_spec`, "Masks for flow field bits to
//! be matched"). Nothing here makes a call.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf as _, BufMut as _};

use super::wire::{RXNFC, TCP_V4_FLOW, TCP_V6_FLOW, UDP_V4_FLOW, UDP_V6_FLOW, request};
use crate::model::{FlowAddr, QueueId, Rule, RuleContent, can_be_ruled};
use crate::sys::raw::command;

/// `offsetof(struct ethtool_rxnfc, data)`.
const DATA: usize = 8;
/// `offsetof(struct ethtool_rxnfc, fs)`: the rule, which starts with its `flow_type`.
const FLOW_TYPE: usize = 16;
/// `fs.h_u`: the fields to match.
const FIELDS: usize = 20;
/// `fs.m_u`: their masks.
const MASKS: usize = 92;
/// `fs.ring_cookie`.
const RING_COOKIE: usize = 168;
/// `fs.location`.
const LOCATION: usize = 176;
/// `offsetof(struct ethtool_rxnfc, rule_cnt)`.
const RULE_COUNT: usize = 184;
/// `offsetof(struct ethtool_rxnfc, rule_locs)`.
const RULE_LOCATIONS: usize = 188;
/// `sizeof(union ethtool_flow_union)`.
const UNION: usize = 52;

/// `RX_CLS_LOC_SPECIAL`: in a table's size, that the driver takes numbers of this kind.
const LOC_SPECIAL: u32 = 0x8000_0000;
/// `RX_CLS_LOC_ANY`: the driver chooses.
const LOC_ANY: u32 = 0xffff_ffff;
/// More rules than any NIC has; a count beyond it is a mistake and not asked for.
pub(super) const MOST_RULES: u32 = 1 << 16;

/// The answer to `ETHTOOL_GRXCLSRLCNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleCount {
    pub(super) count: u32,
    pub(super) driver_numbers: bool,
}

/// Asks how many rules there are.
pub(super) fn count_request() -> Vec<u8> {
    request(command::GRXCLSRLCNT, RXNFC)
}

/// `rule_cnt`, and the flag in `data`. The size that some drivers put beside the flag is not used:
/// mlx5 and ixgbe leave it zero here and tell it with the numbers.
pub(super) fn count(answer: &[u8]) -> Option<RuleCount> {
    let size = answer.get(DATA..)?.try_get_u64_ne().ok()?;
    let driver_numbers = size & u64::from(LOC_SPECIAL) != 0;
    Some(RuleCount { count: word(answer, RULE_COUNT)?, driver_numbers })
}

/// Asks for the numbers of `count` rules; exactly so many, since mlx5 fails when asked for more
/// (`mlx5e_ethtool_get_all_flows`).
pub(super) fn numbers_request(count: u32) -> Vec<u8> {
    let room = usize::try_from(count.min(MOST_RULES)).unwrap_or(0) * 4;
    let mut request = request(command::GRXCLSRLALL, RXNFC.max(RULE_LOCATIONS + room));
    put(&mut request, RULE_COUNT, &count.min(MOST_RULES).to_ne_bytes());
    request
}

/// Size of the table, and the numbers in use.
pub(super) fn numbers(answer: &[u8]) -> Option<(u32, Vec<u32>)> {
    let size = answer.get(DATA..)?.try_get_u64_ne().ok()? & !u64::from(LOC_SPECIAL);
    let count = usize::try_from(word(answer, RULE_COUNT)?).ok()?;
    let numbers = answer.get(RULE_LOCATIONS..)?.get(..count.checked_mul(4)?)?;
    let numbers = numbers.chunks_exact(4).filter_map(|mut number| number.try_get_u32_ne().ok());
    Some((u32::try_from(size).unwrap_or(u32::MAX), numbers.collect()))
}

/// Asks for the rule at `location`.
pub(super) fn rule_request(location: u32) -> Vec<u8> {
    let mut request = request(command::GRXCLSRULE, RXNFC);
    put(&mut request, LOCATION, &location.to_ne_bytes());
    request
}

/// Asks to delete the rule at `location`.
pub(super) fn delete_request(location: u32) -> Vec<u8> {
    let mut request = request(command::SRXCLSRLDEL, RXNFC);
    put(&mut request, LOCATION, &location.to_ne_bytes());
    request
}

/// Asks to put `rule` at `location`, or where the driver likes. `None` for a flow that no rule can
/// name. The kernel's source is the sender of a received packet: the far end.
pub(super) fn insert_request(location: Option<u32>, rule: &Rule) -> Option<Vec<u8>> {
    if !can_be_ruled(&rule.flow) {
        return None;
    }
    let FlowAddr { local, remote, .. } = rule.flow;
    let mut fields = Vec::with_capacity(UNION);
    match (remote.ip(), local.ip()) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => {
            fields.put_slice(&remote.octets());
            fields.put_slice(&local.octets());
        }
        (IpAddr::V6(remote), IpAddr::V6(local)) => {
            fields.put_slice(&remote.octets());
            fields.put_slice(&local.octets());
        }
        _ => return None,
    }
    fields.put_u16(remote.port());
    fields.put_u16(local.port());
    let mut request = request(command::SRXCLSRLINS, RXNFC);
    put(&mut request, FLOW_TYPE, &flow_type(&rule.flow)?.to_ne_bytes());
    put(&mut request, FIELDS, &fields);
    // The type of service, which follows the ports, and everything beyond stays at "any".
    put(&mut request, MASKS, &vec![0xff; fields.len()]);
    put(&mut request, RING_COOKIE, &u64::from(rule.queue).to_ne_bytes());
    put(&mut request, LOCATION, &location.unwrap_or(LOC_ANY).to_ne_bytes());
    Some(request)
}

/// The number that a rule was given.
pub(super) fn location(answer: &[u8]) -> Option<u32> {
    word(answer, LOCATION)
}

/// The rule in an answer to [`rule_request`]. Anything but a whole 5-tuple to a queue of this very
/// function is [`RuleContent::Other`]: other flow types and flags (`FLOW_EXT`, `FLOW_RSS`), partial
/// masks, a type of service, `RX_CLS_FLOW_DISC`, a virtual function's queue.
pub(super) fn rule(answer: &[u8]) -> Option<RuleContent> {
    if answer.len() < RXNFC {
        return None;
    }
    Some(exact(answer).map_or(RuleContent::Other, RuleContent::Exact))
}

fn exact(answer: &[u8]) -> Option<Rule> {
    let (protocol, v4) = match word(answer, FLOW_TYPE)? {
        TCP_V4_FLOW => (6, true),
        UDP_V4_FLOW => (17, true),
        TCP_V6_FLOW => (6, false),
        UDP_V6_FLOW => (17, false),
        _ => return None,
    };
    let bytes = if v4 { 12 } else { 36 };
    let masks = answer.get(MASKS..MASKS + UNION)?;
    let (must_match, rest) = masks.split_at_checked(bytes)?;
    if must_match.iter().any(|byte| *byte != 0xff) || rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut fields = answer.get(FIELDS..FIELDS + bytes)?;
    let mut address = || -> Option<IpAddr> {
        Some(if v4 {
            IpAddr::V4(fields.try_get_u32().ok()?.into())
        } else {
            IpAddr::V6(fields.try_get_u128().ok()?.into())
        })
    };
    let (remote, local) = (address()?, address()?);
    let (remote_port, local_port) = (fields.try_get_u16().ok()?, fields.try_get_u16().ok()?);
    let cookie = answer.get(RING_COOKIE..)?.try_get_u64_ne().ok()?;
    let flow = FlowAddr {
        protocol,
        local: SocketAddr::new(local, local_port),
        remote: SocketAddr::new(remote, remote_port),
    };
    Some(Rule::new(flow, QueueId::try_from(cookie).ok()?))
}

fn flow_type(flow: &FlowAddr) -> Option<u32> {
    Some(match (flow.protocol, flow.local.is_ipv4()) {
        (6, true) => TCP_V4_FLOW,
        (6, false) => TCP_V6_FLOW,
        (17, true) => UDP_V4_FLOW,
        (17, false) => UDP_V6_FLOW,
        _ => return None,
    })
}

fn word(answer: &[u8], at: usize) -> Option<u32> {
    answer.get(at..)?.try_get_u32_ne().ok()
}

fn put(request: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = request.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Everything that reads an answer, on any bytes; and a rule that was read is the one that is written.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::sys) fn any_bytes(bytes: &[u8]) {
    let _ = (count(bytes), numbers(bytes), location(bytes));
    if let Some(RuleContent::Exact(found)) = rule(bytes)
        && let Some(request) = insert_request(None, &found)
    {
        assert_eq!(rule(&request), Some(RuleContent::Exact(found)));
    }
}

#[cfg(test)]
#[path = "rule_wire_tests.rs"]
mod tests;
