//! Moves of whole queues: with their buckets, under their buckets, and to sites without a queue.

use super::instance::{Instance, TOLERANCE};
use super::search::Search;
use super::state::{State, refill};

/// Buffers of the queue moves.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Cost of each queue's buckets by queue and site.
    cost: Vec<f64>,
    load: Vec<f64>,
    weight: Vec<f64>,
    /// Every move of a queue since the last clearing, as queue and site left.
    pub(super) trail: Vec<(usize, usize)>,
    followers: Vec<usize>,
}

/// What happens to the buckets that are with a queue when it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// They go with it and keep their table entries.
    Follow,
    /// They stay on their CPU and change their table entries.
    Stay,
}

impl Queues {
    /// Moves one queue; `to` may have queues already. A site left without a queue sends all its
    /// buckets along.
    pub(super) fn relocate(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
        (queue, to): (usize, usize),
        buckets: Buckets,
    ) {
        let from = state.site[queue];
        self.followers.clear();
        if state.queues_on[from] == 1 {
            self.followers.extend_from_slice(&state.list[from]);
        } else if buckets == Buckets::Follow {
            let members = instance.members(queue).iter();
            self.followers.extend(members.filter(|bucket| state.at[**bucket] == from));
        }
        self.trail.push((queue, from));
        search.note_queue(instance, queue, from);
        search.note_queue(instance, queue, to);
        state.move_queue(instance, queue, to);
        for bucket in &self.followers {
            search.shift(instance, state, *bucket, to);
        }
    }

    /// Two queues change places.
    pub(super) fn exchange(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
        (one, other): (usize, usize),
        buckets: Buckets,
    ) {
        let (here, there) = (state.site[one], state.site[other]);
        self.followers.clear();
        let mut split = 0;
        if buckets == Buckets::Follow {
            let members = instance.members(one).iter();
            self.followers.extend(members.filter(|bucket| state.at[**bucket] == here));
            split = self.followers.len();
            let members = instance.members(other).iter();
            self.followers.extend(members.filter(|bucket| state.at[**bucket] == there));
        }
        self.trail.push((one, here));
        self.trail.push((other, there));
        search.note_queue(instance, one, there);
        search.note_queue(instance, other, here);
        state.exchange_queues(instance, one, other);
        for (index, bucket) in self.followers.iter().enumerate() {
            search.shift(instance, state, *bucket, if index < split { there } else { here });
        }
    }

    /// Takes back every move of a queue since `mark`, newest first. Shifts are taken back by
    /// [`Search::take_back`].
    pub(super) fn take_back(&mut self, instance: &Instance, state: &mut State, mark: usize) {
        if self.trail.len() == mark {
            return;
        }
        state.hold_hosts();
        while self.trail.len() > mark {
            if let Some((queue, site)) = self.trail.pop() {
                state.move_queue(instance, queue, site);
            }
        }
        state.release_hosts(instance);
    }

    /// Whether the limits on changed entries and affinities are kept.
    pub(super) fn within_limits(instance: &Instance, state: &State) -> bool {
        state.queues_changed <= instance.queue_limit
            && (!state.limited || state.changed <= instance.table_limit)
    }

    /// Improves the affinities of queues that all hold the buckets they started with, each queue
    /// in turn by its best relocation or exchange, until none improves.
    pub(super) fn improve_whole(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
    ) {
        const SWEEPS: usize = 4;
        self.sum_up(instance);
        for _ in 0..SWEEPS {
            let mut improved = false;
            for queue in 0..instance.queues {
                improved |= self.improve_one(instance, state, search, queue);
            }
            if !improved {
                break;
            }
        }
    }

    fn sum_up(&mut self, instance: &Instance) {
        let sites = instance.sites;
        refill(&mut self.load, instance.queues, 0.0);
        refill(&mut self.weight, instance.queues, 0.0);
        self.cost.clear();
        self.cost.extend_from_slice(&instance.pin_cost);
        for queue in 0..instance.queues {
            self.load[queue] = instance.pin_load[queue];
            let sums = &mut self.cost[queue * sites..(queue + 1) * sites];
            for bucket in instance.members(queue) {
                self.load[queue] += instance.load[*bucket];
                self.weight[queue] += instance.weight[*bucket];
                let row = &instance.cost[bucket * sites..(bucket + 1) * sites];
                for (sum, cost) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*cost);
                }
            }
        }
    }

    fn whole(&self, instance: &Instance, queue: usize, site: usize) -> f64 {
        self.cost[queue * instance.sites + site]
            + self.weight[queue] * instance.share_moved(queue, site)
    }

    fn improve_one(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
        queue: usize,
    ) -> bool {
        if instance.fixed[queue] {
            return false;
        }
        let from = state.site[queue];
        let (own, load) = (self.whole(instance, queue, from), self.load[queue]);
        let over = |site: usize, change: f64| {
            let excess = state.carried[site] - instance.cap[site];
            instance.lambda * ((excess + change).max(0.0) - excess.max(0.0))
        };
        let changes = |queue: usize, site: usize| -> isize {
            isize::from(instance.start_site[queue] != site)
                - isize::from(instance.start_site[queue] != state.site[queue])
        };
        let allowed = |more: isize| {
            more <= 0 || state.queues_changed.saturating_add_signed(more) <= instance.queue_limit
        };
        let mut best = (-TOLERANCE, None);
        let leave = over(from, -load);
        for to in (0..instance.sites).filter(|to| instance.open[*to] && *to != from) {
            // A host lost is a choice lost for every bucket: only onto sites without one.
            if state.queues_on[to] > 0 || !allowed(changes(queue, to)) {
                continue;
            }
            let delta = self.whole(instance, queue, to) - own + leave + over(to, load);
            if delta < best.0 {
                best = (delta, Some((to, None)));
            }
        }
        for other in 0..instance.queues {
            let to = state.site[other];
            if to == from
                || instance.fixed[other]
                || !instance.open[to]
                || !instance.open[from]
                || !allowed(changes(queue, to) + changes(other, from))
            {
                continue;
            }
            let net = load - self.load[other];
            let delta = self.whole(instance, queue, to) - own + self.whole(instance, other, from)
                - self.whole(instance, other, to)
                + over(to, net)
                + over(from, -net);
            if delta < best.0 {
                best = (delta, Some((to, Some(other))));
            }
        }
        match best.1 {
            None => return false,
            Some((to, None)) => {
                self.relocate(instance, state, search, (queue, to), Buckets::Follow);
            }
            Some((_, Some(other))) => {
                self.exchange(instance, state, search, (queue, other), Buckets::Follow);
            }
        }
        true
    }

    /// With every bucket staying on its CPU, gives the queues to the hosts so that as much weight
    /// as possible need not change its table entry. Returns whether a queue moved.
    pub(super) fn refit(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
    ) -> bool {
        const SWEEPS: usize = 4;
        let sites = instance.sites;
        // What each queue is worth at each site: here `cost` is gain.
        self.cost.clear();
        self.cost.resize(instance.queues * sites, 0.0);
        for queue in 0..instance.queues {
            for bucket in instance.members(queue) {
                self.cost[queue * sites + state.at[*bucket]] += instance.weight[*bucket];
            }
            for site in 0..sites {
                let worth = &mut self.cost[queue * sites + site];
                *worth = *worth * (1.0 - instance.share_moved(queue, site))
                    - instance.pin_cost[queue * sites + site];
            }
        }
        let mut moved = false;
        for _ in 0..SWEEPS {
            let mut improved = false;
            for queue in (0..instance.queues).filter(|queue| !instance.fixed[*queue]) {
                for other in queue + 1..instance.queues {
                    let (here, there) = (state.site[queue], state.site[other]);
                    if here == there
                        || instance.fixed[other]
                        || !instance.open[here]
                        || !instance.open[there]
                    {
                        continue;
                    }
                    let gain = self.cost[queue * sites + there] + self.cost[other * sites + here]
                        - self.cost[queue * sites + here]
                        - self.cost[other * sites + there];
                    if gain > TOLERANCE {
                        improved |=
                            self.attempt(instance, state, search, |queues, state, search| {
                                queues.exchange(
                                    instance,
                                    state,
                                    search,
                                    (queue, other),
                                    Buckets::Stay,
                                );
                            });
                    }
                }
                for to in 0..sites {
                    let from = state.site[queue];
                    let needed = state.queues_on[from] < 2 && !state.list[from].is_empty();
                    if needed || to == from || state.queues_on[to] == 0 || !instance.open[to] {
                        continue;
                    }
                    let gain = self.cost[queue * sites + to] - self.cost[queue * sites + from];
                    if gain > TOLERANCE {
                        improved |=
                            self.attempt(instance, state, search, |queues, state, search| {
                                queues.relocate(
                                    instance,
                                    state,
                                    search,
                                    (queue, to),
                                    Buckets::Stay,
                                );
                            });
                    }
                }
            }
            moved |= improved;
            if !improved {
                break;
            }
        }
        moved
    }

    /// Does `change` and takes it back unless the objective falls and the limits hold.
    fn attempt(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
        change: impl FnOnce(&mut Self, &mut State, &mut Search),
    ) -> bool {
        let before = state.searched(instance);
        let marks = (self.trail.len(), search.trail.len());
        change(self, state, search);
        if state.searched(instance) < before - TOLERANCE && Self::within_limits(instance, state) {
            return true;
        }
        search.take_back(instance, state, marks.1);
        self.take_back(instance, state, marks.0);
        false
    }

    /// Puts queues back where they started wherever that costs nothing.
    pub(super) fn undo(&mut self, instance: &Instance, state: &mut State, search: &mut Search) {
        for queue in 0..instance.queues {
            let start = instance.start_site[queue];
            if start == super::NONE || state.site[queue] == start || instance.fixed[queue] {
                continue;
            }
            let rival = (0..instance.queues).find(|other| {
                state.site[*other] == start
                    && !instance.fixed[*other]
                    && instance.open[state.site[queue]]
                    && instance.start_site[*other] != start
            });
            for buckets in [Buckets::Follow, Buckets::Stay] {
                let before = (state.searched(instance), state.queues_changed);
                let marks = (self.trail.len(), search.trail.len());
                match rival {
                    Some(other) => self.exchange(instance, state, search, (queue, other), buckets),
                    None => self.relocate(instance, state, search, (queue, start), buckets),
                }
                if state.searched(instance) <= before.0 + TOLERANCE
                    && state.queues_changed < before.1
                    && Self::within_limits(instance, state)
                {
                    break;
                }
                search.take_back(instance, state, marks.1);
                self.take_back(instance, state, marks.0);
            }
        }
    }
}
