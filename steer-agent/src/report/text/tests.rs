//! What is shown, compared as text. After a wanted change run the tests with `STEER_ACCEPT=1` in the
//! environment and look at the difference in `golden/`.

use super::*;
use crate::golden::golden;
use crate::model::testkit::crossed_sample;
use crate::model::{CpuPair, Distance, Sample, World};
use crate::plan::{Experience, Host, plan as make_plan};
use crate::policy::Policy;
use crate::report::{
    Cost, EventReport, MismatchReport, NicState, NicStatus, Pace, Source, lever, next,
};

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// A window of [`crossed_sample`], whose CPUs spend some time in softirqs.
fn crossed() -> World {
    let (first, mut second) = (crossed_sample(1), crossed_sample(2));
    second.softirq_ns = Some((0..4).map(|cpu| (cpu, 40_000_000 * u64::from(cpu))).collect());
    let first = Sample { softirq_ns: Some((0..4).map(|cpu| (cpu, 0)).collect()), ..first };
    World::between(&first, &second, first.at_ns)
}

/// The document of `source` for a NIC in `state`.
fn document(world: &World, source: Source, state: NicState, reason: Option<&str>) -> Status {
    let nic = &world.nics[0];
    let host = Host::alone(&world.topology, None);
    let policy = Policy::default();
    let plan = make_plan(nic, &host, &policy, &Experience::default());
    let mut status = NicStatus::new(world, nic, &plan, state, reason.map(str::to_owned));
    status.lever_states = lever::of_nic(&nic.nic, &policy, state);
    if source == Source::Daemon {
        let event = EventReport {
            at_unix_s: 1_790_000_000.0,
            what: "wrote 9 settings, 96 buckets moved".to_owned(),
            why: Some("CPU 2 consumes and queue 0 is to be polled there".to_owned()),
            wrote: true,
        };
        status.history = vec![event.what.clone()];
        status.events = vec![event.clone()];
        status.last_change = Some(event);
    }
    status.next = next(nic, &plan, &status, source);
    let mut document = Status::new(source, world, vec![status]);
    document.at_unix_s = Some(1_790_000_012.5);
    document.cost =
        Some(Cost { cpu_share: Some(0.004), bpf_share: None, resident_bytes: Some(21 << 20) });
    if source == Source::Daemon {
        document.pace = Some(Pace { windows: 90, missed: 0, tick_us: 3250, tick_max_us: 9000 });
    }
    document
}

fn steering() -> Status {
    document(&crossed(), Source::Daemon, NicState::Steering, None)
}

/// No line is wider than the screen, if that can be.
fn shown(status: &Status, width: usize) -> String {
    let document = serde_json::to_value(status).expect("serialised");
    assert_eq!(crate::report::schema::faults("status", &document), [""; 0]);
    let text = plain(&super::status(status, width));
    for line in text.lines() {
        let found = unicode_width::UnicodeWidthStr::width(line);
        assert!(found <= width, "{found} columns in {width}: {line}");
    }
    text
}

/// Three screens in one file.
fn golden_at(name: &str, status: &Status, widths: &[usize]) {
    let mut text = String::new();
    for width in widths {
        text += &format!("# {width} columns\n{}", shown(status, *width));
    }
    golden(name, &text);
}

#[test]
fn a_crossed_nic() {
    let document = steering();
    golden("status-crossed.txt", &plain(&status(&document, usize::MAX)));
    golden("status-narrow.txt", &shown(&document, 60));
    golden("status-colour.txt", &status(&document, 80));
    golden_at("status-widths.txt", &document, &[40, 80, 200]);
}

#[test]
fn a_crossed_nic_as_json() {
    let json = serde_json::to_string_pretty(&steering()).expect("serialised");
    golden("status-crossed.json", &json);
    let back: Status = serde_json::from_str(&json).expect("what is written can be read");
    assert_eq!(back, steering());
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

/// What each state comes to, with what to do about it.
#[test]
fn each_state_says_what_to_do() {
    let mut text = String::new();
    let crossed = crossed();
    let mut silent = crossed.clone();
    silent.nics[0].alignment = crate::model::Alignment::default();
    silent.nics[0].mismatches.clear();
    silent.nics[0].mapping = crate::model::Mapping::default();
    silent.health.clear();
    for queue in &mut silent.nics[0].queues {
        *queue =
            crate::model::QueueWorld { queue: queue.queue, irq: queue.irq, ..Default::default() };
    }
    let mut forwarding = silent.clone();
    forwarding.nics[0].queues[1].packets_per_s = 90_000.0;
    let taken = "affinity of IRQ 25 (queue 0): expected CPU 2, found CPU 0-3; steer writes no more";
    let table = "mapping unverified: 40.0 % of 800 consumptions of 16 flows follow the table";
    for (what, world, source, state, reason) in [
        ("observed here", &crossed, Source::Own, NicState::Observing, None),
        (
            "dry run",
            &crossed,
            Source::Daemon,
            NicState::Observing,
            Some("dry run: nothing is written"),
        ),
        ("contested", &crossed, Source::Daemon, NicState::Contested, Some(taken)),
        ("unverified", &crossed, Source::Own, NicState::Unverified, Some(table)),
        ("silent", &silent, Source::Own, NicState::Observing, None),
        ("silent, by the daemon", &silent, Source::Daemon, NicState::Observing, None),
        ("forwarding", &forwarding, Source::Own, NicState::Observing, None),
    ] {
        let document = document(world, source, state, reason);
        text += &format!("# {what}\n{}", shown(&document, 80));
    }
    golden("status-states.txt", &text);
}

/// Nothing is known but the name.
#[test]
fn all_unknown() {
    let mut world = World { window_s: 3.0, ..World::default() };
    let mut nic = crate::model::NicWorld::default();
    "eth0".clone_into(&mut nic.nic.name);
    nic.queues = vec![crate::model::QueueWorld::default()];
    world.nics = vec![nic];
    world.missing = vec!["/proc/stat cannot be read: Permission denied (os error 13)".to_owned()];
    let mut status = document(&world, Source::Own, NicState::Observing, None);
    status.cost = None;
    status.at_unix_s = None;
    golden_at("status-unknown.txt", &status, &[40, 80]);
}

/// 128 queues on 256 CPUs of two sockets, everything consumed half the machine away.
fn large() -> Status {
    let mut status = steering();
    let nic = &mut status.nics[0];
    let queue = nic.queues[0].clone();
    nic.queues = (0..128)
        .map(|id| crate::report::status::QueueReport {
            queue: id,
            irq: Some(100 + id),
            cpu: Some(id),
            effective_cpu: Some(id),
            softirq_cpu: Some(id),
            load: Some(f64::from(id) / 256.0),
            packets_per_s: 10_000.0 + 1000.0 * f64::from(id),
            ..queue.clone()
        })
        .collect();
    nic.alignment.by_cpu = (0..128)
        .map(|cpu| CpuPair {
            softirq_cpu: cpu,
            consumer_cpu: cpu + 128,
            distance: Distance::Remote,
            per_s: 100.0 + f64::from(cpu),
        })
        .collect();
    nic.active_flows = 98_304;
    nic.mismatches = (0..256u16)
        .map(|number| MismatchReport {
            softirq_cpu: u32::from(number / 2),
            consumer_cpu: 128 + u32::from(number / 2),
            distance: Distance::Remote,
            remote: format!("10.0.{number}.7:40000").parse().expect("an address"),
            ..nic.mismatches[0].clone()
        })
        .collect();
    status
}

#[test]
fn a_large_machine() {
    golden_at("status-large.txt", &large(), &[60, 80, 200]);
}

#[test]
fn a_screen_of_few_lines_shows_less_of_each_list() {
    for (status, heights) in [(steering(), [50, 40, 31]), (large(), [60, 45, 34])] {
        for height in heights {
            let text = status_on(&status, Screen { width: 80, height: Some(height) });
            let lines = text.lines().count();
            assert!(lines <= height, "{lines} lines on a screen of {height}:\n{text}");
            assert!(text.contains("next"), "what to do is always there:\n{text}");
        }
    }
    let text = status_on(&large(), Screen { width: 80, height: Some(34) });
    golden("status-low.txt", &plain(&text));
    // Less than the least is not to be had.
    assert!(!status_on(&steering(), Screen { width: 80, height: Some(5) }).is_empty());
}

#[test]
fn several_nics() {
    let mut status = steering();
    let mut second = status.nics[0].clone();
    "enp129s0f1np1".clone_into(&mut second.name);
    second.driver = Some("mlx5_core".to_owned());
    second.state = NicState::Unverified;
    second.reason = Some("the table does not decide the queue".to_owned());
    status.nics.push(second);
    let mut third = status.nics[0].clone();
    (third.name, third.driver) = ("eth1".to_owned(), Some("e1000e".to_owned()));
    (third.state, third.queues) = (NicState::Unsteerable, Vec::new());
    third.reason = Some("eth1 (e1000e) has one RX queue, so there is nothing to steer".to_owned());
    third.next = vec!["nothing to steer here".to_owned()];
    status.nics.push(third);
    golden_at("status-several.txt", &status, &[80]);
}

/// Addresses, interfaces and processes with names as long as they can be, and names that are not ASCII
/// or would steer the terminal.
#[test]
fn long_and_strange_names() {
    let mut status = steering();
    let nic = &mut status.nics[0];
    "enp193s0f1np1v9".clone_into(&mut nic.name);
    let names = [
        "haproxy-worker1",
        "工作进程一",
        "Prüfstand-ä",
        "\u{1b}[2Jowned",
        "",
        "x",
        "nginx: worker p",
    ];
    for (index, flow) in nic.mismatches.iter_mut().enumerate() {
        flow.local = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535".parse().expect("an address");
        flow.remote =
            format!("[2001:db8:1111:2222:3333:4444:5555:{index:x}00{index:x}]:{}", 61_000 + index)
                .parse()
                .expect("an address");
        (flow.softirq_cpu, flow.consumer_cpu) = (127, 255);
        names[index % names.len()].clone_into(&mut flow.comm);
        flow.pid = Some(4_194_303);
    }
    golden_at("status-long.txt", &status, &[40, 60, 80, 120, 200]);
    assert!(!super::status(&status, 200).contains("\u{1b}[2J"), "a process steers no terminal");
}
