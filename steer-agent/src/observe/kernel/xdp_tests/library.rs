//! The same frames by a packet library (etherparse), and the two compared.
//!
//! The library reads every header and says where the packet ends; what is decided here are steer's own
//! limits: how many tags and extension headers are followed, that authentication headers are not, and
//! that nothing is walked over behind the header of a fragment.

use std::collections::HashMap;

use etherparse::err::{ipv4, ipv6};
use etherparse::{
    EtherPayloadSlice, Ethernet2Slice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6Header,
    Ipv6RawExtHeaderSlice, LaxIpv4Slice, LaxIpv6Slice, SingleVlanSlice, ether_type, ip_number,
};

use super::frames::Frames;
use super::*;
use crate::model::FlowAddr;

/// Frames that a test compares, unless told otherwise.
const FEW: u64 = 20_000;
/// How many it is told to.
const MANY: &str = "STEER_FRAMES";
/// Frames between two looks at what the program counted.
const BATCH: usize = 500;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Flow(FlowAddr),
    Other,
    Short,
    Deep,
}

/// What a number of frames came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    flows: HashMap<FlowAddr, u64>,
    short: u64,
    deep: u64,
}

impl Counted {
    fn add(&mut self, seen: Seen) {
        match seen {
            Seen::Flow(addr) => *self.flows.entry(addr).or_default() += 1,
            Seen::Other => {}
            Seen::Short => self.short += 1,
            Seen::Deep => self.deep += 1,
        }
    }
}

/// A frame as the library sees it.
pub(super) fn library(frame: &[u8]) -> Seen {
    let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else { return Seen::Short };
    let mut rest: EtherPayloadSlice<'_> = ethernet.payload();
    let mut tags = 0;
    while matches!(
        rest.ether_type,
        ether_type::VLAN_TAGGED_FRAME
            | ether_type::PROVIDER_BRIDGING
            | ether_type::VLAN_DOUBLE_TAGGED_FRAME
    ) {
        if tags == 2 {
            return Seen::Deep;
        }
        tags += 1;
        let Ok(tag) = SingleVlanSlice::from_slice(rest.payload) else { return Seen::Short };
        rest = tag.payload();
    }
    match rest.ether_type {
        ether_type::IPV4 => v4(rest.payload),
        ether_type::IPV6 => v6(rest.payload),
        _ => Seen::Other,
    }
}

fn v4(packet: &[u8]) -> Seen {
    let ip = match LaxIpv4Slice::from_slice(packet) {
        Ok((ip, _)) => ip,
        Err(ipv4::HeaderSliceError::Content(ipv4::HeaderError::UnexpectedVersion { .. })) => {
            return Seen::Other;
        }
        Err(_) => return Seen::Short,
    };
    let header = ip.header();
    let ends = (header.source_addr().into(), header.destination_addr().into());
    let payload = ip.payload();
    transport(header.protocol(), ends, (!payload.fragmented).then_some(payload.payload))
}

fn v6(packet: &[u8]) -> Seen {
    let ip = match LaxIpv6Slice::from_slice(packet) {
        Ok((ip, _)) => ip,
        Err(ipv6::HeaderSliceError::Content(ipv6::HeaderError::UnexpectedVersion { .. })) => {
            return Seen::Other;
        }
        Err(ipv6::HeaderSliceError::Len(_)) => return Seen::Short,
    };
    let canonical = |address: Ipv6Addr| IpAddr::V6(address).to_canonical();
    let header = ip.header();
    let ends = (canonical(header.source_addr()), canonical(header.destination_addr()));
    // The library's own iterator over extension headers reads past the end of a header that is cut off
    // (0.21), so that they are read one by one; where the packet ends, the library says.
    let mut rest =
        &packet[Ipv6Header::LEN..][..ip.extensions().slice().len() + ip.payload().payload.len()];
    let mut next = header.next_header();
    let mut followed = 0;
    loop {
        let first = followed == 0;
        let is_extension = match next {
            ip_number::IPV6_HOP_BY_HOP => first,
            ip_number::IPV6_ROUTE | ip_number::IPV6_DEST_OPTIONS | ip_number::IPV6_FRAG => true,
            _ => false,
        };
        if !is_extension {
            return transport(next, ends, Some(rest));
        }
        if followed == 6 {
            return Seen::Deep;
        }
        followed += 1;
        if next == ip_number::IPV6_FRAG {
            let Ok(fragment) = Ipv6FragmentHeaderSlice::from_slice(rest) else {
                return Seen::Short;
            };
            if fragment.is_fragmenting_payload() {
                return transport(fragment.next_header(), ends, None);
            }
            next = fragment.next_header();
            rest = &rest[fragment.slice().len()..];
        } else {
            let Ok(extension) = Ipv6RawExtHeaderSlice::from_slice(rest) else { return Seen::Short };
            next = extension.next_header();
            rest = &rest[extension.slice().len()..];
        }
    }
}

/// `payload` of what is no fragment.
fn transport(
    protocol: IpNumber,
    (remote, local): (IpAddr, IpAddr),
    payload: Option<&[u8]>,
) -> Seen {
    if !matches!(protocol, ip_number::TCP | ip_number::UDP) {
        return Seen::Other;
    }
    let ports = match payload {
        None => [0; 4],
        Some(payload) => match payload.first_chunk() {
            Some(ports) => *ports,
            None => return Seen::Short,
        },
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Seen::Flow(flow(protocol.0, (local, port(2)), (remote, port(0))))
}

impl Bench {
    /// Runs frames, and takes what was counted out of the program's maps.
    fn count(&mut self, frames: &[Vec<u8>]) -> Counted {
        let failed = |bench: &mut Self| (bench.health("header_short"), bench.health("header_deep"));
        let (short, deep) = failed(self);
        for frame in frames {
            self.run(frame);
        }
        let flows = self.side.received_flows().expect("reads");
        let flows = flows.into_iter().map(|flow| (flow.addr, flow.packets)).collect();
        self.forget();
        let now = failed(self);
        Counted { flows, short: now.0 - short, deep: now.1 - deep }
    }

    fn forget(&mut self) {
        use steer_common::flow::{FlowKey, RxFlow};
        let map = read::map_mut(&mut self.side.ebpf, "RX_FLOWS").expect("in the object");
        let mut map: KernelHashMap<&mut MapData, FlowKey, RxFlow> =
            KernelHashMap::try_from(map).expect("a hash");
        let keys: Vec<FlowKey> = map.keys().collect::<Result<_, _>>().expect("listed");
        for key in keys {
            map.remove(&key).expect("it was just there");
        }
    }
}

/// How many frames are compared.
fn wanted() -> u64 {
    std::env::var(MANY).map_or(FEW, |text| text.parse().expect("a number of frames"))
}

#[test]
fn the_program_and_the_library_agree_on_any_frame() {
    let Some(mut bench) = Bench::new("any") else {
        return;
    };
    let mut frames = Frames::new(1);
    let (mut done, mut flows, mut other) = (0, 0, 0);
    let mut all = Counted::default();
    while done < wanted() {
        let batch: Vec<Vec<u8>> = (0..BATCH).map(|_| frames.next()).collect();
        let mut expected = Counted::default();
        for frame in &batch {
            let seen = library(frame);
            other += u64::from(seen == Seen::Other);
            expected.add(seen);
        }
        if bench.count(&batch) != expected {
            // Which one it was: they are run again by themselves.
            for frame in &batch {
                let mut alone = Counted::default();
                alone.add(library(frame));
                let found = bench.count(std::slice::from_ref(frame));
                assert_eq!(found, alone, "left the program, right the library, on {frame:02x?}");
            }
            panic!("the program and the library differ on {BATCH} frames, but on none alone");
        }
        done += batch.len() as u64;
        flows += expected.flows.values().sum::<u64>();
        all.short += expected.short;
        all.deep += expected.deep;
    }
    println!(
        "{done} frames, 0 differences: {flows} of flows, {other} of none, {} too short, {} too deep",
        all.short, all.deep
    );
    for (count, what) in
        [(flows, "flows"), (other, "others"), (all.short, "short"), (all.deep, "deep")]
    {
        assert!(count > done / 100, "hardly any {what}: {count} of {done}");
    }
}
