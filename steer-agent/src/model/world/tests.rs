//! Worked examples of two samples and what follows.

use super::*;
use crate::model::testkit::flow;
use crate::model::{CpuSet, Flow, NicCounters, Queue, Rss, TcpSegments};

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
        since_ns: 0,
        topology: Topology::regular(1, 4, 1),
        softirq_ns: Some((0..4).map(|cpu| (cpu, at_ns / 10)).collect()),
        tcp: Some(TcpSegments { sent: at_ns / 1000, retransmitted: at_ns / 100_000 }),
        nics: vec![NicSample { nic, counters }],
        flows,
        listening: Some([(6, 9000)].into()),
        health: vec![("table_full".to_owned(), at_ns / SECOND_NS)],
        ..Sample::default()
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
    assert!((world.tcp.expect("known").share() - 0.01).abs() < 1e-9);
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

#[test]
fn what_young_flows_consumed_is_load_and_no_demand() {
    // Bucket 1 (queue 1): 200 consumed on CPU 3 in two seconds, 40 of them by a flow that was seen
    // for 10 ms. 400 packets came all the same.
    let mut young = flow(1, 1, 3);
    (young.first_ns, young.last_ns, young.consumed) = (2 * SECOND_NS, 2_010_000_000, 40);
    let mut lasting = flow(5, 1, 3);
    (lasting.first_ns, lasting.last_ns, lasting.consumed) = (SECOND_NS, 2 * SECOND_NS, 160);
    let nic = &world(&[(1, 3, 200)], vec![young, lasting]).nics[0];
    assert_eq!(nic.demand_samples, 160);
    assert_eq!(nic.demand_per_s.as_ref().expect("known")[1], [(3, 80.0)]);
    assert!((nic.young_share - 0.2).abs() < 1e-9);
    assert!((nic.load_per_s.as_ref().expect("known")[1] - 200.0).abs() < 1e-9);
}

#[test]
fn who_was_there_when_observing_began_is_not_young() {
    let mut seen_first = flow(1, 1, 3);
    seen_first.first_ns = SECOND_NS + 100_000_000;
    (seen_first.last_ns, seen_first.consumed) = (seen_first.first_ns + 20_000_000, 40);
    let earlier = sample(SECOND_NS, counters(&[]), Vec::new());
    let mut now = sample(3 * SECOND_NS, counters(&[(1, 3, 200)]), vec![seen_first]);
    assert_eq!(World::between(&earlier, &now, 0).nics[0].demand_samples, 160);
    now.since_ns = SECOND_NS;
    assert_eq!(World::between(&earlier, &now, 0).nics[0].demand_samples, 200);
}

#[test]
fn flows_are_told_heaviest_first_with_age_and_side() {
    let mut served = flow(1, 1, 3);
    (served.last_ns, served.consumed) = (2 * SECOND_NS, 100);
    let mut outbound = flow(2, 0, 2);
    (outbound.last_ns, outbound.consumed) = (2 * SECOND_NS, 300);
    outbound.addr.local.set_port(41_000);
    let nic = &world(&[(1, 3, 200)], vec![served, outbound]).nics[0];
    let told: Vec<_> = nic.flows.iter().map(|flow| (flow.per_s, flow.accepted)).collect();
    assert_eq!(told, [(150.0, Some(false)), (50.0, Some(true))]);
    assert!((nic.flows[0].age_s - 2.0).abs() < 1e-9);
}

#[test]
fn residency_falls_with_every_move_of_the_consumer() {
    let with_moves = |moves: u64| {
        let mut flow = flow(1, 1, 3);
        (flow.last_ns, flow.consumed, flow.consumer_moves) = (2 * SECOND_NS, 1000, moves);
        world(&[(1, 3, 1000)], vec![flow]).nics[0].residency.expect("consumed")
    };
    // One cut: the longer piece of a stick broken at random is three quarters of it on average.
    assert!((with_moves(0) - 1.0).abs() < 1e-9);
    assert!((with_moves(1) - 0.75).abs() < 1e-9);
    // (1 + 1/2 + 1/3 + 1/4 + 1/5) / 5 = 0.457: the first below one half.
    assert!((with_moves(4) - 137.0 / 300.0).abs() < 1e-9);
    assert!(with_moves(3) > 0.5);
    assert!(with_moves(900) < 0.01);
    assert_eq!(world(&[], Vec::new()).nics[0].residency, None);
}
