//! What this host and its NICs can do, what is missing and what fights: findings, each with its
//! consequence. Pure: facts in, sentences out.

use serde::{Deserialize, Serialize};

use super::neighbours;
use crate::model::{Fact, Facts, Nic, Topology};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Takes something away.
    Warn,
    /// Stops steer.
    Fail,
}

impl Level {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok  ",
            Self::Note => "note",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One line of the doctor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// `host` or the interface.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// What follows, and what to do.
    pub consequence: String,
}

/// Collects findings about one subject.
struct Findings<'a> {
    subject: &'a str,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, level: Level, found: impl Into<String>, consequence: impl Into<String>) {
        self.list.push(Finding {
            level,
            subject: self.subject.to_owned(),
            found: found.into(),
            consequence: consequence.into(),
        });
    }

    /// A yes is fine with `good`; anything else is of `level`, with its own reason.
    fn fact(&mut self, fact: &Fact, level: Level, what: &str, good: &str, bad: &str) {
        match fact {
            Fact::Yes => self.add(Level::Ok, what, good),
            Fact::No(why) => self.add(level, format!("{what}: no, {why}"), bad),
            Fact::Unknown(why) => self.add(level, format!("{what}: could not tell, {why}"), bad),
        }
    }
}

/// What is to be said of the host.
#[must_use]
pub fn host(facts: &Facts, topology: &Topology) -> Vec<Finding> {
    let mut findings = Findings { subject: "host", list: Vec::new() };
    findings.add(
        Level::Ok,
        format!("Linux {}, {} CPUs online", facts.kernel_release, topology.cpus.len()),
        "everything below was found by asking this kernel, not by its version",
    );
    if topology.cpus.iter().any(|cpu| cpu.llc.is_none()) {
        findings.add(
            Level::Note,
            "the kernel does not tell which CPUs share a cache",
            "CPUs of one node count as equally far apart",
        );
    }
    findings.fact(
        &facts.btf,
        Level::Fail,
        "kernel type information (BTF)",
        "kernel fields are found in it, whatever the version",
        "flows cannot be observed: status, plan, apply and run do not work",
    );
    findings.fact(
        &facts.may_trace,
        Level::Fail,
        "may load tracing programs",
        "flows can be observed",
        "flows cannot be observed: status without a daemon, plan, apply and run do not work",
    );
    findings.fact(
        &facts.may_set_nic,
        Level::Warn,
        "may change NIC settings",
        "tables and XPS can be written, and XDP programs attached",
        "apply, run and restore do not work, nor does `--observer xdp`",
    );
    findings.fact(
        &facts.may_set_irq,
        Level::Warn,
        "may change IRQ affinity",
        "queues can be moved between CPUs",
        "apply, run and restore do not work",
    );
    findings.fact(
        &facts.netlink_rss_get,
        Level::Note,
        "netlink reads the RSS table",
        "additional RSS contexts are seen",
        "it is read by ioctl; additional RSS contexts go unseen",
    );
    findings.fact(
        &facts.netlink_rss_set,
        Level::Note,
        "netlink writes the RSS table",
        "it is written without touching key and hash function",
        "it is written by ioctl",
    );
    findings.fact(
        &facts.netlink_queues,
        Level::Note,
        "netlink tells queue, NAPI and IRQ",
        "used where the driver fills it in",
        "the IRQ of a queue is known by its name; the observed softirq CPU confirms it",
    );
    neighbours_and_rfs(facts, &mut findings);
    findings.list
}

fn neighbours_and_rfs(facts: &Facts, findings: &mut Findings<'_>) {
    for (level, found, consequence) in neighbours::findings(&facts.neighbours) {
        findings.add(level, found, consequence);
    }
    if let Some(entries) = facts.rps_sock_flow_entries.filter(|entries| *entries > 0) {
        findings.add(
            Level::Note,
            format!("RFS is prepared (rps_sock_flow_entries = {entries})"),
            "where a queue has rps_flow_cnt too, protocol work is handed over between CPUs; status \
             shows it as the protocol share, never as alignment",
        );
    }
}

/// What is to be said of one NIC; `why_not` is why it cannot be steered, if so.
#[must_use]
pub fn nic(nic: &Nic, why_not: Option<&str>, facts: &Facts, topology: &Topology) -> Vec<Finding> {
    let mut findings = Findings { subject: &nic.name, list: Vec::new() };
    let driver = nic.driver.as_deref().unwrap_or("no driver");
    match why_not {
        Some(why) => {
            findings.add(Level::Warn, why, "status can look at it; apply and run refuse it");
        }
        None => findings.add(
            Level::Ok,
            format!("{driver} at {}", nic.bus.as_deref().unwrap_or("no bus address")),
            "it can be steered, once its mapping is verified on live traffic",
        ),
    }
    if nic.queues.is_empty() {
        return findings.list;
    }
    table(nic, &mut findings);
    hash(nic, &mut findings);
    queues(nic, topology, &mut findings);
    interference(nic, facts, &mut findings);
    findings.list
}

fn table(nic: &Nic, findings: &mut Findings<'_>) {
    let Some(rss) = nic.rss.as_ref().filter(|rss| !rss.table.is_empty()) else { return };
    let mut used: Vec<u32> = rss.table.clone();
    used.sort_unstable();
    used.dedup();
    let size = rss.table.len();
    let queues = nic.queues.len();
    let found = format!("table of {size} buckets, naming {} of {queues} queues", used.len());
    if used.len() == 1 && queues > 1 {
        findings.add(
            Level::Warn,
            found,
            "all traffic goes to one queue, and samples cannot show whether the NIC follows its \
             table until it names more",
        );
    } else if size < 4 * queues {
        findings.add(
            Level::Note,
            found,
            "fewer than four buckets a queue: load and alignment can only be set coarsely",
        );
    } else {
        findings.add(Level::Ok, found, "buckets can be given to queues one by one");
    }
    if let Some(contexts) = rss.extra_contexts.filter(|contexts| *contexts > 0) {
        findings.add(
            Level::Warn,
            format!("{contexts} additional RSS contexts"),
            "their traffic does not follow the main table; steer leaves them alone",
        );
    }
}

fn hash(nic: &Nic, findings: &mut Findings<'_>) {
    let Some(rss) = nic.rss.as_ref().filter(|rss| !rss.table.is_empty()) else { return };
    let reported = nic.features.get("rx-hashing").copied() == Some(true);
    match (reported, &rss.key) {
        (true, _) => findings.add(
            Level::Ok,
            "packets carry the NIC's hash",
            "the bucket of every packet is known",
        ),
        (false, Some(key)) => findings.add(
            Level::Note,
            "packets carry no hash",
            format!(
                "buckets are computed from the {} key and confirmed by the queues seen",
                if key.from_driver { "driver's" } else { "kernel's common" }
            ),
        ),
        (false, None) => findings.add(
            Level::Warn,
            "packets carry no hash and the key is hidden",
            "the bucket of a flow cannot be known: the table is not steered",
        ),
    }
    if let Some(function) = rss.hash_function.as_deref().filter(|name| *name != "toeplitz") {
        findings.add(
            if reported { Level::Note } else { Level::Warn },
            format!("hash function {function}"),
            "a hash can be read from packets but not computed",
        );
    }
    let udp = [rss.hash_fields.udp4_ports, rss.hash_fields.udp6_ports];
    if udp.contains(&Some(false)) {
        findings.add(
            Level::Note,
            "UDP is hashed by addresses only",
            "all UDP between two hosts shares one queue; `ethtool -N IF rx-flow-hash udp4 sdfn` \
             spreads it, fragments then differ",
        );
    }
}

fn queues(nic: &Nic, topology: &Topology, findings: &mut Findings<'_>) {
    let queues = nic.queues.len();
    let cpus = topology.cpus.len();
    if queues < cpus {
        let most = nic.channels.map_or(0, |channels| channels.max_combined.max(channels.max_rx));
        let more = usize::try_from(most).unwrap_or(0) > queues;
        findings.add(
            Level::Note,
            format!("{queues} RX queues for {cpus} CPUs"),
            if more {
                format!(
                    "at most {queues} CPUs can be aligned; up to {most} queues with `ethtool -L`"
                )
            } else {
                format!("at most {queues} CPUs can be aligned; the NIC has no more queues")
            },
        );
    }
    let without: Vec<u32> =
        nic.queues.iter().filter(|queue| queue.irq.is_none()).map(|queue| queue.id).collect();
    if !without.is_empty() {
        findings.add(
            Level::Warn,
            format!("the interrupt of queues {without:?} is not known"),
            if nic.up {
                "these queues cannot be moved to another CPU"
            } else {
                "most drivers have interrupts only while the interface is up"
            },
        );
    }
    if nic.queues.iter().any(|queue| queue.managed) {
        findings.add(
            Level::Warn,
            "the kernel manages the affinity of its interrupts and refuses writes",
            "queues stay where they are; only the table can be steered",
        );
    }
    let mut homes: Vec<u32> = nic.queues.iter().filter_map(crate::model::Queue::irq_cpu).collect();
    let placed = homes.len();
    homes.sort_unstable();
    homes.dedup();
    if homes.len() < placed {
        findings.add(
            Level::Note,
            format!("{placed} interrupts are delivered to {} CPUs", homes.len()),
            "queues share CPUs; `steer plan` shows where they would go",
        );
    }
}

fn interference(nic: &Nic, facts: &Facts, findings: &mut Findings<'_>) {
    if nic.threaded_napi == Some(true) {
        findings.add(
            Level::Warn,
            "threaded NAPI",
            "queues are polled by kernel threads wherever they are scheduled: IRQ affinity does not \
             move them",
        );
    }
    if nic.queues.iter().any(|queue| queue.rps.as_ref().is_some_and(|cpus| !cpus.is_empty())) {
        findings.add(
            Level::Note,
            "RPS hands packets over between CPUs",
            "with enough queues that only costs; status shows the protocol share apart",
        );
    }
    let rfs_on = facts.rps_sock_flow_entries.is_some_and(|entries| entries > 0);
    if rfs_on && nic.queues.iter().any(|queue| queue.rps_flows.is_some_and(|flows| flows > 0)) {
        findings.add(
            Level::Note,
            "RFS is on",
            "protocol work follows the consumer by a hand-over between CPUs that steer can save",
        );
    }
    if let Some(id) = nic.xdp_program {
        findings.add(
            Level::Note,
            format!("XDP program {id} is attached"),
            "what it redirects or drops is not seen as consumed; `--observer xdp` is not possible",
        );
    }
    if nic.features.get("rx-ntuple-filter").copied() == Some(true) {
        findings.add(
            Level::Note,
            "exact-match filters (ntuple, aRFS) are on",
            "what they match does not follow the table; the mapping check notices",
        );
    }
}

/// The findings as text, subject by subject.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut subject = "";
    for finding in findings {
        if finding.subject != subject {
            if !subject.is_empty() {
                text.push('\n');
            }
            text += &format!("{}\n", finding.subject);
            subject = &finding.subject;
        }
        text += &format!(
            "  {}  {}\n        {}\n",
            finding.level.mark(),
            finding.found,
            finding.consequence
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Neighbours, Process, Queue, Rss};

    fn facts() -> Facts {
        Facts {
            kernel_release: "6.12.1".to_owned(),
            btf: Fact::Yes,
            may_trace: Fact::Yes,
            may_set_nic: Fact::Yes,
            may_set_irq: Fact::Yes,
            netlink_rss_get: Fact::Yes,
            netlink_rss_set: Fact::No("the kernel is older than the call".to_owned()),
            netlink_queues: Fact::Yes,
            neighbours: Neighbours::default(),
            rps_sock_flow_entries: Some(0),
        }
    }

    fn worst(findings: &[Finding]) -> Level {
        findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    #[test]
    fn a_healthy_host_has_no_warning() {
        let findings = host(&facts(), &Topology::regular(1, 4, 1));
        assert_eq!(worst(&findings), Level::Note, "{findings:?}");
        assert!(findings.iter().all(|finding| !finding.consequence.is_empty()));
    }

    #[test]
    fn a_host_without_btf_fails_with_the_reason() {
        let mut facts = facts();
        facts.btf = Fact::No("there is no /sys/kernel/btf/vmlinux".to_owned());
        facts.neighbours.irqbalance = Some(Process { pid: 7, started: 1 });
        let text = text(&host(&facts, &Topology::regular(1, 4, 1)));
        assert!(
            text.contains("FAIL  kernel type information (BTF): no, there is no /sys"),
            "{text}"
        );
        assert!(text.contains("WARN  irqbalance runs (process 7)"), "{text}");
    }

    #[test]
    fn a_nic_is_told_what_it_lacks() {
        let nic = Nic {
            name: "eth0".to_owned(),
            driver: Some("vmxnet3".to_owned()),
            up: true,
            rss: Some(Rss { table: vec![0; 128], ..Rss::default() }),
            queues: (0..2).map(|id| Queue { id, ..Queue::default() }).collect(),
            threaded_napi: Some(true),
            ..Nic::default()
        };
        let text = text(&super::nic(&nic, None, &facts(), &Topology::regular(1, 4, 1)));
        for part in [
            "table of 128 buckets, naming 1 of 2 queues",
            "packets carry no hash and the key is hidden",
            "2 RX queues for 4 CPUs",
            "the interrupt of queues [0, 1] is not known",
            "threaded NAPI",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
