//! The lab itself, without steer: what the scenarios after it take for granted.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::Result;

use crate::{
    guest::{Guest, NIC, run as command, write},
    load::{Load, Spec},
    nic,
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let queues = nic::queues(NIC)?;
    let expected = if guest.nic == "e1000e" {
        1
    } else {
        guest.cpus.min(8)
    };
    guest.expect_equal("receive queues", &queues.len(), &expected)?;

    let load = Load::start_mismatched(guest, &Spec::default())?;
    let (fired, window) = load.window_of(|| fired_within(Duration::from_secs(3)))?;
    guest.say(format_args!("interrupts by queue: {fired:?}"));
    guest.expect_within("receives in 3 s", window.received, 2000..)?;
    guest.expect_within("aligned share", window.share(), 0.10..0.45)?;
    let busy = |fired: &BTreeMap<u32, u64>| fired.values().filter(|&&count| count > 100).count();
    let expected = if guest.honours_table() {
        queues.len()
    } else {
        1
    };
    guest.expect_equal("queues that get traffic", &busy(&fired), &expected)?;

    if guest.honours_table() {
        let all_to_the_first = ["1", "0", "0", "0", "0", "0", "0", "0"];
        let mut arguments = vec!["-X", NIC, "weight"];
        arguments.extend(&all_to_the_first[..queues.len()]);
        command("ethtool", &arguments)?;
        thread::sleep(Duration::from_millis(500));
        let fired = fired_within(Duration::from_secs(1))?;
        guest.expect_equal(
            "queues that get traffic from a table of zeros",
            &busy(&fired),
            &1,
        )?;
    }

    for cpu in [2, 1] {
        write(
            &format!("/proc/irq/{}/smp_affinity_list", queues[&0]),
            &cpu.to_string(),
        )?;
        thread::sleep(Duration::from_secs(1));
        let flows = load.flows()?;
        let there = flows.iter().filter(|flow| flow.incoming_cpu == cpu).count();
        let what = format!("flows that come in on CPU {cpu} after queue 0's IRQ was sent there");
        guest.expect_equal(&what, &there, &flows.len())?;
    }

    let client = load.stop()?;
    guest.expect_equal("requests failed or lost", &client.failed, &0)?;
    guest.expect_equal("requests answered", &client.answered, &client.sent)
}

fn fired_within(time: Duration) -> Result<BTreeMap<u32, u64>> {
    let before = nic::interrupts(NIC)?;
    thread::sleep(time);
    let after = nic::interrupts(NIC)?;
    Ok(after
        .into_iter()
        .map(|(queue, count)| (queue, count - before.get(&queue).copied().unwrap_or(0)))
        .collect())
}
