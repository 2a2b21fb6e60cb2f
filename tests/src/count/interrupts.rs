//! What /proc counts about interrupts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::guest::read;

/// Interrupts since boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interrupts {
    /// By the row's name, without the colon, then by CPU.
    rows: BTreeMap<String, Vec<u64>>,
    /// Packets' hand-overs between CPUs (RPS and RFS).
    handed_over: u64,
}

impl Interrupts {
    /// As they are now.
    pub(super) fn now() -> Result<Self> {
        let mut interrupts = Self::parse(&read("/proc/interrupts")?)?;
        interrupts.handed_over = handed_over(&read("/proc/net/softnet_stat")?)?;
        Ok(interrupts)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let cpus = lines.next().context("/proc/interrupts is empty")?.split_whitespace().count();
        let row = |line: &str| {
            let (name, cells) = line.trim_start().split_once(':')?;
            let cells = cells.split_whitespace().take(cpus);
            Some((name.to_owned(), cells.map_while(|cell| cell.parse().ok()).collect()))
        };
        Ok(Self { rows: lines.filter_map(row).collect(), handed_over: 0 })
    }

    /// Those after `earlier`.
    #[must_use]
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let nothing = Vec::new();
        let rows = self.rows.iter().map(|(name, now)| {
            let before = earlier.rows.get(name).unwrap_or(&nothing);
            let before = before.iter().copied().chain(std::iter::repeat(0));
            let cells = now.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
            (name.clone(), cells.collect())
        });
        let handed_over = self.handed_over.saturating_sub(earlier.handed_over);
        Self { rows: rows.collect(), handed_over }
    }

    /// Calls from CPU to CPU to reschedule or to run a function, which wakes a thread or hands
    /// packets over.
    #[must_use]
    pub(super) fn ipis(&self) -> u64 {
        ["RES", "CAL"].iter().filter_map(|name| self.rows.get(*name)).flatten().sum()
    }

    /// Packets' hand-overs between CPUs.
    #[must_use]
    pub(super) fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// The part of an interrupt's occurrences that was on `cpu`; nothing if it did not occur.
    #[must_use]
    pub(super) fn share(&self, irq: u32, cpu: usize) -> Option<f64> {
        let row = self.rows.get(&irq.to_string())?;
        let all: u64 = row.iter().sum();
        let here = row.get(cpu).copied().unwrap_or_default();
        (all > 0).then(|| here as f64 / all as f64)
    }
}

/// The tenth column of `/proc/net/softnet_stat`, in which each CPU counts its wake-ups by others
/// for the sake of their packets (`received_rps`).
fn handed_over(text: &str) -> Result<u64> {
    let mut sum = 0;
    for line in text.lines() {
        let cell = line.split_whitespace().nth(9).context("softnet_stat has too few columns")?;
        sum += u64::from_str_radix(cell, 16)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::{Interrupts, handed_over};

    const BEFORE: &str = "\
           CPU0       CPU1
 27:         10         20  PCI-MSIX-0000:00:03.0   1-edge      eth0-rx-0
RES:          5          6   Rescheduling interrupts
CAL:          7          8   Function call interrupts
ERR:          0";
    const AFTER: &str = "\
           CPU0       CPU1
 27:         40         30  PCI-MSIX-0000:00:03.0   1-edge      eth0-rx-0
RES:         15          6   Rescheduling interrupts
CAL:          7         28   Function call interrupts
ERR:          0";

    #[test]
    fn a_window_is_the_difference() {
        let before = Interrupts::parse(BEFORE).expect("well-formed");
        let window = Interrupts::parse(AFTER).expect("well-formed").since(&before);
        // 30 of CPU 0 and 10 of CPU 1; 10 and 0 to reschedule, 0 and 20 to call.
        assert_eq!(window.share(27, 0), Some(0.75));
        assert_eq!(window.share(27, 1), Some(0.25));
        assert_eq!(window.share(28, 1), None);
        assert_eq!(window.ipis(), 30);
    }

    #[test]
    fn hand_overs_are_hexadecimal() {
        let text = "0 0 0 0 0 0 0 0 0 0000000a 0 0 0\n0 0 0 0 0 0 0 0 0 00000001 0 0 1";
        assert_eq!(handed_over(text).expect("well-formed"), 11);
    }
}
