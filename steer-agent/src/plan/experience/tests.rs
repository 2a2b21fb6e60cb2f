//! Worked examples of what is learned from period to period.

use super::*;
use crate::model::Topology;

/// Buckets by (consumer CPU, rate); load is as much.
fn world(demand: &[&[(CpuId, f64)]]) -> NicWorld {
    NicWorld {
        load_per_s: Some(demand.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect()),
        demand_per_s: Some(demand.iter().map(|row| row.to_vec()).collect()),
        residency: Some(1.0),
        ..NicWorld::default()
    }
}

fn observe(experience: &mut Experience, world: &NicWorld) {
    let topology = Topology::regular(1, 8, 1);
    experience.observe(world, &Host::alone(&topology, None), &Policy::default());
}

/// Bucket 0 goes from queue 0 on CPU 0 to queue 1 on CPU 1, to save `saved_per_s`.
fn plan(saved_per_s: f64) -> Plan {
    Plan {
        forecast: vec![Forecast { bucket: 0, from: Some(0), to: 1, by_table: true, saved_per_s }],
        ..Plan::default()
    }
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn the_estimate_follows_and_smooths() {
    let mut experience = Experience::default();
    observe(&mut experience, &world(&[&[(0, 100.0)], &[]]));
    assert_eq!(experience.demand().expect("one window")[0], [(0, 100.0)]);
    // The consumer moves to CPU 1 and becomes twice as fast: 0.4 * 100 stay, 0.6 * 200 are new.
    observe(&mut experience, &world(&[&[(1, 200.0)], &[]]));
    let row = &experience.demand().expect("two windows")[0];
    assert_eq!(row.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>(), [0, 1]);
    near(row[0].1, 40.0);
    near(row[1].1, 120.0);
    near(experience.load().expect("two windows")[0], 160.0);
    // What is gone fades out of the list, and does not only become small.
    for _ in 0..10 {
        observe(&mut experience, &world(&[&[(1, 200.0)], &[]]));
    }
    assert_eq!(experience.demand().expect("many windows")[0].len(), 1);
}

#[test]
fn trust_is_what_came_true_of_what_was_promised() {
    let mut experience = Experience::default();
    observe(&mut experience, &world(&[&[(1, 100.0)], &[(0, 100.0)]]));
    // Under one cache a CPU that is not the consumer's costs 1: 100 are to be saved, 100 are.
    experience.applied(&plan(100.0));
    observe(&mut experience, &world(&[&[(1, 100.0)], &[(0, 100.0)]]));
    near(experience.trust(), 1.0);
    let outcome = experience.last_outcome().expect("judged");
    near(outcome.predicted_per_s, 100.0);
    near(outcome.realised_per_s, 100.0);
    // The consumer has gone to CPU 0: what was to be saved is lost. 0.7 * 1 + 0.3 * 0.
    experience.applied(&plan(100.0));
    observe(&mut experience, &world(&[&[(0, 100.0)], &[(0, 100.0)]]));
    near(experience.trust(), 0.7);
    assert!(experience.last_outcome().expect("judged").realised_per_s < 0.0);
    // A quiet period gives a little back.
    observe(&mut experience, &world(&[&[(0, 100.0)], &[(0, 100.0)]]));
    near(experience.trust(), 0.72);
    // It never reaches zero, or nothing would be tried again.
    for _ in 0..50 {
        experience.applied(&plan(100.0));
        observe(&mut experience, &world(&[&[(0, 100.0)], &[(0, 100.0)]]));
    }
    near(experience.trust(), 0.05);
}

#[test]
fn a_promise_is_not_broken_by_less_traffic() {
    let mut experience = Experience::default();
    observe(&mut experience, &world(&[&[(1, 100.0)], &[(0, 100.0)]]));
    experience.applied(&plan(100.0));
    observe(&mut experience, &world(&[&[(1, 10.0)], &[(0, 10.0)]]));
    near(experience.trust(), 1.0);
}

#[test]
fn a_bucket_that_moved_costs_more_until_it_rests() {
    let mut experience = Experience::default();
    let quiet = world(&[&[(1, 100.0)], &[(0, 100.0)]]);
    observe(&mut experience, &quiet);
    assert!(experience.move_factors().is_empty());
    experience.applied(&plan(100.0));
    assert_eq!(experience.move_factors(), [2.0, 1.0]);
    observe(&mut experience, &quiet);
    near(experience.move_factors()[0], 1.8);
    // Moved again and taken back: it rests, and the broken promise is not held against it.
    experience.applied(&plan(100.0));
    experience.taken_back();
    assert_eq!((experience.frozen(), experience.move_factors()[0]), (1, 20.0));
    observe(&mut experience, &world(&[&[(0, 100.0)], &[(0, 100.0)]]));
    near(experience.trust(), 1.0);
}

#[test]
fn a_bucket_that_goes_to_and_fro_is_frozen_longer_each_time() {
    let mut experience = Experience::default();
    let quiet = world(&[&[(1, 100.0)], &[(0, 100.0)]]);
    observe(&mut experience, &quiet);
    let there = plan(100.0);
    let mut back = plan(0.0);
    back.forecast[0] = Forecast { from: Some(1), to: 0, ..back.forecast[0] };
    // From CPU 0 to 1 is no return; every move after that goes where the one before came from.
    experience.applied(&there);
    assert_eq!(experience.frozen(), 0);
    for (plan, periods) in [(&back, 10), (&there, 20), (&back, 40)] {
        experience.applied(plan);
        for _ in 0..periods - 1 {
            observe(&mut experience, &quiet);
        }
        assert_eq!(experience.frozen(), 1, "{periods}");
        observe(&mut experience, &quiet);
        assert_eq!(experience.frozen(), 0, "{periods}");
    }
    // A minute later nobody remembers.
    for _ in 0..60 {
        observe(&mut experience, &quiet);
    }
    experience.applied(&there);
    assert_eq!(experience.frozen(), 0);
}

#[test]
fn roaming_consumers_set_the_brake_and_settled_ones_lift_it() {
    let mut experience = Experience::default();
    let mut roaming = world(&[&[(0, 50.0), (1, 50.0)]]);
    roaming.residency = Some(0.3);
    observe(&mut experience, &roaming);
    assert!(experience.is_braking());
    // 0.3, then 0.51.
    roaming.residency = Some(1.0);
    observe(&mut experience, &roaming);
    assert!(!experience.is_braking());
    // A window without consumption says nothing.
    roaming.residency = None;
    observe(&mut experience, &roaming);
    near(experience.residency().expect("known"), 0.51);
}

#[test]
fn another_table_starts_anew() {
    let mut experience = Experience::default();
    observe(&mut experience, &world(&[&[(1, 100.0)], &[(0, 100.0)]]));
    experience.applied(&plan(100.0));
    observe(&mut experience, &world(&[&[(1, 7.0)]]));
    assert_eq!(experience.demand().expect("new")[0], [(1, 7.0)]);
    assert!(experience.move_factors().is_empty());
    assert_eq!(experience.pace(), Pace::Steady);
}
