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

/// QinQ has two tags; nothing in use has more.
const MAX_TAGS: usize = 2;

/// RFC 8200 names seven kinds, each to occur once, bar one twice; real packets have none or one.
const MAX_EXTENSIONS: usize = 6;

/// No header that is of interest begins later: two tags, and six extension headers of at most 2048
/// bytes, would; the verifier needs a bound, and a frame's first buffer is a page at most.
const MAX_OFFSET: usize = 4096;

/// The outcome.
pub(crate) enum Parsed {
    /// A TCP or UDP packet.
    Flow(FlowKey),
    /// Something else: no IP, or another protocol.
    Other,
    /// The frame ends before its headers.
    Short,
    /// More tags or extension headers than are followed.
    Deep,
}

/// What stands after the fixed IP header.
struct Network {
    local: [u8; 16],
    remote: [u8; 16],
    protocol: u8,
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

/// Parses a frame.
#[inline(always)]
pub(crate) fn parse(ctx: &XdpContext) -> Parsed {
    let mut offset = EthHdr::LEN;
    let mut ether_type = match at::<EthHdr>(ctx, 0) {
        // SAFETY: `at` has checked the bounds.
        Some(eth) => unsafe { (*eth).ether_type },
        None => return Parsed::Short,
    };
    let mut tags = 0;
    while is_tag(ether_type) {
        if tags == MAX_TAGS {
            return Parsed::Deep;
        }
        tags += 1;
        let Some(tag) = at::<VlanHdr>(ctx, offset) else {
            return Parsed::Short;
        };
        // SAFETY: `at` has checked the bounds.
        ether_type = unsafe { (*tag).ether_type };
        offset += VlanHdr::LEN;
    }
    let network = if ether_type == EtherType::Ipv4 as u16 {
        ipv4(ctx, offset)
    } else if ether_type == EtherType::Ipv6 as u16 {
        ipv6(ctx, offset)
    } else {
        Err(Parsed::Other)
    };
    match network {
        Ok(network) => transport(ctx, &network),
        Err(end) => end,
    }
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16
        || ether_type == EtherType::Ieee8021ad as u16
        || ether_type == EtherType::Ieee8021QinQ1 as u16
}

#[inline(always)]
fn ipv4(ctx: &XdpContext, offset: usize) -> Result<Network, Parsed> {
    let Some(header) = at::<Ipv4Hdr>(ctx, offset) else {
        return Err(Parsed::Short);
    };
    // SAFETY: `at` has checked the bounds.
    let header = unsafe { &*header };
    let length = usize::from(header.ihl());
    if length < Ipv4Hdr::LEN {
        return Err(Parsed::Short);
    }
    // More fragments follow (bit 0 of the flags), or this is not the first.
    let fragment = header.frag_flags() & 1 != 0 || header.frag_offset() != 0;
    Ok(Network {
        local: mapped(header.dst_addr),
        remote: mapped(header.src_addr),
        protocol: header.proto,
        offset: offset + length,
        fragment,
    })
}

#[inline(always)]
fn ipv6(ctx: &XdpContext, offset: usize) -> Result<Network, Parsed> {
    let Some(header) = at::<Ipv6Hdr>(ctx, offset) else {
        return Err(Parsed::Short);
    };
    // SAFETY: `at` has checked the bounds.
    let header = unsafe { &*header };
    let mut network = Network {
        local: header.dst_addr,
        remote: header.src_addr,
        protocol: header.next_hdr,
        offset: offset + Ipv6Hdr::LEN,
        fragment: false,
    };
    let mut extensions = 0;
    while extensions < MAX_EXTENSIONS {
        if network.protocol == IpProto::Ipv6Frag as u8 {
            let Some(fragment) = at::<Fragment>(ctx, network.offset) else {
                return Err(Parsed::Short);
            };
            // SAFETY: `at` has checked the bounds.
            let fragment = unsafe { &*fragment };
            // Offset in the upper 13 bits, "more" in the lowest; an atomic fragment has neither.
            if u16::from_be_bytes(fragment.offset_and_flags) & 0xfff9 != 0 {
                network.fragment = true;
            }
            network.protocol = fragment.next;
            network.offset += size_of::<Fragment>();
            if network.fragment {
                // What follows is cut out of the middle, and carries no headers to be trusted.
                return Ok(network);
            }
        } else if is_extension(network.protocol) {
            let Some(extension) = at::<Extension>(ctx, network.offset) else {
                return Err(Parsed::Short);
            };
            // SAFETY: `at` has checked the bounds.
            let extension = unsafe { &*extension };
            network.protocol = extension.next;
            network.offset += (usize::from(extension.length) + 1) * 8;
        } else {
            return Ok(network);
        }
        extensions += 1;
    }
    Err(Parsed::Deep)
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    protocol == IpProto::HopOpt as u8
        || protocol == IpProto::Ipv6Route as u8
        || protocol == IpProto::Ipv6Opts as u8
}

#[inline(always)]
fn transport(ctx: &XdpContext, network: &Network) -> Parsed {
    if network.protocol != TCP && network.protocol != UDP {
        return Parsed::Other;
    }
    let (remote_port, local_port) = if network.fragment {
        (0, 0)
    } else {
        // TCP and UDP begin alike: source port, destination port.
        let Some(ports) = at::<[[u8; 2]; 2]>(ctx, network.offset) else {
            return Parsed::Short;
        };
        // SAFETY: `at` has checked the bounds.
        let [source, destination] = unsafe { *ports };
        (u16::from_be_bytes(source), u16::from_be_bytes(destination))
    };
    Parsed::Flow(FlowKey {
        local: network.local,
        remote: network.remote,
        local_port,
        remote_port,
        protocol: network.protocol,
        pad: [0; 3],
    })
}

const _: () = assert!(offset_of!(UdpHdr, src) == 0 && offset_of!(UdpHdr, dst) == 2);

/// A pointer to a header, if all of it lies in the frame.
#[inline(always)]
fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*const T> {
    if offset > MAX_OFFSET {
        return None;
    }
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    Some(start as *const T)
}
