//! The part of the status document about what steer itself takes.

use serde::{Deserialize, Serialize};

/// What the process that observed takes of the machine, over the window. What is unknown is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cost {
    /// Share of one CPU, in user space and kernel, without the BPF programs, which run in others' time.
    pub cpu_share: Option<f64>,
    /// Share of one CPU in the BPF programs; only where `metrics.bpf_run_time` has them measured.
    pub bpf_share: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
}

impl Cost {
    /// In words; nothing where nothing is known.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let percent = |share: f64| format!("{:.1} % of a CPU", share * 100.0);
        let parts: Vec<String> = [
            self.cpu_share.map(percent),
            self.bpf_share.map(|share| format!("{} in BPF", percent(share))),
            self.resident_bytes.map(|bytes| format!("{} MiB", bytes.div_ceil(1 << 20))),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}
