//! Source ports: which may be used, and what each does to the bucket of the reply.
//!
//! The Toeplitz hash is linear over single bits (GF(2)), so that the hash of a reply is that of its
//! addresses and the far port, joined by XOR with what this end's port adds. What a port adds to the bucket
//! does not depend on who the peer is. Sorted by that, the ports that lead to a wanted bucket are one
//! piece of a list, and the piece is found by one XOR.

use std::collections::BTreeSet;

use steer_common::connect::{FAMILIES, Span, V4, V6};
use steer_common::toeplitz::Table;

/// An address family with a hash input of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; FAMILIES as usize] = [Self::V4, Self::V6];

    /// The place of its tables.
    #[must_use]
    pub fn index(self) -> u32 {
        match self {
            Self::V4 => V4,
            Self::V6 => V6,
        }
    }

    /// Where the word with the ports stands in the hash input, counted in words.
    fn ports_word(self) -> usize {
        match self {
            Self::V4 => 2,
            Self::V6 => 8,
        }
    }

    /// What this end's port adds to the hash of a reply, in which it stands last.
    fn adds(self, table: &Table, port: u16) -> u32 {
        let [high, low] = port.to_be_bytes();
        table.word(self.ports_word(), [0, 0, high, low])
    }
}

/// What is wrong with the kernel's port settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct PoolError {
    text: String,
    expected: &'static str,
}

/// The ports that new connections may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// First and last of `net.ipv4.ip_local_port_range`.
    pub range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved: BTreeSet<u16>,
}

impl Pool {
    /// Reads the two settings as the kernel prints them (ip-sysctl.rst): two numbers, and a list with
    /// commas of numbers and ranges, which may be empty.
    pub fn parse(range: &str, reserved: &str) -> Result<Self, PoolError> {
        const RANGE: &str = "a range of ports such as `32768 60999`";
        const LIST: &str = "a list of ports such as `8080,9148-9150`";
        let wrong = |text: &str, expected| PoolError { text: text.trim().to_owned(), expected };
        let port = |text: &str, whole: &str, expected| {
            text.trim().parse::<u16>().map_err(|_| wrong(whole, expected))
        };
        let mut words = range.split_whitespace();
        let (Some(low), Some(high), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong(range, RANGE));
        };
        let (low, high) = (port(low, range, RANGE)?, port(high, range, RANGE)?);
        if low > high {
            return Err(wrong(range, RANGE));
        }
        let mut taken = BTreeSet::new();
        for item in reserved.trim().split(',').filter(|item| !item.trim().is_empty()) {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            taken.extend(port(first, reserved, LIST)?..=port(last, reserved, LIST)?);
        }
        Ok(Self { range: (low, high), reserved: taken })
    }

    /// The ports that steer may give: every second one, beginning with the second.
    ///
    /// `connect(2)` looks among the ports of the first one's parity and goes to the others only when
    /// those are used up; `bind(2)` to port 0 does it the other way round (`__inet_hash_connect`,
    /// `inet_csk_find_open_port`). A port that was bound is of no use to `connect(2)`, not even for
    /// other destinations. So steered connections take those that `connect(2)` does not look at first,
    /// and half of the range is always left to it.
    #[must_use]
    pub fn steerable(&self) -> Vec<u16> {
        let (low, high) = self.range;
        (low..=high)
            .skip(1)
            .step_by(2)
            .filter(|port| *port != 0 && !self.reserved.contains(port))
            .collect()
    }
}

/// Ports sorted by what they add to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// The ports, those that add the same side by side.
    pub ports: Vec<u16>,
    /// By what is added: which piece of `ports` adds that.
    pub spans: Vec<Span>,
}

impl Classes {
    /// Sorts `ports` for a table with `mask + 1` entries, a power of two. Within a piece their order
    /// is scattered by `secret`, or who sees a port would know the next one (RFC 6056).
    #[must_use]
    pub fn new(table: &Table, family: Family, mask: u32, ports: &[u16], secret: u64) -> Self {
        let mut sorted: Vec<(u32, u64, u16)> = ports
            .iter()
            .map(|port| (family.adds(table, *port) & mask, scatter(*port, secret), *port))
            .collect();
        sorted.sort_unstable();
        let mut spans = vec![Span::default(); mask as usize + 1];
        for (position, (class, _, _)) in (0..).zip(&sorted) {
            if let Some(span) = spans.get_mut(*class as usize) {
                if span.length == 0 {
                    span.start = position;
                }
                span.length += 1;
            }
        }
        Self { ports: sorted.into_iter().map(|(_, _, port)| port).collect(), spans }
    }

    /// The ports that move a reply from bucket `base` (of its addresses and the far port alone) to
    /// `wanted`.
    #[must_use]
    pub fn between(&self, base: u32, wanted: u32) -> &[u16] {
        let span = self.spans.get((base ^ wanted) as usize).copied().unwrap_or_default();
        let start = span.start as usize;
        self.ports.get(start..start + span.length as usize).unwrap_or_default()
    }
}

/// A number that looks random and depends on all bits of both (the finalizer of `SplitMix64`).
fn scatter(port: u16, secret: u64) -> u64 {
    let mut mixed = secret ^ u64::from(port).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(range: &str, reserved: &str) -> Pool {
        Pool::parse(range, reserved).expect("valid")
    }

    #[test]
    fn every_second_port_that_is_not_reserved() {
        assert_eq!(pool("32768\t32775\n", "32771,32773-32774").steerable(), [32769, 32775]);
        // The other parity is always the kernel's.
        assert_eq!(pool("1025 1030", "").steerable(), [1026, 1028, 1030]);
        assert!(pool("40000 40000", "\n").steerable().is_empty(), "one port is connect's");
        assert_eq!(pool("32768 60999", "").steerable().len(), 14116);
        assert_eq!(pool("0 65535", "").steerable().len(), 32768);
        assert!(pool("65534 65535", "1-65535").steerable().is_empty());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (range, reserved) in [
            ("", ""),
            ("1", ""),
            ("1 2 3", ""),
            ("9 8", ""),
            ("1 65536", ""),
            ("1 2", "a"),
            ("1 2", "3-"),
        ] {
            assert!(Pool::parse(range, reserved).is_err(), "{range:?} {reserved:?}");
        }
    }

    /// The hash by its definition: for each bit of the input that is set, the 32 bits of the key that
    /// begin there.
    fn plain_toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        let mut hash = 0;
        for at in (0..input.len() * 8).filter(|at| bit(input, *at) == 1) {
            hash ^= (0..32).fold(0, |window, next| window << 1 | u32::from(bit(key, at + next)));
        }
        hash
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever key, addresses and bucket: every port that the list offers hashes into that bucket
        /// by the plain definition, and no other port does.
        #[test]
        fn the_ports_of_a_piece_are_those_that_hash_there(
            key in prop::collection::vec(any::<u8>(), 40),
            v4: bool, addresses: [u8; 32], remote_port: [u8; 2],
            bits in 3u32..8, wanted: u32, secret: u64, low in 1024u16..50_000,
        ) {
            let family = if v4 { Family::V4 } else { Family::V6 };
            let mask = (1 << bits) - 1;
            let pool = Pool { range: (low, low + 200), reserved: BTreeSet::from([low + 1]) };
            let ports = pool.steerable();
            let table = Table::new(&key).expect("long enough");
            let classes = Classes::new(&table, family, mask, &ports, secret);
            let addresses = if v4 { &addresses[..8] } else { &addresses[..] };
            let hash = |port: u16| {
                plain_toeplitz(&key, &[addresses, &remote_port, &port.to_be_bytes()].concat())
            };
            let mut offered = classes.between(hash(0) & mask, wanted & mask).to_vec();
            offered.sort_unstable();
            let by_trial: Vec<u16> =
                ports.iter().copied().filter(|port| hash(*port) & mask == wanted & mask).collect();
            prop_assert_eq!(offered, by_trial);
        }

        /// Nothing is lost or invented by sorting, and the secret changes the order alone.
        #[test]
        fn classes_are_a_partition(key in prop::collection::vec(any::<u8>(), 40), a: u64, b: u64) {
            let table = Table::new(&key).expect("long enough");
            let ports = Pool { range: (32768, 33000), ..Pool::default() }.steerable();
            let of = |secret| Classes::new(&table, Family::V4, 127, &ports, secret);
            let mut sorted = of(a).ports;
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &ports);
            prop_assert_eq!(of(a).spans, of(b).spans);
            let total: u32 = of(a).spans.iter().map(|span| span.length).sum();
            prop_assert_eq!(total as usize, ports.len());
        }

        #[test]
        fn any_text_is_answered(range in ".{0,20}", reserved in ".{0,20}") {
            let _ = Pool::parse(&range, &reserved);
        }
    }
}
