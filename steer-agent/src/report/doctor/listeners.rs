//! What keeps a load balancer's connections from the CPU where they arrive, and the directive to change.
//!
//! One table of rules. A rule looks at what was found (sockets, threads, where they may run) and at the
//! settings, and speaks only where both do not contradict: what is seen counts, and the setting is what
//! to change.

use super::{Finding, Findings, Level};
use crate::model::service::{Kind, Service};
use crate::model::{Fact, Topology};

/// What a rule looks at.
struct Case<'a> {
    service: &'a Service,
    /// CPUs online.
    cpus: usize,
}

/// One thing that defeats alignment.
struct Rule {
    kind: Kind,
    /// What is wrong, if it is.
    found: fn(&Case<'_>) -> Option<String>,
    /// The directive, where it goes, and why.
    change: &'static str,
}

impl Case<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.service.settings.as_ref()?.value(name)
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn workers(&self) -> usize {
        self.service.workers.len()
    }

    /// One socket cannot be several workers' each.
    fn fewer_sockets_than_workers(&self) -> Option<String> {
        let sockets = self.service.sockets;
        (self.workers() > sockets)
            .then(|| format!("{} workers share {sockets} sockets", self.workers()))
    }

    fn unpinned(&self) -> Option<String> {
        let unpinned = self.service.unpinned();
        (unpinned > 0)
            .then(|| format!("{unpinned} of {} workers may run on several CPUs", self.workers()))
    }

    fn fewer_workers_than_cpus(&self) -> Option<String> {
        let (workers, cpus) = (self.workers(), self.cpus);
        (workers > 0 && workers < cpus).then(|| format!("{workers} workers on {cpus} CPUs"))
    }
}

const RULES: &[Rule] = &[
    Rule {
        kind: Kind::Haproxy,
        found: |case| {
            let off = case.value("tune.listener.multi-queue") == Some("off");
            // One thread has nobody to hand over to.
            (!off && case.workers() > 1).then(|| {
                let known = case.service.settings.is_some();
                let source =
                    if known { "is not off" } else { "is on unless its files say otherwise" };
                format!("tune.listener.multi-queue {source}")
            })
        },
        change: "`tune.listener.multi-queue off` under `global`: with it on, the thread that accepts a \
                 connection hands it to whichever has fewest, and it is consumed elsewhere",
    },
    Rule {
        kind: Kind::Haproxy,
        found: |case| case.has("noreuseport").then(|| "noreuseport is set".to_owned()),
        change: "remove `noreuseport` under `global`: without SO_REUSEPORT there is one socket for all \
                 threads",
    },
    Rule {
        kind: Kind::Haproxy,
        found: |case| case.fewer_sockets_than_workers(),
        change: "`shards by-thread` on each `bind` line (since 2.5), or `tune.listener.default-shards \
                 by-thread` under `global` (since 2.8): the default is one socket for all threads, or for \
                 each thread group, and one that several threads accept from cannot be tied to a CPU",
    },
    Rule {
        kind: Kind::Haproxy,
        found: |case| case.unpinned(),
        change: "`cpu-map auto:1/1-N 0-(N-1)` under `global`, with N for `nbthread` (since 3.2 also \
                 `cpu-affinity per-thread`): the default lets each thread roam over the CPUs of its group",
    },
    Rule {
        kind: Kind::Nginx,
        found: |case| case.fewer_sockets_than_workers(),
        change: "`listen PORT reuseport;` in one `server` block for each address and port: without it all \
                 workers accept from one socket",
    },
    Rule {
        kind: Kind::Nginx,
        found: |case| case.unpinned(),
        change: "`worker_cpu_affinity auto;` in the main context: workers that the scheduler moves are on \
                 no queue's CPU for long",
    },
    Rule {
        kind: Kind::Nginx,
        found: |case| case.fewer_workers_than_cpus(),
        change: "`worker_processes auto;` in the main context, or fewer queues: connections that arrive on \
                 a CPU without a worker are left to the kernel's hash",
    },
    Rule {
        kind: Kind::Haproxy,
        found: |case| case.fewer_workers_than_cpus(),
        change: "`nbthread` of as many as there are queues, or fewer queues: connections that arrive on a \
                 CPU without a thread are left to the kernel's hash",
    },
    Rule {
        kind: Kind::Envoy,
        found: |case| case.unpinned(),
        change: "`enable_worker_cpu_affinity: true` in the bootstrap, where this Envoy has it (2026), else \
                 pin the threads `wrk:worker_N` with taskset: a worker that moves is on no queue's CPU for \
                 long",
    },
    Rule {
        kind: Kind::TrafficServer,
        found: |case| case.fewer_sockets_than_workers(),
        change: "`proxy.config.exec_thread.listen: 1` in records.yaml: each thread then has a socket of its \
                 own",
    },
    Rule {
        kind: Kind::TrafficServer,
        found: |case| case.unpinned(),
        change: "`proxy.config.exec_thread.affinity: 4` in records.yaml: a CPU for each thread",
    },
    Rule {
        kind: Kind::Go,
        found: |_| Some("goroutines move between threads and CPUs".to_owned()),
        change: "nothing to set: there is no CPU on which its connections are consumed; steer keeps them \
                 near with `--policy same-llc`, and GOMAXPROCS with taskset keeps them to some CPUs",
    },
];

/// What is to be said of the ways of accept steering.
#[must_use]
pub fn accept_ways(lookup: &Fact, incoming_cpu: &Fact) -> Vec<Finding> {
    let mut findings = Findings { subject: "listeners", list: Vec::new() };
    findings.fact(
        lookup,
        Level::Note,
        "accept steering by a lookup program",
        "`run --accept PORT` brings each connection to the worker of the CPU where it arrives",
        "`run --accept` says so and goes on without",
    );
    findings.fact(
        incoming_cpu,
        Level::Note,
        "SO_INCOMING_CPU chooses among listeners that share a port",
        "`run --accept PORT --accept-by incoming-cpu` is another way",
        "`--accept-by incoming-cpu` does nothing here",
    );
    findings.list
}

/// What is to be said of the services that were found.
#[must_use]
pub fn listeners(services: &[Service], topology: &Topology) -> Vec<Finding> {
    let mut findings = Findings { subject: "listeners", list: Vec::new() };
    for service in services {
        let case = Case { service, cpus: topology.cpus.len() };
        let name = service.kind.name();
        let who = format!("{name} (process {}) on {}", service.pid, service.endpoint);
        let mut wrong = false;
        for rule in RULES.iter().filter(|rule| rule.kind == service.kind) {
            let Some(found) = (rule.found)(&case) else { continue };
            wrong = true;
            findings.add(Level::Note, format!("{who}: {found}"), rule.change);
        }
        if !wrong {
            findings.add(
                Level::Ok,
                format!("{who}: {} sockets for {} pinned workers", service.sockets, case.workers()),
                format!(
                    "`steer run IFACE --accept {}` can bring each connection to the worker of the CPU \
                     where it arrives",
                    service.endpoint.port
                ),
            );
        }
    }
    findings.list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::listener::Endpoint;
    use crate::model::service::{Settings, Worker};

    /// Four CPUs, and as many workers as masks.
    fn said(kind: Kind, sockets: usize, masks: &[&str], settings: Option<&str>) -> Vec<Finding> {
        let worker = |(tid, mask): (u32, &&str)| Worker { pid: 9, tid, mask: mask.parse().ok() };
        let address = "0.0.0.0".parse().expect("an address");
        let service = Service {
            kind,
            pid: 9,
            endpoint: Endpoint { port: 80, address, v6_only: None, device: 0 },
            sockets,
            workers: (10..).zip(masks).map(worker).collect(),
            settings: settings.map(Settings::parse),
        };
        listeners(&[service], &Topology::regular(1, 4, 1))
    }

    fn changes(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .map(|finding| finding.consequence.split('`').nth(1).unwrap_or_default())
            .collect()
    }

    const PINNED: [&str; 4] = ["0", "1", "2", "3"];
    const ROAMING: [&str; 4] = ["0-3"; 4];

    #[test]
    fn a_default_haproxy_is_told_all_that_defeats_alignment() {
        let found = said(Kind::Haproxy, 1, &ROAMING, Some("global\n nbthread 4\n"));
        assert_eq!(
            changes(&found),
            ["tune.listener.multi-queue off", "shards by-thread", "cpu-map auto:1/1-N 0-(N-1)",]
        );
        assert!(found.iter().all(|finding| finding.level == Level::Note));
    }

    #[test]
    fn each_setting_of_haproxy_is_seen_by_itself() {
        let right = "global\n tune.listener.multi-queue off\n";
        assert_eq!(said(Kind::Haproxy, 4, &PINNED, Some(right))[0].level, Level::Ok);
        let found = said(Kind::Haproxy, 4, &PINNED, Some("global\n noreuseport\n"));
        assert_eq!(changes(&found), ["tune.listener.multi-queue off", "noreuseport"]);
        // Files that cannot be read are not taken for defaults without a word.
        let found = said(Kind::Haproxy, 4, &PINNED, None);
        assert!(found[0].found.contains("unless its files say otherwise"), "{found:?}");
        // One thread hands over to nobody; that CPUs have none is all there is to say.
        let found = said(Kind::Haproxy, 1, &["0"], Some("global\n"));
        assert_eq!(changes(&found), ["nbthread"]);
    }

    #[test]
    fn nginx_is_told_reuseport_and_affinity() {
        let found = said(Kind::Nginx, 1, &["0-3", "0-3"], Some(""));
        assert_eq!(
            changes(&found),
            ["listen PORT reuseport;", "worker_cpu_affinity auto;", "worker_processes auto;"]
        );
        assert_eq!(said(Kind::Nginx, 4, &PINNED, Some(""))[0].level, Level::Ok);
    }

    #[test]
    fn others_are_told_their_own() {
        assert_eq!(
            changes(&said(Kind::Envoy, 4, &ROAMING, None)),
            ["enable_worker_cpu_affinity: true"]
        );
        assert_eq!(
            changes(&said(Kind::TrafficServer, 1, &ROAMING, None)),
            ["proxy.config.exec_thread.listen: 1", "proxy.config.exec_thread.affinity: 4"]
        );
        assert_eq!(changes(&said(Kind::Go, 1, &["0-3"], None)), ["--policy same-llc"]);
    }

    #[test]
    fn a_worker_that_was_gone_when_asked_is_not_unpinned() {
        let found = said(Kind::Nginx, 4, &["0", "1", "2", "gone"], Some(""));
        assert_eq!(found[0].level, Level::Ok, "{found:?}");
    }
}
