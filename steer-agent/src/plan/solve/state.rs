//! Where every bucket and queue is while the search goes on, and what that costs.

use super::NONE;
use super::instance::{Instance, cell, grid, single};
use super::scan::least_open;

/// A placement with everything that a move must keep up to date. All sums are exact (see
/// `instance`), so a move and its reverse leave no trace.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Cost by bucket and site: [`Instance::cost`], less the rebate at the bucket's home.
    pub(super) cost: Vec<f32>,
    /// Site of each queue.
    pub(super) site: Vec<usize>,
    /// How many queues each site has. Sites with a queue are *hosts*.
    pub(super) queues_on: Vec<usize>,
    /// Added to the cost of every site: nothing for hosts, infinity for others.
    pub(super) shut: Vec<f32>,
    /// `room`, rounded, and below any number for sites that are no hosts.
    pub(super) space: Vec<f32>,
    /// Site of each bucket.
    pub(super) at: Vec<usize>,
    /// Site of the bucket's starting queue: there it need not change its table entry.
    pub(super) home: Vec<usize>,
    /// Cost of each bucket where it is.
    pub(super) here: Vec<f64>,
    /// At most what each bucket costs on its cheapest host; see [`State::sharpen`].
    pub(super) least: Vec<f32>,
    /// Load of each site.
    pub(super) carried: Vec<f64>,
    /// What each site takes before it is overloaded, never below zero.
    pub(super) room: Vec<f64>,
    /// Buckets on each site, and the place of each bucket in its list.
    pub(super) list: Vec<Vec<usize>>,
    place: Vec<usize>,
    /// Sum of the cost of all buckets where they are, and of the pins.
    cost_sum: f64,
    /// Sum of the overload of all sites.
    over_sum: f64,
    /// Buckets that are not at home.
    pub(super) changed: usize,
    /// Queues that are not where they started.
    pub(super) queues_changed: usize,
    /// Extra rebate for a bucket at home: a tie-break, and the price on changed entries.
    rebate: f64,
    /// Whether the limit on changed entries binds moves.
    pub(super) limited: bool,
    /// Another number whenever what a bucket costs somewhere has changed, or where it may go.
    pub(super) era: u32,
    /// Queues that must move.
    pub(super) barred: Vec<usize>,
    /// Whether `least` is in use yet.
    ready: bool,
}

impl State {
    /// Puts every queue where it starts (see [`State::legalise`] for those that cannot stay) and
    /// every bucket at home; buckets without a home go where they cost least.
    pub(super) fn reset(&mut self, instance: &Instance, rebate: f64) {
        let (buckets, sites) = (instance.buckets, instance.sites);
        self.cost.clone_from(&instance.cost);
        self.rebate = grid(rebate);
        self.limited = false;
        self.ready = false;
        self.site.clear();
        self.site.resize(instance.queues, NONE);
        refill(&mut self.queues_on, sites, 0);
        refill(&mut self.shut, sites, f32::INFINITY);
        refill(&mut self.space, sites, f32::NEG_INFINITY);
        refill(&mut self.carried, sites, 0.0);
        refill(&mut self.at, buckets, NONE);
        refill(&mut self.home, buckets, NONE);
        refill(&mut self.place, buckets, 0);
        refill(&mut self.here, buckets, 0.0);
        refill(&mut self.least, buckets, f32::INFINITY);
        self.room.clone_from(&instance.cap);
        self.list.resize_with(sites.max(self.list.len()), Vec::new);
        for list in &mut self.list {
            list.clear();
        }
        self.cost_sum = 0.0;
        self.over_sum = 0.0;
        self.changed = buckets;
        self.queues_changed = 0;
        for queue in 0..instance.queues {
            if instance.start_site[queue] != NONE {
                self.seat(instance, queue, instance.start_site[queue]);
            }
        }
        for bucket in 0..buckets {
            if self.home[bucket] != NONE {
                self.put(instance, bucket, self.home[bucket]);
            }
        }
        self.legalise(instance);
        self.sharpen(instance);
        self.ready = true;
    }

    /// Makes `least` exact. Moves of queues keep it valid, but leave it too low.
    pub(super) fn sharpen(&mut self, instance: &Instance) {
        let rows = self.cost.chunks_exact(instance.sites);
        for (row, least) in rows.zip(&mut self.least) {
            *least = least_open(row, &self.shut);
        }
    }

    /// What the buckets would cost if each had its cheapest host, loads aside.
    pub(super) fn relaxed(&self) -> f64 {
        self.least.iter().copied().map(f64::from).sum()
    }

    /// Objective in the instance's scale, without the rebates for ties and counts.
    pub(super) fn objective(&self, instance: &Instance) -> f64 {
        let at_home = (instance.buckets - self.changed) as f64;
        self.cost_sum + self.rebate * at_home + instance.lambda * self.over_sum
    }

    /// The same with the rebates: what the search makes small.
    pub(super) fn searched(&self, instance: &Instance) -> f64 {
        self.cost_sum + instance.lambda * self.over_sum
    }

    pub(super) fn row(&self, instance: &Instance, bucket: usize) -> &[f32] {
        &self.cost[bucket * instance.sites..(bucket + 1) * instance.sites]
    }

    /// At least what `bucket` costs at `site` with its starting queue there.
    pub(super) fn least_at_home(&self, instance: &Instance, bucket: usize, site: usize) -> f64 {
        instance.full(bucket, site) - instance.weight[bucket] - self.rebate
    }

    /// Overload that leaves `site` when `load` does.
    pub(super) fn relief(&self, instance: &Instance, site: usize, load: f64) -> f64 {
        (self.carried[site] - instance.cap[site]).clamp(0.0, load)
    }

    /// Whether `site` carries more than its cap.
    pub(super) fn overloaded(&self, instance: &Instance, site: usize) -> bool {
        self.carried[site] > instance.cap[site]
    }

    /// By how much the number of changed entries grows if `bucket` goes from its place to `to`.
    pub(super) fn grows(&self, bucket: usize, to: usize) -> isize {
        isize::from(self.at[bucket] == self.home[bucket]) - isize::from(self.home[bucket] == to)
    }

    /// Whether `more` entries may still be changed.
    pub(super) fn may_change(&self, instance: &Instance, more: isize) -> bool {
        !self.limited
            || more <= 0
            || self.changed.saturating_add_signed(more) <= instance.table_limit
    }

    fn add_load(&mut self, instance: &Instance, site: usize, load: f64) {
        let cap = instance.cap[site];
        let before = (self.carried[site] - cap).max(0.0);
        self.carried[site] += load;
        let space = cap - self.carried[site];
        self.over_sum += (-space).max(0.0) - before;
        self.room[site] = space.max(0.0);
        self.note_space(site);
    }

    /// Makes `space` say what `room` and `queues_on` do.
    fn note_space(&mut self, site: usize) {
        self.space[site] =
            if self.shut[site] > 0.0 { f32::NEG_INFINITY } else { single(self.room[site]) };
    }

    /// Puts a bucket that is nowhere.
    pub(super) fn put(&mut self, instance: &Instance, bucket: usize, site: usize) {
        self.at[bucket] = site;
        self.place[bucket] = self.list[site].len();
        self.list[site].push(bucket);
        self.here[bucket] = f64::from(self.cost[bucket * instance.sites + site]);
        self.cost_sum += self.here[bucket];
        self.add_load(instance, site, instance.load[bucket]);
        if self.home[bucket] == site {
            self.changed -= 1;
        }
    }

    fn take(&mut self, instance: &Instance, bucket: usize) {
        let site = self.at[bucket];
        let place = self.place[bucket];
        self.list[site].swap_remove(place);
        if let Some(filler) = self.list[site].get(place) {
            self.place[*filler] = place;
        }
        self.cost_sum -= self.here[bucket];
        self.add_load(instance, site, -instance.load[bucket]);
        if self.home[bucket] == site {
            self.changed += 1;
        }
    }

    /// Moves a bucket.
    pub(super) fn shift(&mut self, instance: &Instance, bucket: usize, to: usize) {
        if self.at[bucket] != to {
            self.take(instance, bucket);
            self.put(instance, bucket, to);
        }
    }

    /// Puts a queue that is nowhere.
    pub(super) fn seat(&mut self, instance: &Instance, queue: usize, site: usize) {
        self.site[queue] = site;
        self.queues_on[site] += 1;
        if self.queues_on[site] == 1 {
            self.open(instance, site);
        }
        self.queues_changed += usize::from(instance.start_site[queue] != site);
        self.add_load(instance, site, instance.pin_load[queue]);
        self.cost_sum += instance.pin_cost[queue * instance.sites + site];
        self.make_home(instance, queue, site, true);
    }

    /// Makes `site` a host.
    fn open(&mut self, instance: &Instance, site: usize) {
        self.shut[site] = 0.0;
        self.era = self.era.wrapping_add(1);
        self.note_space(site);
        if self.ready {
            let column = self.cost.iter().skip(site).step_by(instance.sites);
            for (cost, least) in column.zip(&mut self.least) {
                *least = smaller(*least, *cost);
            }
        }
    }

    fn close(&mut self, site: usize) {
        self.shut[site] = f32::INFINITY;
        self.era = self.era.wrapping_add(1);
        self.note_space(site);
    }

    /// Two queues change sites, which both stay hosts all the while: opening one takes a look at
    /// every bucket.
    pub(super) fn exchange_queues(&mut self, instance: &Instance, one: usize, other: usize) {
        let (here, there) = (self.site[one], self.site[other]);
        self.queues_on[here] += 1;
        self.move_queue(instance, one, there);
        self.move_queue(instance, other, here);
        self.queues_on[here] -= 1;
    }

    /// Gives the rebate at `site` to the buckets that started in `queue`, or takes it.
    fn make_home(&mut self, instance: &Instance, queue: usize, site: usize, gives: bool) {
        let share = 1.0 - instance.share_moved(queue, site);
        self.era = self.era.wrapping_add(1);
        for bucket in instance.members(queue) {
            let place = bucket * instance.sites + site;
            // From the instance's own: subtracted and added again, it would not be the same.
            let full = instance.cost[place];
            let new = if gives {
                cell(f64::from(full) - grid(instance.weight[*bucket] * share) - self.rebate)
            } else {
                full
            };
            let change = f64::from(new) - f64::from(self.cost[place]);
            self.cost[place] = new;
            self.least[*bucket] = smaller(self.least[*bucket], new);
            self.home[*bucket] = if gives { site } else { NONE };
            if self.at[*bucket] == site {
                self.here[*bucket] += change;
                self.cost_sum += change;
                self.changed = if gives { self.changed - 1 } else { self.changed + 1 };
            }
        }
    }

    /// Moves a queue's interrupt; buckets stay on their CPUs. The caller sees to it that no bucket
    /// is left on a site without a queue.
    pub(super) fn move_queue(&mut self, instance: &Instance, queue: usize, to: usize) {
        let from = self.site[queue];
        if from == to {
            return;
        }
        self.make_home(instance, queue, from, false);
        self.queues_on[from] -= 1;
        if self.queues_on[from] == 0 {
            self.close(from);
        }
        self.queues_changed -= usize::from(instance.start_site[queue] != from);
        self.add_load(instance, from, -instance.pin_load[queue]);
        self.cost_sum -= instance.pin_cost[queue * instance.sites + from];
        self.seat(instance, queue, to);
    }

    /// Puts the queues on `sites`, each with the buckets that it started with.
    pub(super) fn place_whole(&mut self, instance: &Instance, sites: &[usize]) {
        self.hold_hosts();
        for (queue, site) in sites.iter().enumerate() {
            self.move_queue(instance, queue, *site);
        }
        self.release_hosts(instance);
        for bucket in 0..instance.buckets {
            if self.home[bucket] != NONE {
                self.shift(instance, bucket, self.home[bucket]);
            } else if self.shut[self.at[bucket]] > 0.0 {
                let site = self.cheapest(instance, bucket);
                self.shift(instance, bucket, site);
            }
        }
    }

    /// Sets the price on changed entries (a rebate for unchanged ones).
    pub(super) fn set_rebate(&mut self, instance: &Instance, rebate: f64) {
        for queue in 0..instance.queues {
            self.make_home(instance, queue, self.site[queue], false);
        }
        self.rebate = grid(rebate);
        for queue in 0..instance.queues {
            self.make_home(instance, queue, self.site[queue], true);
        }
        self.sharpen(instance);
    }

    /// Lets no site become a host or cease to be one until [`State::release_hosts`]: hosts are
    /// settled once all queues are where they belong, not for each that passes.
    pub(super) fn hold_hosts(&mut self) {
        self.queues_on.iter_mut().for_each(|count| *count += 1);
    }

    /// The end of [`State::hold_hosts`].
    pub(super) fn release_hosts(&mut self, instance: &Instance) {
        for site in 0..instance.sites {
            self.queues_on[site] -= 1;
            if self.queues_on[site] == 0 {
                self.close(site);
            } else if self.shut[site] > 0.0 {
                self.open(instance, site);
            }
        }
    }

    /// Puts the queues and buckets where `placement` has them.
    pub(super) fn restore(&mut self, instance: &Instance, placement: &Placement) {
        self.hold_hosts();
        for (queue, site) in placement.site.iter().enumerate() {
            self.move_queue(instance, queue, *site);
        }
        self.release_hosts(instance);
        for (bucket, site) in placement.at.iter().enumerate() {
            self.shift(instance, bucket, *site);
        }
    }
}

/// Where queues and buckets are, to come back to.
#[derive(Clone, Debug, Default)]
pub(super) struct Placement {
    pub(super) site: Vec<usize>,
    pub(super) at: Vec<usize>,
}

impl Placement {
    pub(super) fn save(&mut self, state: &State) {
        self.site.clone_from(&state.site);
        self.at.clone_from(&state.at);
    }
}

/// Makes `list` hold `length` times `value`.
pub(super) fn refill<T: Clone>(list: &mut Vec<T>, length: usize, value: T) {
    list.clear();
    list.resize(length, value);
}

/// The smaller of two numbers that are known not to be NaN: unlike [`f64::min`], one instruction.
pub(super) fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if b < a { b } else { a }
}
