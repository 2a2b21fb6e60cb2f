//! Machines of regular shape: nodes of last-level caches of CPUs without hardware threads.

use serde::{Deserialize, Serialize};

use crate::model::{CpuId, CpuInfo, CpuSet, Topology};

/// How many CPUs there are and what they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// NUMA nodes.
    pub nodes: u32,
    /// Last-level caches of a node.
    pub llcs_per_node: u32,
    /// CPUs under a last-level cache.
    pub cpus_per_llc: u32,
}

impl Machine {
    /// Number of CPUs.
    #[must_use]
    pub fn cpus(self) -> usize {
        [self.nodes, self.llcs_per_node, self.cpus_per_llc]
            .into_iter()
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
            .fold(1, usize::saturating_mul)
    }

    /// The CPUs, numbered cache by cache and node by node.
    #[must_use]
    pub fn topology(self) -> Topology {
        let caches = (0..self.nodes).flat_map(|node| {
            (0..self.llcs_per_node).map(move |cache| (node, node * self.llcs_per_node + cache))
        });
        let cpus = caches.flat_map(|(node, cache)| {
            let first = cache * self.cpus_per_llc;
            let under: CpuSet = (first..first + self.cpus_per_llc).collect();
            (first..first + self.cpus_per_llc).map(move |id| CpuInfo {
                id,
                package: Some(node),
                node: Some(node),
                smt: CpuSet::single(id),
                l2: Some(CpuSet::single(id)),
                llc: Some(under.clone()),
                capacity: None,
            })
        });
        Topology { cpus: cpus.collect() }
    }

    /// Cost of a packet between any two CPUs, row by row, in transfers inside a last-level cache.
    pub(super) fn distances(self) -> Vec<f64> {
        let topology = self.topology();
        let ids = || topology.cpus.iter().map(|cpu| cpu.id);
        ids()
            .flat_map(|from| ids().map(move |to| (from, to)))
            .map(|(from, to)| topology.distance(from, to).weight())
            .collect()
    }
}

/// The number of a CPU that is known by its index. Machines here have at most [`MOST_CPUS`].
pub(super) fn cpu_id(index: usize) -> CpuId {
    CpuId::try_from(index).unwrap_or(CpuId::MAX)
}

/// Largest machine that is simulated.
pub(super) const MOST_CPUS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_distances_are_those_of_the_table() {
        // 16 CPUs under two caches: (7 x 1 + 8 x 2) / 16; 64 CPUs on two nodes of four caches:
        // (7 x 1 + 24 x 2 + 32 x 3) / 64.
        for (nodes, llcs_per_node, expected) in [(1, 2, 1.4375), (2, 4, 2.359_375)] {
            let machine = Machine { nodes, llcs_per_node, cpus_per_llc: 8 };
            let distances = machine.distances();
            let mean = distances.iter().sum::<f64>() / distances.len() as f64;
            assert!((mean - expected).abs() < 1e-9, "{mean}");
            assert_eq!(machine.topology().cpus.len(), machine.cpus());
        }
    }
}
