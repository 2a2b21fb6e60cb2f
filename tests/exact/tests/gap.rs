//! Problems that are in no table, solved here and now by both.

mod support;

use steer_agent::plan::solve::families::{Family, Recipe};
use steer_agent::plan::solve::{Budget, Workspace};

#[test]
fn plans_are_near_optima_that_are_proven_here() {
    let mut gaps = Vec::new();
    let mut workspace = Workspace::default();
    for (buckets, cpus, first) in [(12, 3, 101), (16, 4, 201)] {
        for (family, seed) in Family::ALL.into_iter().zip(first..) {
            for (lambda_move, limited) in [(0.0, false), (0.3, false), (0.3, true)] {
                let recipe = Recipe { family, buckets, cpus, lambda_move, limited, seed };
                let problem = recipe.problem();
                let budget = Budget::thorough(buckets, problem.allowed.len());
                let plan = workspace.solve(&problem, &budget, 1, &mut || true);
                assert!(problem.is_legal(&plan.table, &plan.affinity), "{recipe:?}");
                let optimum = support::solve(&problem, &plan, 10.0);
                let bound = workspace.bound(&problem, &plan, Budget::BOUND_STEPS);
                assert!(bound.is_some_and(|bound| bound <= optimum.objective * 1.000_02 + 1e-9));
                if optimum.proven && optimum.objective > 0.0 {
                    gaps.push(plan.cost.total() / optimum.objective - 1.0);
                }
            }
        }
    }
    gaps.sort_by(f64::total_cmp);
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let (p95, most) = (gaps[gaps.len() * 95 / 100], gaps[gaps.len() - 1]);
    println!("{} problems: mean gap {mean:.5}, p95 {p95:.4}, most {most:.4}", gaps.len());
    assert!(gaps.len() >= 60, "{}", gaps.len());
    assert!(gaps[0] > -2e-5, "below a proven optimum: {}", gaps[0]);
    assert!(mean <= 0.007 && p95 <= 0.04 && most <= 0.1, "{mean} {p95} {most}");
}
