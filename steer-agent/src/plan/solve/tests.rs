//! The guarantees, on random problems of all kinds and on optima proven elsewhere.

use proptest::prelude::*;

use super::families::{Family, Recipe};
use super::*;

/// Optima proven by an integer-programming solver: family, buckets, CPUs, `lambda_move`, whether limited,
/// seed, optimum. How they were made is in docs/benchmarks.md.
const OPTIMA: &str = include_str!("optima.txt");

pub(super) fn solve(problem: &Problem, budget: &Budget) -> Solution {
    Workspace::default().solve(problem, budget, 1, &mut || true)
}

/// For tests that solve many problems.
const SHORT: Budget = Budget { kicks: 60, ..Budget::THOROUGH };

/// Sparse consumption and anything else that the agent or a file may come with, degenerate sizes
/// included: tiny, so that all plans can be tried.
fn any_problem(most: usize) -> impl Strategy<Value = Problem> {
    let sizes = (1..=most, 1usize..=4, 1usize..=4, any::<u64>());
    (sizes, any::<[bool; 6]>(), 0usize..4).prop_map(
        |((buckets, queues, cpus, seed), flags, few)| {
            let mut state = seed;
            let mut below = move |bound: usize| {
                state =
                    state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                usize::try_from(state >> 33).unwrap_or(0) % bound
            };
            let [loose, crooked, outdated, quiet, unpriced, limited] = flags;
            let mut allowed: Vec<usize> = (0..cpus).filter(|_| loose || below(3) > 0).collect();
            if allowed.is_empty() {
                allowed.push(below(cpus));
            }
            let cells = (0..cpus * cpus).map(|cell| match (cell / cpus, cell % cpus) {
                (from, to) if from == to => 0.0,
                _ if crooked => below(40) as f64 / 10.0,
                (from, to) => {
                    if from / 2 == to / 2 {
                        1.0
                    } else {
                        3.0
                    }
                }
            });
            let distance = Distances::new(cpus, cells.collect()).expect("square");
            let mut consumed = Rows::default();
            let mut load = Vec::new();
            for _ in 0..buckets {
                let row: Vec<(usize, f64)> = (0..cpus)
                    .map(|cpu| (cpu, if below(2) == 0 { 0.0 } else { below(100) as f64 }))
                    .collect();
                // Load without consumption and consumption without load both occur.
                let total: f64 = row.iter().map(|(_, rate)| rate).sum();
                load.push(if quiet && below(4) == 0 { 0.0 } else { total + below(10) as f64 });
                consumed.push(if quiet && below(4) == 0 { Vec::new() } else { row });
            }
            let total: f64 = load.iter().sum();
            Problem {
                cpus,
                table: (0..buckets)
                    .map(|_| if outdated && below(4) == 0 { NONE } else { below(queues) })
                    .collect(),
                affinity: (0..queues).map(|_| below(cpus)).collect(),
                cap: vec![1.1 * total / queues.min(allowed.len()) as f64; cpus],
                allowed,
                distance,
                consumed,
                load,
                lambda_load: 8.0,
                lambda_move: if unpriced { 0.0 } else { 0.3 },
                kappa: 0.5,
                max_table_changes: limited.then_some(few),
                max_affinity_changes: limited.then_some(few / 2),
                ..Problem::default()
            }
        },
    )
}

/// Entries and affinities that must change whatever the limits say.
fn must_change(problem: &Problem) -> (usize, usize) {
    let stale = problem.table.iter().filter(|queue| **queue >= problem.queues()).count();
    let barred = problem.affinity.iter().filter(|cpu| !problem.allowed.contains(cpu)).count();
    (stale, barred)
}

fn check_limits(problem: &Problem, solution: &Solution) -> Result<(), TestCaseError> {
    let (stale, barred) = must_change(problem);
    if let Some(most) = problem.max_table_changes {
        prop_assert!(problem.table_changes(&solution.table) <= most.max(stale));
    }
    if let Some(most) = problem.max_affinity_changes {
        prop_assert!(problem.affinity_changes(&solution.affinity) <= most.max(barred));
    }
    Ok(())
}

/// The least cost of all legal plans within the limits, by trying every one.
fn by_trying_all(problem: &Problem) -> f64 {
    let (stale, barred) = must_change(problem);
    let most_table = problem.max_table_changes.map_or(usize::MAX, |most| most.max(stale));
    let most_queues = problem.max_affinity_changes.map_or(usize::MAX, |most| most.max(barred));
    let (queues, sites) = (problem.queues(), problem.allowed.len());
    let mut least = f64::INFINITY;
    let mut affinity = vec![0; queues];
    let mut table = vec![0; problem.buckets()];
    for code in 0..sites.pow(u32::try_from(queues).expect("few")) {
        let mut rest = code;
        for cpu in &mut affinity {
            *cpu = problem.allowed[rest % sites];
            rest /= sites;
        }
        if problem.affinity_changes(&affinity) > most_queues {
            continue;
        }
        for code in 0..queues.pow(u32::try_from(table.len()).expect("few")) {
            let mut rest = code;
            for queue in &mut table {
                *queue = rest % queues;
                rest /= queues;
            }
            if problem.table_changes(&table) <= most_table {
                least = least.min(problem.cost(&table, &affinity).total());
            }
        }
    }
    least
}

pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn plans_are_legal(problem in any_problem(24)) {
        for budget in [Budget::QUICK, Budget::INCREMENTAL, SHORT] {
            let solution = solve(&problem, &budget);
            prop_assert!(problem.is_legal(&solution.table, &solution.affinity), "{solution:?}");
            prop_assert_eq!(problem.cost(&solution.table, &solution.affinity), solution.cost);
        }
    }

    #[test]
    fn limits_are_never_exceeded(problem in any_problem(24)) {
        for budget in [Budget::QUICK, Budget::INCREMENTAL, SHORT] {
            check_limits(&problem, &solve(&problem, &budget))?;
        }
    }

    #[test]
    fn tiny_problems_are_solved(problem in any_problem(5)) {
        let best = by_trying_all(&problem);
        let found = solve(&problem, &Budget::THOROUGH).cost.total();
        prop_assert!(close(found, best), "{found} instead of {best}");
    }

    #[test]
    fn no_plan_is_below_the_bound(problem in any_problem(5)) {
        let best = by_trying_all(&Problem {
            max_table_changes: None,
            max_affinity_changes: problem.max_affinity_changes.filter(|most| *most == 0),
            ..problem.clone()
        });
        let mut workspace = Workspace::default();
        let solution = workspace.solve(&problem, &SHORT, 1, &mut || true);
        let bound = workspace.bound(&problem, &solution, Budget::BOUND_STEPS).expect("asked for");
        prop_assert!(bound <= best + 1e-12, "{bound} > {best}");
    }

    #[test]
    fn no_plan_costs_more_than_repair_alone(problem in any_problem(24)) {
        let nothing = Problem {
            max_table_changes: Some(0), max_affinity_changes: Some(0), ..problem.clone()
        };
        let repaired = solve(&nothing, &Budget { price_steps: 0, rounds: 0, host_trials: 0, kicks: 0, settle: 0, apart: false, exact_steps: 0 });
        let solution = solve(&problem, &SHORT);
        prop_assert!(solution.cost.total() <= repaired.cost.total() * 1.02 + 1e-9);
        let (stale, barred) = must_change(&problem);
        if stale + barred == 0 {
            let now = problem.cost(&problem.table, &problem.affinity).total();
            prop_assert!(solution.cost.total() <= now * (1.0 + 1e-12));
            prop_assert!(solution.cost.total() < now || !solution.changes(&problem));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan(problem in any_problem(24)) {
        let mut workspace = Workspace::default();
        let once = workspace.solve(&problem, &SHORT, 7, &mut || true);
        let _ = workspace.solve(&Recipe {
            family: Family::Pareto, buckets: 32, cpus: 8, lambda_move: 0.3, limited: true, seed: 1,
        }.problem(), &SHORT, 1, &mut || true);
        prop_assert_eq!(&once, &workspace.solve(&problem, &SHORT, 7, &mut || true));
        prop_assert_eq!(&once, &Workspace::default().solve(&problem, &SHORT, 7, &mut || true));
    }

    #[test]
    fn magnitudes_do_not_matter(problem in any_problem(24), exponent in prop::sample::select(vec![-12, 9, 15])) {
        let factor = 10f64.powi(exponent);
        let solution = solve(&problem, &SHORT);
        let scaled = solve(&scaled(&problem, factor), &SHORT);
        prop_assert_eq!((solution.table, solution.affinity), (scaled.table, scaled.affinity));
    }

    #[test]
    fn planning_again_changes_nothing(problem in any_problem(24)) {
        let problem = Problem { max_table_changes: None, max_affinity_changes: None, ..problem };
        let budget = Budget { settle: 20, ..SHORT };
        let solution = solve(&problem, &budget);
        let after = Problem {
            table: solution.table.clone(), affinity: solution.affinity.clone(), ..problem
        };
        prop_assert!(!solve(&after, &budget).changes(&after));
    }

    #[test]
    fn renumbering_cpus_changes_no_cost(problem in any_problem(24), shift in 1usize..4) {
        let renumbered = renumbered(&problem, |cpu| (cpu + shift) % problem.cpus);
        let (a, b) = (solve(&problem, &SHORT), solve(&renumbered, &SHORT));
        prop_assert!(close(a.cost.total(), b.cost.total()), "{} {}", a.cost.total(), b.cost.total());
    }

    #[test]
    fn an_idle_cpu_that_may_not_be_used_changes_nothing(problem in any_problem(24)) {
        let wider = with_idle_cpu(&problem, false);
        let (a, b) = (solve(&problem, &SHORT), solve(&wider, &SHORT));
        prop_assert_eq!((a.table, a.affinity), (b.table, b.affinity));
    }

    #[test]
    fn idle_cpus_never_make_it_worse(problem in any_problem(24), count in 1usize..4) {
        let mut wider = with_idle_cpu(&problem, true);
        for _ in 1..count {
            wider = with_idle_cpu(&wider, true);
        }
        let consumed: Vec<usize> = problem.consumed.entries().map(|(cpu, _)| cpu).collect();
        let is_idle = |cpu: &&usize| !consumed.contains(cpu) && !problem.affinity.contains(cpu);
        let idle = problem.allowed.iter().filter(is_idle).count();
        // No more sets of idle CPUs than are compared.
        prop_assume!((count + 1) << idle <= 16);
        for budget in [Budget::QUICK, Budget::INCREMENTAL, Budget { exact_steps: 0, ..SHORT }, SHORT] {
            let (a, b) = (solve(&problem, &budget), solve(&wider, &budget));
            let (a, b) = (a.cost.total(), b.cost.total());
            prop_assert!(b <= a * (1.0 + 1e-12), "{b} > {a} with {budget:?}");
        }
    }

    #[test]
    fn an_idle_cpu_hardly_makes_it_worse(problem in any_problem(8)) {
        let wider = with_idle_cpu(&problem, true);
        for budget in [Budget::THOROUGH, Budget { apart: false, ..Budget::THOROUGH }] {
            let (a, b) = (solve(&problem, &budget), solve(&wider, &budget));
            prop_assert!(b.cost.total() <= a.cost.total() * 1.03 + 1e-9, "{:?} {:?}", a.cost, b.cost);
        }
    }
}

fn scaled(problem: &Problem, factor: f64) -> Problem {
    let mut consumed = Rows::default();
    for bucket in 0..problem.buckets() {
        consumed.push(problem.consumed.row(bucket).map(|(cpu, rate)| (cpu, rate * factor)));
    }
    Problem {
        consumed,
        load: problem.load.iter().map(|load| load * factor).collect(),
        cap: problem.cap.iter().map(|cap| cap * factor).collect(),
        ..problem.clone()
    }
}

fn renumbered(problem: &Problem, new: impl Fn(usize) -> usize) -> Problem {
    let cpus = problem.cpus;
    let mut cells = vec![0.0; cpus * cpus];
    let mut cap = vec![0.0; cpus];
    for from in 0..cpus {
        cap[new(from)] = problem.cap[from];
        for to in 0..cpus {
            cells[new(from) * cpus + new(to)] = problem.distance.row(from)[to];
        }
    }
    let mut consumed = Rows::default();
    for bucket in 0..problem.buckets() {
        consumed.push(problem.consumed.row(bucket).map(|(cpu, rate)| (new(cpu), rate)));
    }
    Problem {
        allowed: problem.allowed.iter().map(|cpu| new(*cpu)).collect(),
        affinity: problem.affinity.iter().map(|cpu| new(*cpu)).collect(),
        distance: Distances::new(cpus, cells).expect("square"),
        consumed,
        cap,
        ..problem.clone()
    }
}

/// One more CPU, as far from all others as can be, which consumes nothing. Caps stay as they are.
fn with_idle_cpu(problem: &Problem, usable: bool) -> Problem {
    let cpus = problem.cpus + 1;
    let mut cells = Vec::new();
    for from in 0..cpus {
        for to in 0..cpus {
            let known = from < problem.cpus && to < problem.cpus;
            cells.push(if known { problem.distance.row(from)[to] } else { 3.0 });
        }
    }
    cells[cpus * cpus - 1] = 0.0;
    let mut wider =
        Problem { cpus, distance: Distances::new(cpus, cells).expect("square"), ..problem.clone() };
    wider.cap.push(problem.cap[0]);
    if usable {
        wider.allowed.push(problem.cpus);
    }
    wider
}

/// Problems of `optima.txt` with their optimum.
fn stored() -> impl Iterator<Item = (Recipe, f64)> {
    OPTIMA.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [family, buckets, cpus, lambda_move, limited, seed, optimum] = fields[..] else {
            panic!("seven fields: {line}");
        };
        let recipe = Recipe {
            family: Family::ALL
                .into_iter()
                .find(|known| format!("{known:?}") == family)
                .expect("a known family"),
            buckets: buckets.parse().expect("a number"),
            cpus: cpus.parse().expect("a number"),
            lambda_move: lambda_move.parse().expect("a number"),
            limited: limited.parse().expect("a truth value"),
            seed: seed.parse().expect("a number"),
        };
        (recipe, optimum.parse().expect("a number"))
    })
}

#[test]
fn stored_optima_are_met() {
    let mut gaps = Vec::new();
    let mut workspace = Workspace::default();
    for (recipe, optimum) in stored() {
        let problem = recipe.problem();
        // A quarter of the work that a problem in a file is given: this runs unoptimised.
        let budget = Budget::thorough(problem.buckets(), problem.allowed.len());
        let budget = Budget { kicks: budget.kicks / 4, settle: 1, ..budget };
        let solution = workspace.solve(&problem, &budget, 1, &mut || true);
        assert!(problem.is_legal(&solution.table, &solution.affinity), "{recipe:?}");
        check_limits(&problem, &solution).expect("limits hold");
        let gap = solution.cost.total() / optimum - 1.0;
        assert!(gap > -2e-5, "below a proven optimum by {gap}: {recipe:?}");
        let bound = workspace.bound(&problem, &solution, Budget::BOUND_STEPS).expect("asked for");
        assert!(bound <= optimum * (1.0 + 1e-9), "{bound} > {optimum}: {recipe:?}");
        gaps.push(gap);
    }
    gaps.sort_by(f64::total_cmp);
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let (p95, most) = (gaps[gaps.len() * 95 / 100], gaps[gaps.len() - 1]);
    println!("{} problems: mean gap {mean:.5}, p95 {p95:.4}, most {most:.4}", gaps.len());
    assert!(gaps.len() >= 300, "{}", gaps.len());
    assert!(mean <= 0.003 && p95 <= 0.02 && most <= 0.06, "{mean} {p95} {most}");
}
