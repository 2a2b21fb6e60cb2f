//! Planning as often as the budget says: again from where a plan leads, and without CPUs that take
//! no part.

use std::mem;

use super::bound::Bound;
use super::clock::Clock;
use super::exact::Exact;
use super::idle::{self, IdleSets};
use super::instance::Start;
use super::once::{Once, Task};
use super::problem::{Budget, Problem, Solution};

/// Memory of the solver, to be used again: a problem no larger than one before it needs no more.
#[derive(Debug, Default)]
pub struct Workspace {
    once: Once,
    bound: Bound,
    exact: Exact,
    idle_sets: IdleSets,
    /// CPUs that take no part, by CPU.
    idle: Vec<bool>,
    /// Plans that are compared with the best so far.
    start: Solution,
    again: Solution,
    other: Solution,
    apart: Solution,
    early: Solution,
}

impl Workspace {
    /// Solves `problem` with `budget`. `keep_going` is asked every so often and may end the search
    /// early; the solver itself reads no clock.
    #[must_use]
    pub fn solve(
        &mut self,
        problem: &Problem,
        budget: &Budget,
        seed: u64,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> Solution {
        let mut solution = Solution::default();
        self.solve_into(problem, budget, seed, keep_going, &mut solution);
        solution
    }

    /// [`Workspace::solve`] in the memory of `solution`: allocates nothing where workspace and
    /// solution have served a problem as large.
    pub fn solve_into(
        &mut self,
        problem: &Problem,
        budget: &Budget,
        seed: u64,
        keep_going: &mut dyn FnMut() -> bool,
        solution: &mut Solution,
    ) {
        let clock = &mut Clock::new(keep_going);
        let task = &mut Task { problem, budget, seed, clock };
        let mut start = mem::take(&mut self.start);
        start.table.clone_from(&problem.table);
        start.affinity.clone_from(&problem.affinity);
        let proven = self.plan(task, &start, &[], solution);
        if budget.apart && !proven {
            let mut sets = mem::take(&mut self.idle_sets);
            let mut apart = mem::take(&mut self.apart);
            if sets.find(problem, &start.affinity) {
                while sets.advance() {
                    self.plan(task, &start, &sets.left_out, &mut apart);
                    if apart.cost.total() < solution.cost.total() {
                        copy(solution, &apart);
                    }
                }
            }
            self.apart = apart;
            self.idle_sets = sets;
        }
        self.start = start;
    }

    /// Plans from `start` as if the CPUs marked in `left_out` did not exist. Whether no plan without
    /// them is better. Nothing here may depend on how many they are: what is promised of CPUs that
    /// take no part rests on it.
    fn plan(
        &mut self,
        task: &mut Task<'_, '_>,
        start: &Solution,
        left_out: &[bool],
        solution: &mut Solution,
    ) -> bool {
        let Task { problem, budget, seed, .. } = *task;
        let tries = budget.exact_steps > 0 && self.exact.fits(problem, left_out);
        let mut early = mem::take(&mut self.early);
        if tries {
            // Small enough, it is soon certain: then kicks are needless.
            let quick = Budget { kicks: 0, settle: 0, ..*budget };
            let task = &mut Task { problem, budget: &quick, seed, clock: &mut *task.clock };
            self.settle(task, start, left_out, &mut early);
            if self.exact.improve(task, left_out, budget.exact_steps, &mut early) {
                copy(solution, &early);
                self.early = early;
                return true;
            }
        }
        self.settle(task, start, left_out, solution);
        if budget.apart {
            self.set_apart(task, left_out, solution);
        }
        if tries && early.cost.total() < solution.cost.total() {
            copy(solution, &early);
        }
        self.early = early;
        tries && self.exact.improve(task, left_out, budget.exact_steps, solution)
    }

    /// What no legal plan for `problem` falls below (see [`Solution::bound`]), from `steps` steps;
    /// `solution` is any plan for it.
    #[must_use]
    pub fn bound(&mut self, problem: &Problem, solution: &Solution, steps: u32) -> Option<f64> {
        if steps == 0 {
            return None;
        }
        let instance = &mut self.once.instance;
        instance.prepare(
            problem,
            Start { table: &problem.table, affinity: &problem.affinity },
            &[],
        );
        let scale = instance.cost_unit;
        let total = solution.cost.total();
        let scaled = (total - instance.constant) / scale;
        let bound = self.bound.seek(instance, scaled, steps);
        // Costs and loads are rounded by at most half a step of the grid, some of them twice.
        let numbers = instance.buckets + instance.queues + instance.sites;
        let steps_lost = numbers as f64 * 2e-10 * (1.0 + instance.lambda);
        let safe = (bound - steps_lost) * scale + instance.constant;
        Some(safe.clamp(0.0, total.max(0.0)))
    }

    /// Plans from `start`, then again from where that leads.
    fn settle(
        &mut self,
        task: &mut Task<'_, '_>,
        start: &Solution,
        left_out: &[bool],
        solution: &mut Solution,
    ) {
        let from = Start { table: &start.table, affinity: &start.affinity };
        self.once.solve(task, from, left_out, solution);
        if solution.table != start.table || solution.affinity != start.affinity {
            self.settle_on(task, left_out, solution);
        }
    }

    /// Plans again from where `solution` leads until nothing is gained, as often as the budget says.
    /// Limits count from where the problem starts, so with limits there is no again.
    fn settle_on(&mut self, task: &mut Task<'_, '_>, left_out: &[bool], solution: &mut Solution) {
        if is_limited(task.problem) {
            return;
        }
        let mut again = mem::take(&mut self.again);
        for _ in 0..task.budget.settle {
            let from = Start { table: &solution.table, affinity: &solution.affinity };
            self.once.solve(task, from, left_out, &mut again);
            // What is gained from where the plan leads is gained from where the problem starts.
            if again.cost.total() >= solution.cost.total() {
                break;
            }
            copy(solution, &again);
        }
        self.again = again;
    }

    /// Plans from where `solution` leads without the CPUs that take no part there, as long as that
    /// is better.
    fn set_apart(&mut self, task: &mut Task<'_, '_>, left_out: &[bool], solution: &mut Solution) {
        if is_limited(task.problem) {
            return;
        }
        let mut idle = mem::take(&mut self.idle);
        let mut other = mem::take(&mut self.other);
        for _ in 0..task.budget.settle {
            let count = idle::mark(task.problem, &solution.affinity, &mut idle);
            if count == 0 || count == task.problem.allowed.len() || idle == left_out {
                break;
            }
            self.settle(task, solution, &idle, &mut other);
            if other.cost.total() >= solution.cost.total() {
                break;
            }
            copy(solution, &other);
            self.settle_on(task, left_out, solution);
        }
        self.idle = idle;
        self.other = other;
    }
}

fn is_limited(problem: &Problem) -> bool {
    problem.max_table_changes.is_some() || problem.max_affinity_changes.is_some()
}

fn copy(to: &mut Solution, from: &Solution) {
    to.table.clone_from(&from.table);
    to.affinity.clone_from(&from.affinity);
    to.cost = from.cost;
    to.bound = from.bound;
}
