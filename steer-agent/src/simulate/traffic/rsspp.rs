//! RSS++ as its authors' method goes: move the biggest buckets of overloaded CPUs to underloaded ones.
//!
//! Loads are relative to the average CPU. A bucket leaves the most overloaded CPU for the most
//! underloaded one that has room for it, until the overload is gone. What room and overload may be
//! exceeded by is inflated from run to run; the run of least squared imbalance is kept.

use crate::simulate::seen::Nic;

/// Imbalance that is left alone, as a share of the average.
const THRESHOLD: f64 = 0.02;
/// Runs with rising inflation.
const RUNS: u32 = 8;

/// The NIC as RSS++ would have it; `load` is each bucket's, `cpus` how many CPUs there are.
pub(super) fn rebalance(nic: &Nic, load: &[f64], cpus: usize) -> Nic {
    let mut queue_of = vec![None; cpus];
    for (queue, cpu) in nic.affinity.iter().enumerate() {
        queue_of[*cpu].get_or_insert(queue);
    }
    let hosts: Vec<usize> = (0..cpus).filter(|cpu| queue_of[*cpu].is_some()).collect();
    let mean = load.iter().sum::<f64>() / hosts.len().max(1) as f64;
    if mean <= 0.0 {
        return nic.clone();
    }
    let mut surplus = vec![0.0; cpus];
    let mut buckets = vec![Vec::new(); cpus];
    for cpu in &hosts {
        surplus[*cpu] = -1.0;
    }
    for (bucket, load) in load.iter().enumerate() {
        let host = nic.host(bucket);
        surplus[host] += load / mean;
        buckets[host].push(bucket);
    }
    for own in &mut buckets {
        own.sort_by(|a, b| load[*b].total_cmp(&load[*a]).then(a.cmp(b)));
    }
    let squared = |surplus: &[f64]| hosts.iter().map(|cpu| surplus[*cpu].powi(2)).sum::<f64>();
    let mut best = (squared(&surplus), None);
    for run in 0..RUNS {
        let inflation = f64::from(run) * THRESHOLD * 2.0;
        let mut trial = Run { surplus: surplus.clone(), moves: Vec::new() };
        trial.go(&hosts, &buckets, |bucket| load[bucket] / mean, inflation);
        let imbalance = squared(&trial.surplus);
        if imbalance < best.0 {
            best = (imbalance, Some(trial.moves));
        }
    }
    let mut next = nic.clone();
    for (bucket, cpu) in best.1.into_iter().flatten() {
        if let Some(queue) = queue_of[cpu] {
            next.table[bucket] = queue;
        }
    }
    next
}

struct Run {
    surplus: Vec<f64>,
    moves: Vec<(usize, usize)>,
}

impl Run {
    fn go(
        &mut self,
        hosts: &[usize],
        buckets: &[Vec<usize>],
        load: impl Fn(usize) -> f64,
        inflation: f64,
    ) {
        let mut next_of = vec![0; buckets.len()];
        let mut overloaded: Vec<usize> =
            hosts.iter().copied().filter(|cpu| self.surplus[*cpu] > THRESHOLD).collect();
        while let Some(at) = (0..overloaded.len())
            .max_by(|a, b| self.surplus[overloaded[*a]].total_cmp(&self.surplus[overloaded[*b]]))
        {
            let from = overloaded[at];
            let Some(bucket) = buckets[from].get(next_of[from]).copied() else {
                overloaded.swap_remove(at);
                continue;
            };
            next_of[from] += 1;
            let size = load(bucket);
            let most_room =
                hosts.iter().copied().min_by(|a, b| self.surplus[*a].total_cmp(&self.surplus[*b]));
            if let Some(to) = most_room
                && size > 0.0
                && size < inflation - self.surplus[to]
                && size < self.surplus[from] + inflation
            {
                self.surplus[from] -= size;
                self.surplus[to] += size;
                self.moves.push((bucket, to));
            }
            if self.surplus[from] <= THRESHOLD {
                overloaded.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_biggest_bucket_that_fits_goes_to_the_emptiest_cpu() {
        // Two CPUs, four buckets on the first: 4, 3, 2 and 1. The average is 5; 4 goes, and then 1.
        let nic = Nic { table: vec![0, 0, 0, 0], affinity: vec![0, 1] };
        let next = rebalance(&nic, &[4.0, 3.0, 2.0, 1.0], 2);
        assert_eq!(next.table, [1, 0, 0, 1]);
        assert_eq!(next.affinity, nic.affinity);
    }

    #[test]
    fn balance_and_silence_are_left_alone() {
        let nic = Nic { table: vec![0, 1], affinity: vec![0, 1] };
        assert_eq!(rebalance(&nic, &[1.0, 1.01], 2), nic);
        assert_eq!(rebalance(&nic, &[0.0, 0.0], 2), nic);
    }
}
