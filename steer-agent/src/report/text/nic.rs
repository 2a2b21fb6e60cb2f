//! One NIC of the status document: is it aligned, could it be, what does it cost, which flows and
//! processes, what was done, what to do.

use anstyle::{AnsiColor, Style};

use super::super::change::ago;
use super::super::heat;
use super::super::number::{count, or_dash, percent, printable, whole};
use super::super::status::QueueReport;
use super::super::{MismatchReport, NicState, NicStatus, PlannerReport, Source, Status};
use super::sheet::{Column, fit, keep, may_go, natural_width};
use super::wrap::{field, note, paragraph};
use super::{Lists, levers};
use crate::model::Distance;

/// Widest alignment bar, and the narrowest.
const BAR: usize = 40;
const LEAST_BAR: usize = 8;
const BOLD: Style = Style::new().bold();

pub(super) fn text(nic: &NicStatus, status: &Status, width: usize, lists: Lists) -> String {
    let mut text = heading(nic, status, width);
    if let Some(reason) = &nic.reason {
        text += &note(reason, width);
    }
    let nothing_more = nic.state == NicState::Unsteerable && nic.queues.is_empty();
    if !nothing_more {
        text += &summary(nic, width);
        text += &levers::reachable(nic.levers.as_ref(), width);
        text += &levers::used(nic.lever_states.iter().chain(&status.lever_states), width);
        text += &nic.planner.as_ref().map_or_else(String::new, |planner| planned(planner, width));
        text += &last_change(nic, status, width);
        text.push('\n');
        let map = if lists.heat > 0 {
            heat::text(&nic.alignment.by_cpu, width, lists.heat)
        } else {
            String::new()
        };
        if !map.is_empty() {
            text += &format!("{map}\n");
        }
        text += &queues(nic, width, lists.queues);
        text += &mismatches(nic, width, lists.flows);
        let failures = nic.health.iter().filter(|(_, count)| **count > 0);
        let failures: Vec<String> =
            failures.map(|(name, count)| format!("{name} {count}")).collect();
        if !failures.is_empty() {
            text += &note(&format!("in-kernel failures: {}", failures.join(", ")), width);
        }
        text.push('\n');
    }
    for (index, next) in nic.next.iter().enumerate() {
        let next = format!("{BOLD}{next}{BOLD:#}");
        text += &field(if index == 0 { "next" } else { "" }, &next, width);
    }
    text
}

fn heading(nic: &NicStatus, status: &Status, width: usize) -> String {
    let who = match status.source {
        Source::Daemon => "from the daemon",
        Source::Own => "observed here",
    };
    let driver = nic.driver.as_deref().unwrap_or("no driver");
    let colour = match nic.state {
        NicState::Steering => AnsiColor::Green.on_default(),
        NicState::Contested => AnsiColor::Red.on_default(),
        NicState::Unverified => AnsiColor::Yellow.on_default(),
        NicState::Observing | NicState::Unsteerable => Style::new(),
    };
    let text = format!(
        "{BOLD}{}{BOLD:#} ({driver})  {colour}{}{colour:#}  {who}, last {:.1} s",
        nic.name,
        nic.state.name(),
        status.window_s
    );
    paragraph(&text, width)
}

/// Alignment now and achievable, by distance, and what crossing costs.
fn summary(nic: &NicStatus, width: usize) -> String {
    let alignment = &nic.alignment;
    let achievable = format!(
        "{}, achievable {} with table and IRQs",
        percent(alignment.share),
        percent(alignment.achievable)
    );
    // Brackets and two spaces.
    let beside = super::wrap::LABEL + 4 + achievable.chars().count();
    let bar = bar(alignment.share, width.saturating_sub(beside).clamp(LEAST_BAR, BAR));
    let mut text = field("aligned", &format!("{bar}  {achievable}"), width);
    if alignment.protocol_share != alignment.share {
        let share = percent(alignment.protocol_share);
        text +=
            &field("protocol", &format!("{share} on the CPU that did the protocol work"), width);
    }
    let near: Vec<String> = Distance::ALL
        .iter()
        .filter_map(|distance| Some((distance, alignment.by_distance.get(distance)?)))
        .filter(|(_, share)| **share > 0.0)
        .map(|(distance, share)| format!("{} {}", distance.name(), percent(Some(*share))))
        .collect();
    if !near.is_empty() {
        text += &field("distance", &near.join("  "), width);
    }
    let consumed = format!(
        "{} /s consumed by {} flows; crossing costs {} us/s (modelled)",
        count(alignment.consumed_per_s),
        whole(nic.active_flows),
        count(alignment.cost_ns_per_s / 1000.0)
    );
    text += &field("cost", &consumed, width);
    if alignment.unattributed_per_s > 0.0 {
        let unknown = format!(
            "{} /s whose RX queue is not known, in none of the shares",
            count(alignment.unattributed_per_s)
        );
        text += &field("unknown", &unknown, width);
    }
    text
}

/// What was promised and what came of it.
fn planned(planner: &PlannerReport, width: usize) -> String {
    let mut text = match (planner.predicted, planner.realised) {
        (None, _) => return String::new(),
        (predicted, None) => format!("{}, not measured yet", percent(predicted)),
        (predicted, realised) => {
            format!("{}, measured after it {}", percent(predicted), percent(realised))
        }
    };
    text += &format!("; trust in plans {:.2}", planner.trust);
    if planner.braking {
        text += "; consumers roam";
    }
    field("planned", &text, width)
}

/// What was last written and why, and what happened since.
fn last_change(nic: &NicStatus, status: &Status, width: usize) -> String {
    let when =
        |at: f64| status.at_unix_s.map_or_else(String::new, |now| format!("{}: ", ago(now - at)));
    let mut text = String::new();
    if let Some(change) = &nic.last_change {
        text += &field("changed", &format!("{}{}", when(change.at_unix_s), change.text()), width);
    }
    match nic.events.last() {
        Some(event) if nic.last_change.as_ref() != Some(event) => {
            text += &field("last", &format!("{}{}", when(event.at_unix_s), event.text()), width);
        }
        // A daemon that tells no times.
        None => {
            if let Some(line) = nic.history.last() {
                text += &field("last", line, width);
            }
        }
        Some(_) => {}
    }
    text
}

/// The queues in the order of their numbers; of many, those with the most packets.
fn queues(nic: &NicStatus, width: usize, most: usize) -> String {
    const COLUMNS: [Column; 8] = [
        keep("queue"),
        may_go("IRQ", 4),
        may_go("set to", 3),
        may_go("delivered", 5),
        keep("polled on"),
        may_go("load", 1),
        keep("packets/s"),
        may_go("consumed/s", 2),
    ];
    let mut shown: Vec<&QueueReport> = nic.queues.iter().collect();
    shown.sort_by(|a, b| b.packets_per_s.total_cmp(&a.packets_per_s));
    let rest = shown.split_off(shown.len().min(most));
    shown.sort_by_key(|queue| queue.queue);
    let cpu = |cpu: Option<_>| cpu.map_or_else(|| "-".to_owned(), |cpu| format!("CPU {cpu}"));
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|queue| {
            vec![
                queue.queue.to_string(),
                or_dash(queue.irq),
                queue.cpu.map_or_else(|| "several".to_owned(), |cpu| format!("CPU {cpu}")),
                cpu(queue.effective_cpu),
                cpu(queue.softirq_cpu),
                queue.load.map_or_else(|| "-".to_owned(), |load| format!("{:.0} %", load * 100.0)),
                count(queue.packets_per_s),
                count(queue.consumed_per_s),
            ]
        })
        .collect();
    let mut text = format!("{}\n", fit(&COLUMNS, &rows, width));
    if !rest.is_empty() {
        let packets: f64 = rest.iter().map(|queue| queue.packets_per_s).sum();
        let rest = format!(
            "and {} queues with {} packets/s in all (--json has each)",
            rest.len(),
            count(packets)
        );
        text += &note(&rest, width);
    }
    text
}

fn mismatches(nic: &NicStatus, width: usize, most: usize) -> String {
    const COLUMNS: [Column; 7] = [
        keep("flow").down_to(26),
        may_go("bucket", 6),
        may_go("queue", 5),
        may_go("CPUs", 1),
        may_go("distance", 3),
        keep("per s"),
        may_go("process", 2).down_to(18),
    ];
    if nic.mismatches.is_empty() {
        return match nic.alignment.share {
            Some(_) => "\n  no mismatched flow\n".to_owned(),
            None => "\n  nothing was consumed in this window\n".to_owned(),
        };
    }
    let heading = format!(
        "{} of {} flows cross from the CPU that polls them to another that consumes:",
        nic.mismatches.len(),
        whole(nic.active_flows)
    );
    let mut text = format!("\n{}", note(&heading, width));
    let rows = |ends: fn(&MismatchReport) -> String| -> Vec<Vec<String>> {
        nic.mismatches
            .iter()
            .take(most)
            .map(|flow| {
                vec![
                    ends(flow),
                    or_dash(flow.bucket),
                    or_dash(flow.queue),
                    format!("{} -> {}", flow.softirq_cpu, flow.consumer_cpu),
                    flow.distance.name().to_owned(),
                    count(flow.per_s),
                    process(flow),
                ]
            })
            .collect()
    };
    // Of this host's end the port tells most.
    let whole = rows(|flow| format!("{} {} <- {}", flow.proto, flow.local, flow.remote));
    let short = rows(|flow| format!("{} :{} <- {}", flow.proto, flow.local.port(), flow.remote));
    let rows = if natural_width(&COLUMNS, &whole) <= width { whole } else { short };
    text += &format!("{}\n", fit(&COLUMNS, &rows, width));
    if let Some(more) = nic.mismatches.len().checked_sub(most).filter(|more| *more > 0) {
        text += &format!("  and {more} more\n");
    }
    text
}

fn process(flow: &MismatchReport) -> String {
    let name = printable(&flow.comm);
    match flow.pid {
        Some(pid) if name.is_empty() => format!("({pid})"),
        Some(pid) => format!("{name} ({pid})"),
        None => name,
    }
}

fn bar(share: Option<f64>, width: usize) -> String {
    let Some(share) = share else { return format!("[{}]", "·".repeat(width)) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is between 0 and 1"
    )]
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(width - full))
}
