//! Screens for people: the status document and plans. Colours are always in it; who prints it takes
//! them out where they are not wanted.

mod levers;
mod listeners;
mod nic;
mod sheet;
mod wrap;

use super::number::{count, percent};
use super::{Pace, Status};
use crate::plan::{Plan, Target};
use levers::reachable;
use sheet::{fit, keep};
use wrap::paragraph;

/// Where the text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns; `usize::MAX` where it is no terminal.
    pub width: usize,
    /// Lines that all of it should fit into, where there is such a number.
    pub height: Option<usize>,
}

/// How much of each list is shown.
#[derive(Clone, Copy, Debug)]
struct Lists {
    /// Rows of the heat map.
    heat: usize,
    /// Queues before only the busiest are listed.
    queues: usize,
    /// Mismatched flows before "and so many more".
    flows: usize,
}

/// From the most that is shown down to the least.
const LISTS: [Lists; 5] = [
    Lists { heat: 32, queues: 16, flows: 12 },
    Lists { heat: 16, queues: 8, flows: 8 },
    Lists { heat: 8, queues: 6, flows: 6 },
    Lists { heat: 8, queues: 4, flows: 3 },
    Lists { heat: 0, queues: 4, flows: 3 },
];
/// Rules of a plan that are listed.
const RULES_SHOWN: usize = 12;

/// The status document as text for a terminal of `width` columns and any number of lines.
#[must_use]
pub fn status(status: &Status, width: usize) -> String {
    status_on(status, Screen { width, height: None })
}

/// The status document as text for `screen`: lists are shortened until it fits, as far as they may be.
#[must_use]
pub fn status_on(status: &Status, screen: Screen) -> String {
    let mut text = String::new();
    for lists in LISTS {
        text = compose(status, screen.width, lists);
        if screen.height.is_none_or(|height| text.lines().count() <= height) {
            break;
        }
    }
    text
}

fn compose(status: &Status, width: usize, lists: Lists) -> String {
    let mut text = String::new();
    for nic in &status.nics {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &nic::text(nic, status, width, lists);
    }
    text += &listeners::text(&status.listeners);
    for connect in &status.connects {
        text += &format!("\n{}", connect.text());
    }
    for sentence in &status.missing {
        text += &paragraph(&format!("missing: {sentence}"), width);
    }
    for sentence in &status.neighbours {
        text += &paragraph(&format!("neighbour: {sentence}"), width);
    }
    if let Some(pace) = status.pace.filter(|pace| pace.missed > 0) {
        let Pace { windows, missed, tick_max_us, .. } = pace;
        let all = windows + missed;
        let ms = tick_max_us / 1000;
        let late =
            format!("late: the daemon missed {missed} of {all} periods; its longest took {ms} ms");
        text += &paragraph(&late, width);
    }
    text + &own_cost(status, width)
}

/// What steer itself takes; nothing where that is not known.
fn own_cost(status: &Status, width: usize) -> String {
    let Some(cost) = status.cost.and_then(|cost| cost.text()) else { return String::new() };
    let work = status.pace.map_or_else(String::new, |pace| {
        format!("; {:.1} ms of work a window", pace.tick_us as f64 / 1000.0)
    });
    paragraph(&format!("steer itself takes {cost}{work}"), width)
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
    text += &reachable(plan.levers.as_ref(), usize::MAX);
    if !plan.steps.is_empty() {
        let columns = ["step", "from", "to", "gain/s", "why"].map(keep);
        let mut rows = Vec::new();
        let rules = plan.steps.iter().filter(|step| step.change.target.is_rule());
        let hidden = rules.skip(RULES_SHOWN).count();
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
            rows.push(vec![change.target.to_string(), from, to, gain, step.reason.clone()]);
        }
        text += &format!("{}\n", fit(&columns, &rows, usize::MAX));
        if hidden > 0 {
            text += &format!("  and {hidden} more rules\n");
        }
    }
    for reason in &plan.reasons {
        text += &format!("  {reason}\n");
    }
    text
}

#[cfg(test)]
mod tests;
