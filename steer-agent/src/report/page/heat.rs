//! Heat maps: which CPU read what which CPU polled. A table whose cells are coloured, so that it can be
//! read without seeing colours, or at all.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{Chapter, Phase};
use crate::model::{CpuId, CpuPair, Distance};
use crate::report::heat::Groups;

/// Cells in a row; beyond that several CPUs share one.
const MOST: usize = 32;
/// From so many cells in a row on there is no room for numbers.
const DENSE: usize = 14;

/// Both maps, with the same CPUs in the same places and the same shades.
pub(super) fn maps(chapter: &Chapter) -> Markup {
    let phases = [("Before", Some(&chapter.before)), ("After", chapter.after.as_ref())];
    let phases: Vec<(&str, &Phase)> =
        phases.into_iter().filter_map(|(name, phase)| Some((name, phase?))).collect();
    let pairs = |phase: &Phase| phase.status.alignment.by_cpu.clone();
    let all: Vec<CpuPair> = phases.iter().flat_map(|(_, phase)| pairs(phase)).collect();
    let cpus: BTreeSet<CpuId> =
        all.iter().flat_map(|pair| [pair.softirq_cpu, pair.consumer_cpu]).collect();
    if cpus.is_empty() {
        return html! { p { "Nothing was read, so there is no map." } };
    }
    let groups = Groups::new(&cpus, MOST);
    let maps: Vec<(&str, Map)> =
        phases.iter().map(|(name, phase)| (*name, Map::new(&pairs(phase), &groups))).collect();
    let most = maps.iter().map(|(_, map)| map.most()).fold(f64::MIN_POSITIVE, f64::max);
    let used: BTreeSet<Distance> = all.iter().map(|pair| pair.distance).collect();
    let alone = maps.len() == 1;
    html! {
        div.pair {
            @for (name, map) in &maps {
                (map.table(if alone { "" } else { name }, &groups, most))
            }
        }
        p.legend {
            @for distance in used {
                span.swatch.{ (class(distance)) } {} " " (words(distance)) " "
            }
        }
    }
}

/// What a distance means.
pub(super) fn words(distance: Distance) -> &'static str {
    match distance {
        Distance::SameCore => "the same CPU: aligned",
        Distance::SmtSibling => "the other thread of the core",
        Distance::SameL2 => "the same L2 cache",
        Distance::SameLlc => "the same last-level cache",
        Distance::SameNode => "the same NUMA node",
        Distance::Remote => "another NUMA node",
    }
}

/// The class that gives a distance its colour.
fn class(distance: Distance) -> String {
    format!("d{}", distance as usize)
}

struct Map {
    /// By row and column: percent of everything, and the farthest way that a fair part of it goes.
    cells: Vec<Vec<(f64, Option<Distance>)>>,
}

impl Map {
    fn new(pairs: &[CpuPair], groups: &Groups) -> Self {
        let size = groups.0.len();
        let total: f64 = pairs.iter().map(|pair| pair.per_s).sum();
        let mut sums = vec![BTreeMap::<Distance, f64>::new(); size * size];
        for pair in pairs {
            if let (Some(row), Some(column)) =
                (groups.place(pair.softirq_cpu), groups.place(pair.consumer_cpu))
            {
                *sums[row * size + column].entry(pair.distance).or_default() += pair.per_s;
            }
        }
        let cell = |sums: &BTreeMap<Distance, f64>| {
            let per_s: f64 = sums.values().sum();
            let fair = sums.iter().filter(|(_, part)| **part * 10.0 >= per_s);
            (
                per_s / total.max(f64::MIN_POSITIVE) * 100.0,
                fair.map(|(distance, _)| *distance).max(),
            )
        };
        Self { cells: sums.chunks(size).map(|row| row.iter().map(cell).collect()).collect() }
    }

    fn most(&self) -> f64 {
        self.cells.iter().flatten().map(|(percent, _)| *percent).fold(0.0, f64::max)
    }

    fn table(&self, name: &str, groups: &Groups, most: f64) -> Markup {
        let dense = groups.0.len() >= DENSE;
        html! {
            div.scroll {
                table.heat.dense[dense] {
                    caption {
                        @if !name.is_empty() { b { (name) } ", " }
                        "% of what was read"
                    }
                    thead {
                        tr {
                            td.corner rowspan="2" {}
                            th.axis scope="colgroup" colspan=(groups.0.len()) { "read on CPU" }
                        }
                        tr { @for group in &groups.0 { th scope="col" { (heading(*group)) } } }
                    }
                    tbody {
                        @for (row, group) in self.cells.iter().zip(&groups.0) {
                            tr {
                                th scope="row" { "polled on " (heading(*group)) }
                                @for (percent, distance) in row { (cell(*percent, *distance, most)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(percent: f64, distance: Option<Distance>, most: f64) -> Markup {
    let Some(distance) = distance else { return html! { td.none { "\u{b7}" } } };
    // Strong colours carry light digits and pale ones dark digits; nothing lies between, where neither
    // could be read.
    let part = percent / most;
    let (kind, strength) =
        if part >= 0.4 { ("much", 0.85 + 0.15 * part) } else { ("some", 0.12 + 0.5 * part) };
    let text = if percent < 0.5 { "<1".to_owned() } else { format!("{percent:.0}") };
    html! {
        td.(class(distance)).(kind) style=(format!("--s:{:.0}%", strength * 100.0))
            title=(format!("{percent:.1} %, {}", words(distance))) { (text) }
    }
}

fn heading((first, last): (CpuId, CpuId)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
