//! The planner in its steady state allocates nothing, and its memory is what the documents say.
//!
//! A crate made for it counts, for an allocator that does is unsafe code.

use allocation_counter::measure;
use steer_agent::model::{CpuSet, Mapping, Nic, NicWorld, Queue, QueueWorld, Rss, Topology};
use steer_agent::plan::solve::{Budget, Distances, Problem, Rows, Solution, Workspace};
use steer_agent::plan::{Experience, Host, Plan, plan_with};
use steer_agent::policy::Policy;

/// Numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}

/// Pairs of hyper-threads, caches of eight CPUs, or distances of no order at all.
fn distances(cpus: usize, draw: &mut Draw, ordered: bool) -> Distances {
    let cells = (0..cpus * cpus).map(|cell| match (cell / cpus, cell % cpus) {
        (from, to) if from == to => 0.0,
        _ if !ordered => 1.0 + draw.below(20) as f64 / 10.0,
        (from, to) if from / 2 == to / 2 => 0.2,
        (from, to) if from / 8 == to / 8 => 1.0,
        _ => 3.0,
    });
    Distances::new(cpus, cells.collect()).unwrap_or_default()
}

fn problem(buckets: usize, queues: usize, cpus: usize, seed: u64, ordered: bool) -> Problem {
    let mut draw = Draw(seed);
    let mut consumed = Rows::default();
    let mut load = Vec::new();
    for _ in 0..buckets {
        let mut row = vec![0.0; cpus];
        for _ in 0..8 {
            row[draw.below(cpus)] += 1.0 + draw.below(100) as f64;
        }
        load.push(row.iter().sum());
        consumed.push(row.into_iter().enumerate());
    }
    let total: f64 = load.iter().sum();
    Problem {
        cpus,
        // The last CPU is not allowed, and a queue is on it.
        allowed: (0..cpus - 1).collect(),
        table: (0..buckets).map(|bucket| bucket % queues).collect(),
        affinity: (0..queues).map(|queue| cpus - 1 - queue % cpus).collect(),
        distance: distances(cpus, &mut draw, ordered),
        consumed,
        load,
        cap: vec![1.1 * total / queues.min(cpus - 1) as f64; cpus],
        lambda_load: 8.0,
        lambda_move: 0.2,
        kappa: 0.5,
        ..Problem::default()
    }
}

#[test]
fn solving_again_allocates_nothing() {
    let thorough = Budget { kicks: 40, ..Budget::THOROUGH };
    for (buckets, cpus) in [(128, 16), (512, 64), (2048, 128)] {
        for (queues, ordered) in [(cpus, true), (cpus / 3, true), (cpus, false)] {
            let first = problem(buckets, queues, cpus, 1, ordered);
            let second = problem(buckets, queues, cpus, 2, ordered);
            let limited = Problem {
                max_table_changes: Some(buckets / 8),
                max_affinity_changes: Some(2),
                ..second.clone()
            };
            for budget in [Budget::QUICK, Budget::INCREMENTAL, thorough] {
                if budget == thorough && buckets > 128 {
                    continue;
                }
                let mut workspace = Workspace::default();
                let mut solution = Solution::default();
                let mut solve = |problem| {
                    workspace.solve_into(problem, &budget, 1, &mut || true, &mut solution);
                };
                for problem in [&first, &second, &limited] {
                    solve(problem);
                    let counted = measure(|| solve(problem));
                    assert_eq!(
                        counted.count_total, 0,
                        "{buckets} x {queues} x {cpus}, {budget:?}: {counted:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn memory_is_a_few_bytes_for_each_cell() {
    for (buckets, cpus) in [(128, 16), (512, 64), (2048, 128)] {
        let problem = problem(buckets, cpus, cpus, 1, true);
        let mut workspace = Workspace::default();
        let mut solution = Solution::default();
        let quick = measure(|| {
            workspace.solve_into(&problem, &Budget::QUICK, 1, &mut || true, &mut solution);
        });
        let most = Budget { kicks: 4, ..Budget::THOROUGH };
        let thorough = measure(|| {
            workspace.solve_into(&problem, &most, 1, &mut || true, &mut solution);
        });
        let bytes = quick.bytes_current;
        println!("{buckets} x {cpus}: {bytes} bytes, {} more if thorough", thorough.bytes_current);
        let cells = i64::try_from(buckets * cpus).expect("few");
        assert!(bytes + thorough.bytes_current <= 40 * cells + 40_000, "{bytes}");
    }
}

/// A NIC whose traffic is spread over all its buckets, eight consumers a bucket, on CPUs that differ from
/// window to window.
fn world(buckets: usize, cpus: u32, window: u64) -> NicWorld {
    let mut draw = Draw(window);
    let queues = || 0..cpus;
    let demand: Vec<Vec<(u32, f64)>> = (0..buckets)
        .map(|_| {
            let first = u32::try_from(draw.below(4)).unwrap_or(0);
            let rate = |cpu| (cpu, 10.0 + f64::from(cpu * first));
            (first..cpus).step_by(4).map(rate).collect()
        })
        .collect();
    let load = demand.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect();
    NicWorld {
        nic: Nic {
            name: "eth0".to_owned(),
            rss: Some(Rss { table: queues().cycle().take(buckets).collect(), ..Rss::default() }),
            queues: queues()
                .map(|id| Queue {
                    id,
                    irq: Some(30 + id),
                    affinity: Some(CpuSet::single(id)),
                    effective: Some(CpuSet::single(id)),
                    ..Queue::default()
                })
                .collect(),
            ..Nic::default()
        },
        mapping: Mapping { checked: 1000, agreeing: 1000, flows: 16, ..Mapping::default() },
        queues: queues()
            .map(|queue| QueueWorld {
                queue,
                irq: Some(30 + queue),
                softirq_cpu: Some(queue),
                ..QueueWorld::default()
            })
            .collect(),
        load_per_s: Some(load),
        demand_per_s: Some(demand),
        demand_samples: 10_000,
        ..NicWorld::default()
    }
}

/// A period of the daemon: what is seen is taken in, and planned by. A few lists of a plan grow as they
/// are written, so a table of sixteen times the size may cost a few allocations more, but none for each
/// of its 1920 further buckets.
#[test]
fn a_period_allocates_nothing_for_each_bucket() {
    let topology = Topology::regular(1, 16, 1);
    let host = Host::alone(&topology, None);
    let policy = Policy::default();
    let allocations = |buckets: usize| {
        let mut workspace = Workspace::default();
        let mut experience = Experience::default();
        let worlds: Vec<NicWorld> = (1..=4).map(|window| world(buckets, 16, window)).collect();
        // Limits hold, and levers are not looked at, in every later period.
        experience.applied(&Plan::default());
        let mut period = |world: &NicWorld| {
            experience.observe(world, &host, &policy);
            let plan = plan_with(&mut workspace, world, &host, &policy, &experience, &mut || true);
            assert!(plan.share_planned.is_some(), "{:?}", plan.reasons);
        };
        worlds.iter().chain(&worlds).for_each(&mut period);
        measure(|| period(&worlds[0])).count_total
    };
    let (small, large) = (allocations(128), allocations(2048));
    println!("{small} allocations with 128 buckets, {large} with 2048");
    assert!(large <= small + 100, "{small} with 128 buckets, {large} with 2048");
}
