//! One cell of the matrix of kernels and NICs: what steer makes of the same load, and what it says it
//! lacks there. The figures go to `cargo xtask matrix`, which renders the table in docs/drivers.md.
//!
//! What is expected follows from the NIC: one that honours its table is aligned; one that takes a
//! table and ignores it is left alone as unverified; one without a table is refused, and still
//! looked at. Whether there is a table is asked of ethtool, not of steer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, read, run as command},
    load::{Load, Spec},
    nic::{self, State},
    steer::{Daemon, exit},
};

const WINDOW: Duration = Duration::from_secs(3);
const ENOUGH: f64 = 0.90;

/// What a run prints for the table.
#[derive(Debug, Default, Serialize)]
struct Figures {
    /// `uname -r`.
    release: String,
    /// Aligned share by the server's count, before.
    before: f64,
    /// And with steer at work.
    after: f64,
    /// Table entries that differ from before while steer is at work, by ethtool.
    buckets_changed: usize,
    /// The same of interrupts' affinities.
    irqs_changed: usize,
    /// Values that steer wrote, by its own count.
    writes: u64,
    /// Requests.
    sent: u64,
    /// Of them without the right answer.
    lost: u64,
    /// What became of it, in a few words.
    verdict: String,
    /// What steer says where the kernel has no type information.
    without_btf: String,
    /// What steer says it lacks here.
    said: Vec<String>,
}

/// What a NIC should lead to.
enum Expected {
    Aligned,
    Unverified,
    Refused,
}

pub(super) fn run(guest: &Guest) -> Result<()> {
    let release = read("/proc/sys/kernel/osrelease")?;
    let mut figures = Figures { release, ..Figures::default() };
    let ended = cell(guest, &mut figures);
    // Of a cell that failed too, as far as it came.
    println!("figures: {}", serde_json::to_string(&figures)?);
    ended
}

fn cell(guest: &Guest, figures: &mut Figures) -> Result<()> {
    let has_table = command("ethtool", &["-x", NIC]).is_ok_and(|text| !table(&text).is_empty());
    let expected = match (has_table, guest.honours_table()) {
        (false, _) => Expected::Refused,
        (true, true) => Expected::Aligned,
        (true, false) => Expected::Unverified,
    };
    if has_table {
        guest.spread()?;
    }
    let original = State::read(NIC)?;
    figures.without_btf = without_btf(guest)?;
    let load = match expected {
        Expected::Aligned => correctable_load(guest)?,
        Expected::Unverified | Expected::Refused => Load::start(guest, &Spec::default())?,
    };
    figures.before = load.window(WINDOW)?.share();
    match expected {
        Expected::Aligned => aligned(guest, &load, figures)?,
        Expected::Unverified => unverified(guest, &load, figures)?,
        Expected::Refused => refused(guest, &load, figures)?,
    }
    guest.expect_state("at the end", &original)?;
    said(guest, figures)?;
    let client = load.client()?;
    guest.expect_nothing_lost(load)?;
    figures.sent = client.sent;
    Ok(())
}

fn aligned(guest: &Guest, load: &Load, figures: &mut Figures) -> Result<()> {
    let before = Setting::read()?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, load, &daemon)?;
    figures.after = load.window(WINDOW)?.share();
    let now = Setting::read()?;
    figures.buckets_changed = differences(&before.table, &now.table);
    figures.irqs_changed = differences(&before.affinities, &now.affinities);
    let (status, missing) = guest.status_and_missing(NIC, &[])?;
    figures.writes = status["planner"]["writes"].as_u64().unwrap_or_default();
    figures.said.extend(missing);
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_within("aligned share after", &figures.after, ENOUGH..)?;
    "aligned, all put back".clone_into(&mut figures.verdict);
    Ok(())
}

/// What steer says where it cannot tell which queue a flow came by.
const NOTHING_KNOWN: &str = "no flow with a known hash and RX queue was seen";

fn unverified(guest: &Guest, load: &Load, figures: &mut Figures) -> Result<()> {
    let before = Setting::read()?;
    let daemon = Daemon::start(guest, &[NIC])?;
    guest.await_windows(4)?;
    figures.after = load.window(WINDOW)?.share();
    let now = Setting::read()?;
    figures.buckets_changed = differences(&before.table, &now.table);
    figures.irqs_changed = differences(&before.affinities, &now.affinities);
    let (status, missing) = guest.status_and_missing(NIC, &[])?;
    figures.writes = status["planner"]["writes"].as_u64().unwrap_or_default();
    figures.said.extend(missing);
    let reason = status["reason"].as_str().unwrap_or_default();
    // Linux 5.10 does not tell the interface of a TCP flow, and this driver sets no NAPI id.
    let unseen = status["state"] == "observing" && reason.contains(NOTHING_KNOWN);
    if !unseen {
        guest.expect_equal("state", &status["state"], &"unverified".into())?;
    }
    guest.expect_equal("values written", &figures.writes, &0)?;
    guest.expect_equal("table entries changed", &figures.buckets_changed, &0)?;
    guest.expect_equal("affinities changed", &figures.irqs_changed, &0)?;
    daemon.terminate()?;
    figures.verdict = if unseen {
        format!("left alone: {NOTHING_KNOWN}")
    } else {
        "unverified: called so and left alone".to_owned()
    };
    Ok(())
}

fn refused(guest: &Guest, load: &Load, figures: &mut Figures) -> Result<()> {
    let refused = guest.steer(&["run", NIC])?;
    let why = refused.stderr.trim();
    guest.say(format_args!("steer run {NIC}: exit code {}: {why}", refused.code));
    ensure!(refused.code == exit::FAILED && why.contains(NIC), "no polite refusal: {refused:?}");
    // It is looked at all the same, and what steer sees is what the server counts.
    let observed = || guest.status_and_missing(NIC, &["--for", "3s", "--flows"]);
    let ((status, missing), window) = load.window_of(observed)?;
    guest.expect_equal("state", &status["state"], &"unsteerable".into())?;
    let listed = status["flows"].as_array().context("status lists no flows")?;
    let flows = load.flows()?;
    let known = flows.iter().filter(|flow| {
        listed.iter().any(|listed| {
            listed["remote"] == flow.remote.to_string()
                && listed["consumer_cpu"].as_u64() == u64::try_from(flow.worker_cpu).ok()
        })
    });
    guest.expect_equal("flows with the CPU of their worker", &known.count(), &flows.len())?;
    let share = status["alignment"]["share"].as_f64().context("status has no share")?;
    let apart = (share - window.share()).abs();
    guest.say(format_args!("steer says {share:.3}, the server counted {:.3}", window.share()));
    // The NAPI of a virtual interface is polled wherever the far end sends, be it data or an
    // acknowledgement, so that there is no one CPU to compare.
    if guest.nic != "veth" {
        guest.expect_within("apart by", &apart, ..=0.05)?;
    }
    figures.said.extend(missing);
    figures.after = load.window(WINDOW)?.share();
    let reason = status["reason"].as_str().unwrap_or_default();
    figures.verdict = format!("observed, not steered: {reason}");
    Ok(())
}

/// What steer says where the kernel's type information is hidden.
fn without_btf(guest: &Guest) -> Result<String> {
    let btf = "/sys/kernel/btf";
    command("mount", &["-t", "tmpfs", "none", btf])?;
    let refused = guest.steer(&["status", NIC]);
    command("umount", &[btf])?;
    let refused = refused?;
    let said = refused.stderr.trim().lines().last().unwrap_or_default().to_owned();
    guest.say(format_args!("without BTF: exit code {}: {said}", refused.code));
    let clear = said.contains("BTF") && !said.contains("panicked");
    ensure!(refused.code != exit::DONE && clear, "no sentence on BTF: {refused:?}");
    Ok(said)
}

/// What doctor notes of the kernel, and of the hash.
fn said(guest: &Guest, figures: &mut Figures) -> Result<()> {
    let doctor = guest.steer(&["doctor", NIC, "--json"])?;
    let findings: Vec<Value> = serde_json::from_str(&doctor.stdout)
        .with_context(|| format!("doctor: no JSON; stderr: {}", doctor.stderr.trim()))?;
    for finding in &findings {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        let of_hash = text("found").contains("hash");
        // What status misses has been noted from there.
        let of_program = text("found").contains("does not attach");
        if text("level") != "ok" && !of_program && (text("subject") == "host" || of_hash) {
            figures.said.push(format!("{}: {}", text("found"), text("consequence")));
        }
    }
    figures.said.sort();
    figures.said.dedup();
    Ok(())
}

/// Table and affinities, as ethtool and /proc show them.
struct Setting {
    table: Vec<u32>,
    affinities: Vec<String>,
}

impl Setting {
    fn read() -> Result<Self> {
        let irqs = nic::queues(NIC)?;
        let affinity = |irq: &u32| read(&format!("/proc/irq/{irq}/smp_affinity_list"));
        Ok(Self {
            table: table(&command("ethtool", &["-x", NIC])?),
            affinities: irqs.values().map(affinity).collect::<Result<_>>()?,
        })
    }
}

/// The entries of a table as `ethtool -x` prints it: eight a row, after the number of the first.
fn table(text: &str) -> Vec<u32> {
    let rows = text.lines().filter_map(|line| line.split_once(':'));
    let rows = rows.filter(|(first, _)| first.trim().parse::<u32>().is_ok());
    rows.flat_map(|(_, row)| row.split_whitespace().filter_map(|entry| entry.parse().ok()))
        .collect()
}

fn differences<T: PartialEq>(before: &[T], after: &[T]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_table_is_read_as_ethtool_prints_it() {
        let text = "RX flow hash indirection table for eth0 with 4 RX ring(s):\n    \
                    0:      0     1     2     3     0     1     2     3\n    \
                    8:      3     2     1     0\nRSS hash key:\nOperation not supported\n\
                    RSS hash function:\n    toeplitz: on\n";
        assert_eq!(table(text), [0, 1, 2, 3, 0, 1, 2, 3, 3, 2, 1, 0]);
        assert!(table("RX flow hash indirection table for eth0 with 1 RX ring(s):\n").is_empty());
    }
}
