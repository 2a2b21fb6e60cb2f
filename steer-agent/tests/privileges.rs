//! What steer can do with exactly the capabilities that docs/privileges.md names, and what it says
//! without each of them; what `run` gives up once it observes; who is answered on its socket.
//!
//! Each case starts this program again as a user without rights of its own, in a network namespace
//! with a veth pair, with the capabilities in question and no others (setpriv(1) of util-linux). It
//! needs root; without it the tests are skipped, and fail where they must run (`CI=true`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use serde_json::Value;
use steer_agent::apply::Journal;
use steer_agent::cli::{self, args::Args};
use steer_agent::model::{CpuSet, World};
use steer_agent::observe::kernel::{KernelSide, StartOptions, WatchedNic};
use steer_agent::observe::{Observer, nic, probe};
use steer_agent::plan::{Change, Target, Value as Setting};
use steer_agent::policy::Policy;
use steer_agent::report::socket::path_of;
use steer_agent::report::{Source, Status};
use steer_agent::run::accept::{Accept, AcceptOptions, JournalPlace};
use steer_agent::run::irqbalance::Consent;
use steer_agent::run::metrics::Audience;
use steer_agent::run::rights::{self, Rights};
use steer_agent::run::serve::{Limits, Server, Window};
use steer_agent::run::terms::{Conduct, Terms};
use steer_agent::run::{Options, run};
use steer_agent::sys::{Machine, Port as _, Root};

/// Names the case in the process that runs it, and its directory.
const CASE: &str = "STEER_TEST_CASE";
const PLACE: &str = "STEER_TEST_PLACE";

/// A user and a group that own nothing.
const USER: &str = "65534";
const GROUP: u32 = 4242;

const VETH: &str = "ip link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 \
                    numrxqueues 2 numtxqueues 2 && ip link set v0 up && ip link set v1 up";

/// Everything that the features of this file need, docs/privileges.md.
const ALL: &[&str] = &["bpf", "perfmon", "net_admin", "dac_override"];

fn without(missing: &str) -> Vec<&'static str> {
    ALL.iter().copied().filter(|capability| *capability != missing).collect()
}

fn may_run() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "these tests need root");
    println!("skipped: capabilities can be handed out by root only");
    false
}

/// Whoever may be anybody can read and run this program.
struct Place {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open.clone()).expect("opened");
        let program = dir.path().join("test");
        std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("copied");
        std::fs::set_permissions(&program, open).expect("opened");
        Self { dir, program }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `case` in a fresh network namespace, as `who` (options of setpriv), after its
    /// preparation as root; returns what the case said of itself.
    fn run(&self, test: &str, case: &str, who: &str) -> String {
        self.run_after("true", test, case, who)
    }

    /// The same after a command of root's; what that leaves in the background is ended.
    fn run_after(&self, setup: &str, test: &str, case: &str, who: &str) -> String {
        let program = format!("{} --exact {test} --nocapture", self.program.display());
        let script = format!(
            "mount -t sysfs sysfs /sys && {VETH} && {CASE}=prepare {program} && {{ {setup}; }} && \
             setpriv {who} {program}; code=$?; kill $! 2>/dev/null; exit $code"
        );
        let output = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &script])
            .env(CASE, case)
            .env(PLACE, self.path())
            .output()
            .expect("unshare(1) of util-linux");
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (words(&output.stdout), words(&output.stderr));
        assert!(output.status.success(), "{case} as {who}: {stdout}\n{stderr}");
        stdout
    }

    /// The same as nobody with exactly these capabilities.
    fn with(&self, test: &str, case: &str, capabilities: &[&str]) -> String {
        self.run(test, case, &nobody_with(capabilities))
    }
}

fn nobody_with(capabilities: &[&str]) -> String {
    let plus: String = capabilities.iter().flat_map(|name| [",+", name]).collect();
    format!(
        "--reuid {USER} --regid {USER} --clear-groups --inh-caps -all{plus} \
         --ambient-caps -all{plus} --bounding-set -all{plus}"
    )
}

/// In a process that was started again: runs its case. `true` where this was such a process.
fn inside(cases: impl FnOnce(&str, &Path) -> anyhow::Result<String>) -> bool {
    let (Ok(case), Some(place)) = (std::env::var(CASE), std::env::var_os(PLACE)) else {
        return false;
    };
    let place = Path::new(&place);
    if case == "prepare" {
        let state_dir = place.join("state");
        std::fs::create_dir_all(&state_dir).expect("made");
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&state_dir, closed).expect("closed");
        change_xps(&Machine::open().expect("sockets"), &state_dir);
        return true;
    }
    match cases(&case, place) {
        Ok(said) => println!("worked: {said}"),
        Err(error) => println!("failed: {error:#}"),
    }
    true
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

/// Starts the kernel side on v0 and reads its maps.
fn observe(observer: Observer) -> anyhow::Result<String> {
    let machine = Machine::open()?;
    let nic = WatchedNic::of(&nic::read(&machine, "v0")?);
    let options = StartOptions { observer, nics: vec![nic], ..StartOptions::default() };
    let mut side = KernelSide::start(&options)?;
    let reading = side.read()?;
    Ok(format!("{} programs, {} NICs", side.programs().len(), reading.counters.len()))
}

fn steer(arguments: &[&str]) -> anyhow::Result<String> {
    let exit = cli::execute(&Args::parse_from(["steer"].iter().chain(arguments)))?;
    Ok(format!("{exit:?}"))
}

/// Leaves XPS of v0 changed, with a journal that says so. As root, before rights are gone: the
/// journal is of the process that a daemon would have been.
fn change_xps(machine: &Machine, state_dir: &Path) {
    let device = machine.identity("v0").expect("there");
    let boot = machine.boot_id().expect("told");
    let mut journal = Journal::new(state_dir, "v0", device, boot);
    let change = Change {
        target: Target::Xps { queue: 1 },
        from: Setting::Cpus(CpuSet::default()),
        to: Setting::Cpus(CpuSet::single(0)),
    };
    journal.intend(&[change], |_| None).expect("noted");
    machine.set_xps("v0", 1, &CpuSet::single(0)).expect("written");
}

#[test]
fn observing_takes_bpf_and_perfmon() {
    const TEST: &str = "observing_takes_bpf_and_perfmon";
    if inside(|case, _| match case {
        "tracing" => observe(Observer::Tracing),
        "xdp" => observe(Observer::Xdp),
        // What a daemon does when its NIC comes back. It has loaded programs before, and must have:
        // aya asks once a process what the kernel can do, and without rights the answer is nothing.
        "anew" => {
            observe(Observer::Tracing)?;
            let rights = Rights::give_up(rights::needed(false, false), || Ok(()))?;
            anyhow::ensure!(observe(Observer::Tracing).is_err(), "it was not effective");
            rights.with_reserve(|| observe(Observer::Tracing))?
        }
        _ => Ok(format!("{:?}", probe::facts(&Machine::open()?).may_trace)),
    }) || !may_run()
    {
        return;
    }
    let place = Place::new();
    contains(&place.with(TEST, "tracing", &["bpf", "perfmon"]), &["worked: ", "1 NICs"]);
    contains(&place.with(TEST, "tracing", &["sys_admin"]), &["worked: "]);
    contains(&place.with(TEST, "anew", &["bpf", "perfmon"]), &["worked: "]);
    contains(&place.with(TEST, "anew", &["sys_admin"]), &["worked: "]);
    contains(&place.with(TEST, "xdp", &["bpf", "perfmon", "net_admin"]), &["worked: "]);
    contains(&place.with(TEST, "xdp", &["bpf", "perfmon"]), &["failed: ", "CAP_NET_ADMIN"]);
    for (missing, capability) in [("bpf", "CAP_BPF"), ("perfmon", "CAP_PERFMON")] {
        let said = place.with(TEST, "tracing", &without(missing));
        contains(&said, &["failed: loading BPF programs needs", capability]);
        let said = place.with(TEST, "fact", &without(missing));
        contains(&said, &["eBPF programs that observe needs", capability, "run as root or grant"]);
    }
}

#[test]
fn writing_takes_net_admin_and_the_files() {
    const TEST: &str = "writing_takes_net_admin_and_the_files";
    if inside(|case, place| {
        let machine = Machine::open()?;
        match case {
            "restore" => {
                let dir = place.join("state");
                let dir = dir.to_str().unwrap_or_default();
                let said = steer(&["restore", "v0", "--state-dir", dir])?;
                Ok(format!("{said}, XPS {:?}", machine.xps("v0", 1)?))
            }
            "xps" => Ok(format!("{:?}", machine.set_xps("v0", 1, &CpuSet::default())?)),
            "table" => Ok(format!("{:?}", machine.set_rss_table("v0", &[0, 1])?)),
            "read" => Ok(format!("{} queues", nic::read(&machine, "v0")?.queues.len())),
            // The first interrupt that takes its own affinity back.
            _ => {
                let mut last = None;
                for entry in std::fs::read_dir("/proc/irq")? {
                    let Ok(irq) = entry?.file_name().to_string_lossy().parse() else { continue };
                    let Ok(cpus) = machine.irq_affinity(irq) else { continue };
                    match machine.set_irq_affinity(irq, &cpus) {
                        Ok(()) => return Ok(format!("interrupt {irq}")),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.map_or_else(|| anyhow::anyhow!("no interrupt"), Into::into))
            }
        }
    }) || !may_run()
    {
        return;
    }
    let both = ["net_admin", "dac_override"];
    for (case, capabilities, words) in [
        ("restore", &both[..], &["worked: Done, XPS Some(CpuSet"][..]),
        (
            "restore",
            &["dac_override"],
            &["failed: settings cannot be written", "CAP_NET_ADMIN", "nothing was changed"],
        ),
        // The journal is in a directory of root's.
        ("restore", &["net_admin"], &["failed: cannot read", "grant CAP_DAC_OVERRIDE"]),
        ("xps", &both, &["worked: "]),
        ("xps", &["dac_override"], &["failed: ", "xps_cpus", "this needs CAP_NET_ADMIN"]),
        ("xps", &["net_admin"], &["failed: ", "xps_cpus", "need CAP_DAC_OVERRIDE"]),
        // veth has no table, which is found out after the right was asked for.
        ("table", &["net_admin"], &["failed: ", "does not offer"]),
        ("table", &["dac_override"], &["failed: ", "this needs CAP_NET_ADMIN"]),
        ("irq", &["dac_override"], &["worked: interrupt"]),
        ("irq", &["net_admin"], &["failed: ", "need CAP_DAC_OVERRIDE"]),
        ("read", &[], &["worked: 2 queues"]),
    ] {
        let place = Place::new();
        contains(&place.with(TEST, case, capabilities), words);
    }
    // Root owns all of these files, and needs no right over others'.
    for (case, words) in [("restore", "worked: Done"), ("xps", "worked: "), ("irq", "worked: ")] {
        let said = Place::new().run(TEST, case, "--bounding-set -all,+net_admin");
        contains(&said, &[words]);
    }
}

#[test]
fn doctor_names_what_each_missing_capability_is_for() {
    const TEST: &str = "doctor_names_what_each_missing_capability_is_for";
    if inside(|_, _| steer(&["doctor"])) || !may_run() {
        return;
    }
    let place = Place::new();
    let all = place.with(TEST, "doctor", ALL);
    contains(
        &all,
        &["ok    may load tracing programs", "ok    may change NIC", "ok    may change IRQ"],
    );
    contains(&all, &["ok    consume_tcp attaches to"]);
    for (missing, words) in [
        (
            "bpf",
            "FAIL  may load tracing programs: no, loading the eBPF programs that observe needs CAP_BPF:",
        ),
        (
            "perfmon",
            "FAIL  may load tracing programs: no, loading the eBPF programs that observe needs CAP_PERFMON:",
        ),
        (
            "net_admin",
            "WARN  may change NIC settings: no, writing the RSS table and XPS needs CAP_NET_ADMIN:",
        ),
        ("dac_override", "WARN  may change IRQ affinity: no, writing the affinity of interrupts"),
    ] {
        contains(&place.with(TEST, "doctor", &without(missing)), &[words]);
    }
}

#[test]
fn hidden_processes_take_ptrace() {
    const TEST: &str = "hidden_processes_take_ptrace";
    if inside(|_, _| steer(&["doctor"])) || !may_run() {
        return;
    }
    let place = Place::new();
    // A neighbour by its name, on a /proc that hides the processes of others.
    let tuned = place.path().join("tuned");
    std::fs::copy("/bin/sleep", &tuned).expect("copied");
    let tuned = tuned.display();
    let setup = format!("mount -t proc -o hidepid=2 proc /proc; {tuned} 60 >/dev/null 2>&1 &");
    let setup = format!("{setup} until grep -q tuned /proc/$!/comm; do :; done");
    let seen = place.run_after(&setup, TEST, "doctor", &nobody_with(&["sys_ptrace"]));
    contains(&seen, &["tuned runs"]);
    let unseen = place.run_after(&setup, TEST, "doctor", &nobody_with(ALL));
    assert!(!unseen.contains("tuned runs"), "{unseen}");
    contains(&unseen, &["hides the processes of others", "CAP_SYS_PTRACE"]);
}

/// The lines of /proc/thread-self/status that tell rights.
fn told() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("readable");
    let lines = status.lines().filter(|line| line.starts_with("Cap") || line.starts_with("NoNew"));
    lines.map(|line| line.replace('\t', "")).collect::<Vec<_>>().join(" ")
}

fn ask(path: &Path, bytes: &[u8]) -> Value {
    let Ok(mut stream) = UnixStream::connect(path) else { return Value::Null };
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    serde_json::from_slice(&answer).unwrap_or_default()
}

/// A whole daemon on v0, asked for three windows while others send it rubbish, and stopped.
fn daemon(dir: &Path) -> anyhow::Result<String> {
    let socket = path_of(&dir.join("run"), std::process::id());
    let client = std::thread::spawn(move || {
        let mut windows = BTreeSet::new();
        while windows.len() < 3 {
            let held: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
            drop(held);
            ask(&socket, &[b'x'; 9000]);
            let answer = ask(&socket, b"{\"command\":\"status\"}\n");
            windows.extend(answer["window_s"].as_f64().map(f64::to_bits));
            std::thread::sleep(Duration::from_millis(20));
        }
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::TERM).expect("sent");
    });
    let machine = Machine::open()?;
    let options = Options {
        nics: vec![nic::read(&machine, "v0")?],
        conduct: Conduct::alike(
            Duration::from_millis(100),
            true,
            Terms::always(Policy::default(), Consent::Report("nobody consented")),
        ),
        observer: Observer::Tracing,
        state_dir: dir.join("state"),
        runtime_dir: dir.join("run"),
        greeting: Vec::new(),
        group: None,
        accept: AcceptOptions::default(),
        connect: Vec::new(),
        metrics: Audience::default(),
        dry_run: true,
    };
    let say = |line: &str| println!("{line}\n{}", told());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run(options, &machine, &say, &|| None))?;
    client.join().expect("the client was served");
    Ok(format!("{ended:?} {}", told()))
}

#[test]
fn a_daemon_keeps_only_what_the_end_needs() {
    const TEST: &str = "a_daemon_keeps_only_what_the_end_needs";
    if inside(|_, place| daemon(place)) || !may_run() {
        return;
    }
    // A dry run writes nothing: CAP_DAC_OVERRIDE (bit 1) alone is effective, and CAP_PERFMON and
    // CAP_BPF (38, 39) are permitted beside it. Kernels since 5.19 need no more for the maps.
    let set = |name: &str, bits: u64| format!("{name}:{bits:016x}");
    let left = |text: &str, bounding: Option<&str>| {
        let nothing = set("CapInh", 0);
        let (permitted, effective) = (set("CapPrm", 0xc0_0000_0002), set("CapEff", 2));
        contains(text, &["worked: AsAsked", "capabilities kept: CAP_DAC_OVERRIDE, and to observe"]);
        contains(text, &[&nothing, &permitted, &effective, &set("CapAmb", 0), "NoNewPrivs:1"]);
        contains(text, bounding.as_slice());
    };
    let place = Place::new();
    let as_root = place.run(TEST, "daemon", "--bounding-set +all");
    left(&as_root, Some(&set("CapBnd", 0)));
    // Whoever has no CAP_SETPCAP cannot empty the bounding set, and no_new_privs stands for it.
    let as_nobody = place.with(TEST, "daemon", ALL);
    left(&as_nobody, Some("(the bounding set stays: emptying it needs CAP_SETPCAP)"));
}

/// Takes in root's listeners on port 9100, and says what became of each.
fn take_in_listeners(place: &Path) -> anyhow::Result<String> {
    let options = AcceptOptions { ports: BTreeSet::from([9100]), by: None };
    let state_dir = place.join("state");
    let journal = JournalPlace { state_dir: &state_dir, nic: "v0", boot_id: "this boot" };
    let say = |line: &str| println!("{line}");
    let mut accept = Accept::start(&options, &Root::default(), BTreeSet::new(), journal, &say)?;
    let report = accept.report().remove(0);
    let taken = report.workers.iter().filter(|worker| worker.reason.is_none()).count();
    Ok(format!("{taken} of {} taken: {:?}", report.sockets, report.reason))
}

/// Two listeners that share a port, for a minute.
fn listen_for_a_while() -> anyhow::Result<String> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let address: std::net::SocketAddr = "0.0.0.0:9100".parse()?;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        bind(&socket, &address)?;
        sockets.push(socket);
    }
    // Both are bound before the first can be seen.
    for socket in &sockets {
        listen(socket, 8)?;
    }
    std::thread::sleep(Duration::from_mins(1));
    Ok(String::new())
}

#[test]
fn other_peoples_listeners_take_ptrace_and_the_map_net_admin() {
    const TEST: &str = "other_peoples_listeners_take_ptrace_and_the_map_net_admin";
    if inside(|case, place| match case {
        "listen" => listen_for_a_while(),
        _ => take_in_listeners(place),
    }) || !may_run()
    {
        return;
    }
    let place = Place::new();
    let program = place.program.display();
    // 9100 is 238C; two lines of it, in the state of a listener (0A).
    let setup = format!(
        "{CASE}=listen {program} --exact {TEST} >/dev/null 2>&1 & \
         until [ $(grep -c ':238C 00000000:0000 0A' /proc/net/tcp) = 2 ]; do :; done"
    );
    let take = |who: &[&str]| place.run_after(&setup, TEST, "take", &nobody_with(who));
    let with = |more: &'static str| [ALL, &[more]].concat();
    contains(&take(&with("sys_ptrace")), &["worked: 2 of 2 taken: None"]);
    let refused = take(ALL);
    contains(&refused, &["worked: 0 of 2 taken", "nobody is known to hold its socket"]);
    let refused = take(&["bpf", "perfmon", "sys_ptrace", "dac_override"]);
    contains(&refused, &["failed: ", "not permitted"]);
}

#[test]
fn the_socket_is_for_root_and_the_group() {
    const TEST: &str = "the_socket_is_for_root_and_the_group";
    if inside(|_, place| {
        Ok(ask(&place.join("run/it.sock"), b"{\"command\":\"status\"}\n").to_string())
    }) || !may_run()
    {
        return;
    }
    let place = Place::new();
    let runtime_dir = place.path().join("run");
    std::fs::create_dir(&runtime_dir).expect("made");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&runtime_dir, open).expect("opened");
    let socket = path_of(&runtime_dir, std::process::id());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = {
        let _inside = runtime.enter();
        Server::bind(&runtime_dir, Some(GROUP), Limits::default()).expect("bound")
    };
    std::os::unix::fs::symlink(&socket, runtime_dir.join("it.sock")).expect("linked");
    let status = Status::new(Source::Daemon, &World::default(), Vec::new());
    let (_publish, published) =
        tokio::sync::watch::channel(Some(std::sync::Arc::new(Window::new(status))));
    let clients = std::thread::spawn(move || {
        let user = format!("--reuid {USER} --regid {USER}");
        let first = format!("--reuid {USER} --regid {GROUP} --clear-groups");
        let further = format!("{user} --groups 1,2,{GROUP}");
        let none = format!("{user} --clear-groups");
        for who in [&first, &further] {
            contains(&place.run(TEST, "ask", who), &["worked: ", "\"schema\":1"]);
        }
        contains(&place.run(TEST, "ask", &none), &["worked: null"]);
        // Even where the mode lets everybody connect, who they are is looked at.
        let all = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(&socket, all).expect("opened");
        let said = place.run(TEST, "ask", &none);
        contains(&said, &["user 65534 may not ask: root may, and the members of `run.group`"]);
        contains(&place.run(TEST, "ask", "--bounding-set +all"), &["\"schema\":1"]);
        drop(stop);
    });
    runtime.block_on(async {
        tokio::select! {
            () = server.serve(published) => {}
            _ = stopped => {}
        }
    });
    clients.join().expect("each was answered as it should be");
}
