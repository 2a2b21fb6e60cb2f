//! The configuration in force: of the machine, of the NIC, of steer.

use maud::{Markup, html};

use super::{Chapter, Page};
use crate::model::{CpuSet, Driver, Fact, HostFacts, Nic, TableWrite};
use crate::policy::{Placement, Policy};

/// A name and its value.
type Row = (&'static str, String);

/// Three tables.
pub(super) fn tables(page: &Page, chapter: &Chapter) -> Markup {
    let nic = &chapter.nic;
    let policy = page.header.policies.get(&nic.name);
    html! {
        div.columns {
            (table("Machine", &machine(page)))
            (table("NIC", &of_nic(nic)))
            @match policy {
                Some(policy) => (table("Policy", &of_policy(policy))),
                None => p { "Its policy was not recorded." },
            }
        }
    }
}

fn table(caption: &str, rows: &[Row]) -> Markup {
    html! {
        table.facts {
            caption { (caption) }
            tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } } }
        }
    }
}

fn machine(page: &Page) -> Vec<Row> {
    let header = &page.header;
    let facts = &header.facts;
    let unknown = || "unknown".to_owned();
    let host = header.host.clone().unwrap_or_default();
    let mut rows = vec![
        ("steer", header.version.clone()),
        ("kernel", facts.kernel_release.clone()),
        ("CPUs", Page::cpus(&page.topology)),
        ("model", host.cpu_model.clone().unwrap_or_else(unknown)),
        ("machine", machine_kind(&host)),
        ("observer", header.observer.clone().unwrap_or_else(unknown)),
        ("BTF", fact(&facts.btf)),
        ("table by netlink", fact(&facts.netlink_rss_set)),
        ("queues by netlink", fact(&facts.netlink_queues)),
        ("may set NIC", fact(&facts.may_set_nic)),
        ("may set IRQ", fact(&facts.may_set_irq)),
    ];
    let rfs = facts.rps_sock_flow_entries.map(|entries| entries.to_string());
    rows.push(("RFS entries", rfs.unwrap_or_else(unknown)));
    for listener in &page.listeners {
        rows.push(("accept steering", format!("port {}", listener.port)));
    }
    for connect in &page.connects {
        rows.push(("connect steering", connect.cgroup.clone()));
    }
    rows
}

/// What kind of machine it is, in words.
pub(super) fn machine_kind(host: &HostFacts) -> String {
    let kind = match host.virtual_machine {
        Some(true) => "virtual",
        Some(false) => "physical, as far as its CPUs say",
        None => "virtual or physical: unknown",
    };
    match &host.product {
        Some(product) => format!("{product} ({kind})"),
        None => kind.to_owned(),
    }
}

fn fact(fact: &Fact) -> String {
    match fact {
        Fact::Yes => "yes".to_owned(),
        Fact::No(why) => format!("no: {why}"),
        Fact::Unknown(why) => format!("unknown: {why}"),
    }
}

fn of_nic(nic: &Nic) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let driver = nic.driver.as_deref().unwrap_or("none");
    rows.push(("driver", driver.to_owned()));
    let mut optional = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
    optional("bus", nic.bus.clone());
    optional(
        "NUMA node",
        Some(nic.node.map_or_else(|| "unknown".to_owned(), |node| node.to_string())),
    );
    optional("RX queues", Some(nic.queues.len().to_string()));
    optional("table", nic.rss.as_ref().map(|rss| format!("{} buckets", rss.table.len())));
    optional("hash", nic.rss.as_ref().and_then(|rss| rss.hash_function.clone()));
    let key = nic.rss.as_ref().and_then(|rss| rss.key.as_ref()).map(|key| {
        if key.from_driver {
            "read from the driver"
        } else {
            "the kernel's, which this driver takes"
        }
    });
    optional("hash key", Some(key.unwrap_or("not known, or left out").to_owned()));
    optional("table write", Some(write(Driver::of(driver).write).to_owned()));
    optional("MTU", nic.mtu.map(|mtu| mtu.to_string()));
    optional("RX ring", nic.ring_size.map(|size| format!("{size} descriptors")));
    optional(
        "interrupt delay",
        nic.coalesce.map(|coalesce| {
            let adaptive = if coalesce.adaptive_rx { ", adaptive" } else { "" };
            format!("{} \u{b5}s{adaptive}", coalesce.rx_us)
        }),
    );
    optional("threaded NAPI", nic.threaded_napi.map(on));
    optional(
        "XDP program",
        Some(nic.xdp_program.map_or_else(|| "none".to_owned(), |id| format!("id {id}"))),
    );
    let rps =
        nic.queues.iter().filter(|queue| queue.rps.as_ref().is_some_and(|cpus| !cpus.is_empty()));
    optional("RPS", Some(format!("on {} queues", rps.count())));
    let features = nic.features.iter().chain(&nic.private_flags);
    let features: Vec<String> =
        features.map(|(name, state)| format!("{name} {}", on(*state))).collect();
    optional("features", (!features.is_empty()).then(|| features.join(", ")));
    optional("exact-match rules", nic.rule_count.map(|count| count.to_string()));
    rows
}

fn on(state: bool) -> String {
    if state { "on" } else { "off" }.to_owned()
}

fn write(write: TableWrite) -> &'static str {
    match write {
        TableWrite::Free => "costs nothing",
        TableWrite::Brief => "may cost packets for a moment",
        TableWrite::LinkReset => "takes the link down: not done unless permitted",
        TableWrite::Impossible => "not possible",
        TableWrite::Unknown => "unknown what it costs: not done unless permitted",
    }
}

fn of_policy(policy: &Policy) -> Vec<Row> {
    let cpus = |cpus: &CpuSet| if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() };
    let share = |share: f64| format!("{:.1} %", share * 100.0);
    vec![
        ("placement", placement(policy.placement).to_owned()),
        ("lever: table", on(policy.move_table)),
        ("lever: interrupts", on(policy.move_irqs)),
        ("lever: XPS", on(policy.set_xps)),
        (
            "lever: exact-match rules",
            if policy.pins == 0 { on(false) } else { format!("at most {}", policy.pins) },
        ),
        ("allowed CPUs", policy.allowed_cpus.as_ref().map_or_else(|| "all".to_owned(), cpus)),
        ("denied CPUs", cpus(&policy.denied_cpus)),
        ("softirq cap", share(policy.softirq_cap)),
        ("load slack", share(policy.load_slack)),
        ("least gain", share(policy.least_gain)),
        ("least samples", policy.least_samples.to_string()),
        ("buckets in a period", format!("1/{} of the table", policy.moves_divisor)),
        ("interrupts in a period", policy.most_irq_moves.to_string()),
        ("may reset the link", on(policy.allow_link_reset)),
    ]
}

fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::SameCore => "same-core",
        Placement::SmtSibling => "smt-sibling",
        Placement::SameLlc => "same-llc",
        Placement::SameNode => "same-node",
        Placement::Dedicated => "dedicated",
    }
}
