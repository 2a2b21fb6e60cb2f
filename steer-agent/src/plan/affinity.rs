//! Which CPU each queue is to be polled on.

use std::collections::BTreeSet;

use super::{Pace, Problem};
use crate::model::{CpuId, QueueWorld};

/// A CPU for each queue, by position; `None` where its place is not known.
///
/// A queue stays where it is unless that CPU consumes nothing or another queue is there already;
/// then it goes to the heaviest consumer that has no queue. Consumers lighter than a hundredth of all
/// consumption get none: they are interrupt-time readers and one-off processes.
pub(super) fn choose(
    problem: &Problem<'_>,
    pace: Pace,
    reasons: &mut Vec<String>,
) -> Vec<Option<CpuId>> {
    const FAINT: f64 = 0.01;

    let mut cpus: Vec<Option<CpuId>> =
        problem.world.queues.iter().map(QueueWorld::napi_cpu).collect();
    let consumers = problem.consumers();
    let total: f64 = consumers.iter().map(|(_, rate)| rate).sum();
    let online = problem.topology.online();
    let allowed = |cpu: CpuId| {
        let by_policy = problem.policy.allowed_cpus.as_ref();
        online.contains(cpu) && by_policy.is_none_or(|allowed| allowed.contains(cpu))
    };
    let mut wanted: Vec<(CpuId, f64)> =
        consumers.into_iter().filter(|(_, rate)| *rate >= FAINT * total).collect();
    wanted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let barred: Vec<CpuId> =
        wanted.iter().map(|(cpu, _)| *cpu).filter(|cpu| !allowed(*cpu)).collect();
    wanted.retain(|(cpu, _)| allowed(*cpu));
    if !barred.is_empty() {
        reasons.push(format!(
            "data is consumed on CPUs {barred:?}, which may not be given interrupts"
        ));
    }
    wanted.truncate(cpus.len());

    // Queues that stay, first come first served; all others are free to move.
    let mut covered = BTreeSet::new();
    let mut free = Vec::new();
    for (index, cpu) in cpus.iter().enumerate() {
        match cpu {
            Some(cpu) if wanted.iter().any(|(id, _)| id == cpu) && covered.insert(*cpu) => {}
            _ => free.push(index),
        }
    }
    let movable = |index: &usize| {
        let queue = &problem.world.nic.queues[*index];
        queue.irq.is_some() && queue.affinity.is_some() && !queue.managed
    };
    let stuck = free.iter().filter(|index| !movable(index)).count();
    let most = match pace {
        Pace::First => usize::MAX,
        Pace::Steady => problem.policy.most_irq_moves,
    };
    let mut free = free.into_iter().filter(movable).take(most);
    let mut without = Vec::new();
    for (cpu, _) in wanted.iter().filter(|(cpu, _)| !covered.contains(cpu)) {
        match free.next() {
            Some(index) => cpus[index] = Some(*cpu),
            None => without.push(*cpu),
        }
    }
    if !without.is_empty() {
        let why = if stuck > 0 {
            format!("the interrupt of {stuck} queues is unknown or not to be moved")
        } else {
            "all queues that may move in this period are taken".to_owned()
        };
        reasons.push(format!("no queue for the consumers on CPUs {without:?}: {why}"));
    }
    // Queues that nobody needs stay where they are, but not on a CPU that is barred.
    for index in free {
        let misplaced = cpus[index].is_some_and(|cpu| !allowed(cpu));
        if misplaced && let Some((cpu, _)) = wanted.first() {
            cpus[index] = Some(*cpu);
        }
    }
    cpus
}
