//! The planner of `steer run`, shown a simulated NIC.
//!
//! Everything that `steer run` decides by from period to period is here, and nothing else: the same
//! [`plan::plan`], the same policy, the same [`Experience`].

use crate::model::{Alignment, CpuSet, Mapping, Nic as ModelNic, NicWorld, Queue, QueueWorld, Rss};
use crate::plan::{self, Experience, Host, Plan, Target, Value};
use crate::policy::Policy;

use super::machine::cpu_id;
use super::seen::{Nic, Seen};

/// steer on one NIC.
pub(super) struct Steer {
    policy: Policy,
    experience: Experience,
    /// Nothing is learned: every second is planned by itself.
    forgets: bool,
}

impl Steer {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, experience: Experience::default(), forgets: false }
    }

    /// A planner without memory, price of moves or limits.
    pub(super) fn naive(policy: Policy) -> Self {
        let policy = Policy {
            move_price: 0.0,
            least_gain: 0.0,
            moves_divisor: 1,
            most_irq_moves: usize::MAX,
            ..policy
        };
        Self { forgets: true, ..Self::new(policy) }
    }

    /// Plans for what was `seen`; the NIC as it is to be.
    pub(super) fn period(&mut self, seen: &Seen<'_>) -> Nic {
        let world = nic_world(seen);
        let softirq = softirq_share(seen);
        let host = Host::alone(seen.topology, Some(&softirq));
        if self.forgets {
            self.experience = Experience::default();
            // Not the first plan, which may search for longer.
            self.experience.applied(&Plan::default());
        }
        self.experience.observe(&world, &host, &self.policy);
        let plan = plan::plan(&world, &host, &self.policy, &self.experience);
        if !plan.is_empty() {
            self.experience.applied(&plan);
        }
        let mut next = seen.nic.clone();
        for step in &plan.steps {
            match (&step.change.target, &step.change.to) {
                (Target::Table, Value::Table(table)) => {
                    next.table = table.iter().map(|queue| index(*queue)).collect();
                }
                (Target::IrqAffinity { queue, .. }, Value::Cpus(cpus)) => {
                    let cpu = cpus.as_single().map(index);
                    if let (Some(slot), Some(cpu)) = (next.affinity.get_mut(index(*queue)), cpu) {
                        *slot = cpu;
                    }
                }
                _ => {}
            }
        }
        next
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the model would be, had all of this been observed on a real NIC that follows its table.
fn nic_world(seen: &Seen<'_>) -> NicWorld {
    let Nic { table, affinity } = seen.nic;
    let packets: f64 = seen.load.iter().sum();
    let mut queue_load = vec![0.0; affinity.len()];
    for (queue, load) in table.iter().zip(seen.load) {
        queue_load[*queue] += load;
    }
    let numbered = |queue: usize| (cpu_id(queue), cpu_id(affinity[queue]));
    let queues = (0..affinity.len()).map(numbered);
    let settings = queues.clone().map(|(id, cpu)| Queue {
        id,
        irq: Some(id),
        affinity: Some(CpuSet::single(cpu)),
        effective: Some(CpuSet::single(cpu)),
        ..Queue::default()
    });
    let observed = queues.zip(&queue_load).map(|((queue, cpu), load)| QueueWorld {
        queue,
        irq: Some(queue),
        cpu: Some(cpu),
        effective_cpu: Some(cpu),
        softirq_cpu: Some(cpu),
        softirq_share: 1.0,
        packets_per_s: *load,
        consumed_per_s: *load,
    });
    let mut aligned = 0.0;
    let mut consumed = 0.0;
    let mut demand = Vec::with_capacity(table.len());
    for (bucket, row) in seen.lasting.rows().enumerate() {
        aligned += row[seen.nic.host(bucket)];
        consumed += row.iter().sum::<f64>();
        let filled = row.iter().enumerate().filter(|(_, rate)| **rate > 0.0);
        demand.push(filled.map(|(cpu, rate)| (cpu_id(cpu), *rate)).collect());
    }
    NicWorld {
        nic: ModelNic {
            name: "simulated".to_owned(),
            ifindex: 1,
            up: true,
            rss: Some(Rss {
                table: table.iter().map(|queue| cpu_id(*queue)).collect(),
                ..Rss::default()
            }),
            queues: settings.collect(),
            ..ModelNic::default()
        },
        mapping: Mapping {
            checked: whole(packets),
            agreeing: whole(packets),
            flows: table.len().max(Mapping::FEWEST_FLOWS),
            queues_predicted: affinity.len(),
            queues_seen: affinity.len(),
            ..Mapping::default()
        },
        queues: observed.collect(),
        load_per_s: Some(seen.load.to_vec()),
        demand_per_s: Some(demand),
        demand_samples: whole(consumed),
        residency: seen.residency,
        alignment: Alignment {
            share: (consumed > 0.0).then(|| aligned / consumed),
            consumed_per_s: consumed,
            ..Alignment::default()
        },
        ..NicWorld::default()
    }
}

/// Softirq time of each CPU: packets take what they take, and nothing else is done there.
fn softirq_share(seen: &Seen<'_>) -> Vec<(u32, f64)> {
    let mut share: Vec<(u32, f64)> = seen.topology.cpus.iter().map(|cpu| (cpu.id, 0.0)).collect();
    for (bucket, load) in seen.load.iter().enumerate() {
        if let Some((_, time)) = share.get_mut(seen.nic.host(bucket)) {
            *time += load * seen.time_per_packet;
        }
    }
    share
}

fn whole(count: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of packets; casts saturate"
    )]
    let count = count as u64;
    count
}
