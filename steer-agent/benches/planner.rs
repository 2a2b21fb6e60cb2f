//! How long the planner takes, and how far its plans are from a proven bound:
//! `cargo xtask bench planner`, which makes a table of it, or
//! `cargo bench -p steer-agent --features testkit --bench planner`.
//!
//! Prints one line for each size and kind of traffic as soon as it is measured. Times are the least and the median of the runs:
//! the least is what the work takes, the median what it takes on this machine as it is.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its result")]

use std::time::Instant;

use steer_agent::plan::solve::families::{Family, Recipe};
use steer_agent::plan::solve::{Budget, Problem, Rows, Solution, Workspace};

/// Buckets, CPUs, runs.
const SIZES: [(usize, usize, usize); 3] = [(128, 16, 500), (512, 64, 100), (2048, 128, 40)];
const FAMILIES: [Family; 8] = [
    Family::FewFlows,
    Family::ManyFlows,
    Family::Pareto,
    Family::BackEnds,
    Family::NumaSkewed,
    Family::FewQueues,
    Family::ManyQueues,
    Family::Disallowed,
];

fn main() {
    println!("buckets cpus family lambda_move cold_us median gap_% incremental_us median moved");
    let mut workspace = Workspace::default();
    for (buckets, cpus, runs) in SIZES {
        for family in FAMILIES {
            for lambda_move in [0.0, 0.3] {
                let recipe = Recipe { family, buckets, cpus, lambda_move, limited: false, seed: 3 };
                let problem = recipe.problem();
                let (cold, plan) = measure(&mut workspace, &problem, &Budget::QUICK, runs);
                let bound = workspace.bound(&problem, &plan, 500).unwrap_or(f64::NAN);
                let gap = 100.0 * (plan.cost.total() / bound - 1.0);
                let later = a_period_later(&recipe, &problem, &plan);
                let (warm, next) = measure(&mut workspace, &later, &Budget::INCREMENTAL, runs);
                println!(
                    "{buckets} {cpus} {family:?} {lambda_move} {:.0} {:.0} {gap:.2} {:.0} {:.0} {}",
                    cold.0,
                    cold.1,
                    warm.0,
                    warm.1,
                    later.table_changes(&next.table)
                );
            }
        }
    }
}

/// Least and median time in microseconds, and the plan.
fn measure(
    workspace: &mut Workspace,
    problem: &Problem,
    budget: &Budget,
    runs: usize,
) -> ((f64, f64), Solution) {
    let mut times = Vec::with_capacity(runs);
    let mut plan = Solution::default();
    for _ in 0..runs {
        let begun = Instant::now();
        workspace.solve_into(problem, budget, 1, &mut || true, &mut plan);
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    ((times[0], times[runs / 2]), plan)
}

/// The plan in force, and the traffic of every twentieth bucket replaced.
fn a_period_later(recipe: &Recipe, problem: &Problem, plan: &Solution) -> Problem {
    let other = Recipe { seed: recipe.seed + 1, ..*recipe }.problem();
    let mut later = problem.clone();
    later.table.clone_from(&plan.table);
    later.affinity.clone_from(&plan.affinity);
    later.lambda_move = 0.2;
    later.consumed = Rows::default();
    for bucket in 0..problem.buckets() {
        let from = if bucket % 20 == 7 { &other } else { problem };
        later.consumed.push(from.consumed.row(bucket));
        later.load[bucket] = from.load[bucket];
    }
    later
}
