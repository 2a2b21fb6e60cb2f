//! The order of the stages, and the memory that they share.

use super::NONE;
use super::bound::Bound;
use super::hosts::{Hosts, Parts};
use super::instance::{Instance, TOLERANCE};
use super::kick::{Kicker, Random};
use super::limit::Limiter;
use super::price::Prices;
use super::problem::{Budget, Problem, Solution};
use super::queues::Queues;
use super::search::{LOOKS, Search};
use super::state::{Placement, State, refill};
use super::whole::Whole;

/// Memory of the solver, to be used again: a problem no larger than one before it needs none.
#[derive(Debug, Default)]
pub struct Workspace {
    instance: Instance,
    state: State,
    search: Search,
    queues: Queues,
    whole: Whole,
    prices: Prices,
    hosts: Hosts,
    limiter: Limiter,
    bound: Bound,
    start: Placement,
    best: Placement,
    queue_load: Vec<f64>,
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
        self.solve_once(problem, budget, seed, keep_going, &mut solution);
        let unlimited =
            problem.max_table_changes.is_none() && problem.max_affinity_changes.is_none();
        if unlimited && budget.settle > 0 && solution.changes(problem) {
            let mut next = problem.clone();
            let mut again = Solution::default();
            for _ in 0..budget.settle {
                next.table.clone_from(&solution.table);
                next.affinity.clone_from(&solution.affinity);
                self.solve_once(&next, budget, seed, keep_going, &mut again);
                if !again.changes(&next) {
                    break;
                }
                // From where the plan leads there is something to gain; then there is from here.
                again.cost = problem.cost(&again.table, &again.affinity);
                if again.cost.total() >= solution.cost.total() {
                    break;
                }
                solution.clone_from(&again);
            }
        }
        solution
    }

    /// What no legal plan for `problem` falls below (see [`Solution::bound`]), from `steps` steps;
    /// `solution` is any plan for it.
    #[must_use]
    pub fn bound(&mut self, problem: &Problem, solution: &Solution, steps: u32) -> Option<f64> {
        if steps == 0 {
            return None;
        }
        self.instance.prepare(problem);
        let scale = self.instance.cost_unit;
        let total = solution.cost.total();
        let scaled = (total - self.instance.constant) / scale;
        let bound = self.bound.seek(&self.instance, scaled, steps);
        // Costs and loads are rounded by at most half a step of the grid, some of them twice.
        let numbers = self.instance.buckets + self.instance.queues + self.instance.sites;
        let steps_lost = numbers as f64 * 2e-10 * (1.0 + self.instance.lambda);
        let safe = (bound - steps_lost) * scale + self.instance.constant;
        Some(safe.clamp(0.0, total.max(0.0)))
    }

    fn solve_once(
        &mut self,
        problem: &Problem,
        budget: &Budget,
        seed: u64,
        keep_going: &mut dyn FnMut() -> bool,
        solution: &mut Solution,
    ) {
        self.instance.prepare(problem);
        // Enough for the search to notice, too little to matter.
        let tie = (1e-6 / self.instance.buckets.max(1) as f64).max(2.0 * TOLERANCE);
        self.state.reset(&self.instance, tie);
        self.search.fit(&self.instance);
        self.start.save(&self.state);
        let at_start = self.state.objective(&self.instance);
        if at_start > TOLERANCE {
            self.improve(budget, seed, tie, keep_going);
            if self.state.objective(&self.instance) >= at_start - TOLERANCE {
                self.state.limited = false;
                self.state.restore(&self.instance, &self.start);
            }
        }
        self.read_out(problem, solution);
    }

    fn improve(
        &mut self,
        budget: &Budget,
        seed: u64,
        tie: f64,
        keep_going: &mut dyn FnMut() -> bool,
    ) {
        let instance = &self.instance;
        if budget.price_steps == 0 {
            self.prices.forget(instance);
            self.search.passes(instance, &mut self.state, 8, LOOKS * instance.buckets);
        } else {
            self.construct(budget);
        }
        let mut parts = Parts {
            instance: &self.instance,
            state: &mut self.state,
            search: &mut self.search,
            queues: &mut self.queues,
            prices: &mut self.prices,
        };
        for _ in 0..budget.rounds {
            if !parts.queues.refit(parts.instance, parts.state, parts.search) {
                break;
            }
            parts.search.passes(parts.instance, parts.state, 4, LOOKS / 2 * parts.instance.buckets);
        }
        self.hosts.improve(&mut parts, budget.host_trials);
        if parts.state.changed > parts.instance.table_limit {
            self.limiter.enforce(&mut parts, tie, budget.price_steps.max(10));
        }
        parts.state.limited = parts.instance.table_limit < parts.instance.buckets;
        if budget.kicks > 0 {
            let mut kicker = Kicker {
                instance: &self.instance,
                state: &mut self.state,
                search: &mut self.search,
                queues: &mut self.queues,
                best: &mut self.best,
                random: Random(seed),
            };
            kicker.run(budget.kicks, keep_going);
        }
        self.queues.undo(&self.instance, &mut self.state, &mut self.search);
        self.search.passes(&self.instance, &mut self.state, 2, 0);
    }

    /// Affinities, prices and a placement by them; what is better of it and of a search from the
    /// start is kept.
    fn construct(&mut self, budget: &Budget) {
        let instance = &self.instance;
        if instance.queues_matter(&self.state) {
            let worth = self.state.relaxed();
            if self.whole.improve(instance, &mut self.state) {
                self.state.sharpen(instance);
                if self.state.relaxed() > worth - 1e-3 * worth.abs() {
                    self.state.restore(instance, &self.start);
                    self.state.sharpen(instance);
                }
            }
        }
        self.prices.seek(instance, &self.state, budget.price_steps);
        self.prices.construct(instance, &mut self.state);
        self.search.forget();
        self.search.passes(instance, &mut self.state, 8, LOOKS * instance.buckets);
    }

    fn read_out(&mut self, problem: &Problem, solution: &mut Solution) {
        let (instance, state) = (&self.instance, &self.state);
        solution.affinity.clear();
        solution.affinity.extend(state.site.iter().map(|site| instance.cpu[*site]));
        solution.table.clear();
        refill(&mut self.queue_load, instance.queues, 0.0);
        for (bucket, site) in state.at.iter().enumerate() {
            if state.home[bucket] == *site {
                self.queue_load[instance.start_queue[bucket]] += instance.load[bucket];
            }
        }
        for (bucket, site) in state.at.iter().enumerate() {
            if state.home[bucket] == *site {
                solution.table.push(instance.start_queue[bucket]);
                continue;
            }
            // Of several queues on the CPU the one with least to do, then the lowest.
            let queue = (0..instance.queues)
                .filter(|queue| state.site[*queue] == *site)
                .min_by(|a, b| self.queue_load[*a].total_cmp(&self.queue_load[*b]))
                .unwrap_or(NONE);
            if let Some(load) = self.queue_load.get_mut(queue) {
                *load += instance.load[bucket];
            }
            solution.table.push(queue);
        }
        solution.cost = problem.cost(&solution.table, &solution.affinity);
        solution.bound = None;
    }
}
