//! A NIC and its traffic as a [`solve::Problem`], and its solution as CPUs and queues again.

use std::collections::{BTreeMap, BTreeSet};

use super::capacity;
use super::pins::Traffic;
use super::solve::{self, Distances, NONE, Pins, Rows};
use super::{Experience, Forecast, Host, Pace};
use crate::model::{CpuId, Distance, NicWorld, Queue, QueueId, QueueWorld};
use crate::policy::{Placement, Policy};

/// What is planned by: one NIC, its machine, what is known of the load, and the policy.
pub(super) struct Setting<'a> {
    pub(super) world: &'a NicWorld,
    pub(super) host: &'a Host<'a>,
    pub(super) policy: &'a Policy,
    pub(super) experience: &'a Experience,
    pub(super) table: &'a [QueueId],
    pub(super) demand: &'a [Vec<(CpuId, f64)>],
    pub(super) load: &'a [f64],
    /// `demand` and `load` again, and what exact-match rules tie to queues.
    pub(super) traffic: &'a Traffic<'a>,
}

/// A table and a CPU for each queue (by position in `world.queues`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arrangement {
    pub(super) table: Vec<QueueId>,
    pub(super) cpus: Vec<Option<CpuId>>,
}

/// CPUs by their index in a problem. The last index of all stands for a CPU that is not known: far
/// from everything, with no room for load.
pub(super) struct Indices(Vec<CpuId>);

impl Indices {
    pub(super) fn of(&self, cpu: Option<CpuId>) -> usize {
        cpu.and_then(|cpu| self.0.binary_search(&cpu).ok()).unwrap_or(self.0.len())
    }

    pub(super) fn cpu(&self, index: usize) -> Option<CpuId> {
        self.0.get(index).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() + 1
    }
}

impl Setting<'_> {
    /// Where everything is now.
    pub(super) fn present(&self) -> Arrangement {
        Arrangement {
            table: self.table.to_vec(),
            cpus: self.world.queues.iter().map(QueueWorld::napi_cpu).collect(),
        }
    }

    /// Cost of a consumption over `distance`. While consumers roam nothing is near or far: where they
    /// are now they are not in a moment, and only load counts. By caches instead of cores would still
    /// move for ever under a scheduler that has more threads than CPUs.
    pub(super) fn weight(&self, distance: Distance) -> f64 {
        if self.experience.is_braking() {
            return 0.0;
        }
        weight(self.policy.placement, distance)
    }

    /// CPUs that interrupts may be given to.
    pub(super) fn allowed(&self) -> BTreeSet<CpuId> {
        let online = self.host.topology.cpus.iter().map(|cpu| cpu.id);
        online.filter(|cpu| self.policy.allows(*cpu)).collect()
    }

    /// Whether the table is not to be written, whatever it would gain.
    fn keeps_table(&self) -> bool {
        !self.policy.move_table || self.policy.table_refusal(&self.world.nic).is_some()
    }

    /// Whether steer can and may move the interrupt of `queue`.
    pub(super) fn is_movable(&self, queue: &Queue) -> bool {
        self.policy.move_irqs && queue.is_movable()
    }

    /// Whether the interrupt of `queue` stays where it is in this plan.
    fn stays(&self, queue: &Queue) -> bool {
        !self.is_movable(queue) || self.experience.queue_rests(queue.id)
    }

    pub(super) fn indices(&self) -> Indices {
        let online = self.host.topology.cpus.iter().map(|cpu| cpu.id);
        let queues = self.world.queues.iter().filter_map(QueueWorld::napi_cpu);
        let consumers = self.demand.iter().flatten().map(|(cpu, _)| *cpu);
        let pinned = self.traffic.tied.entries().map(|(_, cpu, _)| cpu);
        let all: BTreeSet<CpuId> = online.chain(queues).chain(consumers).chain(pinned).collect();
        Indices(all.into_iter().collect())
    }

    /// The problem: `pace` sets the limits, `move_price` is in transfers per consumption. `None`
    /// where no CPU may be given interrupts or no queue is known.
    pub(super) fn problem(
        &self,
        indices: &Indices,
        pace: Pace,
        move_price: f64,
    ) -> Option<solve::Problem> {
        let allowed: Vec<usize> = self.allowed().iter().map(|cpu| indices.of(Some(*cpu))).collect();
        let queues = &self.world.queues;
        if allowed.is_empty() || queues.is_empty() {
            return None;
        }
        let position: BTreeMap<QueueId, usize> =
            queues.iter().enumerate().map(|(index, queue)| (queue.queue, index)).collect();
        let mut consumed = Rows::default();
        for bucket in 0..self.table.len() {
            let row = self.demand.get(bucket).into_iter().flatten();
            consumed.push(row.map(|(cpu, rate)| (indices.of(Some(*cpu)), *rate)));
        }
        let load: Vec<f64> = (0..self.table.len()).map(|bucket| self.load_of(bucket)).collect();
        let pins = self.pins(indices);
        let packets: f64 = load.iter().chain(&pins.load).sum();
        let rate: f64 =
            consumed.entries().chain(pins.consumed.entries()).map(|(_, rate)| rate).sum();
        // Loads are packets, demand is consumption: one read may take many packets. A bucket's young
        // flows move with it and count for nothing in its demand, but the move costs them as much.
        let all_consumed = rate.max(self.world.alignment.consumed_per_s);
        let per_packet = if packets > 0.0 { all_consumed / packets } else { 0.0 };
        let lambda_move = move_price * per_packet;
        let (max_table_changes, max_affinity_changes) = match pace {
            Pace::First => (None, None),
            Pace::Steady => (
                Some(self.policy.most_bucket_moves(self.table.len())),
                Some(self.policy.most_irq_moves),
            ),
        };
        let max_table_changes = if self.keeps_table() { Some(0) } else { max_table_changes };
        let mut problem = solve::Problem {
            cpus: indices.len(),
            allowed,
            table: self
                .table
                .iter()
                .map(|queue| position.get(queue).copied().unwrap_or(NONE))
                .collect(),
            affinity: queues.iter().map(|queue| indices.of(queue.napi_cpu())).collect(),
            fixed: self.world.nic.queues.iter().map(|queue| self.stays(queue)).collect(),
            distance: self.distances(indices)?,
            consumed,
            load,
            cap: Vec::new(),
            lambda_load: 0.0,
            lambda_move,
            kappa: self.policy.irq_move_share,
            move_factor: self.experience.move_factors(),
            cpu_cost: self.nic_cost(indices, per_packet),
            pins,
            max_table_changes,
            max_affinity_changes,
        };
        problem.cap = capacity::caps(self, &problem, indices, packets);
        problem.lambda_load = overload_price(&problem);
        Some(problem)
    }

    /// What rules tie to queues; nothing at all where there are none.
    fn pins(&self, indices: &Indices) -> Pins {
        let tied = &self.traffic.tied;
        if tied.load.iter().all(|load| *load <= 0.0) {
            return Pins::default();
        }
        let mut consumed = Rows::default();
        for row in &tied.demand {
            consumed.push(row.iter().map(|(cpu, rate)| (indices.of(Some(*cpu)), *rate)));
        }
        Pins { consumed, load: tied.load.clone() }
    }

    /// The traffic of the window alone, where `traffic` is the estimate.
    pub(super) fn traffic_of_window(&self) -> Traffic<'_> {
        let demand = self.world.demand_per_s.as_deref().unwrap_or_default();
        let load = self.world.load_per_s.as_deref().unwrap_or_default();
        self.experience.pins().split(demand, load, &self.world.queues)
    }

    fn load_of(&self, bucket: usize) -> f64 {
        self.load.get(bucket).copied().unwrap_or(0.0)
    }

    fn distances(&self, indices: &Indices) -> Option<Distances> {
        let count = indices.len();
        let mut cells = Vec::with_capacity(count * count);
        for from in 0..count {
            for to in 0..count {
                let distance = match (indices.cpu(from), indices.cpu(to)) {
                    (Some(from), Some(to)) => self.host.topology.distance(from, to),
                    _ if from == to => Distance::SameCore,
                    _ => Distance::Remote,
                };
                cells.push(self.weight(distance));
            }
        }
        Distances::new(count, cells)
    }

    /// What a packet costs on each CPU for not being on the NIC's node; empty where that is unknown.
    fn nic_cost(&self, indices: &Indices, per_packet: f64) -> Vec<f64> {
        let Some(node) = self.world.nic.node else { return Vec::new() };
        let far = self.policy.nic_distance * per_packet;
        let cost = |index: usize| {
            let cpu = indices.cpu(index).and_then(|cpu| self.host.topology.cpu(cpu));
            // A CPU of unknown node is taken to be near: a guess must not move anything.
            let elsewhere = cpu.and_then(|cpu| cpu.node).is_some_and(|at| at != node);
            if elsewhere { far } else { 0.0 }
        };
        (0..indices.len()).map(cost).collect()
    }

    /// `solution` in the NIC's own numbers. A queue whose CPU is unknown stays unknown.
    pub(super) fn arrangement(&self, indices: &Indices, solution: &solve::Solution) -> Arrangement {
        let queue = |index: &usize| self.world.queues.get(*index).map_or(0, |queue| queue.queue);
        // The solver has buckets of queues that are gone move even at a limit of none.
        let table = if self.keeps_table() {
            self.table.to_vec()
        } else {
            solution.table.iter().map(queue).collect()
        };
        Arrangement {
            table,
            cpus: solution.affinity.iter().map(|index| indices.cpu(*index)).collect(),
        }
    }

    /// CPU of `queue` under `cpus`.
    pub(super) fn cpu_of(&self, queue: QueueId, cpus: &[Option<CpuId>]) -> Option<CpuId> {
        let index = self.world.queues.iter().position(|world| world.queue == queue)?;
        cpus.get(index).copied().flatten()
    }

    /// What every bucket that comes to another CPU is expected to save there.
    pub(super) fn forecast(&self, to: &Arrangement) -> Vec<Forecast> {
        let present = self.present();
        let mut forecast = Vec::new();
        for (bucket, (old, new)) in self.table.iter().zip(&to.table).enumerate() {
            let from = self.cpu_of(*old, &present.cpus);
            let Some(to) = self.cpu_of(*new, &to.cpus).filter(|to| Some(*to) != from) else {
                continue;
            };
            let cost = |at: CpuId| -> f64 {
                let row = self.demand.get(bucket).into_iter().flatten();
                row.map(|(cpu, rate)| rate * self.weight(self.host.topology.distance(at, *cpu)))
                    .sum()
            };
            let saved_per_s = from.map_or(0.0, |from| cost(from) - cost(to));
            forecast.push(Forecast { bucket, from, to, by_table: old != new, saved_per_s });
        }
        forecast
    }

    /// Share of all packets whose bucket changes its queue.
    pub(super) fn load_moved(&self, to: &Arrangement) -> f64 {
        let total: f64 = (0..self.table.len()).map(|bucket| self.load_of(bucket)).sum();
        let pairs = self.table.iter().zip(&to.table).enumerate();
        let moved = pairs.filter(|(_, (old, new))| old != new);
        let moved: f64 = moved.map(|(bucket, _)| self.load_of(bucket)).sum();
        if total > 0.0 { moved / total } else { 0.0 }
    }

    /// Packets per second on each CPU with this arrangement.
    pub(super) fn carried(&self, to: &Arrangement) -> Vec<(CpuId, f64)> {
        let mut carried: BTreeMap<CpuId, f64> = self.carried_by_table(to).into_iter().collect();
        for (cpu, load) in to.cpus.iter().zip(&self.traffic.tied.load) {
            if let Some(cpu) = cpu {
                *carried.entry(*cpu).or_default() += load;
            }
        }
        carried.into_iter().collect()
    }

    /// The same without flows that have rules.
    pub(super) fn carried_by_table(&self, to: &Arrangement) -> Vec<(CpuId, f64)> {
        let mut carried = BTreeMap::new();
        for (bucket, queue) in to.table.iter().enumerate() {
            if let Some(cpu) = self.cpu_of(*queue, &to.cpus) {
                *carried.entry(cpu).or_insert(0.0) += self.load_of(bucket);
            }
        }
        carried.into_iter().collect()
    }

    /// Consumption per second, and how much of it would be aligned with this arrangement.
    pub(super) fn aligned(&self, to: &Arrangement) -> (f64, f64) {
        let by_table = self.demand.iter().flatten().map(|(_, rate)| rate);
        let tied = || self.traffic.tied.entries();
        let total = by_table.sum::<f64>() + tied().map(|(_, _, rate)| rate).sum::<f64>();
        let mut aligned = 0.0;
        for (queue, row) in to.table.iter().zip(self.demand) {
            let cpu = self.cpu_of(*queue, &to.cpus);
            let here = row.iter().filter(|(consumer, _)| Some(*consumer) == cpu);
            aligned += here.map(|(_, rate)| rate).sum::<f64>();
        }
        for (queue, consumer, rate) in tied() {
            if to.cpus.get(queue).copied().flatten() == Some(consumer) {
                aligned += rate;
            }
        }
        (total, aligned)
    }

    /// Share of consumption that would be aligned with this arrangement.
    pub(super) fn share(&self, to: &Arrangement) -> Option<f64> {
        let (total, aligned) = self.aligned(to);
        (total > 0.0).then(|| (aligned / total).min(1.0))
    }
}

/// Cost of a consumption over `distance`, in transfers inside a last-level cache: what the placement
/// policy wants costs nothing.
pub(super) fn weight(placement: Placement, distance: Distance) -> f64 {
    match (placement, distance) {
        (Placement::SmtSibling, Distance::SmtSibling) => 0.0,
        (Placement::SmtSibling, Distance::SameCore) => Distance::SmtSibling.weight(),
        (Placement::SameLlc, near) if near <= Distance::SameLlc => 0.0,
        (Placement::SameNode, near) if near <= Distance::SameNode => 0.0,
        // The consumer's own core is the one place that interrupts must keep off.
        (Placement::Dedicated, near) if near <= Distance::SmtSibling => Distance::Remote.weight(),
        (_, distance) => distance.weight(),
    }
}

/// A price of overload that no gain in distance can pay for a whole bucket, by a good margin: what
/// is bought above a cap is then less than a fortieth of a bucket.
fn overload_price(problem: &solve::Problem) -> f64 {
    const MARGIN: f64 = 40.0;
    let dearest = problem.cpu_cost.iter().copied().fold(0.0, f64::max);
    let mut most = 0.0f64;
    let pins = &problem.pins;
    for (rows, loads) in [(&problem.consumed, &problem.load), (&pins.consumed, &pins.load)] {
        for (row, load) in loads.iter().enumerate() {
            let rate: f64 = rows.row(row).map(|(_, rate)| rate).sum();
            if *load > 0.0 {
                most = most.max(rate / load);
            }
        }
    }
    MARGIN * (most * problem.distance.largest() + problem.lambda_move + dearest)
}
