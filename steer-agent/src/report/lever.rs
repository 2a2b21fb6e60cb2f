//! The part of the status document about the levers: which are used, which could be, and why others
//! are not. What each could reach is in `levers`.

use serde::{Deserialize, Serialize};

use super::accept::ListenerReport;
use super::connect::{ConnectState, ConnectStatus};
use super::status::{NicState, Source};
use crate::model::{Nic, Queue, why_no_rules};
use crate::policy::Policy;

/// A way to make packets and consumers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Lever {
    /// The RSS indirection table.
    Table,
    /// The affinity of the queues' interrupts.
    Irq,
    /// Transmit queues that follow.
    Xps,
    /// Exact-match rules for single flows.
    Pins,
    /// New connections come to the worker of the CPU where they arrive.
    Accept,
    /// Replies come to the CPU that connected.
    Connect,
}

impl Lever {
    /// The name in JSON and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Irq => "IRQs",
            Self::Xps => "XPS",
            Self::Pins => "pins",
            Self::Accept => "accept",
            Self::Connect => "connect",
        }
    }
}

/// Whether a lever is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LeverState {
    /// A daemon uses it.
    On,
    /// It would be used by a daemon that may write now.
    Ready,
    /// It was used, and steer stands down: somebody else writes.
    Held,
    /// It was not asked for, or is switched off.
    Off,
    /// The NIC, its driver or the kernel does not let it be used.
    Cannot,
}

impl LeverState {
    /// The name in JSON and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Ready => "ready",
            Self::Held => "held",
            Self::Off => "off",
            Self::Cannot => "cannot",
        }
    }
}

/// A lever, whether it is used, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeverReport {
    /// Which.
    pub lever: Lever,
    /// Whether it is used.
    pub state: LeverState,
    /// Why it is not, or what would switch it on; null where it is used or ready.
    pub reason: Option<String>,
}

/// The levers that work on one NIC.
#[must_use]
pub fn of_nic(nic: &Nic, policy: &Policy, state: NicState) -> Vec<LeverReport> {
    let usable = match state {
        NicState::Steering => LeverState::On,
        NicState::Contested => LeverState::Held,
        _ => LeverState::Ready,
    };
    let report = |lever, why_not: Option<(LeverState, String)>| {
        let (state, reason) = match why_not {
            // Nothing can be done with a NIC that has nothing to steer.
            None if state == NicState::Unsteerable => (LeverState::Cannot, None),
            None => (usable, None),
            Some((state, reason)) => (state, Some(reason)),
        };
        LeverReport { lever, state, reason }
    };
    // What leads packets to a queue leads them to no CPU then.
    let threads = nic.polled_by_threads().map(|_| {
        cannot("kernel threads poll the queues, wherever the scheduler puts them (threaded NAPI)")
    });
    vec![
        report(Lever::Table, threads.clone().or_else(|| why_not_table(nic, policy, state))),
        report(Lever::Irq, threads.clone().or_else(|| why_not_irqs(nic, policy))),
        report(Lever::Xps, threads.clone().or_else(|| why_not_xps(nic, policy))),
        report(Lever::Pins, threads.or_else(|| why_not_pins(nic, policy))),
    ]
}

type WhyNot = Option<(LeverState, String)>;

fn off(why: &str) -> (LeverState, String) {
    (LeverState::Off, why.to_owned())
}

fn cannot(why: impl Into<String>) -> (LeverState, String) {
    (LeverState::Cannot, why.into())
}

fn why_not_table(nic: &Nic, policy: &Policy, state: NicState) -> WhyNot {
    if nic.rss.is_none() {
        return Some(cannot("the driver has no indirection table"));
    }
    if let Some(refusal) = policy.table_refusal(nic) {
        return Some((LeverState::Off, refusal.to_string()));
    }
    if !policy.move_table {
        return Some(off("`policy.move_table` is false"));
    }
    match state {
        NicState::Unverified => Some(cannot("it does not decide the queue")),
        _ => None,
    }
}

fn why_not_irqs(nic: &Nic, policy: &Policy) -> WhyNot {
    if !nic.queues.iter().any(Queue::is_movable) {
        return Some(cannot("no interrupt of a queue is known and may be moved"));
    }
    if policy.move_irqs {
        None
    } else {
        Some(off("they are left to irqbalance or `policy.move_irqs`"))
    }
}

fn why_not_xps(nic: &Nic, policy: &Policy) -> WhyNot {
    if !nic.queues.iter().any(|queue| queue.xps.is_some()) {
        return Some(cannot("it has no XPS"));
    }
    if policy.set_xps { None } else { Some(off("`policy.set_xps` is false")) }
}

fn why_not_pins(nic: &Nic, policy: &Policy) -> WhyNot {
    match why_no_rules(nic, 0) {
        Some(why) => Some(cannot(why)),
        None if policy.pins == 0 => Some(off("`--pins N` or `policy.pins` allows them")),
        None => None,
    }
}

/// The levers that work on the whole host.
#[must_use]
pub fn of_host(
    source: Source,
    listeners: &[ListenerReport],
    connects: &[ConnectStatus],
) -> Vec<LeverReport> {
    let report = |lever, (state, reason)| LeverReport { lever, state, reason };
    if source == Source::Own {
        // Who steers them is another process, if anybody.
        let none = |how: &str| (LeverState::Off, Some(format!("no daemon was asked; {how}")));
        return vec![
            report(Lever::Accept, none("`steer run NIC --accept PORT`")),
            report(Lever::Connect, none("`steer run NIC --connect CGROUP`")),
        ];
    }
    vec![report(Lever::Accept, accept(listeners)), report(Lever::Connect, connect(connects))]
}

fn accept(listeners: &[ListenerReport]) -> (LeverState, Option<String>) {
    if listeners.iter().any(|listener| listener.mechanism.is_some()) {
        return (LeverState::On, None);
    }
    match listeners.first() {
        None => (LeverState::Off, Some("`--accept PORT` or `run.accept` asks for it".to_owned())),
        Some(listener) => {
            let why = listener.reason.as_deref().unwrap_or("no listener can be steered");
            (LeverState::Cannot, Some(format!("{}: {why}", listener.listen)))
        }
    }
}

fn connect(connects: &[ConnectStatus]) -> (LeverState, Option<String>) {
    if connects.iter().any(|connect| connect.state == ConnectState::Steering) {
        return (LeverState::On, None);
    }
    match connects.first() {
        None => (LeverState::Off, Some("`--connect CGROUP` asks for it".to_owned())),
        Some(ConnectStatus { cgroup, state, reason, .. }) => {
            let blocked = matches!(state, ConnectState::Absent | ConnectState::Impossible);
            let kind = if blocked { LeverState::Cannot } else { LeverState::Ready };
            (kind, Some(format!("{cgroup}: {}: {reason}", state.name())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testkit::crossed_sample;

    fn nic() -> Nic {
        crossed_sample(1).nics.remove(0).nic
    }

    fn states(nic: &Nic, policy: &Policy, state: NicState) -> Vec<(&'static str, &'static str)> {
        let levers = of_nic(nic, policy, state);
        levers.iter().map(|one| (one.lever.name(), one.state.name())).collect()
    }

    #[test]
    fn what_the_nic_lacks_is_told_from_what_is_switched_off() {
        let policy = Policy::default();
        let usual = [("table", "on"), ("IRQs", "on"), ("XPS", "on"), ("pins", "cannot")];
        assert_eq!(states(&nic(), &policy, NicState::Steering), usual);
        let looked_at = [("table", "ready"), ("IRQs", "ready"), ("XPS", "ready")];
        assert_eq!(states(&nic(), &policy, NicState::Observing)[..3], looked_at);
        assert_eq!(states(&nic(), &policy, NicState::Unverified)[0], ("table", "cannot"));
        assert_eq!(states(&nic(), &policy, NicState::Contested)[1], ("IRQs", "held"));
        let mut bare = nic();
        bare.rss = None;
        for queue in &mut bare.queues {
            (queue.managed, queue.xps) = (true, None);
        }
        let nothing = [("table", "cannot"), ("IRQs", "cannot"), ("XPS", "cannot")];
        assert_eq!(states(&bare, &policy, NicState::Steering)[..3], nothing);
        let threaded = Nic { threaded_napi: Some(true), ..nic() };
        assert_eq!(states(&threaded, &policy, NicState::Observing)[..3], nothing);
        let unwanted =
            Policy { move_table: false, move_irqs: false, set_xps: false, ..Policy::default() };
        let off = [("table", "off"), ("IRQs", "off"), ("XPS", "off")];
        assert_eq!(states(&nic(), &unwanted, NicState::Steering)[..3], off);
    }

    #[test]
    fn each_that_is_not_used_says_why_or_is_ready() {
        let mut bnxt = nic();
        bnxt.driver = Some("bnxt_en".to_owned());
        for state in [NicState::Steering, NicState::Observing, NicState::Unverified] {
            for lever in of_nic(&bnxt, &Policy::default(), state) {
                let used = matches!(lever.state, LeverState::On | LeverState::Ready);
                assert_eq!(lever.reason.is_none(), used, "{lever:?}");
            }
        }
        for source in [Source::Daemon, Source::Own] {
            let host = of_host(source, &[], &[]);
            assert!(host.iter().all(|one| one.state == LeverState::Off && one.reason.is_some()));
        }
    }
}
