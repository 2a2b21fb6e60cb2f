//! What cannot stay where it is: queues on CPUs that they may not use, buckets of stale entries.

use super::NONE;
use super::instance::Instance;
use super::state::State;

impl State {
    /// Queues on CPUs that they may not use, heaviest first, go where they and their buckets cost
    /// least, to a site without a queue if there is one. Then buckets without a home, likewise.
    pub(super) fn legalise(&mut self, instance: &Instance) {
        let load_of = |queue: usize| -> f64 {
            instance.members(queue).iter().map(|bucket| instance.load[*bucket]).sum()
        };
        if self.site.contains(&NONE) {
            let mut barred = std::mem::take(&mut self.barred);
            barred.clear();
            barred.extend((0..instance.queues).filter(|queue| self.site[*queue] == NONE));
            barred.sort_unstable_by(|a, b| load_of(*b).total_cmp(&load_of(*a)).then(a.cmp(b)));
            for queue in &barred {
                let queue = *queue;
                let load = load_of(queue) + instance.pin_load[queue];
                let cost = |site: usize| -> f64 {
                    let buckets = instance.members(queue).iter();
                    let cells = buckets.map(|bucket| instance.cost[bucket * instance.sites + site]);
                    let far: f64 = cells.map(f64::from).sum();
                    far + instance.pin_cost[queue * instance.sites + site]
                        + instance.lambda * (load - self.room[site]).max(0.0)
                };
                let best =
                    (0..instance.sites).filter(|site| instance.open[*site]).min_by(|a, b| {
                        let key = |site: usize| (self.queues_on[site] > 0, cost(site));
                        let (a, b) = (key(*a), key(*b));
                        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
                    });
                if let Some(site) = best {
                    self.seat(instance, queue, site);
                    for bucket in instance.members(queue) {
                        self.put(instance, *bucket, site);
                    }
                }
            }
            self.barred = barred;
        }
        for bucket in 0..instance.buckets {
            if self.at[bucket] == NONE {
                let site = self.cheapest(instance, bucket);
                self.put(instance, bucket, site);
            }
        }
    }

    /// The host that is cheapest for a bucket that is nowhere yet.
    pub(super) fn cheapest(&self, instance: &Instance, bucket: usize) -> usize {
        let row = self.row(instance, bucket);
        let load = instance.load[bucket];
        let price = |site: usize| {
            f64::from(row[site] + self.shut[site])
                + instance.lambda * (load - self.room[site]).max(0.0)
        };
        (0..instance.sites).min_by(|a, b| price(*a).total_cmp(&price(*b))).unwrap_or(0)
    }
}
