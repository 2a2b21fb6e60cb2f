//! Names on the command line to NICs. A bond stands for its members.

use anyhow::{Context as _, bail};

use crate::config::keys::nearest;
use crate::model::{Nic, Queue};
use crate::observe::nic;
use crate::policy::Policy;
use crate::sys::Machine;

/// A NIC that was named or found, with the reason why it cannot be steered, if so.
pub(super) struct Selected {
    pub(super) nic: Nic,
    pub(super) why_not: Option<String>,
}

/// For commands that only look: the named interfaces, or all that can be steered.
pub(super) fn for_reading(machine: &Machine, names: &[String]) -> anyhow::Result<Vec<Selected>> {
    if !names.is_empty() {
        return named(machine, names);
    }
    Ok(all(machine)?.into_iter().filter(|selected| selected.why_not.is_none()).collect())
}

/// For a daemon that writes nothing and was told no names: all that can be steered.
pub(super) fn for_looking_on(machine: &Machine) -> anyhow::Result<Vec<Nic>> {
    let nics: Vec<Nic> =
        for_reading(machine, &[])?.into_iter().map(|selected| selected.nic).collect();
    if nics.is_empty() {
        bail!("{}", steerable(machine)?);
    }
    Ok(nics)
}

/// For commands that write: only what was named, and only what can be steered under its policy.
pub(super) fn for_writing(
    machine: &Machine,
    names: &[String],
    policy_of: &dyn Fn(&str) -> Policy,
) -> anyhow::Result<Vec<Nic>> {
    if names.is_empty() {
        bail!(
            "name the interface that may be written to, on the command line or as `run.interfaces` in \
             the configuration; {}",
            steerable(machine)?
        );
    }
    let mut nics = Vec::new();
    for Selected { nic, why_not } in named(machine, names)? {
        if let Some(why) = why_not {
            bail!("{why}; nothing was changed");
        }
        if let Some(why) = nothing_to_write(&nic, &policy_of(&nic.name)) {
            bail!("{why}; nothing was changed");
        }
        nics.push(nic);
    }
    Ok(nics)
}

/// Why nothing of `nic` may be written: its table is left alone, and no interrupt can be moved.
fn nothing_to_write(nic: &Nic, policy: &Policy) -> Option<String> {
    let unwanted = "`policy.move_table` is false".to_owned();
    let refusal = policy.table_refusal(nic).map(|refusal| refusal.to_string());
    let refusal = refusal.or_else(|| (!policy.move_table).then_some(unwanted))?;
    let movable = policy.move_irqs && nic.queues.iter().any(Queue::is_movable);
    (!movable).then(|| format!("{}: {refusal}, and none of its interrupts can be moved", nic.name))
}

/// Every interface with hardware behind it.
pub(super) fn all(machine: &Machine) -> anyhow::Result<Vec<Selected>> {
    let mut selected = Vec::new();
    for name in nic::list(machine).context("cannot list the interfaces")? {
        // One that vanishes between the listing and the look was not there.
        if let Ok(nic) = nic::read(machine, &name)
            && nic.bus.is_some()
        {
            selected.push(select(nic));
        }
    }
    Ok(selected)
}

/// A sentence that lists what could be steered here.
pub(super) fn steerable(machine: &Machine) -> anyhow::Result<String> {
    let all = all(machine)?;
    let names: Vec<&str> = all
        .iter()
        .filter(|selected| selected.why_not.is_none())
        .map(|selected| selected.nic.name.as_str())
        .collect();
    if !names.is_empty() {
        return Ok(format!("steerable here: {}", names.join(", ")));
    }
    let reasons: Vec<String> = all.into_iter().filter_map(|selected| selected.why_not).collect();
    Ok(if reasons.is_empty() {
        "there is no NIC here that can be steered".to_owned()
    } else {
        format!("no NIC here can be steered: {}", reasons.join("; "))
    })
}

fn named(machine: &Machine, names: &[String]) -> anyhow::Result<Vec<Selected>> {
    let mut selected: Vec<Selected> = Vec::new();
    for name in names {
        let expanded = nic::members(machine, name).unwrap_or_else(|| vec![name.clone()]);
        for name in expanded {
            if selected.iter().any(|known| known.nic.name == name) {
                continue;
            }
            match nic::read(machine, &name) {
                Ok(nic) => {
                    let mut one = select(nic);
                    one.why_not = one.why_not.map(|why| with_carriers(machine, &one.nic, why));
                    selected.push(one);
                }
                Err(error) if error.is_gone() => {
                    bail!(
                        "there is no interface `{name}`{}; {}",
                        meant(machine, &name),
                        steerable(machine)?
                    )
                }
                Err(error) => return Err(error).with_context(|| format!("cannot look at {name}")),
            }
        }
    }
    Ok(selected)
}

/// A guess at which of the interfaces was meant.
fn meant(machine: &Machine, name: &str) -> String {
    let there = nic::list(machine).unwrap_or_default();
    let near = nearest(name, there.iter().map(String::as_str));
    near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

/// Adds to the refusal of a virtual interface which NICs its packets come through. Naming it is no
/// consent to write to those, which others use too.
fn with_carriers(machine: &Machine, nic: &Nic, why: String) -> String {
    let carriers = match nic.driver {
        Some(_) => Vec::new(),
        None => nic::carriers(machine, &nic.name),
    };
    if carriers.is_empty() { why } else { format!("{why} ({})", carriers.join(", ")) }
}

fn select(nic: Nic) -> Selected {
    Selected { why_not: nic::why_not_steerable(&nic), nic }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CpuSet;

    #[test]
    fn a_nic_with_nothing_to_write_is_refused() {
        let queue = |irq| Queue { irq, affinity: Some(CpuSet::single(0)), ..Queue::default() };
        let mut nic = Nic {
            name: "eth0".to_owned(),
            driver: Some("bnxt_en".to_owned()),
            queues: vec![queue(Some(30)), queue(Some(31))],
            ..Nic::default()
        };
        assert_eq!(nothing_to_write(&nic, &Policy::default()), None, "interrupts are left");
        for queue in &mut nic.queues {
            queue.managed = true;
        }
        let why = nothing_to_write(&nic, &Policy::default()).expect("nothing is left");
        assert!(why.starts_with("eth0: the table is not written: bnxt_en closes"), "{why}");
        assert!(why.ends_with("and none of its interrupts can be moved"), "{why}");
        let permitted = Policy { allow_link_reset: true, ..Policy::default() };
        assert_eq!(nothing_to_write(&nic, &permitted), None);
        nic.driver = Some("igb".to_owned());
        assert_eq!(nothing_to_write(&nic, &Policy::default()), None, "the table is left");
    }
}
