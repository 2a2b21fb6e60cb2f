//! Builders of machines and traffic for tests.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    CpuId, CpuSet, Flow, FlowAddr, Matrix, Nic, NicCounters, NicSample, Queue, QueueId, Rss,
    Sample, Topology,
};

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

/// An igb with four queues on CPUs 0 to 3; sixteen flows, each consumed two CPUs on from where it
/// arrives, 50 times a second. This is what was read after so many seconds.
#[must_use]
pub fn crossed_sample(seconds: u64) -> Sample {
    let nic = Nic {
        name: "eth0".to_owned(),
        driver: Some("igb".to_owned()),
        ifindex: 2,
        up: true,
        rss: Some(Rss { table: (0..4).cycle().take(128).collect(), ..Rss::default() }),
        queues: (0..4)
            .map(|id| Queue {
                id,
                irq: Some(25 + id),
                affinity: Some((0..4).collect()),
                effective: Some(CpuSet::single(id)),
                xps: Some(CpuSet::default()),
                ..Queue::default()
            })
            .collect(),
        ..Nic::default()
    };
    let mut counters = NicCounters {
        load: Some(Matrix::new(128, 4)),
        demand: Some(Matrix::new(128, 4)),
        queue_packets: Matrix::new(4, 4),
        queue_consumed: Matrix::new(4, 4),
        consumed_by_napi: Matrix::new(4, 4),
        consumed_by_protocol: Matrix::new(4, 4),
        unattributed: 0,
    };
    let mut flows: Vec<Flow> = Vec::new();
    for number in 0..16u32 {
        let queue = number % 4;
        let consumer = (queue + 2) % 4;
        let [bucket, queue_at, consumer_at] =
            [number, queue, consumer].map(|n| usize::try_from(n).unwrap_or(0));
        let count = 50 * seconds;
        if let (Some(load), Some(demand)) = (&mut counters.load, &mut counters.demand) {
            load.add(bucket, queue_at, 2 * count);
            demand.add(bucket, consumer_at, count);
        }
        counters.queue_packets.add(queue_at, queue_at, 2 * count);
        counters.queue_consumed.add(queue_at, consumer_at, count);
        counters.consumed_by_napi.add(queue_at, consumer_at, count);
        counters.consumed_by_protocol.add(queue_at, consumer_at, count);
        let mut flow = flow(number, queue, consumer);
        (flow.consumed, flow.mismatched) = (count, count);
        flow.last_ns = seconds * 1_000_000_000;
        flows.push(flow);
    }
    Sample {
        at_ns: seconds * 1_000_000_000,
        topology: Topology::regular(1, 4, 1),
        nics: vec![NicSample { nic, counters }],
        flows,
        health: vec![("flow_table_full".to_owned(), 3 * seconds)],
        ..Sample::default()
    }
}
