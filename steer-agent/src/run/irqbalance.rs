//! Peace with irqbalance: it is looked for every window and, with consent, asked once to leave the
//! NICs' interrupts alone.
//!
//! Interrupts may be moved while none runs, and while one runs that has them on its list. Otherwise
//! it would move them back, so that only tables are corrected. It forgets its list when it is
//! restarted; then it is asked again. A list that somebody else replaces is not noticed here: the
//! interrupt that then moves is (`contested`).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::steered::Steered;
use crate::apply::Ban;
use crate::model::{Neighbours, Nic, Process};
use crate::observe::neighbours;
use crate::policy::Policy;
use crate::report::neighbours::sentences;
use crate::sys::irqbalance::{self, Question, Setup};
use crate::sys::{Machine, Port as _};

/// Windows between two looks at all processes; one whose socket appears is seen at once.
const LOOK: u32 = 10;
/// How often one irqbalance is asked before it is left alone.
const MOST_TRIES: u32 = 4;

/// What may be done about an irqbalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It may be asked to leave the NICs' interrupts alone.
    Ban,
    /// It is reported; this is why it is not asked.
    Report(&'static str),
}

/// The irqbalance of this host, and what is known of the other neighbours.
#[derive(Debug)]
pub struct Irqbalance {
    neighbours: Neighbours,
    /// Windows until all processes are looked at.
    look: u32,
    /// The one that `standing` is about.
    with: Option<Process>,
    tries: u32,
    standing: Standing,
}

/// How far one has come with it.
#[derive(Debug)]
enum Standing {
    /// None runs, or it was not spoken to yet.
    Silent,
    /// It was asked for its list.
    Asked(Question),
    /// These are on its list.
    Banned(BTreeSet<u32>),
    /// It moves interrupts and is not asked to stop, for this reason.
    Unasked(&'static str),
    /// It moves interrupts although it was asked, and this is why.
    Moving(String),
}

impl Irqbalance {
    /// Looks who is there.
    #[must_use]
    pub fn find(machine: &Machine) -> Self {
        Self {
            neighbours: neighbours::find(machine.root(), Path::new("/")),
            look: LOOK,
            with: None,
            tries: 0,
            standing: Standing::Silent,
        }
    }

    /// Who was found.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// Whether an interrupt of `nic` that is moved now will stay.
    fn leaves_interrupts_alone(&self, nic: &Nic) -> bool {
        match &self.standing {
            Standing::Silent => self.neighbours.irqbalance.is_none(),
            Standing::Banned(banned) => irqs_of(nic).all(|irq| banned.contains(&irq)),
            Standing::Asked(_) | Standing::Unasked(_) | Standing::Moving(_) => false,
        }
    }

    /// The policy for `nic`, without what it would not let stand.
    #[must_use]
    pub fn limit(&self, policy: &Policy, nic: &Nic) -> Policy {
        let move_irqs = policy.move_irqs && self.leaves_interrupts_alone(nic);
        Policy { move_irqs, ..policy.clone() }
    }

    /// The neighbours in words.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let standing = match &self.standing {
            Standing::Banned(irqs) => format!("leaves IRQs {} alone, as it was asked", list(irqs)),
            Standing::Unasked(why) => moving(why),
            Standing::Moving(why) => moving(why),
            Standing::Asked(_) | Standing::Silent => {
                "runs and has not yet answered; only tables are corrected until then".to_owned()
            }
        };
        sentences(&self.neighbours, &standing)
    }

    /// Speaks with it until there is nothing more to say, but no longer than `patience`: usually it
    /// answers within a millisecond.
    pub fn speak(
        &mut self,
        machine: &Machine,
        nics: &[(&Nic, Consent)],
        steered: &mut [Steered],
        say: &dyn Fn(&str),
        patience: Duration,
    ) {
        self.look_around(machine);
        let give_up = Instant::now() + patience;
        loop {
            self.step(nics, steered, say);
            if !matches!(self.standing, Standing::Asked(_)) || Instant::now() > give_up {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Goes a step on with it. Waits for nothing.
    fn step(&mut self, nics: &[(&Nic, Consent)], steered: &mut [Steered], say: &dyn Fn(&str)) {
        if self.with != self.neighbours.irqbalance {
            self.with = self.neighbours.irqbalance;
            self.tries = 0;
            self.standing = Standing::Silent;
            if self.with.is_none() {
                say("irqbalance is gone: interrupts may be moved");
            }
        }
        let Some(process) = self.with else { return };
        let consents = |(nic, consent): &(&'_ Nic, Consent)| match consent {
            Consent::Ban => Ok(nic.ifindex),
            Consent::Report(why) => Err(*why),
        };
        let may: BTreeSet<u32> = nics.iter().filter_map(|one| consents(one).ok()).collect();
        let refusal = nics.iter().find_map(|one| consents(one).err());
        if let (true, Some(why)) = (may.is_empty(), refusal) {
            // What it was asked before stands; what it was not is left to it.
            let news = match &self.standing {
                Standing::Silent => true,
                Standing::Unasked(said) => *said != why,
                Standing::Asked(_) | Standing::Banned(_) | Standing::Moving(_) => false,
            };
            if news {
                leave(process, why, say);
                self.standing = Standing::Unasked(why);
            }
            return;
        }
        let nics: Vec<&Nic> =
            nics.iter().map(|(nic, _)| *nic).filter(|nic| may.contains(&nic.ifindex)).collect();
        let wanted: BTreeSet<u32> = nics.iter().flat_map(|nic| irqs_of(nic)).collect();
        let outcome = match &mut self.standing {
            Standing::Moving(_) => return,
            Standing::Banned(banned) if wanted.is_subset(banned) => return,
            // Consent may have come since it was left to itself.
            Standing::Banned(_) | Standing::Silent | Standing::Unasked(_) => self.ask(process),
            Standing::Asked(question) => match question.poll() {
                Ok(None) => return,
                Ok(Some(setup)) if wanted.is_subset(&setup.banned) => {
                    say(&format!(
                        "irqbalance (process {}) leaves IRQs {} alone",
                        process.pid,
                        list(&wanted)
                    ));
                    self.standing = Standing::Banned(wanted);
                    return;
                }
                Ok(Some(setup)) => self.ban(process, &nics, steered, &setup),
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(why) = outcome {
            self.standing = Standing::Silent;
            if self.tries >= MOST_TRIES {
                leave(process, &why, say);
                self.standing = Standing::Moving(why);
            } else {
                self.tries += 1;
            }
        }
    }

    fn look_around(&mut self, machine: &Machine) {
        let known = self.neighbours.irqbalance;
        let alive = known.is_some_and(|known| machine.process(known.pid) == Some(known));
        self.look = self.look.saturating_sub(1);
        let listens = |pid: u32| machine.process(pid).is_some();
        if self.look == 0
            || (known.is_some() && !alive)
            || (!alive && irqbalance::sockets().into_iter().any(listens))
        {
            self.look = LOOK;
            let host = Path::new("/");
            neighbours::find_processes(machine.root(), host, &mut self.neighbours);
        }
    }

    fn ask(&mut self, process: Process) -> Result<(), String> {
        let question = irqbalance::ask(process.pid).map_err(|error| error.to_string())?;
        self.standing = Standing::Asked(question);
        Ok(())
    }

    /// Adds the NICs' interrupts to its list, which was `setup`, and asks for what became of it.
    fn ban(
        &mut self,
        process: Process,
        nics: &[&Nic],
        steered: &mut [Steered],
        setup: &Setup,
    ) -> Result<(), String> {
        if self.tries >= MOST_TRIES {
            return Err("it was told, and they are not on its list".to_owned());
        }
        self.tries += 1;
        let mut all = setup.banned.clone();
        for one in steered {
            let Some(nic) = nics.iter().find(|nic| nic.ifindex == one.ifindex()) else { continue };
            let irqs: BTreeSet<u32> =
                irqs_of(nic).filter(|irq| !setup.banned.contains(irq)).collect();
            if !irqs.is_empty() {
                all.extend(&irqs);
                let ban = Ban { by: process, irqs };
                one.note_ban(ban).map_err(|error| error.to_string())?;
            }
        }
        irqbalance::ban(process.pid, &all).map_err(|error| error.to_string())?;
        self.ask(process)
    }
}

fn moving(why: &str) -> String {
    format!("runs and moves interrupts, so only tables are corrected: {why}")
}

fn leave(process: Process, why: &str, say: &dyn Fn(&str)) {
    say(&format!("irqbalance (process {}) {}", process.pid, moving(why)));
}

/// The interrupts of a NIC that steer may move.
fn irqs_of(nic: &Nic) -> impl Iterator<Item = u32> {
    nic.queues.iter().filter_map(|queue| queue.irq)
}

fn list(irqs: &BTreeSet<u32>) -> String {
    let irqs: Vec<String> = irqs.iter().map(ToString::to_string).collect();
    irqs.join(", ")
}
