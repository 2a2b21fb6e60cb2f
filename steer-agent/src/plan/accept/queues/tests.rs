use crate::model::{CpuId, NicWorld, QueueWorld};
use crate::plan::tests::{after, first, with_fixed_interrupts, world};
use crate::plan::{Plan, Target};
use crate::policy::Policy;

/// A little consumption of every bucket, on CPU 7.
fn nic(queue_cpus: &[CpuId]) -> NicWorld {
    let demand: Vec<(usize, CpuId, f64)> = (0..16).map(|bucket| (bucket, 7, 10.0)).collect();
    world(queue_cpus, 16, &demand)
}

fn workers(cpus: &str) -> Policy {
    Policy { workers: cpus.parse().ok(), ..Policy::default() }
}

/// Where the queues are after the plan, and the plan.
fn planned(queue_cpus: &[CpuId], policy: &Policy) -> (Vec<Option<CpuId>>, Plan) {
    let before = nic(queue_cpus);
    let plan = first(&before, policy);
    let now = after(before, &plan);
    (now.queues.iter().map(QueueWorld::napi_cpu).collect(), plan)
}

fn cpus(cpus: &[CpuId]) -> Vec<Option<CpuId>> {
    cpus.iter().copied().map(Some).collect()
}

#[test]
fn queues_go_one_to_one_to_the_workers() {
    // All queues on CPU 0; whoever consumes at the moment (7) does not matter.
    let (now, plan) = planned(&[0, 0, 0, 0], &workers("0-3"));
    assert_eq!(now, cpus(&[0, 1, 2, 3]));
    assert!(plan.reasons[0].contains("one to one"), "{plan:?}");
    assert!(plan.steps.iter().all(|step| step.change.target != Target::Table));
}

#[test]
fn a_queue_that_is_with_a_worker_stays() {
    let (now, _) = planned(&[3, 5, 2, 3], &workers("2-5"));
    // Queue 0 keeps CPU 3, 1 keeps 5, 2 keeps 2; queue 3 is the second on 3, and 4 has none.
    assert_eq!(now, cpus(&[3, 5, 2, 4]));
}

#[test]
fn more_queues_than_workers_are_shared_out_evenly() {
    let (now, _) = planned(&[0, 0, 0, 0], &workers("4,6"));
    assert_eq!(now, cpus(&[4, 6, 4, 6]));
}

#[test]
fn once_there_interrupts_stay_whatever_is_consumed_elsewhere() {
    let before = nic(&[0, 1, 2, 3]);
    let settled = after(before.clone(), &first(&before, &workers("0-3")));
    let again = first(&settled, &workers("0-3"));
    let moved = |plan: &Plan| {
        plan.steps
            .iter()
            .filter(|step| matches!(step.change.target, Target::IrqAffinity { .. }))
            .count()
    };
    assert_eq!(moved(&again), 0, "{again:?}");
    assert!(moved(&first(&settled, &Policy::default())) > 0, "without workers CPU 7 draws them");
}

#[test]
fn workers_on_cpus_that_are_not_allowed_move_nothing() {
    let policy = Policy { allowed_cpus: "0-1".parse().ok(), ..workers("4-5") };
    let (now, _) = planned(&[0, 1], &policy);
    assert_eq!(now, cpus(&[0, 1]));
}

#[test]
fn interrupts_that_cannot_be_moved_have_their_place() {
    let fixed = with_fixed_interrupts(nic(&[0, 0]));
    let plan = first(&fixed, &workers("0-1"));
    let irqs = |plan: &Plan| {
        plan.steps.iter().any(|step| matches!(step.change.target, Target::IrqAffinity { .. }))
    };
    assert!(!irqs(&plan), "{plan:?}");
}
