//! Planning as often as the budget says: again from where a plan leads, and without CPUs that take
//! no part.

use std::mem;

use super::bound::Bound;
use super::instance::Start;
use super::once::{Once, Task};
use super::problem::{Budget, Problem, Solution};

/// Memory of the solver, to be used again: a problem no larger than one before it needs no more.
#[derive(Debug, Default)]
pub struct Workspace {
    once: Once,
    bound: Bound,
    /// CPUs that take no part, by CPU.
    idle: Vec<bool>,
    idle_then: Vec<bool>,
    /// Plans that are compared with the best so far.
    start: Solution,
    again: Solution,
    other: Solution,
    apart: Solution,
}

impl Workspace {
    /// Solves `problem` with `budget`. `keep_going` is asked between kicks and may end them early;
    /// the solver itself reads no clock.
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
        let task = &mut Task { problem, budget, seed, keep_going };
        let mut start = mem::take(&mut self.start);
        start.table.clone_from(&problem.table);
        start.affinity.clone_from(&problem.affinity);
        self.settle(task, &start, &[], solution);
        if budget.apart {
            let mut idle = mem::take(&mut self.idle);
            if find_idle(problem, &start.affinity, &mut idle) {
                let mut apart = mem::take(&mut self.apart);
                self.settle(task, &start, &idle, &mut apart);
                self.set_apart(task, &idle, &mut apart);
                if apart.cost.total() < solution.cost.total() {
                    copy(solution, &apart);
                    self.settle_on(task, &[], solution);
                }
                self.apart = apart;
            }
            self.idle = idle;
            self.set_apart(task, &[], solution);
        }
        self.start = start;
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
        task: &mut Task<'_>,
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
    fn settle_on(&mut self, task: &mut Task<'_>, left_out: &[bool], solution: &mut Solution) {
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
    fn set_apart(&mut self, task: &mut Task<'_>, left_out: &[bool], solution: &mut Solution) {
        if is_limited(task.problem) {
            return;
        }
        let mut idle = mem::take(&mut self.idle_then);
        let mut other = mem::take(&mut self.other);
        for _ in 0..task.budget.settle {
            if !find_idle(task.problem, &solution.affinity, &mut idle) || idle == left_out {
                break;
            }
            self.settle(task, solution, &idle, &mut other);
            if other.cost.total() >= solution.cost.total() {
                break;
            }
            copy(solution, &other);
            self.settle_on(task, left_out, solution);
        }
        self.idle_then = idle;
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

/// Marks the allowed CPUs that neither consume nor poll a queue. Whether there are any, and others.
fn find_idle(problem: &Problem, affinity: &[usize], idle: &mut Vec<bool>) -> bool {
    idle.clear();
    idle.resize(problem.cpus, false);
    for cpu in &problem.allowed {
        idle[*cpu] = true;
    }
    let consumers = problem.consumed.entries().chain(problem.pins.consumed.entries());
    for cpu in consumers.map(|(cpu, _)| cpu).chain(affinity.iter().copied()) {
        if let Some(idle) = idle.get_mut(cpu) {
            *idle = false;
        }
    }
    let count = problem.allowed.iter().filter(|cpu| idle[**cpu]).count();
    count > 0 && count < problem.allowed.len()
}
