//! What a NIC shares with the other NICs of its machine: CPUs, and the room on them.

use std::collections::BTreeMap;

use super::Plan;
use crate::model::{CpuId, NicWorld, QueueWorld, TcpSegments, Topology, World};

/// The machine around one NIC.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    /// Online CPUs.
    pub topology: &'a Topology,
    /// Share of each CPU's time in softirq, 0 to 1, where known.
    pub softirq_share: Option<&'a [(CpuId, f64)]>,
    /// TCP segments within the window, where known.
    pub tcp: Option<TcpSegments>,
    /// Packets per second that other NICs bring to each CPU; a CPU may come up more than once.
    pub others: Vec<(CpuId, f64)>,
}

impl<'a> Host<'a> {
    /// A machine with one NIC.
    #[must_use]
    pub fn alone(topology: &'a Topology, softirq_share: Option<&'a [(CpuId, f64)]>) -> Self {
        Self { topology, softirq_share, tcp: None, others: Vec::new() }
    }

    /// The CPU that spends most of its time in softirq, and the share.
    #[must_use]
    pub fn busiest(&self) -> Option<(CpuId, f64)> {
        let shares = self.softirq_share?.iter().copied();
        shares.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Packets per second that other NICs bring to `cpu`.
    #[must_use]
    pub fn others_on(&self, cpu: CpuId) -> f64 {
        self.others.iter().filter(|(id, _)| *id == cpu).map(|(_, rate)| rate).sum()
    }
}

/// The NICs of a machine while they are planned one after the other: each sees those before it where
/// they are to be, and those after it where they are.
#[derive(Clone, Debug)]
pub struct Shared<'a> {
    world: &'a World,
    /// Packets per second by CPU, by interface index.
    loads: BTreeMap<u32, Vec<(CpuId, f64)>>,
}

impl<'a> Shared<'a> {
    /// All where they are.
    #[must_use]
    pub fn new(world: &'a World) -> Self {
        let loads = world.nics.iter().map(|nic| (nic.nic.ifindex, present(nic))).collect();
        Self { world, loads }
    }

    /// What is around `nic`.
    #[must_use]
    pub fn around(&self, nic: &NicWorld) -> Host<'a> {
        let others = self.loads.iter().filter(|(ifindex, _)| **ifindex != nic.nic.ifindex);
        Host {
            tcp: self.world.tcp,
            others: others.flat_map(|(_, loads)| loads.iter().copied()).collect(),
            ..Host::alone(&self.world.topology, self.world.softirq_share.as_deref())
        }
    }

    /// From now on `nic` is where `plan` leads.
    pub fn follow(&mut self, nic: &NicWorld, plan: &Plan) {
        if !plan.is_empty() {
            self.loads.insert(nic.nic.ifindex, plan.carried.clone());
        }
    }
}

/// Packets per second of a NIC by CPU, as seen.
fn present(nic: &NicWorld) -> Vec<(CpuId, f64)> {
    let of = |queue: &QueueWorld| Some((queue.napi_cpu()?, queue.packets_per_s));
    nic.queues.iter().filter_map(of).collect()
}
