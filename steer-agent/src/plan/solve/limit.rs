//! At most so many changed entries: a price on each, and the best that fits.

use super::hosts::Parts;
use super::instance::Instance;
use super::scan::least_of;
use super::search::LOOKS;
use super::state::{Placement, State};

/// Buffers of the limit.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    order: Vec<(f64, usize)>,
    best: Placement,
}

impl Limiter {
    /// From a placement that changes too many entries to the best found that keeps the limit.
    /// `tie` is the rebate that the search runs with otherwise.
    pub(super) fn enforce(&mut self, parts: &mut Parts<'_, '_>, tie: f64, price_steps: u32) {
        const HALVINGS: usize = 8;
        let instance = parts.instance;
        let mut least = f64::INFINITY;
        self.fit(parts, &mut least);
        let mut low = 0.0;
        let mut high = dearest_change(instance, parts.state);
        for _ in 0..HALVINGS {
            if parts.clock.is_over() {
                break;
            }
            let middle = 0.5 * (low + high);
            let state = &mut *parts.state;
            state.limited = false;
            state.set_rebate(instance, tie + middle);
            parts.prices.seek(instance, state, price_steps, parts.clock);
            parts.prices.construct(instance, state);
            parts.search.forget();
            parts.search.passes(instance, state, 4, LOOKS / 2 * instance.buckets, parts.clock);
            if state.changed > instance.table_limit {
                low = middle;
            } else {
                high = middle;
            }
            state.set_rebate(instance, tie);
            self.fit(parts, &mut least);
        }
        parts.state.limited = false;
        parts.state.restore(instance, &self.best);
        parts.state.limited = true;
    }

    /// Sends home what is least missed until the limit holds, searches on under it, and notes the
    /// result if it is the best.
    fn fit(&mut self, parts: &mut Parts<'_, '_>, least: &mut f64) {
        let (instance, state) = (parts.instance, &mut *parts.state);
        while state.changed > instance.table_limit {
            let excess = state.changed - instance.table_limit;
            self.order.clear();
            for bucket in 0..instance.buckets {
                let (at, home) = (state.at[bucket], state.home[bucket]);
                if home < instance.sites && home != at {
                    let row = state.row(instance, bucket);
                    let load = instance.load[bucket];
                    let over =
                        (load - state.room[home]).max(0.0) - state.relief(instance, at, load);
                    let far = f64::from(row[home]) - f64::from(row[at]);
                    self.order.push((far + instance.lambda * over, bucket));
                }
            }
            if self.order.is_empty() {
                break;
            }
            self.order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            // A few at a time, for each changes what the others cost.
            for (_, bucket) in self.order.iter().take(excess.div_ceil(4)) {
                state.shift(instance, *bucket, state.home[*bucket]);
            }
        }
        state.limited = true;
        parts.search.passes(instance, state, 6, LOOKS * instance.buckets, parts.clock);
        let objective = state.objective(instance);
        if objective < *least {
            *least = objective;
            self.best.save(state);
        }
        state.limited = false;
    }
}

/// A price at which no bucket leaves home for its distance's sake.
fn dearest_change(instance: &Instance, state: &State) -> f64 {
    let mut dearest = 0.0f64;
    for bucket in 0..instance.buckets {
        let home = state.home[bucket];
        if home < instance.sites {
            let row = state.row(instance, bucket);
            dearest = dearest.max(f64::from(row[home] - least_of(row)));
        }
    }
    dearest + instance.lambda * instance.load.iter().copied().fold(0.0, f64::max)
}
