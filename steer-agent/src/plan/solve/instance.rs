//! A [`Problem`] in the solver's own words: sites, one cost matrix, whole multiples of a grid.
//!
//! *Sites* are the CPUs that may poll a queue: the allowed ones, and those of queues that cannot be
//! moved. They are put in an order that depends on what the CPUs carry and not on their numbers, so
//! that renumbering the machine changes nothing.
//!
//! All costs are divided by a bound on the objective and all loads by the total load, then rounded
//! to multiples of 2^-34. Sums of such numbers are exact in a double: a move and its reverse cancel
//! to the last bit, and the order of additions does not matter.
//!
//! The cost matrix, which every stage scans, is kept in singles: rounding a multiple of the grid to a
//! single leaves a multiple of the grid, so sums of its cells in doubles are exact as well. A cell is
//! off by 6e-8 of itself at most; what depends on less is decided by the problem's own numbers.

use super::distance::Distances;
use super::state::{State, refill};
use super::tree::Tree;
use super::{NONE, Problem};

/// Rounds to the grid of 2^-34; exact for magnitudes below 2^17.
///
/// The grid is coarse beside the rounding of doubles, so that the same problem in other units lands
/// on the same points, and fine beside anything that matters: 6e-11 of the whole.
pub(super) fn grid(value: f64) -> f64 {
    // Adding 1.5 * 2^18 leaves 34 bits behind the point in the 52 of the fraction.
    const MAGIC: f64 = 393_216.0;
    (value + MAGIC) - MAGIC
}

/// A number on the grid as a cell of the cost matrix: on the grid too, with 24 significant bits.
pub(super) fn cell(value: f64) -> f32 {
    single(grid(value))
}

/// The nearest single.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}

/// Rounds to 28 significant bits, for the same reason.
fn coarse(value: f64) -> f64 {
    const DROPPED: u64 = 1 << 24;
    f64::from_bits((value.to_bits() + DROPPED / 2) & !(DROPPED - 1))
}

/// Differences below this count as none: 16 steps of the grid, 1e-9 of the whole.
pub(super) const TOLERANCE: f64 = 1.0 / (1u64 << 30) as f64;

/// Totals below this are taken for zero: their inverse would not be a number.
const LEAST: f64 = 1e-290;

/// What does not change while one problem is solved.
#[derive(Debug, Default)]
pub(super) struct Instance {
    pub(super) buckets: usize,
    pub(super) queues: usize,
    pub(super) sites: usize,
    /// CPU of each site.
    pub(super) cpu: Vec<usize>,
    /// Whether a queue may be moved to the site.
    pub(super) open: Vec<bool>,
    /// Load that a site takes without overload.
    pub(super) cap: Vec<f64>,
    /// Load of each bucket, at most the largest cap: beyond it, the overload is a constant.
    pub(super) load: Vec<f64>,
    /// Load of each bucket and the price of overload, as [`super::scan`] takes them: the price is
    /// never zero, for there infinity times it is to be infinity.
    pub(super) small: Vec<(f32, f32)>,
    /// Price of moving the bucket to another queue.
    pub(super) weight: Vec<f64>,
    /// Share of `weight` that a move of the queue alone costs.
    pub(super) kappa: f64,
    /// Price of one unit of overload.
    pub(super) lambda: f64,
    /// Queue of each bucket at the start, or [`NONE`].
    pub(super) start_queue: Vec<usize>,
    /// Site of each queue at the start, or [`NONE`] where it must move.
    pub(super) start_site: Vec<usize>,
    /// Whether the queue cannot be moved.
    pub(super) fixed: Vec<bool>,
    /// Buckets by starting queue: those of queue q are `member[first[q]..first[q + 1]]`.
    pub(super) member: Vec<usize>,
    pub(super) first: Vec<usize>,
    /// Load that is tied to each queue, and its distance cost by queue and site.
    pub(super) pin_load: Vec<f64>,
    pub(super) pin_cost: Vec<f64>,
    /// Most table entries and affinities that may differ from the start, what must change included.
    pub(super) table_limit: usize,
    pub(super) queue_limit: usize,
    /// Distance cost by bucket and site, plus `weight`: what the bucket costs in a queue not its own.
    pub(super) cost: Vec<f32>,
    /// One unit of cost in the problem's own scale.
    pub(super) cost_unit: f64,
    /// Part of the problem's objective that no plan can change: overload of buckets above every cap.
    pub(super) constant: f64,
    /// Largest distance from a site to a CPU that consumes.
    farthest: f64,
    scratch: Scratch,
}

/// Where a plan begins.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) table: &'a [usize],
    pub(super) affinity: &'a [usize],
}

#[derive(Debug, Default)]
struct Scratch {
    site_of: Vec<usize>,
    consumed_on: Vec<f64>,
    queued_on: Vec<f64>,
    order: Vec<usize>,
    /// Distance by consumer and site, where there is no tree of distances.
    columns: Vec<f64>,
    tree: Tree,
    row: Vec<f64>,
    group_key: Vec<f64>,
}

impl Instance {
    /// Buckets whose queue at the start is `queue`.
    pub(super) fn members(&self, queue: usize) -> &[usize] {
        &self.member[self.first[queue]..self.first[queue + 1]]
    }

    /// What `bucket` costs at `site` in a queue not its own.
    pub(super) fn full(&self, bucket: usize, site: usize) -> f64 {
        f64::from(self.cost[bucket * self.sites + site])
    }

    /// Share of its buckets' weight that `queue` costs at `site`.
    pub(super) fn share_moved(&self, queue: usize, site: usize) -> f64 {
        if self.start_site[queue] == site { 0.0 } else { self.kappa }
    }

    /// Whether it can make a difference which queue is where: changes have a price or a limit, or
    /// not every site has a queue, or a queue has load of its own.
    pub(super) fn queues_matter(&self, state: &State) -> bool {
        let movable = self.queue_limit > 0 && self.fixed.iter().any(|fixed| !fixed);
        movable
            && (state.queues_on.contains(&0)
                || self.table_limit < self.buckets
                || self.weight.iter().any(|weight| *weight > TOLERANCE)
                || self.pin_load.iter().any(|load| *load > 0.0))
    }

    /// Takes `problem` over, with `start` in place of its own table and affinities, and without the
    /// CPUs marked in `left_out`. Lengths have been checked by the caller.
    pub(super) fn prepare(&mut self, problem: &Problem, start: Start<'_>, left_out: &[bool]) {
        let total_load: f64 =
            problem.load.iter().sum::<f64>() + problem.pins.load.iter().sum::<f64>();
        self.buckets = problem.buckets();
        self.queues = problem.queues();
        self.choose_sites(problem, start, left_out, total_load);
        let per_load = if total_load > LEAST { 1.0 / total_load } else { 1.0 };
        let per_cost = self.cost_scale(problem, total_load);

        self.lambda = if total_load > LEAST {
            coarse(problem.lambda_load * total_load * per_cost)
        } else {
            0.0
        };
        self.kappa = problem.kappa;
        self.cost_unit = 1.0 / per_cost;
        self.cap.clear();
        // More than twice everything is as good as unlimited, and keeps to the grid's range.
        self.cap.extend(self.cpu.iter().map(|cpu| grid((problem.cap[*cpu] * per_load).min(2.0))));
        let largest = self.cap.iter().copied().fold(0.0, f64::max);
        self.load.clear();
        self.load.extend(problem.load.iter().map(|load| grid(load * per_load).min(largest)));
        let above: f64 = problem.load.iter().map(|load| (load * per_load - largest).max(0.0)).sum();
        self.constant =
            if total_load > LEAST { problem.lambda_load * above * total_load } else { 0.0 };
        let lambda = single(self.lambda).max(f32::MIN_POSITIVE);
        self.small.clear();
        self.small.extend(self.load.iter().map(|load| (single(*load), lambda)));
        self.weight.clear();
        self.weight.extend(problem.load.iter().enumerate().map(|(bucket, load)| {
            grid(problem.lambda_move * load * problem.move_factor(bucket) * per_cost)
        }));
        self.take_start(problem, start);
        self.price_pins(problem, per_load, per_cost);
        self.price_buckets(problem, per_cost);
    }

    fn choose_sites(
        &mut self,
        problem: &Problem,
        start: Start<'_>,
        left_out: &[bool],
        total_load: f64,
    ) {
        let cpus = problem.cpus;
        let scratch = &mut self.scratch;
        scratch.consumed_on.clear();
        scratch.consumed_on.resize(cpus, 0.0);
        for (cpu, rate) in problem.consumed.entries() {
            scratch.consumed_on[cpu] += rate;
        }
        scratch.queued_on.clear();
        scratch.queued_on.resize(cpus, 0.0);
        for (queue, load) in start.table.iter().zip(&problem.load) {
            let cpu = start.affinity.get(*queue).copied().unwrap_or(NONE);
            if let Some(on) = scratch.queued_on.get_mut(cpu) {
                *on += load;
            }
        }
        scratch.site_of.clear();
        scratch.site_of.resize(cpus, NONE);
        // Mark first, then order: NONE - 1 is "a site", told apart by `open` below.
        for cpu in &problem.allowed {
            if !left_out.get(*cpu).is_some_and(|out| *out) {
                scratch.site_of[*cpu] = 0;
            }
        }
        let stuck = (0..problem.queues()).filter(|queue| problem.is_fixed(*queue));
        for cpu in stuck.map(|queue| start.affinity[queue]) {
            if scratch.site_of[cpu] == NONE {
                scratch.site_of[cpu] = 1;
            }
        }
        self.cpu.clear();
        self.cpu.extend((0..cpus).filter(|cpu| scratch.site_of[*cpu] != NONE));
        // How far a CPU is from all consumption tells idle CPUs apart.
        scratch.group_key.clear();
        scratch.group_key.resize(cpus, 0.0);
        // The dearest distance that occurs sets the scale: CPUs that take no part must not matter.
        self.farthest = 0.0;
        for (cpu, rate) in problem.pins.consumed.entries() {
            scratch.consumed_on[cpu] += rate;
        }
        for cpu in &self.cpu {
            let row = problem.distance.row(*cpu);
            let mut sum = 0.0;
            for (far, rate) in row.iter().zip(&scratch.consumed_on) {
                sum += far * rate;
                if *rate > 0.0 {
                    self.farthest = self.farthest.max(*far);
                }
            }
            scratch.group_key[*cpu] = sum;
        }
        // On the grid too: what is equal in one unit must be equal in all.
        let consumed: f64 = scratch.consumed_on.iter().sum();
        let share = |part: f64, whole: f64| if whole > LEAST { grid(part / whole) } else { 0.0 };
        let far = consumed * self.farthest;
        let key = |cpu: &usize| {
            (
                share(scratch.consumed_on[*cpu], consumed),
                share(scratch.queued_on[*cpu], total_load),
                -share(scratch.group_key[*cpu], far),
            )
        };
        self.cpu.sort_unstable_by(|left, right| {
            let (a, b) = (key(left), key(right));
            b.0.total_cmp(&a.0)
                .then(b.1.total_cmp(&a.1))
                .then(b.2.total_cmp(&a.2))
                .then(left.cmp(right))
        });
        self.open.clear();
        self.open.extend(self.cpu.iter().map(|cpu| scratch.site_of[*cpu] == 0));
        for (site, cpu) in self.cpu.iter().enumerate() {
            scratch.site_of[*cpu] = site;
        }
        self.sites = self.cpu.len();
    }

    /// One over a bound on distance and move costs together, the unit of all costs.
    fn cost_scale(&self, problem: &Problem, total_load: f64) -> f64 {
        let consumed: f64 = self.scratch.consumed_on.iter().sum();
        let dearest = problem.cpu_cost.iter().copied().fold(0.0, f64::max);
        let most_factor = problem.move_factor.iter().copied().fold(1.0, f64::max);
        let bound = consumed * self.farthest
            + total_load * (dearest + problem.lambda_move * most_factor * problem.kappa.max(1.0));
        // Where nothing is consumed and moves are free, overload is all there is.
        let overload = problem.lambda_load * total_load;
        [bound, overload].into_iter().find(|total| *total > LEAST).map_or(1.0, |total| 1.0 / total)
    }

    fn take_start(&mut self, problem: &Problem, start: Start<'_>) {
        let site_of = &self.scratch.site_of;
        self.fixed.clear();
        self.fixed.extend((0..self.queues).map(|queue| problem.is_fixed(queue)));
        self.start_site.clear();
        self.start_site
            .extend(start.affinity.iter().map(|cpu| site_of.get(*cpu).copied().unwrap_or(NONE)));
        for queue in 0..self.queues {
            let site = self.start_site[queue];
            // A movable queue may not stay beside a fixed one on a CPU that is not allowed.
            if site != NONE && !self.open[site] && !self.fixed[queue] {
                self.start_site[queue] = NONE;
            }
        }
        self.start_queue.clear();
        self.start_queue.extend(
            start.table.iter().map(|queue| if *queue < self.queues { *queue } else { NONE }),
        );
        self.first.clear();
        self.first.resize(self.queues + 1, 0);
        for queue in self.start_queue.iter().filter(|queue| **queue != NONE) {
            self.first[queue + 1] += 1;
        }
        for queue in 0..self.queues {
            self.first[queue + 1] += self.first[queue];
        }
        let order = &mut self.scratch.order;
        order.clear();
        order.extend_from_slice(&self.first);
        self.member.clear();
        self.member.resize(self.first[self.queues], 0);
        for (bucket, queue) in self.start_queue.iter().enumerate() {
            if *queue != NONE {
                self.member[order[*queue]] = bucket;
                order[*queue] += 1;
            }
        }
        let stale = self.start_queue.iter().filter(|queue| **queue == NONE).count();
        let barred = self.start_site.iter().filter(|site| **site == NONE).count();
        self.table_limit = problem.max_table_changes.unwrap_or(usize::MAX).max(stale);
        self.queue_limit = problem.max_affinity_changes.unwrap_or(usize::MAX).max(barred);
    }

    fn price_pins(&mut self, problem: &Problem, per_load: f64, per_cost: f64) {
        self.pin_load.clear();
        self.pin_cost.clear();
        if problem.pins.load.is_empty() {
            self.pin_load.resize(self.queues, 0.0);
            self.pin_cost.resize(self.queues * self.sites, 0.0);
            return;
        }
        for queue in 0..self.queues {
            let load = problem.pins.load[queue];
            self.pin_load.push(grid(load * per_load));
            for (site, cpu) in self.cpu.iter().enumerate() {
                let row = problem.distance.row(*cpu);
                let far: f64 =
                    problem.pins.consumed.row(queue).map(|(cpu, rate)| rate * row[cpu]).sum();
                let here = problem.cpu_cost.get(*cpu).copied().unwrap_or(0.0) * load;
                let moved = problem.lambda_move * load * self.share_moved(queue, site);
                self.pin_cost.push(grid((far + here + moved) * per_cost));
            }
        }
    }

    fn price_buckets(&mut self, problem: &Problem, per_cost: f64) {
        self.cost.clear();
        self.cost.reserve(self.buckets * self.sites);
        if problem.distance.is_hierarchical() {
            self.scratch.tree.fit(&problem.distance, &self.cpu, per_cost);
        } else {
            self.scratch.fit_columns(&problem.distance, &self.cpu, per_cost);
        }
        for bucket in 0..self.buckets {
            let scratch = &mut self.scratch;
            let consumed = problem.consumed.row(bucket);
            if problem.distance.is_hierarchical() {
                scratch.tree.price(consumed, &mut scratch.row);
            } else {
                scratch.price(consumed, self.sites);
            }
            if !problem.cpu_cost.is_empty() {
                let load = problem.load[bucket] * per_cost;
                for (cell, cpu) in scratch.row.iter_mut().zip(&self.cpu) {
                    *cell += load * problem.cpu_cost[*cpu];
                }
            }
            let weight = self.weight[bucket];
            self.cost.extend(scratch.row.iter().map(|far| cell(grid(*far) + weight)));
        }
    }
}

impl Scratch {
    /// Distance from each site to a consumer, by consumer.
    fn fit_columns(&mut self, distance: &Distances, cpus: &[usize], per_cost: f64) {
        let sites = cpus.len();
        refill(&mut self.columns, distance.cpus() * sites, 0.0);
        for (site, cpu) in cpus.iter().enumerate() {
            for (consumer, far) in distance.row(*cpu).iter().enumerate() {
                self.columns[consumer * sites + site] = far * per_cost;
            }
        }
    }

    fn price(&mut self, consumed: impl Iterator<Item = (usize, f64)>, sites: usize) {
        refill(&mut self.row, sites, 0.0);
        for (cpu, rate) in consumed {
            let column = &self.columns[cpu * sites..(cpu + 1) * sites];
            for (cell, far) in self.row.iter_mut().zip(column) {
                *cell += rate * far;
            }
        }
    }
}
