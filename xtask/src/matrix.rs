//! `cargo xtask matrix`: one scenario on every kernel and NIC of the lab, and on this machine's own
//! kernel; the table in docs/drivers.md is rendered from what each run printed, and from nothing
//! else.
//!
//! Results are kept in `tests/matrix.jsonl`, a line for each cell. A run of some cells replaces those
//! and leaves the others.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    kernel::SERIES,
    lab,
    machine::Nic,
    run::{Reader, Run, Said, guest_program},
    workspace,
};

/// Choice of cells.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this kernel series; `host` is this machine's own kernel.
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// Only this NIC.
    #[arg(long)]
    nic: Option<Nic>,
    /// Keep the results, and renew the table in docs/drivers.md.
    #[arg(long)]
    write: bool,
}

/// The scenario that makes a cell.
const SCENARIO: &str = "matrix";
/// The machine that runs the lab: its own kernel has no image to boot, and no NIC to steer.
const HOST: &str = "host";
/// What stands for a NIC there.
const HOST_NIC: &str = "veth";
/// What stands around the table.
const BEGIN: &str = "<!-- lab matrix: begin; replaced by the lab, not by hand -->";
const END: &str = "<!-- lab matrix: end -->";

/// Kernel series and NIC.
type Place = (String, String);

/// A cell, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cell {
    kernel: String,
    nic: String,
    /// Why the run failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What it measured, if it came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    figures: Option<Figures>,
}

/// What a run measured; the guest program's scenario `matrix` says what is what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    release: String,
    before: f64,
    after: f64,
    buckets_changed: usize,
    irqs_changed: usize,
    writes: u64,
    sent: u64,
    lost: u64,
    verdict: String,
    without_btf: String,
    said: Vec<String>,
}

/// The command.
pub(crate) fn matrix(options: &Options) -> Result<()> {
    let wanted = |kernel: &str, nic: Option<Nic>| {
        options.kernel.as_deref().is_none_or(|it| it == kernel)
            && options.nic.is_none_or(|it| Some(it) == nic)
    };
    lab::build()?;
    let machines = lab::machines_of(SCENARIO)?.into_iter();
    let machines: Vec<_> =
        machines.filter(|machine| wanted(&machine.kernel, Some(machine.nic))).collect();
    let host = wanted(HOST, None);
    ensure!(host || !machines.is_empty(), "the matrix has no such cell");
    let mut cells = stored()?;
    let mut failed = 0;
    let mut keep = |place: Place, figures: Option<String>, failure: Option<String>| -> Result<()> {
        failed += usize::from(failure.is_some());
        let figures = figures.map(|line| serde_json::from_str(&line)).transpose();
        let figures = figures.context("the figures of a run cannot be read")?;
        let (kernel, nic) = place.clone();
        // A verdict is one line; what follows it is the end of a log. Where this checkout lies is
        // nobody's business.
        let here = format!("{}/", workspace::root().display());
        let failure = failure.and_then(|text| Some(text.lines().next()?.replace(&here, "")));
        cells.insert(place, Cell { kernel, nic, failure, figures });
        if options.write {
            store(&cells)?;
        }
        Ok(())
    };
    if host {
        println!("-- {SCENARIO} on this machine's own kernel");
        let said = on_this_machine()?;
        let failure = said.verdict.err();
        match &failure {
            None => println!("pass: {SCENARIO} on this machine's own kernel"),
            Some(why) => println!("FAIL: {SCENARIO} on this machine's own kernel: {why}"),
        }
        keep((HOST.to_owned(), HOST_NIC.to_owned()), said.figures, failure)?;
    }
    for machine in machines {
        let place = (machine.kernel.clone(), machine.nic.name().to_owned());
        let outcome = Run::new(SCENARIO, machine, Duration::from_secs(lab::TIMEOUT)).run()?;
        keep(place, outcome.figures, outcome.failure)?;
    }
    println!("\n{}", render(&cells));
    ensure!(failed == 0, "{failed} cells failed");
    Ok(())
}

/// Runs the scenario on the running kernel, over a pair of virtual interfaces in namespaces that end
/// with it.
fn on_this_machine() -> Result<Said> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(guest_program()).args([HOST, SCENARIO]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("the scenario has no output")?;
    let mut reader = Reader::default();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if !reader.take(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    reader.said().with_context(|| format!("the scenario came to no verdict ({status})"))
}

fn results() -> PathBuf {
    workspace::root().join("tests/matrix.jsonl")
}

fn page() -> PathBuf {
    workspace::root().join("docs/drivers.md")
}

/// The cells of earlier runs.
fn stored() -> Result<BTreeMap<Place, Cell>> {
    let path = results();
    let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    let cell = |line: &str| {
        let cell: Cell = serde_json::from_str(line)
            .with_context(|| format!("{}: not a cell: {line}", path.display()))?;
        Ok(((cell.kernel.clone(), cell.nic.clone()), cell))
    };
    text.lines().map(cell).collect()
}

/// Keeps the cells, and renews the table in the page.
fn store(cells: &BTreeMap<Place, Cell>) -> Result<()> {
    let mut text = String::new();
    for cell in in_order(cells) {
        text += &serde_json::to_string(cell)?;
        text.push('\n');
    }
    fs::write(results(), text)?;
    let page = page();
    let present = fs::read_to_string(&page)?;
    Ok(fs::write(page, with_table(&present, &render(cells))?)?)
}

/// The page with another table.
fn with_table(page: &str, table: &str) -> Result<String> {
    let (head, rest) = page.split_once(BEGIN).context("docs/drivers.md has no place for it")?;
    let (_, tail) = rest.split_once(END).context("docs/drivers.md has no end of the place")?;
    Ok(format!("{head}{BEGIN}\n{table}{END}{tail}"))
}

/// By kernel, oldest first, then by NIC; this machine last.
fn in_order(cells: &BTreeMap<Place, Cell>) -> Vec<&Cell> {
    let mut ordered: Vec<&Cell> = cells.values().collect();
    let age = |cell: &Cell| SERIES.iter().position(|(series, _)| *series == cell.kernel);
    ordered.sort_by_key(|cell| (age(cell).unwrap_or(usize::MAX), cell.nic.clone()));
    ordered
}

/// The table, and what steer said below it.
fn render(cells: &BTreeMap<Place, Cell>) -> String {
    let mut text = String::from(
        "Made by `cargo xtask matrix --write` from `tests/matrix.jsonl`, one run for each row. The load \
         is 16 TCP\nconnections to pinned workers; *aligned* is counted by the server \
         (`SO_INCOMING_CPU`), *changed* by ethtool\nand /proc before and after, *lost* by the client. \
         Every run ends with the NIC set as before, to the byte.\n\n\
         | kernel | NIC | aligned before | after | table entries changed | interrupts changed | \
         requests | lost | what became of it | says |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut notes: Vec<&str> = Vec::new();
    for cell in in_order(cells) {
        let of_host = if cell.kernel == HOST { " (this machine, not the lab)" } else { "" };
        let Some(figures) = &cell.figures else {
            let kernel = if cell.kernel == HOST { "this machine" } else { &cell.kernel };
            let why = cell.failure.as_deref().unwrap_or("no figures");
            let _ = writeln!(
                text,
                "| {kernel} | {} | | | | | | | **failed: {}** | |",
                cell.nic,
                why.replace('|', "\\|")
            );
            continue;
        };
        let numbers: Vec<String> = figures
            .said
            .iter()
            .map(|said| {
                let known = notes.iter().position(|note| note == said);
                let place = known.unwrap_or_else(|| {
                    notes.push(said);
                    notes.len() - 1
                });
                (place + 1).to_string()
            })
            .collect();
        let verdict = match &cell.failure {
            None => figures.verdict.clone(),
            Some(why) => format!("**failed: {why}**"),
        };
        let _ = writeln!(
            text,
            "| {}{of_host} | {} | {:.0} % | {:.0} % | {} | {} | {} | {} | {} | {} |",
            figures.release,
            cell.nic,
            figures.before * 100.0,
            figures.after * 100.0,
            figures.buckets_changed,
            figures.irqs_changed,
            figures.sent,
            figures.lost,
            verdict.replace('|', "\\|"),
            numbers.join(", ")
        );
    }
    if !notes.is_empty() {
        text += "\nWhat steer says of itself there, by number:\n\n";
    }
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", number + 1);
    }
    let mut refusals: Vec<&str> = cells
        .values()
        .filter_map(|cell| Some(cell.figures.as_ref()?.without_btf.as_str()))
        .collect();
    refusals.sort_unstable();
    refusals.dedup();
    if !refusals.is_empty() {
        text += "\nIn each run the kernel's type information was hidden for a moment, and `steer status` \
                 asked again. It said:\n\n";
    }
    for refusal in refusals {
        let _ = writeln!(text, "- {refusal}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(kernel: &str, nic: &str, said: &[&str]) -> (Place, Cell) {
        let figures = Figures {
            release: format!("{kernel}.0"),
            before: 0.25,
            after: 0.97,
            buckets_changed: 12,
            irqs_changed: 3,
            writes: 5,
            sent: 4000,
            lost: 0,
            verdict: "aligned".to_owned(),
            without_btf: "no BTF".to_owned(),
            said: said.iter().map(|&said| said.to_owned()).collect(),
        };
        let (kernel, nic) = (kernel.to_owned(), nic.to_owned());
        let cell = Cell { kernel: kernel.clone(), nic: nic.clone(), failure: None, figures: None };
        ((kernel, nic), Cell { figures: Some(figures), ..cell })
    }

    #[test]
    fn rows_are_by_age_and_what_is_said_twice_has_one_number() {
        let cells = [
            cell("6.12", "igb", &["b"]),
            cell("5.10", "virtio", &["a", "b"]),
            cell("host", "veth", &[]),
        ];
        let text = render(&cells.into_iter().collect());
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(
            rows[1..],
            [
                "| 5.10.0 | virtio | 25 % | 97 % | 12 | 3 | 4000 | 0 | aligned | 1, 2 |",
                "| 6.12.0 | igb | 25 % | 97 % | 12 | 3 | 4000 | 0 | aligned | 2 |",
                "| host.0 (this machine, not the lab) | veth | 25 % | 97 % | 12 | 3 | 4000 | 0 | aligned |  |",
            ]
        );
        assert!(text.contains("\n1. a\n2. b\n"), "{text}");
    }

    #[test]
    fn a_failed_run_is_shown_as_that() {
        let (place, mut failed) = cell("6.1", "igb", &[]);
        failed.figures = None;
        failed.failure = Some("not aligned".to_owned());
        let text = render(&BTreeMap::from([(place, failed)]));
        assert!(text.contains("| 6.1 | igb | | | | | | | **failed: not aligned** | |"), "{text}");
    }

    /// After a merge: `cargo xtask matrix --write` with any cell renews the page.
    #[test]
    fn the_page_shows_the_stored_results() {
        let page = fs::read_to_string(page()).expect("the page");
        let cells = stored().expect("readable");
        if cells.is_empty() {
            return;
        }
        let wanted = with_table(&page, &render(&cells)).expect("it has a place");
        assert_eq!(page, wanted, "docs/drivers.md differs from tests/matrix.jsonl");
    }
}
