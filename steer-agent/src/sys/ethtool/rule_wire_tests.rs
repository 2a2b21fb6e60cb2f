//! The layout against the C compiler's, known bytes, and the promise that any bytes are answered.

use std::process::{Command, Stdio};

use super::*;
use proptest::prelude::*;

fn flow(protocol: u8, local: &str, remote: &str) -> FlowAddr {
    let end = |text: &str| text.parse().expect("an address");
    FlowAddr { protocol, local: end(local), remote: end(remote) }
}

fn tcp4() -> Rule {
    Rule::new(flow(6, "10.0.0.1:80", "10.0.0.2:4000"), 5)
}

/// Prints the offsets that this file claims, from the machine's own header.
const LAYOUT: &str = r#"
#include <linux/ethtool.h>
#include <stddef.h>
#include <stdio.h>
#define AT(field) offsetof(struct ethtool_rxnfc, field)
int main(void) {
    printf("%zu %zu %zu %zu %zu %zu %zu %zu %zu ", AT(data), AT(fs.flow_type), AT(fs.h_u),
        AT(fs.m_u), AT(fs.ring_cookie), AT(fs.location), AT(rule_cnt), AT(rule_locs),
        sizeof(union ethtool_flow_union));
    printf("%zu %zu %zu %zu %zu %d %d %d %d %d %x %x\n", sizeof(struct ethtool_rxnfc),
        offsetof(struct ethtool_tcpip4_spec, psrc), offsetof(struct ethtool_tcpip4_spec, tos),
        offsetof(struct ethtool_tcpip6_spec, psrc), offsetof(struct ethtool_tcpip6_spec, tclass),
        ETHTOOL_GRXCLSRLCNT, ETHTOOL_GRXCLSRULE, ETHTOOL_GRXCLSRLALL, ETHTOOL_SRXCLSRLDEL,
        ETHTOOL_SRXCLSRLINS, RX_CLS_LOC_SPECIAL, RX_CLS_LOC_ANY);
    return 0;
}
"#;

/// What the compiler says of the header; `None` where there is no compiler or no header.
fn layout_by_compiler() -> Option<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, program) = (dir.path().join("layout.c"), dir.path().join("layout"));
    std::fs::write(&source, LAYOUT).expect("written");
    let mut compiler = Command::new("cc");
    let built = compiler.arg(&source).arg("-o").arg(&program).stderr(Stdio::null()).status();
    if !built.is_ok_and(|status| status.success()) {
        return None;
    }
    let output = Command::new(&program).output().expect("it runs");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn the_layout_is_the_compilers() {
    let ours = format!(
        "{DATA} {FLOW_TYPE} {FIELDS} {MASKS} {RING_COOKIE} {LOCATION} {RULE_COUNT} \
         {RULE_LOCATIONS} {UNION} {RXNFC} 8 12 32 36 {} {} {} {} {} {LOC_SPECIAL:x} {LOC_ANY:x}\n",
        command::GRXCLSRLCNT,
        command::GRXCLSRULE,
        command::GRXCLSRLALL,
        command::SRXCLSRLDEL,
        command::SRXCLSRLINS
    );
    // As printed by gcc 12 for x86-64 from the header of Linux 6.1.
    let printed = "8 16 20 92 168 176 184 188 52 192 8 12 32 36 46 47 48 49 50 80000000 ffffffff\n";
    assert_eq!(ours, printed);
    if let Some(here) = layout_by_compiler() {
        assert_eq!(ours, here);
    }
}

#[test]
fn a_rule_for_a_v4_connection() {
    let request = insert_request(Some(7), &tcp4()).expect("a rule");
    assert_eq!(request.len(), 192);
    assert_eq!(request[..4], 0x32u32.to_ne_bytes(), "ETHTOOL_SRXCLSRLINS");
    assert_eq!(request[16..20], 1u32.to_ne_bytes(), "TCP_V4_FLOW");
    let fields = [10, 0, 0, 2, 10, 0, 0, 1, 0x0f, 0xa0, 0, 80];
    assert_eq!(request[20..32], fields, "source is the far end, network order");
    assert!(request[32..92].iter().all(|byte| *byte == 0), "no type of service, no extension");
    assert!(request[92..104].iter().all(|byte| *byte == 0xff), "all of it must match");
    assert!(request[104..168].iter().all(|byte| *byte == 0), "and nothing else");
    assert_eq!(request[168..176], 5u64.to_ne_bytes(), "the queue");
    assert_eq!(request[176..180], 7u32.to_ne_bytes(), "the number");
    assert!(request[180..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_rule_for_a_v6_datagram_flow() {
    let rule = Rule::new(flow(17, "[2001:db8::1]:443", "[2001:db8::2]:5000"), 1);
    let request = insert_request(None, &rule).expect("a rule");
    assert_eq!(request[16..20], 6u32.to_ne_bytes(), "UDP_V6_FLOW");
    assert_eq!((request[20], request[35], request[51]), (0x20, 2, 1));
    assert_eq!(request[52..56], [0x13, 0x88, 1, 0xbb]);
    assert!(request[92..128].iter().all(|byte| *byte == 0xff));
    assert!(request[128..168].iter().all(|byte| *byte == 0));
    assert_eq!(request[176..180], [0xff; 4], "RX_CLS_LOC_ANY");
}

#[test]
fn what_no_rule_can_name_is_no_request() {
    for flow in [
        flow(1, "10.0.0.1:80", "10.0.0.2:4000"),
        flow(6, "10.0.0.1:80", "10.0.0.2:0"),
        flow(6, "10.0.0.1:80", "[2001:db8::2]:4000"),
    ] {
        assert_eq!(insert_request(None, &Rule::new(flow, 0)), None);
    }
}

#[test]
fn other_rules_are_not_taken_for_ours() {
    let ours = insert_request(Some(7), &tcp4()).expect("a rule");
    assert_eq!(rule(&ours), Some(RuleContent::Exact(tcp4())));
    assert_eq!(rule(&ours[..191]), None, "short");
    for (at, byte, what) in [
        (16, 4, "another flow type"),
        (19, 0x80, "FLOW_EXT"),
        (103, 0xfe, "one bit of a port left open"),
        (95, 0, "a network"),
        (104, 0xff, "a type of service"),
        (172, 1, "a virtual function"),
        (175, 0xff, "RX_CLS_FLOW_DISC and its kin"),
    ] {
        let mut theirs = ours.clone();
        theirs[at] = byte;
        assert_eq!(rule(&theirs), Some(RuleContent::Other), "{what}");
    }
}

#[test]
fn counts_and_numbers() {
    let mut answer = count_request();
    answer[8..16].copy_from_slice(&0x8000_0400u64.to_ne_bytes());
    answer[184..188].copy_from_slice(&2u32.to_ne_bytes());
    assert_eq!(count(&answer), Some(RuleCount { count: 2, driver_numbers: true }));

    let mut answer = numbers_request(2);
    assert_eq!(answer.len(), 196);
    answer[8..16].copy_from_slice(&1024u64.to_ne_bytes());
    answer[188..192].copy_from_slice(&9u32.to_ne_bytes());
    answer[192..196].copy_from_slice(&1023u32.to_ne_bytes());
    assert_eq!(numbers(&answer), Some((1024, vec![9, 1023])));
    assert_eq!(numbers(&answer[..195]), None, "short");
    assert_eq!(numbers_request(0).len(), 192, "never less than the structure");
    assert_eq!(rule_request(9)[176..180], 9u32.to_ne_bytes());
    assert_eq!(delete_request(9)[..4], 0x31u32.to_ne_bytes());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        any_bytes(&bytes);
    }

    #[test]
    fn rules_round_trip(
        v6: bool, tcp: bool, addresses: [u128; 2], ports in [1u16.., 1u16..], queue: u32
    ) {
        let address = |bits: u128| -> IpAddr {
            if v6 {
                // Global unicast: neither mapped nor a wildcard.
                IpAddr::V6((bits | 0x2000 << 112).into())
            } else {
                IpAddr::V4((u32::try_from(bits >> 96).expect("32 bits") | 1).into())
            }
        };
        let end = |index: usize| SocketAddr::new(address(addresses[index]), ports[index]);
        let protocol = if tcp { 6 } else { 17 };
        let sent = Rule::new(FlowAddr { protocol, local: end(0), remote: end(1) }, queue);
        let request = insert_request(Some(3), &sent).expect("a rule");
        prop_assert_eq!(rule(&request), Some(RuleContent::Exact(sent)));
        prop_assert_eq!(location(&request), Some(3));
    }
}
