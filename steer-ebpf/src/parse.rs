//! From a frame to its flow: a bounded walk over Ethernet, VLAN tags, IPv4 or IPv6 and its extension
//! headers, to TCP or UDP.
//!
//! Guaranteed: nothing outside the frame is read, and the walk ends after [`MAX_TAGS`] and
//! [`MAX_EXTENSIONS`]. A fragment gives a flow without ports, first or later alike, because a NIC
//! hashes none of them with ports. Not followed: tunnels, and frames split over several buffers past
//! the first one.

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
    let Some(eth) = at::<EthHdr>(ctx, 0) else {
        return Outcome::Short;
    };
    let mut ether_type = eth.ether_type;
    let mut position = Position { offset: EthHdr::LEN, fragment: false };
    repeat!(2, MAX_TAGS, {
        if is_tag(ether_type) {
            let Some(tag) = at::<VlanHdr>(ctx, position.offset) else {
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
    let Some(header) = at::<Ipv4Hdr>(ctx, position.offset) else {
        return Outcome::Short;
    };
    let length = usize::from(header.ihl());
    if length < Ipv4Hdr::LEN {
        return Outcome::Short;
    }
    key.remote = mapped(header.src_addr);
    key.local = mapped(header.dst_addr);
    key.protocol = header.proto;
    // More fragments follow (bit 0 of the flags), or this is not the first.
    position.fragment = header.frag_flags() & 1 != 0 || header.frag_offset() != 0;
    position.offset += length;
    Outcome::Flow
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, key: &mut FlowKey, position: &mut Position) -> Outcome {
    let Some(header) = at::<Ipv6Hdr>(ctx, position.offset) else {
        return Outcome::Short;
    };
    key.remote = header.src_addr;
    key.local = header.dst_addr;
    let mut next = header.next_hdr;
    position.offset += Ipv6Hdr::LEN;
    repeat!(6, MAX_EXTENSIONS, {
        if next == IpProto::Ipv6Frag as u8 && !position.fragment {
            let Some(fragment) = at::<Fragment>(ctx, position.offset) else {
                return Outcome::Short;
            };
            next = fragment.next;
            position.offset += size_of::<Fragment>();
            // Offset in the upper 13 bits, "more" in the lowest; an atomic fragment has neither.
            // What follows a real one may be cut out of the middle, and is not walked over.
            position.fragment = u16::from_be_bytes(fragment.offset_and_flags) & 0xfff9 != 0;
        } else if is_extension(next) && !position.fragment {
            let Some(extension) = at::<Extension>(ctx, position.offset) else {
                return Outcome::Short;
            };
            next = extension.next;
            position.offset += (usize::from(extension.length) + 1) * 8;
        }
    });
    let more = next == IpProto::Ipv6Frag as u8 || is_extension(next);
    if more && !position.fragment {
        return Outcome::Deep;
    }
    key.protocol = next;
    Outcome::Flow
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    protocol == IpProto::HopOpt as u8
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
        let Some(ports) = at::<[[u8; 2]; 2]>(ctx, position.offset) else {
            return Outcome::Short;
        };
        key.remote_port = ports[0];
        key.local_port = ports[1];
    }
    Outcome::Flow
}

const _: () = assert!(offset_of!(UdpHdr, src) == 0 && offset_of!(UdpHdr, dst) == 2);

/// A header, if all of it lies in the frame.
#[inline(always)]
fn at<T>(ctx: &XdpContext, offset: usize) -> Option<&T> {
    if offset > MAX_OFFSET {
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
