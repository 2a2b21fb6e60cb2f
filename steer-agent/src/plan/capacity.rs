//! How many packets each CPU may carry.
//!
//! Two limits, of which the wider one holds: a fair share of all packets and some more, or what fits
//! into the softirq time that a CPU may spend. The first alone causes most moves on a machine with
//! little to do; the second alone would leave a loaded one lopsided.
//!
//! A CPU that is a little above its cap already may keep what it has: see [`TOLERATED`].

use super::setting::{Indices, Setting};
use super::solve;

/// Share of its cap by which a CPU may be above it and still keep what it has; nothing is ever moved
/// there for it. What a CPU carries varies from window to window by as much, and a bucket that goes for
/// an excess that is over in the next window comes back in the one after. Small enough that 0.35 of a
/// CPU stays below the 0.4 where ksoftirqd sets in.
const TOLERATED: f64 = 0.1;

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
    let usual = carried(problem, &problem.load, &problem.pins.load, indices);
    // Softirq time is that of the window, so what explains it is the window's load as well: against the
    // estimate, a burst of this NIC would pass for somebody else's work and take room twice.
    let window = setting.traffic_of_window();
    let now = carried(problem, &window.load, &window.tied.load, indices);
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
                let elsewhere = (busy - cost * now[index]).max(cost * others(index));
                ((setting.policy.softirq_cap * of_fastest - elsewhere) / cost).max(0.0)
            });
            let cap = relative.max(absolute);
            cap.max(usual[index].min(cap * (1.0 + TOLERATED)))
        })
        .collect()
}

/// Packets per second on each CPU of a problem where things are, from those of each bucket and those
/// that rules tie to each queue.
fn carried(problem: &solve::Problem, load: &[f64], tied: &[f64], indices: &Indices) -> Vec<f64> {
    let mut carried = vec![0.0; indices.len()];
    let by_table = problem.table.iter().map(|queue| problem.affinity.get(*queue)).zip(load);
    let by_rule = problem.affinity.iter().map(Some).zip(tied);
    for (cpu, load) in by_table.chain(by_rule) {
        if let Some(cpu) = cpu {
            carried[*cpu] += load;
        }
    }
    carried
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
    use super::super::tests::{first, table_of, world};
    use super::*;
    use crate::model::{CpuId, Topology};
    use crate::plan::{Experience, Host, Plan, plan};
    use crate::policy::Policy;

    /// Sixteen buckets on two CPUs that consume what they poll; those of CPU 0 have `first` packets
    /// each, the others 100.
    fn two_consumers(first: f64) -> Vec<(usize, CpuId, f64)> {
        (0..16)
            .map(|bucket| if bucket % 2 == 0 { (bucket, 0, first) } else { (bucket, 1, 100.0) })
            .collect()
    }

    #[test]
    fn a_burst_is_not_taken_for_work_of_others() {
        // A packet takes 0.00035 of a CPU, so that 0.35 of one are 1000 packets; the average allows less.
        // CPU 0 has 800, then 1120 in one window: the estimate is 0.4 * 800 + 0.6 * 1120 = 992, which
        // fits. Were the 128 packets above it somebody else's, 872 would be left.
        let topology = Topology::regular(1, 2, 1);
        let policy = Policy { load_slack: 0.0, ..Policy::default() };
        let mut experience = Experience::default();
        let mut window = |each: f64| {
            let world = world(&[0, 1], 16, &two_consumers(each));
            let softirq = [(0, 8.0 * each * 0.00035), (1, 0.28)];
            let host = Host::alone(&topology, Some(&softirq));
            experience.observe(&world, &host, &policy);
            experience.applied(&Plan::default());
            table_of(&plan(&world, &host, &policy, &experience)).cloned()
        };
        assert_eq!(window(100.0), None);
        assert_eq!(window(140.0), None);
    }

    #[test]
    fn a_cpu_a_little_above_its_cap_keeps_what_it_has() {
        // The average of 2000 packets on two CPUs and 15 % are 1150: 1200 are 4 % more. Of 2160 they
        // are 1242, and 1360 are 9 % more; of 2240 they are 1288, and 1440 are 12 % more.
        let table = |each| {
            let plan = first(&world(&[0, 1], 16, &two_consumers(each)), &Policy::default());
            table_of(&plan).cloned()
        };
        assert_eq!(table(150.0), None);
        assert_eq!(table(170.0), None);
        assert!(table(180.0).is_some());
    }

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
