//! `steer plan --problem`: one planning problem from a file, its plan to standard output.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Exit;
use super::output::{print, print_json};
use crate::plan::problem::{PlanFile, ProblemFile};
use crate::plan::solve::{Budget, Workspace};

/// Plans the problem in `file` (`-` is standard input). With `budget_us` the search goes on until
/// that time is over, else it does a fixed amount of work and the same seed gives the same plan.
pub(super) fn problem(
    file: &Path,
    seed: u64,
    budget_us: Option<u64>,
    json: bool,
) -> anyhow::Result<Exit> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| file.display().to_string())?
    };
    let problem = ProblemFile::parse(&text)
        .and_then(|file| file.problem())
        .with_context(|| file.display().to_string())?;

    let mut workspace = Workspace::default();
    let mut budget = Budget::thorough(problem.buckets(), problem.allowed.len());
    if budget_us.is_some() {
        // Soon a plan, then the better the longer.
        budget = Budget { kicks: u32::MAX, ..Budget::QUICK };
    }
    let begun = Instant::now();
    let end = budget_us.and_then(|us| begun.checked_add(Duration::from_micros(us)));
    let mut keep_going = || end.is_none_or(|end| Instant::now() < end);
    let mut solution = workspace.solve(&problem, &budget, seed, &mut keep_going);
    let elapsed_us = u64::try_from(begun.elapsed().as_micros())?;
    solution.bound = workspace.bound(&problem, &solution, Budget::BOUND_STEPS);

    let plan = PlanFile::new(&solution, elapsed_us);
    if json {
        print_json(&plan)?;
    } else {
        let entries = problem.table_changes(&plan.table);
        let queues = problem.affinity_changes(&plan.affinity);
        print(&format!(
            "{entries} of {} entries and {queues} of {} affinities change\n\
             objective {:.6e} (distance {:.6e}, overload {:.6e}, moved {:.6e})\n\
             no plan is below {:.6e}; found in {elapsed_us} us\n",
            plan.table.len(),
            plan.affinity.len(),
            plan.objective,
            plan.distance,
            plan.overload,
            plan.moved,
            plan.bound.unwrap_or(0.0),
        ))?;
    }
    Ok(Exit::Done)
}
