//! The XDP program on frames made by hand, run in the kernel with `BPF_PROG_TEST_RUN`: every kind of
//! header that it walks over, and any number of random ones against a packet library.
//!
//! The kernel runs such frames as if they came in through loopback, queue 0, hence the NIC below.

mod frames;
mod library;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};

use self::library::{Seen, library};
use super::*;
use crate::model::FlowAddr;

/// IP protocol and extension header numbers (IANA).
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMP: u8 = 1;
const DESTINATION: u8 = 60;

const HERE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const THERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The observer, attached to the loopback interface of a network namespace of its own.
struct Bench {
    side: KernelSide,
    namespace: String,
}

impl Bench {
    /// `None` without root; that is a failure where `CI=true`.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "needs root");
            println!("skipped: loading BPF programs needs root");
            return None;
        }
        let namespace = format!("steer-{}-{name}", std::process::id());
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        let file = fs::File::open(format!("/run/netns/{namespace}")).expect("just made");
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind)
            .expect("setns");
        let nic = WatchedNic {
            name: "lo".to_owned(),
            ifindex: 1,
            upper_ifindexes: Vec::new(),
            buckets: 128,
            queues: 1,
            hash: HashSource::Unknown,
        };
        let options =
            StartOptions { observer: Observer::Xdp, nics: vec![nic], ..StartOptions::default() };
        Some(Self { side: KernelSide::start(&options).expect("attaches"), namespace })
    }

    /// Runs one frame.
    fn run(&self, frame: &[u8]) {
        let program = self.side.ebpf.program("observe_xdp").expect("in the object");
        let program: &Xdp = program.try_into().expect("an XDP program");
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let result = program.test_run(options).expect("runs");
        assert_eq!(result.return_value, aya_xdp_pass(), "every frame passes on");
    }

    /// Runs one frame; the flow that was counted, if one was.
    fn flow(&self, frame: &[u8]) -> Option<FlowAddr> {
        let before = self.side.received_flows().expect("reads");
        self.run(frame);
        let after = self.side.received_flows().expect("reads");
        let packets = |flows: &[ReceivedFlow], addr: FlowAddr| {
            flows.iter().find(|flow| flow.addr == addr).map_or(0, |flow| flow.packets)
        };
        let raised: Vec<&ReceivedFlow> =
            after.iter().filter(|flow| flow.packets > packets(&before, flow.addr)).collect();
        assert!(raised.len() <= 1, "{raised:?}");
        raised.first().map(|flow| {
            assert_eq!((flow.ifindex, flow.queue), (Some(1), 0));
            flow.addr
        })
    }

    fn health(&mut self, name: &str) -> u64 {
        let health = self.side.read().expect("reads").health;
        health.iter().find(|(known, _)| known == name).expect("a known counter").1
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ =
            std::process::Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

fn ip(arguments: &[&str]) {
    let status = std::process::Command::new("ip").args(arguments).status().expect("iproute2");
    assert!(status.success(), "ip {arguments:?}");
}

/// `XDP_PASS` (`include/uapi/linux/bpf.h`).
fn aya_xdp_pass() -> u32 {
    2
}

fn ethernet(tags: &[u16], ether_type: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend(7u16.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(rest);
    frame
}

/// `options` is a multiple of four long; `fragment` the field of flags and offset.
fn ipv4(protocol: u8, options: &[u8], fragment: u16, rest: &[u8]) -> Vec<u8> {
    let words = 5 + u8::try_from(options.len() / 4).expect("up to ten");
    let length = u16::try_from(20 + options.len() + rest.len()).expect("small");
    [
        &[0x40 | words, 0][..],
        &length.to_be_bytes(),
        &[0, 1],
        &fragment.to_be_bytes(),
        &[64, protocol, 0, 0],
        &THERE4.octets(),
        &HERE4.octets(),
        options,
        rest,
    ]
    .concat()
}

fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("small");
    [
        &[0x60, 0, 0, 0][..],
        &length.to_be_bytes(),
        &[next, 64],
        &THERE6.octets(),
        &HERE6.octets(),
        rest,
    ]
    .concat()
}

/// An extension header of `8 * (1 + more)` bytes.
fn extension(next: u8, more: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 8 * (usize::from(more) + 1)];
    header[0] = next;
    header[1] = more;
    header.extend(rest);
    header
}

fn fragment(next: u8, offset_and_flags: u16, rest: &[u8]) -> Vec<u8> {
    [&[next, 0][..], &offset_and_flags.to_be_bytes(), &[0, 0, 0, 9], rest].concat()
}

/// Ports 4000 to 80, and a little more.
fn ports() -> Vec<u8> {
    [&4000u16.to_be_bytes()[..], &80u16.to_be_bytes(), &[0; 16]].concat()
}

fn flow4(protocol: u8, remote_port: u16, local_port: u16) -> FlowAddr {
    flow(protocol, (HERE4.into(), local_port), (THERE4.into(), remote_port))
}

fn flow6(protocol: u8, remote_port: u16, local_port: u16) -> FlowAddr {
    flow(protocol, (HERE6.into(), local_port), (THERE6.into(), remote_port))
}

fn flow(protocol: u8, local: (IpAddr, u16), remote: (IpAddr, u16)) -> FlowAddr {
    FlowAddr { protocol, local: local.into(), remote: remote.into() }
}

/// A frame with a name, and the flow that it belongs to.
type Case = (&'static str, Vec<u8>, Option<FlowAddr>);

fn ipv4_cases() -> Vec<Case> {
    let frame = |rest: &[u8]| ethernet(&[], 0x0800, rest);
    let tcp = ipv4(TCP, &[], 0, &ports());
    let (plain, bare) = (Some(flow4(TCP, 4000, 80)), Some(flow4(UDP, 0, 0)));
    vec![
        ("v4 TCP", frame(&tcp), plain),
        ("v4 UDP", frame(&ipv4(UDP, &[], 0, &ports())), Some(flow4(UDP, 4000, 80))),
        ("do not fragment", frame(&ipv4(TCP, &[], 0x4000, &ports())), plain),
        ("all options", frame(&ipv4(TCP, &[1; 40], 0, &ports())), plain),
        ("first fragment", frame(&ipv4(UDP, &[], 0x2000, &ports())), bare),
        ("later fragment", frame(&ipv4(UDP, &[], 185, &[9; 20])), bare),
        ("VLAN", ethernet(&[0x8100], 0x0800, &tcp), plain),
        ("QinQ", ethernet(&[0x88a8, 0x8100], 0x0800, &tcp), plain),
        ("three tags", ethernet(&[0x8100; 3], 0x0800, &tcp), None),
        ("ICMP", frame(&ipv4(ICMP, &[], 0, &[8; 16])), None),
        ("ARP", ethernet(&[], 0x0806, &[0; 28]), None),
        ("header length of 16", frame(&[&[0x44][..], &tcp[1..]].concat()), None),
        ("version 6 in IPv4", frame(&[&[0x65][..], &tcp[1..]].concat()), None),
        ("ports in the padding", frame(&[&tcp[..2], &[0, 22], &tcp[4..]].concat()), None),
        ("length untold", frame(&[&tcp[..2], &[0, 0], &tcp[4..]].concat()), plain),
    ]
}

fn ipv6_cases() -> Vec<Case> {
    let frame = |next: u8, rest: &[u8]| ethernet(&[], 0x86dd, &ipv6(next, rest));
    let (plain, bare) = (Some(flow6(TCP, 4000, 80)), Some(flow6(UDP, 0, 0)));
    let options = |count: usize| {
        (0..count)
            .fold(ports(), |rest, at| extension(if at == 0 { TCP } else { DESTINATION }, 0, &rest))
    };
    let three = extension(ROUTING, 0, &extension(DESTINATION, 3, &extension(TCP, 1, &ports())));
    vec![
        ("v6 TCP", frame(TCP, &ports()), plain),
        ("v6 in a VLAN", ethernet(&[0x8100], 0x86dd, &ipv6(TCP, &ports())), plain),
        ("v6 in old QinQ", ethernet(&[0x9100, 0x8100], 0x86dd, &ipv6(TCP, &ports())), plain),
        ("hop-by-hop, routing, destination", frame(HOP_BY_HOP, &three), plain),
        ("six extensions", frame(DESTINATION, &options(6)), plain),
        ("seven extensions", frame(DESTINATION, &options(7)), None),
        ("v6 first fragment", frame(FRAGMENT, &fragment(UDP, 1, &ports())), bare),
        ("v6 later fragment", frame(FRAGMENT, &fragment(UDP, 8 << 3, &[9; 20])), bare),
        ("atomic fragment", frame(FRAGMENT, &fragment(TCP, 0, &ports())), plain),
        (
            "hop-by-hop behind another",
            frame(DESTINATION, &extension(HOP_BY_HOP, 0, &extension(TCP, 0, &ports()))),
            None,
        ),
        ("v6 authentication", frame(51, &extension(TCP, 1, &ports())), None),
    ]
}

#[test]
fn walks_over_every_kind_of_header() {
    let Some(mut bench) = Bench::new("headers") else {
        return;
    };
    for (name, frame, expected) in ipv4_cases().into_iter().chain(ipv6_cases()) {
        assert_eq!(bench.flow(&frame), expected, "{name}");
        let by_library = match library(&frame) {
            Seen::Flow(addr) => Some(addr),
            _ => None,
        };
        assert_eq!(by_library, expected, "{name}: the library");
    }
    assert_eq!(bench.health("header_deep"), 2, "three tags, seven extensions");
    assert_eq!(bench.health("header_short"), 2, "header length of 16, ports in the padding");
}

#[test]
fn a_frame_that_is_cut_off_is_no_flow() {
    let Some(bench) = Bench::new("short") else {
        return;
    };
    let whole = ethernet(&[0x8100], 0x86dd, &ipv6(HOP_BY_HOP, &extension(TCP, 1, &ports())));
    let needed = whole.len() - 16;
    for end in 14..needed {
        assert_eq!(bench.flow(&whole[..end]), None, "{end} bytes");
    }
    assert_eq!(bench.flow(&whole[..needed]), Some(flow6(TCP, 4000, 80)));
}
