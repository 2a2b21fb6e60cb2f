//! What the kernel says about a NIC: read here by other means than steer's, for comparison.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::Result;

use crate::guest::{read, run};

/// Everything that steer may change about a NIC, as the kernel prints it. Two states are equal if
/// they are the same to the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(BTreeMap<String, String>);

impl State {
    /// Reads the state of a NIC.
    pub fn read(nic: &str) -> Result<Self> {
        let mut state = BTreeMap::new();
        // NICs without a table or rules have none that could change.
        for (what, option) in [("table", "-x"), ("rules", "-n"), ("channels", "-l")] {
            let text = run("ethtool", &[option, nic]).unwrap_or_default();
            state.insert(what.to_owned(), text);
        }
        for (irq, name) in irqs(nic)? {
            // A vector without a handler has no directory.
            if let Ok(cpus) = read(&format!("/proc/irq/{irq}/smp_affinity_list")) {
                state.insert(format!("affinity of irq {irq} {name}"), cpus);
            }
        }
        for entry in fs::read_dir(format!("/sys/class/net/{nic}/queues"))? {
            let queue = entry?.path();
            for file in ["xps_cpus", "xps_rxqs", "rps_cpus", "rps_flow_cnt"] {
                // Absent for the other direction, unreadable for a NIC with one queue.
                if let Ok(text) = fs::read_to_string(queue.join(file)) {
                    let name = queue.file_name().unwrap_or_default().to_string_lossy();
                    state.insert(format!("{file} of {name}"), text);
                }
            }
        }
        Ok(Self(state))
    }

    /// What differs, a line for each value; nothing if the states are equal.
    #[must_use]
    pub fn difference(&self, other: &Self) -> String {
        let mut lines = Vec::new();
        for key in self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key))) {
            let [before, after] =
                [self, other].map(|state| state.0.get(key).map_or("absent", String::as_str));
            if before != after {
                lines.push(format!("{key}: was {before:?}, is {after:?}"));
            }
        }
        lines.join("\n")
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, value) in &self.0 {
            writeln!(f, "{what}: {}", value.trim_end())?;
        }
        Ok(())
    }
}

/// Receive queues of a NIC and the IRQ of each, told by the names in /proc/interrupts. A NIC with
/// one queue may name its only vector after itself.
pub fn queues(nic: &str) -> Result<BTreeMap<u32, u32>> {
    let irqs = irqs(nic)?;
    let mut queues = BTreeMap::new();
    for (&irq, name) in &irqs {
        let lower = name.to_lowercase();
        let receives = lower.contains("rx") || lower.contains("input");
        let queue = lower.rsplit(['-', '.']).next().and_then(|number| number.parse().ok());
        if let (true, Some(queue)) = (receives, queue) {
            queues.insert(queue, irq);
        }
    }
    if queues.is_empty() {
        queues.extend(irqs.keys().next().map(|&irq| (0, irq)));
    }
    Ok(queues)
}

/// The IRQs of the NIC's device that have a handler, with the handler's name. A virtual interface has
/// no device, and none.
pub fn irqs(nic: &str) -> Result<BTreeMap<u32, String>> {
    let Ok(device) = fs::canonicalize(format!("/sys/class/net/{nic}/device")) else {
        return Ok(BTreeMap::new());
    };
    // A virtio device is the child of the PCI device that has the vectors.
    let with_vectors = device.ancestors().map(|device| device.join("msi_irqs"));
    let vectors = with_vectors.into_iter().find(|path| path.is_dir());
    let vectors = vectors.unwrap_or_else(|| Path::new("/nonexistent").to_path_buf());
    let names = read("/proc/interrupts")?;
    let name_of = |irq: u32| {
        let prefix = format!("{irq}:");
        let line = names.lines().find_map(|line| line.trim_start().strip_prefix(&prefix))?;
        line.split_whitespace().last().map(str::to_owned)
    };
    let Ok(vectors) = fs::read_dir(vectors) else {
        return Ok(BTreeMap::new());
    };
    let numbers = vectors.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(|irq: u32| Some((irq, name_of(irq)?))).collect())
}
