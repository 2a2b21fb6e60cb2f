//! A report shows what was before and after, and its figures are those of the independent count.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, PATIENCE, run as command, wait_for},
    nic::State,
    steer::{Daemon, exit},
};

const WINDOW: Duration = Duration::from_secs(3);
/// How far page and count may be apart: they do not look at the same seconds, and which flows the kernel's
/// own connections are among differs.
const TOLERANCE: f64 = 0.04;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    let before = load.window(WINDOW)?.share();

    // The correction stays, as after `apply`.
    let page = "/tmp/report.html";
    let report = ["report", NIC, "--live", "8s", "--apply", "-o", page];
    guest.steer_expecting(exit::DONE, &report)?;
    let after = load.window(WINDOW)?.share();
    let shares = shares(&fs::read_to_string(page)?)?;
    guest.say(format_args!("page: {shares:?}; counted: {before:.3}, {after:.3}"));
    ensure!(shares.len() == 2, "expected a share before and one after, found {shares:?}");
    guest.expect_within("before, apart by", &(shares[0] - before).abs(), ..=TOLERANCE)?;
    guest.expect_within("after, apart by", &(shares[1] - after).abs(), ..=TOLERANCE)?;
    guest.expect_within("after", &shares[1], 0.90..)?;
    guest.steer_expecting(exit::FAILED, &report)?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    guest.expect_state("after report and restore", &original)?;

    // Or it goes with the report.
    let report = ["report", NIC, "--live", "6s", "--apply", "--on-exit", "restore", "-o", "-"];
    let html = guest.steer_expecting(exit::DONE, &report)?;
    ensure!(html.contains("everything was put back afterwards"), "the page does not say it");
    guest.expect_state("after report --on-exit restore", &original)?;

    // Beside a daemon a recording tells the same, with what the daemon says.
    let again = load.window(WINDOW)?.share();
    guest.say(format_args!("counted after it was put back: {again:.3}"));
    // More than every setting reading as before: the interrupts are served by the CPUs that served them.
    guest.expect_within("put back, apart by", &(again - before).abs(), ..=TOLERANCE)?;
    let recording = "/tmp/beside.steer";
    let mut record = Command::new(&guest.steer)
        .args(["record", NIC, "--for", "20s", "--every", "500ms", "-o", recording])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start steer record")?;
    // Loading comes first, and takes as long as it takes: the page needs windows from before the daemon.
    let length = || fs::metadata(recording).map_or(0, |file| file.len());
    for window in 1..=4 {
        let before = length();
        wait_for(&format!("window {window} of the recording"), PATIENCE, || Ok(length() > before))?;
    }
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    ensure!(record.wait()?.success(), "steer record failed");
    daemon.terminate()?;
    let html = guest.steer_expecting(exit::DONE, &["report", "--from", recording, "-o", "-"])?;
    let shares = self::shares(&html)?;
    guest.say(format_args!("page of the recording: {shares:?}"));
    ensure!(shares.len() == 2, "expected a share before and one after, found {shares:?}");
    guest.expect_within("recorded before, apart by", &(shares[0] - before).abs(), ..=TOLERANCE)?;
    guest.expect_within("recorded after", &shares[1], 0.90..)?;
    ensure!(html.contains("What the daemon said") && html.contains("buckets moved"), "no history");
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(load)
}

/// The aligned shares in the page's table of figures.
fn shares(html: &str) -> Result<Vec<f64>> {
    let row = html.split("<th scope=\"row\">aligned</th>").nth(1).context("no row `aligned`")?;
    let row = row.split("</tr>").next().unwrap_or_default();
    let cells = row.split("<td class=\"number\">").skip(1);
    let cells = cells.map(|cell| cell.split('<').next().unwrap_or_default());
    cells
        .map(|cell| {
            let number = cell.trim_end_matches('%').trim();
            Ok(number.parse::<f64>().with_context(|| format!("no share: {cell:?}"))? / 100.0)
        })
        .collect()
}

/// Records a daemon's first seconds and prints the recording, for `cargo xtask example`.
pub(super) fn example(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let load = correctable_load(guest)?;
    let recording = "/tmp/example.steer";
    let mut record = Command::new(&guest.steer)
        .args(["record", NIC, "--for", "24s", "--every", "1s", "--anonymise", "-o", recording])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start steer record")?;
    thread::sleep(Duration::from_secs(10));
    let daemon = Daemon::start(guest, &[NIC])?;
    ensure!(record.wait()?.success(), "steer record failed");
    daemon.terminate()?;
    for line in command("base64", &["--wrap=100", recording])?.lines() {
        println!("figures: {line}");
    }
    guest.expect_nothing_lost(load)
}
