//! What steer cannot do it declines: with a sentence, the right exit code, and nothing changed.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, PATIENCE, ip, run as command, wait_for, write},
    load::Load,
    nic::State,
    steer::{Daemon, Finished, exit, finish},
};

const STATE_DIR: &str = "/var/lib/steer";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;

    unknown_and_unsuitable(guest)?;
    if !guest.honours_table() {
        let refused = guest.steer(&["run", NIC])?;
        expect_refusal(guest, "a NIC with one queue", &refused, &[NIC, "table"])?;
        return guest.expect_state("after all that", &original);
    }
    without_privilege(guest)?;
    without_btf(guest)?;
    state_directories(guest)?;
    guest.expect_state("after all that", &original)?;

    let load = correctable_load(guest)?;
    second_daemon(guest, &original)?;
    corrupt_journal(guest, &load)?;
    guest.expect_state("after all that", &original)?;
    guest.expect_nothing_lost(load)?;

    interface_down(guest)?;
    interface_vanishes(guest)
}

/// Exit code 2 and one sentence that names what it is about.
fn expect_refusal(guest: &Guest, what: &str, got: &Finished, words: &[&str]) -> Result<()> {
    let stderr = got.stderr.trim();
    guest.say(format_args!("{what}: exit code {}: {stderr}", got.code));
    ensure!(got.code == exit::FAILED, "{what}: expected exit code 2, got {}", got.code);
    ensure!(!stderr.is_empty(), "{what}: nothing on stderr");
    ensure!(!stderr.contains("panicked"), "{what}: a panic is no refusal");
    for word in words {
        let there = stderr.to_lowercase().contains(&word.to_lowercase());
        ensure!(there, "{what}: the sentence does not mention {word}: {stderr}");
    }
    Ok(())
}

fn unknown_and_unsuitable(guest: &Guest) -> Result<()> {
    for verb in ["status", "plan", "apply", "run", "restore"] {
        let refused = guest.steer(&[verb, "nosuch0"])?;
        expect_refusal(guest, &format!("{verb} of an unknown NIC"), &refused, &["nosuch0"])?;
    }
    let refused = guest.steer(&["run", "lo"])?;
    expect_refusal(guest, "the loopback", &refused, &["lo"])?;
    guest.steer_expecting(exit::NOT_MET, &["release", "lo"])?;
    ip("link add left0 type veth peer name right0")?;
    ip("link set left0 up")?;
    let refused = guest.steer(&["run", "left0"])?;
    expect_refusal(guest, "a veth", &refused, &["left0"])?;
    ip("link del left0")?;
    let refused = guest.steer(&["run"])?;
    // Writing needs a name; the refusal lists what could be named.
    let words: &[&str] = if guest.honours_table() { &[NIC] } else { &[] };
    expect_refusal(guest, "run without a name", &refused, words)
}

fn without_privilege(guest: &Guest) -> Result<()> {
    // Where the program lies may not be for everybody to see.
    let copy = Path::new("/tmp/steer");
    fs::copy(&guest.steer, copy)?;
    for verb in ["status", "run"] {
        let mut unprivileged = Command::new("setpriv");
        unprivileged.args(["--reuid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
        let refused = finish(unprivileged.arg(copy).args([verb, NIC]))?;
        expect_refusal(guest, &format!("{verb} without privilege"), &refused, &["root"])?;
    }
    Ok(())
}

fn without_btf(guest: &Guest) -> Result<()> {
    let btf = "/sys/kernel/btf";
    command("mount", &["-t", "tmpfs", "none", btf])?;
    let refused = guest.steer(&["run", NIC]);
    command("umount", &[btf])?;
    expect_refusal(guest, "a kernel without BTF", &refused?, &["BTF"])
}

fn state_directories(guest: &Guest) -> Result<()> {
    let directory = "/tmp/state";
    fs::create_dir_all(directory)?;
    command("mount", &["-t", "tmpfs", "-o", "ro", "none", directory])?;
    let refused = guest.steer(&["run", NIC, "--state-dir", directory]);
    command("umount", &[directory])?;
    expect_refusal(guest, "a read-only state directory", &refused?, &[directory])?;

    // The smallest there is, and full.
    command("mount", &["-t", "tmpfs", "-o", "size=4k", "none", directory])?;
    fs::write(format!("{directory}/filler"), [b'x'; 4096])?;
    let load = correctable_load(guest)?;
    let refused = guest.steer(&["run", NIC, "--state-dir", directory]);
    command("umount", &[directory])?;
    expect_refusal(guest, "a full state directory", &refused?, &[directory])?;
    guest.expect_nothing_lost(load)
}

fn second_daemon(guest: &Guest, original: &State) -> Result<()> {
    let mut first = Daemon::start(guest, &[NIC])?;
    let refused = guest.steer(&["run", NIC])?;
    expect_refusal(guest, "a second daemon", &refused, &[NIC])?;
    let arguments =
        ["run", NIC, "--runtime-dir", "/tmp/elsewhere", "--state-dir", "/tmp/elsewhere"];
    let refused = guest.steer(&arguments)?;
    expect_refusal(guest, "a second daemon with other directories", &refused, &[NIC])?;
    // It has something to restore once it has written.
    wait_for("the first daemon's first write", PATIENCE, || {
        Ok(!original.difference(&State::read(NIC)?).is_empty())
    })?;
    let refused = guest.steer(&["restore", NIC])?;
    expect_refusal(guest, "restore beside the daemon", &refused, &[NIC])?;
    guest.expect("the first daemon goes on", first.is_alive()?, "its end")?;
    let ended = first.terminate()?;
    guest.expect_equal("its exit code", &ended.code, &exit::DONE)
}

type Damage = fn(&[u8]) -> Vec<u8>;

fn corrupt_journal(guest: &Guest, load: &Load) -> Result<()> {
    let daemon = Daemon::start(guest, &[NIC, "--on-exit", "keep"])?;
    until_aligned(guest, load, &daemon)?;
    daemon.terminate()?;
    let kept = State::read(NIC)?;
    let journals = files(STATE_DIR)?;
    ensure!(!journals.is_empty(), "run --on-exit keep left no journal in {STATE_DIR}");

    let damages: [(&str, Damage); 3] = [
        ("an empty journal", |_| Vec::new()),
        ("a journal cut in half", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("a journal of garbage", |bytes| vec![0xff; bytes.len()]),
    ];
    for (what, damage) in damages {
        for (path, bytes) in &journals {
            fs::write(path, damage(bytes))?;
        }
        for verb in ["restore", "run"] {
            let refused = guest.steer(&[verb, NIC])?;
            expect_refusal(guest, &format!("{verb} with {what}"), &refused, &["journal"])?;
        }
        let difference = kept.difference(&State::read(NIC)?);
        guest.expect(&format!("{what} changes nothing"), difference.is_empty(), difference)?;
    }
    for (path, bytes) in &journals {
        fs::write(path, bytes)?;
    }
    guest.steer_expecting(exit::DONE, &["restore", NIC]).map(drop)
}

fn files(directory: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.is_file() {
            files.push((path.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(files)
}

fn interface_down(guest: &Guest) -> Result<()> {
    ip(&format!("link set {NIC} down"))?;
    let refused = guest.steer(&["run", NIC])?;
    expect_refusal(guest, "a NIC that is down", &refused, &[NIC, "down"])?;
    ip(&format!("link set {NIC} up"))
}

/// Its driver lets go of the NIC while steer runs.
fn interface_vanishes(guest: &Guest) -> Result<()> {
    let device = fs::canonicalize(format!("/sys/class/net/{NIC}/device"))?;
    let driver = device.join("driver/unbind");
    let name = device.file_name().context("a device has a name")?.to_string_lossy().into_owned();
    let carrier = format!("/sys/class/net/{NIC}/carrier");
    wait_for("the link to come up again", PATIENCE, || {
        Ok(fs::read_to_string(&carrier).is_ok_and(|carrier| carrier.trim() == "1"))
    })?;
    let daemon = Daemon::start(guest, &[NIC])?;
    thread::sleep(Duration::from_secs(1));
    write(&driver.to_string_lossy(), &name)?;
    let mut said = Vec::new();
    wait_for("the daemon to notice", PATIENCE, || {
        said.extend(daemon.said());
        Ok(said.iter().any(|line| line.contains("eth0 is gone")))
    })?;
    // It may come back, and is waited for (scenario `anew`).
    let ended = daemon.terminate()?;
    guest.expect(
        "a NIC that vanishes is no panic",
        !ended.stderr.contains("panicked"),
        &ended.stderr,
    )?;
    guest.expect_equal("exit code without a NIC", &ended.code, &exit::DONE)
}
