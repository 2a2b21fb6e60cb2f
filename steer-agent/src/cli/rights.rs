//! Asked before anything is touched: may this process do it, and can this kernel?

use anyhow::bail;

use crate::model::{Fact, Facts};
use crate::observe::kernel::can_run;
use crate::observe::{Observer, probe};
use crate::sys::Machine;

/// Whether flows can be observed here.
pub(super) fn to_observe(machine: &Machine, observer: Observer) -> anyhow::Result<()> {
    demand("flows cannot be observed", &can_run(observer, &probe::facts(machine)))
}

/// Whether settings can be written here, and their effect observed.
pub(super) fn to_write(machine: &Machine, observer: Observer) -> anyhow::Result<()> {
    to_write_with(observer, &probe::facts(machine))
}

/// Whether settings can be written here.
pub(super) fn to_restore(machine: &Machine) -> anyhow::Result<()> {
    to_restore_with(&probe::facts(machine))
}

fn to_write_with(observer: Observer, facts: &Facts) -> anyhow::Result<()> {
    demand("flows cannot be observed", &can_run(observer, facts))?;
    to_restore_with(facts)
}

fn to_restore_with(facts: &Facts) -> anyhow::Result<()> {
    demand("settings cannot be written", &facts.may_set_nic)?;
    demand("settings cannot be written", &facts.may_set_irq)
}

fn demand(what: &str, fact: &Fact) -> anyhow::Result<()> {
    match fact {
        // What cannot be told is tried: the call itself will say.
        Fact::Yes | Fact::Unknown(_) => Ok(()),
        Fact::No(why) => bail!("{what}: {why}; nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_before_anything_is_touched() {
        let mut facts = probe::facts(&Machine::open().expect("sockets"));
        let no = |why: &str| Fact::No(why.to_owned());
        (facts.btf, facts.may_trace) = (Fact::Yes, Fact::Yes);
        (facts.may_set_nic, facts.may_set_irq) = (Fact::Yes, Fact::Unknown("who knows".to_owned()));
        assert!(to_write_with(Observer::Xdp, &facts).is_ok(), "what cannot be told is tried");
        facts.may_set_irq = no("irq needs CAP_DAC_OVERRIDE");
        let text = |result: anyhow::Result<()>| result.expect_err("refused").to_string();
        assert_eq!(
            text(to_restore_with(&facts)),
            "settings cannot be written: irq needs CAP_DAC_OVERRIDE; nothing was changed"
        );
        facts.may_set_nic = no("nic needs CAP_NET_ADMIN");
        assert!(text(to_restore_with(&facts)).contains("nic needs CAP_NET_ADMIN"));
        let xdp = text(to_write_with(Observer::Xdp, &facts));
        assert!(xdp.contains("flows cannot be observed: nic needs CAP_NET_ADMIN"), "{xdp}");
        facts.may_trace = no("bpf needs CAP_BPF");
        let tracing = text(to_write_with(Observer::Tracing, &facts));
        assert!(tracing.contains("flows cannot be observed: bpf needs CAP_BPF"), "{tracing}");
    }
}
