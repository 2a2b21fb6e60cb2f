//! What the kernel side of accept steering is told, and what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use steer_common::accept::Outcomes;

use super::CpuId;

/// What a connection is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetAddress {
    /// This host's address; `None` for any.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// IPv4 packets, else IPv6.
    pub v4: bool,
}

/// Members of a group that connections are given to, one of them at random.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Share of connections that is given to them; the kernel's hash has the rest.
    pub share: f64,
    /// Their numbers.
    pub members: Vec<u16>,
}

/// All that the kernel side goes by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AcceptTable {
    /// Groups by what connections are made to; `None` where the kernel is to choose.
    pub targets: BTreeMap<TargetAddress, Option<u16>>,
    /// Interfaces whose connections are steered, by index.
    pub interfaces: BTreeSet<u32>,
    /// Addresses of this host.
    pub own_addresses: BTreeSet<IpAddr>,
    /// Who is given connections, by group and the CPU where they arrive.
    pub choices: BTreeMap<(u16, CpuId), Given>,
    /// Who is tried, by group.
    pub trials: BTreeMap<u16, Given>,
}

/// Connections of one member that were first consumed on one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenOn {
    /// The group.
    pub group: u16,
    /// The member; `None` for those that the kernel's hash gave away.
    pub member: Option<u16>,
    /// The CPU.
    pub cpu: CpuId,
    /// How many.
    pub connections: u64,
    /// Of those, such that arrived on this CPU.
    pub aligned: u64,
    /// How often another thread consumed than the time before.
    pub thread_changes: u64,
    /// Process that consumed last.
    pub pid: u32,
    /// Its thread.
    pub tid: u32,
}

/// What became of the connections to a group that arrived on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuOutcomes {
    /// Given to a member of this CPU.
    pub steered: u64,
    /// Given to a member to learn where it consumes.
    pub tried: u64,
    /// Left to the kernel's hash: the member has its share.
    pub over_share: u64,
    /// Left to it: no member consumes on this CPU.
    pub nobody_here: u64,
    /// Left to it: the socket was just closed.
    pub missed: u64,
    /// Left to it: the listeners have just changed.
    pub suspended: u64,
}

impl From<&Outcomes> for CpuOutcomes {
    fn from(outcomes: &Outcomes) -> Self {
        let Outcomes { steered, tried, over_share, nobody_here, missed, suspended } = *outcomes;
        Self { steered, tried, over_share, nobody_here, missed, suspended }
    }
}

impl CpuOutcomes {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { steered, tried, over_share, nobody_here, missed, suspended } = *self;
        steered + tried + over_share + nobody_here + missed + suspended
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            steered: self.steered.saturating_sub(earlier.steered),
            tried: self.tried.saturating_sub(earlier.tried),
            over_share: self.over_share.saturating_sub(earlier.over_share),
            nobody_here: self.nobody_here.saturating_sub(earlier.nobody_here),
            missed: self.missed.saturating_sub(earlier.missed),
            suspended: self.suspended.saturating_sub(earlier.suspended),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            steered: self.steered + other.steered,
            tried: self.tried + other.tried,
            over_share: self.over_share + other.over_share,
            nobody_here: self.nobody_here + other.nobody_here,
            missed: self.missed + other.missed,
            suspended: self.suspended + other.suspended,
        }
    }
}

/// Everything that the kernel side saw since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AcceptReading {
    /// Where connections were consumed.
    pub seen: Vec<SeenOn>,
    /// What became of connections, by group and CPU.
    pub outcomes: BTreeMap<u16, Vec<CpuOutcomes>>,
}
