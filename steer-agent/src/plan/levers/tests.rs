//! The levers' figures against entries of the tables in docs/planner.md, recomputed by a small
//! generator of the same traffic, and what is said of them.

use super::*;
use crate::model::testkit::flow as testkit_flow;
use crate::model::{Mapping, Nic, Queue, QueueId, QueueWorld, Rss, Topology};
use crate::plan::{Experience, Host, plan};
use crate::policy::Policy;

/// Numbers that look random, from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// Rates of flows: all alike, or Pareto with this exponent and no flow above 1/16 of all.
fn rates(count: usize, alpha: Option<f64>, random: &mut Random) -> Vec<f64> {
    let Some(alpha) = alpha else { return vec![1.0; count] };
    let mut rates: Vec<f64> = (0..count).map(|_| random.unit().powf(-1.0 / alpha)).collect();
    let most = rates.iter().sum::<f64>() / 16.0;
    for rate in &mut rates {
        *rate = rate.min(most);
    }
    rates
}

/// Sixteen queues on as many CPUs of one cache, flows hashed and consumed at random. `accepted` says
/// for each flow whether this host accepted it.
fn world(
    buckets: usize,
    rates: &[f64],
    accepted: impl Fn(usize) -> Option<bool>,
    random: &mut Random,
) -> NicWorld {
    let mut demand = vec![BTreeMap::new(); buckets];
    let mut flows = Vec::new();
    for (number, rate) in rates.iter().enumerate() {
        let (bucket, cpu) = (random.below(buckets), random.below(16));
        let consumer_cpu = CpuId::try_from(cpu).expect("small");
        *demand[bucket].entry(consumer_cpu).or_insert(0.0) += rate;
        let mut addr = testkit_flow(0, 0, 0).addr;
        let (port, client) = (1 + number % 50_000, number / 50_000);
        let client = std::net::Ipv4Addr::from(0x0a00_0002 + u32::try_from(client).expect("few"));
        addr.remote = (client, u16::try_from(port).expect("a port")).into();
        flows.push(FlowWorld {
            addr,
            bucket: Some(bucket),
            queue: None,
            consumer_cpu,
            per_s: *rate,
            age_s: 60.0,
            moves_per_s: 0.0,
            accepted: accepted(number),
        });
    }
    let demand: Vec<Vec<(CpuId, f64)>> =
        demand.into_iter().map(|row| row.into_iter().collect()).collect();
    let load = demand.iter().map(|row| row.iter().map(|(_, rate)| rate).sum()).collect();
    NicWorld {
        nic: Nic {
            rss: Some(Rss { table: (0..16).cycle().take(buckets).collect(), ..Rss::default() }),
            queues: (0..16).map(|id| Queue { id, ..Queue::default() }).collect(),
            ..Nic::default()
        },
        queues: (0..16 as QueueId)
            .map(|queue| QueueWorld { queue, softirq_cpu: Some(queue), ..QueueWorld::default() })
            .collect(),
        mapping: Mapping { checked: 1000, agreeing: 1000, flows: 16, ..Mapping::default() },
        load_per_s: Some(load),
        demand_per_s: Some(demand),
        demand_samples: 100_000,
        flows,
        ..NicWorld::default()
    }
}

/// The levers without a load limit, as the tables have them.
fn levers_of(world: &NicWorld) -> Levers {
    let topology = Topology::regular(1, 16, 1);
    let policy = Policy { load_slack: 1e9, ..Policy::default() };
    let experience = Experience::default();
    let demand = world.demand_per_s.as_deref().expect("known");
    let load = world.load_per_s.as_deref().expect("known");
    let traffic = Traffic::new(demand, load, &world.queues);
    let setting = Setting {
        world,
        host: &Host::alone(&topology, None),
        policy: &policy,
        experience: &experience,
        table: &world.nic.rss.as_ref().expect("a table").table,
        demand,
        load,
        traffic: &traffic,
    };
    levers(&setting, demand, load, &mut Workspace::default()).expect("traffic")
}

/// Means of the levers over a few seeds: heavy tails differ from one to the next.
fn mean(
    seeds: u64,
    make: impl Fn(&mut Random) -> NicWorld,
) -> (f64, f64, Option<f64>, Option<f64>) {
    let all: Vec<Levers> =
        (1..=seeds).map(|seed| levers_of(&make(&mut Random(seed * 0x9e37_79b9)))).collect();
    let mean = |of: &dyn Fn(&Levers) -> f64| all.iter().map(of).sum::<f64>() / seeds as f64;
    let optional = |of: &dyn Fn(&Levers) -> Option<f64>| {
        all.iter().map(of).sum::<Option<f64>>().map(|sum| sum / seeds as f64)
    };
    (
        mean(&|levers| levers.table),
        mean(&|levers| levers.pins[0].share),
        optional(&|levers| levers.accept),
        optional(&|levers| levers.accept_and_pins),
    )
}

fn assert_near(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 0.05, "{what}: {found:.3}, in the table {expected}");
}

#[test]
fn rules_reach_what_the_table_of_rules_says() {
    // Sixteen CPUs: buckets, flows, exponent, table alone, with 128 rules.
    for (buckets, flows, alpha, table, pinned) in [
        (128, 1_000, None, 0.261, 0.389),
        (128, 1_000, Some(1.2), 0.612, 0.775),
        (512, 1_000, None, 0.501, 0.629),
        (512, 1_000, Some(1.2), 0.782, 0.888),
        (128, 10_000, None, 0.117, 0.130),
        (128, 10_000, Some(1.2), 0.354, 0.461),
        (512, 10_000, Some(1.2), 0.502, 0.567),
    ] {
        let (found, with_rules, accept, both) = mean(5, |random| {
            let rates = rates(flows, alpha, random);
            world(buckets, &rates, |_| None, random)
        });
        let what = format!("{buckets} buckets, {flows} flows, {alpha:?}");
        assert_near(&format!("{what}, table"), found, table);
        assert_near(&format!("{what}, 128 rules"), with_rules, pinned);
        assert_eq!((accept, both), (None, None), "who accepted is not known");
    }
}

#[test]
fn accept_steering_reaches_what_the_table_of_load_balancers_says() {
    // Back-ends carry half the packets, 20 000 accepted clients the other half. The table does not
    // say how their rates are distributed; with exponents of 3 and 1.5 all of its rows come out.
    for (buckets, back_ends, expected) in [
        (128, 64, [0.50, 0.62, 0.93, 1.00]),
        (128, 256, [0.31, 0.54, 0.77, 0.995]),
        (512, 64, [0.63, 0.67, 0.98, 1.00]),
        (512, 1024, [0.34, 0.42, 0.77, 0.85]),
    ] {
        let (table, pins, accept, both) = mean(2, |random| {
            let half = |rates: Vec<f64>| -> Vec<f64> {
                let sum: f64 = rates.iter().sum();
                rates.into_iter().map(|rate| 10_000.0 * rate / sum).collect()
            };
            let mut all = half(rates(back_ends, Some(3.0), random));
            all.append(&mut half(rates(20_000, Some(1.5), random)));
            world(buckets, &all, |number| Some(number >= back_ends), random)
        });
        let found = [table, pins, accept.unwrap_or(0.0), both.unwrap_or(0.0)];
        let names = ["table", "128 rules", "accept", "both"];
        for ((found, expected), name) in found.into_iter().zip(expected).zip(names) {
            assert_near(
                &format!("{buckets} buckets, {back_ends} back-ends, {name}"),
                found,
                expected,
            );
        }
    }
}

#[test]
fn a_sentence_says_it() {
    let levers = Levers {
        table: 0.31,
        pins: vec![PinLever { rules: 128, share: 0.54 }],
        accept: Some(0.77),
        accept_and_pins: Some(0.995),
        ..Levers::default()
    };
    assert_eq!(
        levers.to_string(),
        "table 0.31, with 128 pins 0.54, with accept steering 0.77, with both 0.99"
    );
    let unknown = Levers { table: 0.31, ..Levers::default() };
    assert_eq!(unknown.to_string(), "table 0.31");
}

#[test]
fn the_advice_goes_by_flows_per_bucket() {
    let advice = |flows: usize, make: fn(&mut NicWorld)| {
        let mut random = Random(7);
        let mut world = world(128, &vec![1.0; flows], |_| None, &mut random);
        make(&mut world);
        levers_of(&world).advice.unwrap_or_default()
    };
    let unchanged = |_: &mut NicWorld| {};
    let with_rules = |world: &mut NicWorld| {
        world.nic.features.insert("rx-ntuple-filter".to_owned(), true);
        world.nic.rules = Some(crate::model::RuleTable { size: 128, ..Default::default() });
    };
    assert_eq!(
        advice(128, unchanged),
        "1.0 lasting flows per bucket: table and interrupts are enough"
    );
    assert_eq!(
        advice(1024, with_rules),
        "8.0 lasting flows per bucket: exact-match rules close the gap (--pins; not yet run on \
         hardware)"
    );
    assert!(advice(1024, unchanged).contains("would close the gap, but the driver of"));
    assert_eq!(
        advice(1792, with_rules),
        "14.0 lasting flows per bucket: too many for rules: accept steering reaches more"
    );
    assert!(advice(4096, unchanged).contains("only accept steering aligns most of it"));
    let young = |world: &mut NicWorld| world.young_share = 0.8;
    assert_eq!(
        advice(128, young),
        "80 % of consumption is of flows shorter than 0.5 s: only accept steering can align them"
    );
}

#[test]
fn unknown_flows_have_no_figures_and_more_rules_a_second_one() {
    let mut random = Random(7);
    let mut world = world(128, &[1.0; 512], |_| Some(false), &mut random);
    world.nic.rules = Some(crate::model::RuleTable { size: 1024, ..Default::default() });
    let levers = levers_of(&world);
    let counts: Vec<usize> = levers.pins.iter().map(|lever| lever.rules).collect();
    assert_eq!(counts, [128, 1024]);
    assert!(levers.pins[1].share > 0.999, "a rule for each: {levers:?}");
    assert_eq!(levers.accept, Some(levers.table), "this host accepted none");
    assert!((levers.flows_known - 1.0).abs() < 1e-9);
    world.flows.clear();
    let levers = levers_of(&world);
    assert!(levers.pins.is_empty() && levers.accept.is_none() && levers.advice.is_none());
}

#[test]
fn no_lever_is_worse_than_the_one_before() {
    for seed in 1..20 {
        let mut random = Random(seed);
        let rates = rates(300, Some(1.3), &mut random);
        let mut world = world(64, &rates, |number| Some(number % 3 == 0), &mut random);
        world.nic.name = "eth0".to_owned();
        let topology = Topology::regular(2, 8, 1);
        let host = Host::alone(&topology, None);
        let made = plan(&world, &host, &Policy::default(), &Experience::default());
        let levers = made.levers.expect("traffic");
        assert!(levers.pins[0].share >= levers.table, "{levers:?}");
        assert!(levers.accept_and_pins >= levers.accept, "{levers:?}");
        assert!(levers.pins[0].share <= 1.0 && levers.accept_and_pins <= Some(1.0));
    }
}
