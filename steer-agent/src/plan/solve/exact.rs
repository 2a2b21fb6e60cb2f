//! Small problems to the end: all affinities and all placements, but for those that cannot be better
//! than what is known.

use super::clock::Clock;
use super::once::Task;
use super::problem::Solution;
use super::state::refill;
use super::{NONE, Problem};

/// Most affinities, and most cells of buckets times sites, for which it is tried.
const MOST_AFFINITIES: usize = 4096;
const MOST_CELLS: usize = 256;
/// What is better by a smaller share is not better: sums in another order differ by as much.
const ROUNDING: f64 = 1e-12;
/// Steps between two questions whether to go on.
const ASK_EVERY: u32 = 256;

/// Buffers of the search.
#[derive(Debug, Default)]
pub(super) struct Exact {
    /// CPUs that may poll, and whether a queue may be moved there.
    sites: Vec<usize>,
    open: Vec<bool>,
    /// Distance cost by bucket and site.
    far: Vec<f64>,
    /// Buckets, those with most load first.
    order: Vec<usize>,
    /// Site of each queue, and how many queues each site has.
    seat: Vec<usize>,
    queues_on: Vec<usize>,
    /// Load of each site.
    carried: Vec<f64>,
    /// Where each bucket may go with the queues where they are, cheapest first: `start[i]..start[i + 1]`
    /// are those of `order[i]`.
    options: Vec<Place>,
    start: Vec<usize>,
    /// What `order[i]` and all after it cost at least.
    rest: Vec<f64>,
    /// Where each of `order` is.
    chosen: Vec<Place>,
    best_seat: Vec<usize>,
    best_chosen: Vec<Place>,
    steps: u32,
    most_steps: u32,
}

/// A place for a bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    cost: f64,
    site: usize,
    /// Whether it changes its queue.
    changes: bool,
}

/// What does not change during a search.
struct Given<'a, 'c> {
    problem: &'a Problem,
    clock: &'a mut Clock<'c>,
    table_limit: usize,
    queue_limit: usize,
    /// What a plan must cost less than.
    bar: f64,
}

impl Exact {
    /// Makes `solution` the best plan that uses no CPU marked in `left_out`, and says whether that is
    /// certain: not where the problem is too large, or `most_steps` do not suffice.
    pub(super) fn improve(
        &mut self,
        task: &mut Task<'_, '_>,
        left_out: &[bool],
        most_steps: u32,
        solution: &mut Solution,
    ) -> bool {
        let problem = task.problem;
        let known = solution.cost.total();
        if known <= 0.0 {
            return true;
        }
        if !self.fits(problem, left_out) {
            return false;
        }
        self.steps = 0;
        self.most_steps = most_steps;
        let stale = problem.table.iter().filter(|queue| **queue >= problem.queues()).count();
        let barred = (0..problem.queues()).filter(|queue| {
            !problem.is_fixed(*queue) && !problem.allowed.contains(&problem.affinity[*queue])
        });
        let mut given = Given {
            problem,
            clock: &mut *task.clock,
            table_limit: problem.max_table_changes.unwrap_or(usize::MAX).max(stale),
            queue_limit: problem.max_affinity_changes.unwrap_or(usize::MAX).max(barred.count()),
            bar: known * (1.0 - ROUNDING),
        };
        self.prepare(problem);
        self.best_seat.clear();
        let done = self.seat_from(&mut given, 0, 0, 0.0);
        if !self.best_seat.is_empty() {
            self.read_out(problem, solution);
        }
        done
    }

    /// Chooses the sites; whether there are few enough plans.
    pub(super) fn fits(&mut self, problem: &Problem, left_out: &[bool]) -> bool {
        let is_out = |cpu: usize| left_out.get(cpu).is_some_and(|out| *out);
        self.sites.clear();
        self.sites.extend(problem.allowed.iter().filter(|cpu| !is_out(**cpu)));
        self.open.clear();
        self.open.resize(self.sites.len(), true);
        let mut plans = 1usize;
        for queue in 0..problem.queues() {
            if !problem.is_fixed(queue) {
                plans = plans.saturating_mul(self.open.iter().filter(|open| **open).count());
            } else if !self.sites.contains(&problem.affinity[queue]) {
                self.sites.push(problem.affinity[queue]);
                self.open.push(false);
            }
        }
        plans <= MOST_AFFINITIES && problem.buckets() * self.sites.len() <= MOST_CELLS
    }

    fn prepare(&mut self, problem: &Problem) {
        self.far.clear();
        for bucket in 0..problem.buckets() {
            for cpu in &self.sites {
                let row = problem.distance.row(*cpu);
                let far: f64 = problem.consumed.row(bucket).map(|(to, rate)| rate * row[to]).sum();
                let own = problem.cpu_cost.get(*cpu).copied().unwrap_or(0.0);
                self.far.push(far + problem.load[bucket] * own);
            }
        }
        self.order.clear();
        self.order.extend(0..problem.buckets());
        let load = &problem.load;
        self.order.sort_by(|a, b| load[*b].total_cmp(&load[*a]).then(a.cmp(b)));
        refill(&mut self.seat, problem.queues(), NONE);
        refill(&mut self.queues_on, self.sites.len(), 0);
        refill(&mut self.carried, self.sites.len(), 0.0);
        refill(&mut self.chosen, problem.buckets(), Place::default());
    }

    /// What more load on `site` costs.
    fn overload(&self, problem: &Problem, site: usize, load: f64) -> f64 {
        let excess = self.carried[site] - problem.cap[self.sites[site]];
        problem.lambda_load * ((excess + load).max(0.0) - excess.max(0.0))
    }

    /// Tries all sites of `queue` and those after it; false where it had to stop.
    fn seat_from(
        &mut self,
        given: &mut Given<'_, '_>,
        queue: usize,
        moved: usize,
        cost: f64,
    ) -> bool {
        let problem = given.problem;
        if queue == problem.queues() {
            self.offer(problem);
            return cost + self.rest[0] >= given.bar || self.place_from(given, 0, 0, cost);
        }
        let before = problem.affinity[queue];
        let pinned = problem.pins.load.get(queue).copied().unwrap_or(0.0);
        for site in 0..self.sites.len() {
            let cpu = self.sites[site];
            let stays = cpu == before;
            let may = if problem.is_fixed(queue) { stays } else { self.open[site] };
            let moved = moved + usize::from(!stays);
            if !may || moved > given.queue_limit {
                continue;
            }
            let mut more = self.overload(problem, site, pinned);
            if pinned > 0.0 {
                let row = problem.distance.row(cpu);
                let rows = problem.pins.consumed.row(queue);
                let far: f64 = rows.map(|(to, rate)| rate * row[to]).sum();
                let share = if stays { 0.0 } else { problem.kappa };
                let own = problem.cpu_cost.get(cpu).copied().unwrap_or(0.0);
                more += far + pinned * (own + share * problem.lambda_move);
            }
            self.seat[queue] = site;
            self.queues_on[site] += 1;
            let carried = self.carried[site];
            self.carried[site] += pinned;
            let done = self.seat_from(given, queue + 1, moved, cost + more);
            self.carried[site] = carried;
            self.queues_on[site] -= 1;
            if !done {
                return false;
            }
        }
        true
    }

    /// Lists where each bucket may go.
    fn offer(&mut self, problem: &Problem) {
        let sites = self.sites.len();
        self.options.clear();
        self.start.clear();
        self.start.push(0);
        for bucket in &self.order {
            let own = problem.table[*bucket];
            let home = self.seat.get(own).copied().unwrap_or(NONE);
            let price = problem.lambda_move * problem.load[*bucket] * problem.move_factor(*bucket);
            for site in 0..sites {
                let far = self.far[bucket * sites + site];
                let is_home = site == home;
                if is_home {
                    let stays = self.sites[site] == problem.affinity[own];
                    let share = if stays { 0.0 } else { problem.kappa };
                    self.options.push(Place { cost: far + share * price, site, changes: false });
                }
                // Beside its own queue only where it is dearer to stay in it.
                let others = self.queues_on[site] - usize::from(is_home);
                if others > 0 && (!is_home || problem.kappa > 1.0) {
                    self.options.push(Place { cost: far + price, site, changes: true });
                }
            }
            let first = self.start[self.start.len() - 1];
            self.options[first..].sort_by(|a, b| a.cost.total_cmp(&b.cost));
            self.start.push(self.options.len());
        }
        refill(&mut self.rest, self.order.len() + 1, 0.0);
        for index in (0..self.order.len()).rev() {
            let least = self.options[self.start[index]].cost;
            self.rest[index] = self.rest[index + 1] + least;
        }
    }

    /// Tries all places of `order[index]` and those after it; false where it had to stop.
    fn place_from(
        &mut self,
        given: &mut Given<'_, '_>,
        index: usize,
        changed: usize,
        cost: f64,
    ) -> bool {
        let problem = given.problem;
        if index == self.order.len() {
            given.bar = cost - ROUNDING * cost;
            self.best_seat.clone_from(&self.seat);
            self.best_chosen.clone_from(&self.chosen);
            return true;
        }
        self.steps += 1;
        if self.steps > self.most_steps
            || (self.steps.is_multiple_of(ASK_EVERY) && given.clock.is_over())
        {
            return false;
        }
        let load = problem.load[self.order[index]];
        for option in self.start[index]..self.start[index + 1] {
            let place = self.options[option];
            let least = cost + place.cost + self.rest[index + 1];
            if least >= given.bar {
                break;
            }
            let changed = changed + usize::from(place.changes);
            let more = self.overload(problem, place.site, load);
            if changed > given.table_limit || least + more >= given.bar {
                continue;
            }
            self.chosen[index] = place;
            let carried = self.carried[place.site];
            self.carried[place.site] += load;
            let done = self.place_from(given, index + 1, changed, cost + place.cost + more);
            self.carried[place.site] = carried;
            if !done {
                return false;
            }
        }
        true
    }

    /// The best plan found, unless rounding makes it none.
    fn read_out(&mut self, problem: &Problem, solution: &mut Solution) {
        let mut found = Solution {
            table: problem.table.clone(),
            affinity: self.best_seat.iter().map(|site| self.sites[*site]).collect(),
            ..Solution::default()
        };
        for (bucket, place) in self.order.iter().zip(&self.best_chosen) {
            if place.changes {
                let own = problem.table[*bucket];
                let there = |queue: &usize| {
                    *queue != own && self.best_seat.get(*queue) == Some(&place.site)
                };
                found.table[*bucket] = (0..problem.queues()).find(there).unwrap_or(own);
            }
        }
        found.cost = problem.cost(&found.table, &found.affinity);
        if found.cost.total() < solution.cost.total() {
            *solution = found;
        }
    }
}
