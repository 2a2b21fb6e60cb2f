//! Random problems of twelve kinds, for tests, benchmarks and the table of proven optima.
//!
//! Traffic is drawn flow by flow: each flow has a bucket, a consumer and a rate. The kinds differ
//! in how many flows there are, how heavy the heaviest are, where they are consumed, and how many
//! queues and CPUs may take them.

use super::{Distances, Problem, Rows};

/// What is special about a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Two equal flows per bucket.
    FewFlows,
    /// Thirty-two equal flows per bucket.
    ManyFlows,
    /// Rates by rank, exponent 1.2.
    Zipf,
    /// Rates Pareto, exponent 1.2.
    Pareto,
    /// A few long-lived connections carry half of everything.
    BackEnds,
    /// Four fifths of the consumption on the first node.
    NumaSkewed,
    /// Consumers of very different appetite.
    SkewedConsumers,
    /// One bucket carries a third of everything.
    HotBucket,
    /// A third as many queues as CPUs.
    FewQueues,
    /// Half as many queues again as CPUs.
    ManyQueues,
    /// A third of the CPUs may not be used.
    Disallowed,
    /// Only the far half of the machine may be used.
    FarNode,
}

impl Family {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::FewFlows,
        Self::ManyFlows,
        Self::Zipf,
        Self::Pareto,
        Self::BackEnds,
        Self::NumaSkewed,
        Self::SkewedConsumers,
        Self::HotBucket,
        Self::FewQueues,
        Self::ManyQueues,
        Self::Disallowed,
        Self::FarNode,
    ];
}

/// Which problem of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Its kind.
    pub family: Family,
    /// Number of buckets.
    pub buckets: usize,
    /// Number of CPUs, and of queues unless the family says otherwise.
    pub cpus: usize,
    /// Price of moved load.
    pub lambda_move: f64,
    /// Whether entries and affinities that may change are few.
    pub limited: bool,
    /// Chooses everything else.
    pub seed: u64,
}

/// `SplitMix64`, as in the solver; kept apart so that a change there does not change the problems.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((u128::from(self.next()) * bound as u128) >> 64).unwrap_or(0)
    }

    fn pareto(&mut self, exponent: f64) -> f64 {
        (1.0 - self.share()).powf(-1.0 / exponent)
    }

    /// An index, each with the chance that `weights` give it.
    fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.share() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len() - 1
    }
}

/// Distances of a machine of two nodes, caches of up to eight CPUs, and pairs of hardware threads
/// from eight CPUs on, in transfers inside a cache.
#[must_use]
pub fn machine(cpus: usize) -> Distances {
    let node = cpus.div_ceil(2);
    let cache = (cpus / 4).clamp(2, 8);
    let thread = if cpus >= 8 { 2 } else { 1 };
    let mut cells = Vec::with_capacity(cpus * cpus);
    for from in 0..cpus {
        for to in 0..cpus {
            let (near, far) = (from % node, to % node);
            cells.push(if from == to {
                0.0
            } else if from / node != to / node {
                3.0
            } else if near / thread == far / thread {
                0.2
            } else if near / cache == far / cache {
                1.0
            } else {
                2.0
            });
        }
    }
    Distances::new(cpus, cells).unwrap_or_default()
}

impl Recipe {
    /// The problem.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (buckets, cpus) = (self.buckets, self.cpus);
        let mut draw = Draw(self.seed.wrapping_mul(0x1000_0000_01b3) ^ (self.family as u64) << 56);
        let queues = match self.family {
            Family::FewQueues => (cpus / 3).max(1),
            Family::ManyQueues => cpus + cpus / 2,
            _ => cpus,
        };
        let allowed: Vec<usize> = match self.family {
            Family::Disallowed => (0..cpus).filter(|cpu| cpu % 3 != 1).collect(),
            Family::FarNode => (cpus / 2..cpus).collect(),
            _ => (0..cpus).collect(),
        };
        let rows = self.traffic(&mut draw);
        let load: Vec<f64> = rows
            .iter()
            .map(|row| row.iter().map(|(_, rate)| rate).sum::<f64>() * (0.8 + 0.4 * draw.share()))
            .collect();
        let mut affinity: Vec<usize> =
            (0..queues).map(|queue| allowed[queue % allowed.len()]).collect();
        if draw.share() < 0.3 {
            for last in (1..queues).rev() {
                affinity.swap(last, draw.below(last + 1));
            }
        }
        let mut table: Vec<usize> = (0..buckets).map(|bucket| bucket % queues).collect();
        if draw.share() < 0.5 {
            for queue in &mut table {
                if draw.share() < 0.5 {
                    *queue = draw.below(queues);
                }
            }
        }
        let mut consumed = Rows::default();
        for row in rows {
            consumed.push(row);
        }
        let total: f64 = load.iter().sum();
        let cap = 1.1 * total / queues.min(allowed.len()) as f64;
        Problem {
            cpus,
            allowed,
            table,
            affinity,
            distance: machine(cpus),
            consumed,
            load,
            cap: vec![cap; cpus],
            lambda_load: 8.0,
            lambda_move: self.lambda_move,
            kappa: 0.5,
            max_table_changes: self.limited.then_some((buckets / 8).max(2)),
            max_affinity_changes: self.limited.then_some(2),
            ..Problem::default()
        }
    }

    /// Consumption of each bucket as (CPU, rate), each CPU once.
    fn traffic(&self, draw: &mut Draw) -> Vec<Vec<(usize, f64)>> {
        let (buckets, cpus) = (self.buckets, self.cpus);
        let flows = match self.family {
            Family::ManyFlows => 32 * buckets,
            Family::FewFlows | Family::HotBucket => 2 * buckets,
            _ => 8 * buckets,
        };
        let appetite: Vec<f64> = match self.family {
            Family::NumaSkewed => {
                (0..cpus).map(|cpu| if cpu < cpus.div_ceil(2) { 4.0 } else { 1.0 }).collect()
            }
            Family::SkewedConsumers => (0..cpus).map(|_| draw.pareto(1.0).min(20.0)).collect(),
            _ => vec![1.0; cpus],
        };
        let mut rows = vec![vec![0.0; cpus]; buckets];
        for flow in 0..flows {
            let rate = match self.family {
                Family::Zipf => 1000.0 * ((flow + 1) as f64).powf(-1.2),
                Family::Pareto | Family::NumaSkewed => draw.pareto(1.2).min(flows as f64 / 10.0),
                Family::SkewedConsumers => draw.pareto(1.5).min(flows as f64 / 10.0),
                Family::BackEnds if flow < 4 * cpus => flows as f64 / (4 * cpus) as f64,
                _ => 0.5 + draw.share(),
            };
            rows[draw.below(buckets)][draw.weighted(&appetite)] += rate;
        }
        if self.family == Family::HotBucket {
            let total: f64 = rows.iter().flatten().sum();
            let (hot, cpu) = (draw.below(buckets), draw.below(cpus));
            rows[hot][cpu] += 0.5 * total;
        }
        let filled = |row: Vec<f64>| row.into_iter().enumerate().filter(|(_, rate)| *rate > 0.0);
        rows.into_iter().map(|row| filled(row).collect()).collect()
    }
}
