//! A dense table of counters.

use serde::{Deserialize, Serialize};

/// Counters by row and column, such as packets by RX queue and CPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    columns: usize,
    cells: Vec<u64>,
}

impl Matrix {
    /// A table of zeros.
    #[must_use]
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { columns, cells: vec![0; rows * columns] }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.cells.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Whether the cells fill whole rows: so it is with every table that was made here, and need not
    /// be with one that was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self.columns {
            0 => self.cells.is_empty(),
            columns => self.cells.len().is_multiple_of(columns),
        }
    }

    /// All cells, row by row.
    pub fn cells(&self) -> impl Iterator<Item = u64> + '_ {
        self.cells.iter().copied()
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row; empty where there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u64] {
        let start = row.saturating_mul(self.columns);
        self.cells.get(start..start + self.columns).unwrap_or(&[])
    }

    /// One cell; zero outside the table.
    #[must_use]
    pub fn get(&self, row: usize, column: usize) -> u64 {
        self.row(row).get(column).copied().unwrap_or(0)
    }

    /// Adds to one cell; outside the table nothing is added.
    pub fn add(&mut self, row: usize, column: usize, count: u64) {
        if column < self.columns
            && let Some(cell) = self.cells.get_mut(row * self.columns + column)
        {
            *cell = cell.saturating_add(count);
        }
    }

    /// Takes `count` from a cell, as far as it is there.
    pub fn take(&mut self, row: usize, column: usize, count: u64) {
        if column < self.columns
            && let Some(cell) = self.cells.get_mut(row * self.columns + column)
        {
            *cell = cell.saturating_sub(count);
        }
    }

    /// Sum of all cells.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// What was counted since `earlier`. Counters that went backwards (a reloaded program) count
    /// from zero; another shape (a NIC that changed its queues) makes all of `self` new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if self.columns != earlier.columns || self.cells.len() != earlier.cells.len() {
            return self.clone();
        }
        let cells = self
            .cells
            .iter()
            .zip(&earlier.cells)
            .map(|(now, before)| now.checked_sub(*before).unwrap_or(*now))
            .collect();
        Self { columns: self.columns, cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_wrap() {
        let mut before = Matrix::new(2, 2);
        before.add(0, 0, 5);
        before.add(1, 1, 9);
        let mut now = Matrix::new(2, 2);
        now.add(0, 0, 7);
        now.add(1, 1, 4);
        let since = now.since(&before);
        assert_eq!((since.get(0, 0), since.get(1, 1)), (2, 4));
        assert_eq!(now.since(&Matrix::new(3, 2)), now);
    }

    #[test]
    fn outside_is_zero_and_harmless() {
        let mut matrix = Matrix::new(1, 2);
        matrix.add(0, 2, 1);
        matrix.add(5, 0, 1);
        assert_eq!(matrix.total(), 0);
        assert_eq!(matrix.get(9, 9), 0);
        assert_eq!(Matrix::default().rows(), 0);
    }
}
