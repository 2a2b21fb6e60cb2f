//! The narrow door through which settings are changed.
//!
//! [`Port`] has what `apply` needs and no more: read a value, write it, and say which device it
//! belongs to. The shipped implementation is [`Machine`](super::Machine); the fake one in
//! `sys::fake` stands in for hardware in tests. Every write is a single kernel call whose success
//! is only a claim: the caller reads back. Nothing here journals, retries or undoes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::SysError;
use crate::model::{CpuSet, Process, QueueId, Rule, RuleContent, RuleTable};

/// What tells one NIC from another that takes its name or its index later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceId {
    /// Interface index; unique in a network namespace until the device is removed.
    pub ifindex: u32,
    /// Bus address such as `0000:00:03.0`; none for virtual interfaces.
    pub bus: Option<String>,
    /// Hardware address as in `/sys/class/net/IF/address`.
    pub address: Option<String>,
    /// Name of the driver; none for virtual interfaces.
    pub driver: Option<String>,
}

impl DeviceId {
    /// Whether both are the same device, set up once. The hardware address is not asked: an
    /// administrator or a bond changes it, and the settings stay as they are.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.ifindex, &self.bus, &self.driver) == (other.ifindex, &other.bus, &other.driver)
    }
}

/// Settings of NICs and interrupts, by interface name and IRQ number.
///
/// An `Ok(None)` says that this kernel or driver has no such setting. An interface that does not
/// exist (any more) is an error for which [`SysError::is_gone`] holds.
pub trait Port {
    /// Which device answers to this name now.
    fn identity(&self, nic: &str) -> Result<DeviceId, SysError>;

    /// What the interface with this index is called now.
    fn called(&self, ifindex: u32) -> Option<String>;

    /// The indirection table of the main RSS context, RX queue by bucket.
    fn rss_table(&self, nic: &str) -> Result<Option<Vec<QueueId>>, SysError>;

    /// The hash key as the driver tells it; a key of zeros is a hidden one and thus `None`.
    fn rss_key(&self, nic: &str) -> Result<Option<Vec<u8>>, SysError>;

    /// RX rings that a table may name (`ETHTOOL_GRXRINGS`).
    fn rx_rings(&self, nic: &str) -> Result<Option<u32>, SysError>;

    /// Writes the whole table and nothing else: key, hash function and symmetric hashing stay.
    /// The kernel marks the table as set by a user (`IFF_RXFH_CONFIGURED`), which only
    /// [`Port::reset_rss_table`] takes away. Some drivers say yes and do nothing: read it back.
    fn set_rss_table(&self, nic: &str, table: &[QueueId]) -> Result<(), SysError>;

    /// Gives the table back to the driver: the kernel writes `bucket % rings`
    /// (`ethtool_rxfh_indir_default`) and clears the mark.
    fn reset_rss_table(&self, nic: &str) -> Result<(), SysError>;

    /// The CPUs that an interrupt may go to (`smp_affinity_list`). While it is on its way to others
    /// that may be those it comes from: [`Port::await_interrupts`].
    fn irq_affinity(&self, irq: u32) -> Result<CpuSet, SysError>;

    /// Waits as long as an interrupt that is on its way should need to arrive, so that a second look at
    /// its affinity shows more than the first.
    fn await_interrupts(&self);

    /// The CPUs that it goes to (`effective_affinity_list`); `None` where the kernel does not
    /// tell, or nothing was chosen yet. Right after [`Port::set_irq_affinity`] it may still be the
    /// old one: without interrupt remapping x86 moves an MSI only when it next fires
    /// (`irq_do_set_affinity`, `CONFIG_GENERIC_PENDING_IRQ`; seen in the lab on 6.1 and 6.12).
    fn irq_effective(&self, irq: u32) -> Result<Option<CpuSet>, SysError>;

    /// Asks for an interrupt to go to one of `cpus`. It moves when it next fires.
    fn set_irq_affinity(&self, irq: u32, cpus: &CpuSet) -> Result<(), SysError>;

    /// The interrupt's action name, by which a number that was handed out anew is noticed.
    fn irq_name(&self, irq: u32) -> Option<String>;

    /// The CPUs whose packets leave through a TX queue (`xps_cpus`).
    fn xps(&self, nic: &str, queue: QueueId) -> Result<Option<CpuSet>, SysError>;

    /// Writes them. CPUs that are offline are dropped by the kernel without a word.
    fn set_xps(&self, nic: &str, queue: QueueId, cpus: &CpuSet) -> Result<(), SysError>;

    /// The process of this number, if it runs and is root's.
    fn process(&self, pid: u32) -> Option<Process>;

    /// The interrupts that irqbalance, process `pid`, leaves alone. It may take its interval to
    /// answer; it is waited for.
    fn irqbalance_bans(&self, pid: u32) -> Result<BTreeSet<u32>, SysError>;

    /// Asks it to leave alone `irqs` and no others. Whether it does is to be read back.
    fn set_irqbalance_bans(&self, pid: u32, irqs: &BTreeSet<u32>) -> Result<(), SysError>;
    /// All exact-match rules; `None` where the driver has none. A call for each rule: not for every
    /// question.
    fn rules(&self, nic: &str) -> Result<Option<RuleTable>, SysError>;

    /// What is at a number of the rule table.
    fn rule(&self, nic: &str, location: u32) -> Result<RuleContent, SysError>;

    /// Puts `rule` at `location`, in one write over the rule that may be there, or with none where
    /// the driver likes. Returns the number that it has. Packets in flight may still come by the old
    /// queue.
    fn set_rule(&self, nic: &str, location: Option<u32>, rule: &Rule) -> Result<u32, SysError>;

    /// Deletes the rule at `location`.
    fn delete_rule(&self, nic: &str, location: u32) -> Result<(), SysError>;

    /// Identity of this boot (`/proc/sys/kernel/random/boot_id`, random(4)).
    fn boot_id(&self) -> Result<String, SysError>;
}
