//! Prices for load by subgradient steps on the Lagrangian of the caps, and plans built by them.

use super::NONE;
use super::clock::Clock;
use super::instance::{Instance, single};
use super::scan;
use super::state::{State, refill};

/// Cheapest hosts that are kept for each bucket while prices are sought.
const KEPT: usize = 8;

/// Buffers of the price stage.
#[derive(Debug, Default)]
pub(super) struct Prices {
    /// Price of load on each site.
    pub(super) price: Vec<f64>,
    trial: Vec<f64>,
    /// The trial prices, rounded.
    small: Vec<f32>,
    slope: Vec<f64>,
    /// The slope at the prices.
    best_slope: Vec<f64>,
    /// The cheapest hosts of each bucket with their cost, cheapest first; infinite where there are
    /// fewer.
    kept: Vec<[(f32, u32); KEPT]>,
    hosts: Vec<usize>,
    order: Vec<u64>,
    target: Vec<usize>,
    filled: Vec<f64>,
    carried: Vec<f64>,
}

impl Prices {
    /// Seeks prices between nothing and the price of overload with `steps` steps.
    pub(super) fn seek(
        &mut self,
        instance: &Instance,
        state: &State,
        steps: u32,
        clock: &mut Clock<'_>,
    ) {
        let sites = instance.sites;
        self.hosts.clear();
        self.hosts.extend((0..sites).filter(|site| state.queues_on[*site] > 0));
        self.keep_cheapest(instance, state);
        refill(&mut self.price, sites, 0.0);
        refill(&mut self.trial, sites, 0.0);
        if steps == 0 || instance.lambda <= 0.0 {
            return;
        }
        let upper = self.greedy(instance, state);
        let mut best = f64::NEG_INFINITY;
        let mut factor = 1.0;
        let mut in_vain = 0;
        for _ in 0..steps {
            if clock.is_over() {
                break;
            }
            let mut bound = self.evaluate(instance);
            if bound > best + 1e-7 * upper.abs() {
                best = bound;
                self.price.copy_from_slice(&self.trial);
                self.best_slope.clone_from(&self.slope);
                in_vain = 0;
            } else {
                in_vain += 1;
                // The step was too long: `upper` is seldom near what can be reached. From the best prices
                // in shorter steps, ten get further than 25 that go on from where they are.
                if in_vain == 2 || bound < best - 0.5 * (upper - best) {
                    self.trial.copy_from_slice(&self.price);
                    self.slope.clone_from(&self.best_slope);
                    bound = best;
                    factor *= 0.5;
                    in_vain = 0;
                }
            }
            let mut square = 0.0;
            for site in &self.hosts {
                let slope = &mut self.slope[*site];
                // At the edge of its range a price that would leave it does not count.
                let stuck = (self.trial[*site] <= 0.0 && *slope < 0.0)
                    || (self.trial[*site] >= instance.lambda && *slope > 0.0);
                if stuck {
                    *slope = 0.0;
                }
                square += *slope * *slope;
            }
            if square <= 1e-24 || upper - bound <= 1e-9 * upper.abs() {
                break;
            }
            let step = factor * (upper - bound) / square;
            for site in &self.hosts {
                self.trial[*site] =
                    (self.trial[*site] + step * self.slope[*site]).clamp(0.0, instance.lambda);
            }
        }
    }

    /// Prices of nothing, where none are sought.
    pub(super) fn forget(&mut self, instance: &Instance) {
        refill(&mut self.price, instance.sites, 0.0);
    }

    /// The Lagrangian at the trial prices, over the kept hosts; leaves load minus cap in `slope`.
    fn evaluate(&mut self, instance: &Instance) -> f64 {
        let mut bound = 0.0;
        refill(&mut self.slope, instance.sites, 0.0);
        for site in &self.hosts {
            self.slope[*site] = self.filled[*site] - instance.cap[*site];
            bound += self.trial[*site] * self.slope[*site];
        }
        self.small.clear();
        self.small.extend(self.trial.iter().map(|price| single(*price)));
        let buckets = self.kept.iter().zip(&instance.small);
        for ((kept, (small, _)), load) in buckets.zip(&instance.load) {
            let mut least = f32::INFINITY;
            let mut goal = 0;
            // In halves: a branch for each is guessed wrong too often. They are in order and no
            // price is negative, so the second half is seldom needed.
            let (near, far) = kept.split_at(KEPT / 2);
            for half in [near, far] {
                if half[0].0 >= least {
                    break;
                }
                for (cost, site) in half {
                    let price = cost + self.small[*site as usize] * small;
                    let better = price < least;
                    least = if better { price } else { least };
                    goal = if better { *site } else { goal };
                }
            }
            bound += f64::from(least);
            self.slope[goal as usize] += load;
        }
        bound
    }

    /// The cheapest hosts of each bucket. Equals are taken from a place that depends on the
    /// bucket, or all buckets that do not care would keep the same few.
    fn keep_cheapest(&mut self, instance: &Instance, state: &State) {
        let each = self.hosts.len().min(KEPT);
        refill(&mut self.kept, instance.buckets, [(f32::INFINITY, 0); KEPT]);
        for (bucket, kept) in self.kept.iter_mut().enumerate() {
            let row = state.row(instance, bucket);
            scan::keep_cheapest(row, &state.shut, bucket % instance.sites, &mut kept[..each]);
        }
        // Load of the pins: it is there before any bucket.
        refill(&mut self.filled, instance.sites, 0.0);
        for (queue, site) in state.site.iter().enumerate() {
            self.filled[*site] += instance.pin_load[queue];
        }
    }

    /// Cost of giving the buckets, in their order, each to the host that is cheapest then.
    fn greedy(&mut self, instance: &Instance, state: &State) -> f64 {
        self.carried.clone_from(&self.filled);
        let carried = &mut self.carried;
        let mut total = 0.0;
        for (kept, load) in self.kept.iter().zip(&instance.load) {
            let mut best = (f64::INFINITY, 0);
            for (cost, site) in kept {
                let (cost, site) = (f64::from(*cost), *site as usize);
                if cost >= best.0 {
                    break;
                }
                let room = (instance.cap[site] - carried[site]).max(0.0);
                let price = cost + instance.lambda * (load - room).max(0.0);
                if price < best.0 {
                    best = (price, site);
                }
            }
            total += best.0;
            carried[best.1] += load;
        }
        total.min(state.searched(instance))
    }

    /// A placement by the prices: buckets that lose most by not getting their best host get it
    /// first, while there is room; the rest, largest first, go where cost, price and overload are
    /// least.
    pub(super) fn construct(&mut self, instance: &Instance, state: &mut State) {
        let kept = self.kept.iter();
        refill(&mut self.target, instance.buckets, NONE);
        self.order.clear();
        for (bucket, (kept, load)) in kept.zip(&instance.load).enumerate() {
            let mut best = (f64::INFINITY, NONE);
            let mut second = f64::INFINITY;
            for (cost, site) in kept {
                let (cost, site) = (f64::from(*cost), *site as usize);
                if cost >= second {
                    break;
                }
                let price = cost + self.price[site] * load;
                if price < best.0 {
                    second = best.0;
                    best = (price, site);
                } else if price < second {
                    second = price;
                }
            }
            self.target[bucket] = best.1;
            let regret = if *load > 0.0 { (second - best.0) / load } else { f64::INFINITY };
            self.order.push(scan::greatest_first(regret, bucket));
        }
        self.order.sort_unstable();
        self.carried.clone_from(&self.filled);
        let carried = &mut self.carried;
        let mut waiting = 0;
        for place in 0..self.order.len() {
            let bucket = scan::index_of(self.order[place]);
            let (site, load) = (self.target[bucket], instance.load[bucket]);
            if carried[site] + load <= instance.cap[site] {
                carried[site] += load;
            } else {
                self.order[waiting] = scan::greatest_first(load, bucket);
                waiting += 1;
            }
        }
        let late = &mut self.order[..waiting];
        late.sort_unstable();
        for late in late {
            let bucket = scan::index_of(*late);
            let load = instance.load[bucket];
            let row = state.row(instance, bucket);
            let mut best = (f64::INFINITY, NONE);
            for site in &self.hosts {
                let room = (instance.cap[*site] - carried[*site]).max(0.0);
                let over = instance.lambda * (load - room).max(0.0);
                let price = f64::from(row[*site]) + self.price[*site] * load + over;
                if price < best.0 {
                    best = (price, *site);
                }
            }
            self.target[bucket] = best.1;
            carried[best.1] += load;
        }
        for (bucket, site) in self.target.iter().enumerate() {
            state.shift(instance, bucket, *site);
        }
    }
}
