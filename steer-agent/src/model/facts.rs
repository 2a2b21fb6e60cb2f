//! What this host can do, as found by asking it.

use serde::{Deserialize, Serialize};

use super::Neighbours;

/// An answer to "can this be done here?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "why")]
pub enum Fact {
    /// It can.
    Yes,
    /// It cannot, and this is why.
    No(String),
    /// Nobody could tell, and this is why.
    Unknown(String),
}

impl Fact {
    /// Whether it surely can.
    #[must_use]
    pub fn yes(&self) -> bool {
        matches!(self, Self::Yes)
    }

    /// The reason of a no or of an unknown.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(why) | Self::Unknown(why) => Some(why),
        }
    }
}

/// What was probed once at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Release of the running kernel, for people to read; nothing is decided by it.
    pub kernel_release: String,
    /// Type information of the kernel (`/sys/kernel/btf/vmlinux`).
    pub btf: Fact,
    /// May load tracing programs (`CAP_BPF` and `CAP_PERFMON`, or `CAP_SYS_ADMIN`).
    pub may_trace: Fact,
    /// May change NIC settings (`CAP_NET_ADMIN`).
    pub may_set_nic: Fact,
    /// May write `/proc/irq` (its owner, or `CAP_DAC_OVERRIDE`).
    pub may_set_irq: Fact,
    /// Netlink can read the RSS table.
    pub netlink_rss_get: Fact,
    /// Netlink can write the RSS table.
    pub netlink_rss_set: Fact,
    /// Netlink tells queue, NAPI and IRQ.
    pub netlink_queues: Fact,
    /// Who else writes what steer writes.
    pub neighbours: Neighbours,
    /// `net.core.rps_sock_flow_entries`; above zero with per-queue counts means RFS.
    pub rps_sock_flow_entries: Option<u64>,
}

/// What a report says of the machine. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Model of the CPUs (`/proc/cpuinfo`).
    pub cpu_model: Option<String>,
    /// Maker and product, as the firmware has them (`/sys/class/dmi/id`).
    pub product: Option<String>,
    /// Whether the CPUs say that a hypervisor runs them; `None` where they cannot say.
    pub virtual_machine: Option<bool>,
}
