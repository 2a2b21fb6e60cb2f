//! What is to be said of one NIC.

use super::{Finding, Findings, Level};
use crate::model::{
    Affinity, Cause, Driver, Facts, Hash, Nic, Overrule, Queue, RssKey, TableWrite, Topology,
    overrules,
};
use crate::policy::Policy;

/// What is to be said of one NIC; `why_not` is why it cannot be steered, if so.
#[must_use]
pub fn nic(
    nic: &Nic,
    why_not: Option<&str>,
    facts: &Facts,
    topology: &Topology,
    policy: &Policy,
) -> Vec<Finding> {
    let mut findings = Findings { subject: &nic.name, list: Vec::new() };
    let driver = nic.driver.as_deref().unwrap_or("no driver");
    match why_not {
        Some(why) => {
            findings.add(Level::Warn, why, "status can look at it; apply and run refuse it");
        }
        None if policy.table_refusal(nic).is_some()
            && !nic.queues.iter().any(Queue::is_movable) =>
        {
            findings.add(
                Level::Warn,
                format!("nothing of {} may be written", nic.name),
                "status can look at it; apply and run refuse it",
            );
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
    driver_row(nic, policy, &mut findings);
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
}

fn hash(nic: &Nic, findings: &mut Findings<'_>) {
    let Some(rss) = nic.rss.as_ref().filter(|rss| !rss.table.is_empty()) else { return };
    let reported = nic.features.get("rx-hashing").copied();
    let can_report = Driver::of(nic.driver.as_deref().unwrap_or_default()).hash == Hash::Reported;
    let whose = |key: &RssKey| if key.from_driver { "driver's" } else { "kernel's common" };
    let name = &nic.name;
    match (reported, &rss.key) {
        (Some(true), _) => findings.add(
            Level::Ok,
            "packets carry the NIC's hash",
            "the bucket of every packet is known",
        ),
        (Some(false), key) if can_report => findings.add(
            Level::Warn,
            "rx-hashing is off: packets carry no hash",
            match key {
                Some(key) => format!(
                    "buckets have to be computed from the {} key; some drivers switch RSS off with it, \
                     so that everything goes to queue 0. `ethtool -K {name} rxhash on` brings it back",
                    whose(key)
                ),
                None => format!(
                    "the bucket of a flow cannot be known: the table is not steered. \
                     `ethtool -K {name} rxhash on` brings it back"
                ),
            },
        ),
        (_, Some(key)) => findings.add(
            Level::Note,
            "packets carry no hash",
            format!(
                "buckets are computed from the {} key and confirmed by the queues seen",
                whose(key)
            ),
        ),
        (_, None) => findings.add(
            Level::Warn,
            "packets carry no hash and the key is hidden",
            "the bucket of a flow cannot be known: the table is not steered",
        ),
    }
    if let Some(function) = rss.hash_function.as_deref().filter(|name| *name != "toeplitz") {
        findings.add(
            if reported == Some(true) { Level::Note } else { Level::Warn },
            format!("hash function {function}"),
            "a hash can be read from packets but not computed",
        );
    }
    let udp = [rss.hash_fields.udp4_ports, rss.hash_fields.udp6_ports];
    if udp.contains(&Some(false)) {
        findings.add(
            Level::Note,
            "UDP is hashed by addresses only",
            format!(
                "all UDP between two hosts shares one queue; \
                 `ethtool -N {name} rx-flow-hash udp4 sdfn` spreads it, fragments then differ"
            ),
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
    let mut homes: Vec<u32> = nic.queues.iter().filter_map(Queue::irq_cpu).collect();
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

/// What decides the queue beside the table, and what hides where packets are handled.
fn interference(nic: &Nic, facts: &Facts, findings: &mut Findings<'_>) {
    let name = &nic.name;
    let found = overrules(nic, facts.rps_sock_flow_entries);
    for overrule in &found {
        let level = match overrule {
            Overrule::VirtualFunction | Overrule::AtrUnknown { .. } => Level::Note,
            _ => Level::Warn,
        };
        findings.add(level, overrule.name(), overrule.consequence(name));
    }
    let on = |feature: &str| nic.features.get(feature).copied() == Some(true);
    if on("rx-ntuple-filter")
        && !found.iter().any(|one| matches!(one, Overrule::Rules(_) | Overrule::Arfs))
    {
        findings.add(
            Level::Note,
            "exact-match filters (ntuple) are on, and there is none that would be in the way",
            "what a rule or aRFS matches does not follow the table; the mapping check notices",
        );
    }
    if let Some(functions) = nic.virtual_functions.filter(|functions| *functions > 0) {
        findings.add(
            Level::Note,
            format!("{functions} virtual functions (SR-IOV) share the device"),
            "their traffic is not seen here and follows tables of their own: steer them where they \
             are used",
        );
    }
    if nic.threaded_napi == Some(true) {
        findings.add(
            Level::Warn,
            "threaded NAPI",
            format!(
                "queues are polled by kernel threads wherever they are scheduled: IRQ affinity does \
                 not move them, and steer writes nothing while it is so. \
                 `echo 0 > /sys/class/net/{name}/threaded` ends that"
            ),
        );
    }
    if nic.queues.iter().any(|queue| queue.rps.as_ref().is_some_and(|cpus| !cpus.is_empty())) {
        findings.add(
            Level::Note,
            "RPS hands packets over between CPUs",
            format!(
                "with enough queues that only costs; status shows the protocol share apart. \
                 `echo 0 > /sys/class/net/{name}/queues/rx-N/rps_cpus` switches it off"
            ),
        );
    }
    let rfs_on = facts.rps_sock_flow_entries.is_some_and(|entries| entries > 0);
    if rfs_on && nic.queues.iter().any(|queue| queue.rps_flows.is_some_and(|flows| flows > 0)) {
        findings.add(
            Level::Note,
            "RFS is on",
            format!(
                "protocol work follows the consumer by a hand-over between CPUs that steer can save; \
                 `echo 0 > /sys/class/net/{name}/queues/rx-N/rps_flow_cnt` switches it off"
            ),
        );
    }
    if let Some(id) = nic.xdp_program {
        findings.add(
            Level::Note,
            format!("XDP program {id} is attached"),
            format!(
                "what it redirects (AF_XDP, cpumap) or drops is not seen as consumed, and cpumap moves \
                 it to other CPUs; `--observer xdp` is not possible. `bpftool prog show id {id}` says \
                 whose it is"
            ),
        );
    }
    merging(nic, findings);
}

/// What makes many packets one before they are counted, or takes their hash.
fn merging(nic: &Nic, findings: &mut Findings<'_>) {
    let name = &nic.name;
    for (feature, what, switch) in
        [("rx-lro", "LRO", "lro"), ("rx-gro-hw", "hardware GRO", "rx-gro-hw")]
    {
        if nic.features.get(feature).copied() == Some(true) {
            findings.add(
                Level::Note,
                format!("{what} is on"),
                format!(
                    "the NIC merges packets before they are counted, so that load counts less in \
                     buckets with long bursts; `ethtool -K {name} {switch} off` where that misleads"
                ),
            );
        }
    }
    if nic.private_flags.get("rx_cqe_compress").copied() == Some(true) {
        findings.add(
            Level::Note,
            "completions are compressed (rx_cqe_compress)",
            format!(
                "packets of a compressed burst carry no hash, so their buckets are not counted; \
                 `ethtool --set-priv-flags {name} rx_cqe_compress off` brings it back"
            ),
        );
    }
}

/// What the table of drivers says of this one.
fn driver_row(nic: &Nic, policy: &Policy, findings: &mut Findings<'_>) {
    let Some(name) = &nic.driver else { return };
    let driver = Driver::of(name);
    match policy.table_refusal(nic) {
        Some(refusal) if nic.rss.is_some() => findings.add(
            Level::Warn,
            refusal.to_string(),
            if nic.queues.iter().any(Queue::is_movable) {
                "interrupts and XPS are moved all the same; buckets stay where they are"
            } else {
                "none of its interrupts can be moved either, so that apply and run refuse it"
            },
        ),
        None if driver.write == TableWrite::LinkReset => findings.add(
            Level::Warn,
            format!("a table write is permitted, and {name} {}", driver.write_note),
            "every correction of the table takes the link down for a moment",
        ),
        None if driver.write == TableWrite::Brief => findings.add(
            Level::Note,
            format!("a table write is not free: {name} {}", driver.write_note),
            "corrections may cost packets; what is lost is judged, and taken back where it is too much",
        ),
        _ => {}
    }
    if driver.is_known() && driver.loses_table_on(Cause::Reopen) {
        findings.add(
            Level::Note,
            format!("{name} writes its own table whenever it reopens (MTU, rings, XDP, reset)"),
            "what steer set is gone then; `run` notices in the next period and sets it again",
        );
    }
    match driver.affinity {
        Affinity::AtOpen => findings.add(
            Level::Note,
            format!("{name} sets the affinity of its interrupts whenever it opens"),
            "what steer or a script set is gone then; `run` notices in the next period",
        ),
        Affinity::Respread => findings.add(
            Level::Note,
            format!("{name} spreads interrupts and XPS anew when queues or CPUs change"),
            "what steer or a script set is gone then; `run` notices in the next period",
        ),
        Affinity::Channel => findings.add(
            Level::Note,
            format!("{name} has channels of the hypervisor, not interrupts"),
            "queues cannot be moved to another CPU here",
        ),
        _ => {}
    }
}
