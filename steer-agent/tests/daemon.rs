//! A whole daemon on a veth pair, in a network namespace of its own: it is told to reload; what it would
//! see is recorded and read again; Prometheus scrapes it.
//!
//! The tests start themselves again inside the namespace. They need root; without it they are skipped,
//! and fail where they must run (`CI=true`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

#[path = "daemon/manager.rs"]
mod manager;
#[path = "daemon/prometheus.rs"]
mod prometheus;
#[path = "daemon/support.rs"]
mod support;

use std::cell::Cell;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use steer_agent::model::{Sample, World};
use steer_agent::observe::{Observer, Watch, nic, probe};
use steer_agent::policy::Policy;
use steer_agent::report::recording::{Header, Limits, Reader, Record, Writer};
use steer_agent::run::{Ended, run};
use steer_agent::sys::Machine;

use support::{ask, conduct, in_namespace, options, signal, until};

#[test]
fn a_hangup_exchanges_what_it_goes_by_and_a_fault_does_not() {
    in_namespace("a_hangup_exchanges_what_it_goes_by_and_a_fault_does_not", || {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = Machine::open().expect("sockets");
        let runtime_dir = dir.path().join("run");
        let client = std::thread::spawn(move || {
            let window = |status: &Value| status["window_s"].as_f64().unwrap_or(0.0);
            until(&runtime_dir, |status| window(status) > 0.05);
            // First a configuration with a fault, which changes nothing; then one with another period.
            signal(Signal::HUP);
            let (mut seen, mut last) = (0, 0);
            while seen < 5 {
                let now = window(&ask(&runtime_dir)).to_bits();
                seen += u32::from(now != last);
                last = now;
            }
            signal(Signal::HUP);
            until(&runtime_dir, |status| window(status) > 1.0);
            signal(Signal::TERM);
        });
        let reloads = Cell::new(0);
        let reload = || {
            reloads.set(reloads.get() + 1);
            (reloads.get() == 2).then(|| conduct(Duration::from_millis(1200)))
        };
        let say = |line: &str| println!("{line}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("built");
        let ended = runtime.block_on(run(options(dir.path(), &machine), &machine, &say, &reload));
        client.join().expect("the client saw what it waited for");
        assert_eq!(ended.expect("ended"), Ended::AsAsked);
        assert_eq!(reloads.get(), 2);
    });
}

#[test]
fn what_is_read_here_is_in_the_recording_as_it_was() {
    in_namespace("what_is_read_here_is_in_the_recording_as_it_was", || {
        let machine = Machine::open().expect("sockets");
        let nics = [nic::read(&machine, "v0").expect("readable")];
        let mut watch = Watch::start(&machine, &nics, Observer::Tracing).expect("observes");
        let header = Header {
            steer_recording: Header::FORMAT,
            version: "0.1.0".to_owned(),
            began_unix_s: 0,
            every_s: 0.1,
            facts: probe::facts(&machine),
            host: None,
            observer: None,
            policies: [("v0".to_owned(), Policy::default())].into(),
            anonymised: false,
        };
        let mut writer = Writer::begin(Vec::new(), &header).expect("begun");
        let mut samples = Vec::new();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(50));
            let sample = watch.sample().expect("read");
            writer.add(&Record::Sample(Box::new(sample.clone()))).expect("added");
            samples.push(sample);
        }
        let bytes = writer.finish().expect("ended");
        let mut reader = Reader::open(bytes.as_slice(), Limits::default()).expect("opens");
        assert_eq!(*reader.header(), header);
        let mut again = Vec::new();
        while let Some(record) = reader.next_record().expect("good") {
            let Record::Sample(sample) = record else { panic!("there are only samples") };
            again.push(*sample);
        }
        assert_eq!(again, samples);
        let world = |samples: &[Sample]| World::between(&samples[0], &samples[2], samples[0].at_ns);
        assert_eq!(world(&again), world(&samples));
    });
}
