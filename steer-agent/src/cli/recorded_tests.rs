//! What a recording shows is what was shown then, byte for byte.

use clap::Parser as _;

use super::super::args::Args;
use super::super::plan::plans_for;
use super::super::status::{document, window_document};
use super::*;
use crate::model::testkit::crossed_sample;
use crate::model::{Fact, Facts, Neighbours, Process};
use crate::policy::Placement;
use crate::report::recording::Writer;
use crate::report::text;

fn neighbours() -> Neighbours {
    let irqbalance = Some(Process { pid: 812, started: 4711 });
    Neighbours { irqbalance, ..Neighbours::default() }
}

fn policy() -> Policy {
    Policy { placement: Placement::SameLlc, ..Policy::default() }
}

/// A recording of three seconds in a directory of its own.
fn recording() -> (tempfile::TempDir, PathBuf) {
    let yes = || Fact::Yes;
    let header = Header {
        steer_recording: Header::FORMAT,
        version: "0.1.0".to_owned(),
        began_unix_s: 0,
        every_s: 1.0,
        facts: Facts {
            kernel_release: "6.12.1".to_owned(),
            btf: yes(),
            may_trace: yes(),
            may_set_nic: yes(),
            may_set_irq: yes(),
            netlink_rss_get: yes(),
            netlink_rss_set: yes(),
            netlink_queues: yes(),
            neighbours: neighbours(),
            rps_sock_flow_entries: None,
        },
        policies: [("eth0".to_owned(), policy())].into(),
        anonymised: false,
        host: None,
        observer: None,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("now.steer");
    let mut writer = Writer::begin(Vec::new(), &header).expect("begun");
    for second in 1..=3 {
        let sample = crossed_sample(second);
        writer.add(&Record::Sample(Box::new(sample))).expect("added");
        let said = document(
            &crossed_sample(second),
            &crossed_sample(second + 1),
            false,
            &neighbours(),
            &|_| policy(),
        );
        writer.add(&Record::Daemon(Box::new(said))).expect("added");
    }
    std::fs::write(&path, writer.finish().expect("ended")).expect("written");
    (dir, path)
}

#[test]
fn status_and_plan_are_what_they_were() {
    let (_dir, path) = recording();
    let (first, second) = (crossed_sample(2), crossed_sample(3));
    let live = document(&first, &second, true, &neighbours(), &|_| policy());
    let mut recorded = Recorded::open(&path).expect("opens");
    let window = recorded.window_at(None).expect("a window");
    assert_eq!(window.at, Duration::from_secs(2));
    assert!(window.daemon.is_some());
    let again = window_document(&recorded, &window, true);
    let bytes = |status: &Status| serde_json::to_vec(status).expect("written");
    assert_eq!(bytes(&again), bytes(&live));
    assert_eq!(text::status(&again, 100), text::status(&live, 100));
    assert!(text::status(&again, 100).contains("irqbalance"), "{}", text::status(&again, 100));

    let live = plans_for(&first, &second, &|_| policy());
    let again = plans_for(&window.first, &window.second, &|nic| recorded.policy_of(nic));
    assert!(!live.iter().all(crate::plan::Plan::is_empty), "there is something to plan");
    let bytes = |plans: &[crate::plan::Plan]| serde_json::to_vec(plans).expect("written");
    assert_eq!(bytes(&again), bytes(&live));
}

#[test]
fn a_moment_is_found_or_it_is_said_what_there_is() {
    let (_dir, path) = recording();
    let at = |at| Recorded::open(&path).expect("opens").window_at(Some(at));
    let second = |window: Window| window.second.at_ns / 1_000_000_000;
    assert_eq!(at(Duration::ZERO).map(second).expect("the first window"), 2);
    assert_eq!(at(Duration::from_millis(1500)).map(second).expect("the second"), 3);
    let error = at(Duration::from_secs(9)).map(second).expect_err("it is over by then");
    assert!(error.to_string().contains("ends after 2s"), "{error}");
}

/// Runs a whole command line; the error with the directory left out.
fn said(dir: &Path, line: &str) -> String {
    let place = dir.to_str().expect("text");
    let line = format!("steer --config /dev/null {}", line.replace("DIR", place));
    match Args::try_parse_from(line.split_whitespace()) {
        Ok(args) => match super::super::execute(&args) {
            Ok(exit) => format!("{exit:?}"),
            Err(error) => format!("{error:#}").replace(place, "DIR"),
        },
        Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let (dir, path) = recording();
    let bytes = std::fs::read(&path).expect("there");
    std::fs::write(dir.path().join("text.steer"), "hello").expect("written");
    std::fs::write(dir.path().join("cut.steer"), &bytes[..bytes.len() / 2]).expect("written");
    let mut found = String::new();
    for line in [
        "status --from DIR/nothing.steer",
        "status --from DIR/text.steer",
        "status --from DIR/now.steer --at 1h",
        "status --from DIR/now.steer --at soon",
        "status --from DIR/now.steer eth7",
        "status --from DIR/now.steer --watch",
        "status --at 1s",
        "plan --from DIR/now.steer eth7",
        "plan --from DIR/now.steer --problem x",
        "replay DIR/nothing.steer",
        "replay DIR/now.steer --speed fast",
        "record --from DIR/now.steer -o DIR/now.steer",
        "record --from DIR/now.steer -o DIR/no/where",
        "record --from DIR/now.steer",
        "record --for 1ms -o DIR/x",
        "record --anonymise=everything -o DIR/x",
        "report --from DIR/nothing.steer -o DIR/x.html",
        "report --from DIR/now.steer eth7 -o DIR/y.html",
        "report --from DIR/now.steer -o DIR/now.steer",
        "report --from DIR/now.steer -o DIR/no/where",
        "report --from DIR/now.steer --apply",
        "report --from DIR/now.steer --live 5s",
        "report nosuchnic0 --apply --live 1s -o DIR/w.html",
        "report --on-exit restore",
    ] {
        found += &format!("$ steer {line}\n{}\n", said(dir.path(), line));
    }
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recorded-errors.txt");
    if std::env::var_os("STEER_ACCEPT").is_some() {
        std::fs::write(&golden, &found).expect("written");
    }
    assert_eq!(found, std::fs::read_to_string(&golden).unwrap_or_default());
    assert!(matches!(
        said(dir.path(), "status --from DIR/cut.steer").as_str(),
        "Done"
            | "the recording DIR/cut.steer has no whole window: it takes two samples, expected a \
                  recording of at least --every"
    ));
}

#[test]
fn a_copy_without_names_shows_the_same_figures() {
    let (dir, path) = recording();
    let copy = dir.path().join("copy.steer");
    assert_eq!(
        said(dir.path(), "record --from DIR/now.steer -o DIR/copy.steer --anonymise"),
        "Done"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&copy).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let shown = |path: &Path| {
        let mut recorded = Recorded::open(path).expect("opens");
        let window = recorded.window_at(None).expect("a window");
        window_document(&recorded, &window, false)
    };
    let (before, after) = (shown(&path), shown(&copy));
    assert_eq!(after.nics[0].alignment, before.nics[0].alignment);
    assert_eq!(after.nics[0].queues, before.nics[0].queues);
    assert_ne!(after.nics[0].mismatches[0].remote, before.nics[0].mismatches[0].remote);
    assert_eq!(said(dir.path(), "replay DIR/copy.steer --speed 0"), "Done");
}

#[test]
fn a_report_is_written_once_for_its_owner_alone() {
    let (dir, _) = recording();
    let page = dir.path().join("page.html");
    let write = |more: &str| {
        said(dir.path(), &format!("report --from DIR/now.steer -o DIR/page.html{more}"))
    };
    assert_eq!(write(""), "Done");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&page).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let first = std::fs::read_to_string(&page).expect("there");
    assert!(first.contains("<h1>steer report") && first.contains("10.0.0.2"));
    assert_eq!(
        write(""),
        "DIR/page.html is there already, expected the name of a new file, or --force to overwrite it; \
         nothing was done"
    );
    // What is there is longer than what comes.
    std::fs::write(&page, first.repeat(2)).expect("written");
    assert_eq!(write(" --force"), "Done");
    assert_eq!(std::fs::read_to_string(&page).expect("there"), first, "the same bytes again");
    assert_eq!(write(" --force --anonymise=all"), "Done");
    let anonymous = std::fs::read_to_string(&page).expect("there");
    for name in ["10.0.0.2", "10.0.0.1", "worker", "eth0"] {
        assert!(!anonymous.contains(name), "{name} is in the page");
    }
}

#[test]
fn a_report_that_failed_leaves_no_file() {
    let (dir, _) = recording();
    assert!(
        said(dir.path(), "report --from DIR/nothing.steer -o DIR/x.html").contains("No such file")
    );
    assert!(!dir.path().join("x.html").exists());
}
