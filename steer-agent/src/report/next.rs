//! What the operator should do now: the last line of a NIC in `steer status`. Pure.

use std::collections::BTreeMap;

use super::status::{NicState, NicStatus, Source};
use crate::model::{MappingVerdict, NicWorld};
use crate::plan::Plan;

/// What is within this of what can be had is had.
const CLOSE: f64 = 0.03;
/// What a lever must add to be worth a word.
const WORTH_IT: f64 = 0.1;
/// Ports that are named in a command.
const MOST_PORTS: usize = 4;

/// The next command or directive for the NIC that `status` is about; the first counts for most.
#[must_use]
pub fn next(nic: &NicWorld, plan: &Plan, status: &NicStatus, source: Source) -> Vec<String> {
    let name = &status.name;
    match status.state {
        NicState::Unsteerable => {
            return vec![format!(
                "nothing to steer here; `steer doctor {name}` says what each NIC can do"
            )];
        }
        NicState::Contested => {
            return vec![format!(
                "stop who writes it (`steer doctor {name}` names suspects), or `steer release {name}` \
                 leaves it to them"
            )];
        }
        NicState::Unverified => {
            return vec![format!(
                "`steer doctor {name}` names what decides the queue beside the table, and how it is \
                 switched off"
            )];
        }
        NicState::Steering | NicState::Observing => {}
    }
    if status.alignment.consumed_per_s <= 0.0 {
        return vec![nothing_consumed(nic, name, source)];
    }
    if nic.nic.polled_by_threads().is_some() {
        return vec![format!(
            "`echo 0 > /sys/class/net/{name}/threaded`: as long as kernel threads poll its queues, nothing \
             decides on which CPU"
        )];
    }
    let mut next = Vec::new();
    let share = status.alignment.share.unwrap_or(0.0);
    // Nobody has planned yet, so nothing says that it cannot be better.
    let reachable = status.alignment.achievable.unwrap_or(1.0);
    let gap = reachable - share;
    if source == Source::Own {
        if nic.mapping.verdict() == MappingVerdict::TooFewFlows {
            next.push(format!("look longer: `steer status {name} --for 30s`"));
        } else if gap > CLOSE && !plan.is_empty() {
            next.push(format!(
                "`steer plan {name}` shows the steps, `steer run {name}` takes them"
            ));
        }
    } else if status.state == NicState::Observing && gap > CLOSE {
        next.extend(status.reason.as_deref().filter(|why| why.starts_with("dry run")).map(|_| {
            format!("`steer run {name}` without --dry-run takes the steps that it prints")
        }));
    }
    next.extend(beyond_the_table(nic, status));
    if status.planner.as_ref().is_some_and(|planner| planner.braking) {
        next.push(format!(
            "pin the workers: `steer doctor {name}` names the directive for each server"
        ));
    }
    if next.is_empty() {
        next.push(if gap > CLOSE && source == Source::Daemon {
            "wait: the daemon is at it, `steer top` shows it going on".to_owned()
        } else {
            "nothing: it is as well aligned as table and interrupts can make it".to_owned()
        });
    }
    next
}

/// What to do where nothing was read.
fn nothing_consumed(nic: &NicWorld, name: &str, source: Source) -> String {
    let packets: f64 = nic.queues.iter().map(|queue| queue.packets_per_s).sum();
    if nic.alignment.unattributed_per_s > 0.0 {
        return format!("`steer doctor {name}` says why the RX queue of what is read is not known");
    }
    if packets >= 100.0 {
        return format!(
            "nobody reads what arrives: is it forwarded? `steer doctor {name}` says what can be seen"
        );
    }
    match source {
        Source::Own => {
            format!("look while there is traffic: `steer status {name} --for 30s` or --watch")
        }
        Source::Daemon => "wait for traffic: `steer status --watch`".to_owned(),
    }
}

/// Accept and connect steering, where they would bring what the table cannot.
fn beyond_the_table(nic: &NicWorld, status: &NicStatus) -> Option<String> {
    let levers = status.levers.as_ref()?;
    let reachable = status.alignment.share.unwrap_or(0.0).max(levers.table);
    let fleeting = nic.young_share > 0.5;
    let by_accept = levers.accept.filter(|share| share - reachable >= WORTH_IT);
    if by_accept.is_none() && !fleeting {
        return None;
    }
    let name = &status.name;
    let ports = ports(nic);
    let gain = by_accept.map_or_else(String::new, |share| format!(" to {:.0} %", share * 100.0));
    if !ports.is_empty() {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        return Some(format!(
            "bring connections to their workers{gain}: `steer run {name} --accept {}` (what each \
             server needs: `steer doctor {name}`)",
            ports.join(",")
        ));
    }
    // This host opened them itself.
    let made_here = nic.flows.iter().any(|flow| flow.accepted == Some(false));
    made_here.then(|| {
        format!(
            "let replies come to the CPU that connects: `steer run {name} --connect CGROUP` \
             (docs/connect.md)"
        )
    })
}

/// The ports that this host accepts on, those with the most consumption first.
fn ports(nic: &NicWorld) -> Vec<u16> {
    let mut by_port = BTreeMap::<u16, f64>::new();
    for flow in nic.flows.iter().filter(|flow| flow.accepted == Some(true)) {
        *by_port.entry(flow.addr.local.port()).or_default() += flow.per_s;
    }
    let mut ports: Vec<(u16, f64)> = by_port.into_iter().collect();
    ports.sort_by(|a, b| b.1.total_cmp(&a.1));
    ports.into_iter().take(MOST_PORTS).map(|(port, _)| port).collect()
}
