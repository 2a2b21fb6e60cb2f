//! Which bucket of an indirection table a flow falls into, by the NIC's hash: the Toeplitz hash of
//! Microsoft's "RSS hashing functions", over source address, destination address, source port and
//! destination port, and the lowest bits of it. A load whose flows have a bucket each can be aligned whole.
//!
//! It shares no code with steer, which computes the same.

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Context, Result};

/// Buckets of the NICs in the lab that have a table.
const BUCKETS: u32 = 128;
/// So many flows at most are given a bucket each: the last of them finds half of all taken.
pub(super) const MOST_FLOWS: u32 = BUCKETS / 2;
/// Where the kernel shows the key that it has drawn for all NICs (`netdev_rss_key_fill`, kernel 4.14), in
/// the first network namespace only.
const KEY: &str = "/proc/sys/net/core/netdev_rss_key";

/// The host's key in hexadecimal digits, if the kernel shows it.
#[must_use]
pub(super) fn host_key() -> Option<String> {
    let text = std::fs::read_to_string(KEY).ok()?;
    Some(text.trim().replace(':', ""))
}

/// Buckets that flows have taken.
#[derive(Debug)]
pub struct Buckets {
    /// What a NIC may hash by, and the buckets that are taken if it does.
    keys: [(Vec<u8>, BTreeSet<u32>); 2],
}

impl Buckets {
    /// None taken, of a NIC with this key in hexadecimal digits, or with the same one byte late, as
    /// `virtio_net` of Linux 6.12 hands it over. What comes before the first byte then is unknown and does
    /// not matter: it enters only the upper bits of the hash, above every bucket number.
    pub fn new(key: &str) -> Result<Self> {
        let byte = |at: usize| key.get(at..at + 2).map(|digits| u8::from_str_radix(digits, 16));
        let bytes: Option<Result<Vec<u8>, _>> = (0..key.len()).step_by(2).map(byte).collect();
        let key = bytes.context("half a byte")?.context("the key is not in hexadecimal digits")?;
        let late = [&[0][..], &key].concat();
        Ok(Self { keys: [key, late].map(|key| (key, BTreeSet::new())) })
    }

    /// Takes the bucket of a flow; false if another has it.
    pub fn take(&mut self, from: SocketAddr, to: SocketAddr) -> bool {
        let tuple = tuple(from, to);
        let bucket = |key: &[u8]| toeplitz(key, &tuple) % BUCKETS;
        let free = self.keys.iter().all(|(key, taken)| !taken.contains(&bucket(key)));
        if free {
            for (key, taken) in &mut self.keys {
                taken.insert(bucket(key));
            }
        }
        free
    }
}

/// What is hashed, in network order.
fn tuple(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    for end in [from, to] {
        match end {
            SocketAddr::V4(end) => bytes.extend(end.ip().octets()),
            SocketAddr::V6(end) => bytes.extend(end.ip().octets()),
        }
    }
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes
}

/// For each bit of the input that is set, the 32 bits of the key from there on.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| {
        bytes.get(at / 8).is_some_and(|byte| byte << (at % 8) & 0x80 != 0)
    };
    let window = |at: usize| (at..at + 32).fold(0, |word, at| word << 1 | u32::from(bit(key, at)));
    (0..input.len() * 8).filter(|at| bit(input, *at)).fold(0, |hash, at| hash ^ window(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microsoft's key and examples.
    const KEY: &str =
        "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa";

    fn hash(from: &str, to: &str) -> u32 {
        let [(key, _), _] = Buckets::new(KEY).expect("a key").keys;
        toeplitz(&key, &tuple(from.parse().expect("one"), to.parse().expect("the other")))
    }

    #[test]
    fn the_published_examples() {
        assert_eq!(hash("66.9.149.187:2794", "161.142.100.80:1766"), 0x51cc_c178);
        let (from, to) = ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766");
        assert_eq!(hash(from, to), 0x4020_7d3d);
    }

    #[test]
    fn a_bucket_is_taken_once() {
        let mut buckets = Buckets::new(KEY).expect("a key");
        let to = "161.142.100.80:1766".parse().expect("an address");
        let mut take = |port| buckets.take(SocketAddr::new([66, 9, 149, 187].into(), port), to);
        assert!(take(2794));
        assert!(!take(2794));
        let taken = 1 + (1..=60_000).filter(|port| take(*port)).count();
        assert!((64..=128).contains(&taken), "{taken} of 128 by two keys");
        for (key, taken_by_key) in &buckets.keys {
            assert_eq!(taken_by_key.len(), taken, "once each, by {key:?}");
        }
    }

    #[test]
    fn a_key_that_is_none() {
        Buckets::new("6d5").expect_err("half a byte");
        Buckets::new("6d5x").expect_err("no digit");
    }
}
