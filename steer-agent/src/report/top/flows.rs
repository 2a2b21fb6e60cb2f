//! The list of flows: what is shown of each, in which order, and which of them.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::report::number::printable;
use crate::report::{FlowReport, NicStatus};

/// What the list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The busiest first.
    #[default]
    Rate,
    /// Those that cross first, the busiest of them first.
    Crossing,
    /// By name of the process, then the busiest first.
    Process,
    /// By the far end's address.
    Remote,
}

impl Order {
    /// The next one, round and round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Rate => Self::Crossing,
            Self::Crossing => Self::Process,
            Self::Process => Self::Remote,
            Self::Remote => Self::Rate,
        }
    }

    /// What it is called on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Crossing => "crossing",
            Self::Process => "process",
            Self::Remote => "far end",
        }
    }
}

/// A flow as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Protocol and both ends.
    pub(super) flow: String,
    /// The far end, to order by.
    pub(super) remote: SocketAddr,
    /// The CPU that polls its queue, where known.
    pub(super) softirq_cpu: Option<u32>,
    /// The CPU that consumes.
    pub(super) consumer_cpu: u32,
    /// Its RX queue.
    pub(super) queue: Option<u32>,
    /// Consumption per second.
    pub(super) per_s: f64,
    /// Consuming process.
    pub(super) process: String,
}

impl Row {
    /// Whether it is consumed away from where it arrives.
    #[must_use]
    pub(super) fn crosses(&self) -> bool {
        self.softirq_cpu.is_some_and(|cpu| cpu != self.consumer_cpu)
    }
}

type Ends = (String, SocketAddr, SocketAddr);

fn ends(flow: &FlowReport) -> Ends {
    (flow.proto.clone(), flow.local, flow.remote)
}

/// The flows of `now`, with their rates since `before`. A flow that was not there before has consumed
/// all that it has in this window.
#[must_use]
pub(super) fn rows(
    now: &NicStatus,
    before: Option<&NicStatus>,
    window_s: f64,
    order: Order,
    filter: &str,
) -> Vec<Row> {
    let earlier: HashMap<Ends, u64> = before
        .and_then(|nic| nic.flows.as_ref())
        .into_iter()
        .flatten()
        .map(|flow| (ends(flow), flow.consumed))
        .collect();
    let filter = filter.to_lowercase();
    let mut rows: Vec<Row> = now
        .flows
        .iter()
        .flatten()
        .map(|flow| {
            let known = earlier.get(&ends(flow)).copied().unwrap_or(0);
            let consumed = flow.consumed.checked_sub(known).unwrap_or(flow.consumed);
            let process = printable(&flow.comm);
            Row {
                flow: format!("{} {} <- {}", flow.proto, flow.local, flow.remote),
                remote: flow.remote,
                softirq_cpu: flow.softirq_cpu,
                consumer_cpu: flow.consumer_cpu,
                queue: flow.queue,
                per_s: consumed as f64 / window_s.max(1e-3),
                process: match flow.pid {
                    Some(pid) => format!("{process} ({pid})"),
                    None => process,
                },
            }
        })
        .filter(|row| {
            filter.is_empty()
                || row.flow.to_lowercase().contains(&filter)
                || row.process.to_lowercase().contains(&filter)
        })
        .collect();
    let by_rate = |a: &Row, b: &Row| b.per_s.total_cmp(&a.per_s).then(a.remote.cmp(&b.remote));
    rows.sort_by(|a, b| match order {
        Order::Rate => by_rate(a, b),
        Order::Crossing => b.crosses().cmp(&a.crosses()).then(by_rate(a, b)),
        Order::Process => a.process.cmp(&b.process).then(by_rate(a, b)),
        Order::Remote => a.remote.cmp(&b.remote),
    });
    rows
}
