//! A table that fits the terminal: columns that matter least go first, then long cells lose their middle.

use comfy_table::{CellAlignment, Table, presets};
use unicode_width::UnicodeWidthStr as _;

use crate::report::number::elide;

/// A column: its heading, and what becomes of it where there is no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    name: &'static str,
    /// 0 stays always; the highest goes first.
    expendable: u8,
    /// Columns of the screen below which its cells are not shortened; none if never.
    least: Option<usize>,
}

/// A column that stays.
pub(super) const fn keep(name: &'static str) -> Column {
    Column { name, expendable: 0, least: None }
}

/// A column that goes where there is no room, the highest `order` first.
pub(super) const fn may_go(name: &'static str, order: u8) -> Column {
    Column { name, expendable: order, least: None }
}

impl Column {
    /// Its cells may be shortened to this width.
    pub(super) const fn down_to(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }
}

/// Columns that go earlier than cells are shortened.
const CHEAP: u8 = 3;
/// Space before each column.
const GAP: usize = 2;

/// The rows as text no wider than `width` if that can be, numbers to the right.
pub(super) fn fit(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    loop {
        let widths = widths(columns, rows, &kept);
        let excess = widths.iter().sum::<usize>().saturating_sub(width);
        let next = kept.iter().map(|index| columns[*index].expendable).max().unwrap_or(0);
        if excess == 0 {
            return draw(columns, rows, &kept, &widths);
        }
        // Shortened, or all that can be done.
        if next < CHEAP {
            let shortened = shorten(columns, &kept, &widths, excess, next == 0);
            if let Some(shortened) = shortened {
                return draw(columns, rows, &kept, &shortened);
            }
        }
        kept.retain(|index| columns[*index].expendable < next);
    }
}

/// Width of the whole table with all its columns.
pub(super) fn natural_width(columns: &[Column], rows: &[Vec<String>]) -> usize {
    let all: Vec<usize> = (0..columns.len()).collect();
    widths(columns, rows, &all).iter().sum()
}

/// Width of each of the `kept` columns with the space before it.
fn widths(columns: &[Column], rows: &[Vec<String>], kept: &[usize]) -> Vec<usize> {
    let widest = |index: usize| {
        let cells = rows.iter().filter_map(|row| Some(row.get(index)?.width()));
        cells.max().unwrap_or(0).max(columns[index].name.width())
    };
    kept.iter().map(|index| GAP + widest(*index)).collect()
}

/// Takes `excess` from the columns whose cells may be shortened; `None` where they have not so much,
/// unless `anyway`.
fn shorten(
    columns: &[Column],
    kept: &[usize],
    widths: &[usize],
    mut excess: usize,
    anyway: bool,
) -> Option<Vec<usize>> {
    let mut shortened = widths.to_vec();
    // Names on the right can be guessed from less than addresses on the left.
    for (place, index) in kept.iter().enumerate().rev() {
        let Some(least) = columns[*index].least else { continue };
        // What has no other way out loses more than it should.
        let least = if anyway { least.min(12) } else { least };
        let least = GAP + least.max(columns[*index].name.width());
        let taken = shortened[place].saturating_sub(least).min(excess);
        shortened[place] -= taken;
        excess -= taken;
    }
    (excess == 0 || anyway).then_some(shortened)
}

fn draw(columns: &[Column], rows: &[Vec<String>], kept: &[usize], widths: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(kept.iter().map(|index| columns[*index].name));
    for row in rows {
        table.add_row(kept.iter().zip(widths).map(|(index, width)| {
            let cell = row.get(*index).map_or("", String::as_str);
            if columns[*index].least.is_some() {
                elide(cell, width.saturating_sub(GAP))
            } else {
                cell.to_owned()
            }
        }));
    }
    for (place, index) in kept.iter().enumerate() {
        let name = columns[*index].name;
        if let Some(column) = table.column_mut(place) {
            column.set_padding((2, 0));
            if name.ends_with("/s") || ["per s", "bucket", "load"].contains(&name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::{fit, keep, may_go};

    #[test]
    fn what_matters_least_goes_first() {
        let columns = [keep("flow"), may_go("bucket", 4), may_go("distance", 3), keep("per s")];
        let row: Vec<String> = ["abcdef", "7", "same-llc", "50"].map(str::to_owned).to_vec();
        // 2 + 6, 2 + 6, 2 + 8, 2 + 5.
        let wide = "  flow    bucket  distance  per s\n  abcdef       7  same-llc     50";
        let middle = "  flow    distance  per s\n  abcdef  same-llc     50";
        let narrow = "  flow    per s\n  abcdef     50";
        assert_eq!(fit(&columns, std::slice::from_ref(&row), 33), wide);
        assert_eq!(fit(&columns, std::slice::from_ref(&row), 32), middle);
        assert_eq!(fit(&columns, std::slice::from_ref(&row), 24), narrow);
        // What must stay stays, however narrow.
        assert_eq!(fit(&columns, &[row], 3), narrow);
    }

    #[test]
    fn a_long_cell_loses_its_middle_before_a_dear_column_goes() {
        let columns =
            [keep("flow").down_to(9), may_go("distance", 3), may_go("process", 2).down_to(6)];
        let row: Vec<String> =
            ["0123456789abcdef", "same-llc", "proxy"].map(str::to_owned).to_vec();
        // 2 + 16, 2 + 8, 2 + 7 are 37; without the distance 27, of which the flow gives 6.
        let text = fit(&columns, std::slice::from_ref(&row), 21);
        assert_eq!(text, "  flow        process\n  0123…bcdef  proxy");
        // Wide letters take two columns each.
        let wide = fit(&[keep("process").down_to(6)], &[vec!["工作进程一".to_owned()]], 9);
        assert_eq!(wide, "  process\n  工…一");
    }
}
