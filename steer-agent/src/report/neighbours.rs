//! What is to be said of those who write what steer writes: to the doctor, in the status, and where
//! somebody else's value was found. Pure.

use super::doctor::Level;
use crate::model::Neighbours;
use crate::plan::Target;

/// A neighbour: how much it matters, what was found, what follows.
#[must_use]
pub fn findings(neighbours: &Neighbours) -> Vec<(Level, String, String)> {
    let mut findings = Vec::new();
    if let Some(process) = neighbours.irqbalance {
        findings.push((
            Level::Warn,
            format!("irqbalance runs (process {})", process.pid),
            "it moves interrupts at intervals, so `run` and `apply` leave them to it and correct by \
             table alone; with `irqbalance = \"ban\"` under [run] in the configuration steer asks \
             it to leave the NIC's interrupts alone, and takes that back at the end"
                .to_owned(),
        ));
    }
    if let Some(process) = neighbours.tuned {
        let profile = neighbours.tuned_profile.as_deref().unwrap_or("unknown");
        findings.push((
            Level::Note,
            format!("tuned runs (process {}, profile {profile})", process.pid),
            "its scheduler and irq plugins write IRQ affinity when a profile is applied, unless \
             irq_process=false; steer then stands down (`contested`)"
                .to_owned(),
        ));
    }
    if let Some(process) = neighbours.crio {
        let config = neighbours.crio_irqbalance_config.as_deref();
        findings.push((
            Level::Note,
            format!("CRI-O runs (process {})", process.pid),
            match config {
                Some(config) => format!(
                    "for containers that want no interrupts it writes IRQ affinity and {config} and \
                     restarts irqbalance, which then forgets what it was asked; steer asks again"
                ),
                None => "its irqbalance_config_file is empty, so it leaves irqbalance alone; it may \
                         still write IRQ affinity for containers that want no interrupts"
                    .to_owned(),
            },
        ));
    }
    for file in &neighbours.udev_rules {
        findings.push((
            Level::Note,
            format!("{file} sets IRQ affinity"),
            "when its event comes it overwrites what steer has set; steer then stands down \
             (`contested`)"
                .to_owned(),
        ));
    }
    findings
}

/// The neighbours in a sentence each; `irqbalance` says what is done about that one.
#[must_use]
pub fn sentences(neighbours: &Neighbours, irqbalance: &str) -> Vec<String> {
    let known =
        neighbours.irqbalance.map(|it| format!("irqbalance (process {}) {irqbalance}", it.pid));
    let others = Neighbours { irqbalance: None, ..neighbours.clone() };
    let others = findings(&others);
    known
        .into_iter()
        .chain(others.into_iter().map(|(_, found, then)| format!("{found}: {then}")))
        .collect()
}

/// Who may have set `target`, of those that were found; an empty text where it is not theirs.
#[must_use]
pub fn suspects(neighbours: &Neighbours, target: &Target) -> String {
    let mut who = Vec::new();
    if matches!(target, Target::IrqAffinity { .. }) {
        who.extend(neighbours.irqbalance.map(|it| format!("irqbalance (process {})", it.pid)));
        who.extend(neighbours.tuned.map(|it| match &neighbours.tuned_profile {
            Some(profile) => format!("tuned (process {}, profile {profile})", it.pid),
            None => format!("tuned (process {})", it.pid),
        }));
        who.extend(neighbours.crio.map(|it| format!("CRI-O (process {})", it.pid)));
        who.extend(neighbours.udev_rules.iter().cloned());
    }
    if who.is_empty() { String::new() } else { format!(", perhaps by {}", who.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Process;

    fn all() -> Neighbours {
        Neighbours {
            irqbalance: Some(Process { pid: 7, started: 1 }),
            tuned: Some(Process { pid: 8, started: 1 }),
            tuned_profile: Some("network-latency".to_owned()),
            crio: Some(Process { pid: 9, started: 1 }),
            crio_irqbalance_config: Some("/etc/sysconfig/irqbalance".to_owned()),
            udev_rules: vec!["/etc/udev/rules.d/90-irq.rules".to_owned()],
        }
    }

    #[test]
    fn every_neighbour_is_named_with_a_consequence() {
        assert!(findings(&Neighbours::default()).is_empty());
        let found = findings(&all());
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|(_, found, consequence)| {
            !found.is_empty() && consequence.len() > found.len()
        }));
    }

    #[test]
    fn who_writes_affinities_is_suspected_of_nothing_else() {
        let irq = Target::IrqAffinity { irq: 24, queue: 0 };
        assert_eq!(suspects(&Neighbours::default(), &irq), "");
        assert_eq!(suspects(&all(), &Target::Table), "");
        assert_eq!(
            suspects(&all(), &irq),
            ", perhaps by irqbalance (process 7) or tuned (process 8, profile network-latency) or \
             CRI-O (process 9) or /etc/udev/rules.d/90-irq.rules"
        );
    }
}
