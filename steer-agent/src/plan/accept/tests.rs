use super::*;
use proptest::prelude::*;

fn pinned(cpu: CpuId) -> Life {
    Life::Pinned { cpu }
}

/// Four members, one on each of CPUs 0 to 3, under connections by CPU.
fn four(arrivals: [f64; 4]) -> GroupPlan {
    let members = (0..4u16).map(|member| (member, pinned(CpuId::from(member)))).collect();
    plan(&members, 4, &(0..).zip(arrivals).collect())
}

#[test]
fn an_even_load_is_given_whole() {
    let plan = four([100.0, 110.0, 95.0, 105.0]);
    for cpu in 0..4 {
        let member = u16::try_from(cpu).expect("small");
        assert_eq!(plan.choices[&cpu], Given { share: 1.0, members: vec![member] });
    }
    assert_eq!(plan.trial, Given::default());
    // By hash a quarter of the connections is at home by chance.
    assert_eq!((plan.achievable, plan.by_hash), (Some(1.0), Some(0.25)));
}

#[test]
fn a_hot_cpu_is_given_no_more_than_its_share() {
    // 85 % arrive on CPU 0. s of them are given, a quarter of what is left comes back by hash:
    // 0.85 s + 0.85 (1 - s) / 4 = 1.3 / 4, so s = (0.325 - 0.2125) / 0.6375 = 0.1765.
    let plan = four([850.0, 50.0, 50.0, 50.0]);
    assert!((plan.choices[&0].share - 0.1765).abs() < 2e-3, "{plan:?}");
    assert!(plan.choices[&1].share >= 1.0);
    let skew = plan.expected_skew.expect("traffic");
    assert!((skew - CAP).abs() < 0.01, "{skew}");
}

#[test]
fn too_few_connections_are_chance_and_cap_nobody() {
    // 63 connections are below 16 for each member.
    let plan = four([60.0, 1.0, 1.0, 1.0]);
    assert!(plan.choices[&0].share >= 1.0, "{plan:?}");
}

#[test]
fn workers_without_a_queue_are_not_left_out() {
    // Eight workers, four queues: each of the four could have a quarter, twice its even share. It has
    // 1.3 eighths at most, and what is left goes to all by hash.
    let members = (0..8u16).map(|member| (member, pinned(CpuId::from(member)))).collect();
    let plan = plan(&members, 8, &(0..4).map(|cpu| (cpu, 250.0)).collect());
    let given: f64 = (0..4).map(|cpu| 0.25 * plan.choices[&cpu].share).sum();
    let left_out = (1.0 - given) / 8.0;
    assert!(left_out > 0.05, "{plan:?}");
    assert!(plan.expected_skew.is_some_and(|skew| skew < CAP + 0.01));
}

#[test]
fn two_workers_on_a_cpu_share_what_arrives_there() {
    let members = BTreeMap::from([(0, pinned(0)), (1, pinned(0)), (2, pinned(1)), (3, pinned(1))]);
    let plan = plan(&members, 4, &BTreeMap::from([(0, 500.0), (1, 500.0)]));
    assert_eq!(plan.choices[&0], Given { share: 1.0, members: vec![0, 1] });
    assert_eq!(plan.achievable, Some(1.0));
}

#[test]
fn who_is_not_known_is_tried_at_its_even_share() {
    let members =
        BTreeMap::from([(0, pinned(0)), (1, Life::Unknown), (2, pinned(2)), (3, pinned(3))]);
    let first = plan(&members, 4, &BTreeMap::new());
    assert_eq!(first.trial, Given { share: 0.25, members: vec![1] });
    assert_eq!((first.achievable, first.expected_skew), (None, None), "no traffic yet");
    let roaming = Life::Roaming { cpus: "0-1".parse().expect("valid") };
    let members = BTreeMap::from([(0, roaming.clone()), (1, roaming)]);
    let plan = plan(&members, 2, &BTreeMap::new());
    assert_eq!(plan.trial, Given { share: 0.25, members: vec![0, 1] });
    assert_eq!(plan.choices, BTreeMap::new());
}

#[test]
fn one_socket_is_nothing_to_choose_from() {
    let members = BTreeMap::from([(0, pinned(0))]);
    let alone = plan(&members, 1, &BTreeMap::from([(0, 1000.0)]));
    assert_eq!(alone, GroupPlan::default());
    // With another that cannot be given any, this one is given no more than its share.
    let beside = plan(&members, 2, &BTreeMap::from([(0, 1000.0)]));
    assert!(beside.choices[&0].share < 0.5, "{beside:?}");
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let life = prop_oneof![
        4 => (0u32..8).prop_map(pinned),
        1 => Just(Life::Unknown),
        1 => Just(Life::Roaming { cpus: "0-3".parse().expect("valid") }),
    ];
    prop::collection::vec(life, 2..24)
}

proptest! {
    #[test]
    fn nobody_is_expected_to_have_more_than_the_cap(
        lives in lives(),
        arrivals in prop::collection::btree_map(0u32..8, 500.0f64..1e6, 1..8),
    ) {
        let members: BTreeMap<u16, Life> = (0..).zip(lives).collect();
        let plan = plan(&members, members.len(), &arrivals);
        for given in plan.choices.values().chain([&plan.trial]) {
            prop_assert!((0.0..=1.0).contains(&given.share));
        }
        // Shares are rounded to a 1024th of what arrives on a CPU, which may be all.
        let rounding = members.len() as f64 / 1024.0;
        prop_assert!(plan.expected_skew.is_some_and(|skew| skew <= CAP + rounding), "{plan:?}");
        let (with, without) = (plan.achievable.expect("traffic"), plan.by_hash.expect("traffic"));
        prop_assert!(with <= 1.0 + 1e-9 && with + 1e-9 >= without * (1.0 - plan.trial.share));
    }
}
