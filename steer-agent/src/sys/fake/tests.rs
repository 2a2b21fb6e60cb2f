//! The rules that the fake machine claims real ones have.

use super::*;

fn cpus(text: &str) -> CpuSet {
    text.parse().expect("a CPU list")
}

#[test]
fn what_is_written_is_read_back_and_logged() {
    let machine = FakeMachine::igb4();
    let table: Vec<QueueId> = (0..128).map(|bucket| bucket % 3).collect();
    machine.set_rss_table("eth0", &table).expect("accepted");
    machine.set_irq_affinity(25, &cpus("2-3")).expect("accepted");
    machine.set_xps("eth0", 1, &cpus("3")).expect("accepted");
    assert_eq!(machine.rss_table("eth0"), Ok(Some(table.clone())));
    assert_eq!(machine.irq_affinity(25), Ok(cpus("2-3")));
    assert_eq!(machine.irq_effective(25), Ok(Some(cpus("2"))), "one CPU of the set");
    assert_eq!(machine.xps("eth0", 1), Ok(Some(cpus("3"))));
    let expected = [
        Write::Table("eth0".to_owned(), table),
        Write::Affinity(25, cpus("2-3")),
        Write::Xps("eth0".to_owned(), 1, cpus("3")),
    ];
    assert_eq!(machine.log(), expected);
}

#[test]
fn a_table_must_fit_the_device() {
    let machine = FakeMachine::igb4();
    for table in [vec![4; 128], vec![0; 127], vec![0; 64], Vec::new()] {
        let error = machine.set_rss_table("eth0", &table).expect_err("does not fit");
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }
    assert_eq!(machine.attempts(), 4);
    assert_eq!(machine.log(), []);
}

#[test]
fn a_reset_is_not_the_drivers_first_table() {
    let machine = FakeMachine::igb4();
    let first = machine.rss_table("eth0").expect("read").expect("a table");
    assert_eq!((first[0], first[31], first[32], first[127]), (0, 0, 1, 3), "blocks");
    machine.reset_rss_table("eth0").expect("accepted");
    let reset = machine.rss_table("eth0").expect("read").expect("a table");
    assert_eq!(reset[..5], [0, 1, 2, 3, 0]);
}

#[test]
fn a_table_of_a_user_holds_the_ring_count() {
    let machine = FakeMachine::igb4();
    machine.set_rss_table("eth0", &[3; 128]).expect("accepted");
    let error = machine.set_rings("eth0", 2).expect_err("ring 3 is in use");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    machine.reset_rss_table("eth0").expect("accepted");
    machine.set_rings("eth0", 2).expect("nobody's table any more");
    assert_eq!(machine.rx_rings("eth0"), Ok(Some(2)));
    let table = machine.rss_table("eth0").expect("read").expect("a table");
    assert_eq!(table.iter().max(), Some(&1));
}

#[test]
fn interrupts_need_a_cpu_that_is_online_and_no_manager() {
    let machine = FakeMachine::igb4();
    let error = machine.set_irq_affinity(24, &cpus("8-9")).expect_err("offline");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    machine.alter_irq(24, |irq| irq.managed = true);
    assert!(machine.set_irq_affinity(24, &cpus("1")).expect_err("managed").is_managed_irq());
    assert!(machine.irq_affinity(99).expect_err("none").is_absent());
}

#[test]
fn xps_forgets_offline_cpus_and_needs_two_queues() {
    let machine = FakeMachine::igb4().with_nic("eth1", FakeNic::without_rss(3));
    machine.set_xps("eth0", 0, &cpus("1,9")).expect("accepted");
    assert_eq!(machine.xps("eth0", 0), Ok(Some(cpus("1"))));
    assert_eq!(machine.xps("eth1", 0), Ok(None));
    assert!(machine.set_xps("eth1", 0, &cpus("1")).expect_err("one queue").is_absent());
    assert!(machine.set_rss_table("eth1", &[0]).expect_err("no table").is_unsupported());
}

#[test]
fn faults_come_by_the_count_of_writes() {
    let machine = FakeMachine::igb4();
    machine.fail_write(2, Errno::BUSY);
    machine.ignore_write(3);
    machine.foreign_before_write(4, Write::Affinity(24, cpus("0")));
    machine.vanish_before_write(5, "eth0");
    machine.set_irq_affinity(24, &cpus("1")).expect("the first");
    let error = machine.set_irq_affinity(24, &cpus("2")).expect_err("the second");
    assert_eq!(error.errno(), Some(Errno::BUSY));
    machine.set_irq_affinity(24, &cpus("3")).expect("the third claims success");
    assert_eq!(machine.irq_affinity(24), Ok(cpus("1")), "and did nothing");
    machine.set_irq_affinity(25, &cpus("3")).expect("the fourth");
    assert_eq!(machine.irq_affinity(24), Ok(cpus("0")), "somebody else was there");
    assert!(machine.reset_rss_table("eth0").expect_err("the fifth").is_gone());
    assert!(machine.identity("eth0").expect_err("gone").is_gone());
    assert!(machine.irq_affinity(24).expect_err("gone with it").is_absent());
    assert_eq!((machine.attempts(), machine.log().len()), (5, 3));
}

#[test]
fn a_lying_driver_says_yes() {
    let machine = FakeMachine::igb4();
    machine.alter_nic("eth0", |nic| nic.ignores_table = true);
    let before = machine.rss_table("eth0");
    machine.set_rss_table("eth0", &[1; 128]).expect("so it says");
    assert_eq!(machine.rss_table("eth0"), before);
}

#[test]
fn a_reboot_is_another_boot() {
    let machine = FakeMachine::igb4();
    let before = machine.boot_id();
    machine.fail_writes_from(1, Errno::IO);
    assert!(machine.set_xps("eth0", 0, &cpus("0")).is_err());
    assert!(machine.set_xps("eth0", 0, &cpus("0")).is_err());
    machine.reboot();
    assert_ne!(machine.boot_id(), before);
}

#[test]
fn an_idle_interrupt_moves_when_it_fires() {
    let machine = FakeMachine::igb4();
    machine.alter_irq(25, |irq| irq.idle = true);
    machine.set_irq_affinity(25, &cpus("2")).expect("accepted");
    assert_eq!(machine.irq_affinity(25), Ok(cpus("2")));
    assert_eq!(machine.irq_effective(25), Ok(Some(cpus("0"))), "pending");
    machine.fire(25);
    assert_eq!(machine.irq_effective(25), Ok(Some(cpus("2"))));
}

/// The rule that sends flow `number` to `queue`.
fn rule(number: u32, queue: QueueId) -> Rule {
    Rule::new(crate::model::testkit::flow(number, 0, 0).addr, queue)
}

#[test]
fn rules_have_numbers_and_none_twice() {
    let nic = FakeNic::igb(2, 4).with_rules(3, false);
    let machine = FakeMachine::new((0..4).collect()).with_nic("eth0", nic);
    assert_eq!(machine.set_rule("eth0", Some(2), &rule(1, 1)), Ok(2));
    assert_eq!(machine.rule("eth0", 2), Ok(RuleContent::Exact(rule(1, 1))));
    assert_eq!(machine.set_rule("eth0", Some(2), &rule(1, 3)), Ok(2), "in place");
    for (location, rule, errno) in [
        (Some(1), rule(1, 0), Errno::EXIST),
        (Some(1), rule(2, 4), Errno::INVAL),
        (Some(3), rule(2, 0), Errno::NOSPC),
        (None, rule(2, 0), Errno::INVAL),
    ] {
        let error = machine.set_rule("eth0", location, &rule).expect_err("refused");
        assert_eq!(error.errno(), Some(errno), "{error}");
    }
    assert_eq!(machine.delete_rule("eth0", 1).expect_err("none").errno(), Some(Errno::NOENT));
    machine.delete_rule("eth0", 2).expect("deleted");
    assert_eq!(machine.rule("eth0", 2), Ok(RuleContent::Empty));
}

#[test]
fn a_driver_that_numbers_rules_takes_no_number() {
    let nic = FakeNic::igb(2, 4).with_rules(2, true);
    let machine = FakeMachine::new((0..4).collect()).with_nic("eth0", nic);
    let error = machine.set_rule("eth0", Some(1), &rule(1, 1)).expect_err("a number");
    assert_eq!(error.errno(), Some(Errno::INVAL));
    assert_eq!(machine.set_rule("eth0", None, &rule(1, 1)), Ok(0));
    assert_eq!(machine.set_rule("eth0", None, &rule(2, 1)), Ok(1));
    let error = machine.set_rule("eth0", None, &rule(3, 1)).expect_err("full");
    assert_eq!(error.errno(), Some(Errno::NOSPC));
    machine.lose_rules("eth0");
    let table = machine.rules("eth0").expect("there").expect("a table");
    assert_eq!((table.free(), table.rules.len()), (2, 0));
    assert_eq!(FakeMachine::igb4().rules("eth0"), Ok(None));
    let error = FakeMachine::igb4().set_rule("eth0", Some(0), &rule(1, 1)).expect_err("none");
    assert!(error.is_unsupported());
}
