//! The policies that are compared.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::policy::Policy;

/// What is done about table and interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mover {
    Static,
    Irqbalance,
    RssPlusPlus,
    Rfs,
    NaiveW,
    Steer,
    SteerAbs,
}

/// What is done about table and interrupts, and whether accept steering is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficPolicy {
    pub(super) mover: Mover,
    pub(super) accept: bool,
}

impl TrafficPolicy {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 11] = {
        const fn plain(mover: Mover) -> TrafficPolicy {
            TrafficPolicy { mover, accept: false }
        }
        const fn accept(mover: Mover) -> TrafficPolicy {
            TrafficPolicy { mover, accept: true }
        }
        [
            plain(Mover::Static),
            plain(Mover::Irqbalance),
            plain(Mover::RssPlusPlus),
            plain(Mover::Rfs),
            plain(Mover::NaiveW),
            plain(Mover::Steer),
            plain(Mover::SteerAbs),
            accept(Mover::Static),
            accept(Mover::RssPlusPlus),
            accept(Mover::Steer),
            accept(Mover::SteerAbs),
        ]
    };

    /// Its name on screen and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.mover, self.accept) {
            (Mover::Static, false) => "static",
            (Mover::Static, true) => "accept+static",
            (Mover::Irqbalance, _) => "irqbalance-like",
            (Mover::RssPlusPlus, false) => "RSS++-like",
            (Mover::RssPlusPlus, true) => "accept+RSS++",
            (Mover::Rfs, _) => "RFS ideal",
            (Mover::NaiveW, _) => "naive W",
            (Mover::Steer, false) => "steer",
            (Mover::Steer, true) => "accept+steer",
            (Mover::SteerAbs, false) => "steer/abs",
            (Mover::SteerAbs, true) => "accept+steer/abs",
        }
    }

    /// The policy of this name; case does not matter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    /// The planner's policy, made from `base`: the tables are for a slack of 0.15, with and without
    /// the cap in softirq time.
    pub(super) fn planner(self, base: &Policy) -> Policy {
        let softirq_cap = match self.mover {
            Mover::SteerAbs => base.softirq_cap,
            _ => 0.0,
        };
        Policy { softirq_cap, load_slack: 0.15, ..base.clone() }
    }
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TrafficPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for policy in TrafficPolicy::ALL {
            assert_eq!(TrafficPolicy::named(&policy.name().to_lowercase()), Some(policy));
        }
        assert_eq!(TrafficPolicy::named("magic"), None);
    }
}
