//! A bond of two NICs, and a VLAN on it: the bond stands for its members, each of which is steered.

use anyhow::{Context, Result};

use super::align::{NEARLY_ALL, correctable_on, corrects_as};
use super::kinds::named_by_mistake;
use super::pair::NICS;
use crate::{
    guest::{Guest, PATIENCE, ip, read, run as command, spread, wait_for},
    load::{Load, Spec},
};

/// The same on both ends; flows are spread over the wires by addresses and ports.
const BOND: &str = "link add bond0 type bond mode balance-xor xmit_hash_policy layer3+4 miimon 100";

pub(super) fn run(guest: &Guest) -> Result<()> {
    command("modprobe", &["bonding", "max_bonds=0"])?;
    set_up()?;
    for nic in NICS {
        spread(nic)?;
    }
    named_by_mistake(guest, "bond0.7", &NICS)?;
    let load = correctable_on(guest, &NICS, &Spec::default(), NEARLY_ALL)?;
    every_flow_has_its_nic(guest, &load)?;
    corrects_as(guest, &["bond0"], &NICS, vec![load])
}

fn set_up() -> Result<()> {
    ip(BOND)?;
    for nic in NICS {
        ip(&format!("link set {nic} down"))?;
        ip(&format!("address flush dev {nic}"))?;
        ip(&format!("link set {nic} master bond0"))?;
    }
    ip("address add 10.9.0.1/24 dev bond0")?;
    ip("link set bond0 up")?;
    ip("link add link bond0 name bond0.7 type vlan id 7")?;
    ip("link set bond0.7 up")?;
    // Both far ends into one namespace.
    ip("-n peer1 link set peer1 netns peer")?;
    let peer = |command: &str| ip(&format!("-n peer {command}"));
    peer(BOND)?;
    for nic in ["peer0", "peer1"] {
        peer(&format!("link set {nic} down"))?;
        peer(&format!("address flush dev {nic}"))?;
        peer(&format!("link set {nic} master bond0"))?;
    }
    peer("address add 10.9.0.2/24 dev bond0")?;
    peer("link set bond0 up")?;
    wait_for("both wires of the bond", PATIENCE, || {
        let state = read("/proc/net/bonding/bond0")?;
        Ok(state.matches("MII Status: up").count() == 3)
    })?;
    Ok(())
}

/// Each flow is listed with the member that it came in through, on a queue that is polled where the
/// server says.
fn every_flow_has_its_nic(guest: &Guest, load: &Load) -> Result<()> {
    let flows = load.flows()?;
    let mut found = 0;
    for nic in NICS {
        let status = guest.status(nic, &["--for", "2s", "--flows"])?;
        let listed = status["flows"].as_array().context("status lists no flows")?;
        let of_nic = listed.iter().filter(|listed| {
            flows.iter().any(|flow| {
                listed["remote"] == flow.remote.to_string()
                    && listed["softirq_cpu"] == flow.incoming_cpu
            })
        });
        let of_nic = of_nic.count();
        guest.expect_within(&format!("flows of {nic}"), &of_nic, 1..)?;
        found += of_nic;
    }
    guest.expect_equal("flows on both, with the CPU that the server names", &found, &flows.len())
}
