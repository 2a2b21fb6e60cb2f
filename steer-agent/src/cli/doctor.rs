//! `steer doctor`: what this host and its NICs can do, what is missing and what fights.

use super::args::DoctorArgs;
use super::output::{print, print_json};
use super::select::{Selected, all, for_reading};
use super::{Exit, Settings};
use crate::model::{Fact, Nic};
use crate::observe::kernel::accept::{AcceptSide, Chooser};
use crate::observe::kernel::verifier;
use crate::observe::{Observer, Watch, host, probe, services};
use crate::report::doctor::{self, Finding, Level};
use crate::sys::{Machine, diag, reuseport};

pub(super) fn doctor(args: &DoctorArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = settings.machine()?;
    let facts = probe::facts(&machine);
    let topology = host::topology(machine.root())?;
    let selected = if args.interfaces.is_empty() {
        all(&machine)?
    } else {
        for_reading(&machine, &args.interfaces)?
    };
    let mut findings = doctor::host(&facts, &topology);
    if let Some(why) = probe::sees_processes(&machine).why() {
        findings.push(Finding {
            level: Level::Note,
            subject: "host".to_owned(),
            found: format!("may see all processes: no, {why}"),
            consequence: "irqbalance and tuned go unnoticed until they write".to_owned(),
        });
    }
    let able: Vec<Nic> = selected
        .iter()
        .filter(|selected| selected.why_not.is_none())
        .map(|selected| selected.nic.clone())
        .collect();
    if facts.btf.yes() && facts.may_trace.yes() {
        findings.extend(programs(&machine, &able));
        findings.extend(verifier());
    }
    if selected.is_empty() {
        findings.push(Finding {
            level: Level::Fail,
            subject: "host".to_owned(),
            found: "there is no NIC with hardware behind it".to_owned(),
            consequence: "nothing can be steered here".to_owned(),
        });
    }
    for Selected { nic, why_not } in &selected {
        let policy = settings.config.values(Some(&nic.name)).policy;
        let of_nic = doctor::nic(nic, why_not.as_deref(), &facts, &topology, &policy);
        findings.extend(of_nic);
    }
    if facts.btf.yes() && facts.may_trace.yes() && facts.may_set_nic.yes() {
        findings.extend(doctor::accept_ways(&lookup(), &reuseport::incoming_cpu_chooses()));
    }
    match diag::listeners() {
        Ok(sockets) => {
            let services = services::find(machine.root(), &sockets);
            findings.extend(doctor::listeners(&services, &topology));
        }
        Err(error) => log::debug!("listeners: {error}"),
    }
    if args.json {
        print_json(&findings)?;
    } else {
        print(&doctor::text(&findings))?;
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed || able.is_empty() { Exit::NotMet } else { Exit::Done })
}

/// Whether accept steering by a lookup program works here, by loading it for a moment.
fn lookup() -> Fact {
    match AcceptSide::start(Chooser::Lookup) {
        Ok(side) => side.chooses().clone(),
        Err(error) => Fact::No(format!("{error:#}")),
    }
}

/// Loads the kernel side for a moment and says what became of each program.
fn programs(machine: &Machine, nics: &[Nic]) -> Vec<Finding> {
    let finding = |level, found: String, consequence: &str| Finding {
        level,
        subject: "host".to_owned(),
        found,
        consequence: consequence.to_owned(),
    };
    match Watch::start(machine, nics, Observer::Tracing) {
        Ok(watch) => watch
            .programs()
            .into_iter()
            .map(|program| match program.attached.why() {
                None => finding(
                    Level::Ok,
                    format!("{} attaches to {}", program.name, program.hook),
                    "loaded, passed by the verifier, attached and detached again just now",
                ),
                Some(why) => finding(
                    Level::Note,
                    format!("{} does not attach to {}: {why}", program.name, program.hook),
                    "what it counts is not seen",
                ),
            })
            .collect(),
        Err(error) => vec![finding(
            Level::Fail,
            format!("the kernel side does not start: {error:#}"),
            "flows cannot be observed: status, plan, apply and run do not work",
        )],
    }
}

/// What the programs cost the kernel's verifier, which refuses those beyond its limit.
fn verifier() -> Option<Finding> {
    let counts = verifier::instructions().ok()?;
    let told = |(name, count): (&str, Result<u32, String>)| Some(format!("{name} {}", count.ok()?));
    let most = counts.values().flatten().max().copied()?;
    let list: Vec<String> = counts.into_iter().filter_map(told).collect();
    Some(Finding {
        level: if most > verifier::LIMIT / 2 { Level::Warn } else { Level::Ok },
        subject: "host".to_owned(),
        found: format!("instructions that the verifier walks through: {}", list.join(", ")),
        consequence: format!("the kernel refuses a program beyond {}", verifier::LIMIT),
    })
}

#[cfg(test)]
mod proxies;
#[cfg(test)]
mod tests;
