//! Which sites have a queue, where not every site has one.

use super::clock::Clock;
use super::instance::{Instance, TOLERANCE, single};
use super::price::Prices;
use super::queues::{Buckets, Queues};
use super::scan;
use super::search::Search;
use super::state::{Placement, State, refill};

/// Buffers of the choice of hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Price of load on each site, and what one bucket costs there at these prices.
    price: Vec<f32>,
    row: Vec<f32>,
    gain: Vec<f32>,
    loss: Vec<f64>,
    order: Vec<(f64, usize, usize)>,
    before: Placement,
}

/// What a trial works with.
pub(super) struct Parts<'a, 'c> {
    pub(super) instance: &'a Instance,
    pub(super) state: &'a mut State,
    pub(super) search: &'a mut Search,
    pub(super) queues: &'a mut Queues,
    pub(super) prices: &'a mut Prices,
    pub(super) clock: &'a mut Clock<'c>,
}

impl Hosts {
    /// Tries up to `trials` moves of a queue to a site without one, the most promising first, each
    /// followed by a search; keeps those that help.
    pub(super) fn improve(&mut self, parts: &mut Parts<'_, '_>, trials: u32) {
        /// Cells of the cost table from which on a trial costs too much to try as often.
        const LARGE: usize = 8192;
        let cells = (parts.instance.buckets * parts.instance.sites).max(1);
        let most = u32::try_from(LARGE * 12 / cells).unwrap_or(u32::MAX).max(1);
        let mut left = trials.min(most.max(trials / 12));
        // Of one reckoning of gains and losses only the most promising are worth a trial.
        let at_once = (trials as usize).div_ceil(4);
        while left > 0 && !parts.clock.is_over() && self.improve_once(parts, at_once, &mut left) {}
    }

    fn improve_once(&mut self, parts: &mut Parts<'_, '_>, at_once: usize, left: &mut u32) -> bool {
        self.reckon(parts);
        if self.order.is_empty() {
            return false;
        }
        self.order
            .sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        self.order.truncate(at_once);
        for place in 0..self.order.len() {
            let (_, queue, to) = self.order[place];
            if *left == 0 || parts.clock.is_over() {
                return false;
            }
            *left -= 1;
            let (instance, state) = (parts.instance, &mut *parts.state);
            let before = state.searched(instance);
            self.before.save(state);
            let from = state.site[queue];
            parts.search.trail.clear();
            parts.queues.trail.clear();
            parts.queues.relocate(instance, state, parts.search, (queue, to), Buckets::Follow);
            parts.search.wake_site(instance, state, to);
            if state.queues_on[from] > 0 {
                parts.search.wake_site(instance, state, from);
            }
            let near = 8 * instance.buckets / instance.queues.min(instance.sites).max(1);
            parts.search.settle(instance, state, near.max(32), parts.clock);
            if state.searched(instance) < before - TOLERANCE
                && Queues::within_limits(instance, state)
            {
                return true;
            }
            state.restore(instance, &self.before);
        }
        false
    }

    /// Gain of a queue at each free site (buckets that would come, at the average price of load)
    /// and loss of each queue's site (its buckets follow, or go to their second best).
    fn reckon(&mut self, parts: &Parts<'_, '_>) {
        let (instance, state) = (parts.instance, &*parts.state);
        let price = &parts.prices.price;
        let hosts = state.queues_on.iter().filter(|count| **count > 0).count();
        let average = price.iter().sum::<f64>() / hosts.max(1) as f64;
        refill(&mut self.gain, instance.sites, 0.0);
        refill(&mut self.loss, instance.sites, 0.0);
        refill(&mut self.row, instance.sites, 0.0);
        self.order.clear();
        let free = |site: usize| state.queues_on[site] == 0 && instance.open[site];
        if !(0..instance.sites).any(free) {
            return;
        }
        self.price.clear();
        self.price.extend(
            (0..instance.sites)
                .map(|site| single(if state.queues_on[site] > 0 { price[site] } else { average })),
        );
        for bucket in 0..instance.buckets {
            let (at, (load, _)) = (state.at[bucket], instance.small[bucket]);
            let row = state.row(instance, bucket);
            scan::price_row(row, &self.price, load, &mut self.row);
            let held = self.row[at];
            scan::add_gains(&self.row, held, &mut self.gain);
            self.row[at] = f32::INFINITY;
            let second = scan::least_open(&self.row, &state.shut);
            if second.is_finite() {
                self.loss[at] += f64::from(second - held);
            }
        }
        for queue in (0..instance.queues).filter(|queue| !instance.fixed[*queue]) {
            let from = state.site[queue];
            for to in (0..instance.sites).filter(|to| free(*to)) {
                let mut worth = f64::from(self.gain[to]);
                if state.queues_on[from] == 1 {
                    // Followers pay the difference, those that would do better elsewhere go there.
                    worth -= self.loss_by(instance, state, from, to);
                }
                if worth > TOLERANCE {
                    self.order.push((worth, queue, to));
                }
            }
        }
    }

    fn loss_by(&self, instance: &Instance, state: &State, from: usize, to: usize) -> f64 {
        let followed: f64 = state.list[from]
            .iter()
            .map(|bucket| {
                let row = state.row(instance, *bucket);
                f64::from(row[to]) - f64::from(row[from])
            })
            .sum();
        followed.max(0.0).min(self.loss[from].max(0.0))
    }
}
