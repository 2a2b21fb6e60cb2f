//! Exact-match rules in the daemon's hands, on the fake machine.

use super::*;
use crate::model::testkit::flow;
use crate::model::{FlowWorld, Mapping, QueueWorld, Rss, RuleTable, Topology};
use crate::sys::fake::{FakeMachine, FakeNic};

/// Bucket 0 arrives on CPU 0; CPU 1 consumes 200 /s of it, and one flow of CPU 2 has 180 /s.
fn world(machine: &FakeMachine) -> NicWorld {
    let mut demand = vec![Vec::new(); 128];
    demand[0] = vec![(1, 200.0), (2, 180.0)];
    for (bucket, cpu) in [(10, 0), (40, 1), (70, 2), (100, 3)] {
        demand[bucket] = vec![(cpu, 500.0)];
    }
    let load = demand.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect();
    let cpus = |irq| machine.irq_affinity(irq).expect("there");
    let mut features = std::collections::BTreeMap::new();
    features.insert("rx-ntuple-filter".to_owned(), true);
    let table = machine.rules("eth0").expect("there");
    NicWorld {
        nic: Nic {
            name: "eth0".to_owned(),
            up: true,
            features,
            // A driver that lists rules and takes none is one that refuses.
            rules: table.or(Some(RuleTable { size: 1024, ..RuleTable::default() })),
            rss: machine
                .rss_table("eth0")
                .expect("there")
                .map(|table| Rss { table, ..Rss::default() }),
            queues: (0..4)
                .map(|id| crate::model::Queue {
                    id,
                    irq: Some(24 + id),
                    affinity: Some(cpus(24 + id)),
                    ..Default::default()
                })
                .collect(),
            ..Nic::default()
        },
        queues: (0..4)
            .map(|queue| QueueWorld { queue, softirq_cpu: Some(queue), ..QueueWorld::default() })
            .collect(),
        mapping: Mapping { checked: 1000, agreeing: 1000, flows: 16, ..Mapping::default() },
        load_per_s: Some(load),
        demand_per_s: Some(demand),
        demand_samples: 10_000,
        flows: vec![FlowWorld {
            addr: flow(1, 0, 2).addr,
            bucket: Some(0),
            queue: None,
            consumer_cpu: 2,
            per_s: 180.0,
            age_s: 60.0,
            moves_per_s: 0.0,
            accepted: None,
        }],
        ..NicWorld::default()
    }
}

struct Bench {
    machine: FakeMachine,
    steered: Steered,
    policy: Policy,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(size: Option<u32>) -> Self {
        let machine = FakeMachine::igb4();
        if let Some(size) = size {
            machine.alter_nic("eth0", |nic| *nic = FakeNic::igb(2, 4).with_rules(size, false));
        }
        let dir = tempfile::tempdir().expect("a directory");
        let device = machine.identity("eth0").expect("there");
        let boot_id = machine.boot_id().expect("booted");
        let steered = Steered {
            name: "eth0".to_owned(),
            ifindex: 2,
            holding: Holding::default(),
            last: None,
            wake: 0,
            _owner: None,
            journal: Journal::new(dir.path(), "eth0", device, boot_id),
            dry_run: false,
            state: NicState::Observing,
            reason: None,
            history: VecDeque::new(),
            last_change: None,
            waiting: None,
            just_written: false,
            settling: false,
            experience: Experience::default(),
            workspace: Workspace::default(),
            planning: None,
            expected: None,
            rest: 0,
            harms: 0,
            last_said: None,
            left_behind: 0,
            tally: Tally::default(),
            levers: None,
        };
        let policy = Policy { pins: 16, load_slack: 100.0, ..Policy::default() };
        Self { machine, steered, policy, _dir: dir }
    }

    /// One window.
    fn tick(&mut self) {
        let topology = Topology::regular(1, 4, 1);
        let host = Host::alone(&topology, None);
        let neighbours = Neighbours::default();
        let hand = Hand {
            port: &self.machine,
            policy: &self.policy,
            neighbours: &neighbours,
            shut: None,
            say: &|_| {},
        };
        let _plan = self.steered.tick(&world(&self.machine), &host, &hand);
    }

    fn rules(&self) -> Vec<String> {
        let table = self.machine.rules("eth0").expect("there").unwrap_or_default();
        table.rules.iter().filter_map(|(at, rule)| Some(format!("{at}: {}", (*rule)?))).collect()
    }
}

#[test]
fn a_rule_is_set_kept_and_put_back() {
    let mut bench = Bench::new(Some(1024));
    let before = bench.machine.snapshot();
    for _ in 0..6 {
        bench.tick();
        assert_eq!(bench.rules(), ["1023: tcp 10.0.0.1:9000 <- 10.0.0.2:40001 to queue 2"]);
    }
    assert_eq!(bench.steered.experience.pins().len(), 1);
    assert_eq!(bench.steered.state().0, NicState::Steering);
    // Not wanted any more: gone, and out of the journal.
    bench.policy.pins = 0;
    for _ in 0..3 {
        bench.tick();
    }
    assert_eq!(bench.rules(), [""; 0]);
    assert!(apply::own_rules(&bench.steered.journal).is_empty());
    bench.policy.pins = 16;
    for _ in 0..3 {
        bench.tick();
    }
    assert_eq!(bench.rules().len(), 1);
    let Bench { machine, steered, .. } = bench;
    assert!(steered.finish(&machine, true, &|_| {}));
    let ((nics, irqs), (nics_before, irqs_before)) = (machine.snapshot(), before);
    assert_eq!(
        (&nics["eth0"].rules, &nics["eth0"].table),
        (&nics_before["eth0"].rules, &nics_before["eth0"].table)
    );
    assert!(irqs.iter().all(|(irq, now)| now.affinity == irqs_before[irq].affinity));
}

#[test]
fn a_refused_rule_never_costs_the_table() {
    let mut bench = Bench::new(None);
    bench.tick();
    let (_, irqs) = bench.machine.snapshot();
    assert!(irqs.values().all(|irq| irq.affinity.as_single().is_some()), "interrupts are set");
    assert_eq!(bench.steered.state().0, NicState::Steering);
    assert!(bench.steered.is_waiting(), "and judged as ever");
    let history: Vec<&String> = bench.steered.history.iter().map(|event| &event.what).collect();
    assert!(
        history[0].starts_with("an exact-match rule failed, all were taken back"),
        "{history:?}"
    );
    let tried = bench.machine.attempts();
    for _ in 0..20 {
        bench.tick();
    }
    assert_eq!(bench.machine.attempts(), tried, "the driver is left in peace");
}

#[test]
fn a_rule_that_somebody_else_takes_over_is_contested() {
    let mut bench = Bench::new(Some(1024));
    bench.tick();
    bench.machine.alter_nic("eth0", |nic| {
        if let Some(table) = &mut nic.rules {
            table.rules.insert(1023, None);
        }
    });
    bench.tick();
    bench.tick();
    assert_eq!(bench.steered.state().0, NicState::Contested);
    let Bench { machine, steered, .. } = bench;
    assert!(!steered.finish(&machine, true, &|_| {}), "not all is as before");
    let table = machine.rules("eth0").expect("there").expect("a table");
    assert_eq!(table.at(1023), crate::model::RuleContent::Other, "theirs stays");
}

#[test]
fn rules_that_a_reset_took_are_set_again_and_those_that_somebody_deleted_are_not() {
    let mut bench = Bench::new(Some(1024));
    bench.tick();
    for _ in 0..3 {
        bench.tick();
    }
    bench.steered.wake = 5;
    bench.machine.lose_rules("eth0");
    for _ in 0..3 {
        bench.tick();
    }
    assert_eq!((bench.rules().len(), bench.steered.state().0), (1, NicState::Steering));
    bench.steered.wake = 0;
    bench.machine.lose_rules("eth0");
    for _ in 0..3 {
        bench.tick();
    }
    assert_eq!((bench.rules().len(), bench.steered.state().0), (0, NicState::Contested));
}

#[test]
fn other_queues_leave_rules_steers_own() {
    let mut bench = Bench::new(Some(1024));
    bench.tick();
    let Steered { holding, journal, .. } = &mut bench.steered;
    holding.begin_anew("eth0", journal, &bench.machine).expect("noted");
    assert_eq!(apply::own_rules(journal).len(), 1);
    let Bench { machine, steered, .. } = bench;
    assert!(steered.finish(&machine, true, &|_| {}));
    let table = machine.rules("eth0").expect("there").expect("a table");
    assert!(table.rules.is_empty());
}
