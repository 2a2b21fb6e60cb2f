//! Worked examples of two samples and what follows.

use super::*;
use crate::model::testkit::flow;
use crate::model::{CpuSet, NicCounters, Queue, Rss};

const SECOND_NS: u64 = 1_000_000_000;

/// Four CPUs under one cache; `eth0` has two queues on CPUs 0 and 1 and a table of four buckets.
fn sample(at_ns: u64, counters: NicCounters, flows: Vec<Flow>) -> Sample {
    let nic = Nic {
        name: "eth0".to_owned(),
        ifindex: 2,
        up: true,
        rss: Some(Rss { table: vec![0, 1, 0, 1], ..Rss::default() }),
        queues: (0..2)
            .map(|id| Queue {
                id,
                irq: Some(30 + id),
                affinity: Some("0-3".parse().expect("a list")),
                effective: Some(CpuSet::single(id)),
                ..Queue::default()
            })
            .collect(),
        ..Nic::default()
    };
    Sample {
        at_ns,
        topology: Topology::regular(1, 4, 1),
        softirq_ns: Some((0..4).map(|cpu| (cpu, at_ns / 10)).collect()),
        nics: vec![NicSample { nic, counters }],
        flows,
        health: vec![("table_full".to_owned(), at_ns / SECOND_NS)],
        missing: Vec::new(),
    }
}

fn counters(cells: &[(usize, usize, u64)]) -> NicCounters {
    // Each cell is (queue = its CPU, consumer CPU, consumptions); two packets a consumption.
    let mut counters = NicCounters {
        queue_packets: Matrix::new(2, 4),
        queue_consumed: Matrix::new(2, 4),
        consumed_by_napi: Matrix::new(4, 4),
        consumed_by_protocol: Matrix::new(4, 4),
        demand: Some(Matrix::new(4, 4)),
        ..NicCounters::default()
    };
    for (queue, consumer, count) in cells {
        counters.queue_packets.add(*queue, *queue, 2 * count);
        counters.queue_consumed.add(*queue, *consumer, *count);
        counters.consumed_by_napi.add(*queue, *consumer, *count);
        // Protocol work always on the consumer: what RFS makes of it.
        counters.consumed_by_protocol.add(*consumer, *consumer, *count);
        if let Some(demand) = &mut counters.demand {
            demand.add(*queue, *consumer, *count);
        }
    }
    counters
}

fn world(cells: &[(usize, usize, u64)], flows: Vec<Flow>) -> World {
    let earlier = sample(SECOND_NS, counters(&[(0, 0, 1000)]), Vec::new());
    let mut now = counters(&[(0, 0, 1000)]);
    let more = counters(cells);
    for queue in 0..2 {
        for cpu in 0..4 {
            now.queue_packets.add(queue, cpu, more.queue_packets.get(queue, cpu));
            now.queue_consumed.add(queue, cpu, more.queue_consumed.get(queue, cpu));
        }
    }
    for row in 0..4 {
        for cpu in 0..4 {
            now.consumed_by_napi.add(row, cpu, more.consumed_by_napi.get(row, cpu));
            now.consumed_by_protocol.add(row, cpu, more.consumed_by_protocol.get(row, cpu));
            if let (Some(now), Some(more)) = (&mut now.demand, &more.demand) {
                now.add(row, cpu, more.get(row, cpu));
            }
        }
    }
    World::between(&earlier, &sample(3 * SECOND_NS, now, flows), SECOND_NS)
}

#[test]
fn alignment_is_consumption_on_the_cpu_that_polls_the_queue() {
    // Over two seconds: 100 on queue 0 read on CPU 0, 100 on CPU 2; 200 on queue 1 read on CPU 3.
    let world = world(&[(0, 0, 100), (0, 2, 100), (1, 3, 200)], Vec::new());
    let alignment = &world.nics[0].alignment;
    assert_eq!(alignment.share, Some(0.25));
    assert_eq!(alignment.protocol_share, Some(1.0), "a hand-over is not alignment");
    assert!((alignment.consumed_per_s - 200.0).abs() < 1e-9);
    // 300 of 400 cross the last-level cache, at 50 ns a line: 7,500 ns a second.
    assert!((alignment.cost_ns_per_s - 7500.0).abs() < 1e-6);
    let total: f64 = alignment.by_distance.iter().map(|(_, share)| share).sum();
    assert!((total - 1.0).abs() < 1e-9);
    assert!(alignment.by_distance.contains(&(Distance::SameLlc, 0.75)));
}

#[test]
fn without_consumption_the_share_is_unknown_not_zero() {
    let world = world(&[], Vec::new());
    assert_eq!(world.nics[0].alignment.share, None);
    assert_eq!(world.nics[0].queues[0].softirq_cpu, None);
    assert_eq!(world.nics[0].queues[0].napi_cpu(), Some(0), "then settings tell");
}

#[test]
fn queues_tell_where_they_are_polled() {
    let world = world(&[(0, 0, 100), (1, 3, 200)], Vec::new());
    let queue = world.nics[0].queues[1];
    assert_eq!((queue.cpu, queue.effective_cpu, queue.softirq_cpu), (None, Some(1), Some(1)));
    assert!((queue.packets_per_s - 200.0).abs() < 1e-9);
    assert_eq!(world.health, [("table_full".to_owned(), 2)]);
    assert!((world.softirq_share.as_ref().expect("known")[0].1 - 0.1).abs() < 1e-9);
}

#[test]
fn load_is_shared_out_by_consumption_where_packets_carry_no_hash() {
    // Bucket 0 is all that is consumed of queue 0: its 200 packets in two seconds are bucket 0's.
    let world = world(&[(0, 2, 100)], Vec::new());
    let nic = &world.nics[0];
    assert!(nic.load_estimated);
    let load = nic.load_per_s.as_ref().expect("estimated");
    assert!((load[0] - 100.0).abs() < 1e-9, "{load:?}");
    assert!(load[2].abs() < 1e-9, "{load:?}");
}

#[test]
fn mismatches_are_the_dearest_first_and_only_the_active() {
    let mut heavy = flow(1, 1, 3);
    heavy.mismatched = 100;
    let mut light = flow(2, 0, 2);
    light.mismatched = 20;
    let mut aligned = flow(3, 1, 1);
    let mut old = flow(4, 0, 3);
    old.last_ns = SECOND_NS / 2;
    for flow in [&mut heavy, &mut light, &mut aligned] {
        flow.last_ns = 2 * SECOND_NS;
    }
    let world = world(&[], vec![light, old, aligned, heavy]);
    let nic = &world.nics[0];
    assert_eq!(nic.active_flows, 3);
    let cpus: Vec<_> = nic.mismatches.iter().map(|flow| flow.consumer_cpu).collect();
    assert_eq!(cpus, [3, 2]);
    assert!((nic.mismatches[0].per_s - 50.0).abs() < 1e-9);
    assert_eq!(nic.mismatches[0].bucket, Some(1));
}

#[test]
fn flows_from_before_the_last_change_are_no_evidence() {
    let mut before = flow(1, 0, 0);
    before.last_ns = SECOND_NS + 1;
    let mut after = flow(2, 0, 0);
    after.last_ns = 2 * SECOND_NS;
    let earlier = sample(SECOND_NS, NicCounters::default(), Vec::new());
    let now = sample(3 * SECOND_NS, NicCounters::default(), vec![before, after]);
    let world = World::between(&earlier, &now, SECOND_NS + SECOND_NS / 2);
    assert_eq!(world.nics[0].mapping.flows, 1);
}
