//! From a frame to its flow: a bounded walk over Ethernet, VLAN tags, IPv4 or IPv6 and its extension
//! headers, to TCP or UDP.
//!
//! Guaranteed: nothing outside the frame is read, nor behind the end of the packet that its IP header
//! names (short packets are padded to 60 bytes), and the walk ends after [`MAX_TAGS`] and
//! [`MAX_EXTENSIONS`]. A fragment gives a flow without ports, first or later alike, because a NIC
//! hashes none of them with ports. Not followed: tunnels, authentication headers, and frames split over
//! several buffers past the first one. Held against a user-space library packet by packet
//! (`xdp_tests/library.rs` in steer-agent).

use core::mem::{offset_of, size_of};

use aya_ebpf::programs::XdpContext;
use network_types::{
    eth::{EthHdr, EtherType},
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
    vlan::VlanHdr,
};
use steer_common::flow::{FlowKey, TCP, UDP, mapped};

/// Writes a step out as often as it may be taken. A loop would say the same, but the compiler may lay
/// it out so that it is closed by falling through, which 6.1 and older take for one without an end
/// ("back-edge", `check_cfg`).
macro_rules! repeat {
    (2, $limit:ident, $step:block) => {
        const _: () = assert!($limit == 2);
        $step
        $step
    };
    (6, $limit:ident, $step:block) => {
        const _: () = assert!($limit == 6);
        $step
        $step
        $step
        $step
        $step
        $step
    };
}

/// Stacked VLANs (802.1ad) have two tags; nothing in use has more.
const MAX_TAGS: usize = 2;

/// RFC 8200 names seven kinds, each to occur once, bar one twice; real packets have none or one.
const MAX_EXTENSIONS: usize = 6;

/// No header that is of interest begins later: two tags, and six extension headers of at most 2048
/// bytes, would; the verifier needs a bound, and a frame's first buffer is a page at most.
const MAX_OFFSET: usize = 4096;

/// The end of a packet whose header does not tell: a length of zero, as the kernel writes it where the
/// true one does not fit 16 bits (IPv6 jumbograms, RFC 2675; segments put together by GRO).
const UNTOLD: usize = usize::MAX;

/// How a walk ended. The flow itself is written through a reference; see `field::read` for why.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// At a TCP or UDP packet.
    Flow,
    /// At something else: no IP, or another protocol.
    Other,
    /// The frame ends before its headers.
    Short,
    /// More tags or extension headers than are followed.
    Deep,
}

/// Where the walk stands behind the network header.
struct Position {
    /// Where the next header begins.
    offset: usize,
    /// Where the packet ends, by its own length, or [`UNTOLD`].
    end: usize,
    fragment: bool,
}

/// The beginning that all extension headers but the fragment header share (RFC 8200, 4).
#[repr(C)]
struct Extension {
    next: u8,
    /// Length in units of eight bytes, the first not counted.
    length: u8,
}

/// The fragment header (RFC 8200, 4.5).
#[repr(C)]
struct Fragment {
    next: u8,
    reserved: u8,
    offset_and_flags: [u8; 2],
    identification: [u8; 4],
}

/// Parses a frame into `key`, which is complete if the outcome is a flow.
#[inline(always)]
pub(crate) fn parse(ctx: &XdpContext, key: &mut FlowKey) -> Outcome {
    let mut position = Position { offset: 0, end: UNTOLD, fragment: false };
    let Some(eth) = at::<EthHdr>(ctx, &position) else {
        return Outcome::Short;
    };
    let mut ether_type = eth.ether_type;
    position.offset = EthHdr::LEN;
    repeat!(2, MAX_TAGS, {
        if is_tag(ether_type) {
            let Some(tag) = at::<VlanHdr>(ctx, &position) else {
                return Outcome::Short;
            };
            ether_type = tag.ether_type;
            position.offset += VlanHdr::LEN;
        }
    });
    if is_tag(ether_type) {
        return Outcome::Deep;
    }
    let outcome = if ether_type == EtherType::Ipv4 as u16 {
        ipv4(ctx, key, &mut position)
    } else if ether_type == EtherType::Ipv6 as u16 {
        ipv6(ctx, key, &mut position)
    } else {
        Outcome::Other
    };
    if outcome != Outcome::Flow {
        return outcome;
    }
    transport(ctx, key, &position)
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16
        || ether_type == EtherType::Ieee8021ad as u16
        || ether_type == EtherType::Ieee8021QinQ1 as u16
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, key: &mut FlowKey, position: &mut Position) -> Outcome {
    let Some(header) = at::<Ipv4Hdr>(ctx, position) else {
        return Outcome::Short;
    };
    if header.version() != 4 {
        return Outcome::Other;
    }
    let length = usize::from(header.ihl());
    if length < Ipv4Hdr::LEN {
        return Outcome::Short;
    }
    let total = usize::from(header.tot_len());
    key.remote = mapped(header.src_addr);
    key.local = mapped(header.dst_addr);
    key.protocol = header.proto;
    // More fragments follow (bit 0 of the flags), or this is not the first.
    position.fragment = header.frag_flags() & 1 != 0 || header.frag_offset() != 0;
    if total >= length {
        position.end = position.offset + total;
    }
    skip(ctx, position, length)
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, key: &mut FlowKey, position: &mut Position) -> Outcome {
    let Some(header) = at::<Ipv6Hdr>(ctx, position) else {
        return Outcome::Short;
    };
    if header.version() != 6 {
        return Outcome::Other;
    }
    key.remote = header.src_addr;
    key.local = header.dst_addr;
    let mut next = header.next_hdr;
    let payload = usize::from(header.payload_len());
    position.offset += Ipv6Hdr::LEN;
    if payload != 0 {
        position.end = position.offset + payload;
    }
    // Only directly behind the header is there such a thing (RFC 8200, 4.1).
    let mut hop_by_hop = true;
    repeat!(6, MAX_EXTENSIONS, {
        if next == IpProto::Ipv6Frag as u8 && !position.fragment {
            let Some(fragment) = at::<Fragment>(ctx, position) else {
                return Outcome::Short;
            };
            next = fragment.next;
            position.offset += size_of::<Fragment>();
            // Offset in the upper 13 bits, "more" in the lowest; an atomic fragment has neither.
            // What follows a real one may be cut out of the middle, and is not walked over.
            position.fragment = u16::from_be_bytes(fragment.offset_and_flags) & 0xfff9 != 0;
        } else if is_extension(next, hop_by_hop) && !position.fragment {
            let Some(extension) = at::<Extension>(ctx, position) else {
                return Outcome::Short;
            };
            next = extension.next;
            if skip(ctx, position, (usize::from(extension.length) + 1) * 8) != Outcome::Flow {
                return Outcome::Short;
            }
        }
        hop_by_hop = false;
    });
    let more = next == IpProto::Ipv6Frag as u8 || is_extension(next, hop_by_hop);
    if more && !position.fragment {
        return Outcome::Deep;
    }
    key.protocol = next;
    Outcome::Flow
}

#[inline(always)]
fn is_extension(protocol: u8, hop_by_hop: bool) -> bool {
    (hop_by_hop && protocol == IpProto::HopOpt as u8)
        || protocol == IpProto::Ipv6Route as u8
        || protocol == IpProto::Ipv6Opts as u8
}

#[inline(always)]
fn transport(ctx: &XdpContext, key: &mut FlowKey, position: &Position) -> Outcome {
    if key.protocol != TCP && key.protocol != UDP {
        return Outcome::Other;
    }
    if !position.fragment {
        // TCP and UDP begin alike: source port, destination port.
        let Some(ports) = at::<[[u8; 2]; 2]>(ctx, position) else {
            return Outcome::Short;
        };
        key.remote_port = ports[0];
        key.local_port = ports[1];
    }
    Outcome::Flow
}

const _: () = assert!(offset_of!(UdpHdr, src) == 0 && offset_of!(UdpHdr, dst) == 2);

/// Goes on behind a header of `length` bytes, if all of it is there.
#[inline(always)]
fn skip(ctx: &XdpContext, position: &mut Position, length: usize) -> Outcome {
    position.offset += length - 1;
    let last = at::<u8>(ctx, position).is_some();
    position.offset += 1;
    if last { Outcome::Flow } else { Outcome::Short }
}

/// A header, if all of it lies in the frame and in the packet.
#[inline(always)]
fn at<'a, T>(ctx: &'a XdpContext, position: &Position) -> Option<&'a T> {
    let Position { offset, end, .. } = *position;
    if offset > MAX_OFFSET || offset + size_of::<T>() > end {
        return None;
    }
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bounds were checked; the header types take any bytes, and those that are read as
    // 16-bit numbers lie at even offsets of a frame that begins at one.
    Some(unsafe { &*(start as *const T) })
}
