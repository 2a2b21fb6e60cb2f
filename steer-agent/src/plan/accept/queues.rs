//! Queues under accept steering: one to one on the CPUs of the workers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{CpuId, CpuSet};
use crate::plan::setting::{Arrangement, Setting};

/// Where the queues go: each to a worker's CPU, as evenly as can be. A queue that is on a worker's CPU
/// stays, unless another is there before it and a worker has none. `None` where there is no worker.
pub(in crate::plan) fn arrange(setting: &Setting<'_>, workers: &CpuSet) -> Option<Arrangement> {
    let mut arrangement = setting.present();
    let allowed = setting.allowed();
    let mut on: BTreeMap<CpuId, usize> =
        workers.iter().filter(|cpu| allowed.contains(cpu)).map(|cpu| (cpu, 0)).collect();
    let queues = arrangement.cpus.len();
    let most = queues.checked_div(on.len())? + usize::from(!queues.is_multiple_of(on.len()));
    let mut homeless: Vec<usize> = Vec::new();
    // Those that cannot be moved have their place first.
    let order = {
        let movable = |index: usize| {
            setting.world.nic.queues.get(index).is_some_and(|queue| setting.is_movable(queue))
        };
        let all: BTreeSet<(bool, usize)> =
            (0..queues).map(|index| (movable(index), index)).collect();
        all
    };
    for (movable, index) in order {
        let cpu = arrangement.cpus.get(index).copied().flatten();
        let room = cpu.and_then(|cpu| on.get_mut(&cpu));
        match room {
            Some(count) if *count < most || !movable => *count += 1,
            _ if movable => homeless.push(index),
            _ => {}
        }
    }
    let node_of = |cpu: CpuId| setting.host.topology.cpu(cpu).and_then(|cpu| cpu.node);
    let far = |cpu: CpuId| match (setting.world.nic.node, node_of(cpu)) {
        (Some(nic), Some(cpu)) => nic != cpu,
        // An unknown node is taken to be near: a guess must not move anything.
        _ => false,
    };
    for index in homeless {
        let (cpu, count) = on.iter_mut().min_by_key(|(cpu, count)| (**count, far(**cpu), **cpu))?;
        *count += 1;
        if let Some(place) = arrangement.cpus.get_mut(index) {
            *place = Some(*cpu);
        }
    }
    Some(arrangement)
}

#[cfg(test)]
mod tests;
