//! What the programs of accept steering go by: written to their maps, differences alone.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use steer_common::accept::{ALL, Choice, NOBODY, Target, Trial, WAYS};

use super::AcceptSide;
use crate::model::CpuId;
use crate::model::accept::{AcceptTable, TargetAddress};
use crate::observe::kernel::read;

/// A share of nothing, with nobody in it.
const NO_TRIAL: Trial =
    Trial { share: 0, count: 0, members: [0; steer_common::accept::TRIED as usize] };

impl AcceptSide {
    /// Makes `table` what the lookup goes by.
    pub fn tell(&mut self, table: &AcceptTable) -> Result<()> {
        self.tell_targets(table)?;
        self.tell_places(table)?;
        let cpus = self.cpus;
        let mut choices: Array<&mut MapData, Choice> =
            Array::try_from(read::map_mut(&mut self.ebpf, "CHOICES")?)?;
        let nobody = Choice::default();
        let at: BTreeSet<&(u16, CpuId)> =
            self.written.choices.keys().chain(table.choices.keys()).collect();
        for (group, cpu) in at {
            let now = table.choices.get(&(*group, *cpu));
            if now == self.written.choices.get(&(*group, *cpu)) || *cpu >= cpus {
                continue;
            }
            let choice = now.map_or(nobody, |choice| {
                let mut members = [0; WAYS as usize];
                for (to, from) in members.iter_mut().zip(&choice.members) {
                    *to = *from;
                }
                let ways = choice.members.len().min(members.len());
                let ways = u32::try_from(ways).unwrap_or(0);
                Choice { share: fraction(choice.share), ways, members }
            });
            let index = u32::from(*group) * cpus + cpu;
            choices.set(index, choice, 0).context("writing map CHOICES")?;
        }
        let mut trials: Array<&mut MapData, Trial> =
            Array::try_from(read::map_mut(&mut self.ebpf, "TRIALS")?)?;
        let groups: BTreeSet<&u16> =
            self.written.trials.keys().chain(table.trials.keys()).collect();
        for group in groups {
            let now = table.trials.get(group);
            if now == self.written.trials.get(group) {
                continue;
            }
            let trial = now.map_or(NO_TRIAL, |choice| {
                let mut trial = Trial { share: fraction(choice.share), ..NO_TRIAL };
                for (to, from) in trial.members.iter_mut().zip(&choice.members) {
                    *to = *from;
                    trial.count += 1;
                }
                trial
            });
            trials.set(u32::from(*group), trial, 0).context("writing map TRIALS")?;
        }
        self.written = table.clone();
        Ok(())
    }

    fn tell_targets(&mut self, table: &AcceptTable) -> Result<()> {
        let written = self.written.targets.clone();
        let mut targets = self.hash::<Target, u16>("TARGET_GROUPS")?;
        for (address, group) in &table.targets {
            if written.get(address) != Some(group) {
                let group = group.unwrap_or(NOBODY);
                targets.insert(target(address), group, 0).context("writing map TARGET_GROUPS")?;
            }
        }
        for address in written.keys().filter(|address| !table.targets.contains_key(*address)) {
            targets.remove(&target(address)).context("writing map TARGET_GROUPS")?;
        }
        Ok(())
    }

    fn tell_places(&mut self, table: &AcceptTable) -> Result<()> {
        let old = self.written.interfaces.clone();
        let mut interfaces = self.hash::<u32, u32>("INTERFACES")?;
        for ifindex in table.interfaces.difference(&old) {
            interfaces.insert(ifindex, 1, 0).context("writing map INTERFACES")?;
        }
        for ifindex in old.difference(&table.interfaces) {
            interfaces.remove(ifindex).context("writing map INTERFACES")?;
        }
        let old = self.written.own_addresses.clone();
        let mut addresses = self.hash::<[u8; 16], u32>("OWN_ADDRESSES")?;
        for address in table.own_addresses.difference(&old) {
            addresses.insert(mapped(*address), 1, 0).context("writing map OWN_ADDRESSES")?;
        }
        for address in old.difference(&table.own_addresses) {
            addresses.remove(&mapped(*address)).context("writing map OWN_ADDRESSES")?;
        }
        Ok(())
    }
}

fn target(address: &TargetAddress) -> Target {
    Target {
        address: address.address.map_or([0; 16], mapped),
        port: address.port,
        version: if address.v4 { 4 } else { 6 },
        pad: 0,
    }
}

/// An address as the programs have it.
fn mapped(address: std::net::IpAddr) -> [u8; 16] {
    match address {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1 of a number that fits"
)]
fn fraction(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(ALL)).round() as u32
}
