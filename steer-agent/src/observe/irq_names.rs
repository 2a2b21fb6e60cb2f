//! From the names of a device's interrupts to its RX queues.
//!
//! The names are a custom of each driver, so they are data ([`Driver::irq_names`]). Guaranteed: only
//! interrupts of the device itself are looked at (the caller passes its `msi_irqs`), a driver without
//! names maps nothing, and a queue that two interrupts claim is left out. It never guesses by order or
//! by count. Netlink, where it answers, is asked first and makes all this unnecessary.

use std::collections::BTreeMap;

use crate::model::{Count, Driver, IrqName, QueueId};

/// The device whose interrupts are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device<'a> {
    /// Its driver.
    pub(super) driver: &'a str,
    /// Its interface.
    pub(super) nic: &'a str,
    /// Its own name, such as `virtio0`.
    pub(super) own_name: &'a str,
}

/// IRQ number and action name by RX queue. `irqs` are those of the device, with their names
/// (comma-separated where an interrupt is shared).
pub(super) fn by_queue(
    device: Device<'_>,
    irqs: &[(u32, String)],
) -> BTreeMap<QueueId, (u32, String)> {
    let mut claims: BTreeMap<QueueId, Vec<(u32, String)>> = BTreeMap::new();
    for row in Driver::of(device.driver).irq_names {
        let numbered = |(irq, names): &(u32, String)| {
            let mut names = names.split(',');
            names.find_map(|name| Some((number(row, device, name)?, (*irq, name.to_owned()))))
        };
        let found: Vec<(u32, (u32, String))> = irqs.iter().filter_map(numbered).collect();
        let first = match row.count {
            Count::Queue => 0,
            Count::QueueFromOne => 1,
            Count::Vector => found.iter().map(|(number, _)| *number).min().unwrap_or(0),
            Count::SecondHalf => u32::try_from(found.len() / 2).unwrap_or(0),
        };
        for (number, irq) in found {
            if let Some(queue) = number.checked_sub(first) {
                claims.entry(queue).or_default().push(irq);
            }
        }
    }
    let single = |(queue, mut irqs): (QueueId, Vec<(u32, String)>)| match irqs.len() {
        1 => Some((queue, irqs.pop()?)),
        _ => None,
    };
    claims.into_iter().filter_map(single).collect()
}

/// The number in `name`, if it is of this row and device.
fn number(row: &IrqName, device: Device<'_>, name: &str) -> Option<u32> {
    let (before, after) = row.pattern.split_once("%n")?;
    let before = before.replace("%i", device.nic).replace("%d", device.own_name);
    let rest = name.strip_prefix(before.as_str())?;
    let digits = match after {
        "" => rest,
        open_end => rest.split_once(open_end)?.0,
    };
    // Not parse() alone: that also takes a sign.
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Queue and IRQ, for these names on the IRQs 40, 41, …
    fn map(driver: &str, names: &[&str]) -> Vec<(QueueId, u32)> {
        let device = Device { driver, nic: "eth0", own_name: "virtio3" };
        let irqs: Vec<(u32, String)> =
            (40..).zip(names).map(|(irq, name)| (irq, (*name).to_owned())).collect();
        let mapped = by_queue(device, &irqs);
        mapped.into_iter().map(|(queue, (irq, _))| (queue, irq)).collect()
    }

    #[test]
    fn every_driver_counts_in_its_own_way() {
        type Case<'a> = (&'a str, &'a [&'a str], &'a [(QueueId, u32)]);
        let cases: [Case<'_>; 12] = [
            ("igb", &["eth0", "eth0-TxRx-0", "eth0-TxRx-1"], &[(0, 41), (1, 42)]),
            ("igb", &["eth0", "eth0-rx-0", "eth0-rx-1", "eth0-tx-0"], &[(0, 41), (1, 42)]),
            ("ixgbe", &["eth0-TxRx-0", "eth0-rx-1", "eth0-tx-1"], &[(0, 40), (1, 41)]),
            ("i40e", &["i40e-0000:01:00.0:misc", "i40e-eth0-TxRx-3"], &[(3, 41)]),
            (
                "mlx5_core",
                &["mlx5_async0@pci:0000:01:00.0", "mlx5_comp7@pci:0000:01:00.0"],
                &[(7, 41)],
            ),
            ("tg3", &["eth0-0", "eth0-txrx-1", "eth0-rx-2"], &[(0, 41), (1, 42)]),
            ("ena", &["ena-mgmnt@pci:0000:00:05.0", "eth0-Tx-Rx-0"], &[(0, 41)]),
            (
                "gve",
                &[
                    "gve-ntfy-blk0@pci:x",
                    "gve-ntfy-blk1@pci:x",
                    "gve-ntfy-blk2@pci:x",
                    "gve-ntfy-blk3@pci:x",
                    "gve-mgmnt@pci:x",
                ],
                &[(0, 42), (1, 43)],
            ),
            (
                "virtio_net",
                &["virtio3-config", "virtio3-input.0", "virtio3-output.0", "virtio3-input.1"],
                &[(0, 41), (1, 43)],
            ),
            ("vmxnet3", &["eth0-rxtx-0", "eth0-rxtx-1", "eth0-event-2"], &[(0, 40), (1, 41)]),
            ("vmxnet3", &["eth0-tx-0", "eth0-rx-1", "eth0-rx-2"], &[(0, 41), (1, 42)]),
            ("mana", &["mana_hwc@pci:7870:00:00.0", "mana_q0@pci:7870:00:00.0"], &[(0, 41)]),
        ];
        for (driver, names, expected) in cases {
            assert_eq!(map(driver, names), expected, "{driver} {names:?}");
        }
    }

    #[test]
    fn it_does_not_guess() {
        for (driver, names) in [
            ("igb", ["eth1-rx-0", "eth0-rx-", "eth0-rx-0x"]),
            ("igb", ["eth0-rx-+1", "xeth0-rx-0", "eth0-tx-0"]),
            ("virtio_net", ["virtio30-input.0", "virtio3-virtqueues", "virtio3-output.0"]),
            ("mlx5_core", ["mlx5_comp0", "mlx5_async0@pci:x", "mlx5_comp@pci:x"]),
            ("tg3", ["eth0-rx-0", "eth0-0", "eth0-1"]),
            ("nobody", ["eth0-rx-0", "eth0-rx-1", "eth0-TxRx-2"]),
        ] {
            assert_eq!(map(driver, &names), [], "{driver} {names:?}");
        }
    }

    #[test]
    fn a_queue_with_two_claims_has_none() {
        assert_eq!(map("igb", &["eth0-rx-0", "eth0-TxRx-0", "eth0-rx-1"]), [(1, 42)]);
    }

    #[test]
    fn a_shared_interrupt_counts_by_any_of_its_names() {
        assert_eq!(map("igb", &["ahci,eth0-rx-0"]), [(0, 40)]);
    }

    /// Every way of every driver, with the driver's name.
    fn rows() -> Vec<(&'static str, &'static IrqName)> {
        let of = |driver: &'static Driver| {
            driver.irq_names.iter().map(move |row| (driver.names[0], row))
        };
        Driver::all().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn any_names_are_answered(
            row in 0..rows().len(), names in prop::collection::vec("\\PC{0,24}", 0..6)
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let _ = map(rows()[row].0, &names);
        }

        #[test]
        fn every_row_finds_its_own_names(index in 0..rows().len(), numbers in 0u32..64) {
            let (driver, row) = rows()[index];
            let device = Device { driver, nic: "eth0", own_name: "virtio3" };
            let name = row.pattern.replace("%i", "eth0").replace("%d", "virtio3");
            let name = name.replace("%n", &numbers.to_string());
            prop_assert_eq!(number(row, device, &name), Some(numbers));
        }
    }
}
