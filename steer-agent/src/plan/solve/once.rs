//! Planning once: the order of the stages, and the memory that they share.

use super::NONE;
use super::clock::Clock;
use super::hosts::{Hosts, Parts};
use super::instance::{Instance, Start, TOLERANCE};
use super::kick::{Kicker, Random};
use super::limit::Limiter;
use super::price::Prices;
use super::problem::{Budget, Problem, Solution};
use super::queues::Queues;
use super::search::{LOOKS, Search};
use super::state::{Placement, State, refill};
use super::whole::Whole;

/// A share of the objective that is more than the rounding of costs can make up.
const DOUBT: f64 = 1e-6;

/// Memory of the stages.
#[derive(Debug, Default)]
pub(super) struct Once {
    pub(super) instance: Instance,
    state: State,
    search: Search,
    queues: Queues,
    whole: Whole,
    prices: Prices,
    hosts: Hosts,
    limiter: Limiter,
    start: Placement,
    best: Placement,
    queue_load: Vec<f64>,
    carried: Vec<f64>,
}

/// What is to be done, and how often the caller wants to be asked whether to go on.
pub(super) struct Task<'a, 'c> {
    pub(super) problem: &'a Problem,
    pub(super) budget: &'a Budget,
    pub(super) seed: u64,
    pub(super) clock: &'a mut Clock<'c>,
}

impl Once {
    /// Plans from `start` on, without the CPUs marked in `left_out`. What the plan costs is reckoned
    /// from where the problem itself starts.
    pub(super) fn solve(
        &mut self,
        task: &mut Task<'_, '_>,
        start: Start<'_>,
        left_out: &[bool],
        solution: &mut Solution,
    ) {
        let problem = task.problem;
        self.instance.prepare(problem, start, left_out);
        // Enough for the search to notice, too little to matter.
        let tie = (1e-6 / self.instance.buckets.max(1) as f64).max(2.0 * TOLERANCE);
        self.state.reset(&self.instance, tie);
        self.search.fit(&self.instance);
        self.queues.trail.clear();
        self.start.save(&self.state);
        let at_start = self.state.objective(&self.instance);
        if at_start > TOLERANCE {
            self.improve(task, tie);
            let now = self.state.objective(&self.instance);
            let mut in_vain = now >= at_start - TOLERANCE;
            if !in_vain && now > at_start * (1.0 - DOUBT) {
                self.read_out(problem, solution);
                in_vain = self.costs_no_less(problem, start, solution);
            }
            if in_vain {
                self.state.limited = false;
                self.state.restore(&self.instance, &self.start);
            }
        }
        self.read_out(problem, solution);
    }

    /// Whether `solution` is no better than staying at `start`, if one can stay there.
    fn costs_no_less(&mut self, problem: &Problem, start: Start<'_>, solution: &Solution) -> bool {
        let instance = &self.instance;
        if instance.start_queue.contains(&NONE) || instance.start_site.contains(&NONE) {
            return false;
        }
        let stay = problem.cost_with(start.table, start.affinity, &mut self.carried);
        solution.cost.total() >= stay.total()
    }

    fn improve(&mut self, task: &mut Task<'_, '_>, tie: f64) {
        let budget = task.budget;
        let instance = &self.instance;
        if budget.price_steps == 0 {
            self.prices.forget(instance);
            self.search.passes(instance, &mut self.state, 8, LOOKS * instance.buckets, task.clock);
        } else {
            self.construct(budget, task.clock);
        }
        let mut parts = Parts {
            instance: &self.instance,
            state: &mut self.state,
            search: &mut self.search,
            queues: &mut self.queues,
            prices: &mut self.prices,
            clock: &mut *task.clock,
        };
        for _ in 0..budget.rounds {
            if parts.clock.is_over()
                || !parts.queues.refit(parts.instance, parts.state, parts.search)
            {
                break;
            }
            let looks = LOOKS / 2 * parts.instance.buckets;
            parts.search.passes(parts.instance, parts.state, 4, looks, parts.clock);
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
                random: Random(task.seed),
                clock: &mut *task.clock,
            };
            kicker.run(budget.kicks);
        }
        self.queues.undo(&self.instance, &mut self.state, &mut self.search);
        self.search.passes(&self.instance, &mut self.state, 2, 0, task.clock);
    }

    /// Affinities, prices and a placement by them; what is better of it and of a search from the
    /// start is kept.
    fn construct(&mut self, budget: &Budget, clock: &mut Clock<'_>) {
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
        self.prices.seek(instance, &self.state, budget.price_steps, clock);
        self.prices.construct(instance, &mut self.state);
        self.search.forget();
        self.search.passes(instance, &mut self.state, 8, LOOKS * instance.buckets, clock);
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
        solution.cost = problem.cost_with(&solution.table, &solution.affinity, &mut self.carried);
        solution.bound = None;
    }
}
