//! Which buckets come to which CPU, and what that is worth.

use std::collections::BTreeMap;

use steer_common::connect::Span;

use crate::model::{CpuId, Distance, QueueId, Topology};

/// The buckets of one NIC by the CPU that they come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// The buckets, those of one CPU side by side.
    pub buckets: Vec<u32>,
    /// By number of the CPU: the piece of `buckets` that its connections are to come back in. Empty
    /// where no queue is near.
    pub spans: Vec<Span>,
    /// How many buckets come to each CPU itself.
    own: BTreeMap<CpuId, usize>,
}

/// Share of replies on the CPU that connected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// By chance.
    pub without: f64,
    /// If every connection is steered.
    pub with: f64,
}

impl Near {
    /// `table` is the queue by bucket, `polled_on` where each queue is polled; what is not known
    /// there is left out. A CPU without a queue gets those of the nearest CPU that has one, up to
    /// `farthest`; of several that are as near it takes one by its number, so that two such CPUs do
    /// not load the same one where there is a choice.
    #[must_use]
    pub fn new(
        table: &[QueueId],
        polled_on: &BTreeMap<QueueId, CpuId>,
        topology: &Topology,
        farthest: Distance,
    ) -> Self {
        let mut by_cpu: BTreeMap<CpuId, Vec<u32>> = BTreeMap::new();
        for (bucket, queue) in (0..).zip(table) {
            if let Some(cpu) = polled_on.get(queue) {
                by_cpu.entry(*cpu).or_default().push(bucket);
            }
        }
        let mut buckets = Vec::new();
        let mut pieces = BTreeMap::new();
        let length = |piece: &[u32]| u32::try_from(piece.len()).unwrap_or(u32::MAX);
        for (cpu, piece) in &by_cpu {
            pieces.insert(*cpu, Span { start: length(&buckets), length: length(piece) });
            buckets.extend(piece);
        }
        let cpus = topology.cpus.iter().map(|cpu| cpu.id + 1).max().unwrap_or(0);
        let spans = (0..cpus)
            .map(|cpu| nearest(cpu, topology, &pieces, farthest).unwrap_or_default())
            .collect();
        let own = by_cpu.into_iter().map(|(cpu, piece)| (cpu, piece.len())).collect();
        Self { buckets, spans, own }
    }

    /// What connections made on these CPUs (number, how many) can expect; `None` without any.
    #[must_use]
    pub fn outlook(&self, connects: &[(CpuId, u64)]) -> Option<Outlook> {
        let total: u64 = connects.iter().map(|(_, count)| count).sum();
        if total == 0 || self.buckets.is_empty() {
            return None;
        }
        let mut outlook = Outlook::default();
        for (cpu, count) in connects {
            let own = self.own.get(cpu).copied().unwrap_or(0);
            let weight = *count as f64 / total as f64;
            outlook.without += weight * own as f64 / self.buckets.len() as f64;
            outlook.with += if own > 0 { weight } else { 0.0 };
        }
        Some(outlook)
    }
}

fn nearest(
    cpu: CpuId,
    topology: &Topology,
    pieces: &BTreeMap<CpuId, Span>,
    farthest: Distance,
) -> Option<Span> {
    topology.cpu(cpu)?;
    let near = pieces.keys().map(|other| topology.distance(cpu, *other)).min()?;
    if near > farthest {
        return None;
    }
    let equal: Vec<Span> = pieces
        .iter()
        .filter(|(other, _)| topology.distance(cpu, **other) == near)
        .map(|(_, span)| *span)
        .collect();
    equal.get(cpu as usize % equal.len().max(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(near: &Near, cpu: usize) -> Vec<u32> {
        let span = near.spans[cpu];
        near.buckets[span.start as usize..(span.start + span.length) as usize].to_vec()
    }

    #[test]
    fn each_cpu_has_the_buckets_of_its_queues() {
        // queue 0 on CPU 1, queues 1 and 2 on CPU 0, queue 3 nobody knows where
        let polled = BTreeMap::from([(0, 1), (1, 0), (2, 0)]);
        let near = Near::new(
            &[0, 1, 2, 3, 0, 1, 2, 3],
            &polled,
            &Topology::regular(1, 2, 1),
            Distance::SameCore,
        );
        assert_eq!(buckets(&near, 0), [1, 2, 5, 6]);
        assert_eq!(buckets(&near, 1), [0, 4]);
    }

    #[test]
    fn who_has_no_queue_takes_a_neighbours() {
        // Two sockets of two cores with two threads; queues on CPU 0 and CPU 2 alone.
        let topology = Topology::regular(2, 2, 2);
        let polled = BTreeMap::from([(0, 0), (1, 2)]);
        let near = Near::new(&[0, 1], &polled, &topology, Distance::SameLlc);
        assert_eq!(buckets(&near, 0), [0]);
        assert_eq!(buckets(&near, 1), [0], "the other thread of CPU 0's core");
        assert_eq!(buckets(&near, 3), [1], "the other thread of CPU 2's core");
        assert!(buckets(&near, 4).is_empty(), "the other socket is too far");
        let near = Near::new(&[0, 1], &polled, &topology, Distance::Remote);
        // As far from both: even CPUs take one, odd ones the other.
        assert_eq!((buckets(&near, 4), buckets(&near, 5)), (vec![0], vec![1]));
        let strict = Near::new(&[0, 1], &polled, &topology, Distance::SameCore);
        assert!(buckets(&strict, 1).is_empty());
    }

    #[test]
    fn the_outlook_weighs_cpus_by_their_connections() {
        // CPU 0 has three of four buckets, CPU 1 one, CPU 2 none.
        let polled = BTreeMap::from([(0, 0), (1, 1)]);
        let topology = Topology::regular(1, 4, 1);
        let near = Near::new(&[0, 0, 0, 1], &polled, &topology, Distance::SameLlc);
        let outlook = near.outlook(&[(0, 50), (1, 25), (2, 25)]).expect("told");
        assert!((outlook.without - (0.5 * 0.75 + 0.25 * 0.25)).abs() < 1e-12);
        assert!((outlook.with - 0.75).abs() < 1e-12);
        assert_eq!(near.outlook(&[]), None);
        assert_eq!(Near::default().outlook(&[(0, 1)]), None);
    }
}
