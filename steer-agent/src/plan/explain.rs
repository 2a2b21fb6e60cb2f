//! Why this plan, why not another, why nothing.

use std::collections::BTreeSet;

use super::Pace;
use super::setting::{Arrangement, Indices, Setting};
use super::solve;
use crate::model::{CpuId, NicWorld};
use crate::policy::Policy;

/// Consumers lighter than this share of all consumption are not worth a sentence: interrupt-time
/// readers and one-off processes.
const FAINT: f64 = 0.01;

/// From so many packets per second on, it is worth a word that nobody reads them.
const BUSY_PER_S: f64 = 100.0;
/// A reader takes at least one in so many packets: even reads of a megabyte are of 700 at a time.
const PACKETS_A_READ: f64 = 10_000.0;

/// That packets arrive and no process reads them, if it is so: there is nobody to align with.
pub(super) fn nobody_reads(world: &NicWorld) -> Option<String> {
    let packets_per_s: f64 = world.queues.iter().map(|queue| queue.packets_per_s).sum();
    // By queue, so that what was read of a queue whose CPU is not known yet counts too.
    let read_per_s: f64 = world.queues.iter().map(|queue| queue.consumed_per_s).sum();
    let read_per_s = read_per_s + world.alignment.unattributed_per_s;
    (packets_per_s >= BUSY_PER_S && read_per_s * PACKETS_A_READ < packets_per_s).then(|| {
        format!(
            "{packets_per_s:.0} packets per second arrive and no process is seen to read them: they are \
             forwarded, or read where steer cannot follow them (by kernel threads, or in a container \
             behind a NIC that reports no hash); there is nobody to align with"
        )
    })
}

/// Why there is nothing to plan by.
pub(super) fn too_little(world: &NicWorld, policy: &Policy) -> String {
    let (seen, needed) = (world.demand_samples, policy.least_samples);
    if world.young_share > 0.5 {
        return format!(
            "{:.0} % of consumption is by connections that live shorter than {} s: no table can follow \
             them",
            world.young_share * 100.0,
            NicWorld::YOUNG_S
        );
    }
    format!("too little traffic to plan by: {seen} consumptions in the window, {needed} are needed")
}

/// Sentences about what `to` leaves undone.
pub(super) fn reasons(
    setting: &Setting<'_>,
    indices: &Indices,
    problem: &solve::Problem,
    to: &Arrangement,
    pace: Pace,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(residency) =
        setting.experience.residency().filter(|_| setting.experience.is_braking())
    {
        reasons.push(format!(
            "consumers change CPU too often to be followed ({:.0} % of a flow's consumption is where most \
             of it is): planned by load alone; pinned workers would help",
            residency * 100.0
        ));
    }
    let frozen = setting.experience.frozen();
    if frozen > 0 {
        reasons.push(format!("{frozen} buckets rest: they went to and fro between CPUs"));
    }
    let wanted = consumers(setting);
    let allowed = setting.allowed();
    let barred: Vec<CpuId> = wanted.iter().filter(|cpu| !allowed.contains(cpu)).copied().collect();
    if !barred.is_empty() {
        reasons.push(format!(
            "data is consumed on CPUs {barred:?}, which may not be given interrupts"
        ));
    }
    let hosts: BTreeSet<CpuId> = to.cpus.iter().flatten().copied().collect();
    let bare: Vec<CpuId> = wanted
        .iter()
        .filter(|cpu| allowed.contains(cpu) && !hosts.contains(cpu))
        .copied()
        .collect();
    if !bare.is_empty() {
        let queues = &setting.world.nic.queues;
        let stuck = queues.iter().filter(|queue| !setting.is_movable(queue)).count();
        let why = if !setting.policy.move_irqs {
            "interrupts are not moved".to_owned()
        } else if stuck > 0 {
            format!("the interrupt of {stuck} queues is unknown or not to be moved")
        } else if pace == Pace::Steady {
            "the others are worth more, or have moved enough in this period".to_owned()
        } else {
            "the others are worth more".to_owned()
        };
        reasons.push(format!("no queue for the consumers on CPUs {bare:?}: {why}"));
    }
    let staying = Staying::count(setting, indices, problem, to, &hosts);
    let refusal = setting.policy.table_refusal(&setting.world.nic).map(|why| why.to_string());
    let unwanted = || "`policy.move_table` is false".to_owned();
    if let Some(why) = refusal.or_else(|| (!setting.policy.move_table).then(unwanted)) {
        let buckets = staying.heavy + staying.light;
        if buckets > 0 {
            reasons.insert(0, format!("{buckets} buckets stay: {why}"));
        }
        return reasons;
    }
    if staying.heavy > 0 {
        reasons.push(format!(
            "{} buckets stay: the CPU of their consumer would carry more than {:.0} % above the \
             average and more than {:.0} % of its time",
            staying.heavy,
            setting.policy.load_slack * 100.0,
            setting.policy.softirq_cap * 100.0
        ));
    }
    if staying.light > 0 {
        let moved = setting.table.iter().zip(&to.table).filter(|(old, new)| old != new).count();
        if problem.max_table_changes.is_some_and(|most| moved >= most) {
            reasons.push(format!(
                "{} buckets wait: at most {moved} move in one period",
                staying.light
            ));
        } else {
            reasons.push(format!("{} buckets stay: moving them costs more", staying.light));
        }
    }
    reasons
}

/// CPUs that consume a fair share, in rising order.
fn consumers(setting: &Setting<'_>) -> Vec<CpuId> {
    let mut totals = std::collections::BTreeMap::new();
    for (cpu, rate) in setting.demand.iter().flatten() {
        *totals.entry(*cpu).or_insert(0.0) += rate;
    }
    let all: f64 = totals.values().sum();
    totals.into_iter().filter(|(_, rate)| *rate >= FAINT * all).map(|(cpu, _)| cpu).collect()
}

/// Buckets that would be cheaper on another CPU with a queue.
struct Staying {
    /// That CPU has no room for them.
    heavy: usize,
    /// It has.
    light: usize,
}

impl Staying {
    fn count(
        setting: &Setting<'_>,
        indices: &Indices,
        problem: &solve::Problem,
        to: &Arrangement,
        hosts: &BTreeSet<CpuId>,
    ) -> Self {
        let mut carried = vec![0.0; problem.cpus];
        let place = |queue| indices.of(setting.cpu_of(queue, &to.cpus));
        for (queue, load) in to.table.iter().zip(&problem.load) {
            carried[place(*queue)] += load;
        }
        let mut staying = Self { heavy: 0, light: 0 };
        for (bucket, queue) in to.table.iter().enumerate() {
            let cost = |cpu: usize| -> f64 {
                let row = problem.distance.row(cpu);
                problem.consumed.row(bucket).map(|(consumer, rate)| rate * row[consumer]).sum()
            };
            let at = place(*queue);
            let now = cost(at);
            let best = hosts
                .iter()
                .map(|cpu| indices.of(Some(*cpu)))
                .min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
            let Some(best) = best.filter(|best| cost(*best) < now * (1.0 - 1e-9)) else { continue };
            let load = problem.load[bucket];
            if carried[best] + load > problem.cap[best] * (1.0 + 1e-9) {
                staying.heavy += 1;
            } else {
                staying.light += 1;
            }
        }
        staying
    }
}
