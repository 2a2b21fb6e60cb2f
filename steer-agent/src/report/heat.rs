//! The heat map: which CPU consumes what which CPU polled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::model::{CpuId, CpuPair, Distance};

/// More cells in a row are not told apart by eye; beyond that several CPUs share one.
const MOST: usize = 32;
/// Width of a row's heading.
const HEADING: usize = 9;
/// Width of a cell with a number of percent in it.
const CELL: usize = 4;

/// The map; none where one CPU does everything.
#[derive(Debug)]
pub(super) struct HeatMap {
    /// First and last CPU of each column.
    pub(super) columns: Vec<String>,
    /// A row for each CPU, or several, that poll anything.
    pub(super) rows: Vec<HeatRow>,
}

/// What some CPUs polled.
#[derive(Debug)]
pub(super) struct HeatRow {
    /// Which CPUs.
    pub(super) heading: String,
    /// By consuming CPU.
    pub(super) cells: Vec<HeatCell>,
}

/// Consumption on some CPUs of what some others polled.
#[derive(Debug)]
pub(super) struct HeatCell {
    /// Percent of all consumption.
    pub(super) percent: f64,
    /// The farthest way that at least a tenth of it goes; none where there is nothing.
    pub(super) distance: Option<Distance>,
}

impl HeatCell {
    /// The number in the cell.
    pub(super) fn text(&self) -> String {
        match self.distance {
            None => "·".to_owned(),
            Some(_) if self.percent < 0.5 => "<1".to_owned(),
            Some(_) => format!("{:.0}", self.percent),
        }
    }

    /// Whether it is much.
    pub(super) fn is_much(&self) -> bool {
        self.percent >= 10.0
    }
}

impl HeatMap {
    /// The map no wider than `width` and of at most `most_rows` rows: what does not fit is drawn with
    /// several CPUs to a cell.
    pub(super) fn new(pairs: &[CpuPair], width: usize, most_rows: usize) -> Option<Self> {
        let total: f64 = pairs.iter().map(|pair| pair.per_s).sum();
        let cpus: BTreeSet<CpuId> =
            pairs.iter().flat_map(|pair| [pair.softirq_cpu, pair.consumer_cpu]).collect();
        if cpus.len() < 2 || total <= 0.0 {
            return None;
        }
        let room = (width.saturating_sub(HEADING) / CELL).min(most_rows).clamp(2, MOST);
        let groups = Groups::new(&cpus, room);
        let mut sums = vec![BTreeMap::<Distance, f64>::new(); groups.0.len() * groups.0.len()];
        for pair in pairs {
            if let (Some(row), Some(column)) =
                (groups.place(pair.softirq_cpu), groups.place(pair.consumer_cpu))
            {
                *sums[row * groups.0.len() + column].entry(pair.distance).or_default() +=
                    pair.per_s;
            }
        }
        let rows = sums.chunks(groups.0.len()).zip(&groups.0);
        let rows = rows.filter(|(cells, _)| cells.iter().any(|cell| !cell.is_empty()));
        Some(Self {
            columns: groups.0.iter().map(|(first, _)| first.to_string()).collect(),
            rows: rows
                .map(|(cells, group)| HeatRow {
                    heading: heading(*group),
                    cells: cells.iter().map(|cell| HeatCell::new(cell, total)).collect(),
                })
                .collect(),
        })
    }
}

impl HeatCell {
    fn new(by_distance: &BTreeMap<Distance, f64>, total: f64) -> Self {
        let per_s: f64 = by_distance.values().sum();
        let weighty = by_distance.iter().filter(|(_, part)| **part * 10.0 >= per_s);
        Self {
            percent: per_s / total * 100.0,
            distance: weighty.map(|(distance, _)| *distance).max(),
        }
    }
}

/// The map as text, with colours; nothing where there is none.
pub(super) fn text(pairs: &[CpuPair], width: usize, most_rows: usize) -> String {
    let Some(map) = HeatMap::new(pairs, width, most_rows) else { return String::new() };
    let title = if width < TITLE.len() + 2 { SHORT_TITLE } else { TITLE };
    let mut text = format!("  {title}\n{:HEADING$}", "");
    for column in &map.columns {
        let _ = write!(text, "{column:>CELL$}");
    }
    text.push('\n');
    for row in &map.rows {
        let _ = write!(text, "{:>HEADING$}", row.heading);
        for cell in &row.cells {
            let number = cell.text();
            let blank = " ".repeat(CELL.saturating_sub(number.chars().count()));
            let style = style(cell);
            let _ = write!(text, "{blank}{style}{number}{style:#}");
        }
        text.push('\n');
    }
    text
}

/// What the numbers are.
pub(super) const TITLE: &str = "% of consumption: polled on CPU (down), consumed on CPU (across)";
/// The same for a narrow terminal.
const SHORT_TITLE: &str = "% by CPU: polled down, read across";

/// First and last CPU of each cell.
pub(super) struct Groups(pub(super) Vec<(CpuId, CpuId)>);

impl Groups {
    pub(super) fn new(cpus: &BTreeSet<CpuId>, room: usize) -> Self {
        let mut size = 1;
        loop {
            let mut groups: Vec<(CpuId, CpuId)> = Vec::new();
            for cpu in cpus {
                match groups.last_mut() {
                    Some((first, last)) if cpu / size == *first / size => *last = *cpu,
                    _ => groups.push((*cpu, *cpu)),
                }
            }
            if groups.len() <= room || size >= 1 << 20 {
                return Self(groups);
            }
            size *= 2;
        }
    }

    pub(super) fn place(&self, cpu: CpuId) -> Option<usize> {
        self.0.iter().position(|(first, last)| (*first..=*last).contains(&cpu))
    }
}

fn heading((first, last): (CpuId, CpuId)) -> String {
    if first == last { format!("CPU {first}") } else { format!("{first}-{last}") }
}

/// Green where it meets, yellow within a cache, red across caches; bold where it is much.
fn style(cell: &HeatCell) -> Style {
    let colour = match cell.distance {
        None => return Style::new(),
        Some(Distance::SameCore) => AnsiColor::Green,
        Some(Distance::SmtSibling | Distance::SameL2 | Distance::SameLlc) => AnsiColor::Yellow,
        Some(Distance::SameNode | Distance::Remote) => AnsiColor::Red,
    };
    if cell.is_much() { colour.on_default().bold() } else { colour.on_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(softirq_cpu: CpuId, consumer_cpu: CpuId, per_s: f64) -> CpuPair {
        let distance =
            if softirq_cpu == consumer_cpu { Distance::SameCore } else { Distance::SameLlc };
        CpuPair { softirq_cpu, consumer_cpu, distance, per_s }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn numbers_are_percent_of_all_consumption() {
        let pairs = [pair(0, 0, 50.0), pair(0, 3, 149.7), pair(1, 0, 0.3)];
        assert_eq!(
            plain(&text(&pairs, 80, usize::MAX)),
            "  % of consumption: polled on CPU (down), consumed on CPU (across)\n\
            \x20           0   1   3\n\
            \x20   CPU 0  25   ·  75\n\
            \x20   CPU 1  <1   ·   ·\n"
        );
    }

    #[test]
    fn where_one_cpu_does_everything_there_is_nothing_to_show() {
        assert_eq!(text(&[pair(3, 3, 5.0)], 80, usize::MAX), "");
        assert_eq!(text(&[], 80, usize::MAX), "");
    }

    #[test]
    fn many_cpus_share_cells_and_nothing_is_wider_than_asked() {
        let pairs: Vec<CpuPair> = (0..256).map(|cpu| pair(cpu, (cpu + 1) % 256, 1.0)).collect();
        for width in [40, 60, 80, 120, 1000] {
            let text = plain(&text(&pairs, width, usize::MAX));
            let widest = text.lines().skip(1).map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= width.min(HEADING + MOST * CELL), "{widest} in {width}:\n{text}");
        }
        assert_eq!(plain(&text(&pairs, 80, 8)).lines().count(), 2 + 8);
        // 256 CPUs in 17 cells of 80 columns: 16 cells of 16; 15 of 16 stay within theirs.
        let text = plain(&text(&pairs, 80, usize::MAX));
        assert_eq!(text.lines().count(), 2 + 16);
        assert!(text.contains("    0-15   6  <1"), "{text}");
    }

    #[test]
    fn colours_tell_the_distance() {
        let text = text(&[pair(0, 0, 50.0), pair(0, 1, 50.0)], 80, usize::MAX);
        assert!(text.contains("\u{1b}[1m\u{1b}[32m50"), "{text:?}");
        assert!(text.contains("\u{1b}[1m\u{1b}[33m50"), "{text:?}");
    }
}
