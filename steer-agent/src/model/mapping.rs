//! Does the table really decide the queue? `table[bucket(hash)]` against the queue that was seen.
//!
//! That the low bits of the hash pick the bucket is the common design (the kernel's
//! Documentation/networking/scaling.rst), but Flow Director, aRFS, ntuple rules, additional RSS
//! contexts and NICs that ignore their table all break it. So it is counted on live flows, and
//! below [`Mapping::ENOUGH`] the table is left alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Flow, QueueId};

/// Bucket of a hash in a table of `buckets` entries: the low-order bits, or the remainder where
/// the size is not a power of two. `None` for an empty table.
#[must_use]
pub fn bucket_of(hash: u32, buckets: usize) -> Option<usize> {
    if buckets == 0 {
        return None;
    }
    usize::try_from(hash).ok().map(|hash| hash % buckets)
}

/// The outcome of the check on one NIC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// Consumption whose flow's hash and queue are known.
    pub checked: u64,
    /// Of that, where the table names the queue that was seen.
    pub agreeing: u64,
    /// Flows behind `checked`.
    pub flows: usize,
    /// Flows that cannot be checked: their queue is known and their hash is not.
    pub unhashed: usize,
    /// How many queues the table predicts for these flows. With one, agreement proves little.
    pub queues_predicted: usize,
    /// How many queues they were seen on.
    pub queues_seen: usize,
    /// The flow that contradicts the table most, for the reader: (hash, predicted, seen).
    pub counter_example: Option<(u32, QueueId, QueueId)>,
}

impl Mapping {
    /// Agreement from which the table counts as the one that decides.
    pub const ENOUGH: f64 = 0.99;
    /// Fewer flows than this prove nothing: a NIC that ignores its table agrees by chance on
    /// each with probability 1/queues, on four of them with four queues once in 256.
    pub const FEWEST_FLOWS: usize = 4;

    /// Checks `flows`, each with what it consumed in the window, against `table`.
    #[must_use]
    pub fn check<'a>(table: &[QueueId], flows: impl IntoIterator<Item = (&'a Flow, u64)>) -> Self {
        let mut mapping = Self::default();
        let mut predicted_queues = BTreeSet::new();
        let mut seen_queues = BTreeSet::new();
        let mut worst = 0;
        for (flow, consumed) in flows {
            let Some(seen) = flow.queue else { continue };
            let Some(hash) = flow.hash else {
                mapping.unhashed += 1;
                continue;
            };
            let Some(predicted) = bucket_of(hash, table.len()).and_then(|b| table.get(b)) else {
                continue;
            };
            mapping.flows += 1;
            mapping.checked += consumed;
            predicted_queues.insert(*predicted);
            seen_queues.insert(seen);
            if *predicted == seen {
                mapping.agreeing += consumed;
            } else if consumed > worst {
                worst = consumed;
                mapping.counter_example = Some((hash, *predicted, seen));
            }
        }
        mapping.queues_predicted = predicted_queues.len();
        mapping.queues_seen = seen_queues.len();
        mapping
    }

    /// Share of the checked consumption that follows the table; `None` without evidence.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        (self.checked > 0).then(|| self.agreeing as f64 / self.checked as f64)
    }

    /// Whether the table may be trusted to steer.
    #[must_use]
    pub fn verdict(&self) -> MappingVerdict {
        match self.agreement() {
            Some(share) if self.flows >= Self::FEWEST_FLOWS => {
                if share >= Self::ENOUGH {
                    MappingVerdict::Verified
                } else {
                    MappingVerdict::Unverified
                }
            }
            // Traffic there is, but nothing that ties it to a bucket.
            None if self.unhashed >= Self::FEWEST_FLOWS => MappingVerdict::Unverified,
            _ => MappingVerdict::TooFewFlows,
        }
    }

    /// The evidence as a sentence.
    #[must_use]
    pub fn evidence(&self) -> String {
        let Some(share) = self.agreement() else {
            return match self.unhashed {
                0 => "no flow with a known hash and RX queue was seen".to_owned(),
                flows => format!("no hash is known of any of {flows} flows"),
            };
        };
        let mut text = format!(
            "{:.1} % of {} consumptions of {} flows came through the queue that the indirection \
             table names; predicted on {} queues, seen on {}",
            share * 100.0,
            self.checked,
            self.flows,
            self.queues_predicted,
            self.queues_seen
        );
        if let Some((hash, predicted, seen)) = self.counter_example {
            let _ = write!(
                text,
                "; for example hash {hash:#010x} should be on queue {predicted} and is on {seen}"
            );
        }
        text
    }
}

/// What follows from a [`Mapping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MappingVerdict {
    /// At least 99 % of the samples follow the table.
    Verified,
    /// They do not: the table is not touched.
    Unverified,
    /// Too little traffic to say.
    TooFewFlows,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testkit::flow;

    #[test]
    fn a_nic_that_follows_its_table_is_verified() {
        let table = [0, 1, 2, 3];
        let flows: Vec<Flow> = (0..8).map(|n| flow(n, n % 4, 0)).collect();
        let mapping = Mapping::check(&table, flows.iter().map(|flow| (flow, 10)));
        assert_eq!(mapping.verdict(), MappingVerdict::Verified);
        assert_eq!((mapping.checked, mapping.agreeing), (80, 80));
    }

    #[test]
    fn a_nic_that_ignores_its_table_is_caught() {
        // Everything arrives on queue 0; by the table one flow in four should.
        let table = [0, 1, 2, 3];
        let flows: Vec<Flow> = (0..8).map(|n| flow(n, 0, 0)).collect();
        let mapping = Mapping::check(&table, flows.iter().map(|flow| (flow, 10)));
        assert_eq!(mapping.verdict(), MappingVerdict::Unverified);
        assert_eq!(mapping.agreement(), Some(0.25));
        assert!(mapping.evidence().starts_with("25.0 % of 80 consumptions of 8 flows"));
        assert!(mapping.evidence().contains("should be on queue 1 and is on 0"));
    }

    #[test]
    fn three_flows_prove_nothing() {
        let flows: Vec<Flow> = (0..3).map(|n| flow(n, n, 0)).collect();
        let mapping = Mapping::check(&[0, 1, 2, 3], flows.iter().map(|flow| (flow, 10)));
        assert_eq!(mapping.verdict(), MappingVerdict::TooFewFlows);
    }

    #[test]
    fn an_empty_table_and_unknown_hashes_are_no_evidence() {
        let mut unknown = flow(1, 1, 0);
        unknown.hash = None;
        let known = flow(1, 1, 0);
        assert_eq!(Mapping::check(&[], [(&known, 5)]).agreement(), None);
        assert_eq!(Mapping::check(&[0, 1], [(&unknown, 5)]).agreement(), None);
        let four = Mapping::check(&[0, 1], [(&unknown, 5); 4]);
        assert_eq!(four.verdict(), MappingVerdict::Unverified, "traffic without any hash");
    }
}
