//! Reads and writes what a [`Target`] names, each write checked by reading it back.

use super::Failure;
use crate::model::{FlowAddr, Location, Rule, RuleContent, RuleTable, canonical};
use crate::plan::{Change, Target, Value};
use crate::sys::{Port, SysError};

/// Looks at an interrupt's affinity before it is believed not to be what it should be.
const LOOKS: u32 = 8;

/// A NIC with the door to it. It remembers the rule table, which takes a call for each rule to read,
/// for as long as it lives: make a new one for every plan.
pub struct Device<'a> {
    nic: &'a str,
    port: &'a dyn Port,
    rules: Option<RuleTable>,
}

impl<'a> Device<'a> {
    /// The NIC that is called `nic`.
    #[must_use]
    pub fn new(nic: &'a str, port: &'a dyn Port) -> Self {
        Self { nic, port, rules: None }
    }

    /// Reads what `target` is set to.
    pub fn read(&mut self, target: &Target) -> Result<Value, Failure> {
        let (nic, port) = (self.nic, self.port);
        let fail = |error: &SysError| failure(target, error);
        let absent = || Failure {
            target: target.clone(),
            why: format!("{nic} no longer has it"),
            gone: false,
        };
        match target {
            Target::Table => match port.rss_table(nic) {
                Ok(table) => table.map(Value::Table).ok_or_else(absent),
                Err(error) => Err(fail(&error)),
            },
            Target::IrqAffinity { irq, .. } => {
                port.irq_affinity(*irq).map(Value::Cpus).map_err(|error| fail(&error))
            }
            Target::Xps { queue } => match port.xps(nic, *queue) {
                Ok(cpus) => cpus.map(Value::Cpus).ok_or_else(absent),
                Err(error) => Err(fail(&error)),
            },
            Target::Rule { location: Location::At(number) } => {
                port.rule(nic, *number).map(Value::Rule).map_err(|error| fail(&error))
            }
            Target::Rule { location: Location::Any(flow) } => {
                let found = self.find(flow).map_err(|error| fail(&error))?;
                let content =
                    found.map_or(RuleContent::Empty, |(_, rule)| RuleContent::Exact(rule));
                Ok(Value::Rule(content))
            }
        }
    }

    /// Reads what `target` is set to, where `expected` should be found. An interrupt that is on its way
    /// shows for a moment the CPUs that it comes from ([`Port::await_interrupts`]), so anything else is
    /// believed only if it stays.
    pub fn read_expecting(&mut self, target: &Target, expected: &Value) -> Result<Value, Failure> {
        let mut found = self.read(target)?;
        if !matches!(target, Target::IrqAffinity { .. }) {
            return Ok(found);
        }
        for _ in 1..LOOKS {
            if found == *expected {
                break;
            }
            self.port.await_interrupts();
            found = self.read(target)?;
        }
        Ok(found)
    }

    /// Reads what `target` is set to, to see whether it is at `home` already. An interrupt that was sent
    /// away from there a moment ago may still seem to be.
    pub(super) fn read_settled(&mut self, target: &Target, home: &Value) -> Result<Value, Failure> {
        let found = self.read(target)?;
        if !matches!(target, Target::IrqAffinity { .. }) || found != *home {
            return Ok(found);
        }
        self.port.await_interrupts();
        self.read(target)
    }

    /// Writes one change and reads it back.
    pub(super) fn write(&mut self, change: &Change) -> Result<(), Failure> {
        let (nic, port) = (self.nic, self.port);
        let target = &change.target;
        let written = match (target, &change.to) {
            (Target::Table, Value::Table(table)) => port.set_rss_table(nic, table),
            (Target::IrqAffinity { irq, .. }, Value::Cpus(cpus)) => {
                port.set_irq_affinity(*irq, cpus)
            }
            (Target::Xps { queue }, Value::Cpus(cpus)) => port.set_xps(nic, *queue, cpus),
            (Target::Rule { location: Location::At(number) }, Value::Rule(content)) => {
                return self.write_rule_at(*number, *content, change);
            }
            (Target::Rule { location: Location::Any(flow) }, Value::Rule(content)) => {
                return self.write_rule_for(flow, *content, change);
            }
            (target, value) => {
                return Err(fail(target, format!("{value} is no value for {target}")));
            }
        };
        written.map_err(|error| failure(target, &error))?;
        let found = self.read_expecting(target, &change.to)?;
        // Where an interrupt is delivered is not asked here: x86 moves it when it next fires
        // (kernel/irq/migration.c), and until then `effective_affinity_list` names the old CPU.
        // Whether the queue followed is for `verify` to see.
        agreed(change, &found)
    }

    /// A rule whose number is ours to choose.
    fn write_rule_at(
        &mut self,
        number: u32,
        content: RuleContent,
        change: &Change,
    ) -> Result<(), Failure> {
        let target = &change.target;
        // Neither call looks at what it overwrites or deletes, and a rule of somebody else's cannot
        // be brought back; so a last look.
        let found = self.read(target)?;
        if found != change.from {
            return Err(fail(target, format!("somebody else has just set it to {found}")));
        }
        let written = match content {
            RuleContent::Exact(rule) => self.port.set_rule(self.nic, Some(number), &rule).map(drop),
            RuleContent::Empty => self.port.delete_rule(self.nic, number),
            RuleContent::Other => return Err(fail(target, "such a rule cannot be written".into())),
        };
        written.map_err(|error| failure(target, &error))?;
        let found = self.read(target)?;
        agreed(change, &found)
    }

    /// A rule whose number the driver chooses: known by its flow.
    fn write_rule_for(
        &mut self,
        flow: &FlowAddr,
        content: RuleContent,
        change: &Change,
    ) -> Result<(), Failure> {
        let target = &change.target;
        let failed = |error: SysError| failure(target, &error);
        let number = match content {
            RuleContent::Exact(rule) => {
                self.port.set_rule(self.nic, None, &rule).map_err(failed)?
            }
            RuleContent::Empty => {
                let Some((number, rule)) = self.find(flow).map_err(failed)? else {
                    return Ok(());
                };
                let there = self.port.rule(self.nic, number).map_err(failed)?;
                if there != RuleContent::Exact(rule) {
                    let why = format!("somebody else has just changed rule {number}: {there}");
                    return Err(fail(target, why));
                }
                self.port.delete_rule(self.nic, number).map_err(failed)?;
                number
            }
            RuleContent::Other => return Err(fail(target, "such a rule cannot be written".into())),
        };
        let found = self.port.rule(self.nic, number).map_err(failed)?;
        if let Some(table) = &mut self.rules {
            match found {
                RuleContent::Empty => drop(table.rules.remove(&number)),
                found => drop(table.rules.insert(number, found.exact())),
            }
        }
        // The number may have been given to another flow's rule since.
        let mine = |rule: &Rule| rule.flow == canonical(*flow);
        let found = found.exact().filter(mine).map_or(RuleContent::Empty, RuleContent::Exact);
        agreed(change, &Value::Rule(found))
    }

    /// The rule for `flow`, with its number.
    fn find(&mut self, flow: &FlowAddr) -> Result<Option<(u32, Rule)>, SysError> {
        if self.rules.is_none() {
            self.rules = Some(self.port.rules(self.nic)?.unwrap_or_default());
        }
        Ok(self.rules.as_ref().and_then(|table| table.of(&canonical(*flow))))
    }
}

fn agreed(change: &Change, found: &Value) -> Result<(), Failure> {
    if *found == change.to {
        return Ok(());
    }
    let why = format!("wrote {}, the kernel agreed, and {found} is read back", change.to);
    Err(fail(&change.target, why))
}

fn fail(target: &Target, why: String) -> Failure {
    Failure { target: target.clone(), why, gone: false }
}

fn failure(target: &Target, error: &SysError) -> Failure {
    Failure { target: target.clone(), why: error.to_string(), gone: error.is_gone() }
}
