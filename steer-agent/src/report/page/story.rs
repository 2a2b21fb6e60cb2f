//! From samples to a page: what was before the first change, and what was with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::moves::{Settings, why};
use super::{Chapter, Move, Page, Phase, Point, Said, Span};
use crate::model::{CpuId, NicCounters, NicSample, Sample, Topology};
use crate::plan::{Plan, Target, Value};
use crate::report::recording::Header;
use crate::report::{NicState, NicStatus, Status};

/// Points of the course that are kept; beyond that two become one.
const MOST_POINTS: usize = 1200;
/// Moves and sentences that are listed.
const MOST_MOVES: usize = 200;
const MOST_SAID: usize = 200;
/// Windows with changes that are kept.
const MOST_CHANGED: usize = 2000;
const MOST_MISSING: usize = 40;
/// Share of the time with changed settings that must lie after the last change for it to stand for all.
const QUIET_SHARE: f64 = 1.0 / 3.0;

/// What two samples come to, as `steer status` would have it.
pub(super) type StatusOf<'a> = &'a dyn Fn(&Sample, &Sample) -> Status;

/// Value and reason of steps, by interface and what is set.
type Planned = BTreeMap<(String, Target), (Value, String)>;

/// What is told, sample by sample.
#[derive(Debug)]
pub struct Story {
    /// Interfaces that are wanted; all if empty.
    names: Vec<String>,
    began_ns: Option<u64>,
    last: Option<Arc<Sample>>,
    windows: usize,
    /// By index of the interface, in the order in which they came.
    tracks: BTreeMap<u32, Track>,
    done: Vec<Said>,
    daemon: Option<Status>,
    missing: BTreeSet<String>,
    flow_sampling: Option<u32>,
    /// What was planned, by interface and what is set.
    planned: Planned,
}

impl Story {
    /// About these interfaces, or about all.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            began_ns: None,
            last: None,
            windows: 0,
            tracks: BTreeMap::new(),
            done: Vec::new(),
            daemon: None,
            missing: BTreeSet::new(),
            flow_sampling: None,
            planned: Planned::new(),
        }
    }

    /// Windows so far.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// The next sample.
    pub fn sample(&mut self, sample: Sample) {
        let began_ns = *self.began_ns.get_or_insert(sample.at_ns);
        let sample = Arc::new(sample);
        for sentence in &sample.missing {
            if self.missing.len() < MOST_MISSING {
                self.missing.insert(sentence.clone());
            }
        }
        self.flow_sampling = self.flow_sampling.max(sample.flow_sampling);
        let clock = Clock { began_ns };
        for nic in &sample.nics {
            if !self.names.is_empty() && !self.names.contains(&nic.nic.name) {
                continue;
            }
            match self.tracks.get_mut(&nic.nic.ifindex) {
                Some(track) => track.window(&sample, nic, clock, &self.planned),
                None => {
                    self.tracks.insert(nic.nic.ifindex, Track::begin(&sample, nic));
                }
            }
        }
        self.windows += usize::from(self.last.is_some());
        self.last = Some(sample);
    }

    /// What a daemon said of itself at the last sample.
    pub fn daemon(&mut self, status: Status) {
        let at_s = self.at_s();
        for track in self.tracks.values_mut() {
            if let Some(nic) = status.nics.iter().find(|nic| nic.name == track.name) {
                track.hear(nic, at_s);
            }
        }
        self.daemon = Some(status);
    }

    /// What was planned is about to be done: the reasons of the steps.
    pub fn planned(&mut self, plan: &Plan) {
        for step in &plan.steps {
            let key = (plan.nic.clone(), step.change.target.clone());
            self.planned.insert(key, (step.change.to.clone(), step.reason.clone()));
        }
    }

    /// Something was done by whoever makes the report.
    pub fn done(&mut self, text: String) {
        let at_s = Some(self.at_s());
        self.done.push(Said { at_s, text });
    }

    /// Time since the first sample.
    #[must_use]
    pub fn at_s(&self) -> f64 {
        match (self.began_ns, &self.last) {
            (Some(began_ns), Some(last)) => Clock { began_ns }.at(last),
            _ => 0.0,
        }
    }

    /// The end. `None` where there is no whole window of any NIC.
    #[must_use]
    pub fn page(self, source: String, header: Header, status_of: StatusOf<'_>) -> Option<Page> {
        let length_s = self.at_s();
        let clock = Clock { began_ns: self.began_ns? };
        let last = self.last?;
        let tracks = self.tracks.into_values();
        let chapters: Vec<Chapter> =
            tracks.filter_map(|track| track.chapter(clock, status_of)).collect();
        let daemon = self.daemon;
        let is_here = |nic: &NicStatus| chapters.iter().any(|chapter| chapter.nic.name == nic.name);
        let heard = daemon.as_ref().is_some_and(|status| status.nics.iter().any(is_here));
        (!chapters.is_empty()).then(|| Page {
            source,
            topology: last.topology.clone(),
            length_s,
            windows: self.windows,
            done: self.done,
            daemon: heard,
            listeners: daemon.as_ref().map(|status| status.listeners.clone()).unwrap_or_default(),
            connects: daemon.as_ref().map(|status| status.connects.clone()).unwrap_or_default(),
            neighbours: match daemon {
                Some(status) => status.neighbours,
                None => crate::report::neighbours::sentences(
                    &header.facts.neighbours,
                    "runs and moves interrupts",
                ),
            },
            header,
            missing: self.missing.into_iter().collect(),
            flow_sampling: self.flow_sampling,
            chapters,
        })
    }
}

#[derive(Clone, Copy)]
struct Clock {
    began_ns: u64,
}

impl Clock {
    fn at(self, sample: &Sample) -> f64 {
        sample.at_ns.saturating_sub(self.began_ns) as f64 / 1e9
    }
}

/// One NIC while the story is told.
#[derive(Debug)]
struct Track {
    name: String,
    ifindex: u32,
    original: Settings,
    settings: Settings,
    first: Arc<Sample>,
    last: Arc<Sample>,
    /// The last sample before the first change.
    before_end: Arc<Sample>,
    /// The first samples after the first and after the last change.
    changed: Option<(Arc<Sample>, Arc<Sample>)>,
    /// The last sample with other settings than at first.
    after_end: Option<Arc<Sample>>,
    put_back: Option<Arc<Sample>>,
    spans: Vec<Span>,
    course: Vec<Point>,
    /// Windows that one point has in it.
    per_point: usize,
    waiting: usize,
    moves: Vec<Move>,
    further_moves: usize,
    history: Vec<String>,
    heard: bool,
    said: Vec<Said>,
    state: Option<(NicState, Option<String>)>,
}

impl Track {
    fn begin(sample: &Arc<Sample>, nic: &NicSample) -> Self {
        let settings = Settings::of(&nic.nic);
        Self {
            name: nic.nic.name.clone(),
            ifindex: nic.nic.ifindex,
            original: settings.clone(),
            settings,
            first: Arc::clone(sample),
            last: Arc::clone(sample),
            before_end: Arc::clone(sample),
            changed: None,
            after_end: None,
            put_back: None,
            spans: Vec::new(),
            course: Vec::new(),
            per_point: 1,
            waiting: 0,
            moves: Vec::new(),
            further_moves: 0,
            history: Vec::new(),
            heard: false,
            said: Vec::new(),
            state: None,
        }
    }

    fn window(&mut self, sample: &Arc<Sample>, nic: &NicSample, clock: Clock, planned: &Planned) {
        let span = Span { from_s: clock.at(&self.last), to_s: clock.at(sample) };
        let none = NicCounters::default();
        let earlier = Arc::clone(&self.last);
        let before = counters(&earlier, self.ifindex).unwrap_or(&none);
        self.course_on(span, before, &nic.counters);
        self.name.clone_from(&nic.nic.name);
        let now = Settings::of(&nic.nic);
        if now != self.settings {
            // What led to it is what was seen since settings were last changed.
            let since = self.changed.as_ref().map_or(&self.first, |(_, last)| last);
            let world = crate::model::World::between(since, &self.last, since.at_ns);
            let seen = world.nics.iter().find(|seen| seen.nic.ifindex == self.ifindex);
            for mut change in self.settings.changes(&now, span.to_s) {
                if self.moves.len() >= MOST_MOVES {
                    self.further_moves += 1;
                    continue;
                }
                let key = (self.name.clone(), change.target.clone());
                let planned = planned.get(&key).filter(|(value, _)| now.is_set(&key.1, value));
                change.why = match planned {
                    Some((_, reason)) => reason.clone(),
                    None => seen
                        .map_or_else(String::new, |seen| why(&change, &self.settings, &now, seen)),
                };
                self.moves.push(change);
            }
            if self.spans.len() < MOST_CHANGED {
                self.spans.push(span);
            }
            self.settings = now;
            if self.settings == self.original {
                self.put_back = Some(Arc::clone(sample));
            } else {
                // Of what was put back and changed again, the last time counts.
                let began = self.changed.take().filter(|_| self.put_back.is_none());
                let began = began.map_or_else(|| Arc::clone(sample), |(first, _)| first);
                self.changed = Some((began, Arc::clone(sample)));
                self.put_back = None;
            }
        }
        if self.changed.is_none() {
            self.before_end = Arc::clone(sample);
        }
        if self.settings != self.original {
            self.after_end = Some(Arc::clone(sample));
        }
        self.last = Arc::clone(sample);
    }

    fn course_on(&mut self, span: Span, before: &NicCounters, now: &NicCounters) {
        let by_napi = now.consumed_by_napi.since(&before.consumed_by_napi);
        let point = Point {
            span,
            consumed: by_napi.total(),
            aligned: (0..by_napi.rows()).map(|cpu| by_napi.get(cpu, cpu)).sum(),
            packets: now.queue_packets.since(&before.queue_packets).total(),
        };
        match self.course.last_mut() {
            Some(last) if self.waiting > 0 => {
                *last = last.and(&point);
                self.waiting -= 1;
            }
            _ => {
                self.course.push(point);
                self.waiting = self.per_point - 1;
            }
        }
        if self.course.len() > MOST_POINTS {
            let pairs = self.course.chunks(2);
            let merge = |pair: &[Point]| pair.iter().copied().reduce(|one, other| one.and(&other));
            self.course = pairs.filter_map(merge).collect();
            self.per_point *= 2;
            self.waiting = 0;
        }
    }

    /// Lines of history that are new. The daemon remembers a few; what is new is what follows the longest
    /// end of the old that the new begins with.
    fn hear(&mut self, nic: &NicStatus, at_s: f64) {
        let old = std::mem::replace(&mut self.history, nic.history.clone());
        let kept = (0..=old.len()).find(|from| nic.history.starts_with(&old[*from..]));
        let known = old.len() - kept.unwrap_or(old.len());
        let at_s = self.heard.then_some(at_s);
        for line in nic.history.iter().skip(known) {
            if self.said.len() < MOST_SAID {
                self.said.push(Said { at_s, text: line.clone() });
            }
        }
        self.heard = true;
        self.state = Some((nic.state, nic.reason.clone()));
    }

    fn chapter(self, clock: Clock, status_of: StatusOf<'_>) -> Option<Chapter> {
        let phase = |first: &Sample, last: &Sample| {
            let name = |sample: &Sample| {
                let found = sample.nics.iter().find(|nic| nic.nic.ifindex == self.ifindex);
                found.map(|nic| nic.nic.name.clone())
            };
            let name = name(last)?;
            let whole = last.at_ns > first.at_ns;
            let status = whole.then(|| status_of(first, last))?;
            let interrupts = first.interrupts.as_ref().zip(last.interrupts.as_ref());
            let interrupts = interrupts.map(|(then, now)| {
                let mut since = now.since(then);
                since.rows.retain(|row| row.ifindex.is_none_or(|of| of == self.ifindex));
                since
            });
            Some(Phase {
                span: Span { from_s: clock.at(first), to_s: clock.at(last) },
                status: status.nics.into_iter().find(|nic| nic.name == name)?,
                interrupts,
                softirq: softirq(first, last),
            })
        };
        let before = phase(&self.first, &self.before_end);
        let after =
            self.changed.as_ref().zip(self.after_end.as_ref()).and_then(|(changed, end)| {
                let (first, last) = changed;
                let whole = end.at_ns.saturating_sub(first.at_ns) as f64;
                let quiet = end.at_ns.saturating_sub(last.at_ns) as f64;
                let from = if quiet >= QUIET_SHARE * whole && quiet > 0.0 { last } else { first };
                phase(from, end)
            });
        // A change in the very first window leaves nothing before it.
        let (before, after) = match (before, after) {
            (Some(before), after) => (before, after),
            (None, Some(after)) => (after, None),
            (None, None) => (phase(&self.first, &self.last)?, None),
        };
        let nic = self.last.nics.iter().find(|nic| nic.nic.ifindex == self.ifindex)?;
        Some(Chapter {
            nic: nic.nic.clone(),
            before,
            after,
            changed: self.spans,
            put_back_s: self.put_back.map(|sample| clock.at(&sample)),
            course: self.course,
            moves: self.moves,
            further_moves: self.further_moves,
            said: self.said,
            state: self.state,
        })
    }
}

impl Point {
    fn and(&self, other: &Self) -> Self {
        Self {
            span: Span { from_s: self.span.from_s, to_s: other.span.to_s },
            consumed: self.consumed + other.consumed,
            aligned: self.aligned + other.aligned,
            packets: self.packets + other.packets,
        }
    }
}

fn counters(sample: &Sample, ifindex: u32) -> Option<&NicCounters> {
    sample.nics.iter().find(|nic| nic.nic.ifindex == ifindex).map(|nic| &nic.counters)
}

fn softirq(first: &Sample, last: &Sample) -> Vec<(CpuId, f64)> {
    let window_ns = last.at_ns.saturating_sub(first.at_ns).max(1) as f64;
    let before = first.softirq_ns.iter().flatten().copied().collect::<BTreeMap<_, _>>();
    let share = |(cpu, now): &(CpuId, u64)| {
        let then = before.get(cpu)?;
        Some((*cpu, now.saturating_sub(*then) as f64 / window_ns))
    };
    last.softirq_ns.iter().flatten().filter_map(share).collect()
}

impl Page {
    /// The number of CPUs, sockets and nodes in words; what is unknown is left out.
    pub(super) fn cpus(topology: &Topology) -> String {
        let distinct = |values: Vec<Option<u32>>| {
            let known: Option<BTreeSet<u32>> = values.into_iter().collect();
            known.map(|known| known.len()).filter(|count| *count > 0)
        };
        let cpus = &topology.cpus;
        let mut text = format!("{} CPUs", cpus.len());
        if let Some(packages) = distinct(cpus.iter().map(|cpu| cpu.package).collect()) {
            let word = if packages == 1 { "socket" } else { "sockets" };
            text += &format!(", {packages} {word}");
        }
        if let Some(nodes) = distinct(cpus.iter().map(|cpu| cpu.node).collect()) {
            let word = if nodes == 1 { "node" } else { "nodes" };
            text += &format!(", {nodes} NUMA {word}");
        }
        text
    }
}
