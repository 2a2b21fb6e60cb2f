//! Frames as they may come: every header that there is, in any order, and then damaged.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

/// IP protocols that stand for the end of a chain.
const ENDS: [u8; 8] = [TCP, TCP, TCP, UDP, UDP, ICMP, 47, 58];
/// The authentication header, and what is no extension header to anybody here.
const AUTHENTICATION: u8 = 51;
const NO_NEXT: u8 = 59;

/// An endless row of frames, the same for the same seed.
pub(super) struct Frames {
    random: Xoshiro256PlusPlus,
}

impl Frames {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    pub(super) fn next(&mut self) -> Vec<u8> {
        let mut frame = if self.one_in(20) { self.garbage() } else { self.packet() };
        if self.one_in(3) {
            self.damage(&mut frame);
        }
        // A frame without an Ethernet header is none, and the kernel takes none.
        if frame.len() < 14 {
            frame.resize(14, 0);
        }
        frame
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn garbage(&mut self) -> Vec<u8> {
        let length = self.below(200);
        let rest = self.bytes(length);
        let kind = self.pick(&[0x0800, 0x86dd, 0x8100, 0x88e5]);
        ethernet(&[], kind, &rest)
    }

    /// Flips bits, sets bytes to what matters, cuts off, appends.
    fn damage(&mut self, frame: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(frame.len().max(1));
            match self.below(5) {
                0 => frame.truncate(at),
                1 => {
                    let length = self.below(40);
                    frame.extend(self.bytes(length));
                }
                2 => {
                    let interesting = self
                        .pick(&[0, 1, 5, 6, 8, 17, 43, 44, 51, 60, 0x44, 0x45, 0x4f, 0x60, 0xff]);
                    if let Some(byte) = frame.get_mut(at) {
                        *byte = interesting;
                    }
                }
                _ => {
                    let bit = self.below(8);
                    if let Some(byte) = frame.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
            }
        }
    }

    fn packet(&mut self) -> Vec<u8> {
        let tags = match self.below(10) {
            0..5 => 0,
            5..8 => 1,
            8 => 2,
            _ => 3,
        };
        let tags: Vec<u16> = (0..tags).map(|_| self.pick(&[0x8100, 0x88a8, 0x9100])).collect();
        let (kind, rest) = match self.below(20) {
            0 => (0x0806, self.bytes(28)),
            1 => (0x88e5, self.bytes(40)),
            2..11 => (0x0800, self.v4()),
            _ => (0x86dd, self.v6()),
        };
        // Ethernet's padding, which is no part of the packet.
        let padding = if self.one_in(3) { self.below(46) } else { 0 };
        let mut frame = ethernet(&tags, kind, &rest);
        frame.extend(self.bytes(padding));
        frame
    }

    /// A datagram of UDP or a segment of TCP, a tunnel's packet among them.
    fn payload(&mut self, protocol: u8) -> Vec<u8> {
        let mut bytes = self.bytes(20);
        match protocol {
            // VXLAN: an Ethernet frame in a datagram.
            UDP if self.one_in(4) => {
                bytes.truncate(16);
                bytes[2..4].copy_from_slice(&4789u16.to_be_bytes());
                bytes.extend(ethernet(&[], 0x0800, &ipv4(TCP, &[], 0, &ports())));
            }
            // GRE: a packet in a packet.
            47 => {
                bytes = vec![0, 0, 8, 0];
                bytes.extend(ipv4(TCP, &[], 0, &ports()));
            }
            _ => {
                let length = self.below(24);
                if self.one_in(8) {
                    bytes.truncate(length);
                }
            }
        }
        bytes
    }

    fn v4(&mut self) -> Vec<u8> {
        let protocol = if self.one_in(20) { AUTHENTICATION } else { self.pick(&ENDS) };
        let options = if self.one_in(3) { 4 * self.below(11) } else { 0 };
        let options = self.bytes(options);
        let fragment = self.pick(&[0, 0, 0x4000, 0x4000, 0x8000, 0x2000, 0x2001, 185, 0x1fff]);
        let payload = self.payload(protocol);
        let mut packet = ipv4(protocol, &options, fragment, &payload);
        let addresses = self.bytes(8);
        packet[12..20].copy_from_slice(&addresses);
        if self.one_in(8) {
            let length = u16::try_from(self.below(80)).expect("small");
            packet[2..4].copy_from_slice(&length.to_be_bytes());
        }
        packet
    }

    fn v6(&mut self) -> Vec<u8> {
        let mut next = self.pick(&ENDS);
        let mut rest = self.payload(next);
        let extensions = if self.one_in(2) { self.below(9) } else { 0 };
        for left in (0..extensions).rev() {
            let is_first = left == 0;
            let kind = match self.below(12) {
                0 => FRAGMENT,
                1 if self.one_in(3) => AUTHENTICATION,
                2 if self.one_in(3) => NO_NEXT,
                3 => HOP_BY_HOP,
                4..7 if is_first => HOP_BY_HOP,
                4..8 => ROUTING,
                _ => DESTINATION,
            };
            rest = match kind {
                FRAGMENT => {
                    let flags = self.pick(&[0, 0, 2, 6, 1, 8, 0x0fff, 0xfff8]);
                    fragment(next, flags, &rest)
                }
                // Its length is in units of four bytes, less two.
                AUTHENTICATION => [&[next, 2][..], &[0; 14], &rest].concat(),
                _ => {
                    let more = u8::try_from(self.below(3)).expect("small");
                    extension(next, more, &rest)
                }
            };
            next = kind;
        }
        let mut packet = ipv6(next, &rest);
        let addresses = self.bytes(32);
        packet[8..40].copy_from_slice(&addresses);
        if self.one_in(10) {
            // Addresses of IPv4 in the form of IPv6.
            packet[8..20].copy_from_slice(&steer_common::flow::V4_PREFIX);
            packet[24..36].copy_from_slice(&steer_common::flow::V4_PREFIX);
        }
        if self.one_in(8) {
            let length = u16::try_from(self.below(80)).expect("small");
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        }
        packet
    }
}
