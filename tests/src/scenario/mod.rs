//! The scenarios, and the machines that each is meant for.

mod agree;
mod align;
mod demo;
mod events;
mod foreign;
mod irqbalance;
mod kill9;
mod migrate;
mod observers;
mod once;
mod refuse;
mod roam;
mod smoke;
mod unverified;

use std::fmt;

use anyhow::{Context, Result};

use crate::guest::Guest;

/// A scenario: one file, one story.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// Whether it takes so long that it runs only when it is named or all are asked for.
    pub long: bool,
    /// Whether it drives the `steer` program.
    pub needs_steer: bool,
    /// The machines that it is meant for, as `NIC/KERNEL`.
    pub machines: &'static [&'static str],
    run: fn(&Guest) -> Result<()>,
}

/// Every scenario. `demo` is among them, so that a test finds it broken before a visitor does.
pub static TABLE: [Scenario; 17] = [
    Scenario {
        name: "smoke",
        about: "the machine itself: traffic flows, tables and affinities do what they say",
        long: false,
        needs_steer: false,
        machines: &["igb/6.1", "igb/6.12", "virtio/6.12", "vmxnet3/6.12", "e1000e/6.12"],
        run: smoke::run,
    },
    Scenario {
        name: "align",
        about: "a mismatched load is aligned, no request is lost, everything comes back",
        long: false,
        needs_steer: true,
        machines: &["igb/6.1", "igb/6.12", "virtio/6.1", "virtio/6.12"],
        run: align::run,
    },
    Scenario {
        name: "once",
        about: "doctor and plan write nothing; apply corrects once, and restore undoes it",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: once::run,
    },
    Scenario {
        name: "kill9",
        about: "a daemon killed in the middle of its work leaves nothing that restore cannot undo",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: kill9::run,
    },
    Scenario {
        name: "migrate",
        about: "a worker that changes CPU is followed within four periods, by few writes",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: migrate::run,
    },
    Scenario {
        name: "events",
        about: "links, MTU, rings, CPUs and names change under a running daemon, which goes on",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: events::run,
    },
    Scenario {
        name: "anew",
        about: "queues become more, the device goes and comes back: the daemon begins anew",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: events::anew,
    },
    Scenario {
        name: "roam",
        about: "workers that nobody pinned are not chased: moves fall towards zero within a minute",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: roam::short,
    },
    Scenario {
        name: "roam-long",
        about: "the same over ten minutes",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: roam::long,
    },
    Scenario {
        name: "kill9-200",
        about: "the same two hundred times, at moments all over the first seconds of a correction",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: kill9::many,
    },
    Scenario {
        name: "agree",
        about: "steer's alignment and an independent count are within three points",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12", "virtio/6.12"],
        run: agree::run,
    },
    Scenario {
        name: "observers",
        about: "both observers name the same queue and softirq CPU for IPv4, IPv6 and VLAN flows",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: observers::run,
    },
    Scenario {
        name: "unverified",
        about: "a NIC that takes a table and does not follow it is found out and left alone",
        long: false,
        needs_steer: true,
        machines: &["vmxnet3/6.12"],
        run: unverified::run,
    },
    Scenario {
        name: "refuse",
        about: "what steer cannot do it declines: a sentence, the right exit code, nothing changed",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12", "e1000e/6.12"],
        run: refuse::run,
    },
    Scenario {
        name: "irqbalance",
        about: "irqbalance leaves the NIC's interrupts alone if steer may ask it to, until the end",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: irqbalance::run,
    },
    Scenario {
        name: "foreign",
        about: "what somebody else sets is noticed, named, and overwritten only by --force",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: foreign::run,
    },
    Scenario {
        name: "demo",
        about: "steer shown to somebody who has never seen it",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: demo::run,
    },
];

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
        let long = if self.long { "long" } else { "-" };
        write!(f, "{}\t{needs}\t{long}\t{}\t{}", self.name, self.machines.join(" "), self.about)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::TABLE;

    #[test]
    fn names_are_unique_and_rows_are_readable() {
        let names: BTreeSet<&str> = TABLE.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for scenario in &TABLE {
            assert_eq!(scenario.to_string().split('\t').count(), 5, "{}", scenario.name);
            assert!(!scenario.machines.is_empty(), "{}", scenario.name);
        }
    }
}
