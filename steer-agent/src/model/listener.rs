//! Who listens where: sockets, the groups that they form, and where each one's connections go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::accept::TargetAddress;
use super::{CpuId, CpuSet};

/// A listening TCP socket, as `sock_diag(7)` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningSocket {
    /// The kernel's number for it, never given out twice in a boot.
    pub cookie: u64,
    /// Inode by which `/proc/PID/fd` names it; 0 for a socket without a file (MPTCP's, for instance).
    pub inode: u64,
    /// What it listens on.
    pub endpoint: Endpoint,
    /// User who made it.
    pub uid: u32,
    /// Connections that wait to be accepted.
    pub queued: u32,
}

/// What a socket listens on. Sockets that share it are one reuseport group, for without
/// `SO_REUSEPORT` the kernel lets no two of them be bound (socket(7)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Port.
    pub port: u16,
    /// Address; the unspecified one for any.
    pub address: IpAddr,
    /// Whether a socket for any IPv6 address takes no IPv4 connections; `None` where not told.
    pub v6_only: Option<bool>,
    /// Interface that it is bound to; 0 for none.
    pub device: u32,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", SocketAddr::new(self.address, self.port))?;
        if self.device != 0 {
            write!(f, " (interface {})", self.device)?;
        }
        Ok(())
    }
}

/// A process that holds a listening socket open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its descriptor.
    pub fd: u32,
    /// Its name.
    pub comm: String,
}

/// The sockets of a group, in the order of their cookies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What they listen on.
    pub endpoint: Endpoint,
    /// The sockets.
    pub sockets: Vec<ListeningSocket>,
}

/// The groups that `sockets` form.
#[must_use]
pub fn groups(sockets: &[ListeningSocket]) -> Vec<Group> {
    let mut by_endpoint: BTreeMap<&Endpoint, Vec<ListeningSocket>> = BTreeMap::new();
    for socket in sockets {
        by_endpoint.entry(&socket.endpoint).or_default().push(socket.clone());
    }
    by_endpoint
        .into_iter()
        .map(|(endpoint, mut sockets)| {
            sockets.sort_by_key(|socket| socket.cookie);
            Group { endpoint: endpoint.clone(), sockets }
        })
        .collect()
}

/// What connections are made to, for each of `endpoints`, all of them on followed ports: the group's
/// number where `number` has one, `None` for those that are left alone. The kernel's order is kept
/// (`net/ipv4/inet_hashtables.c` `__inet_lookup_listener`): the very address before any address, and a
/// socket for any IPv4 address before one for any IPv6 address that takes IPv4 too.
///
/// A port on which anybody is bound to an interface is left alone altogether: which of its sockets is
/// meant depends on more than addresses.
#[must_use]
pub fn targets(
    endpoints: &[Endpoint],
    number: impl Fn(&Endpoint) -> Option<u16>,
) -> BTreeMap<TargetAddress, Option<u16>> {
    let with_device: BTreeSet<u16> =
        endpoints.iter().filter(|one| one.device != 0).map(|one| one.port).collect();
    let mut targets = BTreeMap::new();
    for endpoint in endpoints {
        let port = endpoint.port;
        let number = number(endpoint).filter(|_| !with_device.contains(&port));
        let any = endpoint.address.is_unspecified();
        let v4 = endpoint.address.is_ipv4();
        let address = (!any).then_some(endpoint.address);
        // Two endpoints with the same key are told apart by something that is not known here.
        targets
            .entry(TargetAddress { address, port, v4 })
            .and_modify(|known| *known = None)
            .or_insert(number);
    }
    for endpoint in endpoints {
        let both = endpoint.address.is_unspecified() && endpoint.address.is_ipv6();
        if both && endpoint.v6_only != Some(true) {
            let port = endpoint.port;
            let sure = endpoint.v6_only == Some(false) && !with_device.contains(&port);
            targets
                .entry(TargetAddress { address: None, port, v4: true })
                .or_insert_with(|| number(endpoint).filter(|_| sure));
        }
    }
    targets
}

/// Where a socket's connections are consumed, as seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Life {
    /// Too few were seen.
    Unknown,
    /// On one CPU, and its thread may run nowhere else.
    Pinned {
        /// The CPU.
        cpu: CpuId,
    },
    /// On one CPU so far, but its thread may run elsewhere too, or nobody knows.
    Settled {
        /// The CPU.
        cpu: CpuId,
    },
    /// By one thread, now here, now there.
    Roaming {
        /// Where.
        cpus: CpuSet,
    },
    /// By several threads on several CPUs: whoever accepts hands over to others.
    Shared {
        /// Where.
        cpus: CpuSet,
    },
}

impl Life {
    /// The CPU that its connections are best brought to.
    #[must_use]
    pub fn home(&self) -> Option<CpuId> {
        match self {
            Self::Pinned { cpu } | Self::Settled { cpu } => Some(*cpu),
            Self::Unknown | Self::Roaming { .. } | Self::Shared { .. } => None,
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => write!(f, "not seen yet"),
            Self::Pinned { cpu } => write!(f, "pinned to CPU {cpu}"),
            Self::Settled { cpu } => write!(f, "on CPU {cpu}, not pinned"),
            Self::Roaming { cpus } => write!(f, "roaming over CPUs {cpus}"),
            Self::Shared { cpus } => write!(f, "shared by threads on CPUs {cpus}"),
        }
    }
}

/// Connections after which where a socket's are consumed is known. With nine of ten on one CPU, a
/// socket that is spread evenly over two passes for settled once in 2^7 times, and not for long.
const ENOUGH: f64 = 8.0;
/// Connections that are remembered: what is older weighs less and less.
const MEMORY: f64 = 48.0;
/// Share on one CPU from which a socket is at home there.
const AT_HOME: f64 = 0.9;

/// What is remembered of a socket's connections: counts by CPU, the older the lighter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    by_cpu: BTreeMap<CpuId, f64>,
    threads_changed: f64,
    thread: Option<(u32, u32)>,
    mask: Option<CpuSet>,
}

impl Memory {
    /// Adds connections that were consumed on `cpu`, last by this thread of this process, and how
    /// often that was another thread than before.
    pub fn add(&mut self, cpu: CpuId, connections: u64, changes: u64, thread: (u32, u32)) {
        if connections == 0 {
            return;
        }
        let fresh = connections as f64;
        let kept = (1.0 - fresh / MEMORY).max(0.0);
        for count in self.by_cpu.values_mut() {
            *count *= kept;
        }
        self.threads_changed *= kept;
        *self.by_cpu.entry(cpu).or_default() += fresh.min(MEMORY);
        self.threads_changed += (changes as f64).min(fresh).min(MEMORY);
        // The kernel side keeps a thread by CPU, so that two CPUs with a thread each show no change.
        if self.thread.is_some_and(|known| known != thread) {
            self.threads_changed += 1.0;
        }
        self.thread = Some(thread);
    }

    /// Process and thread that consumed last.
    #[must_use]
    pub fn thread(&self) -> Option<(u32, u32)> {
        self.thread
    }

    /// Notes where that thread may run.
    pub fn set_mask(&mut self, mask: Option<CpuSet>) {
        self.mask = mask;
    }

    /// Where the connections are consumed.
    #[must_use]
    pub fn life(&self) -> Life {
        let total: f64 = self.by_cpu.values().sum();
        if total < ENOUGH {
            return Life::Unknown;
        }
        let most = self.by_cpu.iter().max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((cpu, count)) = most
            && *count >= AT_HOME * total
        {
            let pinned = self.mask.as_ref().is_some_and(|mask| *mask == CpuSet::single(*cpu));
            return if pinned { Life::Pinned { cpu: *cpu } } else { Life::Settled { cpu: *cpu } };
        }
        let cpus: CpuSet =
            self.by_cpu.iter().filter(|(_, count)| **count >= 0.5).map(|(cpu, _)| *cpu).collect();
        // One thread that moves is one thread wherever it is.
        if self.threads_changed > 0.02 * total {
            Life::Shared { cpus }
        } else {
            Life::Roaming { cpus }
        }
    }
}

#[cfg(test)]
mod tests;
