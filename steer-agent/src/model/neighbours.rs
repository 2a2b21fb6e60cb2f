//! Who else on this host writes what steer writes.

use serde::{Deserialize, Serialize};

/// A running process; its number alone may be given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (`starttime`, `proc_pid_stat(5)`).
    pub started: u64,
}

/// The neighbours that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    /// A running irqbalance.
    pub irqbalance: Option<Process>,
    /// A running tuned.
    pub tuned: Option<Process>,
    /// The profile that tuned was told to keep (`/etc/tuned/active_profile`).
    pub tuned_profile: Option<String>,
    /// A running CRI-O.
    pub crio: Option<Process>,
    /// The irqbalance configuration that CRI-O rewrites (`irqbalance_config_file`).
    pub crio_irqbalance_config: Option<String>,
    /// Files of udev rules and links that set the affinity of interrupts.
    pub udev_rules: Vec<String>,
}
