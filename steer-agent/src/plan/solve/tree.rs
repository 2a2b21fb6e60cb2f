//! Costs of buckets where distances come from a tree of caches and nodes.

use super::distance::Distances;
use super::state::refill;

/// Levels with at most as many groups are taken for all sites at once; on finer ones each consumer
/// visits the few sites that are near it.
const FEW_GROUPS: usize = 16;

/// Distances of one problem, in the instance's scale, in two parts: between groups of CPUs, and what
/// a CPU is nearer to those within its group.
#[derive(Debug, Default)]
pub(super) struct Tree {
    groups: usize,
    /// Group of each site.
    site_group: Vec<usize>,
    /// Distance by consumer and group.
    far: Vec<f64>,
    /// A CPU of each group.
    speaker: Vec<usize>,
    /// Sites near each consumer and what that saves: those of CPU c are
    /// `near[first[c]..first[c + 1]]`.
    near: Vec<(usize, f64)>,
    first: Vec<usize>,
    /// Cost by group.
    sum: Vec<f64>,
}

impl Tree {
    /// Prepares for distances times `per_cost` from the CPUs of the sites.
    pub(super) fn fit(&mut self, distance: &Distances, sites: &[usize], per_cost: f64) {
        let levels = distance.levels();
        let coarse = levels.iter().take_while(|level| level.groups <= FEW_GROUPS).count();
        let (coarse, fine) = levels.split_at(coarse);
        self.groups = coarse.last().map_or(1, |level| level.groups);
        let group = |cpu: usize| coarse.last().map_or(0, |level| level.group[cpu]);
        self.site_group.clear();
        self.site_group.extend(sites.iter().map(|cpu| group(*cpu)));
        // Levels are nested, so any CPU of a group speaks for it on all coarser levels.
        refill(&mut self.speaker, self.groups, 0);
        for cpu in 0..distance.cpus() {
            self.speaker[group(cpu)] = cpu;
        }
        self.far.clear();
        for cpu in 0..distance.cpus() {
            self.far.extend(self.speaker.iter().map(|other| {
                let shared = coarse.iter().filter(|level| level.group[*other] == level.group[cpu]);
                (distance.top() - shared.map(|level| level.step).sum::<f64>()) * per_cost
            }));
        }
        self.near.clear();
        self.first.clear();
        for cpu in 0..distance.cpus() {
            self.first.push(self.near.len());
            let Some(widest) = fine.first() else { continue };
            for (site, other) in sites.iter().enumerate() {
                if widest.group[*other] == widest.group[cpu] {
                    let shared =
                        fine.iter().filter(|level| level.group[*other] == level.group[cpu]);
                    self.near.push((site, shared.map(|level| level.step * per_cost).sum()));
                }
            }
        }
        self.first.push(self.near.len());
    }

    /// Puts what `consumed` costs at each site into `row`.
    pub(super) fn price(
        &mut self,
        consumed: impl Iterator<Item = (usize, f64)> + Clone,
        row: &mut Vec<f64>,
    ) {
        refill(&mut self.sum, self.groups, 0.0);
        for (cpu, rate) in consumed.clone() {
            let far = &self.far[cpu * self.groups..(cpu + 1) * self.groups];
            for (sum, far) in self.sum.iter_mut().zip(far) {
                *sum += rate * far;
            }
        }
        row.clear();
        row.extend(self.site_group.iter().map(|group| self.sum[*group]));
        for (cpu, rate) in consumed {
            for (site, nearer) in &self.near[self.first[cpu]..self.first[cpu + 1]] {
                row[*site] -= rate * nearer;
            }
        }
    }
}
