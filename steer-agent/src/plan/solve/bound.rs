//! A lower bound on the objective of every legal plan.
//!
//! Relaxed: buckets and queues are placed freely (a bucket that stays in its queue pays nothing at
//! the queue's present site and `kappa`'s share elsewhere), limits are ignored, and the caps are
//! priced. For any prices between nothing and the price of overload, the cheapest placement at those
//! prices, less what the caps are worth, is below the optimum.

use super::NONE;
use super::instance::Instance;
use super::state::refill;

/// Buffers of the bound.
#[derive(Debug, Default)]
pub(super) struct Bound {
    cost: Vec<f64>,
    price: Vec<f64>,
    best_price: Vec<f64>,
    slope: Vec<f64>,
    step: Vec<f64>,
}

impl Bound {
    /// The best bound of `steps` steps, in the instance's scale. `upper` is a known objective.
    pub(super) fn seek(&mut self, instance: &Instance, upper: f64, steps: u32) -> f64 {
        self.relax(instance);
        let sites = instance.sites;
        // The instance's own price of overload is rounded; stay on the safe side of it.
        let highest = instance.lambda * (1.0 - 1e-8);
        refill(&mut self.price, sites, 0.0);
        refill(&mut self.step, sites, 0.0);
        self.best_price.clone_from(&self.price);
        let mut best = f64::NEG_INFINITY;
        let mut factor = 1.0;
        let mut stalled = 0;
        for _ in 0..steps {
            let bound = self.evaluate(instance);
            if bound > best {
                if bound > best + 1e-6 * upper {
                    stalled = 0;
                }
                best = bound;
                self.best_price.copy_from_slice(&self.price);
            }
            stalled += 1;
            if stalled > 8 {
                factor *= 0.6;
                stalled = 0;
                self.price.copy_from_slice(&self.best_price);
                self.step.fill(0.0);
                continue;
            }
            let mut square = 0.0;
            for site in 0..sites {
                let slope = self.slope[site];
                let stuck = (self.price[site] <= 0.0 && slope < 0.0)
                    || (self.price[site] >= highest && slope > 0.0);
                self.step[site] = if stuck { 0.0 } else { slope + 0.3 * self.step[site] };
                square += if stuck { 0.0 } else { slope * slope };
            }
            if square <= 1e-24 || upper - bound <= 1e-9 * upper {
                break;
            }
            let length = factor * (upper - bound) / square;
            for (price, step) in self.price.iter_mut().zip(&self.step) {
                *price = (*price + length * step).clamp(0.0, highest);
            }
        }
        best
    }

    /// Costs of buckets, then of pins, with affinities free.
    fn relax(&mut self, instance: &Instance) {
        let sites = instance.sites;
        let stay = 1.0 - instance.kappa.min(1.0);
        self.cost.clear();
        self.cost.extend(instance.cost.iter().copied().map(f64::from));
        for (bucket, row) in self.cost.chunks_exact_mut(sites).enumerate() {
            let queue = instance.start_queue[bucket];
            if queue == NONE {
                continue;
            }
            let weight = instance.weight[bucket];
            let start = instance.start_site[queue];
            let pinned = instance.fixed[queue] || instance.queue_limit == 0;
            for (site, cell) in row.iter_mut().enumerate() {
                if site == start {
                    *cell -= weight;
                } else if !pinned {
                    *cell -= weight * stay;
                }
            }
        }
        self.cost.extend_from_slice(&instance.pin_cost);
    }

    fn evaluate(&mut self, instance: &Instance) -> f64 {
        /// More than a cell can be above what it stands for, as a share of it.
        const ROUNDED: f64 = 1e-7;
        let mut bound = 0.0;
        let mut sum = 0.0;
        refill(&mut self.slope, instance.sites, 0.0);
        for ((slope, cap), price) in self.slope.iter_mut().zip(&instance.cap).zip(&self.price) {
            *slope = -cap;
            bound -= cap * price;
        }
        let loads = instance.load.iter().chain(&instance.pin_load);
        for (row, load) in self.cost.chunks_exact(instance.sites).zip(loads) {
            let mut least = f64::INFINITY;
            let mut goal = 0;
            for (site, (cost, price)) in row.iter().zip(&self.price).enumerate() {
                let priced = cost + price * load;
                if priced < least {
                    least = priced;
                    goal = site;
                }
            }
            sum += least;
            self.slope[goal] += load;
        }
        bound + sum * (1.0 - ROUNDED)
    }
}
