//! The Debian package in a machine that systemd runs: installed, used, reloaded, killed, hung, upgraded,
//! stopped and purged, after which nothing is left.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::align::correctable;
use crate::{
    guest::{Guest, NIC, read, run},
    load::{Load, Spec},
    nic::State,
    steer::exit,
    systemd::{self, journal, property, succeed, systemctl},
};

pub(super) const NAME: &str = "package";

const UNIT: &str = "steer";
const CONFIG: &str = "/etc/steer/steer.toml";
const UNITS: &str = "/run/systemd/system";
const POD: &str = "/tmp/pod";
const DROP_IN: &str = "/etc/systemd/system/steer.service.d";
const ENOUGH: f64 = 0.90;
/// Beside a build on the host, an emulated machine takes its time to load the programs.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where something of a package could be left.
const PLACES: [&str; 10] = [
    "/etc",
    "/run",
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/usr/bin",
    "/usr/share/bash-completion",
    "/usr/share/fish",
    "/usr/share/zsh",
    "/var/lib",
    "/var/tmp",
];

pub(super) fn run_scenario(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let packages = guest.program.parent().and_then(Path::parent).context("a target directory")?;
    let packages = packages.join("lab/packages");
    let guest = &Guest {
        nic: guest.nic.clone(),
        nics: guest.nics,
        cpus: guest.cpus,
        program: guest.program.clone(),
        steer: PathBuf::from("/usr/bin/steer"),
    };
    let before = traces()?;
    guest.expect("no trace of steer before", before.is_empty(), before.join("\n"))?;

    installed(guest, &packages.join("present.deb"), &original)?;
    contained(guest)?;
    // Slower than elsewhere, to leave the emulated CPUs to systemd and dpkg: an upgrade beside a load takes
    // them a minute.
    let load = correctable(guest, &Spec { rate: 600, ..Spec::default() })?;
    // Shorter than the unit's, for the test's sake; an upgrade has the unit's own again.
    fs::create_dir_all(DROP_IN)?;
    let shorter = "[Service]\nWatchdogSec=15s\nTimeoutAbortSec=1s\n";
    fs::write(format!("{DROP_IN}/watchdog.conf"), shorter)?;
    succeed(&["daemon-reload"])?;
    started(guest, &load)?;
    reloaded(guest)?;
    killed(guest, &load)?;
    hung(guest, &load)?;
    upgraded(guest, &packages.join("next.deb"), &load)?;

    succeed(&["stop", UNIT])?;
    guest.expect_equal("state after stop", &property(UNIT, "ActiveState")?, &"inactive".into())?;
    guest.expect_state("after systemctl stop", &original)?;

    purged(guest, &load, &original)?;
    guest.expect_nothing_lost(load)
}

/// What a new user sees: a service that is enabled and does nothing, and one command with the truth.
fn installed(guest: &Guest, package: &Path, original: &State) -> Result<()> {
    install(guest, package)?;
    guest.expect_equal("enabled", &property(UNIT, "UnitFileState")?, &"enabled".into())?;
    guest.expect_equal("state", &property(UNIT, "ActiveState")?, &"inactive".into())?;
    let said = journal(UNIT)?;
    guest.expect("the journal says why", said.contains("names no interface"), &said)?;
    succeed(&["start", UNIT])?;
    guest.expect_equal("state", &property(UNIT, "ActiveState")?, &"inactive".into())?;
    guest.expect_equal("restarts", &property(UNIT, "NRestarts")?, &"0".into())?;
    let status = guest.steer_expecting(exit::DONE, &["status"])?;
    guest.expect("status without arguments shows the NIC", status.contains(NIC), &status)?;
    guest.expect_state("installing and looking", original)?;
    let page = run("man", &["--where", "steer-status"])?;
    guest.say(format_args!("ok: man steer-status: {}", page.trim()));
    Ok(())
}

/// As in a container that may only look: nothing but the program in its root, read-only /proc and /sys, the
/// host's below /host, two capabilities. systemd makes it, from the terms of deploy/kubernetes.
fn contained(guest: &Guest) -> Result<()> {
    for directory in ["usr/bin", "proc", "sys", "dev", "run", "host/proc", "host/sys", "state"] {
        fs::create_dir_all(format!("{POD}/{directory}"))?;
    }
    fs::copy(&guest.steer, format!("{POD}/usr/bin/steer"))?;
    let unit = |kind: &str, command: &str| {
        format!(
            "[Service]\nType={kind}\nRootDirectory={POD}\nMountAPIVFS=yes\n\
             ProtectKernelTunables=yes\nNoNewPrivileges=yes\n\
             CapabilityBoundingSet=CAP_BPF CAP_PERFMON\n\
             BindReadOnlyPaths=/proc:/host/proc /sys:/host/sys\n\
             Environment=STEER_ROOT=/host STEER_RUN_DRY_RUN=true STEER_PATHS_STATE_DIR=/state/lib \
             STEER_PATHS_RUNTIME_DIR=/state/run\nExecStart=/usr/bin/steer {command}\n"
        )
    };
    let (look, filtered) = ("lab-pod-doctor.service", "lab-pod-filtered.service");
    fs::write(format!("{UNITS}/lab-pod.service"), unit("exec", "run"))?;
    // 1 is what it says where something is missing: here, the right to write.
    let doctor = unit("oneshot", "doctor eth0") + "SuccessExitStatus=1\n";
    fs::write(format!("{UNITS}/{look}"), &doctor)?;
    // As container runtimes do: the capabilities are there, and the system call is not.
    let no_bpf =
        doctor + "SystemCallFilter=~bpf\nSystemCallErrorNumber=EPERM\nSuccessExitStatus=2\n";
    fs::write(format!("{UNITS}/{filtered}"), no_bpf)?;
    succeed(&["daemon-reload"])?;
    succeed(&["start", look])?;
    let said = journal(look)?;
    guest.expect("doctor in a container sees the NIC", said.contains("igb"), &said)?;
    for line in said.lines() {
        guest.say(format_args!("  {line}"));
    }
    succeed(&["start", filtered])?;
    let said = journal(filtered)?;
    let seen = said.contains("the kernel refuses an eBPF program all the same");
    guest.expect("doctor tries to load a program, and says what may forbid it", seen, &said)?;
    succeed(&["start", "lab-pod.service"])?;
    let place = format!("{POD}/state/run");
    let mut answer = None;
    crate::guest::wait_for("an answer from the container", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        let asked = guest.steer(&["status", "--daemon", "--json", "--runtime-dir", &place])?;
        answer = (asked.code == exit::DONE).then_some(asked.stdout);
        Ok(answer.is_some())
    })
    .with_context(|| journal("lab-pod").unwrap_or_default())?;
    let document: Value = serde_json::from_str(&answer.unwrap_or_default())?;
    let nic = &document["nics"][0];
    guest.expect_equal("NIC seen", &nic["name"].as_str(), &Some(NIC))?;
    guest.expect_equal("its state", &nic["state"].as_str(), &Some("observing"))?;
    let queues = nic["queues"].as_array().map(Vec::len).unwrap_or_default();
    guest.expect_within("its queues", &queues, 2..)?;
    guest.expect("with interrupts", nic["queues"][0]["irq"].is_u64(), &document)?;
    succeed(&["stop", "lab-pod.service"])?;
    for unit in ["lab-pod.service", look, filtered] {
        fs::remove_file(format!("{UNITS}/{unit}"))?;
    }
    fs::remove_dir_all(POD)?;
    succeed(&["daemon-reload"])
}

fn started(guest: &Guest, load: &Load) -> Result<()> {
    configure("interfaces = [\"eth0\"]")?;
    succeed(&["start", UNIT])?;
    guest.expect_equal("state", &property(UNIT, "ActiveState")?, &"active".into())?;
    until_aligned(guest, load)?;
    let status = guest.status(NIC, &[])?;
    guest.expect_equal("state", &status["state"].as_str(), &Some("steering"))?;
    // Told with the first look, and anew every ten seconds.
    let told = || Ok(property(UNIT, "StatusText")?.contains(" aligned"));
    crate::guest::wait_for("a sentence in systemctl status", Duration::from_secs(20), told)?;
    guest.say(format_args!("ok: systemctl status says: {}", property(UNIT, "StatusText")?));
    let process = format!("/proc/{}/status", property(UNIT, "MainPID")?);
    let process = fs::read_to_string(process)?;
    let line = |name: &str| process.lines().find_map(|line| line.strip_prefix(name));
    let rights = [line("CapEff:"), line("CapBnd:"), line("NoNewPrivs:"), line("Seccomp:")];
    let rights = rights.map(|value| value.unwrap_or_default().trim());
    // CAP_DAC_OVERRIDE (1) and CAP_NET_ADMIN (12), an empty bounding set, and a filter (2).
    let expected = ["0000000000001002", "0000000000000000", "1", "2"];
    guest.expect_equal("what the process may", &rights, &expected)
}

/// A fault changes nothing and fails the reload; what is right is taken over.
fn reloaded(guest: &Guest) -> Result<()> {
    let process = property(UNIT, "MainPID")?;
    configure("interfaces = [\"eth0\"]\nperiot = \"2s\"")?;
    let failed = systemctl(&["reload", UNIT])?;
    guest.expect("a fault fails the reload", failed.code != 0, failed.code)?;
    let said = journal(UNIT)?;
    guest.expect("and is named", said.contains("periot"), &said)?;
    configure("interfaces = [\"eth0\"]\nperiod = \"1500ms\"")?;
    succeed(&["reload", UNIT])?;
    crate::guest::wait_for("the reload", Duration::from_secs(20), || {
        Ok(journal(UNIT)?.contains("configuration reloaded: run.period"))
    })?;
    systemd::until(UNIT, "ActiveState", "active", PATIENCE)?;
    guest.expect_equal("process after reloads", &property(UNIT, "MainPID")?, &process)
}

/// After a kill -9 everything is put back, and a new daemon begins.
fn killed(guest: &Guest, load: &Load) -> Result<()> {
    signal(Signal::KILL)?;
    systemd::until(UNIT, "NRestarts", "1", PATIENCE)?;
    systemd::until(UNIT, "ActiveState", "active", PATIENCE)?;
    let said = journal(UNIT)?;
    guest.expect(
        "what the killed one had set is put back",
        said.contains("eth0: restored"),
        &said,
    )?;
    until_aligned(guest, load)
}

/// A daemon whose loop stands still is replaced.
fn hung(guest: &Guest, load: &Load) -> Result<()> {
    signal(Signal::STOP)?;
    systemd::until(UNIT, "NRestarts", "2", PATIENCE)?;
    systemd::until(UNIT, "ActiveState", "active", PATIENCE)?;
    let said = run("journalctl", &["--no-pager", "--output", "cat", "--lines", "60"])?;
    guest.expect("by the watchdog", said.contains("Watchdog timeout"), &said)?;
    fs::remove_dir_all(DROP_IN)?;
    succeed(&["daemon-reload"])?;
    until_aligned(guest, load)
}

fn upgraded(guest: &Guest, package: &Path, load: &Load) -> Result<()> {
    let (process, config) = (property(UNIT, "MainPID")?, read(CONFIG)?);
    install(guest, package)?;
    systemd::until(UNIT, "ActiveState", "active", PATIENCE)?;
    guest.expect("another process", property(UNIT, "MainPID")? != process, &process)?;
    let now = read(CONFIG)?;
    guest.expect("the configuration is kept", now == config, &now)?;
    until_aligned(guest, load)
}

/// Even what was to be kept at the end of a run is put back when steer goes.
fn purged(guest: &Guest, load: &Load, original: &State) -> Result<()> {
    configure("interfaces = [\"eth0\"]\non_exit = \"keep\"")?;
    succeed(&["start", UNIT])?;
    until_aligned(guest, load)?;
    succeed(&["stop", UNIT])?;
    let kept = !original.difference(&State::read(NIC)?).is_empty();
    guest.expect("with on_exit = \"keep\" it stays corrected", kept, "it is as before")?;
    run("dpkg", &["--purge", "steer"])?;
    guest.expect_state("after the purge", original)?;
    let left = traces()?;
    guest.expect("nothing is left of steer", left.is_empty(), left.join("\n"))?;
    guest.expect_equal("the unit", &property(UNIT, "LoadState")?, &"not-found".into())
}

fn install(guest: &Guest, package: &Path) -> Result<()> {
    ensure!(package.is_file(), "there is no {}", package.display());
    let said = run("dpkg", &["--install", &package.to_string_lossy()])?;
    guest.say(said.trim());
    let version = run("dpkg-query", &["--show", "--showformat", "${Version} ${Status}", "steer"])?;
    guest.expect("installed", version.ends_with("install ok installed"), &version)?;
    guest.say(format_args!("ok: {version}"));
    Ok(())
}

/// As a user would who takes the hash signs away.
fn configure(lines: &str) -> Result<()> {
    let text = fs::read_to_string(CONFIG)?;
    let (before, rest) = text.split_once("[run]\n").context("the configuration has no [run]")?;
    let rest = rest.split_once("\n\n").map_or(rest, |(_, rest)| rest);
    Ok(fs::write(CONFIG, format!("{before}[run]\n{lines}\n\n{rest}"))?)
}

fn signal(signal: Signal) -> Result<()> {
    let process = property(UNIT, "MainPID")?.parse()?;
    Ok(kill_process(Pid::from_raw(process).context("no process")?, signal)?)
}

fn until_aligned(guest: &Guest, load: &Load) -> Result<()> {
    let mut shares = Vec::new();
    for second in 1..=60 {
        let share = load.window(Duration::from_secs(1))?.share();
        shares.push(format!("{share:.2}"));
        if share >= ENOUGH {
            guest.say(format_args!("ok: aligned after {second} s: {}", shares.join(" ")));
            return Ok(());
        }
    }
    anyhow::bail!("not aligned within 60 s: {}\n{}", shares.join(" "), journal(UNIT)?)
}

/// Files and cgroups that are called after steer, but for those of the lab.
fn traces() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for place in PLACES {
        walk(Path::new(place), &mut found)?;
    }
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<String>) -> Result<()> {
    // What vanishes meanwhile, or is a file, has nothing below it.
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains("steer") && !name.contains("steer-lab") {
            found.push(entry.path().display().to_string());
        }
        // systemd's own runtime data go with the machine.
        let own = entry.path() == Path::new("/run/systemd");
        if !own && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found)?;
        }
    }
    Ok(())
}
