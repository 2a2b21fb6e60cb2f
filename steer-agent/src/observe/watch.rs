//! Observes a set of NICs: kernel side and settings, read together into one [`Sample`].
//!
//! What cannot be read once is named in `missing` and the rest stands; a NIC that is gone is left
//! out of the sample.

use std::time::Duration;

use anyhow::Context as _;

use super::calibrate::Calibration;
use super::{
    KernelSide, Observer, ProgramStatus, StartOptions, WatchedNic, host, interrupts, nic, sampling,
};
use crate::model::{Nic, NicCounters, NicSample, Sample, Topology};
use crate::sys::{Machine, Port as _, SysError, diag};

/// Long enough to see every flow that matters once; short enough to go unnoticed.
const WARM_UP: Duration = Duration::from_millis(400);

/// A running observation. Dropping it detaches everything.
#[derive(Debug)]
pub struct Watch<'a> {
    machine: &'a Machine,
    kernel: KernelSide,
    nics: Vec<Watched>,
    last_ns: u64,
    since_ns: u64,
    /// Consumption so far, and one in 2^this is remembered by flow.
    consumed: u64,
    sampling: u32,
    with_interrupts: bool,
    /// As read last.
    topology: Topology,
}

/// One NIC under observation.
#[derive(Debug)]
struct Watched {
    told: WatchedNic,
    calibration: Calibration,
}

impl<'a> Watch<'a> {
    /// Starts to observe `nics` with `observer`.
    pub fn start(machine: &'a Machine, nics: &[Nic], observer: Observer) -> anyhow::Result<Self> {
        let told: Vec<WatchedNic> = nics.iter().map(WatchedNic::of).collect();
        // One message a consumption: only for whoever asks for everything (`STEER_LOG=trace`).
        let debug = log::log_enabled!(log::Level::Trace);
        let options =
            StartOptions { observer, nics: told.clone(), debug, ..StartOptions::default() };
        let kernel = KernelSide::start(&options)?;
        let nics = told
            .into_iter()
            .map(|told| Watched { told, calibration: Calibration::default() })
            .collect();
        let since_ns = host::monotonic_ns();
        Ok(Self {
            machine,
            kernel,
            nics,
            last_ns: since_ns,
            since_ns,
            consumed: 0,
            sampling: 0,
            with_interrupts: false,
            topology: Topology::default(),
        })
    }

    /// Reads `/proc/interrupts` with every sample from now on, which takes milliseconds on a machine
    /// with hundreds of CPUs.
    #[must_use]
    pub fn with_interrupts(self) -> Self {
        Self { with_interrupts: true, ..self }
    }

    /// The programs, and what became of each.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.kernel.programs()
    }

    /// CPU time of each program in seconds, and how often it ran, while the kernel measures.
    #[must_use]
    pub fn run_times(&self) -> Vec<(String, f64, u64)> {
        self.kernel.run_times()
    }

    /// Reads and writes the kernel side's maps once, as every later look does, to see that it may.
    pub fn try_maps(&mut self) -> anyhow::Result<()> {
        self.kernel.set_flow_sampling(self.sampling)?;
        self.kernel.read().map(drop)
    }

    /// Looks for a moment at what comes, so that the first window is read with the right key.
    pub fn warm_up(&mut self) -> anyhow::Result<()> {
        // Twice: that a NIC reports no hash is seen first, its key then.
        for _ in 0..2 {
            std::thread::sleep(WARM_UP);
            let before: Vec<Calibration> = self.nics.iter().map(|nic| nic.calibration).collect();
            self.sample()?;
            if self.nics.iter().map(|nic| nic.calibration).eq(before) {
                break;
            }
        }
        // What was learned last is told to the kernel side by another look.
        self.sample().map(drop)
    }

    /// Reads everything once.
    pub fn sample(&mut self) -> anyhow::Result<Sample> {
        let mut missing = Vec::new();
        let mut settings = Vec::new();
        for (index, watched) in self.nics.iter_mut().enumerate() {
            let mut read = nic::read_noting(self.machine, &watched.told.name, &mut missing);
            if read.as_ref().is_err_and(SysError::is_gone)
                && let Some(name) = self.machine.called(watched.told.ifindex)
            {
                read = nic::read_noting(self.machine, &name, &mut missing);
            }
            match read {
                Ok(as_told) => {
                    let mut nic = as_told.clone();
                    let now = watched.calibration.watched(&mut nic);
                    if now != watched.told {
                        self.kernel
                            .update_nic(index, &now)
                            .with_context(|| format!("{} has changed", now.name))?;
                        watched.told = now;
                    }
                    settings.push((index, as_told, nic));
                }
                Err(error) => missing.push(format!("{}: {error}", watched.told.name)),
            }
        }
        let mut note = |what: &str, error: &dyn std::fmt::Display| {
            missing.push(format!("{what}: {error}"));
        };
        let known = std::mem::take(&mut self.topology);
        let topology = host::topology_after(self.machine.root(), known)
            .map_err(|error| note("CPU topology", &error))
            .unwrap_or_default();
        self.topology.clone_from(&topology);
        let softirq_ns = host::softirq_ns(self.machine.root())
            .map_err(|error| note("softirq time", &error))
            .ok();
        let tcp = host::tcp_segments(self.machine.root())
            .map_err(|error| note("TCP segments", &error))
            .ok();
        let interrupts = if self.with_interrupts {
            let nics = settings.iter().map(|(_, _, nic)| nic);
            interrupts::read(self.machine.root(), nics)
                .map_err(|error| note("interrupts by CPU", &error))
                .ok()
        } else {
            None
        };
        // The counters last, and the clock right after: rates are counts over this time.
        let reading = self.kernel.read().context("reading the eBPF maps")?;
        let at_ns = host::monotonic_ns();
        missing.extend(reading.missing);
        let mut counters: Vec<Option<NicCounters>> =
            reading.counters.into_iter().map(Some).collect();
        let mut nics = Vec::new();
        for (index, as_told, nic) in settings {
            if let Some(watched) = self.nics.get_mut(index) {
                watched.calibration.learn(&as_told, &reading.flows, self.last_ns);
            }
            let counters = counters.get_mut(index).and_then(Option::take).unwrap_or_default();
            nics.push(NicSample { nic, counters });
        }
        let flow_sampling = Some(self.sampling);
        self.adapt_sampling(&nics, at_ns);
        self.last_ns = at_ns;
        let listening = diag::listening().map_err(|error| log::debug!("{error}")).ok();
        Ok(Sample {
            at_ns,
            since_ns: self.since_ns,
            topology,
            softirq_ns,
            tcp,
            nics,
            flows: reading.flows,
            listening,
            interrupts,
            flow_sampling,
            health: reading.health,
            missing,
        })
    }

    /// Takes as many single consumptions from now on as the rate since the last look asks for.
    fn adapt_sampling(&mut self, nics: &[NicSample], at_ns: u64) {
        let consumed = nics.iter().map(|nic| nic.counters.queue_consumed.total()).sum();
        let window_s = at_ns.saturating_sub(self.last_ns) as f64 / 1e9;
        let per_s = u64::saturating_sub(consumed, self.consumed) as f64 / window_s.max(1e-3);
        let buckets = |nic: &NicSample| nic.nic.rss.as_ref().map_or(0, |rss| rss.table.len());
        let shift = sampling::shift(per_s, nics.iter().map(buckets).sum(), window_s);
        self.consumed = consumed;
        if shift != self.sampling {
            // Too many samples are no harm: what fails here is tried again with the next window.
            match self.kernel.set_flow_sampling(shift) {
                Ok(()) => self.sampling = shift,
                Err(error) => log::debug!("sampling of flows stays as it is: {error:#}"),
            }
        }
    }
}
