//! What the solver is given and what it gives back.

use super::distance::Distances;
use super::state::refill;

/// Sparse rows of rates by CPU, all rows in one piece.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    start: Vec<usize>,
    cpu: Vec<usize>,
    rate: Vec<f64>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { start: vec![0], cpu: Vec::new(), rate: Vec::new() }
    }
}

impl Rows {
    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.start.truncate(1);
        self.cpu.clear();
        self.rate.clear();
    }

    /// Adds a row; rates of zero are left out.
    pub fn push(&mut self, row: impl IntoIterator<Item = (usize, f64)>) {
        for (cpu, rate) in row {
            if rate > 0.0 {
                self.cpu.push(cpu);
                self.rate.push(rate);
            }
        }
        self.start.push(self.cpu.len());
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.start.len() - 1
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One row as (CPU, rate).
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + Clone {
        let range = self.start[row]..self.start[row + 1];
        self.cpu[range.clone()].iter().copied().zip(self.rate[range].iter().copied())
    }

    /// All entries of all rows as (CPU, rate).
    pub fn entries(&self) -> impl Iterator<Item = (usize, f64)> {
        self.cpu.iter().copied().zip(self.rate.iter().copied())
    }
}

/// Traffic that is tied to a queue by an exact-match rule: it goes where the queue goes, whatever
/// the table says. Both empty, or one entry per queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pins {
    /// Consumption by CPU.
    pub consumed: Rows,
    /// Packets per second.
    pub load: Vec<f64>,
}

/// One planning problem; the objective is in the module's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// Number of CPUs; CPUs are `0..cpus`.
    pub cpus: usize,
    /// CPUs that a queue may be moved to, each once; at least one.
    pub allowed: Vec<usize>,
    /// Queue of each bucket now. A queue that does not exist marks a stale entry, which must change.
    pub table: Vec<usize>,
    /// CPU of each queue now; at least one queue. One that is not allowed must change.
    pub affinity: Vec<usize>,
    /// Whether a queue's affinity cannot be written; empty if all can.
    pub fixed: Vec<bool>,
    /// Cost per packet by softirq CPU and consumer CPU.
    pub distance: Distances,
    /// Consumption of each bucket by CPU.
    pub consumed: Rows,
    /// Packets per second of each bucket.
    pub load: Vec<f64>,
    /// Packets per second that each CPU takes without overload.
    pub cap: Vec<f64>,
    /// Price of a packet above the cap.
    pub lambda_load: f64,
    /// Price of a packet of a bucket that changes its queue.
    pub lambda_move: f64,
    /// Share of `lambda_move` for a bucket whose queue changes its CPU.
    pub kappa: f64,
    /// Factor on the move price of each bucket; empty for one.
    pub move_factor: Vec<f64>,
    /// Cost of a packet on each CPU by itself, such as the distance to the NIC; empty for none.
    pub cpu_cost: Vec<f64>,
    /// Traffic tied to queues.
    pub pins: Pins,
    /// Most table entries that may change; those that must are not counted against it.
    pub max_table_changes: Option<usize>,
    /// Most affinities that may change, likewise.
    pub max_affinity_changes: Option<usize>,
}

impl Problem {
    /// Number of buckets.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.table.len()
    }

    /// Number of queues.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.affinity.len()
    }

    /// Whether the affinity of `queue` cannot be written.
    #[must_use]
    pub fn is_fixed(&self, queue: usize) -> bool {
        self.fixed.get(queue).copied().unwrap_or(false)
    }

    /// Factor on the move price of `bucket`.
    #[must_use]
    pub fn move_factor(&self, bucket: usize) -> f64 {
        self.move_factor.get(bucket).copied().unwrap_or(1.0)
    }

    /// What `table` and `affinity` cost, term by term, in the problem's own units.
    #[must_use]
    pub fn cost(&self, table: &[usize], affinity: &[usize]) -> Parts {
        self.cost_with(table, affinity, &mut Vec::new())
    }

    /// [`Problem::cost`] in memory that is used again.
    pub(super) fn cost_with(
        &self,
        table: &[usize],
        affinity: &[usize],
        carried: &mut Vec<f64>,
    ) -> Parts {
        let mut parts = Parts::default();
        refill(carried, self.cpus, 0.0);
        for (bucket, queue) in table.iter().enumerate() {
            let Some(cpu) = affinity.get(*queue).copied().filter(|cpu| *cpu < self.cpus) else {
                continue;
            };
            let load = self.load[bucket];
            carried[cpu] += load;
            let row = self.distance.row(cpu);
            let far: f64 = self.consumed.row(bucket).map(|(to, rate)| rate * row[to]).sum();
            parts.distance += far + load * self.cpu_cost.get(cpu).copied().unwrap_or(0.0);
            let share = if *queue != self.table[bucket] {
                1.0
            } else if cpu != self.affinity[*queue] {
                self.kappa
            } else {
                0.0
            };
            parts.moved += self.lambda_move * load * self.move_factor(bucket) * share;
        }
        for (queue, load) in self.pins.load.iter().enumerate() {
            let cpu = affinity[queue];
            carried[cpu] += load;
            let row = self.distance.row(cpu);
            let far: f64 = self.pins.consumed.row(queue).map(|(to, rate)| rate * row[to]).sum();
            parts.distance += far + load * self.cpu_cost.get(cpu).copied().unwrap_or(0.0);
            let share = if cpu == self.affinity[queue] { 0.0 } else { self.kappa };
            parts.moved += self.lambda_move * load * share;
        }
        let over: f64 =
            carried.iter().zip(&self.cap).map(|(load, cap)| (load - cap).max(0.0)).sum();
        parts.overload = self.lambda_load * over;
        parts
    }

    /// Whether every queue exists and every affinity is one that the queue may have.
    #[must_use]
    pub fn is_legal(&self, table: &[usize], affinity: &[usize]) -> bool {
        table.len() == self.table.len()
            && affinity.len() == self.affinity.len()
            && table.iter().all(|queue| *queue < affinity.len())
            && affinity.iter().enumerate().all(|(queue, cpu)| {
                if self.is_fixed(queue) {
                    *cpu == self.affinity[queue]
                } else {
                    self.allowed.contains(cpu)
                }
            })
    }

    /// How many entries of `table` differ from now, stale ones included.
    #[must_use]
    pub fn table_changes(&self, table: &[usize]) -> usize {
        table.iter().zip(&self.table).filter(|(new, old)| new != old).count()
    }

    /// How many affinities differ from now.
    #[must_use]
    pub fn affinity_changes(&self, affinity: &[usize]) -> usize {
        affinity.iter().zip(&self.affinity).filter(|(new, old)| new != old).count()
    }
}

/// The three terms of the objective, each with its price: their sum is the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Consumption times distance, and the CPUs' own cost.
    pub distance: f64,
    /// `lambda_load` times the load above the caps.
    pub overload: f64,
    /// `lambda_move` times the load that moves, moves of queues at `kappa`.
    pub moved: f64,
}

impl Parts {
    /// The objective.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.distance + self.overload + self.moved
    }
}

/// How much work the solver may do. Counted, so that the same budget gives the same plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Steps of the price stage; with none the search starts from the present placement only.
    pub price_steps: u32,
    /// Rounds of fitting affinities to buckets and buckets to affinities.
    pub rounds: u32,
    /// Moves of queues to sites without one that are tried.
    pub host_trials: u32,
    /// Random kicks.
    pub kicks: u32,
    /// How often the plan is planned again from where it leads, to see that nothing more is gained.
    pub settle: u32,
    /// Whether it is also planned without the CPUs that take no part, neither consuming nor polling,
    /// and with some of them, and what is best is kept.
    pub apart: bool,
    /// Steps of an exact search, where the problem is small enough for one.
    pub exact_steps: u32,
}

impl Budget {
    /// For a period of the daemon: cold start and large changes.
    pub const QUICK: Self = Self {
        price_steps: 10,
        rounds: 1,
        host_trials: 12,
        kicks: 0,
        settle: 0,
        apart: true,
        exact_steps: 0,
    };
    /// For a period in which little changed: search from where things are.
    pub const INCREMENTAL: Self = Self { price_steps: 0, ..Self::QUICK };
    /// For a plan of moderate size that somebody waits for.
    pub const THOROUGH: Self = Self {
        price_steps: 60,
        rounds: 2,
        host_trials: 24,
        kicks: 1200,
        settle: 3,
        apart: true,
        exact_steps: 200_000,
    };
    /// Steps after which a bound hardly improves.
    pub const BOUND_STEPS: u32 = 300;

    /// [`Budget::THOROUGH`] with fewer kicks where each takes longer, so that no size waits for
    /// more than a fraction of a second.
    #[must_use]
    pub fn thorough(buckets: usize, sites: usize) -> Self {
        /// Cells of the cost table up to which all kicks are made.
        const MODERATE: usize = 1024;
        let cells = buckets.saturating_mul(sites).max(MODERATE);
        let kicks = Self::THOROUGH.kicks as usize * MODERATE / cells;
        Self { kicks: u32::try_from(kicks).unwrap_or(0).max(4), ..Self::THOROUGH }
    }
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Solution {
    /// Queue of each bucket.
    pub table: Vec<usize>,
    /// CPU of each queue.
    pub affinity: Vec<usize>,
    /// What it costs.
    pub cost: Parts,
    /// No legal plan costs less, whatever its affinities and number of changes.
    pub bound: Option<f64>,
}

impl Solution {
    /// Whether it differs from what `problem` has now.
    #[must_use]
    pub fn changes(&self, problem: &Problem) -> bool {
        self.table != problem.table || self.affinity != problem.affinity
    }
}
