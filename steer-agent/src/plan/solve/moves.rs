//! Changes of one or two buckets' places, and the best of each kind: shift, swap, ejection, trade.

use super::NONE;
use super::instance::{Instance, TOLERANCE};
use super::scan;
use super::state::{State, refill, smaller};

/// How many dearer-than-wished hosts are tried as the other side of a swap or ejection.
const WISHES: usize = 6;

/// A change of one to three buckets' sites, with what it adds to the objective.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) delta: f64,
    pub(super) shifts: [(usize, usize); 2],
}

impl Move {
    const NONE: Self = Self { delta: -TOLERANCE, shifts: [(NONE, NONE); 2] };

    fn better(&mut self, delta: f64, first: (usize, usize), second: (usize, usize)) {
        if delta < self.delta {
            *self = Self { delta, shifts: [first, second] };
        }
    }
}

/// At least what the bucket could save where it would like to be if there were room, its share in
/// the overload of its own site included.
#[inline]
pub(super) fn regret(instance: &Instance, state: &State, bucket: usize) -> f64 {
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
#[inline]
pub(super) fn held(instance: &Instance, state: &State, bucket: usize) -> f64 {
    let over = state.relief(instance, state.at[bucket], instance.load[bucket]);
    state.here[bucket] + instance.lambda * over
}

pub(super) fn best_shift(
    instance: &Instance,
    state: &State,
    bucket: usize,
    prices: &mut [f32],
) -> Move {
    let mut best = Move::NONE;
    let (price, site) = best_host(instance, state, bucket, [state.at[bucket], NONE], 0, prices);
    if site != NONE {
        best.better(price - held(instance, state, bucket), (bucket, site), (NONE, NONE));
    }
    best
}

/// Hosts where a bucket would cost less than where it is if they had room, cheapest first.
pub(super) struct Wishes {
    pub(super) count: usize,
    pub(super) site: [usize; WISHES],
    gain: [f64; WISHES],
}

impl Wishes {
    pub(super) fn of(instance: &Instance, state: &State, bucket: usize) -> Self {
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
pub(super) fn over_change(instance: &Instance, state: &State, site: usize, change: f64) -> f64 {
    let excess = state.carried[site] - instance.cap[site];
    (excess + change).max(0.0) - excess.max(0.0)
}

pub(super) fn best_swap(
    instance: &Instance,
    state: &State,
    bucket: usize,
    wishes: &Wishes,
    best: &mut Move,
) {
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
pub(super) struct Away {
    known: Vec<(u32, usize, f32)>,
}

impl Away {
    /// Makes room for `instance`, about which nothing is known.
    pub(super) fn fit(&mut self, instance: &Instance) {
        refill(&mut self.known, instance.buckets, (0, NONE, 0.0));
    }

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
pub(super) fn best_ejection(
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
pub(super) fn best_trade(
    instance: &Instance,
    state: &State,
    bucket: usize,
    wishes: &Wishes,
    best: &mut Move,
) {
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
