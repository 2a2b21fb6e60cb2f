//! Worked examples of the planner and the properties that it guarantees.

use proptest::prelude::*;

use super::*;
use crate::model::{
    CpuId, CpuInfo, CpuSet, Mapping, Nic, Queue, QueueId, QueueWorld, Rss, Topology, World,
};
use crate::policy::Placement;

/// A NIC with one queue on each CPU of `queue_cpus`, its table striped over them, and `demand` as
/// (bucket, consumer CPU, rate). Load is what is consumed.
pub(super) fn world(
    queue_cpus: &[CpuId],
    buckets: usize,
    demand: &[(usize, CpuId, f64)],
) -> NicWorld {
    let queues = u32::try_from(queue_cpus.len()).expect("few queues");
    let mut by_bucket = vec![Vec::new(); buckets];
    for (bucket, cpu, rate) in demand {
        by_bucket[*bucket].push((*cpu, *rate));
    }
    let load: Vec<f64> =
        by_bucket.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect();
    NicWorld {
        nic: Nic {
            name: "eth0".to_owned(),
            rss: Some(Rss { table: (0..queues).cycle().take(buckets).collect(), ..Rss::default() }),
            queues: (0..queues)
                .zip(queue_cpus)
                .map(|(id, cpu)| Queue {
                    id,
                    irq: Some(30 + id),
                    affinity: Some(CpuSet::single(*cpu)),
                    effective: Some(CpuSet::single(*cpu)),
                    xps: Some(CpuSet::default()),
                    ..Queue::default()
                })
                .collect(),
            ..Nic::default()
        },
        mapping: Mapping { checked: 1000, agreeing: 1000, flows: 16, ..Mapping::default() },
        queues: (0..queues)
            .zip(queue_cpus)
            .map(|(queue, cpu)| QueueWorld {
                queue,
                irq: Some(30 + queue),
                softirq_cpu: Some(*cpu),
                ..QueueWorld::default()
            })
            .collect(),
        load_per_s: Some(load),
        demand_per_s: Some(by_bucket),
        demand_samples: 10_000,
        ..NicWorld::default()
    }
}

/// `world` with interrupts that cannot be moved: only the table is left.
pub(super) fn with_fixed_interrupts(mut world: NicWorld) -> NicWorld {
    for queue in &mut world.nic.queues {
        queue.irq = None;
    }
    world
}

/// `world` after `plan`: what would be read back once everything has followed.
pub(super) fn after(mut world: NicWorld, plan: &Plan) -> NicWorld {
    for step in &plan.steps {
        match (&step.change.target, &step.change.to) {
            (Target::Table, Value::Table(table)) => {
                if let Some(rss) = &mut world.nic.rss {
                    rss.table.clone_from(table);
                }
            }
            (Target::IrqAffinity { queue, .. }, Value::Cpus(cpus)) => {
                let index = usize::try_from(*queue).expect("small");
                world.nic.queues[index].affinity = Some(cpus.clone());
                world.nic.queues[index].effective = Some(cpus.clone());
                world.queues[index].softirq_cpu = cpus.as_single();
            }
            (Target::Xps { queue }, Value::Cpus(cpus)) => {
                world.nic.queues[usize::try_from(*queue).expect("small")].xps = Some(cpus.clone());
            }
            other => panic!("a step whose value does not fit its target: {other:?}"),
        }
    }
    world
}

/// With half as much slack as the fair share, by which many examples below reckon.
fn half_slack() -> Policy {
    Policy { load_slack: 0.5, ..Policy::default() }
}

pub(super) fn first(world: &NicWorld, policy: &Policy) -> Plan {
    plan(world, &Host::alone(&Topology::regular(1, 8, 1), None), policy, &Experience::default())
}

/// An experience after something was written for `world`.
fn steadied(world: &NicWorld) -> Experience {
    let topology = Topology::regular(1, 8, 1);
    let mut experience = Experience::default();
    experience.observe(world, &Host::alone(&topology, None), &Policy::default());
    experience.applied(&Plan::default());
    experience
}

pub(super) fn table_of(plan: &Plan) -> Option<&Vec<QueueId>> {
    plan.steps.iter().find_map(|step| match &step.change.to {
        Value::Table(table) => Some(table),
        Value::Cpus(_) | Value::Rule(_) => None,
    })
}

#[test]
fn crossed_buckets_change_places() {
    // Buckets 0..4 go to queues 0..3 on CPUs 0..3; each is consumed two CPUs on.
    // Nothing is aligned; after the exchange everything is, and every CPU still has 100/s.
    let demand = [(0, 2, 100.0), (1, 3, 100.0), (2, 0, 100.0), (3, 1, 100.0)];
    let world = world(&[0, 1, 2, 3], 4, &demand);
    // Moving the table's entries costs 0.2 * 400 = 80 of the 400 gained.
    let plan = first(&with_fixed_interrupts(world.clone()), &Policy::default());
    assert_eq!(table_of(&plan), Some(&vec![2, 3, 0, 1]));
    assert_eq!(plan.share_planned, Some(1.0));
    assert_eq!(plan.buckets_moved(), 4);
    let gain: f64 = plan.steps.iter().map(|step| step.gain_per_s).sum();
    assert!((gain - 400.0).abs() < 1e-9, "{gain}");
    // Moving the interrupts costs a quarter of that and reorders nothing.
    let plan = first(&world, &Policy::default());
    assert_eq!((table_of(&plan), plan.share_planned), (None, Some(1.0)));
    let gain: f64 = plan.steps.iter().map(|step| step.gain_per_s).sum();
    assert!((gain - 400.0).abs() < 1e-9, "{gain}");
    assert_eq!(cpus_after(world, &plan), [Some(2), Some(3), Some(0), Some(1)]);
}

fn cpus_after(world: NicWorld, plan: &Plan) -> Vec<Option<CpuId>> {
    after(world, plan).queues.iter().map(|queue| queue.softirq_cpu).collect()
}

#[test]
fn queues_come_to_consumers_that_have_none() {
    // Both queues sit on CPUs 0 and 1; everything is consumed on 4 and 5, bucket by bucket as the
    // table has it: two interrupts at 0.0625 * 220 = 14 save 220.
    let world = world(&[0, 1], 4, &[(0, 4, 50.0), (1, 5, 60.0), (2, 4, 50.0), (3, 5, 60.0)]);
    let plan = first(&world, &Policy::default());
    let moved: Vec<String> = plan.steps.iter().map(|step| step.change.target.to_string()).collect();
    assert_eq!(
        moved,
        [
            "affinity of IRQ 30 (queue 0)",
            "affinity of IRQ 31 (queue 1)",
            "XPS of TX queue 0",
            "XPS of TX queue 1",
        ]
    );
    assert_eq!(cpus_after(world, &plan), [Some(4), Some(5)]);
    assert_eq!(plan.share_planned, Some(1.0));
}

#[test]
fn fewer_queues_than_consumers_serve_the_heaviest() {
    let demand = [(0, 0, 10.0), (1, 1, 200.0), (2, 2, 300.0), (3, 3, 20.0)];
    let world = world(&[0, 0], 4, &demand);
    let plan = first(&world, &Policy { load_slack: 10.0, ..Policy::default() });
    assert_eq!(cpus_after(world, &plan), [Some(2), Some(1)]);
    // 500 of 530 consumptions can be aligned.
    assert!((plan.share_planned.unwrap_or(0.0) - 500.0 / 530.0).abs() < 1e-9);
}

#[test]
fn a_balanced_world_needs_no_step() {
    let demand = [(0, 0, 100.0), (1, 1, 100.0), (2, 2, 100.0), (3, 3, 100.0)];
    let mut world = world(&[0, 1, 2, 3], 4, &demand);
    for (queue, cpu) in world.nic.queues.iter_mut().zip(0..) {
        queue.xps = Some(CpuSet::single(cpu));
    }
    let plan = first(&world, &Policy::default());
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.reasons, ["every bucket is with the consumer that it can be with"]);
}

#[test]
fn interrupts_stay_where_they_are_not_to_be_moved() {
    // Queues 0 and 1 are on CPUs 0 and 1, consumers on CPUs 1, 2 and 3: only what CPU 1 consumes can
    // be brought to it.
    let world = world(&[0, 1], 4, &[(0, 1, 100.0), (1, 1, 100.0), (2, 2, 100.0), (3, 3, 100.0)]);
    let policy = Policy { move_irqs: false, load_slack: 10.0, ..Policy::default() };
    let plan = first(&world, &policy);
    let moved = |step: &Step| matches!(step.change.target, Target::IrqAffinity { .. });
    assert!(!plan.steps.iter().any(moved), "{plan:?}");
    assert_eq!(plan.share_planned, Some(0.5));
    assert_eq!(plan.achievable, Some(0.5), "what is possible with interrupts as they are");
    let said = "no queue for the consumers on CPUs [2, 3]: interrupts are not moved";
    assert!(plan.reasons.iter().any(|reason| reason == said), "{plan:?}");
}

#[test]
fn no_move_without_gain() {
    // CPU 1 consumes 52 of 100, CPU 0 has 48: a gain of 4 for which 0.2 * 100 would have to be paid.
    let world = world(&[0, 1], 2, &[(0, 0, 48.0), (0, 1, 52.0), (1, 1, 100.0)]);
    let plan = first(&world, &Policy::default());
    assert_eq!(table_of(&plan), None);
}

#[test]
fn load_is_never_pushed_above_the_cap() {
    // Everything is consumed on CPU 0: with 50 % slack it takes 600 of the 1600 packets, no more.
    let demand: Vec<_> = (0..16).map(|bucket| (bucket, 0, 100.0)).collect();
    let world = world(&[0, 1, 2, 3], 16, &demand);
    let plan = first(&world, &half_slack());
    let table = table_of(&plan).expect("some buckets move");
    assert_eq!(table.iter().filter(|queue| **queue == 0).count(), 6);
    assert!(plan.reasons.iter().any(|reason| reason.starts_with("10 buckets stay")), "{plan:?}");

    // With 10 % of one CPU spent on all of it, 35 % of a CPU takes everything.
    let softirq = [(0, 0.025), (1, 0.025), (2, 0.025), (3, 0.025)];
    let topology = Topology::regular(1, 8, 1);
    let plan = super::plan(
        &world,
        &Host::alone(&topology, Some(&softirq)),
        &half_slack(),
        &Experience::default(),
    );
    assert_eq!(plan.share_planned, Some(1.0));
}

#[test]
fn where_kernel_threads_poll_nothing_is_planned() {
    let mut world = world(&[0, 1], 16, &[(0, 1, 1000.0), (1, 0, 1000.0)]);
    assert!(!first(&world, &Policy::default()).is_empty(), "polled by softirqs it is worth a plan");
    world.nic.threaded_napi = Some(true);
    let plan = first(&world, &Policy::default());
    assert!(plan.is_empty() && plan.achievable.is_none(), "{plan:?}");
    assert!(plan.reasons[0].contains("threaded NAPI"), "{plan:?}");
    // The kernel has it, and it is off.
    world.nic.threaded_napi = Some(false);
    assert!(!first(&world, &Policy::default()).is_empty());
}

#[test]
fn an_unverified_table_is_not_touched() {
    let mut world = world(&[0, 1], 2, &[(0, 1, 100.0), (1, 0, 100.0)]);
    world.mapping.agreeing = 250;
    let plan = first(&world, &Policy::default());
    assert!(plan.is_empty());
    assert!(plan.reasons[0].starts_with("mapping unverified: 25.0 %"), "{:?}", plan.reasons);
}

#[test]
fn only_allowed_cpus_are_given_interrupts() {
    let world = world(&[0, 1], 2, &[(0, 6, 100.0), (1, 7, 100.0)]);
    let allowed = "0-6".parse().expect("a list");
    let policy = Policy { allowed_cpus: Some(allowed), ..Policy::default() };
    let plan = first(&world, &policy);
    for step in &plan.steps {
        if let Value::Cpus(cpus) = &step.change.to {
            assert!(!cpus.contains(7), "{step:?}");
        }
    }
    assert!(plan.reasons.iter().any(|reason| reason.contains("CPUs [7]")), "{:?}", plan.reasons);
}

#[test]
fn moves_are_limited_after_the_first_plan() {
    let demand: Vec<_> =
        (0..64).map(|bucket| (bucket, u32::try_from(63 - bucket).unwrap_or(0) % 4, 10.0)).collect();
    let world = world(&[0, 1, 2, 3], 64, &demand);
    let topology = Topology::regular(1, 8, 1);
    let host = Host::alone(&topology, None);
    // The interrupts alone could do it, with the four moves that a period has.
    let steady = plan(&world, &host, &Policy::default(), &steadied(&world));
    assert_eq!((steady.buckets_moved(), steady.share_planned), (0, Some(1.0)));
    let world = with_fixed_interrupts(world);
    let steady = plan(&world, &host, &Policy::default(), &steadied(&world));
    assert_eq!(steady.buckets_moved(), 4);
    assert_eq!(steady.achievable, Some(1.0), "what is possible does not depend on the pace");
    assert!(
        steady.reasons.contains(&"60 buckets wait: at most 4 move in one period".to_owned()),
        "{:?}",
        steady.reasons
    );
}

#[test]
fn the_placement_policy_says_what_is_near() {
    // One busy consumer on CPU 0 of two caches of two cores with two threads; its queue is on CPU 7.
    let mut world = world(&[7], 2, &[(0, 0, 100.0), (1, 0, 100.0)]);
    world.nic.queues[0].xps = None;
    let topology = Topology::regular(2, 2, 2);
    let goes_to = |placement: Placement| {
        let policy = Policy { placement, ..Policy::default() };
        let plan = plan(&world, &Host::alone(&topology, None), &policy, &Experience::default());
        cpus_after(world.clone(), &plan)[0]
    };
    assert_eq!(goes_to(Placement::SameCore), Some(0));
    assert_eq!(goes_to(Placement::SmtSibling), Some(1));
    assert!(goes_to(Placement::SameLlc).is_some_and(|cpu| cpu < 4));
    assert!(goes_to(Placement::SameNode).is_some_and(|cpu| cpu < 4));
    assert!(goes_to(Placement::Dedicated).is_some_and(|cpu| cpu == 2 || cpu == 3));
}

#[test]
fn a_slow_core_and_a_busy_one_take_less() {
    // CPU 0 consumes everything, 16 buckets of 100; all packets take 40 % of a CPU, so that the
    // 35 % a CPU may spend are 1400 packets. At half the capacity they are 700 and the average
    // binds; so it does where other softirq work takes 30 % of CPU 0.
    let demand: Vec<_> = (0..16).map(|bucket| (bucket, 0, 100.0)).collect();
    let world = with_fixed_interrupts(world(&[0, 1, 2, 3], 16, &demand));
    let on_first = |topology: &Topology, softirq: &[(CpuId, f64)]| {
        let plan = plan(
            &world,
            &Host::alone(topology, Some(softirq)),
            &half_slack(),
            &Experience::default(),
        );
        table_of(&plan).map_or(4, |table| table.iter().filter(|queue| **queue == 0).count())
    };
    let plain = Topology::regular(1, 4, 1);
    let even = [(0, 0.1), (1, 0.1), (2, 0.1), (3, 0.1)];
    assert_eq!(on_first(&plain, &even), 14);
    let mut mixed = plain.clone();
    for CpuInfo { id, capacity, .. } in &mut mixed.cpus {
        *capacity = Some(if *id == 0 { 512 } else { 1024 });
    }
    assert_eq!(on_first(&mixed, &even), 7);
    let busy = [(0, 0.4), (1, 0.1), (2, 0.1), (3, 0.1)];
    // 0.7 / 1600 a packet: 0.35 - (0.4 - 0.175) are 285 packets; the average allows 600.
    assert_eq!(on_first(&plain, &busy), 6);
}

#[test]
fn what_an_overload_costs_is_cured_first() {
    // CPU 0 polls everything, and consumes it: the average with half as much again is 600 of 1600.
    let demand: Vec<_> = (0..16).map(|bucket| (bucket, 0, 100.0)).collect();
    let mut world = world(&[0, 1, 2, 3], 16, &demand);
    if let Some(rss) = &mut world.nic.rss {
        rss.table = vec![0; 16];
    }
    let plan = first(&world, &half_slack());
    let table = table_of(&plan).expect("a table");
    assert_eq!(table.iter().filter(|queue| **queue == 0).count(), 6);
}

#[test]
fn a_table_that_costs_the_link_stays_and_interrupts_move() {
    // Each bucket is consumed by one CPU, but two consumers share each queue: interrupts alone reach
    // half of it.
    let demand: Vec<_> = (0..16u32).map(|bucket| (bucket as usize, bucket / 2 % 4, 10.0)).collect();
    let mut bnxt = world(&[4, 5, 6, 7], 16, &demand);
    bnxt.nic.driver = Some("bnxt_en".to_owned());
    for driver in ["bnxt_en", "nobody", "mlx4_core"] {
        bnxt.nic.driver = Some(driver.to_owned());
        let plan = first(&bnxt, &Policy::default());
        assert_eq!((plan.buckets_moved(), table_of(&plan)), (0, None), "{driver}");
        let irqs = plan.steps.iter().filter(|step| step.change.target != Target::Table);
        assert!(irqs.count() > 0, "{driver}: {:?}", plan.steps);
        assert!(plan.achievable < Some(0.6), "the table does not count: {:?}", plan.achievable);
        assert!(
            plan.reasons[0].contains(" buckets stay: the table is not written: "),
            "{driver}: {:?}",
            plan.reasons
        );
    }
    let permitted = Policy { allow_link_reset: true, ..Policy::default() };
    bnxt.nic.driver = Some("bnxt_en".to_owned());
    assert!(first(&bnxt, &permitted).buckets_moved() > 0);
    bnxt.nic.driver = Some("mlx4_core".to_owned());
    assert_eq!(first(&bnxt, &permitted).buckets_moved(), 0, "there is nothing to permit");
    // A bucket of a queue that is gone would be moved first of all.
    bnxt.nic.driver = Some("bnxt_en".to_owned());
    bnxt.nic.rss.as_mut().expect("a table").table[3] = 9;
    assert_eq!(first(&bnxt, &Policy::default()).buckets_moved(), 0);
}

/// 5,000 packets per second on each of two queues: with a read in every 20,000 packets nobody reads, with
/// one in a thousand somebody does.
#[test]
fn packets_that_nobody_reads_are_aligned_with_nobody() {
    let mut world = world(&[0, 1], 4, &[(0, 1, 50.0), (1, 0, 50.0)]);
    for queue in &mut world.queues {
        queue.packets_per_s = 5_000.0;
        queue.consumed_per_s = 0.25;
    }
    let plan = first(&world, &half_slack());
    assert!(plan.is_empty());
    assert!(
        plan.reasons[0]
            .starts_with("10000 packets per second arrive and no process is seen to read"),
        "{:?}",
        plan.reasons
    );
    for queue in &mut world.queues {
        queue.consumed_per_s = 5.0;
    }
    assert!(!first(&world, &half_slack()).is_empty());
    // What is read of unknown queues is read all the same.
    for queue in &mut world.queues {
        queue.consumed_per_s = 0.0;
    }
    world.alignment.unattributed_per_s = 10.0;
    assert!(!first(&world, &half_slack()).is_empty());
}

#[test]
fn what_is_unknown_is_said() {
    let mut world = world(&[0, 1], 2, &[(0, 1, 100.0), (1, 0, 100.0)]);
    world.demand_per_s = None;
    assert!(first(&world, &Policy::default()).reasons[0].contains("reports no hash"));
    world.nic.rss = None;
    assert!(first(&world, &Policy::default()).reasons[0].contains("no indirection table"));
}

prop_compose! {
    fn any_world()(
        queue_cpus in prop::collection::vec(0u32..8, 1..8),
        size in 0u32..6,
        demand in prop::collection::vec((0usize..32, 0u32..8, 1.0f64..1000.0), 1..64),
    ) -> NicWorld {
        let buckets = 1usize << size;
        let mut merged = std::collections::BTreeMap::new();
        for (bucket, cpu, rate) in demand {
            *merged.entry((bucket % buckets, cpu)).or_insert(0.0) += rate;
        }
        let demand: Vec<_> =
            merged.into_iter().map(|((bucket, cpu), rate)| (bucket, cpu, rate)).collect();
        world(&queue_cpus, buckets, &demand)
    }
}

#[test]
fn a_plan_is_improved_while_there_is_time() {
    // Sixteen buckets, each consumed on two CPUs: there is always something to try.
    let split =
        |bucket: usize, cpu: usize| (bucket, u32::try_from((bucket + cpu) % 4).unwrap_or(0));
    let demand: Vec<_> = (0..16)
        .flat_map(|bucket| [split(bucket, 1), split(bucket, 2)])
        .map(|(bucket, cpu)| (bucket, cpu, 10.0 * (bucket + 1) as f64))
        .collect();
    let world = world(&[0, 1, 2, 3], 16, &demand);
    let topology = Topology::regular(1, 8, 1);
    let questions = |answer: bool| {
        let mut asked = 0;
        let _ = plan_with(
            &mut Workspace::default(),
            &world,
            &Host::alone(&topology, None),
            &Policy::default(),
            &Experience::default(),
            &mut || {
                asked += 1;
                answer
            },
        );
        asked
    };
    // Who says no is not asked again; with a yes the search goes on, and asks again and again.
    assert_eq!(questions(false), 1);
    assert!(questions(true) > 10, "{}", questions(true));
}

proptest! {
    #[test]
    fn planning_again_after_the_plan_changes_nothing(world in any_world()) {
        // Without a load limit, which may let a second pass in where the first freed room.
        let policy = Policy { load_slack: 1e9, ..Policy::default() };
        let plan = first(&world, &policy);
        let again = first(&after(world, &plan), &policy);
        prop_assert!(again.is_empty(), "{:?}", again);
    }

    #[test]
    fn a_plan_without_time_is_no_worse_than_none(world in any_world(), questions in 0..30_u32) {
        // Without a load limit, to which alignment may be given up.
        let policy = Policy { load_slack: 1e9, ..Policy::default() };
        let topology = Topology::regular(1, 8, 1);
        let (host, experience) = (Host::alone(&topology, None), Experience::default());
        let mut left = questions;
        let mut keep_going = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let mut workspace = Workspace::default();
        let plan =
            plan_with(&mut workspace, &world, &host, &policy, &experience, &mut keep_going);
        let queues = world.queues.len();
        for step in &plan.steps {
            match &step.change.to {
                Value::Table(table) => {
                    prop_assert!(table.iter().all(|queue| (*queue as usize) < queues));
                }
                Value::Cpus(cpus) => {
                    prop_assert!(cpus.iter().all(|cpu| cpu < 8), "{:?}", step);
                }
                Value::Rule(_) => {}
            }
        }
        let gain: f64 = plan.steps.iter().map(|step| step.gain_per_s).sum();
        prop_assert!(gain >= 0.0, "{:?}", plan);
    }

    #[test]
    fn a_plan_undone_is_where_it_began(world in any_world()) {
        let plan = first(&world, &Policy::default());
        let mut back = after(world.clone(), &plan);
        let undo = Plan {
            steps: plan
                .steps
                .iter()
                .rev()
                .map(|step| Step { change: step.change.inverse(), ..step.clone() })
                .collect(),
            ..Plan::default()
        };
        back = after(back, &undo);
        prop_assert_eq!(back.nic.rss, world.nic.rss);
        for (now, before) in back.nic.queues.iter().zip(&world.nic.queues) {
            prop_assert_eq!(&now.affinity, &before.affinity);
            prop_assert_eq!(&now.xps, &before.xps);
        }
    }

    #[test]
    fn the_same_world_gives_the_same_plan(world in any_world()) {
        prop_assert_eq!(first(&world, &Policy::default()), first(&world, &Policy::default()));
    }

    #[test]
    fn no_plan_aligns_less_than_before(world in any_world()) {
        // Under one cache all that is not aligned costs the same: without a load limit, less cost is
        // more alignment. Interrupts stay where they are: the table alone must never lose.
        let world = with_fixed_interrupts(world);
        let before = {
            let table = world.nic.rss.as_ref().map(|rss| rss.table.clone()).unwrap_or_default();
            let demand = world.demand_per_s.clone().unwrap_or_default();
            let (mut aligned, mut total) = (0.0, 0.0);
            for (queue, row) in table.iter().zip(&demand) {
                for (cpu, rate) in row {
                    total += rate;
                    if world.napi_cpu(*queue) == Some(*cpu) {
                        aligned += rate;
                    }
                }
            }
            aligned / total
        };
        let policy = Policy { load_slack: 1e9, ..Policy::default() };
        let planned = first(&world, &policy).share_planned.unwrap_or(1.0);
        prop_assert!(planned >= before - 1e-9, "{planned} < {before}");
    }

    #[test]
    fn whole_buckets_are_not_paid_for_with_overload(world in any_world()) {
        let policy = Policy::default();
        let plan = first(&world, &policy);
        let overload = |world: &NicWorld| {
            let table = world.nic.rss.as_ref().map(|rss| rss.table.clone()).unwrap_or_default();
            let load = world.load_per_s.clone().unwrap_or_default();
            let mut by_cpu = std::collections::BTreeMap::new();
            for (queue, load) in table.iter().zip(&load) {
                *by_cpu.entry(world.napi_cpu(*queue)).or_insert(0.0) += load;
            }
            let usable = world.queues.len().min(8) as f64;
            let cap = (1.0 + policy.load_slack) * load.iter().sum::<f64>() / usable;
            by_cpu.values().map(|load| (load - cap).max(0.0)).sum::<f64>()
        };
        let heaviest = world.load_per_s.iter().flatten().copied().fold(0.0, f64::max);
        let (before, now) = (overload(&world), overload(&after(world, &plan)));
        // What can be bought is bounded by the price, a fortieth of a bucket.
        prop_assert!(now <= before + heaviest / 40.0 + 1e-6, "{now} > {before}");
    }
}

#[test]
fn nics_that_share_cpus_share_their_room() {
    // Two NICs with four queues on four CPUs, each with 16 buckets of 100 that CPU 0 consumes. With
    // half as much again as the fair share, CPU 0 may carry 1.5 * 3200 / 4 = 1200 in all.
    let demand: Vec<_> = (0..16).map(|bucket| (bucket, 0, 100.0)).collect();
    let mut nics = [world(&[0, 1, 2, 3], 16, &demand), world(&[0, 1, 2, 3], 16, &demand)];
    nics[1].nic.ifindex = 9;
    let policy = Policy { allowed_cpus: "0-3".parse().ok(), ..half_slack() };
    for nic in &mut nics {
        for queue in &mut nic.queues {
            queue.packets_per_s = 400.0;
            queue.consumed_per_s = 400.0;
        }
    }
    let whole =
        World { topology: Topology::regular(1, 8, 1), nics: nics.to_vec(), ..World::default() };
    let mut shared = Shared::new(&whole);
    let on_first = |plan: &Plan| {
        plan.carried.iter().filter(|(cpu, _)| *cpu == 0).map(|(_, rate)| rate).sum::<f64>()
    };
    let mut carried = Vec::new();
    for nic in &nics {
        let plan = plan(nic, &shared.around(nic), &policy, &Experience::default());
        shared.follow(nic, &plan);
        carried.push(on_first(&plan));
    }
    // The first sees 400 of the other there and takes 800; the second sees those and takes 400.
    assert_eq!(carried, [800.0, 400.0]);
}

#[test]
fn levers_that_are_off_are_left_alone() {
    let world = world(&[0, 1], 2, &[(0, 1, 100.0), (1, 0, 100.0)]);
    let is = |plan: &Plan, wanted: fn(&Target) -> bool| {
        plan.steps.iter().any(|step| wanted(&step.change.target))
    };
    let table = |target: &Target| *target == Target::Table;
    let irq = |target: &Target| matches!(target, Target::IrqAffinity { .. });
    let xps = |target: &Target| matches!(target, Target::Xps { .. });

    let no_irqs = Policy { move_irqs: false, ..Policy::default() };
    let plan = first(&world, &no_irqs);
    assert!(is(&plan, table) && is(&plan, xps) && !is(&plan, irq), "{plan:?}");
    let no_xps = Policy { set_xps: false, ..no_irqs.clone() };
    assert!(!is(&first(&world, &no_xps), xps));
    let no_table = Policy { move_table: false, ..no_irqs };
    let plan = first(&world, &no_table);
    assert!(!is(&plan, table), "{plan:?}");
    assert!(plan.reasons.iter().any(|why| why.contains("policy.move_table")), "{:?}", plan.reasons);
    let denied = Policy { denied_cpus: CpuSet::single(1), ..Policy::default() };
    let plan = first(&world, &denied);
    for step in plan.steps.iter().filter(|step| irq(&step.change.target)) {
        assert_ne!(step.change.to, Value::Cpus(CpuSet::single(1)), "{step:?}");
    }
}
