//! `steer report`: one HTML page with what was before, what was done and what came of it.
//!
//! A [`Story`] is told of samples one after the other, live or from a recording, and keeps of them what
//! the page needs: a few samples whole, and a point for each window. [`Page::html`] draws the page. Both
//! are pure: no file, no clock, so the same recording gives the same bytes.
//!
//! Nothing in the page reaches outside it: styles and pictures are in the text, there is no script, and a
//! policy in it (CSP) forbids the browser to fetch anything. Every word that comes from outside passes
//! through `maud`, which escapes it.

mod chart;
mod heat;
mod html;
mod interrupts;
mod moves;
mod queues;
mod settings;
mod story;
#[cfg(test)]
mod tests;
mod verdict;

pub use story::Story;

use super::accept::ListenerReport;
use super::recording::Header;
use super::{ConnectStatus, NicState, NicStatus};
use crate::model::{CpuId, Interrupts, Nic, Topology};
use crate::plan::Target;

/// Everything that the page shows.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it comes from, in words.
    pub source: String,
    /// Machine, kernel, policies and when it began.
    pub header: Header,
    /// The machine's CPUs.
    pub topology: Topology,
    /// Time from the first sample to the last.
    pub length_s: f64,
    /// Windows between them.
    pub windows: usize,
    /// Each NIC.
    pub chapters: Vec<Chapter>,
    /// What was done by whoever made this report, in order.
    pub done: Vec<Said>,
    /// Whether a running daemon was heard.
    pub daemon: bool,
    /// Listeners that the daemon steers connections of.
    pub listeners: Vec<ListenerReport>,
    /// Cgroups that the daemon steers connects of.
    pub connects: Vec<ConnectStatus>,
    /// Who else writes affinities, and what follows.
    pub neighbours: Vec<String>,
    /// What could not be read or seen, each sentence once.
    pub missing: Vec<String>,
    /// One consumption in 2 to the power of this was put down to its flow, at most; `None` where unknown.
    pub flow_sampling: Option<u32>,
}

/// One NIC.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// Its settings at the end.
    pub nic: Nic,
    /// Until the first change, or the whole time where there was none.
    pub before: Phase,
    /// With what was changed; `None` where nothing was, or nothing was seen after it.
    pub after: Option<Phase>,
    /// When settings were changed, as windows that have both in them.
    pub changed: Vec<Span>,
    /// When everything was found as it had been at first.
    pub put_back_s: Option<f64>,
    /// Window by window.
    pub course: Vec<Point>,
    /// What was changed.
    pub moves: Vec<Move>,
    /// Changes beyond those.
    pub further_moves: usize,
    /// What the daemon said it did.
    pub said: Vec<Said>,
    /// The daemon's last state and its reason.
    pub state: Option<(NicState, Option<String>)>,
}

/// A stretch of time in which settings stayed.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Since the first sample.
    pub span: Span,
    /// What it comes to.
    pub status: NicStatus,
    /// Interrupts within it, by CPU.
    pub interrupts: Option<Interrupts>,
    /// Share of each CPU's time in softirq.
    pub softirq: Vec<(CpuId, f64)>,
}

/// From when to when, in seconds since the first sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Its beginning.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
}

impl Span {
    fn length_s(self) -> f64 {
        self.to_s - self.from_s
    }
}

/// One or several windows of the course of things.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub span: Span,
    /// Consumption.
    pub consumed: u64,
    /// Of it, on the CPU that polled.
    pub aligned: u64,
    /// Packets.
    pub packets: u64,
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The end of the window in which it was.
    pub at_s: f64,
    /// What.
    pub target: Target,
    /// Its value before.
    pub from: String,
    /// Its value after.
    pub to: String,
    /// How many entries of the table that is.
    pub buckets: usize,
    /// Why, by the plan or by what was seen before.
    pub why: String,
}

/// A sentence at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// When; `None` for what was said before this began.
    pub at_s: Option<f64>,
    /// What.
    pub text: String,
}

impl Page {
    /// The page as a whole document.
    #[must_use]
    pub fn html(&self) -> String {
        html::document(self).into_string()
    }

    /// The verdict without markup, a paragraph for each NIC.
    #[must_use]
    pub fn verdict(&self) -> Vec<String> {
        let of = |chapter: &Chapter| {
            let verdict = verdict::of(chapter);
            format!("{}: {}", chapter.nic.name, verdict.sentences.join(" "))
        };
        self.chapters.iter().map(of).collect()
    }
}
