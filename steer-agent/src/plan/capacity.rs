//! How many packets each CPU may carry.
//!
//! Two limits, of which the wider one holds: a fair share of all packets and some more, or what fits
//! into the softirq time that a CPU may spend. The first alone causes most moves on a machine with
//! little to do; the second alone would leave a loaded one lopsided.

use super::setting::{Indices, Setting};
use super::solve;

/// Packets per second that each CPU may carry of this NIC. Slow cores take less, and so do those
/// that other NICs keep busy.
pub(super) fn caps(
    setting: &Setting<'_>,
    problem: &solve::Problem,
    indices: &Indices,
    packets: f64,
) -> Vec<f64> {
    let capacity = |index: usize| {
        let cpu = indices.cpu(index).and_then(|cpu| setting.host.topology.cpu(cpu));
        cpu.and_then(|cpu| cpu.capacity).map(f64::from)
    };
    let of_allowed = || problem.allowed.iter().filter_map(|index| capacity(*index));
    let fastest = of_allowed().fold(0.0, f64::max);
    let known = of_allowed().count() as f64;
    let mean = if known > 0.0 { of_allowed().sum::<f64>() / known } else { 1.0 };
    let others = |index: usize| indices.cpu(index).map_or(0.0, |cpu| setting.host.others_on(cpu));
    let present = problem.allowed.iter().map(|index| others(*index)).collect();
    let fair = level(present, problem.queues(), packets) * (1.0 + setting.policy.load_slack);
    let cost = time_per_packet(setting);
    let mut own = vec![0.0; indices.len()];
    for (queue, load) in problem.table.iter().zip(&problem.load) {
        if let Some(cpu) = problem.affinity.get(*queue) {
            own[*cpu] += load;
        }
    }
    for (cpu, load) in problem.affinity.iter().zip(&problem.pins.load) {
        own[*cpu] += load;
    }
    (0..indices.len())
        .map(|index| {
            let Some(cpu) = indices.cpu(index) else { return 0.0 };
            let (of_mean, of_fastest) = match capacity(index) {
                Some(speed) if fastest > 0.0 => (speed / mean, speed / fastest),
                _ => (1.0, 1.0),
            };
            let relative = (fair * of_mean - others(index)).max(0.0);
            let absolute = cost.map_or(0.0, |cost| {
                // Softirq time that is not this NIC's: of other NICs (as it was, or as it is planned
                // to be), timers, block devices.
                let busy = setting.host.softirq_share.into_iter().flatten();
                let busy: f64 = busy.filter(|(id, _)| *id == cpu).map(|(_, time)| time).sum();
                let elsewhere = (busy - cost * own[index]).max(cost * others(index));
                ((setting.policy.softirq_cap * of_fastest - elsewhere) / cost).max(0.0)
            });
            relative.max(absolute)
        })
        .collect()
}

/// The height to which `packets` fill up the `queues` least loaded CPUs, like water on uneven
/// ground: no split of them over so many CPUs leaves all below it.
fn level(mut loads: Vec<f64>, queues: usize, packets: f64) -> f64 {
    loads.sort_by(f64::total_cmp);
    loads.truncate(queues.max(1));
    let mut height = 0.0;
    let mut below = 0.0;
    for (count, load) in (1u32..).zip(&loads) {
        below += load;
        height = (packets + below) / f64::from(count);
        if loads.get(count as usize).is_none_or(|next| *next >= height) {
            break;
        }
    }
    height
}

/// CPU time of a packet, as a share of a CPU per packet per second: all softirq time over all
/// packets, which counts other softirq work in and so errs towards caution. `None` where softirq
/// time is unknown or nothing arrived.
fn time_per_packet(setting: &Setting<'_>) -> Option<f64> {
    let busy: f64 = setting.host.softirq_share?.iter().map(|(_, share)| share).sum();
    // Of the same window as the time, not of the estimate.
    let own: f64 = setting.world.load_per_s.iter().flatten().sum();
    let packets = own + setting.host.others.iter().map(|(_, rate)| rate).sum::<f64>();
    (busy > 0.0 && packets > 0.0).then(|| busy / packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn water_finds_its_level() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        // Alone: the average of the CPUs that have a queue.
        near(level(vec![0.0; 8], 4, 1000.0), 250.0);
        near(level(vec![0.0; 2], 4, 1000.0), 500.0);
        // Two of four CPUs carry 300 each: (400 + 0) / 2 = 200 stays below them.
        near(level(vec![300.0, 0.0, 300.0, 0.0], 4, 400.0), 200.0);
        // 800 go above: (800 + 600) / 4 = 350.
        near(level(vec![300.0, 0.0, 300.0, 0.0], 4, 800.0), 350.0);
        // Two queues cannot use more than the two emptiest.
        near(level(vec![300.0, 0.0, 300.0, 0.0], 2, 800.0), 400.0);
        near(level(Vec::new(), 2, 800.0), 0.0);
    }
}
