//! The hash of a flow computed from the NIC's key, and what live flows say about that key.
//!
//! A key that is known need not be the one in use. `virtio_net` in Linux 6.12 was seen to hand the
//! device its key one byte late (first byte unknown, last byte lost), while 6.1 hands it over as
//! told; the NIC then spreads by a perfectly good hash of a slightly different key. Which one it
//! is, is decided by the queues that flows are seen on and by nothing else.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use steer_common::toeplitz::{self, Table};

use super::mapping::bucket_of;
use super::{Flow, FlowAddr, HashFields, QueueId};

/// What a NIC may really use when a key is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyVariant {
    /// That key.
    #[default]
    AsTold,
    /// That key, one byte late.
    OneByteLate,
}

impl KeyVariant {
    /// All of them, the likeliest first.
    pub const ALL: [Self; 2] = [Self::AsTold, Self::OneByteLate];

    /// The key in use if `told` is told. The byte before a late key is unknown and taken for zero: it
    /// enters only the upper bits of the hash, above every bucket number.
    #[must_use]
    pub fn of(self, told: &[u8]) -> Vec<u8> {
        match self {
            Self::AsTold => told.to_vec(),
            Self::OneByteLate => {
                let shifted = std::iter::once(0).chain(told.iter().copied());
                shifted.take(told.len()).collect()
            }
        }
    }
}

/// The Toeplitz hash of packets that arrive of a flow: remote end first, as they are on the wire.
/// `None` where it is not known which fields enter it, or the key is too short.
#[must_use]
pub fn flow_hash(key: &[u8], addr: &FlowAddr, fields: HashFields) -> Option<u32> {
    flow_hash_by(&Table::new(key)?, addr, fields)
}

/// The same by the table of a key, which is worth making once for many flows.
#[must_use]
pub fn flow_hash_by(table: &Table, addr: &FlowAddr, fields: HashFields) -> Option<u32> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let v4 = addr.local.is_ipv4();
    let ports = match (addr.protocol, v4) {
        // A driver that does not say hashes TCP with its ports, as all do.
        (TCP, true) => fields.tcp4_ports.unwrap_or(true),
        (TCP, false) => fields.tcp6_ports.unwrap_or(true),
        (UDP, true) => fields.udp4_ports?,
        (UDP, false) => fields.udp6_ports?,
        _ => return None,
    };
    let mut input = Vec::with_capacity(toeplitz::INPUT_BYTES);
    for ip in [addr.remote.ip(), addr.local.ip()] {
        match ip {
            IpAddr::V4(ip) => input.extend(ip.octets()),
            IpAddr::V6(ip) => input.extend(ip.octets()),
        }
    }
    if ports {
        input.extend(addr.remote.port().to_be_bytes());
        input.extend(addr.local.port().to_be_bytes());
    }
    if input.len() > toeplitz::INPUT_BYTES {
        return None;
    }
    let (words, _) = input.as_chunks::<4>();
    Some(words.iter().enumerate().fold(0, |hash, (place, word)| hash ^ table.word(place, *word)))
}

/// Fewest flows that a variant is chosen by: with two queues a wrong one fits eight flows by chance
/// once in 256.
const FEWEST_FLOWS: usize = 8;

/// The variant of the key `told` that explains the queues on which `flows` are seen: all but one in a
/// hundred of at least eight, over at least two queues. `None` if no variant does.
#[must_use]
pub fn calibrate<'a>(
    told: &[u8],
    table: &[QueueId],
    fields: HashFields,
    flows: &(impl Iterator<Item = &'a Flow> + Clone),
) -> Option<KeyVariant> {
    KeyVariant::ALL.into_iter().find(|variant| {
        let Some(key) = Table::new(&variant.of(told)) else { return false };
        let mut seen_queues = Vec::new();
        let (mut checked, mut agreeing) = (0usize, 0usize);
        for flow in flows.clone() {
            let Some(seen) = flow.queue else { continue };
            let bucket = flow_hash_by(&key, &flow.addr, fields)
                .and_then(|hash| bucket_of(hash, table.len()));
            let Some(predicted) = bucket.and_then(|bucket| table.get(bucket)) else { continue };
            checked += 1;
            agreeing += usize::from(*predicted == seen);
            if !seen_queues.contains(&seen) {
                seen_queues.push(seen);
            }
        }
        checked >= FEWEST_FLOWS && seen_queues.len() >= 2 && 100 * agreeing >= 99 * checked
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testkit::flow;

    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn table() -> Vec<QueueId> {
        (0..4).cycle().take(128).collect()
    }

    /// Sixteen flows on the queues that `key` sends them to.
    fn flows(key: &[u8]) -> Vec<Flow> {
        (0..16)
            .map(|number| {
                let mut flow = flow(number * 37, 0, 0);
                let hash = flow_hash(key, &flow.addr, HashFields::default()).expect("a hash");
                flow.queue = bucket_of(hash, 128).map(|bucket| table()[bucket]);
                flow
            })
            .collect()
    }

    #[test]
    fn the_published_vector() {
        // Microsoft, "Verifying the RSS hash calculation": 66.9.149.187:2794 to 161.142.100.80:1766.
        let addr = FlowAddr {
            protocol: 6,
            remote: "66.9.149.187:2794".parse().expect("an address"),
            local: "161.142.100.80:1766".parse().expect("an address"),
        };
        assert_eq!(flow_hash(&KEY, &addr, HashFields::default()), Some(0x51cc_c178));
        let addresses_only = HashFields { tcp4_ports: Some(false), ..HashFields::default() };
        assert_eq!(flow_hash(&KEY, &addr, addresses_only), Some(0x323e_8fc2));
    }

    #[test]
    fn live_flows_tell_which_key_is_in_use() {
        for variant in KeyVariant::ALL {
            let flows = flows(&variant.of(&KEY));
            let found = calibrate(&KEY, &table(), HashFields::default(), &flows.iter());
            assert_eq!(found, Some(variant));
        }
    }

    #[test]
    fn a_nic_that_follows_no_key_fits_no_variant() {
        let mut flows = flows(&KEY);
        for flow in &mut flows {
            flow.queue = Some(0);
        }
        assert_eq!(calibrate(&KEY, &table(), HashFields::default(), &flows.iter()), None);
        let few = &self::flows(&KEY)[..7];
        assert_eq!(calibrate(&KEY, &table(), HashFields::default(), &few.iter()), None, "too few");
    }

    #[test]
    fn udp_of_a_silent_driver_is_not_guessed() {
        let mut addr = flow(1, 0, 0).addr;
        addr.protocol = 17;
        assert_eq!(flow_hash(&KEY, &addr, HashFields::default()), None);
    }
}
