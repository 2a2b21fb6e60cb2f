//! The scenarios, and the machines that each is meant for.

mod smoke;

use std::fmt;

use anyhow::{Context, Result};

use crate::guest::Guest;

/// A scenario: one file, one story.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// Whether it drives the `steer` program.
    pub needs_steer: bool,
    /// The machines that it is meant for, as `NIC/KERNEL`.
    pub machines: &'static [&'static str],
    run: fn(&Guest) -> Result<()>,
}

/// Every scenario.
pub static TABLE: [Scenario; 1] = [Scenario {
    name: "smoke",
    about: "the machine itself: traffic flows, and tables and affinities do what they say",
    needs_steer: false,
    machines: &["igb/6.1", "igb/6.12", "virtio/6.12", "vmxnet3/6.12", "e1000e/6.12"],
    run: smoke::run,
}];

/// Runs the scenario of that name.
pub fn run(guest: &Guest, name: &str) -> Result<()> {
    let scenario = TABLE.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.with_context(|| format!("there is no scenario {name}"))?;
    (scenario.run)(guest)
}

/// The row that `steer-lab list` prints, its cells separated by tabs.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = if self.needs_steer { "steer" } else { "-" };
        write!(f, "{}\t{needs}\t{}\t{}", self.name, self.machines.join(" "), self.about)
    }
}
