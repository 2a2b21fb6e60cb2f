//! Fewer queues than CPUs, and every consumer on a CPU without a queue: the interrupts must move.

use std::collections::BTreeSet;

use anyhow::Result;

use super::align::{correctable, corrects};
use crate::{
    guest::{Guest, NIC, read, run as command, write},
    load::Spec,
    nic,
};

const QUEUES: usize = 4;

pub(super) fn run(guest: &Guest) -> Result<()> {
    if guest.nic == "igb" {
        command("ethtool", &["-L", NIC, "combined", &QUEUES.to_string()])?;
    }
    guest.spread()?;
    let queues = nic::queues(NIC)?;
    guest.expect_equal("receive queues", &queues.len(), &QUEUES)?;
    // The queues on the CPUs of the lower half, the workers on those of the upper.
    for (queue, irq) in &queues {
        write(&format!("/proc/irq/{irq}/smp_affinity_list"), &queue.to_string())?;
    }
    let workers: Vec<usize> = (guest.cpus - QUEUES..guest.cpus).collect();
    guest.expect_within("CPUs", &guest.cpus, 2 * QUEUES..)?;
    let load = correctable(guest, &Spec { workers, ..Spec::default() })?;
    let before = homes(&queues)?;
    guest.expect_equal("CPUs of the interrupts", &before, &(0..QUEUES).collect())?;
    corrects(guest, &[NIC], vec![load])?;
    guest.expect_equal("CPUs of the interrupts, put back", &homes(&queues)?, &before)
}

fn homes(queues: &std::collections::BTreeMap<u32, u32>) -> Result<BTreeSet<usize>> {
    let home = |irq| Ok(read(&format!("/proc/irq/{irq}/smp_affinity_list"))?.parse()?);
    queues.values().map(home).collect()
}
