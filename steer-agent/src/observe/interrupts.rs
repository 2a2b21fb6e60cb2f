//! `/proc/interrupts` (`proc_interrupts(5)`, kernel/irq/proc.c `show_interrupts`), as far as it matters
//! here. The file is long on a large machine, so only who asks for it has it read.

use std::collections::BTreeMap;

use crate::model::{CpuId, InterruptRow, Interrupts, Nic};
use crate::sys::SysError;
use crate::sys::irq;
use crate::sys::root::{self, Root};

/// How CPUs call one another, by what the row says of itself: the names before the colon differ by
/// architecture (`RES` and `CAL` on x86, `IPI0` and `IPI1` on arm64).
const CALLS: [&str; 2] = ["Rescheduling interrupts", "Function call interrupts"];

/// The rows of `nics`, and those of calls from CPU to CPU.
pub(super) fn read<'n>(
    root: &Root,
    nics: impl IntoIterator<Item = &'n Nic>,
) -> Result<Interrupts, SysError> {
    let mut owners = BTreeMap::new();
    for nic in nics {
        let of_device = irq::of_nic(root, &nic.name).into_iter().map(|(number, _)| number);
        let of_queues = nic.queues.iter().filter_map(|queue| queue.irq);
        owners.extend(of_device.chain(of_queues).map(|number| (number, nic.ifindex)));
    }
    let path = root.proc("interrupts");
    let text = root::read(&path)?;
    parse(&text, &owners).ok_or_else(|| {
        let path = path.display().to_string();
        SysError::unexpected("read", path, "its first line names no CPU")
    })
}

fn parse(text: &str, owners: &BTreeMap<u32, u32>) -> Option<Interrupts> {
    let mut lines = text.lines();
    let heads = lines.next()?.split_whitespace();
    let cpus: Vec<CpuId> = heads.map_while(|head| head.strip_prefix("CPU")?.parse().ok()).collect();
    let row = |line: &str| {
        let (id, rest) = line.split_once(':')?;
        let id = id.trim();
        let mut words = rest.split_whitespace();
        let counts: Vec<u64> =
            words.by_ref().take(cpus.len()).map_while(|word| word.parse().ok()).collect();
        let what = words.collect::<Vec<_>>().join(" ");
        let ifindex = id.parse().ok().and_then(|number: u32| owners.get(&number).copied());
        // Rows of one number for the whole machine (`ERR`, `MIS`) have no CPUs to compare.
        let wanted = ifindex.is_some() || CALLS.iter().any(|call| what.starts_with(call));
        (wanted && counts.len() == cpus.len()).then(|| InterruptRow {
            id: id.to_owned(),
            what,
            ifindex,
            counts,
        })
    };
    let rows = lines.filter_map(row).collect();
    (!cpus.is_empty()).then_some(Interrupts { cpus, rows })
}

/// Any text as that file.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_text(text: &str) {
    let _ = parse(text, &[(0, 1), (29, 2)].into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_nic_and_calls_are_taken() {
        let text = "            CPU0       CPU2\n   0:         34          0   IO-APIC    2-edge      timer\n  \
                    29:      10502          7  PCI-MSIX-0000:00:03.0   1-edge      eth0-TxRx-0\n 130:          1          2   IR-PCI-MSI 524288-edge      nvme0q0\n \
                    NMI:          0          0   Non-maskable interrupts\n RES:       3005       2004   Rescheduling interrupts\n \
                    CAL:         97         61   Function call interrupts\n ERR:          0\n";
        let found = parse(text, &[(29, 2)].into()).expect("a table");
        assert_eq!(found.cpus, [0, 2]);
        let ids: Vec<&str> = found.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["29", "RES", "CAL"]);
        assert_eq!(found.rows[0].counts, [10_502, 7]);
        assert_eq!(found.rows[0].what, "PCI-MSIX-0000:00:03.0 1-edge eth0-TxRx-0");
        assert_eq!(
            found.rows.iter().map(|row| row.ifindex).collect::<Vec<_>>(),
            [Some(2), None, None]
        );
        // arm64 has other names for the same.
        let arm = "           CPU0       CPU1\nIPI0:       100        200       Rescheduling interrupts\n";
        assert_eq!(parse(arm, &BTreeMap::new()).expect("a table").rows[0].id, "IPI0");
    }

    #[test]
    fn what_is_no_such_file_is_said_to_be_none() {
        assert_eq!(parse("", &BTreeMap::new()), None);
        assert_eq!(parse("hello\n29: 1\n", &BTreeMap::new()), None);
        let torn = "  CPU0 CPU1\n 29:  17\n RES: x y Rescheduling interrupts\n";
        assert_eq!(parse(torn, &[(29, 2)].into()).expect("a table").rows, []);
    }
}
