//! What is shown, compared as text. After a wanted change run the tests with `STEER_ACCEPT=1` in the
//! environment and look at the difference in `golden/`.

use std::path::PathBuf;

use super::*;
use crate::model::testkit::flow;
use crate::model::{
    CpuSet, Flow, Matrix, Nic, NicCounters, NicSample, Queue, Rss, Sample, Topology, World,
};
use crate::plan::{Experience, Host, plan as make_plan};
use crate::policy::Policy;

fn golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("STEER_ACCEPT").is_some() {
        std::fs::write(&path, found).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "differs from {}", path.display());
}

/// An igb with four queues on CPUs 0 to 3; sixteen flows, each consumed two CPUs on from where it
/// arrives, 50 times a second.
fn crossed() -> World {
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
                affinity: Some("0-3".parse().expect("a list")),
                effective: Some(CpuSet::single(id)),
                xps: Some(CpuSet::default()),
                ..Queue::default()
            })
            .collect(),
        ..Nic::default()
    };
    let sample = |seconds: u64| {
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
                [number, queue, consumer].map(|n| usize::try_from(n).expect("small"));
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
            nics: vec![NicSample { nic: nic.clone(), counters }],
            flows,
            health: vec![("flow_table_full".to_owned(), 3 * seconds)],
            ..Sample::default()
        }
    };
    World::between(&sample(1), &sample(2), 1_000_000_000)
}

fn document(world: &World, state: NicState) -> Status {
    let nic = &world.nics[0];
    let plan = make_plan(
        nic,
        &Host::alone(&world.topology, None),
        &Policy::default(),
        &Experience::default(),
    );
    let mut status = NicStatus::new(world, nic, &plan, state, None);
    status.history = vec!["wrote 9 settings, 96 buckets moved".to_owned()];
    Status::new(Source::Daemon, world, vec![status])
}

#[test]
fn a_crossed_nic() {
    golden("status-crossed.txt", &status(&document(&crossed(), NicState::Steering)));
}

#[test]
fn a_crossed_nic_as_json() {
    let json = serde_json::to_string_pretty(&document(&crossed(), NicState::Steering));
    let json = json.expect("serialised");
    golden("status-crossed.json", &json);
    let back: Status = serde_json::from_str(&json).expect("what is written can be read");
    assert_eq!(back, document(&crossed(), NicState::Steering));
}

#[test]
fn a_plan_for_it() {
    let world = crossed();
    let plan_text = plan(&make_plan(
        &world.nics[0],
        &Host::alone(&world.topology, None),
        &Policy::default(),
        &Experience::default(),
    ));
    golden("plan-crossed.txt", &plan_text);
}

#[test]
fn a_silent_nic() {
    let mut world = crossed();
    let still = World::between(&Sample::default(), &Sample::default(), 0);
    world.nics[0].alignment = crate::model::Alignment::default();
    world.nics[0].mismatches.clear();
    world.nics[0].mapping = crate::model::Mapping::default();
    world.health = still.health;
    golden("status-silent.txt", &status(&document(&world, NicState::Observing)));
}
