//! `cargo xtask balancers`: the contests of real load balancers, and the tables of them in
//! docs/load-balancers.md, rendered from what the runs printed and from nothing else.
//!
//! Results are kept in `tests/balancers.jsonl`, a line for each load on each machine. A run of some
//! replaces those and leaves the others.

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{lab, run::Run, workspace};

/// Choice of contests.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keep the results, and renew the tables in docs/load-balancers.md.
    #[arg(long)]
    write: bool,
    /// Kernel series instead of those the scenarios are meant for.
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// Seconds after which a contest is given up.
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
    /// Scenarios that are contests; all of them if none is named.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// The scenarios that print such results.
const CONTESTS: [&str; 6] =
    ["haproxy", "nginx", "haproxy-sockets", "nginx-sockets", "haproxy-mixes", "nginx-mixes"];

const BEGIN: &str = "<!-- contests: begin; replaced by `cargo xtask balancers --write` -->";
const END: &str = "<!-- contests: end -->";

/// A contest on one load, as the guest program prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Contest {
    scenario: String,
    load: String,
    machine: String,
    window_s: f64,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    contender: String,
    figures: Figures,
    windows: Vec<Figures>,
    requests: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    client_hard: f64,
    client_softirq: f64,
    backend_hard: f64,
    backend_softirq: f64,
    client_connections_hard: f64,
    ipis_per_request: f64,
    handovers_per_request: f64,
    requests_per_s: f64,
    skew: f64,
}

/// The command.
pub(crate) fn balancers(options: &Options) -> Result<()> {
    let unknown = options.scenarios.iter().find(|name| !CONTESTS.contains(&name.as_str()));
    if let Some(name) = unknown {
        anyhow::bail!("{name} is no contest; those are {}", CONTESTS.join(", "));
    }
    lab::build()?;
    let mut contests = stored()?;
    let mut failures = Vec::new();
    for scenario in CONTESTS {
        let wanted =
            options.scenarios.is_empty() || options.scenarios.iter().any(|name| name == scenario);
        if !wanted {
            continue;
        }
        for mut machine in lab::machines_of(scenario)? {
            if let Some(kernel) = &options.kernel {
                machine.kernel.clone_from(kernel);
            }
            let timeout = Duration::from_secs(options.timeout);
            let outcome = Run::new(scenario, machine, timeout).run()?;
            failures.extend(outcome.failure.map(|why| format!("{scenario}: {why}")));
            for line in outcome.figures.as_deref().unwrap_or_default().lines() {
                keep(&mut contests, serde_json::from_str(line).context("strange figures")?);
            }
            if options.write {
                store(&contests)?;
            }
        }
    }
    println!("\n{}", render(&contests));
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Puts a contest in the place of the one with the same load and machine, or at the end.
fn keep(contests: &mut Vec<Contest>, new: Contest) {
    let same = |old: &&mut Contest| {
        (&old.scenario, &old.load, &old.machine) == (&new.scenario, &new.load, &new.machine)
    };
    match contests.iter_mut().find(same) {
        Some(old) => *old = new,
        None => contests.push(new),
    }
}

fn results() -> PathBuf {
    workspace::root().join("tests/balancers.jsonl")
}

fn page() -> PathBuf {
    workspace::root().join("docs/load-balancers.md")
}

fn stored() -> Result<Vec<Contest>> {
    let path = results();
    let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    let contest =
        |line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()));
    text.lines().map(contest).collect()
}

fn store(contests: &[Contest]) -> Result<()> {
    let lines: Vec<String> =
        contests.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    fs::write(results(), lines.join("\n") + "\n")?;
    let page = page();
    let present = fs::read_to_string(&page)?;
    Ok(fs::write(page, with_tables(&present, &render(contests))?)?)
}

fn with_tables(page: &str, tables: &str) -> Result<String> {
    let (head, rest) = page.split_once(BEGIN).context("the page has no place for the tables")?;
    let (_, tail) = rest.split_once(END).context("the page has no end of the place")?;
    Ok(format!("{head}{BEGIN}\n{tables}{END}{tail}"))
}

/// A table for each contest.
fn render(contests: &[Contest]) -> String {
    let mut text = String::new();
    for contest in contests {
        let Contest { load, machine, window_s, rows, .. } = contest;
        let windows = rows.iter().map(|row| row.windows.len()).max().unwrap_or_default();
        let _ = writeln!(
            text,
            "\n**{load}** ({machine}; medians of {windows} windows of {window_s} s)\n\n\
             | | clients' side, hard IRQ (softirq) | servers' side, hard IRQ (softirq) \
             | IPIs per request | hand-overs per request | busiest worker / mean | failed |\n\
             |---|---|---|---|---|---|---|"
        );
        for Row { contender, figures, requests, failed, .. } in rows {
            let skew =
                if figures.skew > 0.0 { format!("{:.2}", figures.skew) } else { "-".to_owned() };
            let _ = writeln!(
                text,
                "| {contender} | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.2} | {:.2} | {skew} | \
                 {failed} of {requests} |",
                figures.client_hard,
                figures.client_softirq,
                figures.backend_hard,
                figures.backend_softirq,
                figures.ipis_per_request,
                figures.handovers_per_request,
            );
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contest(load: &str, share: f64) -> Contest {
        let figures = Figures {
            client_hard: share,
            client_softirq: 0.7,
            backend_hard: 0.25,
            backend_softirq: 1.0,
            client_connections_hard: share,
            ipis_per_request: 0.5,
            handovers_per_request: 0.0,
            requests_per_s: 100.0,
            skew: 0.0,
        };
        let row = Row {
            contender: "RFS".to_owned(),
            figures,
            windows: vec![figures],
            requests: 10,
            failed: 1,
        };
        Contest {
            scenario: "haproxy".to_owned(),
            load: load.to_owned(),
            machine: "igb".to_owned(),
            window_s: 2.0,
            rows: vec![row],
        }
    }

    #[test]
    fn a_contest_that_is_held_again_is_replaced() {
        let mut contests = vec![contest("a", 0.1), contest("b", 0.2)];
        keep(&mut contests, contest("a", 0.3));
        keep(&mut contests, contest("c", 0.4));
        assert_eq!(contests, [contest("a", 0.3), contest("b", 0.2), contest("c", 0.4)]);
        let text = render(&contests[..1]);
        let row = "| RFS | 0.30 (0.70) | 0.25 (1.00) | 0.50 | 0.00 | - | 1 of 10 |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn the_page_shows_the_stored_results() {
        let page = fs::read_to_string(page()).expect("the page");
        let expected = with_tables(&page, &render(&stored().expect("readable"))).expect("a place");
        assert!(page == expected, "run `cargo xtask balancers --write` with any contest");
    }
}
