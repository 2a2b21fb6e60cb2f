//! What this host and its NICs can do, what is missing and what fights: findings, each with its
//! consequence. Pure: facts in, sentences out.

use serde::{Deserialize, Serialize};

use super::neighbours;
use crate::model::{Fact, Facts, Topology};

mod listeners;
mod nic;
#[cfg(test)]
mod tests;

pub use listeners::{accept_ways, listeners};
pub use nic::nic;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
