//! Asked before anything is touched: may this process do it, and can this kernel?

use anyhow::bail;

use crate::model::Fact;
use crate::observe::kernel::can_run;
use crate::observe::{Observer, probe};
use crate::sys::Machine;

/// Whether flows can be observed here.
pub(super) fn to_observe(machine: &Machine, observer: Observer) -> anyhow::Result<()> {
    demand("flows cannot be observed", &can_run(observer, &probe::facts(machine)))
}

/// Whether settings can be written here, and their effect observed.
pub(super) fn to_write(machine: &Machine, observer: Observer) -> anyhow::Result<()> {
    let facts = probe::facts(machine);
    demand("flows cannot be observed", &can_run(observer, &facts))?;
    to_restore_with(&facts.may_set_nic, &facts.may_set_irq)
}

/// Whether settings can be written here.
pub(super) fn to_restore(machine: &Machine) -> anyhow::Result<()> {
    let facts = probe::facts(machine);
    to_restore_with(&facts.may_set_nic, &facts.may_set_irq)
}

fn to_restore_with(may_set_nic: &Fact, may_set_irq: &Fact) -> anyhow::Result<()> {
    demand("settings cannot be written", may_set_nic)?;
    demand("settings cannot be written", may_set_irq)
}

fn demand(what: &str, fact: &Fact) -> anyhow::Result<()> {
    match fact {
        // What cannot be told is tried: the call itself will say.
        Fact::Yes | Fact::Unknown(_) => Ok(()),
        Fact::No(why) => bail!("{what}: {why}; nothing was changed"),
    }
}
