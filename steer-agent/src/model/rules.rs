//! Exact-match rules of a NIC ("ntuple", Flow Director): one flow to one RX queue, whatever the
//! indirection table says.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{FlowAddr, Nic, QueueId};

/// Fewest rules worth the trouble: below that the table does nearly as well (docs/planner.md).
pub const FEWEST_RULES: usize = 64;

/// IP protocol numbers that a rule can name.
const TCP_AND_UDP: [u8; 2] = [6, 17];

/// One flow, and the queue that its packets go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rule {
    /// The flow, in canonical form: see [`Rule::new`].
    pub flow: FlowAddr,
    /// The RX queue.
    pub queue: QueueId,
}

/// What is found at a location of the rule table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RuleContent {
    /// Nothing.
    Empty,
    /// A rule for one flow.
    Exact(Rule),
    /// A rule of another kind, such as one for a whole network or one that drops: never steer's.
    Other,
}

/// Where a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// At this number of the table.
    At(u32),
    /// Wherever the driver put it: some take no number (`RX_CLS_LOC_ANY`; bnxt refuses all else,
    /// `bnxt_srxclsrlins`, 6.8), so that only the flow tells which rule it is.
    Any(FlowAddr),
}

/// A NIC's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTable {
    /// How many fit. Of rules that match one packet the one with the lowest number wins.
    pub size: u32,
    /// The driver chooses the number of a new rule (`RX_CLS_LOC_SPECIAL`).
    pub driver_numbers: bool,
    /// What is there, by number; `None` is a rule of another kind.
    pub rules: BTreeMap<u32, Option<Rule>>,
}

impl Rule {
    /// A rule in canonical form: IPv4 as such and not mapped, without scope and flow label, which no
    /// rule can name.
    #[must_use]
    pub fn new(flow: FlowAddr, queue: QueueId) -> Self {
        Self { flow: canonical(flow), queue }
    }
}

/// `flow` as a rule names it.
#[must_use]
pub fn canonical(flow: FlowAddr) -> FlowAddr {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    FlowAddr { protocol: flow.protocol, local: plain(flow.local), remote: plain(flow.remote) }
}

/// Whether a rule can name `flow`: TCP or UDP, both ends of one family and with a port (a fragment
/// has none), and neither address a wildcard.
#[must_use]
pub fn can_be_ruled(flow: &FlowAddr) -> bool {
    let FlowAddr { protocol, local, remote } = canonical(*flow);
    let family = |address: IpAddr| address.is_ipv4();
    TCP_AND_UDP.contains(&protocol)
        && family(local.ip()) == family(remote.ip())
        && local.port() > 0
        && remote.port() > 0
        && !local.ip().is_unspecified()
        && !remote.ip().is_unspecified()
}

impl RuleContent {
    /// The rule, if it is one for a flow.
    #[must_use]
    pub fn exact(self) -> Option<Rule> {
        match self {
            Self::Exact(rule) => Some(rule),
            Self::Empty | Self::Other => None,
        }
    }
}

impl RuleTable {
    /// What is at `location`.
    #[must_use]
    pub fn at(&self, location: u32) -> RuleContent {
        match self.rules.get(&location) {
            None => RuleContent::Empty,
            Some(Some(rule)) => RuleContent::Exact(*rule),
            Some(None) => RuleContent::Other,
        }
    }

    /// The rule for `flow`, with its number; the lowest where there are several.
    #[must_use]
    pub fn of(&self, flow: &FlowAddr) -> Option<(u32, Rule)> {
        let mut exact = self.rules.iter().filter_map(|(at, rule)| Some((*at, (*rule)?)));
        exact.find(|(_, rule)| rule.flow == *flow)
    }

    /// How many more fit.
    #[must_use]
    pub fn free(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX).saturating_sub(self.rules.len())
    }

    /// Numbers that are free, highest first: what stands there overrules nobody else's rule. It is
    /// also the order in which ethtool(8) fills the table.
    pub fn free_numbers(&self) -> impl Iterator<Item = u32> {
        (0..self.size).rev().filter(|at| !self.rules.contains_key(at))
    }
}

/// Why no rules can be set on `nic`, as a sentence; `None` if they can. `own` is how many of those
/// that are there are steer's.
#[must_use]
pub fn why_no_rules(nic: &Nic, own: usize) -> Option<String> {
    let name = &nic.name;
    match nic.features.get("rx-ntuple-filter") {
        None => return Some(format!("the driver of {name} has no exact-match rules")),
        Some(false) => {
            return Some(format!(
                "exact-match rules are switched off on {name}: `ethtool -K {name} ntuple on` \
                 switches them on, which resets some NICs; steer never does it"
            ));
        }
        Some(true) => {}
    }
    let Some(table) = &nic.rules else {
        return Some(format!("the driver of {name} does not list its exact-match rules"));
    };
    let room = table.free() + own;
    (room < FEWEST_RULES).then(|| {
        format!(
            "the rule table of {name} has room for {room} rules, and fewer than {FEWEST_RULES} \
             are not worth it"
        )
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to queue {}", Flow(&self.flow), self.queue)
    }
}

impl fmt::Display for RuleContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no rule"),
            Self::Exact(rule) => rule.fmt(f),
            Self::Other => f.write_str("a rule of another kind"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(location) => write!(f, "rule {location}"),
            Self::Any(flow) => write!(f, "rule for {}", Flow(flow)),
        }
    }
}

/// A flow for the reader.
struct Flow<'a>(&'a FlowAddr);

impl fmt::Display for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowAddr { protocol, local, remote } = self.0;
        match protocol {
            6 => f.write_str("tcp")?,
            17 => f.write_str("udp")?,
            other => write!(f, "protocol {other}")?,
        }
        write!(f, " {local} <- {remote}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(local: &str, remote: &str) -> FlowAddr {
        let end = |text: &str| text.parse().expect("an address");
        FlowAddr { protocol: 6, local: end(local), remote: end(remote) }
    }

    #[test]
    fn rules_name_flows_in_one_form() {
        let plain = flow("10.0.0.1:80", "10.0.0.2:4000");
        let mapped = flow("[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.2]:4000");
        assert_eq!(Rule::new(mapped, 3), Rule::new(plain, 3));
        let scoped = flow("[fe80::1%4]:80", "[fe80::2%4]:4000");
        assert_eq!(canonical(scoped), flow("[fe80::1]:80", "[fe80::2]:4000"));
        assert_eq!(Rule::new(plain, 3).to_string(), "tcp 10.0.0.1:80 <- 10.0.0.2:4000 to queue 3");
    }

    #[test]
    fn not_every_flow_can_be_ruled() {
        assert!(can_be_ruled(&flow("10.0.0.1:80", "10.0.0.2:4000")));
        assert!(can_be_ruled(&flow("[2001:db8::1]:80", "[2001:db8::2]:4000")));
        assert!(!can_be_ruled(&flow("10.0.0.1:80", "10.0.0.2:0")), "a fragment");
        assert!(!can_be_ruled(&flow("0.0.0.0:80", "10.0.0.2:4000")), "a wildcard");
        assert!(!can_be_ruled(&flow("10.0.0.1:80", "[2001:db8::2]:4000")), "two families");
        let icmp = FlowAddr { protocol: 1, ..flow("10.0.0.1:80", "10.0.0.2:4000") };
        assert!(!can_be_ruled(&icmp));
    }

    #[test]
    fn free_numbers_come_from_the_top() {
        let rules = [(3, None), (1, None)].into();
        let table = RuleTable { size: 5, driver_numbers: false, rules };
        assert_eq!(table.free_numbers().collect::<Vec<_>>(), [4, 2, 0]);
        assert_eq!(
            (table.free(), table.at(3), table.at(4)),
            (3, RuleContent::Other, RuleContent::Empty)
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut nic = Nic { name: "eth0".to_owned(), ..Nic::default() };
        let why = |nic: &Nic| why_no_rules(nic, 0).unwrap_or_default();
        assert!(why(&nic).contains("has no exact-match rules"));
        nic.features.insert("rx-ntuple-filter".to_owned(), false);
        assert!(why(&nic).contains("ethtool -K eth0 ntuple on"));
        nic.features.insert("rx-ntuple-filter".to_owned(), true);
        assert!(why(&nic).contains("does not list"));
        nic.rules = Some(RuleTable { size: 63, ..RuleTable::default() });
        assert!(why(&nic).contains("room for 63 rules"));
        assert_eq!(why_no_rules(&nic, 1), None);
    }
}
