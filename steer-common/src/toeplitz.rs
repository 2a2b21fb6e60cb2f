//! The Toeplitz hash, by which nearly every NIC picks the bucket of a packet.
//!
//! Each set bit of the input XORs the 32 bits of the key that begin at the same position into the
//! hash (Microsoft, "RSS hashing functions"). The input is source address, destination address,
//! source port, destination port, as they stand in the packet; without ports it ends after the
//! addresses. The hash of an input is thus the XOR of the hashes of its parts, each at its place,
//! and a [`Table`] holds that of every value of every four bits: 24 steps for IPv4 and 72 for IPv6,
//! where the definition has 96 and 288, which the verifier would have to follow one by one.
//!
//! Not covered: symmetric variants, and functions other than Toeplitz.

use crate::plain;

/// Bytes of the longest input: two IPv6 addresses and the ports.
pub const INPUT_BYTES: usize = 36;

/// Four bits of input are a row of the table.
const ROWS: usize = INPUT_BYTES * 2;

/// Bytes of key that an input of full length looks at: the last bit sees 32 of the key's.
const KEY_BYTES: usize = INPUT_BYTES + 4;

/// The hashes of all values of all parts of the input, for one key: 4.5 KiB.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Table {
    /// By part of the input, four bits each, and its value.
    pub rows: [[u32; 16]; ROWS],
}

const _: () = assert!(size_of::<Table>() == 4608);
plain!(Table);

impl Table {
    /// The table of a key; `None` for one of less than 40 bytes, which cannot hash IPv6. What a
    /// longer one has beyond that (52 bytes are common) no TCP or UDP packet comes to use.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let key = key.get(..KEY_BYTES)?;
        let mut rows = [[0; 16]; ROWS];
        for (part, row) in rows.iter_mut().enumerate() {
            for (value, hash) in row.iter_mut().enumerate() {
                for bit in (0..4).filter(|bit| value & (8 >> bit) != 0) {
                    *hash ^= window(key, part * 4 + bit);
                }
            }
        }
        Some(Self { rows })
    }

    /// What four bytes of input add to the hash; `place` counts words from the input's beginning.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, place: usize, word: [u8; 4]) -> u32 {
        let mut hash = 0;
        let mut at = 0;
        while at < word.len() {
            let row = (place * 4 + at) * 2;
            hash ^= self.rows[row][usize::from(word[at] >> 4)];
            hash ^= self.rows[row + 1][usize::from(word[at] & 15)];
            at += 1;
        }
        hash
    }
}

/// The 32 bits of the key that begin at a bit.
fn window(key: &[u8], bit: usize) -> u32 {
    let word = |at: usize| key.get(at).copied().map_or(0, u64::from);
    let bytes = (0..5).fold(0, |bytes, at| (bytes << 8) | word(bit / 8 + at));
    // 40 bits, of which 32 from the wanted one on.
    ((bytes >> (8 - bit % 8)) & 0xffff_ffff) as u32
}

/// The hash over bytes as they stand in a packet; `None` where the key or the input's length (a
/// multiple of four, up to 36) does not fit.
#[must_use]
pub fn hash(key: &[u8], input: &[u8]) -> Option<u32> {
    let table = Table::new(key)?;
    let (words, rest) = input.as_chunks::<4>();
    if !rest.is_empty() || input.len() > INPUT_BYTES {
        return None;
    }
    Some(words.iter().enumerate().fold(0, |hash, (place, word)| hash ^ table.word(place, *word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    /// Key of Microsoft's "Verifying the RSS hash calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination and port, source and port, hash of the addresses, hash with the ports.
    const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
        ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc1_8cd5, 0x4020_7d3d),
        ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    /// The definition, bit by bit.
    fn by_definition(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| {
            bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
        };
        let mut hash = 0;
        for at in (0..input.len() * 8).filter(|at| bit(input, *at)) {
            for offset in (0..32).filter(|offset| bit(key, at + offset)) {
                hash ^= 0x8000_0000 >> offset;
            }
        }
        hash
    }

    fn append(input: &mut [u8; 36], at: usize, bytes: &[u8]) -> usize {
        input[at..at + bytes.len()].copy_from_slice(bytes);
        at + bytes.len()
    }

    fn append_address(input: &mut [u8; 36], at: usize, address: &str) -> usize {
        match address.parse().expect("an address") {
            IpAddr::V4(v4) => append(input, at, &v4.octets()),
            IpAddr::V6(v6) => append(input, at, &v6.octets()),
        }
    }

    #[test]
    fn microsoft_verification_suite() {
        for (destination, to_port, source, from_port, addresses_only, with_ports) in VECTORS {
            let mut input = [0; 36];
            let mut end = append_address(&mut input, 0, source);
            end = append_address(&mut input, end, destination);
            assert_eq!(hash(&KEY, &input[..end]), Some(addresses_only), "{source}");
            end = append(&mut input, end, &from_port.to_be_bytes());
            end = append(&mut input, end, &to_port.to_be_bytes());
            assert_eq!(hash(&KEY, &input[..end]), Some(with_ports), "{source}");
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        // A linear congruential generator: no dependency, the same numbers each time.
        let mut state = 0x1234_5678_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        for length in (0..=36).step_by(4).cycle().take(200) {
            let key: [u8; 52] = core::array::from_fn(|_| next());
            let input: [u8; 36] = core::array::from_fn(|_| next());
            let expected = by_definition(&key, &input[..length]);
            assert_eq!(hash(&key, &input[..length]), Some(expected));
        }
    }

    #[test]
    fn refuses_what_it_cannot_hash() {
        assert_eq!(hash(&KEY[..39], &[0; 12]), None);
        assert_eq!(hash(&KEY, &[0; 13]), None);
        assert_eq!(hash(&KEY, &[0; 40]), None);
        assert_eq!(hash(&KEY, &[]), Some(0));
    }
}
