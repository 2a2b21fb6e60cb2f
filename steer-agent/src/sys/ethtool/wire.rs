//! Requests and answers of the ethtool ioctl as bytes.
//!
//! Layouts are those of include/uapi/linux/ethtool.h, in the byte order of the machine. Every
//! reader returns `None` for an answer that is shorter than its own size fields say, and none
//! panics on any bytes. Nothing here makes a call.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _};

use crate::model::{Channels, Coalesced, QueueId};
use crate::sys::raw::{MAX_FEATURES, MAX_FLAGS, STRING_BYTES, command};

/// Size of `struct ethtool_rxnfc`.
pub(super) const RXNFC: usize = 192;
/// Where `rule_cnt` is in it: behind command, flow type, data and `struct ethtool_rx_flow_spec`
/// (4 + 4 + 8 + 168); padding follows it.
const RULE_COUNT_AT: usize = RXNFC - 8;
/// `TCP_V4_FLOW` and its kin.
pub(super) const TCP_V4_FLOW: u32 = 0x01;
/// See [`TCP_V4_FLOW`].
pub(super) const UDP_V4_FLOW: u32 = 0x02;
/// See [`TCP_V4_FLOW`].
pub(super) const TCP_V6_FLOW: u32 = 0x05;
/// See [`TCP_V4_FLOW`].
pub(super) const UDP_V6_FLOW: u32 = 0x06;
/// `RXH_L4_B_0_1 | RXH_L4_B_2_3`: source and destination port.
const RXH_PORTS: u64 = 1 << 6 | 1 << 7;
/// Bytes of `struct ethtool_rxfh` before its table.
const RXFH_HEAD: usize = 24;
/// `hfunc` bits in their order (`rss_hash_func_strings`, net/ethtool/common.c).
const HASH_FUNCTIONS: [&str; 3] = ["toeplitz", "xor", "crc32"];

/// RSS settings as one path gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RssConfig {
    /// RX queue by bucket.
    pub table: Vec<QueueId>,
    /// The key as given: empty where the driver has none to show, zeros where it hides it.
    pub key: Vec<u8>,
    /// Name of the hash function; `None` where the driver does not say.
    pub hash_function: Option<String>,
    /// `input_xfrm`: 0 is plain. `None` where this path cannot tell.
    pub input_xfrm: Option<u8>,
}

impl RssConfig {
    /// The key, unless it is hidden or absent: igb up to 6.12, vmxnet3 and tg3 show none, and a
    /// key of zeros would hash every flow to the same bucket.
    #[must_use]
    pub fn shown_key(&self) -> Option<&[u8]> {
        let shown = self.key.iter().any(|byte| *byte != 0);
        shown.then_some(self.key.as_slice())
    }
}

/// The fixed part of `struct ethtool_rxfh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RssHead {
    pub(super) table_size: u32,
    pub(super) key_size: u32,
    pub(super) hash_function: u8,
    pub(super) input_xfrm: u8,
}

/// A request of `bytes` bytes that has nothing but its command.
pub(super) fn request(command: u32, bytes: usize) -> Vec<u8> {
    let mut request = vec![0; bytes.max(4)];
    request.as_mut_slice().put_u32_ne(command);
    request
}

/// `struct ethtool_channels`.
pub(super) fn channels(mut answer: &[u8]) -> Option<Channels> {
    let _command = answer.try_get_u32_ne().ok()?;
    let max_rx = answer.try_get_u32_ne().ok()?;
    let max_tx = answer.try_get_u32_ne().ok()?;
    let _max_other = answer.try_get_u32_ne().ok()?;
    let max_combined = answer.try_get_u32_ne().ok()?;
    let rx = answer.try_get_u32_ne().ok()?;
    let tx = answer.try_get_u32_ne().ok()?;
    let _other = answer.try_get_u32_ne().ok()?;
    let combined = answer.try_get_u32_ne().ok()?;
    Some(Channels { rx, tx, combined, max_rx, max_tx, max_combined })
}

/// `struct ethtool_rxnfc` as `ETHTOOL_GRXRINGS` fills it: the count is in `data`.
pub(super) fn rx_rings(answer: &[u8]) -> Option<u32> {
    u32::try_from(rxnfc_data(answer)?).ok()
}

/// Asks which fields are hashed for a flow type.
pub(super) fn hash_fields_request(flow_type: u32) -> Vec<u8> {
    let mut request = vec![0; RXNFC];
    let mut fields = request.as_mut_slice();
    fields.put_u32_ne(command::GRXFH);
    fields.put_u32_ne(flow_type);
    request
}

/// Whether both ports are among the hashed fields.
pub(super) fn ports_are_hashed(answer: &[u8]) -> Option<bool> {
    Some(rxnfc_data(answer)? & RXH_PORTS == RXH_PORTS)
}

fn rxnfc_data(mut answer: &[u8]) -> Option<u64> {
    let _command = answer.try_get_u32_ne().ok()?;
    let _flow_type = answer.try_get_u32_ne().ok()?;
    answer.try_get_u64_ne().ok()
}

/// `struct ethtool_coalesce`: `rx_coalesce_usecs` is its second word, `use_adaptive_rx_coalesce`
/// its eleventh.
pub(super) fn coalesce(answer: &[u8]) -> Option<Coalesced> {
    let word = |index: usize| answer.get(index * 4..)?.try_get_u32_ne().ok();
    Some(Coalesced { rx_us: word(1)?, adaptive_rx: word(10)? != 0 })
}

/// `struct ethtool_ringparam`: `rx_pending` is its sixth word.
pub(super) fn rx_ring_size(answer: &[u8]) -> Option<u32> {
    answer.get(5 * 4..)?.try_get_u32_ne().ok()
}

/// Asks for the names of all offloads.
pub(super) fn feature_names_request() -> Vec<u8> {
    let mut request = vec![0; 12 + MAX_FEATURES * STRING_BYTES];
    let mut fields = request.as_mut_slice();
    fields.put_u32_ne(command::GSTRINGS);
    fields.put_u32_ne(command::SS_FEATURES);
    request
}

/// Asks for the names of a driver's private flags.
pub(super) fn flag_names_request() -> Vec<u8> {
    let mut request = vec![0; 12 + MAX_FLAGS * STRING_BYTES];
    let mut fields = request.as_mut_slice();
    fields.put_u32_ne(command::GSTRINGS);
    fields.put_u32_ne(command::SS_PRIV_FLAGS);
    request
}

/// `struct ethtool_value`.
pub(super) fn value(mut answer: &[u8]) -> Option<u32> {
    let _command = answer.try_get_u32_ne().ok()?;
    answer.try_get_u32_ne().ok()
}

/// `struct ethtool_rxnfc` as `ETHTOOL_GRXCLSRLCNT` fills it: `rule_cnt` stands behind `fs`.
pub(super) fn rule_count(answer: &[u8]) -> Option<u32> {
    answer.get(RULE_COUNT_AT..)?.try_get_u32_ne().ok()
}

/// `struct ethtool_gstrings`: names by bit; bits without a name are empty.
pub(super) fn names(mut answer: &[u8]) -> Option<Vec<String>> {
    let _command = answer.try_get_u32_ne().ok()?;
    let _set = answer.try_get_u32_ne().ok()?;
    let count = usize::try_from(answer.try_get_u32_ne().ok()?).ok()?;
    let text = answer.get(..count.checked_mul(STRING_BYTES)?)?;
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
    };
    Some(text.chunks_exact(STRING_BYTES).map(name).collect())
}

/// Asks for the state of `count` offloads, in blocks of 32.
pub(super) fn features_request(count: usize) -> Vec<u8> {
    let blocks = count.min(MAX_FEATURES).div_ceil(32);
    let mut request = vec![0; 8 + blocks * 16];
    let mut fields = request.as_mut_slice();
    fields.put_u32_ne(command::GFEATURES);
    fields.put_u32_ne(u32::try_from(blocks).unwrap_or(0));
    request
}

/// `struct ethtool_gfeatures`: each block has `available`, `requested`, `active` and
/// `never_changed`; active is what counts.
pub(super) fn features(mut answer: &[u8], names: &[String]) -> Option<BTreeMap<String, bool>> {
    let _command = answer.try_get_u32_ne().ok()?;
    let blocks = usize::try_from(answer.try_get_u32_ne().ok()?).ok()?;
    let blocks = answer.get(..blocks.checked_mul(16)?)?;
    let active: Option<Vec<u32>> = blocks
        .chunks_exact(16)
        .map(|block| block.get(8..).and_then(|mut words| words.try_get_u32_ne().ok()))
        .collect();
    let bits = active?.into_iter().flat_map(|word| (0..32).map(move |bit| word >> bit & 1 == 1));
    let states = names.iter().cloned().zip(bits);
    Some(states.filter(|(name, _)| !name.is_empty()).collect())
}

/// Asks for RSS settings with these sizes; zero sizes ask for the sizes.
pub(super) fn rss_request(table_size: u32, key_size: u32) -> Vec<u8> {
    let table_bytes = usize::try_from(table_size).unwrap_or(0).saturating_mul(4);
    let bytes = RXFH_HEAD.saturating_add(table_bytes);
    let mut request = vec![0; bytes.saturating_add(usize::try_from(key_size).unwrap_or(0))];
    let mut fields = request.as_mut_slice();
    fields.put_u32_ne(command::GRSSH);
    fields.put_u32_ne(0); // rss_context: the main one
    fields.put_u32_ne(table_size);
    fields.put_u32_ne(key_size);
    request
}

/// The fixed part of the answer.
pub(super) fn rss_head(mut answer: &[u8]) -> Option<RssHead> {
    let _command = answer.try_get_u32_ne().ok()?;
    let _context = answer.try_get_u32_ne().ok()?;
    let table_size = answer.try_get_u32_ne().ok()?;
    let key_size = answer.try_get_u32_ne().ok()?;
    let hash_function = answer.try_get_u8().ok()?;
    let input_xfrm = answer.try_get_u8().ok()?;
    Some(RssHead { table_size, key_size, hash_function, input_xfrm })
}

/// The whole answer.
pub(super) fn rss(answer: &[u8]) -> Option<RssConfig> {
    let head = rss_head(answer)?;
    let rest = answer.get(RXFH_HEAD..)?;
    let table_bytes = usize::try_from(head.table_size).ok()?.checked_mul(4)?;
    let (table, rest) = rest.split_at_checked(table_bytes)?;
    let key = rest.get(..usize::try_from(head.key_size).ok()?)?;
    Some(RssConfig {
        table: queues(table),
        key: key.to_vec(),
        hash_function: hash_function(head.hash_function.into()),
        // 0xff is "no change", which a read cannot mean: the driver left the field alone.
        input_xfrm: Some(head.input_xfrm).filter(|xfrm| *xfrm != 0xff),
    })
}

/// The name of the one bit that is set; a bit without a name here keeps its number.
pub(in crate::sys) fn hash_function(bits: u32) -> Option<String> {
    let bit = bits.checked_ilog2()?;
    let known = usize::try_from(bit).ok().and_then(|bit| HASH_FUNCTIONS.get(bit));
    Some(known.map_or_else(|| format!("function {bit}"), |name| (*name).to_owned()))
}

/// Entries of a table as the kernel lays them out.
pub(in crate::sys) fn queues(table: &[u8]) -> Vec<QueueId> {
    table.chunks_exact(4).filter_map(|mut entry| entry.try_get_u32_ne().ok()).collect()
}

/// Asks for a table of this size; 0 asks for the size.
pub(super) fn table_request(size: u32) -> Vec<u8> {
    let bytes = usize::try_from(size).unwrap_or(0).saturating_mul(4).saturating_add(8);
    let mut request = vec![0; bytes];
    let mut fields = request.as_mut_slice();
    fields.put_u32_ne(command::GRXFHINDIR);
    fields.put_u32_ne(size);
    request
}

/// The size in `struct ethtool_rxfh_indir`.
pub(super) fn table_size(mut answer: &[u8]) -> Option<u32> {
    let _command = answer.try_get_u32_ne().ok()?;
    answer.try_get_u32_ne().ok()
}

/// `struct ethtool_rxfh_indir`.
pub(super) fn table(answer: &[u8]) -> Option<RssConfig> {
    let bytes = usize::try_from(table_size(answer)?).ok()?.checked_mul(4)?;
    let table = queues(answer.get(8..)?.get(..bytes)?);
    Some(RssConfig { table, ..RssConfig::default() })
}

/// Writes `table`; an empty one is a reset. Key and hash function: no change.
pub(super) fn set_table_request(table: &[QueueId], input_xfrm: u8) -> Vec<u8> {
    let mut request = Vec::with_capacity(RXFH_HEAD + table.len() * 4);
    request.put_u32_ne(command::SRSSH);
    request.put_u32_ne(0); // rss_context: the main one
    request.put_u32_ne(u32::try_from(table.len()).unwrap_or(command::INDIR_NO_CHANGE));
    request.put_u32_ne(0); // key_size
    request.put_u8(0); // hfunc: ETH_RSS_HASH_NO_CHANGE
    request.put_u8(input_xfrm);
    request.put_bytes(0, 2 + 4); // rsvd8, rsvd32
    for queue in table {
        request.put_u32_ne(*queue);
    }
    request
}

/// Everything that reads an answer, on any bytes; and a table that was read is the one that is written.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::sys) fn any_bytes(bytes: &[u8]) {
    let names = names(bytes).unwrap_or_default();
    let _ = (channels(bytes), rx_rings(bytes), ports_are_hashed(bytes), coalesce(bytes));
    let _ = (rx_ring_size(bytes), value(bytes), rule_count(bytes), table(bytes));
    let _ = features(bytes, &names);
    if let Some(config) = rss(bytes).filter(|config| !config.table.is_empty()) {
        let written = rss(&set_table_request(&config.table, 0));
        assert_eq!(written.map(|rss| rss.table), Some(config.table));
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
