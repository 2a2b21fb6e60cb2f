//! Worked examples: small problems whose best plan can be seen.

use super::tests::{close, solve};
use super::*;

/// Four equal workers, each with its queue on its own CPU and four buckets.
fn aligned() -> Problem {
    let mut consumed = Rows::default();
    for bucket in 0..16 {
        consumed.push([(bucket % 4, 10.0)]);
    }
    Problem {
        cpus: 4,
        allowed: (0..4).collect(),
        table: (0..16).map(|bucket| bucket % 4).collect(),
        affinity: (0..4).collect(),
        distance: families::machine(4),
        consumed,
        load: vec![10.0; 16],
        cap: vec![44.0; 4],
        lambda_load: 8.0,
        lambda_move: 0.0,
        kappa: 0.5,
        ..Problem::default()
    }
}

#[test]
fn nothing_changes_where_nothing_can_be_gained() {
    let unchanged = |problem: &Problem| {
        for budget in [Budget::QUICK, Budget::INCREMENTAL, Budget::THOROUGH] {
            let solution = solve(problem, &budget);
            assert!(!solution.changes(problem), "{solution:?}");
        }
    };
    // Already optimal, with and without a price on moves.
    unchanged(&aligned());
    unchanged(&Problem { lambda_move: 0.3, ..aligned() });
    // No traffic, though the table is as lopsided as can be.
    let mut silent = Rows::default();
    (0..16).for_each(|_| silent.push([]));
    unchanged(&Problem {
        table: vec![0; 16],
        consumed: silent.clone(),
        load: vec![0.0; 16],
        cap: vec![0.0; 4],
        ..aligned()
    });
    // Ties: everything costs the same wherever it is.
    let flat = Distances::new(4, vec![1.0; 16]).expect("square");
    unchanged(&Problem { distance: flat.clone(), ..aligned() });
    unchanged(&Problem { consumed: silent, ..aligned() });
    // The same with the workers' packets evenly spread over all buckets.
    let mut even = Rows::default();
    (0..16).for_each(|_| even.push((0..4).map(|cpu| (cpu, 2.5))));
    unchanged(&Problem { consumed: even, distance: flat, ..aligned() });
    // One CPU, or one queue: nowhere to go.
    unchanged(&Problem { allowed: vec![2], affinity: vec![2; 4], ..aligned() });
    unchanged(&Problem { table: vec![0; 16], affinity: vec![0], allowed: vec![0], ..aligned() });
}

#[test]
fn a_rotation_of_equal_workers_is_left_alone() {
    // Every worker consumes as much of every bucket: no rotation of them is better than another.
    let mut consumed = Rows::default();
    (0..16).for_each(|_| consumed.push((0..4).map(|cpu| (cpu, 2.5))));
    let solution = solve(&Problem { consumed, ..aligned() }, &Budget::THOROUGH);
    assert_eq!(solution.table, aligned().table);
}

#[test]
fn queues_that_cannot_move_stay() {
    // Buckets 0, 4, 8, 12 are consumed on CPU 3 now, but no interrupt can be written.
    let mut consumed = Rows::default();
    for bucket in 0..16 {
        consumed.push([(3 - bucket % 4, 10.0)]);
    }
    let problem = Problem { fixed: vec![true; 4], consumed, lambda_move: 0.2, ..aligned() };
    let solution = solve(&problem, &Budget::THOROUGH);
    assert_eq!(solution.affinity, problem.affinity);
    assert!(close(solution.cost.total(), 0.2 * 160.0), "all entries change: {:?}", solution.cost);
    // Where they can be moved, four writes do it at half the price.
    let solution = solve(&Problem { fixed: Vec::new(), ..problem }, &Budget::THOROUGH);
    assert_eq!(solution.affinity, [3, 2, 1, 0]);
    assert!(close(solution.cost.total(), 0.1 * 160.0), "{:?}", solution.cost);
}

#[test]
fn pinned_flows_are_on_the_bill_of_their_queue() {
    // CPU 1 consumes bucket 0, but an exact-match rule sends ten times as much to queue 0 for CPU 0.
    let mut consumed = Rows::default();
    consumed.push([(1, 10.0)]);
    let mut pinned = Rows::default();
    pinned.push([(0, 100.0)]);
    let problem = Problem {
        cpus: 2,
        allowed: vec![0, 1],
        table: vec![0],
        affinity: vec![0],
        distance: families::machine(2),
        consumed,
        load: vec![10.0],
        cap: vec![1000.0; 2],
        lambda_load: 8.0,
        ..Problem::default()
    };
    assert_eq!(solve(&problem, &Budget::THOROUGH).affinity, [1]);
    let pins = Pins { consumed: pinned, load: vec![100.0] };
    assert_eq!(solve(&Problem { pins, ..problem }, &Budget::THOROUGH).affinity, [0]);
}

#[test]
fn slow_cpus_carry_less_and_far_ones_cost_more() {
    let mut consumed = Rows::default();
    (0..8).for_each(|_| consumed.push((0..2).map(|cpu| (cpu, 5.0))));
    let problem = Problem {
        cpus: 2,
        allowed: vec![0, 1],
        table: vec![0, 1, 0, 1, 0, 1, 0, 1],
        affinity: vec![0, 1],
        distance: families::machine(2),
        consumed,
        load: vec![10.0; 8],
        cap: vec![60.0, 20.0],
        lambda_load: 8.0,
        lambda_move: 0.1,
        kappa: 0.5,
        ..Problem::default()
    };
    let on_second = |solution: &Solution| {
        solution.table.iter().filter(|queue| solution.affinity[**queue] == 1).count()
    };
    assert_eq!(on_second(&solve(&problem, &Budget::THOROUGH)), 2, "20 packets of 10 each");
    let roomy = Problem { cap: vec![80.0; 2], ..problem };
    assert_eq!(on_second(&solve(&roomy, &Budget::THOROUGH)), 4, "nothing to gain");
    let far = Problem { cpu_cost: vec![0.0, 0.5], ..roomy };
    assert_eq!(on_second(&solve(&far, &Budget::THOROUGH)), 0, "0.5 a packet beats 0.1 once");
}
