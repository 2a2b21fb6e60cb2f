//! What the operator wants and what nothing may exceed. Plain data with defaults.

mod window;

use serde::{Deserialize, Serialize};

use crate::model::{CpuId, CpuSet, Driver, Nic, Refusal};
pub use window::{MaintenanceWindow, ParseWindowError, WallTime};

/// Thresholds and limits of the planner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Policy {
    /// CPUs that may be given interrupts; `None` is every online CPU.
    pub allowed_cpus: Option<CpuSet>,
    /// CPUs that are never given interrupts, whatever `allowed_cpus` says.
    pub denied_cpus: CpuSet,
    /// Whether the indirection table may be written; without it queues move, and buckets stay.
    pub move_table: bool,
    /// Whether TX queues may follow RX queues (XPS).
    pub set_xps: bool,
    /// Whether interrupts may be moved; without it queues stay where they are, and tables follow.
    pub move_irqs: bool,
    /// Most that a CPU's projected packet load may exceed the average of the CPUs in use, as a
    /// share of it. Binds only where `softirq_cap` is exceeded too.
    pub load_slack: f64,
    /// Softirq time that a CPU may take before `load_slack` binds, as a share of the CPU. Above
    /// it ksoftirqd sets in and drives the consumer away; below it balance helps nobody.
    pub softirq_cap: f64,
    /// Where interrupts are to be, relative to consumers.
    pub placement: Placement,
    /// Least share of the present cost that a plan must save, unless it cures an overload.
    pub least_gain: f64,
    /// Price of moving a bucket to another queue, in cache-line transfers inside a last-level cache
    /// per consumption: caches grow cold and packets may be reordered.
    pub move_price: f64,
    /// Share of `move_price` where the queue's interrupt moves and the bucket stays in its queue.
    pub irq_move_share: f64,
    /// Cost of a packet on a node other than the NIC's, in the same unit.
    pub nic_distance: f64,
    /// Where the planner's random numbers start: the same seed gives the same plan.
    pub seed: u64,
    /// Least consumptions in the window before anything is decided.
    pub least_samples: u64,
    /// Most buckets moved in a period after the first plan, as a divisor of the table's size.
    pub moves_divisor: usize,
    /// Most interrupts moved in a period after the first plan.
    pub most_irq_moves: usize,
    /// Write the table even where the driver takes the link down for it, or is not known well enough
    /// to exclude that.
    pub allow_link_reset: bool,
    /// Most exact-match rules for elephant flows; 0 is none. Not yet run on hardware.
    pub pins: usize,
    /// CPUs of the workers to which accept steering brings connections, once they are known: queues go
    /// one to one to them, and stay.
    #[serde(skip)]
    pub workers: Option<CpuSet>,
}

/// Where interrupts are to be, relative to consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On the consumer's own CPU.
    #[default]
    SameCore,
    /// On the other hardware thread of the consumer's core.
    SmtSibling,
    /// Anywhere under the consumer's last-level cache.
    SameLlc,
    /// Anywhere on the consumer's node.
    SameNode,
    /// Near the consumer, but on cores that consume nothing.
    Dedicated,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allowed_cpus: None,
            denied_cpus: CpuSet::default(),
            move_table: true,
            set_xps: true,
            move_irqs: true,
            load_slack: 0.15,
            softirq_cap: 0.35,
            placement: Placement::SameCore,
            least_gain: 0.005,
            move_price: 0.2,
            irq_move_share: 0.25,
            nic_distance: 0.1,
            seed: 1,
            least_samples: 100,
            moves_divisor: 40,
            most_irq_moves: 4,
            allow_link_reset: false,
            pins: 0,
            workers: None,
        }
    }
}

impl Policy {
    /// Most buckets of a table of `buckets` that one period may move.
    #[must_use]
    pub fn most_bucket_moves(&self, buckets: usize) -> usize {
        (buckets / self.moves_divisor.max(1)).max(4)
    }

    /// Whether `cpu` may be given interrupts.
    #[must_use]
    pub fn allows(&self, cpu: CpuId) -> bool {
        let named = self.allowed_cpus.as_ref().is_none_or(|allowed| allowed.contains(cpu));
        named && !self.denied_cpus.contains(cpu)
    }

    /// Why the table of `nic` is not to be written, if so. A NIC without a driver is a simulated one:
    /// virtual interfaces are never steered.
    #[must_use]
    pub fn table_refusal(&self, nic: &Nic) -> Option<Refusal> {
        let driver = nic.driver.as_deref()?;
        let refusal = Driver::of(driver).automatic(driver).err()?;
        (!self.allow_link_reset || !refusal.can_be_lifted()).then_some(refusal)
    }
}
