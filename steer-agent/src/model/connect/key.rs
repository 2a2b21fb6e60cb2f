//! Which hash a NIC really computes: which form of the key that is told, and from which initial value.
//!
//! Believed only where live packets agree. A NIC that reports its hash shows all 32 bits of it; of
//! one that does not, the queues that flows are seen on must do.

use std::collections::BTreeMap;

use steer_common::toeplitz::Table;

use crate::model::{Flow, KeyVariant, Nic, bucket_of, flow_hash_by};

/// The hash of a NIC, as far as it was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashModel {
    /// The key in use, 40 bytes or more.
    pub key: Vec<u8>,
    /// What the hash of an empty input is: zero for plain Toeplitz. Where hashes are not reported, only
    /// the bits of the bucket are known.
    pub initial: u32,
}

/// What flows say about a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Flows that could be compared.
    pub checked: usize,
    /// Of those, explained by the best hash that was found.
    pub explained: usize,
    /// Queues that they were seen on.
    pub queues: usize,
}

impl Evidence {
    /// Fewest flows: with two queues a wrong key fits eight flows by chance once in 256.
    pub const FEWEST: usize = 8;
    /// Most flows that are looked at.
    const MOST: usize = 1024;
    /// Fewest flows where the initial value is looked for among all that a bucket can have.
    const FEWEST_FOR_INITIAL: usize = 32;

    fn is_enough(self) -> bool {
        self.checked >= Self::FEWEST
            && self.queues >= 2
            && 100 * self.explained >= 99 * self.checked
    }
}

/// The hash that explains `flows` of this NIC, 99 in a hundred of at least eight on two queues; else
/// how near the best one came. TCP alone is looked at: it is what is steered.
pub fn learn<'a>(
    nic: &Nic,
    flows: impl Iterator<Item = &'a Flow> + Clone,
) -> Result<HashModel, Evidence> {
    let Some(rss) = &nic.rss else { return Err(Evidence::default()) };
    let Some(told) = &rss.key else { return Err(Evidence::default()) };
    let flows: Vec<&Flow> = flows
        .filter(|flow| {
            flow.addr.protocol == 6 && flow.ifindex == Some(nic.ifindex) && flow.queue.is_some()
        })
        .take(Evidence::MOST)
        .collect();
    let queues =
        flows.iter().filter_map(|flow| flow.queue).collect::<std::collections::BTreeSet<_>>();
    let mut best = Evidence::default();
    for variant in KeyVariant::ALL {
        let key = variant.of(&told.bytes);
        let Some(table) = Table::new(&key) else { continue };
        for (initial, explained, checked) in explanations(&table, nic, &flows) {
            let evidence = Evidence { checked, explained, queues: queues.len() };
            if evidence.is_enough() {
                return Ok(HashModel { key, initial });
            }
            if explained >= best.explained {
                best = evidence;
            }
        }
    }
    Err(best)
}

/// Initial values worth a look, each with the flows that it explains and those that it was tried on.
fn explanations(key: &Table, nic: &Nic, flows: &[&Flow]) -> Vec<(u32, usize, usize)> {
    let Some(rss) = &nic.rss else { return Vec::new() };
    let computed = |flow: &Flow| flow_hash_by(key, &flow.addr, rss.hash_fields);
    let mut differences: BTreeMap<u32, usize> = BTreeMap::new();
    let mut reported = 0;
    for flow in flows.iter().filter(|flow| !flow.hash_computed) {
        if let (Some(seen), Some(computed)) = (flow.hash, computed(flow)) {
            *differences.entry(seen ^ computed).or_default() += 1;
            reported += 1;
        }
    }
    if reported > 0 {
        // The commonest difference: of a hash that follows the key it is the same for all flows.
        let commonest = differences.into_iter().max_by_key(|(_, count)| *count);
        return commonest.map(|(initial, count)| (initial, count, reported)).into_iter().collect();
    }
    let hashes: Vec<(u32, _)> =
        flows.iter().filter_map(|flow| Some((computed(flow)?, flow.queue))).collect();
    let explained = |initial: u32| {
        let (mut checked, mut explained) = (0, 0);
        for (hash, seen) in &hashes {
            let bucket = bucket_of(hash ^ initial, rss.table.len());
            if let Some(queue) = bucket.and_then(|bucket| rss.table.get(bucket)) {
                checked += 1;
                explained += usize::from(Some(*queue) == *seen);
            }
        }
        (initial, explained, checked)
    };
    let plain = explained(0);
    let buckets = u32::try_from(rss.table.len()).unwrap_or(0);
    let fits = 100 * plain.1 >= 99 * plain.2;
    if fits || plain.2 < Evidence::FEWEST_FOR_INITIAL || !buckets.is_power_of_two() {
        return vec![plain];
    }
    std::iter::once(plain).chain((1..buckets).map(explained)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testkit::flow;
    use crate::model::{Rss, RssKey, flow_hash};

    fn nic() -> Nic {
        let key = (0..40).map(|byte: u8| byte.wrapping_mul(73).wrapping_add(17)).collect();
        Nic {
            ifindex: 2,
            rss: Some(Rss {
                table: (0..4).cycle().take(128).collect(),
                key: Some(RssKey { bytes: key, from_driver: true }),
                ..Rss::default()
            }),
            ..Nic::default()
        }
    }

    /// Flows of a NIC that hashes with this form of the key and this initial value.
    fn flows(count: u32, variant: KeyVariant, initial: u32, reported: bool) -> Vec<Flow> {
        let nic = nic();
        let rss = nic.rss.expect("has");
        let key = variant.of(&rss.key.expect("has").bytes);
        (0..count)
            .map(|number| {
                let mut flow = flow(number * 37, 0, 0);
                let hash = flow_hash(&key, &flow.addr, rss.hash_fields).expect("a hash") ^ initial;
                flow.queue = bucket_of(hash, 128).map(|bucket| rss.table[bucket]);
                flow.hash = reported.then_some(hash);
                flow
            })
            .collect()
    }

    #[test]
    fn a_reported_hash_shows_key_and_initial_value() {
        for variant in KeyVariant::ALL {
            for initial in [0, 0xdead_beef] {
                let flows = flows(16, variant, initial, true);
                let learned = learn(&nic(), flows.iter()).expect("learned");
                assert_eq!(learned.initial, initial);
                assert_eq!(
                    learned.key,
                    variant.of(&nic().rss.expect("has").key.expect("has").bytes)
                );
            }
        }
    }

    #[test]
    fn queues_alone_show_key_and_bucket() {
        for variant in KeyVariant::ALL {
            let flows = flows(16, variant, 0, false);
            assert_eq!(learn(&nic(), flows.iter()).expect("learned").initial, 0);
        }
        // Queue = bucket mod 4, so that the two low bits of the initial value are what shows.
        let flows = flows(64, KeyVariant::AsTold, 0b10, false);
        assert_eq!(learn(&nic(), flows.iter()).expect("learned").initial & 3, 0b10);
    }

    #[test]
    fn what_follows_no_key_is_not_believed() {
        let mut strange = flows(64, KeyVariant::AsTold, 0, true);
        for (number, flow) in (0u32..).zip(&mut strange) {
            flow.hash = Some(number.wrapping_mul(0x9e37_79b9));
        }
        let evidence = learn(&nic(), strange.iter()).expect_err("no key");
        assert_eq!(evidence.checked, 64);
        assert!(evidence.explained < 8, "{evidence:?}");
        let few = flows(7, KeyVariant::AsTold, 0, true);
        assert_eq!(learn(&nic(), few.iter()).expect_err("too few").checked, 7);
        let mut one_queue = flows(16, KeyVariant::AsTold, 0, true);
        one_queue.retain(|flow| flow.queue == Some(0));
        learn(&nic(), one_queue.iter()).expect_err("one queue shows nothing");
        let mut keyless = nic();
        keyless.rss.as_mut().expect("has").key = None;
        learn(&keyless, flows(16, KeyVariant::AsTold, 0, true).iter()).expect_err("no key is told");
    }

    #[test]
    fn one_in_a_hundred_may_differ() {
        let mut flows = flows(200, KeyVariant::AsTold, 0, true);
        for flow in flows.iter_mut().take(2) {
            flow.hash = Some(1);
        }
        learn(&nic(), flows.iter()).expect("198 of 200");
        for flow in flows.iter_mut().take(3) {
            flow.hash = Some(1);
        }
        learn(&nic(), flows.iter()).expect_err("197 of 200");
    }
}
