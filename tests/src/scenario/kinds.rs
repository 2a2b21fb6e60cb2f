//! What else comes over a NIC than TCP over IPv4: a VLAN, IPv6, datagrams.

use anyhow::{Result, ensure};

use super::align::{correctable, corrects};
use crate::{
    guest::{Guest, NIC, run as command},
    load::{Proto, Spec},
    steer::exit,
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.add_vlan()?;
    guest.spread()?;
    named_by_mistake(guest, "eth0.7", &[NIC])?;
    let to = |address: &str| Spec { addresses: vec![address.to_owned()], ..Spec::default() };
    for (what, spec) in [("a VLAN", to("10.9.7.1")), ("IPv6", to("fd09::1"))] {
        guest.say(format_args!("{what}:"));
        let load = correctable(guest, &spec)?;
        corrects(guest, &[NIC], vec![load])?;
    }
    guest.say("UDP:");
    let doctor = guest.steer_expecting(exit::DONE, &["doctor", NIC])?;
    let what = "doctor says that UDP is hashed by addresses only";
    guest.expect(what, doctor.contains("UDP is hashed by addresses only"), &doctor)?;
    // As doctor advises.
    command("ethtool", &["-N", NIC, "rx-flow-hash", "udp4", "sdfn"])?;
    let load = correctable(guest, &Spec { proto: Proto::Udp, ..Spec::default() })?;
    corrects(guest, &[NIC], vec![load])
}

/// An interface without queues of its own is refused, and those that carry its packets are named.
pub(super) fn named_by_mistake(guest: &Guest, upper: &str, carriers: &[&str]) -> Result<()> {
    for verb in ["run", "apply"] {
        let refused = guest.steer(&[verb, upper])?;
        let said = refused.stderr.trim();
        guest.say(format_args!("steer {verb} {upper}: exit code {}: {said}", refused.code));
        ensure!(refused.code == exit::FAILED, "{verb} {upper}: exit code {}", refused.code);
        for carrier in carriers {
            let named = said.split(|c: char| !c.is_alphanumeric()).any(|word| word == *carrier);
            ensure!(named, "{verb} {upper}: the sentence does not name {carrier}: {said}");
        }
    }
    Ok(())
}
