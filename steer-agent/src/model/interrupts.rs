//! Interrupts counted by CPU, as in `/proc/interrupts`.

use serde::{Deserialize, Serialize};

use super::CpuId;

/// Rows of `/proc/interrupts`: those of the NICs under observation, and those by which one CPU calls
/// another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupts {
    /// The CPUs that are counted, in the order of [`InterruptRow::counts`].
    pub cpus: Vec<CpuId>,
    /// The rows.
    pub rows: Vec<InterruptRow>,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptRow {
    /// What stands before the colon: a number, or `RES` and the like.
    pub id: String,
    /// What stands behind the numbers: chip, kind and names of the actions; or what it is.
    pub what: String,
    /// Index of the NIC's interface; `None` for calls from CPU to CPU.
    #[serde(default)]
    pub ifindex: Option<u32>,
    /// Interrupts since boot, by CPU.
    pub counts: Vec<u64>,
}

impl Interrupts {
    /// What was counted since `earlier`; rows that were not there then are left out, and so are all of
    /// them where CPUs came or went.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let row = |row: &InterruptRow| {
            let before = earlier.rows.iter().find(|before| before.id == row.id)?;
            let counts = row.counts.iter().zip(&before.counts);
            let counts = counts.map(|(now, then)| now.saturating_sub(*then)).collect();
            Some(InterruptRow { counts, ..row.clone() })
        };
        let same = self.cpus == earlier.cpus;
        let rows = self.rows.iter().filter(|_| same).filter_map(row).collect();
        Self { cpus: self.cpus.clone(), rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cpus: &[CpuId], rows: &[(&str, &[u64])]) -> Interrupts {
        let row = |(id, counts): &(&str, &[u64])| InterruptRow {
            id: (*id).to_owned(),
            counts: counts.to_vec(),
            ..InterruptRow::default()
        };
        Interrupts { cpus: cpus.to_vec(), rows: rows.iter().map(row).collect() }
    }

    #[test]
    fn differences_are_by_row_and_cpu() {
        let before = read(&[0, 1], &[("29", &[5, 7]), ("RES", &[1, 1])]);
        let now = read(&[0, 1], &[("29", &[5, 17]), ("30", &[9, 9]), ("RES", &[4, 0])]);
        assert_eq!(
            now.since(&before).rows,
            read(&[0, 1], &[("29", &[0, 10]), ("RES", &[3, 0])]).rows
        );
        let other = read(&[0, 2], &[("29", &[6, 8])]);
        assert_eq!(other.since(&before).rows, []);
    }
}
