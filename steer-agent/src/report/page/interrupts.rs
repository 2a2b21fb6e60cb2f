//! `/proc/interrupts` before and after: what was counted in each phase, per second.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{Chapter, Phase};
use crate::model::{CpuId, InterruptRow};
use crate::report::number::count;

/// CPUs with a column of their own; the others share one.
const COLUMNS: usize = 16;
/// Rows for each phase.
const ROWS: usize = 72;

/// A table for each phase.
pub(super) fn tables(chapter: &Chapter) -> Markup {
    let before = &chapter.before;
    let phases = [("before", Some(before)), ("after", chapter.after.as_ref())];
    let phases: Vec<(&str, &Phase)> =
        phases.into_iter().filter_map(|(name, phase)| Some((name, phase?))).collect();
    if phases.iter().all(|(_, phase)| phase.interrupts.is_none()) {
        return html! {
            p { "Interrupts by CPU were not recorded: an older steer wrote this, or they could not be read." }
        };
    }
    let alone = phases.len() == 1;
    html! {
        p {
            "Interrupts per second on each CPU: those of the NIC, and those by which one CPU calls another "
            "to run a function or to look for work. The latter are of the whole machine."
        }
        @for (name, phase) in phases {
            @match &phase.interrupts {
                Some(found) if found.rows.is_empty() => {
                    p { "CPUs came or went in the time " (name) " the change: nothing to compare." }
                }
                Some(found) => (table(if alone { "" } else { name }, &found.cpus, &found.rows, phase)),
                None => p { "Not known for the time " (name) "." },
            }
        }
    }
}

fn table(name: &str, cpus: &[CpuId], rows: &[InterruptRow], phase: &Phase) -> Markup {
    let seconds = phase.span.length_s().max(1e-9);
    let column =
        |at: usize| rows.iter().map(|row| row.counts.get(at).copied().unwrap_or(0)).sum::<u64>();
    let mut busiest: Vec<usize> = (0..cpus.len()).collect();
    busiest.sort_by_key(|at| std::cmp::Reverse(column(*at)));
    busiest.truncate(COLUMNS);
    let shown: BTreeSet<usize> = busiest.into_iter().collect();
    let others = cpus.len() - shown.len();
    let per_s =
        |number: u64| if number == 0 { "0".to_owned() } else { count(number as f64 / seconds) };
    let cell = |row: &InterruptRow, at: usize| row.counts.get(at).copied().unwrap_or(0);
    let rest = |row: &InterruptRow| {
        let others = row.counts.iter().enumerate().filter(|(at, _)| !shown.contains(at));
        others.map(|(_, number)| number).sum::<u64>()
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Interrupts {name}")) {
            table.interrupts {
                caption {
                    "Interrupts per second"
                    @if !name.is_empty() { ", " b { (name) } }
                    (format!(" ({:.1} s)", phase.span.length_s()))
                }
                thead {
                    tr {
                        th.number scope="col" { "IRQ" }
                        @for at in &shown { th.number scope="col" { "CPU" (cpus[*at]) } }
                        @if others > 0 { th.number scope="col" { (others) " other CPUs" } }
                        th.number scope="col" { "all" }
                        th scope="col" { "of" }
                    }
                }
                tbody {
                    @for row in rows.iter().take(ROWS) {
                        @let peak = row.counts.iter().copied().max().unwrap_or(0);
                        tr {
                            th.number scope="row" { (row.id) }
                            @for at in &shown {
                                @let number = cell(row, *at);
                                td.number.peak[number > 0 && number == peak].nil[number == 0] {
                                    (per_s(number))
                                }
                            }
                            @if others > 0 { td.number { (per_s(rest(row))) } }
                            td.number { (per_s(row.counts.iter().sum())) }
                            td.what { (row.what) }
                        }
                    }
                }
            }
        }
        @if rows.len() > ROWS { p.note { "and " (rows.len() - ROWS) " more interrupts" } }
    }
}
