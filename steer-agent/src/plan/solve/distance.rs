//! Distances between CPUs, with a short cut where they come from a tree of caches and nodes.

/// Square table of distances: softirq CPU by consumer CPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distances {
    cpus: usize,
    cells: Vec<f64>,
    largest: f64,
    top: f64,
    levels: Vec<Level>,
}

/// One level of a hierarchy: CPUs of one group are `step` nearer than those of different groups.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    /// Group of each CPU.
    pub(super) group: Vec<usize>,
    /// How many groups there are.
    pub(super) groups: usize,
    /// What belonging to one group saves.
    pub(super) step: f64,
}

impl Distances {
    /// Distances by `cells[softirq * cpus + consumer]`. Finds out once whether they are
    /// hierarchical; any others work too, at a cost that grows with the number of consumers.
    /// `None` unless there are `cpus` squared cells.
    #[must_use]
    pub fn new(cpus: usize, cells: Vec<f64>) -> Option<Self> {
        if cells.len() != cpus.checked_mul(cpus)? {
            return None;
        }
        let largest = cells.iter().copied().fold(0.0, f64::max);
        let (top, levels) = hierarchy(cpus, &cells).unwrap_or_default();
        Some(Self { cpus, cells, largest, top, levels })
    }

    /// How many CPUs there are.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Distances of `softirq` to all consumers.
    #[must_use]
    pub fn row(&self, softirq: usize) -> &[f64] {
        &self.cells[softirq * self.cpus..(softirq + 1) * self.cpus]
    }

    /// Whether the short cut applies.
    #[must_use]
    pub fn is_hierarchical(&self) -> bool {
        !self.levels.is_empty()
    }

    /// The largest of them.
    #[must_use]
    pub fn largest(&self) -> f64 {
        self.largest
    }

    /// Distance between CPUs that have no group in common.
    pub(super) fn top(&self) -> f64 {
        self.top
    }

    /// Finest level last; empty where the distances are not hierarchical.
    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }
}

/// The largest distance and the levels below it, if "at most as far as d" puts the CPUs into
/// groups for every d: then distance is `top` less the steps of the levels on which two CPUs
/// share a group.
fn hierarchy(cpus: usize, cells: &[f64]) -> Option<(f64, Vec<Level>)> {
    /// More levels than any machine has; a table of measured values is better taken as it is.
    const MOST_LEVELS: usize = 8;
    let mut values: Vec<f64> = Vec::new();
    for value in cells {
        if !values.contains(value) {
            values.push(*value);
            if values.len() > MOST_LEVELS {
                return None;
            }
        }
    }
    values.sort_by(f64::total_cmp);
    let top = *values.last()?;
    let mut levels = Vec::new();
    for pair in values.windows(2).rev() {
        let (within, step) = (pair[0], pair[1] - pair[0]);
        // A CPU's group is named by the first CPU that is near it. CPUs that are not even near
        // themselves can be in no group.
        let mut group = vec![usize::MAX; cpus];
        let mut groups = 0;
        for cpu in 0..cpus {
            if group[cpu] == usize::MAX {
                for (other, name) in group.iter_mut().enumerate().skip(cpu) {
                    if cells[cpu * cpus + other] <= within && *name == usize::MAX {
                        *name = groups;
                    }
                }
                if group[cpu] == usize::MAX {
                    return None;
                }
                groups += 1;
            }
        }
        let consistent = (0..cpus)
            .all(|a| (0..cpus).all(|b| (cells[a * cpus + b] <= within) == (group[a] == group[b])));
        if !consistent {
            return None;
        }
        levels.push(Level { group, groups, step });
    }
    Some((top, levels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_caches_is_recognised() {
        // CPUs 0 and 1 share a cache, 2 and 3 another: top 2, less 1 in one cache, less 1 on one CPU.
        let near = |a: usize, b: usize| match (a == b, a / 2 == b / 2) {
            (true, _) => 0.0,
            (false, true) => 1.0,
            (false, false) => 2.0,
        };
        let cells: Vec<f64> = (0..16).map(|cell| near(cell / 4, cell % 4)).collect();
        let distances = Distances::new(4, cells).expect("square");
        assert!(distances.is_hierarchical());
        assert_eq!(distances.levels().len(), 2);
        assert_eq!(distances.levels()[0].group, [0, 0, 1, 1]);
    }

    #[test]
    fn a_ring_and_an_asymmetric_table_are_not() {
        let ring = [0.0, 1.0, 2.0, 1.0, 1.0, 0.0, 1.0, 2.0, 2.0, 1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 0.0];
        let plain = |cpus, cells| Distances::new(cpus, cells).is_some_and(|d| !d.is_hierarchical());
        assert!(plain(4, ring.to_vec()));
        assert!(plain(2, vec![0.0, 1.0, 2.0, 0.0]));
        assert_eq!(Distances::new(2, vec![0.0; 3]), None);
    }
}
