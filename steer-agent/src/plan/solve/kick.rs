//! Kicks: a few random moves, repaired by the search, kept where the outcome is no worse.

use super::clock::Clock;
use super::instance::{Instance, TOLERANCE};
use super::queues::{Buckets, Queues};
use super::search::{LOOKS, Search};
use super::state::{Placement, State};

/// The generator `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
/// OOPSLA 2014): the whole state is one number, so a seed says everything.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}

/// What kicks work with.
pub(super) struct Kicker<'a, 'c> {
    pub(super) instance: &'a Instance,
    pub(super) state: &'a mut State,
    pub(super) search: &'a mut Search,
    pub(super) queues: &'a mut Queues,
    pub(super) best: &'a mut Placement,
    pub(super) random: Random,
    pub(super) clock: &'a mut Clock<'c>,
}

impl Kicker<'_, '_> {
    /// Up to `kicks` kicks until time is over; ends at the best placement seen.
    ///
    /// They come in periods. Each starts at the best placement, every second one with the queues
    /// shaken up first, for other affinities are seldom reached by small steps. Within a period,
    /// what is a little worse than its best is accepted at first, then less and less.
    pub(super) fn run(&mut self, kicks: u32) {
        const PERIOD: u32 = 100;
        const SLACK: f64 = 0.002;
        let instance = self.instance;
        if instance.sites < 2 && instance.queues < 2 {
            return;
        }
        self.best.save(self.state);
        let mut least = self.state.searched(instance);
        let mut least_here = least;
        let queues_matter = instance.queues_matter(self.state);
        let period = kicks.clamp(1, PERIOD);
        for kick in 0..kicks {
            if self.clock.is_over() {
                break;
            }
            let turn = kick % period;
            if turn == 0 && kick > 0 {
                self.state.restore(instance, self.best);
                self.state.sharpen(instance);
                least_here = least;
                if queues_matter && (kick / period) % 2 == 1 {
                    self.shake();
                    least_here = self.state.searched(instance);
                }
            } else {
                let cooling = f64::from(period - turn) / f64::from(period);
                let bar = least_here + SLACK * least * cooling * cooling;
                if self.kick(queues_matter) > bar + TOLERANCE {
                    self.search.take_back(instance, self.state, 0);
                    self.queues.take_back(instance, self.state, 0);
                    continue;
                }
            }
            let now = self.state.searched(instance);
            least_here = least_here.min(now);
            if now < least - TOLERANCE {
                least = now;
                self.best.save(self.state);
            }
        }
        self.state.restore(instance, self.best);
        self.state.sharpen(instance);
    }

    /// One kick and its repair; the cost afterwards, infinite where a limit is broken.
    fn kick(&mut self, queues_matter: bool) -> f64 {
        self.search.trail.clear();
        self.queues.trail.clear();
        if queues_matter && self.random.below(2) == 0 {
            self.kick_queue();
            if self.random.below(3) == 0 {
                self.kick_queue();
            }
        } else {
            self.kick_buckets();
        }
        self.repair()
    }

    /// Moves several queues. Keeps what comes of it unless it breaks a limit.
    fn shake(&mut self) {
        self.search.trail.clear();
        self.queues.trail.clear();
        for _ in 0..=self.random.below(self.instance.queues.min(6)) {
            self.kick_queue();
        }
        if self.repair().is_infinite() {
            self.search.take_back(self.instance, self.state, 0);
            self.queues.take_back(self.instance, self.state, 0);
        }
    }

    fn repair(&mut self) -> f64 {
        if self.state.limited && self.random.below(2) == 0 {
            self.spend_anew();
        }
        let steps = 40 + self.instance.buckets;
        self.search.settle(self.instance, self.state, steps, self.clock);
        if Queues::within_limits(self.instance, self.state) {
            self.state.searched(self.instance)
        } else {
            f64::INFINITY
        }
    }

    fn kick_buckets(&mut self) {
        const TRIES: usize = 8;
        let count = 1 + self.random.below(3);
        for _ in 0..count {
            for _ in 0..TRIES {
                let bucket = self.random.below(self.instance.buckets);
                let Some(to) = self.random_wish(bucket) else { continue };
                let from = self.state.at[bucket];
                if !self.state.may_change(self.instance, self.state.grows(bucket, to)) {
                    // Where entries are counted, another one has to go home first.
                    self.send_one_home();
                }
                self.search.shift(self.instance, self.state, bucket, to);
                self.wake_around(&[from, to]);
                break;
            }
        }
    }

    /// A host where `bucket` would cost less, each as likely as the others.
    fn random_wish(&mut self, bucket: usize) -> Option<usize> {
        let state = &*self.state;
        let row = state.row(self.instance, bucket);
        let at = state.at[bucket];
        let held = f64::from(row[at])
            + self.instance.lambda * state.relief(self.instance, at, self.instance.load[bucket]);
        let wished = |site: &usize| {
            *site != at && f64::from(row[*site] + state.shut[*site]) < held - TOLERANCE
        };
        let count = (0..self.instance.sites).filter(wished).count();
        if count == 0 {
            return None;
        }
        let choice = self.random.below(count.min(4));
        // The cheap ones are the likely ones; of more than four, the first few by site do.
        let skip = if count > 4 { self.random.below(count - 3) } else { 0 };
        (0..self.instance.sites).filter(wished).nth(choice + skip)
    }

    fn send_one_home(&mut self) {
        let state = &*self.state;
        let buckets = self.instance.buckets;
        let start = self.random.below(buckets);
        let away = (start..buckets).chain(0..start).find(|bucket| {
            state.home[*bucket] < self.instance.sites && state.at[*bucket] != state.home[*bucket]
        });
        if let Some(bucket) = away {
            let (from, home) = (self.state.at[bucket], self.state.home[bucket]);
            self.search.shift(self.instance, self.state, bucket, home);
            self.wake_around(&[from, home]);
        }
    }

    /// Where entries are counted: all go home, and those that gain most are moved first.
    fn spend_anew(&mut self) {
        let instance = self.instance;
        for bucket in 0..instance.buckets {
            let home = self.state.home[bucket];
            if home < instance.sites {
                self.search.shift(instance, self.state, bucket, home);
            }
        }
        self.search.passes(instance, self.state, 3, LOOKS * instance.buckets, self.clock);
        for bucket in 0..instance.buckets {
            self.search.wake(bucket);
        }
    }

    /// Where affinities are counted: queues that moved go back, so that others can.
    fn return_queues(&mut self) {
        let instance = self.instance;
        for queue in 0..instance.queues {
            let (at, start) = (self.state.site[queue], instance.start_site[queue]);
            if at == start || start >= instance.sites || instance.fixed[queue] {
                continue;
            }
            let rival = (0..instance.queues).find(|other| {
                self.state.site[*other] == start
                    && instance.start_site[*other] != start
                    && !instance.fixed[*other]
            });
            match rival.filter(|_| instance.open[at]) {
                Some(other) => self.queues.exchange(
                    instance,
                    self.state,
                    self.search,
                    (queue, other),
                    Buckets::Follow,
                ),
                None => self.queues.relocate(
                    instance,
                    self.state,
                    self.search,
                    (queue, start),
                    Buckets::Follow,
                ),
            }
            self.wake_around(&[at, start]);
        }
    }

    fn kick_queue(&mut self) {
        const TRIES: usize = 8;
        let instance = self.instance;
        if self.state.queues_changed + 1 >= instance.queue_limit && self.random.below(4) > 0 {
            self.return_queues();
            if self.random.below(3) == 0 {
                return;
            }
        }
        for _ in 0..TRIES {
            let queue = self.random.below(instance.queues);
            let to = self.random.below(instance.sites);
            let from = self.state.site[queue];
            if from == to || instance.fixed[queue] || !instance.open[to] {
                continue;
            }
            let buckets = if self.random.below(3) == 0 { Buckets::Stay } else { Buckets::Follow };
            let there: usize = self.state.queues_on[to];
            let alone = self.state.queues_on[from] == 1;
            if there == 0 || self.random.below(if alone { 4 } else { 2 }) == 0 {
                self.queues.relocate(instance, self.state, self.search, (queue, to), buckets);
            } else {
                let nth = self.random.below(there);
                let rival =
                    (0..instance.queues).filter(|other| self.state.site[*other] == to).nth(nth);
                let Some(other) =
                    rival.filter(|other| !instance.fixed[*other] && instance.open[from])
                else {
                    continue;
                };
                self.queues.exchange(instance, self.state, self.search, (queue, other), buckets);
            }
            self.wake_around(&[from, to]);
            return;
        }
    }

    fn wake_around(&mut self, sites: &[usize]) {
        for site in sites {
            if self.state.queues_on[*site] > 0 {
                self.search.wake_site(self.instance, self.state, *site);
            }
        }
    }
}
