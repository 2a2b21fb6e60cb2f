//! What a policy is shown of the last period, and the NIC that it may change.

use crate::model::Topology;

/// A NIC: a queue for each entry, a CPU for each queue, all by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nic {
    pub(super) table: Vec<usize>,
    pub(super) affinity: Vec<usize>,
}

impl Nic {
    /// Equal table, queues spread over the CPUs.
    pub(super) fn new(buckets: usize, queues: usize, cpus: usize) -> Self {
        Self {
            table: (0..buckets).map(|bucket| bucket % queues).collect(),
            affinity: (0..queues).map(|queue| queue * cpus / queues).collect(),
        }
    }

    /// The CPU that receives a bucket.
    pub(super) fn host(&self, bucket: usize) -> usize {
        self.affinity[self.table[bucket]]
    }

    /// Becomes `next`, and says what that took; `load` is each bucket's.
    pub(super) fn become_like(&mut self, next: Self, load: &[f64]) -> Changes {
        let mut changes = Changes::default();
        for ((was, is), load) in self.table.iter().zip(&next.table).zip(load) {
            if was != is {
                changes.entries += 1;
                changes.load += load;
            }
        }
        changes.irqs =
            self.affinity.iter().zip(&next.affinity).filter(|(was, is)| was != is).count();
        *self = next;
        changes
    }
}

/// What a policy changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Table entries.
    pub(super) entries: usize,
    /// Packets per second of their buckets.
    pub(super) load: f64,
    /// Interrupts.
    pub(super) irqs: usize,
}

/// Consumption by bucket and CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    cpus: usize,
    cells: Vec<f64>,
}

impl Demand {
    pub(super) fn new(buckets: usize, cpus: usize) -> Self {
        Self { cpus, cells: vec![0.0; buckets * cpus] }
    }

    pub(super) fn add(&mut self, bucket: usize, cpu: usize, amount: f64) {
        self.cells[bucket * self.cpus + cpu] += amount;
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.cells.chunks(self.cpus.max(1))
    }

    pub(super) fn clear(&mut self) {
        self.cells.fill(0.0);
    }
}

/// The last period, as a policy sees it. Rates are per second.
pub(super) struct Seen<'a> {
    pub(super) topology: &'a Topology,
    pub(super) nic: &'a Nic,
    /// Packets per second by bucket.
    pub(super) load: &'a [f64],
    /// Consumption of flows that last.
    pub(super) lasting: &'a Demand,
    /// Share of a flow's consumption on the CPU that consumed most of it.
    pub(super) residency: Option<f64>,
    /// CPU time of a packet, as a share of a CPU per packet per second.
    pub(super) time_per_packet: f64,
}
