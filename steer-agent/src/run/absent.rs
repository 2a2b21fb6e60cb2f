//! A NIC that is not there: its driver was unbound, or it was moved to another network namespace.
//! The first takes its settings with it, the second carries them along.

use std::path::Path;

use crate::apply::Journal;
use crate::model::Nic;
use crate::observe::nic;
use crate::sys::{DeviceId, Machine};

/// A NIC that disappeared and may come back.
pub(super) struct Absent {
    name: String,
    device: DeviceId,
    /// Why it is not taken back, as far as that was said already.
    said: Option<String>,
}

impl Absent {
    pub(super) fn new(name: &str, device: &DeviceId) -> Self {
        Self { name: name.to_owned(), device: device.clone(), said: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What to tell the operator when it has gone.
    pub(super) fn farewell(&self, machine: &Machine) -> String {
        let settings = if self.is_elsewhere(machine) {
            "to another network namespace, as its driver is there still; what steer set on it it keeps"
        } else {
            "and its settings with it"
        };
        format!("{} is gone, {settings}; it is steered again when it is back", self.name)
    }

    /// Has `begin` take it back if it is here again. Why that cannot be is an error, once.
    pub(super) fn look<T>(
        &mut self,
        machine: &Machine,
        begin: impl FnOnce(&Nic) -> anyhow::Result<T>,
    ) -> Result<Option<T>, String> {
        let Ok(nic) = nic::read(machine, &self.name) else { return Ok(None) };
        let why = if nic.bus != self.device.bus {
            "another device has taken its name, and is left alone".to_owned()
        } else if let Some(why) = nic::why_not_steerable(&nic) {
            why
        } else {
            match begin(&nic) {
                Ok(taken) => return Ok(Some(taken)),
                Err(error) => format!("{error:#}"),
            }
        };
        if self.said.as_ref() == Some(&why) {
            return Ok(None);
        }
        let text = format!("{}: {why}", self.name);
        self.said = Some(why);
        Err(text)
    }

    /// Why what steer set on it is not put back, if it still has it.
    pub(super) fn unrestored(&self, machine: &Machine, state_dir: &Path) -> Option<String> {
        let Self { name, .. } = self;
        // It may be kept under the name that the NIC had before it was renamed.
        let journal = Journal::of_device(state_dir, name, &self.device, machine).ok()??;
        if journal.record().is_empty() || !self.is_elsewhere(machine) {
            return None;
        }
        Some(format!(
            "{name}: not restored, as it is not in this network namespace; {} keeps what it was: \
             `steer restore {name}` puts it back once it is here again",
            journal.path().display()
        ))
    }

    fn is_elsewhere(&self, machine: &Machine) -> bool {
        self.device.bus.as_deref().is_some_and(|bus| machine.is_driven(bus))
    }
}
