//! The kernel's fields that the kernel side reads: where to look for each, how wide it must be, and
//! what is lost without it.
//!
//! One table. A field that is not found, or has another width than the kernel side reads, is absent,
//! never guessed.

use anyhow::{Result, bail};
use steer_common::knobs::Offsets;

use super::btf::Types;

/// One field.
struct Field {
    /// As in [`Offsets`], and in the sentence for people.
    name: &'static str,
    structure: &'static str,
    path: &'static str,
    bits: u32,
    slot: fn(&mut Offsets) -> &mut u32,
    /// What happens without it.
    without: &'static str,
}

macro_rules! fields {
    ($($name:ident = $structure:literal $path:literal $bits:literal, $without:expr;)+) => {
        &[$(Field {
            name: stringify!($name),
            structure: $structure,
            path: $path,
            bits: $bits,
            slot: |offsets| &mut offsets.$name,
            without: $without,
        }),+]
    };
}

const NO_TCP_FLOWS: &str = "TCP flows are counted, but not told apart";
const NO_UDP_FLOWS: &str = "UDP flows are counted, but not told apart";
const NO_RECEIVE: &str = "packets cannot be counted by NIC";
const ONE_NAMESPACE: &str = "interfaces of other network namespaces may be taken for watched ones";

#[rustfmt::skip]
const FIELDS: &[Field] = fields! {
    skc_family           = "sock" "__sk_common.skc_family"           16, NO_TCP_FLOWS;
    skc_state            = "sock" "__sk_common.skc_state"             8, "UDP flows have no protocol CPU";
    skc_daddr            = "sock" "__sk_common.skc_daddr"            32, NO_TCP_FLOWS;
    skc_rcv_saddr        = "sock" "__sk_common.skc_rcv_saddr"        32, NO_TCP_FLOWS;
    skc_v6_daddr         = "sock" "__sk_common.skc_v6_daddr"        128, NO_TCP_FLOWS;
    skc_v6_rcv_saddr     = "sock" "__sk_common.skc_v6_rcv_saddr"    128, NO_TCP_FLOWS;
    skc_dport            = "sock" "__sk_common.skc_dport"            16, NO_TCP_FLOWS;
    skc_num              = "sock" "__sk_common.skc_num"              16, NO_TCP_FLOWS;
    skc_net              = "sock" "__sk_common.skc_net.net"          64, ONE_NAMESPACE;
    skc_incoming_cpu     = "sock" "__sk_common.skc_incoming_cpu"     32, "flows have no protocol CPU";
    skc_rxhash           = "sock" "__sk_common.skc_rxhash"           32, "TCP demand by bucket is known only where the hash can be computed";
    skc_rx_queue_mapping = "sock" "__sk_common.skc_rx_queue_mapping" 16, "a TCP flow's queue is known by its NAPI id alone";
    sk_napi_id           = "sock" "sk_napi_id"                       32, "a TCP flow's NIC is known by the interface of its route alone";
    sk_rx_dst_ifindex    = "sock" "sk_rx_dst_ifindex"                32, "a TCP flow's NIC is known by its NAPI id alone";
    skb_dev              = "sk_buff" "dev"                           64, NO_RECEIVE;
    skb_iif              = "sk_buff" "skb_iif"                       32, "a UDP flow's NIC is known by its NAPI id alone";
    skb_hash             = "sk_buff" "hash"                          32, "load by bucket is not known";
    skb_queue_mapping    = "sk_buff" "queue_mapping"                 16, "packets cannot be counted by queue on NICs with several";
    skb_napi_id          = "sk_buff" "napi_id"                       32, "flows are tied to their queue by interface and number alone";
    skb_protocol         = "sk_buff" "protocol"                      16, NO_UDP_FLOWS;
    skb_head             = "sk_buff" "head"                          64, NO_UDP_FLOWS;
    skb_network_header   = "sk_buff" "network_header"                16, NO_UDP_FLOWS;
    skb_transport_header = "sk_buff" "transport_header"              16, NO_UDP_FLOWS;
    skb_sw_hash          = "sk_buff" "sw_hash"                        1, "a hash that the stack computed may be taken for the NIC's";
    dev_ifindex          = "net_device" "ifindex"                    32, NO_RECEIVE;
    dev_net              = "net_device" "nd_net.net"                 64, ONE_NAMESPACE;
    net_inum             = "net" "ns.inum"                           32, ONE_NAMESPACE;
};

/// Finds all fields. `absent` names fields to be taken for absent even if they are there: the tests
/// load the kernel side without each of them. Returns the offsets and a sentence for each that is
/// missing.
pub(super) fn find(types: &Types<'_>, absent: &[String]) -> Result<(Offsets, Vec<String>)> {
    if let Some(unknown) = absent.iter().find(|name| !names().any(|known| known == name.as_str())) {
        bail!("`{unknown}` is no field that the kernel side reads");
    }
    let mut offsets = Offsets::ABSENT;
    let mut missing = Vec::new();
    for field in FIELDS {
        let Field { name, structure, path, bits, slot, without } = field;
        let why = if absent.iter().any(|forced| forced == name) {
            "taken for absent as asked".to_owned()
        } else {
            match types.member(structure, path) {
                Some(member) if member.bits == *bits => {
                    *slot(&mut offsets) = member.bit_offset / 8;
                    if *bits == 1 {
                        offsets.skb_sw_hash_bit = bit_in_byte(member.bit_offset);
                    }
                    continue;
                }
                Some(member) => format!("it has {} bits, not {bits}", member.bits),
                None => "this kernel has none".to_owned(),
            }
        };
        missing.push(format!("{path} of struct {structure}: {why}; {without}"));
    }
    Ok((offsets, missing))
}

/// Names of all fields.
pub fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|field| field.name)
}

/// Position of a bit-field's bit in its byte. Compilers lay bit-fields out from the least
/// significant bit on little-endian machines, the only ones that the object is built for.
fn bit_in_byte(bit_offset: u32) -> u32 {
    bit_offset % 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use steer_common::knobs::ABSENT;

    use crate::observe::kernel::btf::VMLINUX;

    #[test]
    fn every_offset_has_a_field() {
        // skb_sw_hash_bit comes with skb_sw_hash.
        assert_eq!(FIELDS.len() + 1, size_of::<Offsets>() / size_of::<u32>());
        let mut offsets = Offsets::ABSENT;
        for (number, field) in (0u32..).zip(FIELDS) {
            let slot = (field.slot)(&mut offsets);
            assert_eq!(*slot, ABSENT, "{} shares its place", field.name);
            *slot = number;
        }
    }

    #[test]
    fn the_running_kernel_has_what_tcp_needs() {
        let Ok(bytes) = std::fs::read(VMLINUX) else {
            println!("skipped: no {VMLINUX}");
            return;
        };
        let types = Types::parse(&bytes).expect("valid");
        let (offsets, missing) = find(&types, &[]).expect("no name is forced");
        assert_eq!(missing, Vec::<String>::new());
        assert_eq!(offsets.skc_rcv_saddr, offsets.skc_daddr + 4, "one pair (net/sock.h)");
        assert!(offsets.skb_sw_hash_bit < 8);

        let forced = vec!["skc_rxhash".to_owned()];
        let (without, missing) = find(&types, &forced).expect("a known name");
        assert_eq!(without, Offsets { skc_rxhash: ABSENT, ..offsets });
        assert_eq!(missing.len(), 1);
        assert!(find(&types, &["sk_nonsense".to_owned()]).is_err());
    }
}
