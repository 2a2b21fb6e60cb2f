//! `cargo xtask bench`: measurements, as tables that can go into docs/benchmarks.md.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{process, workspace};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The part of steer that is measured.
    part: Part,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Time and quality of the planner on one thread.
    Planner,
    /// How long `steer status` waits for a daemon with many queues and flows, and what a window costs it.
    Status,
}

/// Headings of the table, and the fields of the benchmark's line that each column shows.
const COLUMNS: [(&str, &[usize]); 7] = [
    ("B x C", &[0, 1]),
    ("traffic", &[2]),
    ("lambda_move", &[3]),
    ("cold, us (least / median)", &[4, 5]),
    ("gap to bound, %", &[6]),
    ("incremental, us (least / median)", &[7, 8]),
    ("entries moved", &[9]),
];

/// Fields of a line.
const FIELDS: usize = 10;

/// The command.
pub(crate) fn bench(options: &Options) -> Result<()> {
    match options.part {
        Part::Planner => planner(),
        Part::Status => status(),
    }
}

/// Builds the benchmark and the command that it runs, then shows its table.
fn status() -> Result<()> {
    println!("{}", machine());
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo.args(["bench", "-p", "steer-agent", "--features", "testkit", "--bench", "status"]);
        cargo.args(arguments).current_dir(workspace::root());
        cargo
    };
    process::step("build", || process::capture(&mut cargo(&["--no-run"])))?;
    println!();
    process::run(&mut cargo(&["--quiet"]))
}

/// Builds the benchmark, then shows each of its lines as a row as soon as it is there.
fn planner() -> Result<()> {
    println!("{}", machine());
    let benchmark = ["-p", "steer-agent", "--features", "testkit", "--bench", "planner"];
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo.arg("bench").args(benchmark).args(arguments).current_dir(workspace::root());
        // The planner needs no kernel side, and its benchmark no compiler for one.
        cargo.env("STEER_SKIP_EBPF", "1");
        cargo
    };
    process::step("build", || process::capture(&mut cargo(&["--no-run"])))?;
    let start = Instant::now();
    let mut command = cargo(&["--quiet"]);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", process::name(&command)))?;
    let output = child.stdout.take().context("the benchmark has no output")?;
    println!();
    println!("{}", row(COLUMNS.map(|(heading, _)| heading.to_owned())));
    println!("{}", row(COLUMNS.map(|(heading, _)| "-".repeat(heading.len()))));
    let mut rows = 0;
    for line in BufReader::new(output).lines() {
        if let Some(cells) = cells(&line?) {
            println!("{}", row(cells));
            rows += 1;
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed ({status})", process::name(&command));
    }
    ensure!(rows > 0, "the benchmark printed no measurements");
    println!("\n{rows} rows in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// What a line of the benchmark says in each column; nothing for its heading and for other lines.
fn cells(line: &str) -> Option<[String; COLUMNS.len()]> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let measured = fields.len() == FIELDS && fields[0].parse::<u32>().is_ok();
    measured.then(|| {
        COLUMNS.map(|(heading, columns)| {
            let separator = if heading == "B x C" { " x " } else { " / " };
            let parts: Vec<&str> = columns.iter().map(|column| fields[*column]).collect();
            parts.join(separator)
        })
    })
}

/// A row of a Markdown table, its cells as wide as the heading or the longest content.
fn row(cells: [String; COLUMNS.len()]) -> String {
    let mut text = "|".to_owned();
    for (cell, (heading, _)) in cells.into_iter().zip(COLUMNS) {
        let width = heading.len().max(10);
        text.push_str(&format!(" {cell:width$} |"));
    }
    text
}

/// The machine's processor and how many CPUs there are.
fn machine() -> String {
    let facts = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cpus} CPUs", processor(&facts).unwrap_or("a processor without a name"))
}

/// The model's name in `/proc/cpuinfo`.
fn processor(facts: &str) -> Option<&str> {
    facts.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_becomes_a_row() {
        let cells = cells("128 16 Pareto 0.3 81 84 9.88 31 32 8").expect("a measurement");
        assert_eq!(cells, ["128 x 16", "Pareto", "0.3", "81 / 84", "9.88", "31 / 32", "8"]);
        assert!(row(cells).starts_with("| 128 x 16   | Pareto     | 0.3         |"));
    }

    #[test]
    fn other_lines_are_no_measurements() {
        assert_eq!(cells(""), None);
        assert_eq!(cells("Running benches/planner.rs"), None);
        let heading =
            "buckets cpus family lambda_move cold_us median gap_% incremental_us median moved";
        assert_eq!(cells(heading), None);
    }

    #[test]
    fn the_processor_is_named() {
        let facts = "processor\t: 0\nmodel\t\t: 2\nmodel name\t: AMD EPYC 9B45\n";
        assert_eq!(processor(facts), Some("AMD EPYC 9B45"));
        assert_eq!(processor(""), None);
    }
}
