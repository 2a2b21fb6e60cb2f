//! Builders of machines and traffic for tests.

use std::net::{Ipv4Addr, SocketAddr};

use super::{CpuId, Flow, FlowAddr, QueueId};

/// TCP flow number `number`: its hash is its number, it arrives on `queue`, polled by the CPU of
/// the same number, and is consumed on `consumer`, ten times, once a millisecond.
#[must_use]
pub fn flow(number: u32, queue: QueueId, consumer: CpuId) -> Flow {
    let port = 40_000u16.saturating_add(u16::try_from(number).unwrap_or(u16::MAX));
    Flow {
        addr: FlowAddr {
            protocol: 6,
            local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 9000)),
            remote: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), port)),
        },
        ifindex: Some(2),
        queue: Some(queue),
        hash: Some(number),
        hash_computed: false,
        softirq_cpu: Some(queue),
        protocol_cpu: Some(queue),
        consumer_cpu: consumer,
        consumed: 10,
        mismatched: if queue == consumer { 0 } else { 10 },
        consumer_moves: 0,
        first_ns: 0,
        last_ns: 10_000_000,
        pid: Some(100 + consumer),
        comm: "worker".to_owned(),
    }
}
