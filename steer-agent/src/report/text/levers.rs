//! The levers: what each could reach, and which are used.

use super::super::lever::{LeverReport, LeverState};
use super::super::number::percent;
use super::wrap::{LABEL, field, indented};
use crate::plan::Levers;

/// What each lever could reach, and the advice that follows.
pub(super) fn reachable(levers: Option<&Levers>, width: usize) -> String {
    let Some(levers) = levers else { return String::new() };
    let mut text = levers.to_string();
    if levers.flows_known < 0.95 && !levers.pins.is_empty() {
        text += &format!(" (flows known for {} of it)", percent(Some(levers.flows_known)));
    }
    let mut text = field("reachable", &text, width);
    if let Some(advice) = &levers.advice {
        text += &field("", advice, width);
    }
    text
}

/// Which levers are used, on one line, and below it why others are not.
pub(super) fn used<'a>(
    levers: impl Iterator<Item = &'a LeverReport> + Clone,
    width: usize,
) -> String {
    let state = |lever: &LeverReport| format!("{} {}", lever.lever.name(), lever.state.name());
    let all: Vec<String> = levers.clone().map(state).collect();
    if all.is_empty() {
        return String::new();
    }
    let mut text = field("levers", &all.join("  "), width);
    for lever in levers.filter(|lever| lever.state != LeverState::On) {
        if let Some(reason) = &lever.reason {
            let line = format!("{:<7} {reason}", lever.lever.name());
            text += &indented(&line, LABEL, LABEL + 8, width);
        }
    }
    text
}
