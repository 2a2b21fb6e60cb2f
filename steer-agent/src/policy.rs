//! What the operator wants and what nothing may exceed. Plain data with defaults.

use serde::{Deserialize, Serialize};

use crate::model::CpuSet;

/// Thresholds and limits of the planner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// CPUs that may be given interrupts; `None` is every online CPU.
    pub allowed_cpus: Option<CpuSet>,
    /// Most that a CPU's projected packet load may exceed the average of the CPUs in use, as a
    /// share of it. Binds only where `softirq_cap` is exceeded too.
    pub load_slack: f64,
    /// Softirq time that a CPU may take before `load_slack` binds, as a share of the CPU. Above
    /// it ksoftirqd sets in and drives the consumer away; below it balance helps nobody.
    pub softirq_cap: f64,
    /// Least share of a bucket's consumption that must become aligned for the bucket to move.
    pub least_gain: f64,
    /// Least consumptions in the window before anything is decided.
    pub least_samples: u64,
    /// Most buckets moved in a period after the first plan, as a divisor of the table's size.
    pub moves_divisor: usize,
    /// Most interrupts moved in a period after the first plan.
    pub most_irq_moves: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allowed_cpus: None,
            load_slack: 0.5,
            softirq_cap: 0.35,
            least_gain: 0.1,
            least_samples: 100,
            moves_divisor: 32,
            most_irq_moves: 4,
        }
    }
}

impl Policy {
    /// Most buckets of a table of `buckets` that one period may move.
    #[must_use]
    pub fn most_bucket_moves(&self, buckets: usize) -> usize {
        (buckets / self.moves_divisor.max(1)).max(4)
    }
}
