//! The machine's CPUs and how far apart they are.

use serde::{Deserialize, Serialize};

use super::{CpuId, CpuSet};

/// What sysfs says of one online CPU. What it does not say is `None`, never zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuInfo {
    /// Its number.
    pub id: CpuId,
    /// `topology/physical_package_id`; -1 in sysfs is `None` here.
    pub package: Option<u32>,
    /// The `nodeN` link of the CPU's directory.
    pub node: Option<u32>,
    /// `topology/core_cpus_list` (`thread_siblings_list` before 5.2), this CPU included.
    pub smt: CpuSet,
    /// CPUs that share the level-2 data or unified cache, this one included.
    pub l2: Option<CpuSet>,
    /// CPUs that share the highest cache level, this one included.
    pub llc: Option<CpuSet>,
    /// `cpu_capacity`, where cores differ.
    pub capacity: Option<u32>,
}

/// How far apart two CPUs are, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// The same logical CPU.
    SameCore,
    /// Another hardware thread of the same core.
    SmtSibling,
    /// Another core under the same level-2 cache.
    SameL2,
    /// Another core under the same last-level cache.
    SameLlc,
    /// The same NUMA node (or package, where nodes are unknown).
    SameNode,
    /// Anything farther, and anything unknown.
    Remote,
}

impl Distance {
    /// All of them, nearest first.
    pub const ALL: [Self; 6] = [
        Self::SameCore,
        Self::SmtSibling,
        Self::SameL2,
        Self::SameLlc,
        Self::SameNode,
        Self::Remote,
    ];

    /// The name in JSON and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SameCore => "same-core",
            Self::SmtSibling => "smt-sibling",
            Self::SameL2 => "same-l2",
            Self::SameLlc => "same-llc",
            Self::SameNode => "same-node",
            Self::Remote => "remote",
        }
    }

    /// Time to move one cache line over this distance, in nanoseconds: medians of the public
    /// core-to-core-latency measurements on current two-socket x86 servers. A model of the cost,
    /// not a measurement on this machine.
    #[must_use]
    pub fn line_ns(self) -> f64 {
        match self {
            Self::SameCore => 0.0,
            Self::SmtSibling => 8.0,
            Self::SameL2 => 25.0,
            Self::SameLlc => 50.0,
            Self::SameNode => 107.0,
            Self::Remote => 136.0,
        }
    }

    /// The same scale in units of one transfer inside the last-level cache, as the planner uses it.
    #[must_use]
    pub fn weight(self) -> f64 {
        match self {
            Self::SameCore => 0.0,
            Self::SmtSibling => 0.2,
            Self::SameL2 => 0.5,
            Self::SameLlc => 1.0,
            Self::SameNode => 2.0,
            Self::Remote => 3.0,
        }
    }
}

/// The online CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// In rising order of their numbers, which may have gaps.
    pub cpus: Vec<CpuInfo>,
}

impl Topology {
    /// The CPU with this number, if it is online.
    #[must_use]
    pub fn cpu(&self, id: CpuId) -> Option<&CpuInfo> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    /// Numbers of the online CPUs.
    #[must_use]
    pub fn online(&self) -> CpuSet {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }

    /// How far `a` is from `b`. A CPU that is not online, and a relation that sysfs does not tell,
    /// count as far: unknown is never near.
    #[must_use]
    pub fn distance(&self, a: CpuId, b: CpuId) -> Distance {
        if a == b {
            return Distance::SameCore;
        }
        let (Some(left), Some(right)) = (self.cpu(a), self.cpu(b)) else {
            return Distance::Remote;
        };
        let shares = |set: &Option<CpuSet>| set.as_ref().is_some_and(|cpus| cpus.contains(b));
        let same = |x: Option<u32>, y: Option<u32>| x.is_some() && x == y;
        if left.smt.contains(b) {
            Distance::SmtSibling
        } else if shares(&left.l2) {
            Distance::SameL2
        } else if shares(&left.llc) {
            Distance::SameLlc
        } else if same(left.node, right.node)
            || (left.node.is_none() && same(left.package, right.package))
        {
            Distance::SameNode
        } else {
            Distance::Remote
        }
    }

    /// A machine for tests and simulations: `nodes` sockets of `cores` cores with `smt` hardware
    /// threads, one last-level cache a socket. CPU numbers run through the threads of a core first.
    #[must_use]
    pub fn regular(nodes: u32, cores: u32, smt: u32) -> Self {
        let mut cpus = Vec::new();
        for node in 0..nodes {
            let first = node * cores * smt;
            for core in 0..cores {
                let threads: CpuSet = (0..smt).map(|thread| first + core * smt + thread).collect();
                for id in threads.iter() {
                    cpus.push(CpuInfo {
                        id,
                        package: Some(node),
                        node: Some(node),
                        smt: threads.clone(),
                        l2: Some(threads.clone()),
                        llc: Some((first..first + cores * smt).collect()),
                        capacity: None,
                    });
                }
            }
        }
        Self { cpus }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sockets_with_smt() {
        // socket 0: cores (0,1) (2,3); socket 1: cores (4,5) (6,7)
        let machine = Topology::regular(2, 2, 2);
        assert_eq!(machine.distance(0, 0), Distance::SameCore);
        assert_eq!(machine.distance(0, 1), Distance::SmtSibling);
        assert_eq!(machine.distance(0, 2), Distance::SameLlc);
        assert_eq!(machine.distance(0, 4), Distance::Remote);
        assert_eq!(machine.distance(0, 99), Distance::Remote);
    }

    #[test]
    fn what_sysfs_does_not_tell_is_far() {
        let mut machine = Topology::regular(1, 2, 1);
        for cpu in &mut machine.cpus {
            cpu.llc = None;
            cpu.node = None;
        }
        assert_eq!(machine.distance(0, 1), Distance::SameNode, "same package");
        for cpu in &mut machine.cpus {
            cpu.package = None;
        }
        assert_eq!(machine.distance(0, 1), Distance::Remote);
    }
}
