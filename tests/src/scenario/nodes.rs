//! Two sockets with two cores of two threads each, a NUMA node for each socket: distances are those
//! of the machine, and what is mismatched over any of them is aligned.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::align::{correctable_load, corrects};
use crate::{
    guest::{Guest, NIC, read},
    load::Load,
};

/// How far a share of steer's may be from the flows' own: they all have the same rate, but for what
/// the emulation makes of it.
const TOLERANCE: f64 = 0.06;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    guest.expect_equal("threads of CPU 0's core", &siblings(0)?, &"0-1".to_owned())?;
    guest.expect_equal("CPUs of node 1", &read(&node(1))?, &"4-7".to_owned())?;
    let load = correctable_load(guest)?;
    distances(guest, &load)?;
    corrects(guest, &[NIC], vec![load])
}

fn siblings(cpu: usize) -> Result<String> {
    read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
}

fn node(node: usize) -> String {
    format!("/sys/devices/system/node/node{node}/cpulist")
}

/// What steer says of the distances is what follows from the server's flows and from sysfs.
fn distances(guest: &Guest, load: &Load) -> Result<()> {
    let status = guest.status(NIC, &["--for", "3s"])?;
    let flows = load.flows()?;
    let remote = read(&node(1))?;
    let (first, last) = remote.split_once('-').context("a range of CPUs")?;
    let range: std::ops::RangeInclusive<usize> = first.parse()?..=last.parse()?;
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for flow in &flows {
        let (worker, softirq) = (flow.worker_cpu, usize::try_from(flow.incoming_cpu)?);
        let distance = if worker == softirq {
            "same-core"
        } else if siblings(worker)? == siblings(softirq)? {
            "smt-sibling"
        } else if range.contains(&worker) == range.contains(&softirq) {
            "within the node"
        } else {
            "remote"
        };
        *counted.entry(distance).or_default() += 1;
    }
    let said = &status["alignment"]["by_distance"];
    guest.say(format_args!("steer: {said}; flows: {counted:?}"));
    for (name, places) in [
        ("same-core", &["same-core"][..]),
        ("smt-sibling", &["smt-sibling"]),
        ("within the node", &["same-l2", "same-llc", "same-node"]),
        ("remote", &["remote"]),
    ] {
        let share: f64 = places.iter().filter_map(|place| said[*place].as_f64()).sum();
        let expected = *counted.get(name).unwrap_or(&0) as f64 / flows.len() as f64;
        let apart = (share - expected).abs();
        guest.expect_within(&format!("{name}, apart by"), &apart, ..=TOLERANCE)?;
    }
    Ok(())
}
