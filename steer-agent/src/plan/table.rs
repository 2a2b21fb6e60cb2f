//! Which queue each bucket is to be given to.

use std::collections::BTreeMap;

use super::{Pace, Problem};
use crate::model::{CpuId, QueueId};

/// The new table: every bucket that gains by it goes to the queue on the CPU that consumes most of
/// it, largest gain first, within the load that this CPU may take and the moves of the period.
pub(super) fn choose(
    problem: &Problem<'_>,
    cpus: &[Option<CpuId>],
    pace: Pace,
    reasons: &mut Vec<String>,
) -> Vec<QueueId> {
    let mut table = problem.table.to_vec();
    let mut loads = Loads::new(problem, cpus);
    let mut candidates: Vec<Candidate> = (0..table.len())
        .filter_map(|bucket| Candidate::of(problem, cpus, bucket, &loads))
        .collect();
    candidates.sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.bucket.cmp(&b.bucket)));
    let most = match pace {
        Pace::First => usize::MAX,
        Pace::Steady => problem.policy.most_bucket_moves(table.len()),
    };
    let waiting = candidates.len().saturating_sub(most);
    candidates.truncate(most);

    // All candidates move at once, for two CPUs that exchange buckets would block each other one
    // by one. Then whoever received too much gives back, least gain first, until nobody has to.
    for candidate in &candidates {
        loads.shift(candidate.from, candidate.cpu, candidate.load);
    }
    let movers = candidates.len();
    while let Some(index) = candidates.iter().rposition(|moved| loads.exceeds(moved.cpu)) {
        let back = candidates.remove(index);
        loads.shift(Some(back.cpu), back.from, back.load);
    }
    let too_heavy = movers - candidates.len();
    for candidate in candidates {
        table[candidate.bucket] = candidate.queue;
    }
    if too_heavy > 0 {
        reasons.push(format!(
            "{too_heavy} buckets stay: the CPU of their consumer would carry more than {:.0} % \
             above the average and more than {:.0} % of its time",
            problem.policy.load_slack * 100.0,
            problem.policy.softirq_cap * 100.0
        ));
    }
    if waiting > 0 {
        reasons.push(format!("{waiting} buckets wait: at most {most} move in one period"));
    }
    table
}

/// A bucket that would gain by moving.
struct Candidate {
    bucket: usize,
    queue: QueueId,
    from: Option<CpuId>,
    cpu: CpuId,
    gain: f64,
    load: f64,
}

impl Candidate {
    fn of(
        problem: &Problem<'_>,
        cpus: &[Option<CpuId>],
        bucket: usize,
        loads: &Loads,
    ) -> Option<Self> {
        let current = problem.table[bucket];
        let from = problem.cpu_of(current, cpus);
        let total: f64 = problem.demand[bucket].iter().map(|(_, rate)| rate).sum();
        // The heaviest consumer that has a queue; of equals the lowest CPU.
        let (cpu, rate) = problem.demand[bucket]
            .iter()
            .filter(|(cpu, _)| cpus.contains(&Some(*cpu)))
            .copied()
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        let gain = rate - problem.demand_on(bucket, from);
        if gain <= 0.0 || gain < problem.policy.least_gain * total {
            return None;
        }
        // Of several queues on that CPU the least loaded, then the lowest.
        let queue = problem
            .world
            .queues
            .iter()
            .zip(cpus)
            .filter(|(_, planned)| **planned == Some(cpu))
            .map(|(world, _)| world.queue)
            .min_by(|a, b| loads.queue(*a).total_cmp(&loads.queue(*b)).then(a.cmp(b)))?;
        let load = problem.load.get(bucket).copied().unwrap_or(0.0);
        Some(Self { bucket, queue, from, cpu, gain, load })
    }
}

/// Projected packets per second by CPU and by queue while buckets move.
struct Loads {
    by_cpu: BTreeMap<CpuId, f64>,
    by_queue: BTreeMap<QueueId, f64>,
    /// Most that a CPU may be given, packets per second.
    cap: f64,
}

impl Loads {
    fn new(problem: &Problem<'_>, cpus: &[Option<CpuId>]) -> Self {
        let mut by_cpu: BTreeMap<CpuId, f64> =
            cpus.iter().flatten().map(|cpu| (*cpu, 0.0)).collect();
        let mut by_queue = BTreeMap::new();
        for (queue, load) in problem.table.iter().zip(problem.load) {
            *by_queue.entry(*queue).or_insert(0.0) += load;
            if let Some(cpu) = problem.cpu_of(*queue, cpus) {
                *by_cpu.entry(cpu).or_insert(0.0) += load;
            }
        }
        let total: f64 = by_queue.values().sum();
        let average = total / by_cpu.len().max(1) as f64;
        let relative = average * (1.0 + problem.policy.load_slack);
        let absolute = packets_in(problem, problem.policy.softirq_cap, total);
        Self { by_cpu, by_queue, cap: relative.max(absolute.unwrap_or(0.0)) }
    }

    fn queue(&self, queue: QueueId) -> f64 {
        self.by_queue.get(&queue).copied().unwrap_or(0.0)
    }

    fn exceeds(&self, cpu: CpuId) -> bool {
        self.by_cpu.get(&cpu).copied().unwrap_or(0.0) > self.cap
    }

    fn shift(&mut self, from: Option<CpuId>, to: impl Into<Option<CpuId>>, load: f64) {
        for (cpu, change) in [(from, -load), (to.into(), load)] {
            if let Some(cpu) = cpu {
                *self.by_cpu.entry(cpu).or_insert(0.0) += change;
            }
        }
    }
}

/// How many packets per second a share `cpu_share` of one CPU's time can take, from what packets
/// cost in the window: all softirq time over all packets, which counts other softirq work in and so
/// errs towards caution. `None` where softirq time is unknown or nothing arrived.
fn packets_in(problem: &Problem<'_>, cpu_share: f64, packets_per_s: f64) -> Option<f64> {
    let busy: f64 = problem.softirq_share?.iter().map(|(_, share)| share).sum();
    (busy > 0.0 && packets_per_s > 0.0).then(|| cpu_share * packets_per_s / busy)
}
