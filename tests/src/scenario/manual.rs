//! Every command of the documents that needs a NIC, as it stands there; and the configurations of load
//! balancers, by the programs that they are for.
//!
//! The list is the documents': a command that is written into one of them is run here from then on. One
//! that cannot be run must be an exception with a reason (`documents::EXCEPTIONS`).

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command as Program, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::align::correctable_load;
use crate::{
    documents::{self, Block, Command, Document, Kind, Needs},
    guest::{Guest, NIC, PEER, run as program},
    load::{Load, Spec, server::Assign},
    nic::State,
    proxy::programs,
    steer::{Daemon, exit, finish},
};

/// Where the configuration of a document goes, and steer looks for it.
const CONFIGURATION: &str = "/etc/steer/steer.toml";
/// Where commands are run.
const DIRECTORY: &str = "/tmp/manual";
const CGROUPS: &str = "/sys/fs/cgroup";
/// While it is there, something can be restored.
const JOURNAL: &str = "/var/lib/steer/journal-eth0";
/// Longer recordings are cut down to this.
const RECORDED: &str = "6s";
/// For what runs until it is told to end.
const WHILE: Duration = Duration::from_secs(4);

/// What is longest has a machine for itself.
const GUIDE: &str = "docs/guide.md";

pub(super) fn run(guest: &Guest) -> Result<()> {
    let others = documents::all()?.into_iter().filter(|document| document.name != GUIDE);
    follow(guest, &others.collect::<Vec<_>>(), BTreeSet::new())
}

pub(super) fn guide(guest: &Guest) -> Result<()> {
    let (guide, others): (Vec<_>, Vec<_>) =
        documents::all()?.into_iter().partition(|document| document.name == GUIDE);
    let mut seen = BTreeSet::new();
    for document in others {
        seen.extend(document.commands()?.into_iter().map(|command| command.text));
    }
    follow(guest, &guide, seen)
}

/// Does what the documents say, but for what was `seen` elsewhere.
fn follow(guest: &Guest, documents: &[Document], seen: BTreeSet<String>) -> Result<()> {
    guest.spread()?;
    let load = correctable_load(guest)?;
    let web = Spec {
        flows: 8,
        rate: 100,
        assign: Assign::Reuseport,
        short: true,
        port: 80,
        name: "web".to_owned(),
        client_in: PEER.to_owned(),
        ..Spec::default()
    };
    let web = Load::start(guest, &web)?;
    // What one command writes another reads.
    fs::create_dir_all(DIRECTORY)?;
    std::env::set_current_dir(DIRECTORY)?;
    let original = State::read(NIC)?;
    let mut manual = Manual { guest, original, seen, run: 0, failed: Vec::new() };
    for document in documents {
        manual.document(document)?;
    }
    let Manual { run, failed, .. } = manual;
    guest.say(format_args!("{run} different commands were run"));
    ensure!(failed.is_empty(), "{} failed: {}", failed.len(), failed.join("; "));
    web.stop()?;
    guest.expect_nothing_lost(load)
}

struct Manual<'a> {
    guest: &'a Guest,
    /// How the NIC is set without steer.
    original: State,
    /// What was run, by its text: the same command says the same thing in every document.
    seen: BTreeSet<String>,
    run: usize,
    failed: Vec<String>,
}

impl Manual<'_> {
    /// Does what a document says.
    fn document(&mut self, document: &Document) -> Result<()> {
        let commands = document.commands()?;
        for block in &document.blocks {
            let what = format!("{}:{}", document.name, block.line);
            if let Err(error) = self.configuration(block) {
                self.failed.push(format!("{what}: {error:#}"));
            }
            let end = block.line + block.text.lines().count();
            let of_block = commands.iter().filter(|command| {
                let line = command.place.rsplit(':').next().and_then(|line| line.parse().ok());
                block.kind == Kind::Commands
                    && line.is_some_and(|line: usize| (block.line..end).contains(&line))
            });
            for command in of_block {
                self.command(command);
            }
        }
        self.put_back()?;
        let _ = fs::remove_file(CONFIGURATION);
        Ok(())
    }

    fn command(&mut self, command: &Command) {
        // The tests on the host have run what needs nothing, but for what lies at its own place.
        let is_elsewhere =
            command.needs() == Some(Needs::Nothing) && !command.text.contains(CONFIGURATION);
        if command.exception().is_some() || is_elsewhere || !self.seen.insert(command.text.clone())
        {
            return;
        }
        self.run += 1;
        match self.perform(command) {
            Ok(()) => self.guest.say(format_args!("ok: {command}")),
            Err(error) => {
                self.guest.say(format_args!("FAILED: {command}: {error:#}"));
                self.failed.push(format!("{command}: {error:#}"));
            }
        }
    }

    fn perform(&self, command: &Command) -> Result<()> {
        let Some(arguments) = command.steer() else { return shell(command) };
        let subcommand = arguments.first().copied().unwrap_or_default();
        if let Some(file) = command.value_of("-o") {
            // The same name may be written to in two places of a document.
            let _ = fs::remove_file(file);
        }
        if command.needs() == Some(Needs::Nic) {
            self.prepare(subcommand)?;
        }
        match subcommand {
            "run" if arguments.iter().any(|word| word.contains("$(pidof")) => {
                let mut stand_in = StandIn::start()?;
                let pid = stand_in.0.id().to_string();
                let words = arguments.iter().map(|word| match word.split_once("$(pidof") {
                    Some((head, _)) => format!("{head}{pid}"),
                    None => (*word).to_owned(),
                });
                let words: Vec<String> = words.collect();
                let daemon = self.daemon(&words.iter().map(String::as_str).collect::<Vec<_>>());
                stand_in.0.kill()?;
                daemon
            }
            "run" => self.daemon(&arguments),
            "top" => top(self.guest, &arguments),
            _ if arguments.contains(&"--watch") => watch(self.guest, &arguments),
            _ => {
                let arguments: Vec<&str> = arguments
                    .iter()
                    .map(|word| if *word == "60s" { RECORDED } else { *word })
                    .collect();
                let code = self.guest.steer(&arguments)?;
                // Whether a correction is worth its price depends on the second it looks at; and a
                // configuration need not be there.
                let may_be_nothing = matches!(subcommand, "apply" | "plan" | "config" | "report");
                ensure!(
                    code.code == exit::DONE || may_be_nothing && code.code == exit::NOT_MET,
                    "exit code {}: {}{}",
                    code.code,
                    code.stdout,
                    code.stderr.trim()
                );
                let is_quiet = command.value_of("-o").is_some() || !code.stderr.is_empty();
                ensure!(is_quiet || !code.stdout.trim().is_empty(), "it says nothing");
                Ok(())
            }
        }
    }

    /// Brings about what a command that writes is for: something to put back, or nothing that is left over.
    fn prepare(&self, subcommand: &str) -> Result<()> {
        if matches!(subcommand, "restore" | "release") {
            if !is_held() {
                let daemon = Daemon::start(self.guest, &[NIC, "--on-exit", "keep"])?;
                thread::sleep(WHILE);
                daemon.terminate()?;
            }
            return Ok(());
        }
        self.put_back()
    }

    /// The NIC as it was, whatever a command has left.
    fn put_back(&self) -> Result<()> {
        if is_held() {
            self.guest.steer(&["restore", NIC])?;
        }
        // What was released stays as steer has set it, which is what it is for.
        if self.original.difference(&State::read(NIC)?).is_empty() {
            return Ok(());
        }
        self.guest.spread()
    }

    /// `steer run`: gets ready, does what it was asked to, ends when told to and leaves nothing.
    fn daemon(&self, arguments: &[&str]) -> Result<()> {
        let values = |option: &str| -> Vec<&str> {
            let mut words = arguments.iter();
            std::iter::from_fn(|| words.find(|word| **word == option).and_then(|_| words.next()))
                .copied()
                .collect()
        };
        for cgroup in values("--connect").iter().filter(|cgroup| !cgroup.starts_with("pid:")) {
            fs::create_dir_all(Path::new(CGROUPS).join(cgroup)).context("cannot make a cgroup")?;
        }
        let before = State::read(NIC)?;
        let daemon = Daemon::start(self.guest, &arguments[1..])?;
        thread::sleep(WHILE);
        let status = self.guest.steer_expecting(exit::DONE, &["status", "--json"])?;
        let status: Value = serde_json::from_str(&status)?;
        ensure!(status["source"] == "daemon", "the daemon does not answer: {status}");
        for (option, part) in [("--accept", "listeners"), ("--connect", "connects")] {
            let is_there = status[part].as_array().is_some_and(|list| !list.is_empty());
            ensure!(values(option).is_empty() || is_there, "status has no `{part}`: {status}");
        }
        let ended = daemon.terminate()?;
        ensure!(ended.code == exit::DONE, "ended with {}: {}", ended.code, ended.stderr.trim());
        let keeps = values("--on-exit").contains(&"keep");
        let difference = before.difference(&State::read(NIC)?);
        ensure!(keeps || difference.is_empty(), "not as before: {difference}");
        Ok(())
    }

    /// A configuration in a document: steer's is put where it is looked for, others are shown to their
    /// programs.
    fn configuration(&self, block: &Block) -> Result<()> {
        let Kind::Language(language) = &block.kind else { return Ok(()) };
        let file = format!("example.{language}");
        match language.as_str() {
            "toml" if block.text.contains("[run]") => {
                fs::create_dir_all("/etc/steer")?;
                fs::write(CONFIGURATION, &block.text)?;
                let cgroups = block.text.lines().filter(|line| line.starts_with("connect"));
                for cgroup in cgroups.flat_map(|line| line.split('"').skip(1).step_by(2)) {
                    fs::create_dir_all(Path::new(CGROUPS).join(cgroup))?;
                }
            }
            "haproxy" => {
                fs::write(&file, &block.text)?;
                let mut check = programs::command(self.guest, "haproxy");
                accepted(check.args(["-c", "-f", &file]))?;
                self.guest.say("ok: haproxy takes the configuration");
            }
            "nginx" => {
                fs::write(&file, &block.text)?;
                let path = std::env::current_dir()?.join(&file);
                // Made by the package, which is unpacked and not installed here.
                for directory in ["/var/lib/nginx", "/var/log/nginx"] {
                    fs::create_dir_all(directory)?;
                }
                let mut check = programs::command(self.guest, "nginx");
                let prefix = path.parent().context("a directory")?;
                let own = "pid nginx.pid; error_log stderr;";
                check
                    .args(["-t", "-e", "stderr", "-g", own, "-p"])
                    .arg(prefix)
                    .arg("-c")
                    .arg(&path);
                accepted(&mut check)?;
                self.guest.say("ok: nginx takes the configuration");
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether steer has left something to undo.
fn is_held() -> bool {
    Path::new(JOURNAL).exists()
}

/// A process in a cgroup of its own, in the place of the program that a command names.
struct StandIn(Child);

impl StandIn {
    fn start() -> Result<Self> {
        let cgroup = format!("{CGROUPS}/stand-in");
        fs::create_dir_all(&cgroup)?;
        let child = Program::new("sleep").arg("600").spawn().context("cannot run sleep")?;
        fs::write(format!("{cgroup}/cgroup.procs"), child.id().to_string())?;
        Ok(Self(child))
    }
}

/// Whether a program says yes.
fn accepted(command: &mut Program) -> Result<()> {
    let finished = finish(command)?;
    ensure!(finished.code == 0, "{}{}", finished.stdout, finished.stderr);
    Ok(())
}

/// A command of the shell.
fn shell(command: &Command) -> Result<()> {
    program("sh", &["-ec", &command.text]).map(drop)
}

/// `steer status --watch`: prints until it is interrupted.
fn watch(guest: &Guest, arguments: &[&str]) -> Result<()> {
    let mut command = Program::new(&guest.steer);
    let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    thread::sleep(3 * WHILE);
    kill_process(Pid::from_child(&child), Signal::INT)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.matches("aligned").count() > 1, "it was not printed again: {text}");
    Ok(())
}

/// `steer top`: a terminal is needed, and a finger on `q`.
fn top(guest: &Guest, arguments: &[&str]) -> Result<()> {
    let steer = guest.steer.display();
    let line = format!("{steer} {}", arguments.join(" "));
    if !Path::new("/dev/pts/ptmx").exists() {
        fs::create_dir_all("/dev/pts")?;
        program("mount", &["-t", "devpts", "devpts", "/dev/pts"])?;
    }
    let screen = format!("stty rows 40 cols 120; exec {line}");
    // It starts as slowly as the others do, on an emulated CPU.
    let script = format!("(sleep 10; printf q; sleep 5) | script -qec '{screen}' typescript");
    program("sh", &["-ec", &script])?;
    let shown = fs::read("typescript").context("no typescript")?;
    if !String::from_utf8_lossy(&shown).contains(NIC) {
        bail!("the screen does not show {NIC}");
    }
    Ok(())
}
