//! A step: one value of one object, before and after. Its inverse is the same step turned round.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::setting::{Arrangement, Setting};
use crate::model::{CpuId, CpuSet, Location, NicWorld, QueueId, RuleContent};

/// An object that steer may write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The NIC's indirection table.
    Table,
    /// An exact-match rule of the NIC.
    Rule {
        /// Which.
        location: Location,
    },
    /// `/proc/irq/N/smp_affinity_list` of the interrupt of an RX queue.
    IrqAffinity {
        /// The interrupt.
        irq: u32,
        /// The RX queue that it serves.
        queue: QueueId,
    },
    /// `queues/tx-N/xps_cpus`.
    Xps {
        /// The TX queue.
        queue: QueueId,
    },
}

impl Target {
    /// Whether it is an exact-match rule.
    #[must_use]
    pub fn is_rule(&self) -> bool {
        matches!(self, Self::Rule { .. })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("indirection table"),
            Self::IrqAffinity { irq, queue } => write!(f, "affinity of IRQ {irq} (queue {queue})"),
            Self::Xps { queue } => write!(f, "XPS of TX queue {queue}"),
            Self::Rule { location } => location.fmt(f),
        }
    }
}

/// What an object is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// RX queue by bucket.
    Table(Vec<QueueId>),
    /// CPUs.
    Cpus(CpuSet),
    /// What is at a place for an exact-match rule.
    Rule(RuleContent),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus(cpus) if cpus.is_empty() => f.write_str("none"),
            Self::Cpus(cpus) => write!(f, "CPU {cpus}"),
            Self::Rule(content) => content.fmt(f),
            Self::Table(table) => {
                let entries: Vec<String> = table.iter().map(ToString::to_string).collect();
                f.write_str(&entries.join(" "))
            }
        }
    }
}

/// A target with its value before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    /// What is written.
    pub target: Target,
    /// Its value when the plan was made; the write is refused if it is no longer this.
    pub from: Value,
    /// Its value afterwards.
    pub to: Value,
}

impl Change {
    /// The change that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        Self { target: self.target.clone(), from: self.to.clone(), to: self.from.clone() }
    }
}

/// A change with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// What is written.
    pub change: Change,
    /// Consumption per second that becomes aligned by it, as far as it can be told apart.
    pub gain_per_s: f64,
    /// Why.
    pub reason: String,
}

impl Step {
    /// How many table entries change.
    #[must_use]
    pub fn buckets_moved(&self) -> usize {
        match (&self.change.from, &self.change.to) {
            (Value::Table(from), Value::Table(to)) => {
                from.iter().zip(to).filter(|(from, to)| from != to).count()
            }
            _ => 0,
        }
    }
}

/// The steps from what `world` is to `table` and `cpus`: interrupts first, then XPS, then the table,
/// so that a bucket never moves to a queue that is still elsewhere.
pub(super) fn steps(setting: &Setting<'_>, to: &Arrangement) -> Vec<Step> {
    let Setting { world, policy, table: old, demand, .. } = setting;
    let Arrangement { table, cpus } = to;
    let gain =
        |counts: &dyn Fn(QueueId, QueueId) -> bool| gain(world, demand, (old, table), cpus, counts);
    let mut irqs = Vec::new();
    let mut xps = Vec::new();
    for (queue, cpu) in world.nic.queues.iter().zip(cpus) {
        let Some(cpu) = *cpu else { continue };
        let goal = CpuSet::single(cpu);
        if let (Some(irq), Some(affinity)) = (queue.irq, &queue.affinity)
            && *affinity != goal
            && policy.move_irqs
        {
            let seen = world.napi_cpu(queue.id);
            irqs.push(Step {
                change: Change {
                    target: Target::IrqAffinity { irq, queue: queue.id },
                    from: Value::Cpus(affinity.clone()),
                    to: Value::Cpus(goal.clone()),
                },
                gain_per_s: gain(&|from, to| from == to && from == queue.id),
                reason: if seen == Some(cpu) {
                    format!("queue {} is polled on CPU {cpu}: keep it there", queue.id)
                } else {
                    format!("CPU {cpu} consumes and queue {} is to be polled there", queue.id)
                },
            });
        }
        if let Some(current) = &queue.xps
            && *current != goal
            && policy.set_xps
        {
            xps.push(Step {
                change: Change {
                    target: Target::Xps { queue: queue.id },
                    from: Value::Cpus(current.clone()),
                    to: Value::Cpus(goal),
                },
                gain_per_s: 0.0,
                reason: format!("what CPU {cpu} sends leaves by the queue that it receives on"),
            });
        }
    }
    let mut steps = irqs;
    steps.append(&mut xps);
    if *old != table.as_slice() {
        let moved = old.iter().zip(table).filter(|(from, to)| from != to).count();
        steps.push(Step {
            change: Change {
                target: Target::Table,
                from: Value::Table(old.to_vec()),
                to: Value::Table(table.clone()),
            },
            gain_per_s: gain(&|from, to| from != to),
            reason: format!(
                "{moved} of {} buckets go to the queue of the CPU that consumes most of them",
                table.len()
            ),
        });
    }
    steps
}

/// Consumption per second that becomes aligned in the buckets whose old and new queue `counts`.
fn gain(
    world: &NicWorld,
    demand: &[Vec<(CpuId, f64)>],
    (old, new): (&[QueueId], &[QueueId]),
    cpus: &[Option<CpuId>],
    counts: &dyn Fn(QueueId, QueueId) -> bool,
) -> f64 {
    let on = |bucket: usize, cpu: Option<CpuId>| -> f64 {
        let row = demand.get(bucket);
        row.into_iter().flatten().filter(|(id, _)| Some(*id) == cpu).map(|(_, rate)| rate).sum()
    };
    let planned = |queue: QueueId| {
        let index = world.queues.iter().position(|world| world.queue == queue)?;
        cpus.get(index).copied().flatten()
    };
    let pairs = old.iter().zip(new).enumerate();
    pairs
        .filter(|(_, (from, to))| counts(**from, **to))
        .map(|(bucket, (from, to))| on(bucket, planned(*to)) - on(bucket, world.napi_cpu(*from)))
        .sum()
}
