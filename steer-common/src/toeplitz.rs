//! The Toeplitz hash, by which nearly every NIC picks the bucket of a packet.
//!
//! Each set bit of the input XORs the 32 bits of the key that begin at the same position into the
//! hash (Microsoft, "RSS hashing functions"). The input is source address, destination address,
//! source port, destination port, as they stand in the packet; without ports it ends after the
//! addresses. Both sides use [`hash_words`]; it works on 32-bit words in host order, so that the
//! kernel side does in nine steps, not 36, what the verifier has to follow.
//!
//! Not covered: symmetric variants, and functions other than Toeplitz.

use crate::abi::HASH_KEY_BYTES;

/// Words of the longest key.
pub const KEY_WORDS: usize = HASH_KEY_BYTES / 4;

/// Words of the longest input: two IPv6 addresses and the ports.
pub const INPUT_WORDS: usize = 9;

/// Words of an IPv4 input with ports; one less without.
pub const V4_WORDS: usize = 3;

// The last input word looks at two key words.
const _: () = assert!(KEY_WORDS > INPUT_WORDS);

/// The hash over the first `words` words of `input`.
#[inline(always)]
#[must_use]
pub fn hash_words(key: &[u32; KEY_WORDS], input: &[u32; INPUT_WORDS], words: usize) -> u32 {
    let mut hash = 0;
    let mut at = 0;
    while at < INPUT_WORDS {
        if at >= words {
            break;
        }
        let mut window = (u64::from(key[at]) << 32) | u64::from(key[at + 1]);
        let mut word = input[at];
        let mut bit = 0;
        while bit < 32 {
            // No branch on the bit: the verifier would follow both sides of it 288 times.
            let take = 0u64.wrapping_sub(u64::from(word >> 31));
            hash ^= (window & take) >> 32;
            window <<= 1;
            word <<= 1;
            bit += 1;
        }
        at += 1;
    }
    // Only the upper halves of windows were taken.
    (hash & 0xffff_ffff) as u32
}

/// A key in the form that [`hash_words`] takes; a short one is filled up with zeros, of a long one
/// the first [`HASH_KEY_BYTES`] are taken. `None` for less than 40 bytes, which cannot hash IPv6.
#[must_use]
pub fn key_words(key: &[u8]) -> Option<[u32; KEY_WORDS]> {
    if key.len() < 40 {
        return None;
    }
    let mut words = [0; KEY_WORDS];
    for (at, byte) in key.iter().take(HASH_KEY_BYTES).enumerate() {
        words[at / 4] |= u32::from(*byte) << (24 - 8 * (at % 4));
    }
    Some(words)
}

/// The hash over bytes as they stand in a packet; `None` where `key_words` or the input's length
/// (a multiple of four, up to 36) does not fit.
#[must_use]
pub fn hash_bytes(key: &[u8], input: &[u8]) -> Option<u32> {
    let key = key_words(key)?;
    if input.len() % 4 != 0 || input.len() > INPUT_WORDS * 4 {
        return None;
    }
    let mut words = [0; INPUT_WORDS];
    for (at, byte) in input.iter().enumerate() {
        words[at / 4] |= u32::from(*byte) << (24 - 8 * (at % 4));
    }
    Some(hash_words(&key, &words, input.len() / 4))
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
            assert_eq!(hash_bytes(&KEY, &input[..end]), Some(addresses_only), "{source}");
            end = append(&mut input, end, &from_port.to_be_bytes());
            end = append(&mut input, end, &to_port.to_be_bytes());
            assert_eq!(hash_bytes(&KEY, &input[..end]), Some(with_ports), "{source}");
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
            let key: [u8; HASH_KEY_BYTES] = core::array::from_fn(|_| next());
            let input: [u8; 36] = core::array::from_fn(|_| next());
            let expected = by_definition(&key, &input[..length]);
            assert_eq!(hash_bytes(&key, &input[..length]), Some(expected));
        }
    }

    #[test]
    fn refuses_what_it_cannot_hash() {
        assert_eq!(hash_bytes(&KEY[..39], &[0; 12]), None);
        assert_eq!(hash_bytes(&KEY, &[0; 13]), None);
        assert_eq!(hash_bytes(&KEY, &[0; 40]), None);
        assert_eq!(hash_bytes(&KEY, &[]), Some(0));
    }
}
