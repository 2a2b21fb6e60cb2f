//! The scenarios, and the machines that each is meant for.

mod accept;
mod agree;
mod align;
mod balancer;
mod bond;
mod connect;
mod container;
mod demo;
mod events;
mod few;
mod foreign;
mod forward;
mod irqbalance;
mod kill9;
mod kinds;
mod manual;
mod matrix;
mod messages;
mod migrate;
mod names;
mod netns;
mod nodes;
mod observers;
mod once;
mod overruled;
mod package;
mod pair;
mod power;
mod refuse;
mod report;
mod roam;
mod smoke;
mod soak;
mod stall;
mod unverified;
mod verifier;

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
    /// Whether it drives the `steer` program, built or from its package.
    pub needs_steer: bool,
    /// The machines that it is meant for, as `NIC[*NUMBER]/KERNEL[/CPUS]`: four CPUs if not said, else
    /// their number or sockets, cores and threads as `2x2x2`.
    pub machines: &'static [&'static str],
    run: fn(&Guest) -> Result<()>,
}

/// Every scenario. `demo` is among them, so that a test finds it broken before a visitor does.
pub static TABLE: &[Scenario] = &[
    Scenario {
        name: "smoke",
        about: "the machine itself: traffic flows, tables and affinities do what they say",
        long: false,
        needs_steer: false,
        machines: &["igb/6.12", "e1000e/6.12"],
        run: smoke::run,
    },
    Scenario {
        name: "align",
        about: "a mismatched load is aligned, no request is lost, everything comes back",
        long: false,
        needs_steer: true,
        machines: &["igb/6.1", "igb/6.12", "virtio/6.12"],
        run: align::run,
    },
    Scenario {
        name: "accept",
        about: "short connections come to the worker of their queue's CPU; none drowns, none is refused",
        long: false,
        needs_steer: true,
        machines: &["igb/6.1", "igb/6.12"],
        run: accept::run,
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
        name: "report",
        about: "a report's figures before and after a correction are those of the independent count",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: report::run,
    },
    Scenario {
        name: "report-example",
        about: "a recording of a daemon's first seconds, for the example in docs/",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: report::example,
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
        name: "netns",
        about: "a NIC is moved to another network namespace and back: given up, taken back, restored",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: netns::run,
    },
    Scenario {
        name: "names",
        about: "killed, then the NIC is renamed or its driver loaded anew: restore finds it, or says why not",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: names::run,
    },
    Scenario {
        name: "stall",
        about: "steer is stopped, its clock jumps, its disk fills, the link goes: it goes on and says so",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: stall::run,
    },
    Scenario {
        name: "power",
        about: "the power is cut in the middle of a correction: the journal of an earlier boot harms nothing",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: power::run,
    },
    Scenario {
        name: "reload",
        about: "a proxy's workers are replaced under traffic, and steer follows",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: events::reload,
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
        name: "soak",
        about: "under a load that changes, memory and files stay level and no period is missed",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: soak::short,
    },
    Scenario {
        name: "soak-long",
        about: "the same over an hour",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: soak::long,
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
        name: "verifier",
        about: "what the programs cost the verifier is far below its limit, on every kernel",
        long: false,
        needs_steer: true,
        machines: &["igb/6.1", "igb/6.12"],
        run: verifier::run,
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
        name: "overruled",
        about: "virtual functions and threaded NAPI take the decision from the table: said, and left alone",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: overruled::run,
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
        name: "messages",
        about: "errors that take a NIC to be brought about are as in their golden file",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: messages::run,
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
        name: "haproxy",
        about: "HAProxy, a request per connection: default, irqbalance, RFS and steer side by side",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::haproxy,
    },
    Scenario {
        name: "nginx",
        about: "nginx as a load balancer, a request per connection: the four side by side",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::nginx,
    },
    Scenario {
        name: "haproxy-mixes",
        about: "HAProxy with keep-alive, TLS and a mix, with and without keep-alive to its servers",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::haproxy_mixes,
    },
    Scenario {
        name: "nginx-mixes",
        about: "the same with nginx",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::nginx_mixes,
    },
    Scenario {
        name: "haproxy-sockets",
        about: "HAProxy with eight workers on two sockets",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/2x5x1"],
        run: balancer::haproxy_sockets,
    },
    Scenario {
        name: "nginx-sockets",
        about: "the same with nginx",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/2x5x1"],
        run: balancer::nginx_sockets,
    },
    Scenario {
        name: "haproxy-reloads",
        about: "forty reloads of HAProxy under load: nothing is lost, alignment is back in 3 s",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::haproxy_reloads,
    },
    Scenario {
        name: "nginx-reloads",
        about: "the same with nginx",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::nginx_reloads,
    },
    Scenario {
        name: "balancer-reloads",
        about: "three reloads of each under load: nothing is lost, alignment is back in 3 s",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::few_reloads,
    },
    Scenario {
        name: "balancer-kill9",
        about: "steer killed under a load balancer: no connection is refused, nothing stays",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::killed,
    },
    Scenario {
        name: "hot-client",
        about: "one client address with most of the traffic, then one queue: no worker is swamped",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::hot_client,
    },
    Scenario {
        name: "demo-haproxy",
        about: "steer beside an HAProxy, shown to somebody who has never seen it",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::demo_haproxy,
    },
    Scenario {
        name: "demo-nginx",
        about: "the same with nginx",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12/5"],
        run: balancer::demo_nginx,
    },
    Scenario {
        name: package::NAME,
        about: "the Debian package under systemd: installed, used, reloaded, killed, upgraded, purged",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: package::run_scenario,
    },
    Scenario {
        name: "kinds",
        about: "VLAN, IPv6 and UDP are aligned too; naming the VLAN is answered by the NIC's name",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: kinds::run,
    },
    Scenario {
        name: "few",
        about: "fewer queues than CPUs, consumers where there is none: the interrupts move there",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12/8"],
        run: few::run,
    },
    Scenario {
        name: "nodes",
        about: "two sockets with SMT and NUMA: distances are the machine's, alignment follows",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12/2x2x2"],
        run: nodes::run,
    },
    Scenario {
        name: "pair",
        about: "two NICs under one daemon, and no NIC under two",
        long: false,
        needs_steer: true,
        machines: &["igb*2/6.12"],
        run: pair::run,
    },
    Scenario {
        name: "bond",
        about: "a bond of two NICs stands for its members; flows are put down to the one they came by",
        long: false,
        needs_steer: true,
        machines: &["igb*2/6.12"],
        run: bond::run,
    },
    Scenario {
        name: "container",
        about: "consumption in a container, bridged and routed, is the NIC's, and is aligned",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: container::run,
    },
    Scenario {
        name: "forward",
        about: "packets that are only forwarded have no consumer: steer says so and writes nothing",
        long: false,
        needs_steer: true,
        machines: &["igb*2/6.12"],
        run: forward::run,
    },
    Scenario {
        name: "manual",
        about: "every command of the documents that needs a NIC, as it stands there",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: manual::run,
    },
    Scenario {
        name: "manual-guide",
        about: "the same for the guide, with the configurations of load balancers in it",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: manual::guide,
    },
    Scenario {
        name: "matrix",
        about: "the same correction on every kernel and NIC: the table in docs/drivers.md",
        long: true,
        needs_steer: true,
        machines: &[
            "igb/5.10",
            "virtio/5.10",
            "vmxnet3/5.10",
            "igb/6.1",
            "virtio/6.1",
            "vmxnet3/6.1",
            "igb/6.12",
            "virtio/6.12",
            "vmxnet3/6.12",
            "igb/7.3",
            "virtio/7.3",
            "vmxnet3/7.3",
        ],
        run: matrix::run,
    },
    Scenario {
        name: "connect",
        about: "connections leave from ports whose replies come to the CPU that connects; none fails",
        long: false,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: connect::short,
    },
    Scenario {
        name: "connect-old",
        about: "a kernel that is too old for connect steering: that is said, and all else goes on",
        long: true,
        needs_steer: true,
        machines: &["igb/5.10"],
        run: connect::refused,
    },
    Scenario {
        name: "connect-long",
        about: "the same with a hundred thousand connections",
        long: true,
        needs_steer: true,
        machines: &["igb/6.12"],
        run: connect::long,
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
/// Whether the scenario wants systemd as its machine's first process, to install the package there.
#[must_use]
pub fn is_under_systemd(name: &str) -> bool {
    name == package::NAME
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = match self.needs_steer {
            _ if is_under_systemd(self.name) => "package",
            true => "steer",
            false => "-",
        };
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
        for scenario in TABLE {
            assert_eq!(scenario.to_string().split('\t').count(), 5, "{}", scenario.name);
            assert!(!scenario.machines.is_empty(), "{}", scenario.name);
        }
    }
}
