//! The page, compared as text, and docs/metrics.md. After a wanted change run the tests with
//! `STEER_ACCEPT=1` in the environment and look at the difference.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;
use crate::golden::golden;
use crate::model::testkit::crossed_sample;
use crate::model::{DropCounters, World};
use crate::plan::{Experience, Host, plan};
use crate::policy::Policy;
use crate::report::{PlannerReport, Source, Tally};

/// Everything there is has a value.
fn snapshot() -> Snapshot {
    let (first, mut second) = (crossed_sample(1), crossed_sample(2));
    second.softirq_ns = Some((0..4).map(|cpu| (cpu, 1_500_000_000 * u64::from(cpu))).collect());
    let nic = &mut second.nics[0].nic;
    nic.carrier_changes = Some(3);
    nic.drops = DropCounters {
        rx_dropped: Some(1),
        rx_missed: Some(2),
        rx_fifo: Some(0),
        tx_dropped: None,
    };
    let world = World::between(&first, &second, first.at_ns);
    let host = Host::alone(&world.topology, None);
    let experience = Experience::default();
    let plan = plan(&world.nics[0], &host, &Policy::default(), &experience);
    let mut nic = NicStatus::new(&world, &world.nics[0], &plan, NicState::Steering, None);
    let tally = Tally { plans: 2, writes: 9, buckets_moved: 96, irqs_moved: 4, ..Tally::default() };
    nic.planner = Some(PlannerReport::new(&experience, Some((0.9, Some(0.8))), tally));
    let status = Status::new(Source::Daemon, &world, vec![nic]);
    let own = OwnCost {
        at_unix_s: 1_790_000_000.5,
        ticks: 10,
        ticks_missed: 1,
        ticks_s: 0.25,
        last_tick_s: 0.025,
        cpu_s: Some(0.5),
        resident_bytes: Some(20 << 20),
        programs: vec![("receive_gro".to_owned(), 0.125, 1_000_000)],
    };
    Snapshot::new(&status, &second, own)
}

#[test]
fn a_page() {
    let page = snapshot().openmetrics();
    golden("metrics.txt", &page);
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn every_metric_is_on_the_page_with_its_labels_and_no_other() {
    let page = snapshot().openmetrics();
    for metric in METRICS {
        let name = metric.full_name();
        let line = page
            .lines()
            .find(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        // The example has no value for this one.
        let Some(line) = line else { panic!("{name} has no value in the example") };
        let labels: Vec<&str> = match line.split_once('{') {
            Some((_, rest)) => rest
                .split_once('}')
                .map_or("", |(labels, _)| labels)
                .split(',')
                .filter_map(|label| Some(label.split_once('=')?.0))
                .collect(),
            None => Vec::new(),
        };
        assert_eq!(labels, metric.labels, "{name}");
        for label in labels {
            let bounded =
                ["nic", "queue", "cpu", "distance", "state", "kind", "program", "version"];
            assert!(bounded.contains(&label), "{name} has a label that nothing bounds: {label}");
        }
    }
    for private in ["10.0.0", "40000", "worker"] {
        assert!(!page.contains(private), "{private} is nobody's business");
    }
}

#[test]
fn what_is_unknown_is_absent_and_not_zero() {
    let page = Snapshot::default().openmetrics();
    let values: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!values.iter().any(|line| line.starts_with("steer_nic")), "{values:?}");
    assert!(!values.iter().any(|line| line.starts_with("steer_process")), "{values:?}");
}

#[test]
fn the_classic_page_describes_counters_by_their_whole_names() {
    let page = classic(&snapshot().openmetrics());
    assert!(page.contains("# TYPE steer_queue_packets_total counter\n"));
    assert!(page.contains("\nsteer_queue_packets_total{nic=\"eth0\",queue=\"3\"} "));
    assert!(page.contains("# TYPE steer_nic_aligned_ratio gauge\n") && !page.contains("# EOF"));
}

/// Prometheus' own opinion of the page.
#[test]
fn promtool_has_nothing_against_it() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "`cargo xtask setup` installs it"
        );
        return;
    };
    let page = classic(&snapshot().openmetrics());
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("taken");
    let output = promtool.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn metrics_md() {
    let mut text = String::from(
        "# Metrics\n\n\
         Made from the table in `steer-agent/src/report/metrics.rs`;\n\
         `STEER_ACCEPT=1 cargo test -p steer-agent metrics_md` renews this file.\n\n\
         Off by default. `steer run --metrics 127.0.0.1:9750` answers Prometheus at `/metrics`, in the\n\
         OpenMetrics format where it is asked for and in the older text format else; there is no\n\
         authentication, so an address that others reach tells everybody. `--metrics-textfile FILE` writes\n\
         a file for the textfile collector of node_exporter, replaced as a whole at most every five seconds\n\
         and removed at the end. Both are keys of the section `[metrics]` of the configuration too.\n\n\
         A value that is not known is absent, never zero. Labels are interfaces, queues, CPUs and words of\n\
         steer's own, never addresses, ports or processes. Counters begin at zero when the daemon starts,\n\
         and those of queues and distances also when observation starts anew.\n\n\
         `metrics.bpf_run_time = true` has the kernel measure the BPF programs (`BPF_ENABLE_STATS`), all\n\
         that run on the host; that costs some tens of nanoseconds a run and needs CAP_SYS_ADMIN at the\n\
         start.\n\n\
         [deploy/grafana-dashboard.json](../deploy/grafana-dashboard.json) is a dashboard,\n\
         [deploy/alerts.yml](../deploy/alerts.yml) has alert rules. A test has a real Prometheus scrape a\n\
         real daemon and asks it every query of both.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let (name, labels) = (metric.full_name(), metric.labels.join(", "));
        text += &format!("| `{name}` | {kind} | {labels} | {} |\n", metric.help);
    }
    golden("../../../docs/metrics.md", &text);
}
