//! What the command line says when something is wrong, by the real program: every message stands in
//! golden/errors.txt, says what, on what, what was expected and what to do, and has the exit code that
//! scripts rely on. After a wanted change run the test with `STEER_ACCEPT=1` in the environment and look
//! at the difference.
//!
//! The program runs in a network namespace with one pair of virtual interfaces, as root and as nobody.
//! That takes root; without it the test is skipped, and fails where it must run (`CI=true`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

#[path = "command_line/covered.rs"]
mod covered;
#[path = "command_line/documents.rs"]
mod documents;
#[path = "command_line/terminal.rs"]
mod terminal;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::pty::OpenptFlags;
use steer_agent::apply::Journal;
use steer_agent::model::World;
use steer_agent::plan::{Change, Target, Value};
use steer_agent::report::{Source, Status};
use steer_agent::sys::owner::{Claim, claim};
use steer_agent::sys::{Machine, Port as _};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "STEER_TEST_INSIDE";
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/errors.txt");

/// Runs `body` inside a fresh network namespace with the pair v0 and v1.
fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "these tests need root");
        println!("skipped: only root can make a network namespace with interfaces");
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
        .status()
        .expect("unshare(1) of util-linux");
    assert!(status.success(), "inside the namespace: {status}");
}

/// A place to run the program in, and what it said so far.
struct Desk {
    dir: tempfile::TempDir,
    said: String,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // Nobody is to get in, too.
        open(dir.path(), 0o755);
        fs::copy(env!("CARGO_BIN_EXE_steer"), dir.path().join("steer")).expect("copied");
        Self { dir, said: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn title(&mut self, title: &str) {
        self.said += &format!("\n# {title}\n");
    }

    /// Runs `steer` with the words of `line`, as root.
    fn steer(&mut self, line: &str) {
        self.run("", line, &[]);
    }

    /// The same as a user who may do nothing.
    fn nobody(&mut self, line: &str) {
        self.run(
            "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all",
            line,
            &[],
        );
    }

    fn with(&mut self, variables: &[(&str, &str)], line: &str) {
        self.run("", line, variables);
    }

    /// The same, with this on standard input.
    fn fed(&mut self, what: &[u8], line: &str) {
        self.write_bytes("input", what);
        let input = fs::File::open(self.path("input")).expect("written");
        self.run_with("", line, &[], input.into());
    }

    /// On a terminal that goes away once something is on it.
    fn until_its_terminal_is_gone(&mut self, line: &str) {
        let (keys, typed) = pseudo_terminal();
        let (screen, shown) = pseudo_terminal();
        let mut command = Command::new(self.path("steer"));
        command.args(line.split_whitespace()).current_dir(self.dir.path());
        command.stdin(typed).stdout(shown).stderr(Stdio::piped());
        let child = command.env("HOME", self.dir.path()).spawn().expect("started");
        // What is shown comes to nobody from now on; keys could still be pressed.
        drop(command);
        fs::File::from(screen).read_exact(&mut [0]).expect("something is shown");
        let output = child.wait_with_output().expect("it ends");
        drop(keys);
        // The terminal's library may have something to say of its cursor first.
        let told = String::from_utf8_lossy(&output.stderr);
        let told = told.split_once("steer: ").map_or("", |(_, told)| told);
        self.said += &format!("(until its terminal is gone)\n# steer {line}\nsteer: {told}");
        self.said += &format!("[{}]\n", output.status.code().unwrap_or(-1));
    }

    fn run(&mut self, before: &str, line: &str, variables: &[(&str, &str)]) {
        self.run_with(before, line, variables, Stdio::null());
    }

    fn run_with(&mut self, before: &str, line: &str, variables: &[(&str, &str)], input: Stdio) {
        let program = self.path("steer").display().to_string();
        let mut words: Vec<&str> = before.split_whitespace().collect();
        words.push(&program);
        words.extend(line.split_whitespace());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.dir.path()).stdin(input);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEER_")) {
            command.env_remove(name);
        }
        command
            .envs(variables.iter().map(|(name, value)| (name, value.replace("DIR", &self.dir()))));
        // Nothing of this machine is read.
        command.env("HOME", self.dir.path());
        let output = command.output().expect("started");
        let set: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let set = set.concat();
        let who = if before.is_empty() { "#" } else { "$" };
        self.said += &format!("{who} {set}steer {line}\n");
        // Figures of this machine are no errors.
        let stdout: &[u8] = if output.status.code() == Some(2) { &output.stdout } else { b"" };
        for bytes in [stdout, &output.stderr] {
            let text = String::from_utf8_lossy(bytes).replace(&self.dir(), "DIR");
            let text = text.replace(&format!("process {}", std::process::id()), "process PID");
            self.said += text.trim_end();
            if !text.trim_end().is_empty() {
                self.said.push('\n');
            }
        }
        let code = output.status.code().map_or("a signal".to_owned(), |code| code.to_string());
        self.said += &format!("[{code}]\n");
    }

    fn dir(&self) -> String {
        self.dir.path().display().to_string()
    }
}

/// Both ends of a terminal, pty(7): whoever has the first sees what is written to the second.
fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::unlockpt(&near).expect("unlocked");
    let far = rustix::pty::ioctl_tiocgptpeer(&near, flags).expect("its other end");
    (near, far)
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn every_error_says_what_on_what_what_was_expected_and_what_to_do() {
    in_namespace("every_error_says_what_on_what_what_was_expected_and_what_to_do", || {
        let mut desk = Desk::new();
        words(&mut desk);
        interfaces(&mut desk);
        configuration(&mut desk);
        files(&mut desk);
        rights(&mut desk);
        daemons(&mut desk);
        owners(&mut desk);
        terminals(&mut desk);
        let found = desk.said.trim_start().to_owned();
        if std::env::var_os("STEER_ACCEPT").is_some() {
            fs::write(GOLDEN, &found).expect("written");
        }
        let expected = fs::read_to_string(GOLDEN).unwrap_or_default();
        assert_eq!(found, expected, "differs from {GOLDEN}");
    });
}

/// What was typed.
fn words(desk: &mut Desk) {
    desk.title("words");
    for line in [
        "statsu",
        "status --jsn",
        "status --for",
        "status --for 3",
        "status --for 1h",
        "status --for 10ms",
        "status --flows",
        "status --watch --from x",
        "status --observer guess",
        "plan --policy same-cor",
        "plan --seed 2",
        "run v0 --accept 0",
        "run v0 --accept http",
        "run v0 --accept-by sk-lookup",
        "run v0 --metrics 9750",
        "run v0 --on-exit explode",
        "replay x --speed fast",
        "record",
        "record -o x --for 1ms",
        "record -o x --anonymise=everything",
        "simulate",
        "simulate long61",
        "simulate long16 web16 --plot x.svg",
        "config",
        "restore --all",
    ] {
        desk.steer(line);
    }
}

/// What was named.
fn interfaces(desk: &mut Desk) {
    desk.title("interfaces: only v0 and v1 are there, and both are virtual");
    for line in [
        "status",
        "status v9",
        "status enp3s0f0",
        "status v0 --for 100ms --json",
        "plan",
        "plan v0",
        "doctor v9",
        "top",
        "apply",
        "apply v9",
        "apply v0",
        "run",
        "run v9",
        "run v0",
        "run --dry-run",
        "record v9 -o rec.steer",
        "report --live 1s -o page.html",
        "report v0 --live 1s -o page.html",
        "report v9 --live 1s -o page.html",
        "status v0 --daemon --runtime-dir state",
        "restore --state-dir state",
        "restore v0 --state-dir state",
        "release --state-dir state",
        "release v9 --state-dir state",
    ] {
        desk.steer(line);
    }
}

fn configuration(desk: &mut Desk) {
    desk.title("configuration");
    desk.write("faulty.toml", "[run]\nperod = \"1s\"\nperiod = 5\n[policy]\npins = -1\n[polcy]\n");
    desk.write("text.toml", "this is no TOML\n");
    desk.write("group.toml", "[run]\ngroup = \"nosuch\"\n");
    fs::create_dir(desk.path("dir.toml")).expect("made");
    for line in [
        "status --config nothing.toml",
        "status --config dir.toml",
        "status --config faulty.toml",
        "config check faulty.toml",
        "config check text.toml",
        "config check nothing.toml",
        "config show --config faulty.toml",
        "run v0 --config group.toml",
        "restore v0 --state-dir state --config faulty.toml",
    ] {
        desk.steer(line);
    }
    desk.with(&[("STEER_RUN_PERIOD", "soon")], "status");
    desk.with(&[("STEER_RUN_PEROD", "1s")], "status");
    desk.with(&[("STEER_CONFIG", "nothing.toml")], "status");
}

/// A planning problem as docs/planner.md has it.
const PROBLEM: &str = r#"
    { "format": 1, "buckets": 2, "queues": 2, "cpus": 2, "allowed_cpus": [0, 1],
      "current": { "table": [0, 1], "affinity": [0, 1] },
      "eps": 0.1, "lambda_load": 8.0, "lambda_move": 0.2, "kappa": 0.5,
      "distance": [[0.0, 1.0], [1.0, 0.0]],
      "consumed": [[0.0, 10.0], [10.0, 0.0]],
      "load": [10.0, 10.0] }
"#;

fn files(desk: &mut Desk) {
    desk.title("files");
    desk.write("text.steer", "this is no recording\n");
    desk.write("text.json", "this is no problem\n");
    desk.write("empty.json", "{}\n");
    fs::write(desk.path("bytes.json"), b"{\"a\": \"\xff\"}").expect("written");
    for (name, from, to) in [
        ("format.json", "\"format\": 1", "\"format\": 7"),
        ("nocap.json", "\"eps\": 0.1, ", ""),
        ("length.json", "[10.0, 10.0] }", "[10.0] }"),
        ("number.json", "\"kappa\": 0.5", "\"kappa\": -1"),
        ("cpu.json", "\"allowed_cpus\": [0, 1]", "\"allowed_cpus\": [0, 7]"),
        ("none.json", "\"allowed_cpus\": [0, 1]", "\"allowed_cpus\": []"),
        ("large.json", "\"buckets\": 2", "\"buckets\": 9000000000000"),
        ("cells.json", "\"cpus\": 2", "\"cpus\": 5000"),
    ] {
        assert!(PROBLEM.contains(from), "{from}");
        desk.write(name, &PROBLEM.replace(from, to));
    }
    // Longer than a gibibyte, and on disk a few bytes.
    let long = fs::File::create(desk.path("long.json")).expect("made");
    long.set_len((1 << 30) + 1).expect("room for nothing");
    desk.write("scenario.toml", "what = 1\n");
    desk.write("there.steer", "");
    for line in [
        "status --from nothing.steer",
        "status --from text.steer",
        "plan --from text.steer",
        "replay nothing.steer",
        "replay text.steer",
        "record --from text.steer -o copy.steer",
        "record --from nothing.steer -o copy.steer",
        "record -o there.steer",
        "record -o no/where.steer",
        "plan --problem nothing.json",
        "plan --problem text.json",
        "plan --problem empty.json",
        "plan --problem bytes.json",
        "plan --problem format.json",
        "plan --problem nocap.json",
        "plan --problem length.json",
        "plan --problem number.json",
        "plan --problem cpu.json",
        "plan --problem none.json",
        "plan --problem large.json",
        "plan --problem cells.json",
        "plan --problem long.json",
        "status --from dir.toml",
        "simulate dir.toml",
        "simulate nothing.toml",
        "simulate scenario.toml",
        "simulate long16 --policy best",
        "simulate long16 --seconds 31 --plot no/where.svg",
    ] {
        desk.steer(line);
    }
    desk.said += "(on standard input: {\"a\": \"\\xff\"})\n";
    desk.fed(b"{\"a\": \"\xff\"}", "plan --problem -");
}

fn rights(desk: &mut Desk) {
    desk.title("rights: as nobody ($), and without type information of the kernel");
    fs::create_dir(desk.path("shut")).expect("made");
    open(&desk.path("shut"), 0o700);
    for line in [
        "status v0 --for 100ms",
        "record v0 -o DIR/rec.steer",
        "restore v0 --state-dir shut",
        "release v0 --state-dir shut",
        "status v0 --config shut/steer.toml",
    ] {
        desk.nobody(line);
    }
    // A /sys that has everything but BTF.
    let (sys, kernel) = (desk.path("sys"), desk.path("sys/kernel"));
    fs::create_dir_all(&kernel).expect("made");
    for (from, to) in [("/sys", &sys), ("/sys/kernel", &kernel)] {
        for entry in fs::read_dir(from).expect("readable") {
            let entry = entry.expect("an entry");
            let name = entry.file_name();
            if name != "kernel" && name != "btf" {
                symlink(entry.path(), to.join(name)).expect("linked");
            }
        }
    }
    desk.with(&[("STEER_PATHS_SYS", "DIR/sys")], "status v0 --for 100ms");
    desk.with(&[("STEER_PATHS_SYS", "DIR/nothing")], "status v0 --for 100ms");
    desk.with(&[("STEER_PATHS_SYS", "DIR/nothing")], "status --for 100ms");
    // One whose interface says nonsense.
    let odd = desk.path("odd/class/net/v0");
    fs::create_dir_all(&odd).expect("made");
    fs::write(odd.join("ifindex"), "many\n").expect("written");
    desk.with(&[("STEER_PATHS_SYS", "DIR/odd")], "status v0 --for 100ms");
}

/// What answers on the daemon's socket, or does not.
fn daemons(desk: &mut Desk) {
    desk.title("a daemon's socket");
    let runtime = desk.path("run");
    fs::create_dir(&runtime).expect("made");
    let socket = runtime.join("daemon-1.sock");
    let line = "status v0 --for 100ms --runtime-dir run";
    let listener = UnixListener::bind(&socket).expect("bound");
    open(&socket, 0o600);
    desk.nobody(line);
    let of_others = Status::new(Source::Daemon, &World::default(), Vec::new());
    let of_others = serde_json::to_string(&of_others).expect("written");
    let answers = [
        ("nonsense\n", "nonsense"),
        ("{\"error\":\"user 7 may not ask\"}\n", "a refusal"),
        ("", "nothing"),
        (of_others.as_str(), "the status of no NIC"),
    ];
    for (answer, what) in answers.map(|(answer, what)| (answer.to_owned(), what)) {
        let listener = listener.try_clone().expect("cloned");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        });
        desk.said += &format!("(it answers {what})\n");
        desk.steer(&format!("{line} --json"));
        answering.join().expect("answered");
    }
    drop(listener);
    desk.said += "(nobody listens any more)\n";
    desk.steer(line);
    open(&runtime, 0o700);
    desk.nobody(line);
}

/// A NIC that another steer has in hand, with a journal of what that has written.
fn owners(desk: &mut Desk) {
    desk.title("another steer has v0 in hand");
    let machine = Machine::open().expect("this machine");
    let device = machine.identity("v0").expect("there");
    let boot_id = machine.boot_id().expect("known");
    let ifindex = device.ifindex;
    let mut journal = Journal::new(&desk.path("held"), "v0", device, boot_id);
    let [from, to] = ["0-1", "0"].map(|cpus| Value::Cpus(cpus.parse().expect("a list")));
    let change = Change { target: Target::Xps { queue: 0 }, from, to };
    journal.intend(&[change], |_| None).expect("written");
    let owner = claim(ifindex).expect("asked");
    assert!(matches!(owner, Claim::Ours(_)), "{owner:?}");
    for line in [
        "restore --state-dir held",
        "release --state-dir held",
        "restore v0 --state-dir held",
        "release v0 --state-dir held",
    ] {
        desk.steer(line);
    }
    drop(owner);
    // The journal of a NIC that has another name by now, and one by a steer that is to come.
    let path = desk.path("held/journal-v0");
    let text = fs::read_to_string(&path).expect("a journal");
    fs::rename(&path, desk.path("held/journal-v1")).expect("renamed");
    desk.steer("restore v1 --state-dir held");
    let (document, _) = text.rsplit_once("\ncrc32 ").expect("a checksum");
    let later = document.replace("\"format\": 1", "\"format\": 9");
    desk.write(
        "held/journal-v0",
        &format!("{later}\ncrc32 {:08x}\n", crc32fast::hash(later.as_bytes())),
    );
    desk.steer("restore v0 --state-dir held");
    desk.write("held/journal-v0", &text[..text.len() / 2]);
    desk.steer("restore v0 --state-dir held");
}

fn terminals(desk: &mut Desk) {
    desk.title("a terminal that goes away");
    desk.until_its_terminal_is_gone("top v0 --for 200ms");
}
