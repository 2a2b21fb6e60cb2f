//! What this process takes of the machine, from window to window.

use crate::observe::Watch;
use crate::report::Cost;
use crate::sys::own::{Meter, usage};

/// Measures between two windows.
#[derive(Debug)]
pub struct CostMeter {
    cpu: Meter,
    /// Run time of the BPF programs until now; none where it is not measured.
    bpf_s: Option<f64>,
}

impl CostMeter {
    /// Measures from now on; the run time of BPF programs where the kernel is told to (`bpf`).
    #[must_use]
    pub fn start(watch: &Watch<'_>, bpf: bool) -> Self {
        Self { cpu: Meter::start(), bpf_s: bpf.then(|| run_time_s(watch)) }
    }

    /// What was taken since the last call, or since the start.
    pub fn take(&mut self, watch: &Watch<'_>) -> Cost {
        let (cpu_share, passed_s) = self.cpu.take();
        let bpf_share = self.bpf_s.map(|before| {
            let now = run_time_s(watch);
            self.bpf_s = Some(now);
            // Programs that were loaded anew count from zero.
            (now - before).max(0.0) / passed_s.max(1e-3)
        });
        Cost { cpu_share, bpf_share, resident_bytes: usage().map(|usage| usage.resident_bytes) }
    }
}

fn run_time_s(watch: &Watch<'_>) -> f64 {
    watch.run_times().iter().map(|(_, seconds, _)| seconds).sum()
}
