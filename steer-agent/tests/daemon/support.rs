//! What the tests of the daemon share.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use steer_agent::observe::{Observer, nic};
use steer_agent::policy::Policy;
use steer_agent::report::socket::path_of;
use steer_agent::run::Options;
use steer_agent::run::irqbalance::Consent;
use steer_agent::run::metrics::Audience;
use steer_agent::run::terms::{Conduct, Terms};
use steer_agent::sys::Machine;

/// Set in the process that runs inside the namespace.
pub(crate) const INSIDE: &str = "STEER_TEST_INSIDE";

/// Runs `body` inside a fresh network namespace with the pair v0 and v1. They have one queue each, for
/// veth records no RX queue: of several it would be unknown which one was polled.
pub(crate) fn in_namespace(test: &str, body: impl FnOnce()) {
    in_namespace_with(test, &[], body);
}

/// The same with more variables in its environment.
pub(crate) fn in_namespace_with(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "these tests need root");
        println!("skipped: only root can load programs");
        return;
    }
    let me = std::env::current_exe().expect("this program");
    let script = format!(
        "mount -t sysfs sysfs /sys && ip link set lo up && ip link add v0 numrxqueues 1 numtxqueues 1 \
         type veth peer name v1 numrxqueues 1 numtxqueues 1 && ip link set v0 up && ip link set v1 up && \
         exec {} --exact {test} --nocapture",
        me.display()
    );
    let status = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", &script])
        .env(INSIDE, "1")
        .envs(variables.iter().copied())
        .status()
        .expect("unshare(1) of util-linux");
    assert!(status.success(), "inside the namespace: {status}");
}

/// A daemon that looks at v0 ten times a second and writes nothing.
pub(crate) fn options(dir: &Path, machine: &Machine) -> Options {
    Options {
        nics: vec![nic::read(machine, "v0").expect("readable")],
        conduct: conduct(Duration::from_millis(100)),
        observer: Observer::Tracing,
        state_dir: dir.join("state"),
        runtime_dir: dir.join("run"),
        greeting: Vec::new(),
        group: None,
        accept: steer_agent::run::accept::AcceptOptions::default(),
        connect: Vec::new(),
        metrics: Audience::default(),
        dry_run: true,
    }
}

pub(crate) fn conduct(period: Duration) -> Conduct {
    let terms = Terms::always(Policy::default(), Consent::Report("nobody consented"));
    Conduct::alike(period, true, terms)
}

/// The status of the daemon in this process.
pub(crate) fn ask(runtime_dir: &Path) -> Value {
    let Ok(mut stream) = UnixStream::connect(path_of(runtime_dir, std::process::id())) else {
        return Value::Null;
    };
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
    stream.write_all(b"{\"command\":\"status\"}\n").expect("asked");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let answer = serde_json::from_slice(&answer).unwrap_or_default();
    is_as_published(&answer);
    answer
}

/// Whatever a daemon answers keeps to docs/status.schema.json, but for nothing at all at its end.
fn is_as_published(answer: &Value) {
    static PUBLISHED: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let text = include_str!("../../../docs/status.schema.json");
        jsonschema::validator_for(&serde_json::from_str(text).expect("JSON")).expect("a schema")
    });
    let faults = PUBLISHED.iter_errors(answer).map(|fault| fault.to_string());
    let faults: Vec<String> = faults.filter(|_| !answer.is_null()).collect();
    assert!(faults.is_empty(), "{faults:?} in {answer}");
}

/// Asks until `wanted` holds, which it will.
pub(crate) fn until(runtime_dir: &Path, wanted: impl Fn(&Value) -> bool) {
    while !wanted(&ask(runtime_dir)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn signal(signal: Signal) {
    kill_process(getpid(), signal).expect("sent");
}
