//! The guarantees that only time can show.

use super::*;
use crate::simulate::catalogue;
use crate::simulate::scenario::Scenario;

fn scheduler(name: &str) -> Scheduler {
    match catalogue::find(name).expect("built in") {
        Scenario::Scheduler(scheduler) => scheduler,
        Scenario::Traffic(_) => panic!("{name} is of the other kind"),
    }
}

/// With the policy that is the default, whatever moved comes to rest: neither an entry nor an
/// interrupt moves in the last thirty seconds.
fn there_is_no_limit_cycle(name: &str) {
    let scheduler = scheduler(name);
    let mut failures = Vec::new();
    for seed in 1..=3 {
        let policies = [SchedulerPolicy::Steer];
        for run in run(&scheduler, &policies, &Policy::default(), seed, &mut |_| {}) {
            if run.last.moves_per_s > 0.0 || run.last.irq_moves_per_min > 0.0 {
                failures.push(format!("{name}, seed {seed}: {:?}", run.last));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn there_is_no_limit_cycle_with_8_threads() {
    there_is_no_limit_cycle("sched8");
}

#[test]
fn there_is_no_limit_cycle_with_14_threads() {
    there_is_no_limit_cycle("sched14");
}

#[test]
fn there_is_no_limit_cycle_with_8_threads_under_heavy_softirq() {
    there_is_no_limit_cycle("sched8-heavy");
}

#[test]
fn there_is_no_limit_cycle_with_14_threads_under_heavy_softirq() {
    there_is_no_limit_cycle("sched14-heavy");
}

#[test]
fn there_is_no_limit_cycle_with_more_threads_than_cpus() {
    there_is_no_limit_cycle("sched24");
}

#[test]
fn with_nothing_steered_threads_move_as_they_are_known_to() {
    // Known: none while CPUs are idle, 270 a second with 24 threads on 16 CPUs.
    for (name, least, most) in
        [("sched8", 0.0, 0.0), ("sched14", 0.0, 0.0), ("sched24", 240.0, 300.0)]
    {
        let runs =
            run(&scheduler(name), &[SchedulerPolicy::Static], &Policy::default(), 1, &mut |_| {});
        let migrations = runs[0].figures.migrations_per_s;
        assert!((least..=most).contains(&migrations), "{name}: {migrations}");
    }
}

#[test]
fn a_cap_above_the_onset_of_ksoftirqd_is_a_limit_cycle() {
    // That the model can show one at all: known with a cap of half a CPU.
    let policy = Policy { softirq_cap: 0.5, load_slack: 0.15, ..Policy::default() };
    let runs = run(&scheduler("sched8-heavy"), &[SchedulerPolicy::Steer], &policy, 1, &mut |_| {});
    assert!(runs[0].last.irq_moves_per_min > 60.0, "{:?}", runs[0].last);
    assert!(runs[0].last.migrations_per_s > 3.0, "{:?}", runs[0].last);
}
