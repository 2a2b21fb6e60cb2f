//! The lab itself, without steer: what the scenarios after it take for granted.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::Result;

use crate::{
    guest::{Guest, NIC, run as command, write},
    load::{Load, Spec},
    nic,
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let queues = nic::queues(NIC)?;
    let expected = if guest.nic == "e1000e" { 1 } else { guest.cpus.min(8) };
    guest.expect_equal("receive queues", &queues.len(), &expected)?;

    // More flows than elsewhere, so that by chance hardly any queue goes without.
    let spec = Spec { flows: 32, ..Spec::default() };
    let load = Load::start_until(guest, &spec, Load::is_mismatched)?;
    let window = load.window(Duration::from_secs(2))?;
    guest.expect_within("receives in 2 s", &window.received, 2000..)?;
    guest.expect_within("aligned share", &window.share(), 0.10..0.45)?;

    for (queue, irq) in &queues {
        write(&format!("/proc/irq/{irq}/smp_affinity_list"), &queue.to_string())?;
    }
    let expected = if guest.honours_table() { queues.len() } else { 1 };
    let what = "CPUs that packets come in on, with a queue on each";
    guest.expect_equal(what, &incoming_cpus(&load)?.len(), &expected)?;

    if guest.honours_table() {
        let all_to_the_first = ["1", "0", "0", "0", "0", "0", "0", "0"];
        let mut arguments = vec!["-X", NIC, "weight"];
        arguments.extend(&all_to_the_first[..queues.len()]);
        command("ethtool", &arguments)?;
        let what = "CPUs that packets come in on, with queue 0 alone in the table";
        guest.expect_equal(what, &incoming_cpus(&load)?, &BTreeSet::from([0]))?;
    }
    for cpu in [2, 1] {
        write(&format!("/proc/irq/{}/smp_affinity_list", queues[&0]), &cpu.to_string())?;
        let what = format!("CPUs that packets come in on, with queue 0 on CPU {cpu}");
        guest.expect_equal(&what, &incoming_cpus(&load)?, &BTreeSet::from([cpu]))?;
    }

    let client = load.stop()?;
    guest.expect_equal("requests failed or lost", &client.failed, &0)?;
    guest.expect_equal("requests answered", &client.answered, &client.sent)
}

/// Where packets come in once what was just written has had its effect.
fn incoming_cpus(load: &Load) -> Result<BTreeSet<u32>> {
    thread::sleep(Duration::from_secs(1));
    Ok(load.flows()?.iter().map(|flow| flow.incoming_cpu).collect())
}
