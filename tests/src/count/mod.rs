//! The independent count for servers that are not ours.
//!
//! The kernel counts by itself, with probes and histograms of tracefs, how often a socket is read
//! on which CPU, and on which CPU and queue its packets came in; /proc counts the interrupts of
//! each queue on each CPU, and those between CPUs. Nothing of steer takes part: no code, no
//! hook, no map.

pub mod btf;
mod hist;
mod interrupts;

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use hist::{Hits, Probe};
use interrupts::Interrupts;

use crate::{guest::NIC, nic};

/// The side of a proxy that a connection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Clients connect to the proxy.
    Client,
    /// The proxy connects to its servers.
    Backend,
}

/// Probes on the sockets of a proxy.
#[derive(Debug)]
pub struct Counter {
    /// Reads that got data, in the context of the reader.
    reads: [(Side, Probe); 2],
    /// Closed connections, in the context of who closes.
    closes: [(Side, Probe); 2],
}

/// Everything counted up to a point in time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    reads: BTreeMap<Side, Hits>,
    closes: BTreeMap<Side, Hits>,
    interrupts: Interrupts,
    queues: BTreeMap<u32, u32>,
}

/// What was counted of a side.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Alignment {
    /// Reads, or closed connections.
    pub count: u64,
    /// The share on the CPU whose hard interrupt took the packets from the NIC.
    pub hard: f64,
    /// The share on the CPU that did the protocol's work, after a hand-over if there was one.
    pub softirq: f64,
}

impl Counter {
    /// Puts the probes in place; nothing where the kernel lacks the means. `listening` are the
    /// proxy's ports, `backend` is the port of its servers.
    pub fn install(listening: &[u16], backend: u16) -> Result<Option<Self>> {
        if !Probe::offered() {
            return Ok(None);
        }
        let types = fs::read("/sys/kernel/btf/vmlinux")?;
        let types = btf::Btf::parse(&types)?;
        let field = |name: &str, member: &str, kind: &str| -> Result<String> {
            Ok(format!("{name}=+{}($arg1):{kind}", types.offset("sock_common", member)?))
        };
        let fields = [
            field("incoming", "skc_incoming_cpu", "s32")?,
            field("queue", "skc_rx_queue_mapping", "u16")?,
            field("own", "skc_num", "u16")?,
            field("other", "skc_dport", "u16")?,
        ];
        let fields = fields.join(" ");
        let own: Vec<String> = listening.iter().map(|port| format!("own=={port}")).collect();
        // The kernel keeps the other port as it is in packets.
        let other = format!("other=={}", backend.to_be());
        let probe = |name, function, filter: &str| {
            Probe::install(name, function, &fields, "incoming,queue", filter)
        };
        // Called by tcp_recvmsg and its like whenever data was copied.
        let read = "tcp_rcv_space_adjust";
        Ok(Some(Self {
            reads: [
                (Side::Client, probe("client_read", read, &own.join("||"))?),
                (Side::Backend, probe("backend_read", read, &other)?),
            ],
            closes: [
                (Side::Client, probe("client_close", "tcp_close", &own.join("||"))?),
                (Side::Backend, probe("backend_close", "tcp_close", &other)?),
            ],
        }))
    }

    /// What is counted by now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let hits = |probes: &[(Side, Probe); 2]| -> Result<BTreeMap<Side, Hits>> {
            probes.iter().map(|(side, probe)| Ok((*side, probe.hits()?))).collect()
        };
        Ok(Snapshot {
            reads: hits(&self.reads)?,
            closes: hits(&self.closes)?,
            interrupts: Interrupts::now()?,
            queues: nic::queues(NIC)?,
        })
    }
}

impl Snapshot {
    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            reads: difference(&self.reads, &earlier.reads),
            closes: difference(&self.closes, &earlier.closes),
            interrupts: self.interrupts.since(&earlier.interrupts),
            queues: self.queues.clone(),
        }
    }

    /// How well reads met their packets.
    #[must_use]
    pub fn reads(&self, side: Side) -> Alignment {
        self.reads.get(&side).map(|hits| self.alignment(hits)).unwrap_or_default()
    }

    /// The same by connection, at its end.
    #[must_use]
    pub fn closes(&self, side: Side) -> Alignment {
        self.closes.get(&side).map(|hits| self.alignment(hits)).unwrap_or_default()
    }

    /// Connections of clients that were closed on each of these CPUs.
    #[must_use]
    pub fn closed_on(&self, cpus: &[usize]) -> Vec<u64> {
        let closes = self.closes.get(&Side::Client);
        let on = |cpu: &usize| {
            let hits = closes.into_iter().flatten();
            let here = hits.filter(|(keys, _)| {
                keys.first().and_then(|key| usize::try_from(*key).ok()) == Some(*cpu)
            });
            here.map(|(_, count)| count).sum()
        };
        cpus.iter().map(on).collect()
    }

    /// Calls from CPU to CPU.
    #[must_use]
    pub fn ipis(&self) -> u64 {
        self.interrupts.ipis()
    }

    /// Packets' hand-overs from CPU to CPU.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.interrupts.handed_over()
    }

    fn alignment(&self, hits: &Hits) -> Alignment {
        let (mut count, mut hard, mut softirq) = (0, 0.0, 0);
        for (keys, &hits) in hits {
            let &[cpu, incoming, queue] = keys.as_slice() else { continue };
            count += hits;
            softirq += if cpu == incoming { hits } else { 0 };
            // An unknown queue, or one whose interrupt did not occur, is not aligned.
            let irq = u32::try_from(queue).ok().and_then(|queue| self.queues.get(&queue));
            let share = irq.zip(usize::try_from(cpu).ok());
            let share = share.and_then(|(irq, cpu)| self.interrupts.share(*irq, cpu));
            hard += hits as f64 * share.unwrap_or_default();
        }
        if count == 0 {
            return Alignment::default();
        }
        let count_f64 = count as f64;
        Alignment { count, hard: hard / count_f64, softirq: softirq as f64 / count_f64 }
    }
}

fn difference(now: &BTreeMap<Side, Hits>, earlier: &BTreeMap<Side, Hits>) -> BTreeMap<Side, Hits> {
    let side = |(side, now): (&Side, &Hits)| {
        let before = |keys| earlier.get(side).and_then(|hits| hits.get(keys)).copied();
        let hits = now.iter().map(|(keys, count)| {
            (keys.clone(), count.saturating_sub(before(keys).unwrap_or_default()))
        });
        (*side, hits.collect())
    };
    now.iter().map(side).collect()
}
