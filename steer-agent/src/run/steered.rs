//! One NIC that may be written: its ownership, its journal, and what is done to it window by window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

mod correct;
mod ends;
mod judge;

pub use ends::complaints;
pub use judge::LASTING;
use judge::Waiting;

use super::holding::Holding;
use super::terms::unix_time_s;
use crate::apply::{self, Contest, Journal};
use crate::model::{Event, MappingVerdict, Neighbours, Nic, NicWorld, Topology, World, events};
use crate::plan::{self, Experience, Host, Levers, Plan, Workspace};
use crate::policy::Policy;
use crate::report::lever;
use crate::report::neighbours::suspects;
use crate::report::{EventReport, NicState, NicStatus, PlannerReport, Source, Tally, next};
use crate::sys::owner::Owner;
use crate::sys::{DeviceId, Port};

/// Lines of history that `status` shows.
const HISTORY: usize = 8;
/// Share of a period for which a plan is improved at most. Far from usual (below 14 ms of a second with 16 CPUs
/// and 790 flows, on a core of an AMD EPYC): it is for a slow core or a short period, where a plan that is a
/// little better is not worth a period that is missed.
const PLANNING: f64 = 0.2;
/// Windows of rest after harm was taken back; doubled with every further time, up to 64-fold.
const REST: u32 = 60;
/// Windows after an event in which drivers may still set things anew: links take two or three seconds
/// to come up.
const WAKE: u32 = 5;

/// What a window is acted on with.
#[derive(Clone, Copy)]
pub struct Hand<'a> {
    /// The door to the hardware.
    pub port: &'a dyn Port,
    /// Thresholds of the planner.
    pub policy: &'a Policy,
    /// Who else may write.
    pub neighbours: &'a Neighbours,
    /// Why nothing may be written now, if so: it is outside the maintenance window.
    pub shut: Option<&'a str>,
    /// Tells the operator.
    pub say: &'a dyn Fn(&str),
}

/// One NIC that may be written.
#[derive(Debug)]
pub struct Steered {
    name: String,
    ifindex: u32,
    holding: Holding,
    /// How things were at the last look.
    last: Option<(Nic, Topology)>,
    /// Windows for which an event still explains values that changed.
    wake: u32,
    _owner: Option<Owner>,
    journal: Journal,
    dry_run: bool,
    state: NicState,
    reason: Option<String>,
    history: VecDeque<EventReport>,
    /// The last write of a plan.
    last_change: Option<EventReport>,
    waiting: Option<Waiting>,
    just_written: bool,
    /// The next window has both old and new settings in it and is not to be judged by.
    settling: bool,
    experience: Experience,
    /// Memory of the planner.
    workspace: Workspace,
    /// How long a plan may be improved; without an end if none.
    planning: Option<Duration>,
    /// Share that the last plan that was written expected, and the one that followed.
    expected: Option<(f64, Option<f64>)>,
    tally: Tally,
    levers: Option<Levers>,
    rest: u32,
    harms: u32,
    last_said: Option<Plan>,
    /// Changes that were to be taken back, and could not be.
    left_behind: usize,
}

impl Steered {
    /// Name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index of the interface, which a rename leaves as it is.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The device behind it.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.journal.record().device
    }

    /// Whether the last window ended with a write.
    #[must_use]
    pub fn has_just_written(&self) -> bool {
        self.just_written
    }

    /// Whether a change is still to be judged.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether a change that waits looks as if it did harm, which the next window is to tell.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.suspect > 0)
    }

    /// Whether something is neither as it was nor as it was to be, until `restore`.
    #[must_use]
    pub fn has_left_something(&self) -> bool {
        self.left_behind > 0
    }

    /// State and its reason.
    #[must_use]
    pub fn state(&self) -> (NicState, Option<&str>) {
        (self.state, self.reason.as_deref())
    }

    /// The part of the status document for this NIC.
    #[must_use]
    pub fn status(&self, world: &World, nic: &NicWorld, plan: &Plan, policy: &Policy) -> NicStatus {
        let mut status = NicStatus::new(world, nic, plan, self.state, self.reason.clone());
        status.history = self.history.iter().map(|event| event.what.clone()).collect();
        status.events = self.history.iter().cloned().collect();
        status.last_change.clone_from(&self.last_change);
        status.planner = Some(PlannerReport::new(&self.experience, self.expected, self.tally));
        status.lever_states = lever::of_nic(&nic.nic, policy, self.state);
        status.next = next(nic, plan, &status, Source::Daemon);
        status
    }

    /// The plan for one window, by what was learned and with the exact-match rules that the journal
    /// holds.
    #[must_use]
    pub fn plan(&mut self, nic: &NicWorld, host: &Host<'_>, policy: &Policy) -> Plan {
        self.experience.observe_rules(&apply::own_rules(&self.journal), nic);
        // From the first question on: what comes before it is not what is cut short.
        let (most, mut begun) = (self.planning, None);
        let mut keep_going = || {
            let begun = begun.get_or_insert_with(Instant::now);
            most.is_none_or(|most| begun.elapsed() < most)
        };
        let mut plan = plan::plan_with(
            &mut self.workspace,
            nic,
            host,
            policy,
            &self.experience,
            &mut keep_going,
        );
        // They are worked out now and then, and shown always.
        match &plan.levers {
            Some(levers) => self.levers = Some(levers.clone()),
            None => plan.levers.clone_from(&self.levers),
        }
        plan
    }

    /// Lets plans be improved for at most a part of `period` from now on.
    pub fn plan_within(&mut self, period: Duration) {
        self.planning = Some(period.mul_f64(PLANNING));
    }

    /// Acts on one window: judges what was done, then corrects. Returns the plan that was made.
    pub fn tick(&mut self, nic: &NicWorld, host: &Host<'_>, hand: &Hand<'_>) -> Plan {
        self.just_written = false;
        self.notice(nic, host, hand);
        self.experience.observe(nic, host, hand.policy);
        let plan = self.plan(nic, host, hand.policy);
        if std::mem::take(&mut self.settling) {
            return plan;
        }
        if let Some((_, realised @ None)) = &mut self.expected {
            *realised = nic.alignment.share;
        }
        if !self.is_ours_to_write(nic, hand) {
            return plan;
        }
        self.judge(nic, host, hand);
        if self.rest > 0 {
            self.rest -= 1;
            return plan;
        }
        match nic.mapping.verdict() {
            MappingVerdict::Verified if self.just_written => {}
            MappingVerdict::Verified => self.correct(nic, host, &plan, hand),
            MappingVerdict::Unverified => {
                self.set(NicState::Unverified, &nic.unverified(), hand);
            }
            MappingVerdict::TooFewFlows => {
                if self.state != NicState::Steering {
                    self.state = NicState::Observing;
                }
                self.reason = plan.reasons.first().cloned();
            }
        }
        plan
    }

    /// Tells what happened to the NIC since the last look, and draws the consequences.
    fn notice(&mut self, nic: &NicWorld, host: &Host<'_>, hand: &Hand<'_>) {
        self.wake = self.wake.saturating_sub(1);
        let now = (nic.nic.clone(), host.topology.clone());
        let Some((old, cpus)) = self.last.replace(now) else { return };
        for event in events((&old, &cpus), (&nic.nic, host.topology)) {
            self.remember(&event.to_string(), hand);
            if let Event::Renamed(_, name) = &event {
                self.name.clone_from(name);
            }
            // A carrier that changes right after a write is the write's doing, to be judged as that.
            if event.may_lose_settings() {
                self.wake = WAKE;
                if !matches!(event, Event::Carrier(_)) {
                    self.waiting = None;
                }
            }
            if event.changes_queues()
                && let Err(error) =
                    self.holding.begin_anew(&self.name, &mut self.journal, hand.port)
            {
                self.rest = REST;
                self.set(NicState::Observing, &error.to_string(), hand);
            }
        }
    }

    /// Whether the NIC can be written now, and everything on it is as steer left it or lost.
    fn is_ours_to_write(&mut self, nic: &NicWorld, hand: &Hand<'_>) -> bool {
        if !nic.nic.up || nic.nic.carrier == Some(false) {
            let why = if nic.nic.up { "there is no carrier" } else { "the interface is down" };
            self.set(NicState::Observing, why, hand);
            // What it comes back with is not known before it is back.
            self.wake = WAKE;
            return false;
        }
        let found = self.holding.compare(&self.name, &self.journal, self.wake > 0, hand.port);
        if let Some(contest) = found.contested.first() {
            self.waiting = None;
            self.contested(contest, hand);
            return false;
        }
        if !found.lost.is_empty() {
            let lost: Vec<String> =
                found.lost.iter().map(|contest| contest.target.to_string()).collect();
            self.remember(
                &format!("set anew by the driver or the kernel: {}", lost.join(", ")),
                hand,
            );
            if let Err(error) = self.holding.concede(&found.lost, &mut self.journal) {
                self.rest = REST;
                self.set(NicState::Observing, &error.to_string(), hand);
                return false;
            }
        }
        if self.state == NicState::Contested {
            self.set(NicState::Observing, "everything is as steer left it again", hand);
        }
        true
    }

    /// Stands down: somebody else has set what steer has set.
    fn contested(&mut self, contest: &Contest, hand: &Hand<'_>) {
        let who = suspects(hand.neighbours, &contest.target);
        self.set(NicState::Contested, &format!("{contest}{who}; steer writes no more"), hand);
    }

    /// Enters a state, and says so if it or its reason is new.
    fn set(&mut self, state: NicState, reason: &str, hand: &Hand<'_>) {
        let changed = self.state != state;
        self.state = state;
        self.reason = Some(reason.to_owned());
        if changed || self.just_written {
            self.remember(&format!("{}: {reason}", state.name()), hand);
        }
    }

    fn remember(&mut self, line: &str, hand: &Hand<'_>) {
        (hand.say)(&format!("{}: {line}", self.name));
        let (at_unix_s, what) = (unix_time_s(), line.to_owned());
        self.note(EventReport { at_unix_s, what, why: None, wrote: false });
    }

    fn note(&mut self, event: EventReport) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(event);
    }
}

#[cfg(test)]
#[path = "steered/rule_tests.rs"]
mod rule_tests;
#[cfg(test)]
mod tests;
