//! One correction: what `apply` does, and `report --apply` between two looks.

use std::time::Duration;

use anyhow::bail;

use super::args::PlanningArgs;
use super::output::note;
use super::select::for_writing;
use super::settings::terms;
use super::{Exit, Settings, rights};
use crate::model::{Neighbours, Nic, World};
use crate::plan::{Plan, Shared};
use crate::policy::Policy;
use crate::report::NicState;
use crate::run::irqbalance::{Consent, Irqbalance};
use crate::run::steered::{Hand, Steered};
use crate::run::terms::wall_time;
use crate::sys::Machine;

/// NICs that may be written, and all that writing them takes.
pub(super) struct Correction<'a> {
    machine: &'a Machine,
    settings: &'a Settings,
    planning: &'a PlanningArgs,
    say: &'a dyn Fn(&str),
    /// The NICs.
    pub(super) nics: Vec<Nic>,
    steered: Vec<Steered>,
    irqbalance: Irqbalance,
    wrote: bool,
    refused: bool,
}

impl<'a> Correction<'a> {
    /// Takes the NICs over, after everything that may speak against it was asked. Nothing is written to
    /// them yet.
    pub(super) fn begin(
        machine: &'a Machine,
        settings: &'a Settings,
        names: &[String],
        planning: &'a PlanningArgs,
        say: &'a dyn Fn(&str),
    ) -> anyhow::Result<Self> {
        let policy_of = |nic: &str| settings.policy_of(nic, planning);
        let nics = for_writing(machine, names, &policy_of)?;
        for nic in &nics {
            let terms = terms(settings.config.values(Some(&nic.name)));
            if let Some(why) = terms.maintenance_window.why_shut(wall_time()) {
                bail!(
                    "{}: {why}; wait until then, or set STEER_RUN_MAINTENANCE_WINDOW=always for this once",
                    nic.name
                );
            }
            if let Some(refusal) = policy_of(&nic.name).table_refusal(nic) {
                note(&format!("{}: {refusal}", nic.name));
            }
        }
        rights::to_write(machine, settings.observer(planning))?;
        let mut steered = Vec::new();
        for nic in &nics {
            steered.push(Steered::begin(nic, machine, &settings.state_dir, false, say)?);
        }
        let irqbalance = Irqbalance::find(machine);
        let (wrote, refused) = (false, false);
        Ok(Self { machine, settings, planning, say, nics, steered, irqbalance, wrote, refused })
    }

    /// Asks irqbalance, if it may be asked, to leave the NICs alone.
    pub(super) fn speak_to_irqbalance(&mut self, patience: Duration) {
        let consent = |nic: &Nic| terms(self.settings.config.values(Some(&nic.name))).irqbalance;
        let of: Vec<(&Nic, Consent)> = self.nics.iter().map(|nic| (nic, consent(nic))).collect();
        self.irqbalance.speak(self.machine, &of, &mut self.steered, self.say, patience);
    }

    fn policy_of(&self, nic: &Nic) -> Policy {
        self.irqbalance.limit(&self.settings.policy_of(&nic.name, self.planning), nic)
    }

    fn hand<'h>(&'h self, policy: &'h Policy, neighbours: &'h Neighbours) -> Hand<'h> {
        Hand { port: self.machine, policy, neighbours, shut: None, say: self.say }
    }

    /// Plans for each NIC by what was seen, shows the plan, and writes it.
    pub(super) fn write(&mut self, world: &World, mut show: impl FnMut(&Plan)) {
        let neighbours = self.irqbalance.neighbours().clone();
        let mut shared = Shared::new(world);
        let mut steered = std::mem::take(&mut self.steered);
        for one in &mut steered {
            let Some(nic) = world.nics.iter().find(|nic| nic.nic.name == one.name()) else {
                continue;
            };
            let host = shared.around(nic);
            let policy = &self.policy_of(&nic.nic);
            let plan = one.plan(nic, &host, policy);
            show(&plan);
            if !plan.is_empty() {
                one.correct(nic, &host, &plan, &self.hand(policy, &neighbours));
                self.wrote |= one.is_waiting();
                self.refused |= !one.is_waiting();
            }
            shared.follow(nic, &plan);
        }
        self.steered = steered;
    }

    /// Judges what was written by a window that lies wholly after it, and takes back what did harm.
    pub(super) fn judge(&mut self, world: &World) {
        let neighbours = self.irqbalance.neighbours().clone();
        let mut steered = std::mem::take(&mut self.steered);
        for one in &mut steered {
            let Some(nic) = world.nics.iter().find(|nic| nic.nic.name == one.name()) else {
                continue;
            };
            // Where nothing was written there is nothing to judge.
            if !one.is_waiting() {
                continue;
            }
            let policy = &self.policy_of(&nic.nic);
            one.judge(nic, &Shared::new(world).around(nic), &self.hand(policy, &neighbours));
            if let (NicState::Observing | NicState::Contested, Some(why)) = one.state() {
                note(&format!("{}: {why}", one.name()));
                self.refused = true;
            }
        }
        self.steered = steered;
    }

    /// Whether something was written whose effect is not judged yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.steered.iter().any(Steered::is_waiting)
    }

    /// Whether something that was written looks as if it did harm, which another window is to tell.
    pub(super) fn is_suspect(&self) -> bool {
        self.steered.iter().any(Steered::is_suspect)
    }

    /// Says what was written and could not be judged so far.
    pub(super) fn tell_late(&self) {
        for one in self.steered.iter().filter(|one| one.is_waiting()) {
            if let (_, Some(why)) = one.state() {
                note(&format!("{}: written, and still {why}", one.name()));
            }
        }
    }

    /// How it went so far. A failure ends with nothing left changed, or not.
    pub(super) fn exit(&self) -> Exit {
        match (self.refused, self.wrote) {
            (false, true) => Exit::Done,
            (false, false) => Exit::NotMet,
            (true, _) if self.steered.iter().any(Steered::has_left_something) => Exit::NotRestored,
            (true, _) => Exit::Failed,
        }
    }

    /// Puts everything back. False where something could not be.
    pub(super) fn put_back(self) -> bool {
        let (machine, say) = (self.machine, self.say);
        let mut complete = true;
        for one in self.steered {
            // Each is tried, whatever became of those before it.
            complete &= one.finish(machine, true, say);
        }
        complete
    }
}
