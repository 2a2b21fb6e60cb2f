//! `steer top`: what is on the screen, as a value. It is told of windows and keys and draws itself into
//! a frame; it opens no terminal, asks no daemon and has no clock, so tests compare its cells.

mod draw;
mod flows;

use std::collections::{BTreeMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use super::{EventReport, NicStatus, Source, Status};
pub use flows::Order;

/// Windows of alignment that are remembered: more than any screen is wide.
const HISTORY: usize = 600;
/// Lines of events that are remembered.
const EVENTS: usize = 500;

/// Which part is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Alignment, its history and the heat map.
    #[default]
    Overview,
    /// The flows.
    Flows,
    /// The queues.
    Queues,
    /// What the daemon did and why.
    Events,
    /// The keys.
    Help,
}

impl View {
    /// All of them in the order of their numbers; help has `?`.
    pub const ALL: [Self; 5] =
        [Self::Overview, Self::Flows, Self::Queues, Self::Events, Self::Help];

    /// What it is called on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overview => "1 Overview",
            Self::Flows => "2 Flows",
            Self::Queues => "3 Queues",
            Self::Events => "4 Events",
            Self::Help => "? Help",
        }
    }
}

/// What happened, to which NIC.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    nic: String,
    event: EventReport,
}

/// The screen.
#[derive(Debug, Default)]
pub struct Top {
    status: Option<Status>,
    before: Option<Status>,
    /// Share of one CPU that this screen takes; none where it cannot be told.
    own_cpu: Option<f64>,
    error: Option<String>,
    note: Option<String>,
    alignment: BTreeMap<String, VecDeque<Option<f64>>>,
    events: VecDeque<Event>,
    /// What each NIC's events were in the window before.
    known: BTreeMap<String, Vec<EventReport>>,
    /// Who observed the window before.
    source: Option<Source>,
    view: View,
    nic: usize,
    order: Order,
    filter: String,
    typing: bool,
    frozen: bool,
    scroll: usize,
}

impl Top {
    /// A window is over, in which this screen took `own_cpu` of a CPU. While the screen is frozen only
    /// the history goes on.
    pub fn window(&mut self, status: Status, own_cpu: Option<f64>) {
        self.own_cpu = own_cpu;
        self.error = None;
        for nic in &status.nics {
            let shares = self.alignment.entry(nic.name.clone()).or_default();
            shares.push_back(nic.alignment.share);
            if shares.len() > HISTORY {
                shares.pop_front();
            }
        }
        self.note_events(&status);
        if !self.frozen {
            self.before = self.status.replace(status);
            self.nic = self.nic.min(self.nics().saturating_sub(1));
        }
    }

    /// A window could not be had; what was last seen stays.
    pub fn failed(&mut self, why: String) {
        self.error = Some(why);
    }

    /// What stands in the title from now on, such as where a recording is.
    pub fn note(&mut self, text: String) {
        self.note = Some(text);
    }

    /// Whether letters belong to the filter now.
    #[must_use]
    pub fn is_typing(&self) -> bool {
        self.typing
    }

    /// A key was pressed. True if it ends the screen.
    #[must_use]
    pub fn key(&mut self, key: KeyCode, modifiers: KeyModifiers) -> bool {
        if modifiers.contains(KeyModifiers::CONTROL) {
            return key == KeyCode::Char('c');
        }
        if self.typing {
            self.type_filter(key);
            return false;
        }
        match key {
            KeyCode::Char('q') => return true,
            KeyCode::Char('1') => self.show(View::Overview),
            KeyCode::Char('2') => self.show(View::Flows),
            KeyCode::Char('3') => self.show(View::Queues),
            KeyCode::Char('4') => self.show(View::Events),
            KeyCode::Char('?' | 'h') => self.show(View::Help),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(View::ALL.len() - 1),
            KeyCode::Right => self.choose(1),
            KeyCode::Left => self.choose(self.nics().saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += PAGE,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::Home => self.scroll = 0,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char(' ' | 'f') => self.frozen = !self.frozen,
            KeyCode::Char('/') => {
                self.show(View::Flows);
                self.typing = true;
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.show(View::Overview);
            }
            _ => {}
        }
        false
    }

    /// The mouse wheel was turned by so many lines, down if positive.
    pub fn wheel(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines);
    }

    /// The mouse was pressed at this place. In the line of the views that chooses one.
    pub fn click(&mut self, column: u16, line: u16) {
        if line != TABS_LINE {
            return;
        }
        let mut left = 0;
        for view in View::ALL {
            let width = view.name().len() + 2;
            if (left..left + width).contains(&usize::from(column)) {
                return self.show(view);
            }
            left += width;
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.scroll = 0;
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
    }

    fn turn(&mut self, by: usize) {
        let now = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(now + by) % View::ALL.len()]);
    }

    fn choose(&mut self, by: usize) {
        self.nic = (self.nic + by) % self.nics().max(1);
        self.scroll = 0;
    }

    fn nics(&self) -> usize {
        self.status.as_ref().map_or(0, |status| status.nics.len())
    }

    fn current(&self) -> Option<&NicStatus> {
        self.status.as_ref()?.nics.get(self.nic)
    }

    fn earlier(&self) -> Option<&NicStatus> {
        let name = &self.current()?.name;
        self.before.as_ref()?.nics.iter().find(|nic| nic.name == *name)
    }

    /// Events that were not there before. The daemon remembers a few; what is new is what follows the
    /// longest end of the old that the new begins with.
    fn note_events(&mut self, status: &Status) {
        let at_unix_s = status.at_unix_s.unwrap_or(0.0);
        let other = self.source.replace(status.source).filter(|before| *before != status.source);
        if other.is_some() {
            let what = match status.source {
                Source::Own => "the daemon has ended: observed here from now on",
                Source::Daemon => "a daemon runs now: its windows are shown from now on",
            };
            let event = EventReport { at_unix_s, what: what.to_owned(), why: None, wrote: false };
            self.events.push_back(Event { nic: "steer".to_owned(), event });
        }
        for nic in &status.nics {
            let new = if nic.events.is_empty() {
                // A daemon that tells no times.
                let event = |what: &String| EventReport {
                    at_unix_s,
                    what: what.clone(),
                    why: None,
                    wrote: false,
                };
                nic.history.iter().map(event).collect()
            } else {
                nic.events.clone()
            };
            let old = self.known.insert(nic.name.clone(), new.clone()).unwrap_or_default();
            let same = |a: &[EventReport], b: &[EventReport]| {
                a.len() <= b.len()
                    && a.iter().zip(b).all(|(a, b)| a.what == b.what && a.why == b.why)
            };
            let kept = (0..=old.len()).find(|from| same(&old[*from..], &new));
            let known = old.len() - kept.unwrap_or(old.len());
            let fresh = new.into_iter().skip(known);
            self.events.extend(fresh.map(|event| Event { nic: nic.name.clone(), event }));
        }
        let surplus = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..surplus);
    }
}

/// The line of the screen in which the views are named.
const TABS_LINE: u16 = 1;
/// Lines that page up and down go.
const PAGE: usize = 10;

#[cfg(test)]
mod tests;
