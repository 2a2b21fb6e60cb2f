//! Local search over buckets with the queues where they are.

use super::NONE;
use super::clock::Clock;
use super::instance::{Instance, TOLERANCE, single};
use super::moves::{Away, Wishes, best_ejection, best_shift, best_swap, best_trade, held, regret};
use super::scan;
use super::state::{State, refill};

/// Buckets that are looked at between two questions whether time is over.
const ASK_EVERY: usize = 64;
/// Looks for each bucket in a search that is to end soon.
pub(super) const LOOKS: usize = 30;

/// Buffers of the search.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Buckets to look at, and whether each is among them.
    pending: Vec<usize>,
    waiting: Vec<bool>,
    order: Vec<u64>,
    /// Counts shifts, to tell what is news to a bucket: when each site last changed, and when each
    /// bucket was last looked at in vain.
    clock: u32,
    changed: Vec<u32>,
    looked: Vec<u32>,
    scratch: Vec<f32>,
    away: Away,
    /// Every shift since [`Search::fit`], as bucket and site left.
    pub(super) trail: Vec<(usize, usize)>,
}

impl Search {
    /// Passes over all buckets that could be better off, worst first, until nothing improves.
    /// `looks` bounds the pairs of buckets that are weighed against each other; when it is used up
    /// buckets still move alone. Ends where it is when `clock` says that time is over.
    pub(super) fn passes(
        &mut self,
        instance: &Instance,
        state: &mut State,
        passes: usize,
        mut looks: usize,
        clock: &mut Clock<'_>,
    ) {
        for _ in 0..passes {
            self.order.clear();
            for bucket in 0..instance.buckets {
                let regret = regret(instance, state, bucket);
                if regret > TOLERANCE {
                    self.order.push(scan::greatest_first(regret, bucket));
                }
            }
            self.order.sort_unstable();
            let mut improved = false;
            for index in 0..self.order.len() {
                if index % ASK_EVERY == ASK_EVERY - 1 && clock.is_over() {
                    return;
                }
                let bucket = scan::index_of(self.order[index]);
                if self.is_hopeless(instance, state, bucket) {
                    continue;
                }
                if self.improve(instance, state, bucket, &mut looks) {
                    improved = true;
                } else {
                    self.looked[bucket] = self.clock;
                }
            }
            if !improved {
                break;
            }
        }
    }

    /// Whether `bucket` was looked at in vain and nothing has happened since where it is or would
    /// like to be.
    fn is_hopeless(&self, instance: &Instance, state: &State, bucket: usize) -> bool {
        let looked = self.looked[bucket];
        let at = state.at[bucket];
        if looked == 0 || state.limited || self.changed[at] > looked {
            return false;
        }
        let held = single(held(instance, state, bucket));
        !scan::any_newer(state.row(instance, bucket), held, &self.changed, looked)
    }

    /// Forgets what was looked at in vain, for the placement is another one.
    pub(super) fn forget(&mut self) {
        self.looked.fill(0);
    }

    /// Notes that `queue` has moved from or to `site`, which changes what its buckets cost there.
    pub(super) fn note_queue(&mut self, instance: &Instance, queue: usize, site: usize) {
        self.note(site);
        for bucket in instance.members(queue) {
            self.looked[*bucket] = 0;
        }
    }

    fn note(&mut self, site: usize) {
        self.clock = self.clock.saturating_add(1);
        self.changed[site] = self.clock;
    }

    /// Marks `bucket` to be looked at by [`Search::settle`].
    pub(super) fn wake(&mut self, bucket: usize) {
        if !self.waiting[bucket] {
            self.waiting[bucket] = true;
            self.pending.push(bucket);
        }
    }

    /// Makes room for the marks of `instance`.
    pub(super) fn fit(&mut self, instance: &Instance) {
        self.pending.clear();
        self.trail.clear();
        refill(&mut self.waiting, instance.buckets, false);
        refill(&mut self.scratch, instance.sites, 0.0);
        self.clock = 1;
        self.away.fit(instance);
        refill(&mut self.changed, instance.sites, 1);
        refill(&mut self.looked, instance.buckets, 0);
    }

    /// Wakes the buckets that a change on `site` may concern: those on it, and those that wish to be.
    pub(super) fn wake_site(&mut self, instance: &Instance, state: &State, site: usize) {
        self.wake_on(state, site);
        self.wake_for(instance, state, site);
    }

    /// Wakes the buckets on `site`, which has become fuller.
    fn wake_on(&mut self, state: &State, site: usize) {
        for bucket in &state.list[site] {
            self.wake(*bucket);
        }
    }

    /// Wakes the buckets that would like to be on `site`, which has more room than before.
    fn wake_for(&mut self, instance: &Instance, state: &State, site: usize) {
        // First whether there is anything that costs less at all: a column of the matrix is a line of the
        // cache for each bucket, and most buckets are where they cost least.
        for (bucket, (least, here)) in state.least.iter().zip(&state.here).enumerate() {
            let cost = || f64::from(state.cost[bucket * instance.sites + site]);
            if f64::from(*least) < *here && cost() < *here {
                self.wake(bucket);
            }
        }
        for crowded in (0..instance.sites).filter(|other| state.overloaded(instance, *other)) {
            for bucket in &state.list[crowded] {
                let cost = state.cost[bucket * instance.sites + site];
                if f64::from(cost) < held(instance, state, *bucket) {
                    self.wake(*bucket);
                }
            }
        }
    }

    /// Improves the woken buckets, and those that each improvement wakes, until none is left or
    /// `steps` buckets have been tried or time is over.
    pub(super) fn settle(
        &mut self,
        instance: &Instance,
        state: &mut State,
        mut steps: usize,
        clock: &mut Clock<'_>,
    ) {
        let mut looks = steps.saturating_mul(LOOKS);
        let mut next = 0;
        while next < self.pending.len() {
            let bucket = self.pending[next];
            next += 1;
            self.waiting[bucket] = false;
            if steps == 0 {
                continue;
            }
            steps -= 1;
            if steps.is_multiple_of(ASK_EVERY) && clock.is_over() {
                steps = 0;
                continue;
            }
            let before = self.trail.len();
            if self.improve(instance, state, bucket, &mut looks) {
                for index in before..self.trail.len() {
                    let (moved, left) = self.trail[index];
                    self.wake_for(instance, state, left);
                    self.wake_on(state, state.at[moved]);
                }
            }
        }
        self.pending.clear();
    }

    /// Takes back every shift since `mark`, newest first.
    pub(super) fn take_back(&mut self, instance: &Instance, state: &mut State, mark: usize) {
        while self.trail.len() > mark {
            if let Some((bucket, site)) = self.trail.pop() {
                self.note(state.at[bucket]);
                self.note(site);
                state.shift(instance, bucket, site);
            }
        }
    }

    /// Shifts and notes it.
    pub(super) fn shift(
        &mut self,
        instance: &Instance,
        state: &mut State,
        bucket: usize,
        to: usize,
    ) {
        let from = state.at[bucket];
        self.trail.push((bucket, from));
        self.note(from);
        self.note(to);
        state.shift(instance, bucket, to);
    }

    fn improve(
        &mut self,
        instance: &Instance,
        state: &mut State,
        bucket: usize,
        looks: &mut usize,
    ) -> bool {
        if regret(instance, state, bucket) <= TOLERANCE {
            return false;
        }
        let mut best = best_shift(instance, state, bucket, &mut self.scratch);
        if best.delta >= -TOLERANCE && *looks > 0 {
            let wishes = Wishes::of(instance, state, bucket);
            if wishes.count == 0 {
                return false;
            }
            let sites = &wishes.site[..wishes.count];
            let rivals: usize = sites.iter().map(|site| state.list[*site].len()).sum();
            *looks = looks.saturating_sub(rivals);
            best_swap(instance, state, bucket, &wishes, &mut best);
            if state.limited {
                best_trade(instance, state, bucket, &wishes, &mut best);
            }
            if best.delta >= -TOLERANCE && *looks > 0 {
                *looks = looks.saturating_sub(rivals * instance.sites.div_ceil(16));
                best_ejection(
                    instance,
                    state,
                    bucket,
                    &wishes,
                    &mut best,
                    (&mut self.scratch, &mut self.away),
                );
            }
        }
        if best.delta >= -TOLERANCE {
            return false;
        }
        for (bucket, to) in best.shifts {
            if bucket != NONE {
                self.shift(instance, state, bucket, to);
            }
        }
        true
    }
}
