//! The part of the status document about connect steering, a piece for each cgroup.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use steer_common::connect::Outcome;

use super::number::percent;
use crate::model::connect::{Outlook, Tally};

/// What is done with the connects of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ConnectState {
    /// The hash of the NIC is not confirmed yet; connections are left alone.
    Calibrating,
    /// They are steered.
    Steering,
    /// Too many replies came elsewhere; they are left alone for a while.
    Resting,
    /// Too many ports are in use; they are left alone until there are fewer.
    Crowded,
    /// There is no such cgroup (any more).
    Absent,
    /// This kernel cannot do it.
    Impossible,
}

impl ConnectState {
    /// The name in JSON and on screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calibrating => "calibrating",
            Self::Steering => "steering",
            Self::Resting => "resting",
            Self::Crowded => "crowded",
            Self::Absent => "absent",
            Self::Impossible => "impossible",
        }
    }
}

/// Connect steering in one cgroup. Counts are since it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectStatus {
    /// Directory of the cgroup.
    pub cgroup: String,
    /// What is done with its connects.
    pub state: ConnectState,
    /// Why.
    pub reason: String,
    /// Connections that were given their port.
    pub steered: u64,
    /// Of those whose replies were looked up: came to the bucket that was predicted.
    pub predicted: u64,
    /// Of those, came elsewhere.
    pub missed: u64,
    /// `predicted` over both; null where none was looked up.
    pub hit_rate: Option<f64>,
    /// Of the predicted, read on the CPU that polls their queue.
    pub aligned: u64,
    /// Connections that were left alone, by reason.
    pub left_alone: BTreeMap<String, u64>,
    /// What happened on the way to a port, by kind.
    pub events: BTreeMap<String, u64>,
    /// Ports that may be steered to and are in use, by whomever; null until first counted.
    pub ports_in_use: Option<usize>,
    /// Ports that may be steered to.
    pub ports: usize,
    /// Share of replies on the CPU that connects that chance gives; null without connections.
    pub achievable_without: Option<f64>,
    /// The same if every connection is steered.
    pub achievable_with: Option<f64>,
    /// Destinations, those that are left alone first; not all where there are many.
    pub destinations: Vec<DestinationReport>,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DestinationReport {
    /// Its address.
    pub remote: IpAddr,
    /// The address that connections to it leave from; null where they are left alone.
    pub local: Option<IpAddr>,
    /// Why they are.
    pub reason: Option<String>,
}

impl ConnectStatus {
    /// From the parts; `count` tells how often something became of a connection, `ports` how many are
    /// in use and how many there are.
    #[allow(clippy::too_many_arguments, reason = "a document has as many parts as it has")]
    #[must_use]
    pub fn new(
        cgroup: String,
        state: ConnectState,
        reason: String,
        count: impl Fn(Outcome) -> u64,
        tally: Tally,
        ports: (Option<usize>, usize),
        outlook: Option<Outlook>,
        destinations: Vec<DestinationReport>,
    ) -> Self {
        let named = |ends: bool| {
            let others = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Steered);
            let kind = others.filter(|outcome| outcome.is_end() == ends);
            kind.map(|outcome| (outcome.name().to_owned(), count(outcome))).collect()
        };
        Self {
            cgroup,
            state,
            reason,
            steered: count(Outcome::Steered),
            predicted: tally.hits,
            missed: tally.misses,
            hit_rate: tally.share(),
            aligned: tally.aligned,
            left_alone: named(true),
            events: named(false),
            ports_in_use: ports.0,
            ports: ports.1,
            achievable_without: outlook.map(|outlook| outlook.without),
            achievable_with: outlook.map(|outlook| outlook.with),
            destinations,
        }
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text =
            format!("connect {}  {}\n  {}\n", self.cgroup, self.state.name(), self.reason);
        let _ = writeln!(
            text,
            "  steered    {}; of {} replies looked up {} came as predicted, {} elsewhere ({})",
            self.steered,
            self.predicted + self.missed,
            self.predicted,
            self.missed,
            percent(self.hit_rate)
        );
        let words = |of: &BTreeMap<String, u64>| {
            let named = Outcome::ALL.into_iter().filter_map(|outcome| {
                let count = of.get(outcome.name()).filter(|count| **count > 0)?;
                Some(format!("{} {count}", outcome.words()))
            });
            named.collect::<Vec<_>>().join(", ")
        };
        for (what, counts) in [("left alone", &self.left_alone), ("events", &self.events)] {
            let words = words(counts);
            if !words.is_empty() {
                let _ = writeln!(text, "  {what:<10} {words}");
            }
        }
        let used = self.ports_in_use.map_or_else(|| "?".to_owned(), |ports| ports.to_string());
        let _ = writeln!(text, "  ports      {used} of {} in use", self.ports);
        let _ = writeln!(
            text,
            "  achievable {} of replies on the CPU that connects, {} without",
            percent(self.achievable_with),
            percent(self.achievable_without)
        );
        let left = self
            .destinations
            .iter()
            .filter_map(|destination| Some((destination.remote, destination.reason.as_ref()?)));
        for (remote, why) in left {
            let _ = writeln!(text, "  {remote} is left alone: {why}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tells_what_the_document_has() {
        let counts = |outcome| match outcome {
            Outcome::Steered => 1000,
            Outcome::Bound => 3,
            Outcome::InUse => 2,
            _ => 0,
        };
        let tally = Tally { hits: 199, aligned: 190, misses: 1 };
        let destinations = vec![DestinationReport {
            remote: "127.0.0.1".parse().expect("an address"),
            local: None,
            reason: Some("it is this host".to_owned()),
        }];
        let status = ConnectStatus::new(
            "/sys/fs/cgroup/lb".to_owned(),
            ConnectState::Steering,
            "replies come to the CPU that connects".to_owned(),
            counts,
            tally,
            (Some(120), 14116),
            Some(Outlook { without: 0.25, with: 1.0 }),
            destinations,
        );
        assert_eq!(
            status.text(),
            "connect /sys/fs/cgroup/lb  steering
  replies come to the CPU that connects
  steered    1000; of 200 replies looked up 199 came as predicted, 1 elsewhere (99.5 %)
  left alone port bound by the program 3
  events     ports passed over, in use to that destination 2
  ports      120 of 14116 in use
  achievable 100.0 % of replies on the CPU that connects, 25.0 % without
  127.0.0.1 is left alone: it is this host
"
        );
        let json = serde_json::to_value(&status).expect("JSON");
        assert_eq!((&json["left_alone"]["bound"], &json["state"]), (&3.into(), &"steering".into()));
        assert_eq!(json["left_alone"]["off"], 0, "every reason is there");
    }
}
