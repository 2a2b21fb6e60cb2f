//! Tables for people: the status document and plans.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use super::number::{count, or_dash, percent};
use super::{NicState, NicStatus, PlannerReport, Source, Status};
use crate::model::Distance;
use crate::plan::{Levers, Plan, Target};

/// Mismatched flows that are listed before "and so many more".
const FLOWS_SHOWN: usize = 12;
/// Width of the alignment bar.
const BAR: usize = 40;

/// The status document as text.
#[must_use]
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    for nic in &status.nics {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &nic_status(nic, status);
    }
    for sentence in &status.missing {
        let _ = writeln!(text, "missing: {sentence}");
    }
    for sentence in &status.neighbours {
        let _ = writeln!(text, "neighbour: {sentence}");
    }
    text
}

fn nic_status(nic: &NicStatus, status: &Status) -> String {
    let mut text = String::new();
    let who = match status.source {
        Source::Daemon => "from the daemon",
        Source::Own => "observed here",
    };
    let driver = nic.driver.as_deref().unwrap_or("no driver");
    let _ = writeln!(
        text,
        "{} ({driver})  {}  {who}, last {:.1} s",
        nic.name,
        nic.state.name(),
        status.window_s
    );
    if let Some(reason) = &nic.reason {
        let _ = writeln!(text, "  {reason}");
    }
    if nic.state == NicState::Unsteerable && nic.queues.is_empty() {
        return text;
    }
    let alignment = &nic.alignment;
    let _ = writeln!(
        text,
        "  aligned    {}  {}  achievable with table and IRQs: {}",
        bar(alignment.share),
        percent(alignment.share),
        percent(alignment.achievable)
    );
    if alignment.protocol_share != alignment.share {
        let _ = writeln!(
            text,
            "  protocol   {} on the CPU that did the protocol work",
            percent(alignment.protocol_share)
        );
    }
    let _ = writeln!(
        text,
        "  consumed   {} /s by {} flows; modelled cost of crossing {} us/s",
        count(alignment.consumed_per_s),
        nic.active_flows,
        count(alignment.cost_ns_per_s / 1000.0)
    );
    if alignment.unattributed_per_s > 0.0 {
        let _ = writeln!(
            text,
            "  unknown    {} /s whose RX queue is not known, in none of the shares",
            count(alignment.unattributed_per_s)
        );
    }
    text += &levers(nic.levers.as_ref());
    if let Some(planner) = &nic.planner {
        text += &planner_line(planner);
    }
    let near: Vec<String> = Distance::ALL
        .iter()
        .filter_map(|distance| Some((distance, alignment.by_distance.get(distance)?)))
        .filter(|(_, share)| **share > 0.0)
        .map(|(distance, share)| format!("{} {:.0} %", distance.name(), share * 100.0))
        .collect();
    if !near.is_empty() {
        let _ = writeln!(text, "  distance   {}", near.join("  "));
    }
    let _ = writeln!(text, "\n{}", queues(nic).trim_fmt());
    text += &mismatches(nic);
    let failures: Vec<String> = nic
        .health
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !failures.is_empty() {
        let _ = writeln!(text, "  in-kernel failures: {}", failures.join(", "));
    }
    for line in &nic.history {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What was promised and what came of it.
fn planner_line(planner: &PlannerReport) -> String {
    let mut text = match (planner.predicted, planner.realised) {
        (None, _) => return String::new(),
        (predicted, None) => format!("  planned    {}, not measured yet", percent(predicted)),
        (predicted, realised) => {
            format!("  planned    {}, measured after it {}", percent(predicted), percent(realised))
        }
    };
    let _ = write!(text, "; trust in plans {:.2}", planner.trust);
    if planner.braking {
        text += "; consumers roam";
    }
    text.push('\n');
    text
}

fn queues(nic: &NicStatus) -> Table {
    let mut table =
        sheet(&["queue", "IRQ", "set to", "delivered", "polled on", "packets/s", "consumed/s"]);
    for queue in &nic.queues {
        table.add_row([
            queue.queue.to_string(),
            or_dash(queue.irq),
            queue.cpu.map_or_else(|| "several".to_owned(), |cpu| format!("CPU {cpu}")),
            queue.effective_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("CPU {cpu}")),
            queue.softirq_cpu.map_or_else(|| "-".to_owned(), |cpu| format!("CPU {cpu}")),
            count(queue.packets_per_s),
            count(queue.consumed_per_s),
        ]);
    }
    table
}

fn mismatches(nic: &NicStatus) -> String {
    if nic.mismatches.is_empty() {
        return match nic.alignment.share {
            Some(_) => "\n  no mismatched flow\n".to_owned(),
            None => "\n  nothing was consumed in this window\n".to_owned(),
        };
    }
    let mut text = format!(
        "\n  {} of {} flows are consumed away from the CPU that polls their queue:\n",
        nic.mismatches.len(),
        nic.active_flows
    );
    let mut table = sheet(&[
        "flow",
        "bucket",
        "queue",
        "polled on",
        "consumed on",
        "distance",
        "per s",
        "process",
    ]);
    for flow in nic.mismatches.iter().take(FLOWS_SHOWN) {
        table.add_row([
            format!("{} {} <- {}", flow.proto, flow.local, flow.remote),
            or_dash(flow.bucket),
            or_dash(flow.queue),
            format!("CPU {}", flow.softirq_cpu),
            format!("CPU {}", flow.consumer_cpu),
            flow.distance.name().to_owned(),
            count(flow.per_s),
            match flow.pid {
                Some(pid) => format!("{} ({pid})", flow.comm),
                None => flow.comm.clone(),
            },
        ]);
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
    if let Some(more) = nic.mismatches.len().checked_sub(FLOWS_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more");
    }
    text
}

/// A plan as text.
#[must_use]
pub fn plan(plan: &Plan) -> String {
    let mut text = format!(
        "{}: aligned {} now, {} after this plan (fitted to the window), {} at most\n",
        plan.nic,
        percent(plan.share_now),
        percent(plan.share_planned),
        percent(plan.achievable)
    );
    text += &levers(plan.levers.as_ref());
    if !plan.steps.is_empty() {
        let mut table = sheet(&["step", "from", "to", "gain/s", "why"]);
        let rules = plan.steps.iter().filter(|step| step.change.target.is_rule());
        let hidden = rules.skip(FLOWS_SHOWN).count();
        // Rules come last.
        for step in plan.steps.iter().take(plan.steps.len() - hidden) {
            let change = &step.change;
            let (from, to) = match change.target {
                Target::Table => {
                    ("-".to_owned(), format!("{} entries changed", step.buckets_moved()))
                }
                _ => (change.from.to_string(), change.to.to_string()),
            };
            let gain = if step.gain_per_s > 0.0 { count(step.gain_per_s) } else { String::new() };
            table.add_row([change.target.to_string(), from, to, gain, step.reason.clone()]);
        }
        let _ = writeln!(text, "{}", table.trim_fmt());
        if hidden > 0 {
            let _ = writeln!(text, "  and {hidden} more rules");
        }
    }
    for reason in &plan.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    text
}

/// What each lever could reach, and the advice that follows.
fn levers(levers: Option<&Levers>) -> String {
    let Some(levers) = levers else { return String::new() };
    let mut text = format!("  levers     {levers}");
    if levers.flows_known < 0.95 && !levers.pins.is_empty() {
        let _ = write!(text, " (flows known for {} of it)", percent(Some(levers.flows_known)));
    }
    text.push('\n');
    if let Some(advice) = &levers.advice {
        let _ = writeln!(text, "             {advice}");
    }
    text
}

/// A table without rules, numbers to the right.
fn sheet(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for (index, name) in header.iter().enumerate() {
        let numeric = name.ends_with("/s") || *name == "per s" || *name == "bucket";
        if let Some(column) = table.column_mut(index) {
            column.set_padding((2, 0));
            if numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

fn bar(share: Option<f64>) -> String {
    let Some(share) = share else { return format!("[{}]", " ".repeat(BAR)) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is between 0 and 1"
    )]
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

#[cfg(test)]
mod tests;
