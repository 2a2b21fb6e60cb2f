//! Observes a set of NICs: kernel side and settings, read together into one [`Sample`].
//!
//! What cannot be read once is named in `missing` and the rest stands; a NIC that is gone is left
//! out of the sample.

use anyhow::Context as _;

use super::{KernelSide, Observer, ProgramStatus, StartOptions, WatchedNic, host, nic};
use crate::model::{Nic, NicCounters, NicSample, Sample};
use crate::sys::Machine;

/// A running observation. Dropping it detaches everything.
#[derive(Debug)]
pub struct Watch<'a> {
    machine: &'a Machine,
    kernel: KernelSide,
    watched: Vec<WatchedNic>,
}

impl<'a> Watch<'a> {
    /// Starts to observe `nics` with `observer`.
    pub fn start(machine: &'a Machine, nics: &[Nic], observer: Observer) -> anyhow::Result<Self> {
        let watched: Vec<WatchedNic> = nics.iter().map(WatchedNic::of).collect();
        let options = StartOptions { observer, nics: watched.clone(), ..StartOptions::default() };
        let kernel = KernelSide::start(&options)?;
        Ok(Self { machine, kernel, watched })
    }

    /// The programs, and what became of each.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.kernel.programs()
    }

    /// Reads everything once.
    pub fn sample(&mut self) -> anyhow::Result<Sample> {
        let mut missing = Vec::new();
        let mut settings = Vec::new();
        for (index, watched) in self.watched.iter_mut().enumerate() {
            match nic::read_noting(self.machine, &watched.name, &mut missing) {
                Ok(nic) => {
                    let now = WatchedNic::of(&nic);
                    if now != *watched {
                        self.kernel
                            .update_nic(index, &now)
                            .with_context(|| format!("{} has changed", watched.name))?;
                        *watched = now;
                    }
                    settings.push((index, nic));
                }
                Err(error) => missing.push(format!("{}: {error}", watched.name)),
            }
        }
        let mut note = |what: &str, error: &dyn std::fmt::Display| {
            missing.push(format!("{what}: {error}"));
        };
        let topology = host::topology(self.machine.root())
            .map_err(|error| note("CPU topology", &error))
            .unwrap_or_default();
        let softirq_ns = host::softirq_ns(self.machine.root())
            .map_err(|error| note("softirq time", &error))
            .ok();
        // The counters last, and the clock right after: rates are counts over this time.
        let reading = self.kernel.read().context("reading the eBPF maps")?;
        let at_ns = host::monotonic_ns();
        missing.extend(reading.missing);
        let mut counters: Vec<Option<NicCounters>> =
            reading.counters.into_iter().map(Some).collect();
        let nics = settings
            .into_iter()
            .map(|(index, nic)| NicSample {
                nic,
                counters: counters.get_mut(index).and_then(Option::take).unwrap_or_default(),
            })
            .collect();
        Ok(Sample {
            at_ns,
            topology,
            softirq_ns,
            nics,
            flows: reading.flows,
            health: reading.health,
            missing,
        })
    }
}
