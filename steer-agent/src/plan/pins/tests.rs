//! Worked examples of choosing rules, and the properties that it guarantees.

use proptest::prelude::*;

use super::choice::Choice;
use super::*;
use crate::model::testkit::flow as testkit_flow;
use crate::model::{Mapping, Nic, Queue, QueueId, Rss, RuleContent, Topology};
use crate::plan::setting::Setting;
use crate::plan::{Change, Experience, Host, Plan, Step, Target, Value, plan};
use crate::policy::Policy;

/// A flow: bucket, consumer CPU, consumption per second, age.
type Told = (usize, CpuId, f64, f64);

/// Four queues on CPUs 0 to 3 of one cache with eight CPUs, eight buckets striped over them, flows as
/// told, a packet for every consumption, and a rule table with room for `size`.
struct Bench {
    world: NicWorld,
    own: Vec<OwnRule>,
    experience: Experience,
    policy: Policy,
    topology: Topology,
    cap: f64,
}

fn addr(number: usize) -> FlowAddr {
    testkit_flow(u32::try_from(number).expect("few flows"), 0, 0).addr
}

impl Bench {
    fn new(flows: &[Told], size: u32, driver_numbers: bool) -> Self {
        let mut demand = vec![Vec::new(); 8];
        for (bucket, cpu, per_s, _) in flows {
            let row: &mut Vec<(CpuId, f64)> = &mut demand[*bucket];
            match row.iter_mut().find(|(id, _)| id == cpu) {
                Some((_, rate)) => *rate += per_s,
                None => row.push((*cpu, *per_s)),
            }
        }
        let load = demand.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect();
        let flow = |(number, (bucket, consumer_cpu, per_s, age_s)): (usize, &Told)| FlowWorld {
            addr: addr(number),
            bucket: Some(*bucket),
            queue: QueueId::try_from(bucket % 4).ok(),
            consumer_cpu: *consumer_cpu,
            per_s: *per_s,
            age_s: *age_s,
            moves_per_s: 0.0,
            accepted: None,
        };
        let rules = RuleTable { size, driver_numbers, ..RuleTable::default() };
        let world = NicWorld {
            nic: Nic {
                name: "eth0".to_owned(),
                features: [("rx-ntuple-filter".to_owned(), true)].into(),
                rules: Some(rules),
                rss: Some(Rss { table: (0..4).cycle().take(8).collect(), ..Rss::default() }),
                // Without interrupts to move: what the table leaves is what is to be seen.
                queues: (0..4).map(|id| Queue { id, ..Queue::default() }).collect(),
                ..Nic::default()
            },
            queues: (0..4)
                .map(|queue| QueueWorld {
                    queue,
                    softirq_cpu: Some(queue),
                    ..QueueWorld::default()
                })
                .collect(),
            mapping: Mapping { checked: 1000, agreeing: 1000, flows: 16, ..Mapping::default() },
            load_per_s: Some(load),
            demand_per_s: Some(demand),
            demand_samples: 10_000,
            flows: flows.iter().enumerate().map(flow).collect(),
            ..NicWorld::default()
        };
        Self {
            world,
            own: Vec::new(),
            experience: Experience::default(),
            policy: Policy { pins: 128, ..Policy::default() },
            topology: Topology::regular(1, 8, 1),
            cap: 1e9,
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&Setting<'_>) -> T) -> T {
        let host = Host::alone(&self.topology, None);
        let demand = self.world.demand_per_s.as_deref().expect("known");
        let load = self.world.load_per_s.as_deref().expect("known");
        let traffic = self.experience.pins().split(demand, load, &self.world.queues);
        let rss = self.world.nic.rss.as_ref().expect("a table");
        ask(&Setting {
            world: &self.world,
            host: &host,
            policy: &self.policy,
            experience: &self.experience,
            table: &rss.table,
            demand: &traffic.demand,
            load: &traffic.load,
            traffic: &traffic,
        })
    }

    /// The choice while the table stays as it is.
    fn choose(&self) -> Choice {
        self.with(|setting| choose(setting, &setting.present(), &|_| self.cap))
    }

    /// Packets per second by CPU, with rules in force.
    fn carried(&self) -> BTreeMap<CpuId, f64> {
        self.with(|setting| setting.carried(&setting.present())).into_iter().collect()
    }

    /// Writes `steps` as a driver would, and sees the next window.
    fn follow(&mut self, steps: &[Step]) {
        for Step { change: Change { target, from, to }, .. } in steps {
            let (Target::Rule { location }, Value::Rule(from), Value::Rule(to)) =
                (target, from, to)
            else {
                continue;
            };
            let table = self.world.nic.rules.as_mut().expect("a table");
            let number = match location {
                Location::At(number) => *number,
                Location::Any(flow) => table.of(flow).map_or_else(
                    || (0..table.size).find(|at| !table.rules.contains_key(at)).expect("room"),
                    |(number, _)| number,
                ),
            };
            assert_eq!(table.at(number), *from, "{location}");
            self.own.retain(|(own, _)| own != location);
            match to {
                RuleContent::Empty => drop(table.rules.remove(&number)),
                RuleContent::Exact(rule) => {
                    assert!(
                        number < table.size
                            && !table.driver_numbers == matches!(location, Location::At(_))
                    );
                    table.rules.insert(number, Some(*rule));
                    self.own.push((*location, vec![*rule]));
                }
                RuleContent::Other => panic!("no such rule can be written"),
            }
        }
        self.see();
    }

    /// The next window: flows with rules arrive where these say.
    fn see(&mut self) {
        let table = self.world.nic.rules.clone().expect("a table");
        for flow in &mut self.world.flows {
            if let Some((_, rule)) = table.of(&flow.addr) {
                flow.queue = Some(rule.queue);
            }
        }
        self.experience.observe_rules(&self.own, &self.world);
    }

    /// Flow and queue of every rule in force.
    fn rules(&self) -> Vec<(usize, QueueId)> {
        let table = self.world.nic.rules.as_ref().expect("a table");
        let number = |rule: &Rule| {
            (0..1000).find(|number| addr(*number) == rule.flow).expect("a known flow")
        };
        let mut rules: Vec<(usize, QueueId)> =
            table.rules.values().flatten().map(|rule| (number(rule), rule.queue)).collect();
        rules.sort_unstable();
        rules
    }
}

#[test]
fn the_most_worthy_flows_are_taken() {
    // All arrive on CPU 0 (bucket 0). Worth: 100/s * 1 * 10 s = 1000, 300/s * 1 * 6 s = 1800, and
    // 50/s * 1 * 100 s, of which 30 count, = 1500. Two rules: flows 1 and 2.
    let flows = [(0, 1, 100.0, 10.0), (0, 2, 300.0, 6.0), (0, 3, 50.0, 100.0)];
    let mut bench = Bench::new(&flows, 1024, false);
    bench.policy.pins = 2;
    let choice = bench.choose();
    assert!((choice.gain_per_s - 350.0).abs() < 1e-9, "{choice:?}");
    let first = &choice.steps[0];
    assert_eq!(first.change.target.to_string(), "rule 1023", "from the top");
    assert_eq!(first.change.to.to_string(), "tcp 10.0.0.1:9000 <- 10.0.0.2:40001 to queue 2");
    assert_eq!(first.reason, "CPU 2 consumes 300 /s of it, and by the table it arrives on CPU 0");
    bench.follow(&choice.steps);
    assert_eq!(bench.rules(), [(1, 2), (2, 3)]);
    assert_eq!(bench.experience.pins().len(), 2);
}

#[test]
fn a_young_flow_never_gets_a_rule() {
    let bench = Bench::new(&[(0, 1, 1e6, 4.9), (0, 1, 1.0, 5.0)], 1024, false);
    let choice = bench.choose();
    assert_eq!(choice.steps.len(), 1);
    assert!(choice.steps[0].change.to.to_string().contains("40001"));
}

#[test]
fn a_flow_on_its_cpu_never_gets_a_rule() {
    // The second's consumer, CPU 6, has no queue, and none is nearer than where it arrives.
    let bench = Bench::new(&[(1, 1, 1000.0, 60.0), (2, 6, 1000.0, 60.0)], 1024, false);
    assert_eq!(bench.choose(), Choice::default());
}

#[test]
fn nothing_is_done_unasked_and_what_is_missing_is_said() {
    let flows = [(0, 1, 1000.0, 60.0)];
    let mut bench = Bench::new(&flows, 1024, false);
    bench.policy.pins = 0;
    assert_eq!(bench.choose(), Choice::default(), "off is the default");
    assert_eq!(Policy::default().pins, 0);

    let bench = Bench::new(&flows, 63, false);
    let choice = bench.choose();
    assert_eq!(choice.steps, []);
    assert!(choice.reasons[0].contains("room for 63 rules"), "{choice:?}");

    let mut bench = Bench::new(&flows, 1024, false);
    bench.world.nic.features.insert("rx-ntuple-filter".to_owned(), false);
    bench.world.nic.rules = None;
    let choice = bench.choose();
    assert_eq!(choice.steps, []);
    assert!(choice.reasons[0].contains("switched off on eth0"), "{choice:?}");
}

#[test]
fn a_roaming_consumer_gets_no_rule() {
    let mut bench = Bench::new(&[(0, 1, 1000.0, 60.0)], 1024, false);
    bench.world.flows[0].moves_per_s = 3.0;
    assert_eq!(bench.choose().steps, []);
}

#[test]
fn never_more_than_the_policy_the_table_and_the_period_allow() {
    let flows: Vec<Told> =
        (0..400u32).map(|number| (0, 1, f64::from(1000 - number), 60.0)).collect();
    // 400 worthy flows, 300 places, 4 of them somebody else's: 256 at first, the heaviest.
    for driver_numbers in [false, true] {
        let mut bench = Bench::new(&flows, 300, driver_numbers);
        bench.policy.pins = 1000;
        let table = bench.world.nic.rules.as_mut().expect("a table");
        table.rules = (296..300).map(|number| (number, None)).collect();
        let choice = bench.choose();
        assert_eq!(choice.steps.len(), MOST_OPERATIONS);
        assert_eq!(choice.reasons, ["40 rules wait: at most 256 operations in one period"]);
        bench.follow(&choice.steps);
        assert_eq!(bench.rules().last(), Some(&(255, 1)));
        let choice = bench.choose();
        assert_eq!(choice.steps.len(), 40);
        bench.follow(&choice.steps);
        assert_eq!(bench.world.nic.rules.as_ref().map(RuleTable::free), Some(0));
        assert_eq!(bench.choose(), Choice::default());
        // Fewer are wanted: the least worthy go.
        bench.policy.pins = 100;
        let choice = bench.choose();
        assert_eq!(choice.steps.len(), 196);
        bench.follow(&choice.steps);
        assert_eq!(bench.rules().last(), Some(&(99, 1)));
        // None are: all go, and the others' stay.
        bench.policy.pins = 0;
        bench.follow(&bench.choose().steps);
        assert_eq!(bench.world.nic.rules.as_ref().map(|table| table.rules.len()), Some(4));
    }
}

#[test]
fn no_cpu_is_given_more_than_its_cap() {
    // CPU 1 has 300/s of its own and a cap of 500: one flow of 150 fits, a second does not; the one
    // of 40 that is worth less does.
    let flows = [(1, 1, 300.0, 60.0), (0, 1, 150.0, 60.0), (2, 1, 140.0, 60.0), (0, 1, 40.0, 60.0)];
    let mut bench = Bench::new(&flows, 1024, false);
    bench.cap = 500.0;
    bench.follow(&bench.choose().steps);
    assert_eq!(bench.rules(), [(1, 1), (3, 1)]);
    assert!((bench.carried()[&1] - 490.0).abs() < 1e-9, "{:?}", bench.carried());
}

#[test]
fn whoever_leaves_makes_room() {
    // CPUs 0 and 1 are full, and each has what the other consumes: they change places.
    let flows =
        [(0, 1, 100.0, 60.0), (1, 0, 100.0, 60.0), (0, 0, 400.0, 60.0), (1, 1, 400.0, 60.0)];
    let mut bench = Bench::new(&flows, 1024, false);
    bench.cap = 600.0;
    bench.follow(&bench.choose().steps);
    assert_eq!(bench.rules(), [(0, 1), (1, 0)]);
    assert!(bench.carried().values().all(|load| *load < 500.1), "{:?}", bench.carried());
    assert_eq!(bench.choose(), Choice::default());
}

#[test]
fn a_consumer_that_moves_takes_its_rule_along() {
    for (driver_numbers, operations) in [(false, 1), (true, 2)] {
        let mut bench = Bench::new(&[(0, 1, 100.0, 60.0)], 1024, driver_numbers);
        bench.follow(&bench.choose().steps);
        assert_eq!(bench.rules(), [(0, 1)]);
        bench.world.flows[0].consumer_cpu = 3;
        bench.world.flows[0].moves_per_s = 1.0;
        bench.see();
        let choice = bench.choose();
        assert_eq!(choice.steps.len(), operations, "{choice:?}");
        assert_eq!(choice.steps[0].reason, "CPU 3 consumes it now, and queue 1 is polled on CPU 1");
        bench.follow(&choice.steps);
        assert_eq!(bench.rules(), [(0, 3)]);
        // To the CPU where the table brings it: the rule goes.
        bench.world.flows[0].consumer_cpu = 0;
        bench.see();
        bench.follow(&bench.choose().steps);
        assert_eq!(bench.rules(), []);
    }
}

#[test]
fn a_rule_goes_when_its_flow_has_gone() {
    let mut bench = Bench::new(&[(0, 1, 100.0, 60.0)], 1024, false);
    bench.follow(&bench.choose().steps);
    let flow = bench.world.flows.remove(0);
    for period in 1..PATIENCE {
        bench.see();
        assert_eq!(bench.choose().steps, [], "period {period}");
    }
    // It comes back, and the count begins anew.
    bench.world.flows.push(flow);
    bench.see();
    assert_eq!(bench.choose().steps, []);
    bench.world.flows.clear();
    for _ in 0..PATIENCE {
        bench.see();
    }
    let choice = bench.choose();
    assert_eq!(choice.steps.len(), 1);
    assert_eq!(choice.steps[0].reason, "nothing of it was consumed for 3 periods");
    bench.follow(&choice.steps);
    assert!(bench.rules().is_empty() && bench.experience.pins().is_empty());
}

#[test]
fn a_rule_that_is_not_followed_goes_for_good() {
    let mut bench = Bench::new(&[(0, 1, 100.0, 60.0)], 1024, false);
    bench.follow(&bench.choose().steps);
    for _ in 0..PATIENCE {
        bench.world.flows[0].queue = Some(0);
        bench.experience.observe_rules(&bench.own, &bench.world);
    }
    let choice = bench.choose();
    assert_eq!(choice.steps[0].reason, "its packets come by another queue all the same");
    bench.follow(&choice.steps);
    assert_eq!((bench.rules(), bench.choose().steps), (vec![], vec![]));
}

#[test]
fn rules_of_others_are_left_alone() {
    let mut bench = Bench::new(&[(0, 1, 100.0, 60.0), (0, 2, 90.0, 60.0)], 1024, false);
    let table = bench.world.nic.rules.as_mut().expect("a table");
    table.rules.insert(1023, None);
    table.rules.insert(5, Some(Rule::new(addr(0), 3)));
    let choice = bench.choose();
    assert_eq!(choice.steps.len(), 1, "flow 0 has a rule of somebody else's: {choice:?}");
    assert_eq!(choice.steps[0].change.target.to_string(), "rule 1022");
    bench.follow(&choice.steps);
    assert_eq!(bench.rules(), [(0, 3), (1, 2)]);
}

#[test]
fn lost_rules_are_set_again() {
    let mut bench = Bench::new(&[(0, 1, 100.0, 60.0)], 1024, false);
    bench.follow(&bench.choose().steps);
    bench.world.nic.rules.as_mut().expect("a table").rules.clear();
    bench.see();
    assert!(bench.experience.pins().is_empty());
    assert_eq!(bench.choose().steps.len(), 1);
}

#[test]
fn a_driver_that_refuses_is_left_in_peace_for_longer_and_longer() {
    let mut bench = Bench::new(&[(0, 1, 100.0, 60.0)], 1024, false);
    let mut rests = Vec::new();
    for _ in 0..3 {
        bench.experience.wrote_rules(false);
        let mut periods = 0;
        while bench.choose().steps.is_empty() {
            bench.see();
            periods += 1;
        }
        rests.push(periods);
    }
    assert_eq!(rests, [60, 120, 240]);
    bench.experience.wrote_rules(true);
    bench.experience.wrote_rules(false);
    assert!(bench.choose().reasons[0].starts_with("no rules for 60 more periods"));
}

#[test]
fn pinned_traffic_is_in_the_bill_of_its_queue() {
    // Bucket 0 arrives on CPU 0: 100/s of flow 0, with a rule to queue 1, and 30/s of flow 1 for CPU 0.
    let mut bench = Bench::new(&[(0, 1, 100.0, 60.0), (0, 0, 30.0, 60.0)], 1024, false);
    bench.follow(&bench.choose().steps);
    bench.with(|setting| {
        assert_eq!(setting.demand[0], [(1, 0.0), (0, 30.0)]);
        let indices = setting.indices();
        let problem = setting.problem(&indices, crate::plan::Pace::First, 0.2).expect("a problem");
        assert_eq!(problem.pins.load, [0.0, 100.0, 0.0, 0.0]);
        assert_eq!(problem.pins.consumed.row(1).collect::<Vec<_>>(), [(1, 100.0)]);
        assert_eq!((problem.load[0], setting.share(&setting.present())), (30.0, Some(1.0)));
        // Queue 1 away from CPU 1 costs a hundred distances and a share of a move of 100 packets.
        let here = problem.cost(&problem.table, &problem.affinity);
        let away = problem.cost(&problem.table, &[0, 2, 2, 3]);
        assert!((away.distance - here.distance - 100.0).abs() < 1e-9, "{here:?} {away:?}");
        assert!((away.moved - problem.kappa * 0.2 * 100.0).abs() < 1e-9, "{away:?}");
    });
}

#[test]
fn a_plan_ends_with_rules_and_promises_what_they_align() {
    // Bucket 0 is consumed on CPU 1 (200/s) and CPU 2 (180/s, one flow): the table takes it to CPU 1,
    // and the flow gets a rule to CPU 2.
    let flows = [(0, 1, 200.0, 3.0), (0, 2, 180.0, 60.0), (4, 0, 600.0, 60.0)];
    let mut bench = Bench::new(&flows, 1024, false);
    bench.policy.load_slack = 100.0;
    let host = Host::alone(&bench.topology, None);
    let made: Plan = plan(&bench.world, &host, &bench.policy, &bench.experience);
    let targets: Vec<String> =
        made.steps.iter().map(|step| step.change.target.to_string()).collect();
    assert_eq!(targets, ["indirection table", "rule 1023"]);
    assert_eq!(made.share_planned, Some(1.0), "{made:?}");
    // Without rules it is 800 of 980.
    bench.policy.pins = 0;
    let made = plan(&bench.world, &host, &bench.policy, &bench.experience);
    assert!((made.share_planned.unwrap_or(0.0) - 800.0 / 980.0).abs() < 1e-9);
}

prop_compose! {
    fn any_bench()(
        flows in prop::collection::vec((0usize..8, 0u32..8, 1.0f64..1000.0, 0.0f64..40.0), 0..60),
        size in 60u32..200,
        driver_numbers: bool,
        foreign in 0u32..10,
        pins in 0usize..80,
        cap in 100.0f64..5000.0,
        settled in any::<bool>(),
    ) -> Bench {
        let mut bench = Bench::new(&flows, size, driver_numbers);
        let table = bench.world.nic.rules.as_mut().expect("a table");
        table.rules = (0..foreign).map(|number| (number * 5, None)).collect();
        (bench.policy.pins, bench.cap) = (pins, cap);
        if settled {
            // Rules of an earlier time, when consumers were elsewhere.
            bench.follow(&bench.choose().steps);
            for (flow, cpu) in bench.world.flows.iter_mut().step_by(3).zip((0..4).cycle()) {
                flow.consumer_cpu = cpu;
            }
            let mut demand = vec![Vec::new(); 8];
            for flow in &bench.world.flows {
                demand[flow.bucket.expect("known")].push((flow.consumer_cpu, flow.per_s));
            }
            for row in &mut demand {
                let mut merged: BTreeMap<CpuId, f64> = BTreeMap::new();
                for (cpu, rate) in row.iter() {
                    *merged.entry(*cpu).or_default() += rate;
                }
                *row = merged.into_iter().collect();
            }
            bench.world.demand_per_s = Some(demand);
            bench.see();
        }
        bench
    }
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:?} pins {} cap {}",
            self.world.flows, self.world.nic.rules, self.policy.pins, self.cap
        )
    }
}

proptest! {
    #[test]
    fn the_same_world_gives_the_same_rules(bench in any_bench()) {
        prop_assert_eq!(bench.choose(), bench.choose());
    }

    #[test]
    fn choosing_again_changes_nothing(mut bench in any_bench()) {
        let choice = bench.choose();
        bench.follow(&choice.steps);
        let again = bench.choose();
        prop_assert_eq!(again.steps, []);
    }

    #[test]
    fn limits_hold_and_rules_are_deserved(mut bench in any_bench()) {
        let foreign: Vec<u32> = {
            let table = bench.world.nic.rules.as_ref().expect("a table");
            table.rules.iter().filter(|(_, rule)| rule.is_none()).map(|(at, _)| *at).collect()
        };
        let choice = bench.choose();
        prop_assert!(choice.steps.len() <= MOST_OPERATIONS);
        bench.follow(&choice.steps);
        let table = bench.world.nic.rules.as_ref().expect("a table");
        prop_assert!(bench.own.len() <= bench.policy.pins);
        prop_assert!(table.rules.len() <= table.size as usize);
        for number in foreign {
            prop_assert_eq!(table.at(number), RuleContent::Other);
        }
        let carried = bench.carried();
        for (number, queue) in bench.rules() {
            let flow = &bench.world.flows[number];
            let by_table = flow.bucket.expect("known") % 4;
            prop_assert!(flow.age_s >= LEAST_AGE_S, "young: {:?}", flow);
            prop_assert_eq!(queue, flow.consumer_cpu, "where its consumer is");
            prop_assert_ne!(u32::try_from(by_table).ok(), Some(flow.consumer_cpu), "as by the table");
            prop_assert!(carried[&queue] <= bench.cap * (1.0 + 1e-6), "over: {:?}", carried);
        }
    }
}
