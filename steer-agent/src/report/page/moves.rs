//! Settings that were changed between two samples, and what was seen before that speaks for it.

use std::collections::{BTreeMap, BTreeSet};

use super::Move;
use crate::model::{CpuId, CpuSet, Nic, NicWorld, QueueId};
use crate::plan::{Target, Value};
use crate::report::number::percent;

/// What steer may write, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    table: Option<Vec<QueueId>>,
    affinity: BTreeMap<QueueId, (u32, CpuSet)>,
    xps: BTreeMap<QueueId, CpuSet>,
    rules: BTreeMap<u32, String>,
}

impl Settings {
    /// Those of a NIC.
    pub(super) fn of(nic: &Nic) -> Self {
        let queues = nic.queues.iter();
        let rules = nic.rules.iter().flat_map(|table| &table.rules);
        Self {
            table: nic.rss.as_ref().map(|rss| rss.table.clone()),
            affinity: queues
                .clone()
                .filter_map(|queue| Some((queue.id, (queue.irq?, queue.affinity.clone()?))))
                .collect(),
            xps: queues.filter_map(|queue| Some((queue.id, queue.xps.clone()?))).collect(),
            rules: rules
                .map(|(location, rule)| {
                    let text = rule.map_or_else(
                        || "a rule of another kind".to_owned(),
                        |rule| {
                            format!(
                                "{} <- {} to queue {}",
                                rule.flow.local, rule.flow.remote, rule.queue
                            )
                        },
                    );
                    (*location, text)
                })
                .collect(),
        }
    }

    /// What `now` has otherwise: interrupts, XPS, table, rules. Without reasons.
    pub(super) fn changes(&self, now: &Self, at_s: f64) -> Vec<Move> {
        let change =
            |target, from, to| Move { at_s, target, from, to, buckets: 0, why: String::new() };
        let mut moves = Vec::new();
        for (queue, (irq, cpus)) in &now.affinity {
            if let Some((_, before)) = self.affinity.get(queue).filter(|(_, before)| before != cpus)
            {
                let target = Target::IrqAffinity { irq: *irq, queue: *queue };
                moves.push(change(target, named(before), named(cpus)));
            }
        }
        for (queue, cpus) in &now.xps {
            if let Some(before) = self.xps.get(queue).filter(|before| *before != cpus) {
                moves.push(change(Target::Xps { queue: *queue }, named(before), named(cpus)));
            }
        }
        match (&self.table, &now.table) {
            (Some(before), Some(after)) if before.len() == after.len() => {
                let buckets = moved(before, after).count();
                if buckets > 0 {
                    let to = format!("{buckets} of {} buckets on other queues", after.len());
                    let mut of_table = change(Target::Table, "as it was".to_owned(), to);
                    of_table.buckets = buckets;
                    moves.push(of_table);
                }
            }
            (Some(before), Some(after)) => {
                let sized = |table: &Vec<QueueId>| format!("{} buckets", table.len());
                moves.push(change(Target::Table, sized(before), sized(after)));
            }
            _ => {}
        }
        let places: BTreeSet<u32> = self.rules.keys().chain(now.rules.keys()).copied().collect();
        for location in places {
            let (before, after) = (self.rules.get(&location), now.rules.get(&location));
            if before != after {
                let text =
                    |rule: Option<&String>| rule.cloned().unwrap_or_else(|| "none".to_owned());
                let target = Target::Rule { location: crate::model::Location::At(location) };
                moves.push(change(target, text(before), text(after)));
            }
        }
        moves
    }

    /// Whether `target` is set to `value`. Rules are not looked at: their reasons are the flows.
    pub(super) fn is_set(&self, target: &Target, value: &Value) -> bool {
        match (target, value) {
            (Target::Table, Value::Table(table)) => self.table.as_ref() == Some(table),
            (Target::IrqAffinity { queue, .. }, Value::Cpus(cpus)) => {
                self.affinity.get(queue).is_some_and(|(_, set)| set == cpus)
            }
            (Target::Xps { queue }, Value::Cpus(cpus)) => self.xps.get(queue) == Some(cpus),
            _ => false,
        }
    }

    /// The CPU that a queue's interrupt is set to, if only one.
    fn cpu(&self, queue: QueueId) -> Option<CpuId> {
        self.affinity.get(&queue)?.1.as_single()
    }
}

fn named(cpus: &CpuSet) -> String {
    match cpus.len() {
        0 => "none".to_owned(),
        1 => format!("CPU {cpus}"),
        _ => format!("CPUs {cpus}"),
    }
}

/// Bucket, old and new queue of each that was moved.
fn moved<'t>(
    before: &'t [QueueId],
    after: &'t [QueueId],
) -> impl Iterator<Item = (usize, QueueId, QueueId)> + 't {
    let pairs = before.iter().zip(after).enumerate();
    pairs.filter(|(_, (from, to))| from != to).map(|(bucket, (from, to))| (bucket, *from, *to))
}

/// What was seen before a change that speaks for it.
pub(super) fn why(change: &Move, before: &Settings, now: &Settings, seen: &NicWorld) -> String {
    match change.target {
        Target::Table => of_buckets(before, now, seen),
        Target::IrqAffinity { queue, .. } => of_interrupt(queue, now, seen),
        Target::Xps { queue } => match now.cpu(queue) {
            Some(cpu) if change.to == format!("CPU {cpu}") => {
                format!("what CPU {cpu} sends leaves by the queue that it receives on")
            }
            _ => String::new(),
        },
        Target::Rule { .. } => String::new(),
    }
}

fn of_interrupt(queue: QueueId, now: &Settings, seen: &NicWorld) -> String {
    let Some(cpu) = now.cpu(queue) else { return String::new() };
    let pairs = &seen.alignment.by_cpu;
    let total: f64 = pairs.iter().map(|pair| pair.per_s).sum();
    let here: f64 =
        pairs.iter().filter(|pair| pair.consumer_cpu == cpu).map(|pair| pair.per_s).sum();
    let share = percent((total > 0.0).then(|| here / total));
    let read = format!("CPU {cpu} read {share} of everything before");
    match seen.napi_cpu(queue) {
        Some(polled) if polled == cpu => format!("{read}; the queue was polled there, and stays"),
        Some(polled) => format!("{read}; the queue was polled on CPU {polled}"),
        None => read,
    }
}

/// How much of what the moved buckets carried was read where it was polled, and would have been with the
/// new settings.
fn of_buckets(before: &Settings, now: &Settings, seen: &NicWorld) -> String {
    let (Some(old), Some(new), Some(demand)) = (&before.table, &now.table, &seen.demand_per_s)
    else {
        return String::new();
    };
    if old.len() != new.len() {
        return String::new();
    }
    let (mut total, mut then, mut fitted) = (0.0, 0.0, 0.0);
    for (bucket, from, to) in moved(old, new) {
        let on = |cpu: Option<CpuId>| -> f64 {
            let row = demand.get(bucket).into_iter().flatten();
            row.filter(|(at, _)| Some(*at) == cpu).map(|(_, per_s)| per_s).sum()
        };
        let row = demand.get(bucket).into_iter().flatten();
        total += row.map(|(_, per_s)| per_s).sum::<f64>();
        then += on(seen.napi_cpu(from));
        fitted += on(now.cpu(to).or_else(|| seen.napi_cpu(to)));
    }
    if total <= 0.0 {
        return "nothing was read of these buckets before".to_owned();
    }
    format!(
        "of what these buckets carried, {} was read on the CPU that polled it; on the new queues it would \
         have been {}",
        percent(Some(then / total)),
        percent(Some(fitted / total))
    )
}
