//! Addresses and names that stand for others.
//!
//! Addresses keep their structure: two that share a prefix of n bits share one of exactly n bits
//! afterwards (Xu, Fan, Ammar, Moon: Prefix-preserving IP address anonymization, ICNP 2002). The same
//! address is the same throughout a recording. The key is the process's own and is never written, so
//! nobody can go back, this program included. Hashes, buckets and ports stay as recorded; the NIC's
//! hash key does not, since with it a hash would tell about the addresses that it is of.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Record};
use crate::model::{FlowAddr, Rule, Sample};
use crate::report::Status;

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Extent {
    /// Addresses, and names of processes
    Addresses,
    /// Names of interfaces too
    All,
}

/// Replaces addresses and names, the same by the same.
#[derive(Debug)]
pub struct Anonymiser {
    extent: Extent,
    key: RandomState,
    processes: BTreeMap<String, String>,
    interfaces: BTreeMap<String, String>,
}

impl Anonymiser {
    /// With a key of its own.
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        let (processes, interfaces) = (BTreeMap::new(), BTreeMap::new());
        Self { extent, key: RandomState::new(), processes, interfaces }
    }

    /// The header without names.
    #[must_use]
    pub fn header(&mut self, mut header: Header) -> Header {
        header.anonymised = true;
        let neighbours = &mut header.facts.neighbours;
        // Profiles and rules are named by people.
        neighbours.tuned_profile = neighbours.tuned_profile.as_ref().map(|_| "profile".to_owned());
        neighbours.crio_irqbalance_config =
            neighbours.crio_irqbalance_config.as_ref().map(|_| "config".to_owned());
        for (number, rule) in neighbours.udev_rules.iter_mut().enumerate() {
            *rule = format!("rule-{}", number + 1);
        }
        let policies = std::mem::take(&mut header.policies);
        header.policies =
            policies.into_iter().map(|(name, policy)| (self.interface(&name), policy)).collect();
        header
    }

    /// A record without addresses and names.
    #[must_use]
    pub fn record(&mut self, record: Record) -> Record {
        match record {
            Record::Sample(mut sample) => {
                self.sample(&mut sample);
                Record::Sample(sample)
            }
            Record::Daemon(mut status) => {
                self.status(&mut status);
                Record::Daemon(status)
            }
        }
    }

    fn sample(&mut self, sample: &mut Sample) {
        for flow in &mut sample.flows {
            flow.addr = self.flow(flow.addr);
            flow.comm = self.process(&flow.comm);
        }
        for nic in &mut sample.nics {
            let nic = &mut nic.nic;
            nic.address = None;
            if let Some(rss) = &mut nic.rss {
                rss.key = None;
            }
            for rule in nic.rules.iter_mut().flat_map(|table| table.rules.values_mut()).flatten() {
                *rule = Rule { flow: self.flow(rule.flow), queue: rule.queue };
            }
            let old = std::mem::take(&mut nic.name);
            nic.name = self.interface(&old);
            let rows = sample.interrupts.iter_mut().flat_map(|interrupts| &mut interrupts.rows);
            for row in rows {
                row.what = row.what.replace(&old, &nic.name);
            }
            for queue in &mut nic.queues {
                let irq_name = queue.irq_name.take();
                queue.irq_name = irq_name.map(|name| name.replace(&old, &nic.name));
            }
        }
        // Sentences may name anything.
        self.sentences(&mut sample.missing);
    }

    fn status(&mut self, status: &mut Status) {
        for nic in &mut status.nics {
            let old = std::mem::take(&mut nic.name);
            nic.name = self.interface(&old);
            for mismatch in &mut nic.mismatches {
                mismatch.local = self.end(mismatch.local);
                mismatch.remote = self.end(mismatch.remote);
                mismatch.comm = self.process(&mismatch.comm);
            }
            for flow in nic.flows.iter_mut().flatten() {
                flow.local = self.end(flow.local);
                flow.remote = self.end(flow.remote);
                flow.comm = self.process(&flow.comm);
            }
            self.sentences(&mut nic.history);
            self.sentences(&mut nic.next);
            for event in nic.events.iter_mut().chain(&mut nic.last_change) {
                self.sentences(std::slice::from_mut(&mut event.what));
                self.sentences(event.why.as_mut_slice());
            }
            for lever in &mut nic.lever_states {
                self.sentences(lever.reason.as_mut_slice());
            }
            self.sentences(nic.reason.as_mut_slice());
        }
        for listener in &mut status.listeners {
            listener.listen = self.sentence(&listener.listen);
            self.sentences(listener.reason.as_mut_slice());
        }
        for connect in &mut status.connects {
            // Cgroups are named by people, after what runs in them.
            connect.cgroup = self.process(&connect.cgroup);
            connect.reason = self.sentence(&connect.reason);
            for destination in &mut connect.destinations {
                destination.remote = self.ip(destination.remote);
                destination.local = destination.local.map(|local| self.ip(local));
                self.sentences(destination.reason.as_mut_slice());
            }
        }
        for lever in &mut status.lever_states {
            self.sentences(lever.reason.as_mut_slice());
        }
        self.sentences(&mut status.missing);
        self.sentences(&mut status.neighbours);
    }

    /// Words that are or contain an address, and names that are known, within sentences.
    fn sentences(&mut self, sentences: &mut [String]) {
        for sentence in sentences {
            *sentence = self.sentence(sentence);
        }
    }

    /// A sentence without addresses, and without names that are known.
    #[must_use]
    pub fn sentence(&self, sentence: &str) -> String {
        let words = sentence.split(' ').map(|word| self.word(word));
        words.collect::<Vec<_>>().join(" ")
    }

    fn word(&self, word: &str) -> String {
        let core = word.trim_matches(|c: char| !c.is_alphanumeric() && c != ':' && c != '[');
        let core = core.trim_end_matches(':');
        let new = if let Ok(end) = core.parse::<SocketAddr>() {
            self.end(end).to_string()
        } else if let Ok(ip) = core.parse::<IpAddr>() {
            self.ip(ip).to_string()
        } else if let Some(name) = self.interfaces.get(core).or_else(|| self.processes.get(core)) {
            name.clone()
        } else {
            return word.to_owned();
        };
        word.replacen(core, &new, 1)
    }

    fn flow(&self, flow: FlowAddr) -> FlowAddr {
        FlowAddr { local: self.end(flow.local), remote: self.end(flow.remote), ..flow }
    }

    fn end(&self, end: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.ip(end.ip()), end.port())
    }

    /// The address that stands for `ip`. Those that mean the same everywhere (the host itself, no
    /// address) stay.
    #[must_use]
    pub fn ip(&self, ip: IpAddr) -> IpAddr {
        if ip.is_loopback() || ip.is_unspecified() {
            return ip;
        }
        match ip {
            IpAddr::V4(ip) => IpAddr::V4(self.v4(ip)),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(v4) => IpAddr::V6(self.v4(v4).to_ipv6_mapped()),
                None => IpAddr::V6(Ipv6Addr::from_bits(self.bits(6, ip.to_bits(), 128))),
            },
        }
    }

    fn v4(&self, ip: Ipv4Addr) -> Ipv4Addr {
        let bits = self.bits(4, u128::from(ip.to_bits()), 32);
        Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(0))
    }

    /// Each bit is turned or not, by a keyed hash of the bits above it.
    fn bits(&self, family: u8, bits: u128, width: u32) -> u128 {
        (0..width).fold(0, |done, at| {
            let above = bits.checked_shr(width - at).unwrap_or(0);
            let turn = u128::from(self.key.hash_one((family, at, above)) & 1);
            let bit = bits >> (width - 1 - at) & 1;
            done << 1 | (bit ^ turn)
        })
    }

    fn process(&mut self, name: &str) -> String {
        let number = self.processes.len() + 1;
        self.processes.entry(name.to_owned()).or_insert_with(|| format!("process-{number}")).clone()
    }

    /// The name that stands for that of an interface.
    pub fn interface(&mut self, name: &str) -> String {
        if self.extent == Extent::Addresses {
            return name.to_owned();
        }
        let number = self.interfaces.len();
        self.interfaces.entry(name.to_owned()).or_insert_with(|| format!("nic{number}")).clone()
    }
}
