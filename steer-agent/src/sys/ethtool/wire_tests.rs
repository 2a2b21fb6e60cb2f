//! Known answers, and the promise that any bytes are answered.

use super::*;
use proptest::prelude::*;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn channels_come_in_the_kernels_order() {
    let answer = words(&[command::GCHANNELS, 1, 2, 3, 8, 5, 6, 7, 4]);
    let expected = Channels { rx: 5, tx: 6, combined: 4, max_rx: 1, max_tx: 2, max_combined: 8 };
    assert_eq!(channels(&answer), Some(expected));
    assert_eq!(channels(&answer[..35]), None);
}

#[test]
fn an_igb_answers_a_table_and_hides_its_key() {
    let mut answer = words(&[command::GRSSH, 0, 4, 0]);
    answer.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    answer.extend(words(&[0, 0, 3, 1]));
    let config = rss(&answer).expect("whole");
    assert_eq!(config.table, [0, 0, 3, 1]);
    assert_eq!(config.shown_key(), None);
    assert_eq!(config.hash_function.as_deref(), Some("toeplitz"));
    assert_eq!(config.input_xfrm, Some(0));
    assert_eq!(rss(&answer[..answer.len() - 1]), None, "one byte short");
}

#[test]
fn a_key_of_zeros_is_hidden() {
    let mut config = RssConfig { key: vec![0; 40], ..RssConfig::default() };
    assert_eq!(config.shown_key(), None);
    config.key[39] = 1;
    assert_eq!(config.shown_key().map(<[u8]>::len), Some(40));
}

#[test]
fn a_set_request_changes_the_table_alone() {
    let request = set_table_request(&[2, 3], 1);
    assert_eq!(request.len(), 32);
    assert_eq!(request[..16], words(&[command::SRSSH, 0, 2, 0])[..], "no key");
    assert_eq!(request[16..24], [0, 1, 0, 0, 0, 0, 0, 0], "no function, the xfrm in force");
    assert_eq!(request[24..], words(&[2, 3])[..]);
    assert_eq!(set_table_request(&[], 0)[8..12], words(&[0])[..], "size 0 is a reset");
}

#[test]
fn a_set_request_reads_back_as_what_was_set() {
    let config = rss(&set_table_request(&[5, 6, 7], 0)).expect("whole");
    assert_eq!(config.table, [5, 6, 7]);
}

#[test]
fn offloads_are_matched_to_their_names_by_bit() {
    let mut names = vec![String::new(); 33];
    names[0] = "rx-gro".to_owned();
    names[2] = "rx-hashing".to_owned();
    names[32] = "rx-ntuple-filter".to_owned();
    let answer = words(&[command::GFEATURES, 2, 9, 9, 0b100, 9, 9, 9, 1, 9]);
    let features = features(&answer, &names).expect("whole");
    let expected = [("rx-gro", false), ("rx-hashing", true), ("rx-ntuple-filter", true)];
    assert_eq!(features, expected.map(|(name, on)| (name.to_owned(), on)).into());
}

#[test]
fn names_end_at_their_nul() {
    let mut answer = words(&[command::GSTRINGS, command::SS_FEATURES, 2]);
    answer.resize(12 + 2 * STRING_BYTES, 0);
    answer[12..18].copy_from_slice(b"rx-gro");
    answer[44..].fill(b'x');
    assert_eq!(names(&answer), Some(vec!["rx-gro".to_owned(), "x".repeat(32)]));
}

#[test]
fn hash_functions_have_names() {
    assert_eq!(hash_function(0), None);
    assert_eq!(hash_function(2).as_deref(), Some("xor"));
    assert_eq!(hash_function(8).as_deref(), Some("function 3"));
}

#[test]
fn ports_count_only_together() {
    let answer = |data: u64| {
        let mut answer = hash_fields_request(TCP_V4_FLOW);
        answer[8..16].copy_from_slice(&data.to_ne_bytes());
        answer
    };
    assert_eq!(ports_are_hashed(&answer(0xf0)), Some(true));
    assert_eq!(ports_are_hashed(&answer(0x30)), Some(false));
    assert_eq!(ports_are_hashed(&answer(0x70)), Some(false));
}

#[test]
fn private_flags_and_rules_are_counted_where_the_kernel_puts_them() {
    assert_eq!(value(&words(&[command::GPFLAGS, 5])), Some(5));
    assert_eq!(value(&words(&[command::GPFLAGS])), None);
    // The head, a flow specification of 168 bytes, the count, padding.
    let mut answer = words(&[command::GRXCLSRLCNT, 0, 0, 0]);
    answer.resize(16 + 168, 0);
    answer.extend(words(&[7, 0]));
    assert_eq!((answer.len(), rule_count(&answer)), (RXNFC, Some(7)));
    assert_eq!(rule_count(&answer[..RXNFC - 8]), None);
}

proptest! {
    /// Whatever a driver or a truncated copy contains, there is an answer.
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        any_bytes(&bytes);
    }

    /// Plausible heads with sizes that the rest does not hold.
    #[test]
    fn sizes_that_lie_are_noticed(
        table_size in any::<u32>(), key_size in any::<u32>(), rest in 0usize..64
    ) {
        let mut answer = words(&[command::GRSSH, 0, table_size, key_size, 0, 0]);
        answer.resize(RXFH_HEAD + rest, 7);
        let fits = u64::from(table_size) * 4 + u64::from(key_size) <= rest as u64;
        prop_assert_eq!(rss(&answer).is_some(), fits);
    }

    #[test]
    fn tables_round_trip(table in prop::collection::vec(any::<u32>(), 1..600)) {
        prop_assert_eq!(rss(&set_table_request(&table, 0)).map(|rss| rss.table), Some(table));
    }
}
