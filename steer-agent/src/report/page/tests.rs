//! Pages of made-up samples: what stands in them, that nothing gets out of them, and that they stay small.
//! After a wanted change run with `STEER_ACCEPT=1` and look at the difference in `golden/report.html`.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::model::testkit::crossed_sample;
use crate::model::{
    CpuSet, Fact, Facts, HostFacts, InterruptRow, Matrix, Neighbours, NicCounters, Queue, Rss,
    Sample, World,
};
use crate::plan::{Change, Experience, Plan, Shared, Step, Value, plan};
use crate::policy::Policy;
use crate::report::{Source, Status};

/// The second in which [`sample`] is corrected.
const CORRECTED: u64 = 4;

/// [`crossed_sample`] until the fourth second; then each bucket is on the queue two further on, which is
/// where its flow is read, and each interrupt is set to the CPU where it was.
fn sample(second: u64) -> Sample {
    let mut sample = crossed_sample(second.min(CORRECTED));
    sample.at_ns = second * 1_000_000_000;
    sample.softirq_ns = Some((0..4).map(|cpu| (cpu, second * 50_000_000)).collect());
    sample.flow_sampling = Some(0);
    let counted = |what: &str, ifindex, per_s: [u64; 4]| InterruptRow {
        id: what.to_owned(),
        what: if ifindex == Some(2) {
            format!("PCI-MSIX eth0-TxRx-{what}")
        } else {
            what.to_owned()
        },
        ifindex,
        counts: per_s.map(|per_s| per_s * second).to_vec(),
    };
    sample.interrupts = Some(Interrupts {
        cpus: (0..4).collect(),
        rows: vec![
            counted("25", Some(2), [800, 0, 0, 0]),
            counted("26", Some(2), [0, 800, 0, 0]),
            counted("RES", None, [10, 20, 30, 40]),
        ],
    });
    let Some(extra) = second.checked_sub(CORRECTED).filter(|extra| *extra > 0) else {
        return sample;
    };
    let crate::model::NicSample { nic, counters } = &mut sample.nics[0];
    nic.rss = Some(Rss { table: (0..4).cycle().skip(2).take(128).collect(), ..Rss::default() });
    for queue in &mut nic.queues {
        queue.affinity = Some(CpuSet::single(queue.id));
        queue.xps = Some(CpuSet::single(queue.id));
    }
    for flow in &mut sample.flows {
        let bucket = usize::try_from(flow.hash.expect("of all")).expect("small");
        let at = usize::try_from(flow.consumer_cpu).expect("small");
        let count = 50 * extra;
        counters.load.as_mut().expect("there").add(bucket, at, 2 * count);
        counters.demand.as_mut().expect("there").add(bucket, at, count);
        counters.queue_packets.add(at, at, 2 * count);
        counters.queue_consumed.add(at, at, count);
        counters.consumed_by_napi.add(at, at, count);
        counters.consumed_by_protocol.add(at, at, count);
        (flow.queue, flow.softirq_cpu) = (Some(flow.consumer_cpu), Some(flow.consumer_cpu));
        flow.consumed = 50 * second;
        flow.last_ns = sample.at_ns;
    }
    sample
}

fn header() -> Header {
    Header {
        steer_recording: Header::FORMAT,
        version: "0.1.0".to_owned(),
        began_unix_s: 1_790_000_000,
        every_s: 1.0,
        facts: Facts {
            kernel_release: "6.12.1".to_owned(),
            btf: Fact::Yes,
            may_trace: Fact::Yes,
            may_set_nic: Fact::Yes,
            may_set_irq: Fact::No("/proc is mounted read-only".to_owned()),
            netlink_rss_get: Fact::Yes,
            netlink_rss_set: Fact::Unknown("nobody asked".to_owned()),
            netlink_queues: Fact::Yes,
            neighbours: Neighbours::default(),
            rps_sock_flow_entries: Some(0),
        },
        policies: [("eth0".to_owned(), Policy::default())].into(),
        anonymised: false,
        host: Some(HostFacts {
            cpu_model: Some("A CPU".to_owned()),
            product: None,
            virtual_machine: Some(true),
        }),
        observer: Some("tracing".to_owned()),
    }
}

fn status_of(first: &Sample, second: &Sample) -> Status {
    let world = World::between(first, second, first.at_ns);
    let shared = Shared::new(&world);
    let nics = world.nics.iter().map(|nic| {
        let plan: Plan = plan(nic, &shared.around(nic), &Policy::default(), &Experience::default());
        NicStatus::new(&world, nic, &plan, NicState::Observing, None)
    });
    Status::new(Source::Own, &world, nics.collect())
}

fn told(samples: impl IntoIterator<Item = Sample>) -> Page {
    let mut story = Story::new(&[]);
    samples.into_iter().for_each(|sample| story.sample(sample));
    story.page("From a test".to_owned(), header(), &status_of).expect("windows")
}

fn corrected() -> Page {
    told((1..=9).map(sample))
}

#[test]
fn a_correction_has_a_before_and_an_after() {
    let page = corrected();
    let chapter = &page.chapters[0];
    // Windows of a second, the change in that which ends with the fifth sample, four seconds after the
    // first.
    assert_eq!(chapter.before.span, Span { from_s: 0.0, to_s: 3.0 });
    assert_eq!(chapter.changed, [Span { from_s: 3.0, to_s: 4.0 }]);
    let after = chapter.after.as_ref().expect("seen");
    assert_eq!(after.span, Span { from_s: 4.0, to_s: 8.0 });
    assert_eq!(chapter.before.status.alignment.share, Some(0.0));
    assert_eq!(after.status.alignment.share, Some(1.0));
    // 16 flows, 50 reads a second each.
    assert!((after.status.alignment.consumed_per_s - 800.0).abs() < 1e-6);
    let rows = &after.interrupts.as_ref().expect("counted").rows;
    assert_eq!(rows[0].counts, [3200, 0, 0, 0]);
    assert!(chapter.before.softirq.iter().all(|(_, share)| (share - 0.05).abs() < 1e-9));
    assert_eq!(chapter.put_back_s, None);
    assert_eq!(
        page.verdict(),
        [
            "eth0: After 128 buckets and 4 interrupts were moved, 100 % of all reads happen on the CPU where the \
             packets arrive, instead of 0 %. The modelled cost of crossing between caches went from 40 to 0.0 \
             \u{b5}s per second, and table and interrupts could reach 100.0 %."
        ]
    );
}

#[test]
fn each_change_has_its_reason() {
    let page = corrected();
    let moves = &page.chapters[0].moves;
    let targets: Vec<String> = moves.iter().map(|change| change.target.to_string()).collect();
    assert_eq!(targets.len(), 9, "four interrupts, four XPS maps, one table: {targets:?}");
    let found = |start: &str| {
        let is = |change: &&Move| change.target.to_string().starts_with(start);
        moves.iter().find(is).expect("there")
    };
    // Each of four CPUs reads a quarter.
    assert_eq!(
        found("affinity of IRQ 27").why,
        "CPU 2 read 25.0 % of everything before; the queue was polled there, and stays"
    );
    assert_eq!(
        (found("affinity").from.as_str(), found("affinity").to.as_str()),
        ("CPUs 0-3", "CPU 0")
    );
    assert_eq!(
        found("XPS of TX queue 1").why,
        "what CPU 1 sends leaves by the queue that it receives on"
    );
    let table = found("indirection table");
    assert_eq!((table.buckets, table.to.as_str()), (128, "128 of 128 buckets on other queues"));
    assert_eq!(
        table.why,
        "of what these buckets carried, 0.0 % was read on the CPU that polled it; on the new queues it would \
         have been 100.0 %"
    );
}

#[test]
fn the_reason_of_a_plan_comes_first() {
    let step = |target, to| Step {
        change: Change { target, from: Value::Table(Vec::new()), to },
        gain_per_s: 0.0,
        reason: "it was planned so".to_owned(),
    };
    let table = sample(9).nics[0].nic.rss.clone().expect("there").table;
    let queue = |queue| Target::IrqAffinity { irq: 25 + queue, queue };
    let steps = vec![
        step(Target::Table, Value::Table(table)),
        step(queue(0), Value::Cpus(CpuSet::single(0))),
        // Not what came of it, so not its reason.
        step(queue(1), Value::Cpus(CpuSet::single(3))),
    ];
    let mut story = Story::new(&["eth0".to_owned()]);
    (1..=4).for_each(|second| story.sample(sample(second)));
    story.planned(&Plan { nic: "eth0".to_owned(), steps, ..Plan::default() });
    story.done("eth0: wrote it".to_owned());
    (5..=9).for_each(|second| story.sample(sample(second)));
    let page = story.page("Here".to_owned(), header(), &status_of).expect("windows");
    let why = |target: &Target| {
        let found = page.chapters[0].moves.iter().find(|change| change.target == *target);
        found.expect("changed").why.as_str()
    };
    assert_eq!(why(&Target::Table), "it was planned so");
    assert_eq!(why(&queue(0)), "it was planned so");
    assert!(why(&queue(1)).starts_with("CPU 1 read 25.0 %"), "{}", why(&queue(1)));
    assert_eq!(page.done, [Said { at_s: Some(3.0), text: "eth0: wrote it".to_owned() }]);
}

#[test]
fn what_is_put_back_is_neither_before_nor_after() {
    // Settings as at first from the tenth second on, while the counters go on.
    let put_back = |second: u64| {
        let mut last = sample(second);
        last.nics[0].nic = sample(1).nics[0].nic.clone();
        last
    };
    let page = told((1..=9).map(sample).chain((10..=14).map(put_back)));
    let chapter = &page.chapters[0];
    assert_eq!(chapter.put_back_s, Some(9.0));
    assert_eq!(chapter.before.span, Span { from_s: 0.0, to_s: 3.0 });
    let after = chapter.after.as_ref().expect("seen");
    assert_eq!(after.span, Span { from_s: 4.0, to_s: 8.0 });
    assert!(
        page.verdict()[0].ends_with("everything was put back afterwards."),
        "{:?}",
        page.verdict()
    );
    // Eight buckets, interrupts and so on there, and the same back.
    assert_eq!(chapter.moves.len(), 18);
}

#[test]
fn without_a_change_there_is_one_picture_and_advice() {
    let page = told((1..=4).map(sample));
    let chapter = &page.chapters[0];
    assert!(chapter.after.is_none() && chapter.moves.is_empty());
    assert_eq!(
        page.verdict(),
        [
            "eth0: 0 % of all reads happen on the CPU where the packets arrive. Table and interrupts could bring \
             it to 100.0 %: \u{201c}steer apply eth0\u{201d} writes once, \u{201c}steer run eth0\u{201d} keeps it \
             so."
        ]
    );
    assert!(page.html().contains("No setting was changed in this time."));
}

#[test]
fn a_change_at_either_end_leaves_nothing_to_compare() {
    let page = told((3..=5).map(sample));
    let chapter = &page.chapters[0];
    assert!(chapter.after.is_none() && !chapter.moves.is_empty());
    assert!(page.verdict()[0].contains("there is nothing to compare"), "{:?}", page.verdict());
    // Two samples with the change between them: there is no whole window at all.
    let page = told([sample(4), sample(5)]);
    assert!(page.chapters[0].after.is_none());
    assert!(Story::new(&[]).page(String::new(), header(), &status_of).is_none());
    let mut one = Story::new(&[]);
    one.sample(sample(1));
    assert!(one.page(String::new(), header(), &status_of).is_none());
}

#[test]
fn the_daemons_words_are_told_once_and_at_their_time() {
    let mut story = Story::new(&[]);
    let say = |story: &mut Story, lines: &[&str]| {
        let mut status = status_of(&sample(1), &sample(2));
        status.source = Source::Daemon;
        status.nics[0].history = lines.iter().map(|line| (*line).to_owned()).collect();
        story.daemon(status);
    };
    story.sample(sample(1));
    say(&mut story, &["began"]);
    story.sample(sample(2));
    say(&mut story, &["began", "wrote"]);
    story.sample(sample(3));
    say(&mut story, &["wrote", "wrote"]);
    let page = story.page(String::new(), header(), &status_of).expect("windows");
    let said: Vec<_> =
        page.chapters[0].said.iter().map(|said| (said.at_s, said.text.as_str())).collect();
    assert_eq!(said, [(None, "began"), (Some(1.0), "wrote"), (Some(2.0), "wrote")]);
    assert!(page.daemon);
}

#[test]
fn the_page_is_as_it_was() {
    let html = corrected().html();
    // One tag a line, for a difference that can be read.
    let lines = html.replace("><", ">\n<");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report.html");
    if std::env::var_os("STEER_ACCEPT").is_some() {
        std::fs::write(&path, &lines).expect("written");
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == lines,
        "differs from {}",
        path.display()
    );
}

#[test]
fn nothing_in_it_reaches_outside() {
    let html = corrected().html();
    for word in
        ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe"]
    {
        assert!(!html.contains(word), "{word} is in the page");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn a_long_story_stays_short() {
    let mut story = Story::new(&[]);
    let windows = 5000;
    (1..=windows + 1).for_each(|second| story.sample(crossed_sample(second)));
    let page = story.page(String::new(), header(), &status_of).expect("windows");
    let course = &page.chapters[0].course;
    assert!((300..=1200).contains(&course.len()), "{} points", course.len());
    // Nothing is lost: 16 flows, 50 reads and 100 packets a second each.
    assert_eq!(course.iter().map(|point| point.consumed).sum::<u64>(), windows * 800);
    assert_eq!(course.iter().map(|point| point.packets).sum::<u64>(), windows * 1600);
    assert!(course.windows(2).all(|two| (two[0].span.to_s - two[1].span.from_s).abs() < 1e-9));
    assert!(page.html().len() < 200_000, "{} bytes", page.html().len());
}

/// 128 queues, 256 CPUs and 400 flows, each read on the next CPU.
fn wide(second: u64) -> Sample {
    let mut wide = crossed_sample(second);
    wide.topology = Topology::regular(2, 64, 2);
    let crate::model::NicSample { nic, counters } = &mut wide.nics[0];
    nic.queues = (0..128)
        .map(|id| Queue {
            id,
            irq: Some(500 + id),
            affinity: Some(CpuSet::single(id)),
            ..Queue::default()
        })
        .collect();
    nic.rss = Some(Rss { table: (0..128).cycle().take(2048).collect(), ..Rss::default() });
    *counters = NicCounters {
        queue_packets: Matrix::new(128, 256),
        queue_consumed: Matrix::new(128, 256),
        consumed_by_napi: Matrix::new(256, 256),
        consumed_by_protocol: Matrix::new(256, 256),
        ..NicCounters::default()
    };
    for at in 0..128 {
        counters.queue_packets.add(at, at, 90 * second);
        counters.queue_consumed.add(at, at + 1, 30 * second);
        counters.consumed_by_napi.add(at, at + 1, 30 * second);
    }
    wide.flows =
        (0..400).map(|number| crate::model::testkit::flow(number, number % 128, 200)).collect();
    for flow in &mut wide.flows {
        flow.last_ns = second * 1_000_000_000;
        (flow.consumed, flow.mismatched) = (30 * second, 30 * second);
    }
    let row = |id: u32| InterruptRow {
        id: id.to_string(),
        ifindex: Some(2),
        counts: vec![second; 256],
        ..InterruptRow::default()
    };
    wide.interrupts =
        Some(Interrupts { cpus: (0..256).collect(), rows: (500..628).map(row).collect() });
    wide
}

#[test]
fn a_large_machine_makes_no_large_page() {
    let page = told((1..=3).map(wide));
    let html = page.html();
    assert!(html.len() < 400_000, "{} bytes", html.len());
    assert!(html.contains("and 64 queues with fewer packets"));
    assert!(html.contains("240 other CPUs"));
    assert!(html.contains("256 CPUs, 2 sockets"));
}

/// Tags with the names of their attributes, in order. Fails on what no page of ours has.
fn skeleton(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let (mut quoted, mut end) = (false, None);
        let mut bare = String::new();
        for (at, letter) in rest.char_indices() {
            match letter {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = Some(at);
                    break;
                }
                letter if !quoted => bare.push(letter),
                _ => {}
            }
        }
        rest = &rest[end.expect("a tag that ends") + 1..];
        tags.push(bare);
    }
    tags
}

/// A page in which every word from outside is `word`.
fn page_of(word: &str) -> String {
    let mut story = Story::new(&[]);
    let name = format!("e{word}");
    for second in 1..=9 {
        let mut sample = sample(second);
        sample.missing = vec![format!("x{word}")];
        for flow in &mut sample.flows {
            flow.comm = format!("x{word}");
        }
        for row in sample.interrupts.iter_mut().flat_map(|interrupts| &mut interrupts.rows) {
            row.what = format!("x{word}");
        }
        let nic = &mut sample.nics[0].nic;
        nic.name.clone_from(&name);
        (nic.driver, nic.bus) = (Some(format!("x{word}")), Some(format!("x{word}")));
        nic.features = [(format!("x{word}"), true)].into();
        if let Some(rss) = &mut nic.rss {
            rss.hash_function = Some(format!("x{word}"));
        }
        story.sample(sample);
        let mut status = status_of(&crossed_sample(1), &crossed_sample(2));
        status.nics[0].name.clone_from(&name);
        status.nics[0].history = vec![format!("x{word}")];
        status.nics[0].reason = Some(format!("x{word}"));
        status.neighbours = vec![format!("x{word}")];
        story.daemon(status);
    }
    story.done(format!("x{word}"));
    let mut header = header();
    header.version = format!("x{word}");
    header.facts.kernel_release = format!("x{word}");
    header.facts.btf = Fact::No(format!("x{word}"));
    header.host = Some(HostFacts {
        cpu_model: Some(format!("x{word}")),
        product: Some(format!("x{word}")),
        virtual_machine: None,
    });
    header.policies = [(name, Policy::default())].into();
    header.observer = Some(format!("x{word}"));
    story.page(format!("x{word}"), header, &status_of).expect("windows").html()
}

#[test]
fn markup_from_outside_is_text() {
    let html = page_of("<script>alert(\"1\")</script>'&amp;");
    assert!(!html.contains("<script"));
    assert!(html.contains("x&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;'&amp;amp;"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever a process calls itself, the page has the same tags with the same attributes.
    #[test]
    fn words_from_outside_change_no_markup(word in "[<>&\"'=/ a-z\u{1b}\u{2028}!-]{0,24}") {
        prop_assert_eq!(skeleton(&page_of(&word)), skeleton(&page_of("")));
    }
}
