//! Moves of whole queues: with their buckets, under their buckets, and to sites without a queue.

use super::instance::{Instance, TOLERANCE};
use super::moves::over_change;
use super::search::Search;
use super::state::{State, refill};

/// Buffers of the queue moves.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// What each queue is worth at each site.
    gain: Vec<f64>,
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
        refill(&mut self.gain, instance.queues * sites, 0.0);
        for queue in 0..instance.queues {
            for bucket in instance.members(queue) {
                self.gain[queue * sites + state.at[*bucket]] += instance.weight[*bucket];
            }
            for site in 0..sites {
                let worth = &mut self.gain[queue * sites + site];
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
                    let gain = self.gain[queue * sites + there] + self.gain[other * sites + here]
                        - self.gain[queue * sites + here]
                        - self.gain[other * sites + there];
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
                    let gain = self.gain[queue * sites + to] - self.gain[queue * sites + from];
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
            let Some(way) = Way::back(instance, state, queue) else { continue };
            if way.is_dear(instance, state) {
                continue;
            }
            for buckets in [Buckets::Follow, Buckets::Stay] {
                let before = (state.searched(instance), state.queues_changed);
                let marks = (self.trail.len(), search.trail.len());
                self.go(instance, state, search, way, buckets);
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

    fn go(
        &mut self,
        instance: &Instance,
        state: &mut State,
        search: &mut Search,
        Way { queue, start, rival }: Way,
        buckets: Buckets,
    ) {
        match rival {
            Some(other) => self.exchange(instance, state, search, (queue, other), buckets),
            None => self.relocate(instance, state, search, (queue, start), buckets),
        }
    }
}

/// How a queue goes back to where it started.
#[derive(Clone, Copy, Debug)]
struct Way {
    queue: usize,
    start: usize,
    /// The queue that is there now and takes its place.
    rival: Option<usize>,
}

impl Way {
    fn back(instance: &Instance, state: &State, queue: usize) -> Option<Self> {
        let start = instance.start_site[queue];
        if start == super::NONE || state.site[queue] == start || instance.fixed[queue] {
            return None;
        }
        let rival = (0..instance.queues).find(|other| {
            state.site[*other] == start
                && !instance.fixed[*other]
                && instance.open[state.site[queue]]
                && instance.start_site[*other] != start
        });
        Some(Self { queue, start, rival })
    }

    /// Whether it surely costs something, by what buckets cost there at least. Most ways do, and to try
    /// one moves all of its buckets twice.
    fn is_dear(self, instance: &Instance, state: &State) -> bool {
        /// More than the rounding of costs can make up.
        const SURELY: f64 = 1e-6;
        let Self { queue, start, rival } = self;
        let from = state.site[queue];
        // What it adds at least, if the buckets follow and if they stay, and the load that leaves `from`.
        let (mut follow, mut stay) = (0.0, 0.0);
        let (mut load_if_follow, mut load_if_stay) = (0.0, 0.0);
        let moves =
            [Some((queue, from, start, 1.0)), rival.map(|rival| (rival, start, from, -1.0))];
        for (queue, here, there, sign) in moves.into_iter().flatten() {
            let pins = &instance.pin_cost[queue * instance.sites..][..instance.sites];
            follow += pins[there] - pins[here];
            stay += pins[there] - pins[here];
            load_if_follow += sign * instance.pin_load[queue];
            load_if_stay += sign * instance.pin_load[queue];
            for bucket in instance.members(queue) {
                let at = state.at[*bucket];
                if at != here && at != there {
                    continue;
                }
                let change = state.least_at_home(instance, *bucket, there) - state.here[*bucket];
                follow += change;
                if at == here {
                    load_if_follow += sign * instance.load[*bucket];
                    stay += instance.full(*bucket, here) - state.here[*bucket];
                } else {
                    stay += change;
                }
            }
        }
        let alone = rival.is_none() && state.queues_on[from] == 1;
        if alone {
            // All that are there have to come along.
            for bucket in &state.list[from] {
                if instance.start_queue[*bucket] != queue {
                    let row = state.row(instance, *bucket);
                    follow += f64::from(row[start]) - state.here[*bucket];
                    load_if_follow += instance.load[*bucket];
                }
            }
        }
        let over = |load: f64| {
            let more = over_change(instance, state, from, -load)
                + over_change(instance, state, start, load);
            instance.lambda * more
        };
        let follow = follow + over(load_if_follow);
        let stay = if alone { follow } else { stay + over(load_if_stay) };
        follow.min(stay) > SURELY
    }
}

#[cfg(test)]
mod tests {
    use super::super::families::{Family, Recipe};
    use super::super::instance::Start;
    use super::super::kick::Random;
    use super::*;

    /// Queues and buckets are sent here and there; then every way back that is called dear is gone.
    #[test]
    fn no_way_back_is_called_dear_that_costs_nothing() {
        let (mut dear, mut cheap) = (0, 0);
        for family in Family::ALL {
            for (lambda_move, seed) in [(0.0, 1), (0.3, 2), (0.3, 3)] {
                let recipe =
                    Recipe { family, buckets: 24, cpus: 6, lambda_move, limited: false, seed };
                let problem = recipe.problem();
                let mut instance = Instance::default();
                let start = Start { table: &problem.table, affinity: &problem.affinity };
                instance.prepare(&problem, start, &[]);
                let (mut state, mut search) = (State::default(), Search::default());
                state.reset(&instance, 1e-7);
                search.fit(&instance);
                let mut queues = Queues::default();
                let mut random = Random(seed);
                for _ in 0..60 {
                    let (queue, to) = (random.below(instance.queues), random.below(instance.sites));
                    let buckets = [Buckets::Follow, Buckets::Stay][random.below(2)];
                    if !instance.fixed[queue] && instance.open[to] && state.site[queue] != to {
                        queues.relocate(&instance, &mut state, &mut search, (queue, to), buckets);
                    }
                    for _ in 0..random.below(6) {
                        let (bucket, to) =
                            (random.below(instance.buckets), random.below(instance.sites));
                        if state.queues_on[to] > 0 {
                            search.shift(&instance, &mut state, bucket, to);
                        }
                    }
                    for queue in 0..instance.queues {
                        let Some(way) = Way::back(&instance, &state, queue) else { continue };
                        if !way.is_dear(&instance, &state) {
                            cheap += 1;
                            continue;
                        }
                        dear += 1;
                        for buckets in [Buckets::Follow, Buckets::Stay] {
                            let before = state.searched(&instance);
                            let marks = (queues.trail.len(), search.trail.len());
                            queues.go(&instance, &mut state, &mut search, way, buckets);
                            let after = state.searched(&instance);
                            assert!(after > before + TOLERANCE, "{recipe:?}: {way:?} {buckets:?}");
                            search.take_back(&instance, &mut state, marks.1);
                            queues.take_back(&instance, &mut state, marks.0);
                        }
                    }
                }
            }
        }
        assert!(dear > 1000 && cheap > 100, "{dear} dear, {cheap} not");
    }
}
