//! Local search over buckets with the queues where they are: shift, swap, ejection, trade.

use super::NONE;
use super::instance::{Instance, TOLERANCE, single};
use super::scan;
use super::state::{State, refill, smaller};

/// How many dearer-than-wished hosts are tried as the other side of a swap or ejection.
const WISHES: usize = 6;

/// Looks for each bucket in a search that is to end soon.
pub(super) const LOOKS: usize = 40;

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

/// A change of one to three buckets' sites, with what it adds to the objective.
#[derive(Clone, Copy, Debug)]
struct Move {
    delta: f64,
    shifts: [(usize, usize); 2],
}

impl Move {
    const NONE: Self = Self { delta: -TOLERANCE, shifts: [(NONE, NONE); 2] };

    fn better(&mut self, delta: f64, first: (usize, usize), second: (usize, usize)) {
        if delta < self.delta {
            *self = Self { delta, shifts: [first, second] };
        }
    }
}

impl Search {
    /// Passes over all buckets that could be better off, worst first, until nothing improves.
    /// `looks` bounds the pairs of buckets that are weighed against each other; when it is used up
    /// buckets still move alone.
    pub(super) fn passes(
        &mut self,
        instance: &Instance,
        state: &mut State,
        passes: usize,
        mut looks: usize,
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
        refill(&mut self.away.known, instance.buckets, (0, NONE, 0.0));
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
        let column = state.cost.iter().skip(site).step_by(instance.sites);
        for (bucket, (cost, here)) in column.zip(&state.here).enumerate() {
            if f64::from(*cost) < *here {
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
    /// `steps` buckets have been tried.
    pub(super) fn settle(&mut self, instance: &Instance, state: &mut State, mut steps: usize) {
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

/// At least what the bucket could save where it would like to be if there were room, its share in
/// the overload of its own site included.
fn regret(instance: &Instance, state: &State, bucket: usize) -> f64 {
    held(instance, state, bucket) - f64::from(state.least[bucket])
}

/// The host for `bucket` that makes the objective least, `from` its own excluded.
fn best_host(
    instance: &Instance,
    state: &State,
    bucket: usize,
    from: [usize; 2],
    more: isize,
    prices: &mut [f32],
) -> (f64, usize) {
    let row = state.row(instance, bucket);
    let load = instance.load[bucket];
    if state.limited {
        let mut best = (f64::INFINITY, NONE);
        for (site, cost) in row.iter().enumerate() {
            let over = (load - state.room[site]).max(0.0);
            let price = f64::from(cost + state.shut[site]) + instance.lambda * over;
            if price < best.0
                && !from.contains(&site)
                && state.may_change(instance, state.grows(bucket, site) + more)
            {
                best = (price, site);
            }
        }
        return best;
    }
    let site = scan::cheapest(row, &state.space, instance.small[bucket], from, prices);
    if site == NONE {
        return (f64::INFINITY, NONE);
    }
    let over = (load - state.room[site]).max(0.0);
    (f64::from(row[site]) + instance.lambda * over, site)
}

/// What `bucket` costs where it is, its part in the overload included.
fn held(instance: &Instance, state: &State, bucket: usize) -> f64 {
    let over = state.relief(instance, state.at[bucket], instance.load[bucket]);
    state.here[bucket] + instance.lambda * over
}

fn best_shift(instance: &Instance, state: &State, bucket: usize, prices: &mut [f32]) -> Move {
    let mut best = Move::NONE;
    let (price, site) = best_host(instance, state, bucket, [state.at[bucket], NONE], 0, prices);
    if site != NONE {
        best.better(price - held(instance, state, bucket), (bucket, site), (NONE, NONE));
    }
    best
}

/// Hosts where a bucket would cost less than where it is if they had room, cheapest first.
struct Wishes {
    count: usize,
    site: [usize; WISHES],
    gain: [f64; WISHES],
}

impl Wishes {
    fn of(instance: &Instance, state: &State, bucket: usize) -> Self {
        let row = state.row(instance, bucket);
        let held = held(instance, state, bucket);
        let mut wishes = Self { count: 0, site: [NONE; WISHES], gain: [0.0; WISHES] };
        let mut least = TOLERANCE;
        for (site, cost) in row.iter().enumerate() {
            let gain = held - f64::from(cost + state.shut[site]);
            if gain > least && site != state.at[bucket] {
                let mut place = if wishes.count < WISHES {
                    wishes.count += 1;
                    wishes.count - 1
                } else {
                    WISHES - 1
                };
                while place > 0 && wishes.gain[place - 1] < gain {
                    wishes.gain[place] = wishes.gain[place - 1];
                    wishes.site[place] = wishes.site[place - 1];
                    place -= 1;
                }
                wishes.gain[place] = gain;
                wishes.site[place] = site;
                if wishes.count == WISHES {
                    least = wishes.gain[WISHES - 1];
                }
            }
        }
        wishes
    }
}

/// Overload of `site` after its load changed by `change`, less what it is now.
fn over_change(instance: &Instance, state: &State, site: usize, change: f64) -> f64 {
    let excess = state.carried[site] - instance.cap[site];
    (excess + change).max(0.0) - excess.max(0.0)
}

fn best_swap(instance: &Instance, state: &State, bucket: usize, wishes: &Wishes, best: &mut Move) {
    let from = state.at[bucket];
    let load = instance.load[bucket];
    let own = state.row(instance, bucket);
    for site in &wishes.site[..wishes.count] {
        let gain = f64::from(own[*site]) - f64::from(own[from]);
        for other in &state.list[*site] {
            let change = load - instance.load[*other];
            let over = over_change(instance, state, *site, change)
                + over_change(instance, state, from, -change);
            let sure = gain + instance.lambda * over - state.here[*other];
            if sure + f64::from(state.least[*other]) >= best.delta {
                continue;
            }
            let delta = sure + f64::from(state.cost[other * instance.sites + from]);
            if delta < best.delta
                && (!state.limited
                    || state.may_change(
                        instance,
                        state.grows(bucket, *site) + state.grows(*other, from),
                    ))
            {
                best.better(delta, (bucket, *site), (*other, from));
            }
        }
    }
}

/// What each bucket would cost at least on any host but its own, worked out when it is asked for.
#[derive(Debug, Default)]
struct Away {
    known: Vec<(u32, usize, f32)>,
}

impl Away {
    fn least(&mut self, instance: &Instance, state: &State, bucket: usize) -> f64 {
        let at = state.at[bucket];
        let (era, site, least) = self.known[bucket];
        if era == state.era && site == at {
            return f64::from(least);
        }
        let row = state.row(instance, bucket);
        let below = scan::least_open(&row[..at], &state.shut[..at]);
        let above = scan::least_open(&row[at + 1..], &state.shut[at + 1..]);
        let least = smaller(below, above);
        self.known[bucket] = (state.era, at, least);
        f64::from(least)
    }
}

/// `bucket` takes the place of another, which goes to a third site.
fn best_ejection(
    instance: &Instance,
    state: &State,
    bucket: usize,
    wishes: &Wishes,
    best: &mut Move,
    (prices, away): (&mut [f32], &mut Away),
) {
    let from = state.at[bucket];
    let load = instance.load[bucket];
    let held = held(instance, state, bucket);
    let own = state.row(instance, bucket);
    for site in &wishes.site[..wishes.count] {
        let gain = f64::from(own[*site]) - held;
        let more = if state.limited { state.grows(bucket, *site) } else { 0 };
        for other in &state.list[*site] {
            let weight = instance.load[*other];
            let over = instance.lambda * over_change(instance, state, *site, load - weight);
            let sure = gain + over - state.here[*other];
            if sure + f64::from(state.least[*other]) >= best.delta
                || sure + away.least(instance, state, *other) >= best.delta
            {
                continue;
            }
            let (price, third) = best_host(instance, state, *other, [*site, from], more, prices);
            if third != NONE && sure + price < best.delta {
                best.better(sure + price, (bucket, *site), (*other, third));
            }
        }
    }
}

/// Where entries are counted: `bucket` leaves home, and another one returns to its own.
fn best_trade(instance: &Instance, state: &State, bucket: usize, wishes: &Wishes, best: &mut Move) {
    let from = state.at[bucket];
    if state.home[bucket] != from || state.changed < instance.table_limit {
        return;
    }
    let load = instance.load[bucket];
    let own = state.row(instance, bucket);
    for other in 0..instance.buckets {
        let (there, home) = (state.at[other], state.home[other]);
        if home == NONE || there == home || other == bucket {
            continue;
        }
        let weight = instance.load[other];
        let row = state.row(instance, other);
        let back = f64::from(row[home]) - f64::from(row[there]);
        for site in &wishes.site[..wishes.count] {
            let mut delta = back + f64::from(own[*site]) - f64::from(own[from]);
            if delta >= best.delta + instance.lambda {
                continue;
            }
            // Net change of load on the up to four sites concerned.
            let sites = [from, *site, there, home];
            let changes = [-load, load, -weight, weight];
            for place in 0..4 {
                if sites[..place].contains(&sites[place]) {
                    continue;
                }
                let net: f64 = (place..4)
                    .filter(|later| sites[*later] == sites[place])
                    .map(|later| changes[later])
                    .sum();
                delta += instance.lambda * over_change(instance, state, sites[place], net);
            }
            best.better(delta, (bucket, *site), (other, home));
        }
    }
}
