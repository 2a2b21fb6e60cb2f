//! Affinities for whole queues: each with the buckets that it starts with.
//!
//! Worked out on sums by queue and site; queues and buckets are moved once, at the end.

use super::instance::{Instance, TOLERANCE};
use super::state::{State, refill};

/// Buffers of the choice.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// Cost of each queue with its buckets, by queue and site.
    cost: Vec<f64>,
    /// Load of each queue with its buckets.
    load: Vec<f64>,
    /// Site of each queue, how many queues each site has, and load of each site.
    site: Vec<usize>,
    queues_on: Vec<usize>,
    carried: Vec<f64>,
    /// Queues that are not where they started.
    changed: usize,
}

/// Where a queue goes, and which queue takes its place.
type Step = (usize, Option<usize>);

impl Whole {
    /// Improves the affinities, each queue in turn by its best relocation or exchange, until none
    /// improves. Returns whether a queue moved.
    pub(super) fn improve(&mut self, instance: &Instance, state: &mut State) -> bool {
        const SWEEPS: usize = 4;
        self.sum_up(instance, state);
        let mut quiet = 0;
        for turn in 0..SWEEPS * instance.queues {
            let queue = turn % instance.queues;
            match self.best_step(instance, queue) {
                Some(step) => {
                    self.take(instance, queue, step);
                    quiet = 0;
                }
                None => quiet += 1,
            }
            if quiet == instance.queues {
                break;
            }
        }
        let moved = self.site != state.site;
        if moved {
            state.place_whole(instance, &self.site);
        }
        moved
    }

    fn sum_up(&mut self, instance: &Instance, state: &State) {
        let sites = instance.sites;
        self.site.clone_from(&state.site);
        self.queues_on.clone_from(&state.queues_on);
        self.carried.clone_from(&state.carried);
        self.changed = state.queues_changed;
        refill(&mut self.load, instance.queues, 0.0);
        self.cost.clone_from(&instance.pin_cost);
        for (queue, sums) in self.cost.chunks_exact_mut(sites).enumerate() {
            let mut load = instance.pin_load[queue];
            let mut weight = 0.0;
            for bucket in instance.members(queue) {
                load += instance.load[*bucket];
                weight += instance.weight[*bucket];
                let row = &instance.cost[bucket * sites..(bucket + 1) * sites];
                for (sum, cost) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*cost);
                }
            }
            self.load[queue] = load;
            for (site, sum) in sums.iter_mut().enumerate() {
                *sum += weight * instance.share_moved(queue, site);
            }
        }
    }

    /// By how much the number of changed affinities grows if `queue` goes to `site`.
    fn grows(&self, instance: &Instance, queue: usize, site: usize) -> isize {
        let start = instance.start_site[queue];
        isize::from(start != site) - isize::from(start != self.site[queue])
    }

    fn best_step(&self, instance: &Instance, queue: usize) -> Option<Step> {
        if instance.fixed[queue] {
            return None;
        }
        let sites = instance.sites;
        let (from, load) = (self.site[queue], self.load[queue]);
        let cost = &self.cost[queue * sites..(queue + 1) * sites];
        let own = cost[from];
        let over = |site: usize, change: f64| {
            let excess = self.carried[site] - instance.cap[site];
            instance.lambda * ((excess + change).max(0.0) - excess.max(0.0))
        };
        let allowed = |more: isize| {
            more <= 0 || self.changed.saturating_add_signed(more) <= instance.queue_limit
        };
        let mut best = (-TOLERANCE, None);
        let leave = over(from, -load);
        for (to, far) in cost.iter().enumerate() {
            // A host lost is a choice lost for every bucket: only onto sites without one.
            if self.queues_on[to] > 0 || !instance.open[to] {
                continue;
            }
            let delta = far - own + leave + over(to, load);
            if delta < best.0 && allowed(self.grows(instance, queue, to)) {
                best = (delta, Some((to, None)));
            }
        }
        if !instance.open[from] {
            return best.1;
        }
        for (other, to) in self.site.iter().enumerate() {
            let theirs = &self.cost[other * sites..(other + 1) * sites];
            let far = cost[*to] - own + theirs[from] - theirs[*to];
            // Leaving takes no more overload along than there is.
            if far + leave + over(*to, -self.load[other]) >= best.0 || *to == from {
                continue;
            }
            let net = load - self.load[other];
            let delta = far + over(*to, net) + over(from, -net);
            if delta < best.0
                && !instance.fixed[other]
                && instance.open[*to]
                && allowed(self.grows(instance, queue, *to) + self.grows(instance, other, from))
            {
                best = (delta, Some((*to, Some(other))));
            }
        }
        best.1
    }

    fn take(&mut self, instance: &Instance, queue: usize, (to, other): Step) {
        let from = self.site[queue];
        self.seat(instance, queue, to);
        if let Some(other) = other {
            self.seat(instance, other, from);
        }
    }

    fn seat(&mut self, instance: &Instance, queue: usize, to: usize) {
        let (from, load) = (self.site[queue], self.load[queue]);
        self.changed = self.changed.saturating_add_signed(self.grows(instance, queue, to));
        self.carried[from] -= load;
        self.carried[to] += load;
        self.queues_on[from] -= 1;
        self.queues_on[to] += 1;
        self.site[queue] = to;
    }
}
