//! What decides the queue of packets beside the indirection table, told from the settings of a NIC.
//!
//! None of it is steered against: where it takes more than a hundredth of the traffic, the mapping is
//! not confirmed by samples and the table is left alone. This says why that may be so, and what to do.

use super::{Atr, Driver, Nic, NicWorld};

/// Something that decides the queue beside the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overrule {
    /// The driver puts flows on the queue that they are sent from (ATR).
    Atr {
        /// The command that switches it off, without the interface's name: `IF` stands there.
        off: String,
    },
    /// It may do so; its flag could not be read.
    AtrUnknown {
        /// The flag.
        flag: &'static str,
    },
    /// The stack puts flows on the queue of their consumer's CPU (aRFS).
    Arfs,
    /// Exact-match rules.
    Rules(u32),
    /// Additional RSS contexts, which rules send traffic to.
    Contexts(u32),
    /// The NIC shares its device with virtual functions.
    VirtualFunction,
}

impl Overrule {
    /// What it is, in a few words.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Atr { .. } => "ATR is on (Flow Director filled by the driver)".to_owned(),
            Self::AtrUnknown { flag } => {
                format!("ATR may be on (the private flag {flag} could not be read)")
            }
            Self::Arfs => "aRFS is on".to_owned(),
            Self::Rules(1) => "an exact-match rule".to_owned(),
            Self::Rules(count) => format!("{count} exact-match rules"),
            Self::Contexts(1) => "an additional RSS context".to_owned(),
            Self::Contexts(count) => format!("{count} additional RSS contexts"),
            Self::VirtualFunction => "it is a virtual function (SR-IOV)".to_owned(),
        }
    }

    /// What follows for the NIC `name`, and what to do.
    #[must_use]
    pub fn consequence(&self, name: &str) -> String {
        match self {
            Self::Atr { off } => format!(
                "TCP flows come to the queue that they are sent from, not to the table's: their queue \
                 follows the sender's CPU through XPS, and the mapping is likely to stay unverified; \
                 `{}` switches it off and may reset the device",
                off.replace("IF", name)
            ),
            Self::AtrUnknown { flag } => format!(
                "where it is, TCP flows come to the queue that they are sent from, and the mapping is \
                 likely to stay unverified; `ethtool --show-priv-flags {name}` shows {flag}"
            ),
            Self::Arfs => format!(
                "the stack moves flows to the queue of their consumer's CPU by itself, beside the table, \
                 and the mapping is likely to stay unverified; to steer instead, \
                 `ethtool -K {name} ntuple off`"
            ),
            Self::Rules(_) => format!(
                "what matches does not follow the table; steer leaves rules alone (`ethtool -n {name}` lists \
                 them), and where they take more than 1 % of the traffic the mapping is unverified"
            ),
            Self::Contexts(_) => format!(
                "traffic that rules send there does not follow the main table, and steer leaves it alone \
                 (`ethtool -x {name} context N` shows a context)"
            ),
            Self::VirtualFunction => {
                "the physical function may limit its queues, own its table or \
                 send its packets elsewhere; only live traffic tells"
                    .to_owned()
            }
        }
    }
}

/// What decides the queue of the packets of `nic` beside its table. `flow_entries` is
/// `net.core.rps_sock_flow_entries`: at zero there is no RFS; unknown counts as some.
#[must_use]
pub fn overrules(nic: &Nic, flow_entries: Option<u64>) -> Vec<Overrule> {
    let driver = Driver::of(nic.driver.as_deref().unwrap_or_default());
    let ntuple = nic.features.get("rx-ntuple-filter").copied();
    let mut found = Vec::new();
    // With one queue there is nothing to choose, with VFs ixgbe does without (ixgbe_set_features).
    let several = nic.queues.len() > 1;
    match driver.atr.filter(|_| several) {
        Some(Atr::UnlessNtuple)
            if ntuple == Some(false) && nic.virtual_functions.unwrap_or(0) == 0 =>
        {
            found.push(Overrule::Atr { off: "ethtool -K IF ntuple on".to_owned() });
        }
        Some(Atr::PrivateFlag(flag)) => match nic.private_flags.get(flag) {
            Some(true) => {
                found
                    .push(Overrule::Atr { off: format!("ethtool --set-priv-flags IF {flag} off") });
            }
            Some(false) => {}
            None => found.push(Overrule::AtrUnknown { flag }),
        },
        _ => {}
    }
    let prepared = nic.queues.iter().any(|queue| queue.rps_flows.is_some_and(|flows| flows > 0));
    if driver.arfs && ntuple == Some(true) && prepared && flow_entries != Some(0) {
        found.push(Overrule::Arfs);
    }
    if let Some(rules) = nic.rule_count.filter(|rules| *rules > 0) {
        found.push(Overrule::Rules(rules));
    }
    let contexts = nic.rss.as_ref().and_then(|rss| rss.extra_contexts);
    if let Some(contexts) = contexts.filter(|contexts| *contexts > 0) {
        found.push(Overrule::Contexts(contexts));
    }
    if nic.is_virtual_function {
        found.push(Overrule::VirtualFunction);
    }
    found
}

impl Nic {
    /// Why nothing of it is steered, if its queues are polled by kernel threads (threaded NAPI, since 5.12;
    /// `napi_threaded_poll`, net/core/dev.c): an interrupt only wakes the thread, which runs wherever the
    /// scheduler puts it, so that no table and no affinity brings packets to a CPU.
    #[must_use]
    pub fn polled_by_threads(&self) -> Option<String> {
        (self.threaded_napi == Some(true)).then(|| {
            format!(
                "its queues are polled by kernel threads, wherever the scheduler puts them (threaded NAPI): \
                 neither interrupts nor the table decide on which CPU; `echo 0 > \
                 /sys/class/net/{}/threaded` ends that",
                self.name
            )
        })
    }
}

impl NicWorld {
    /// Why the table is not steered where its mapping is not confirmed: the evidence, and what may be
    /// behind it.
    #[must_use]
    pub fn unverified(&self) -> String {
        let mut text = format!("mapping unverified: {}", self.mapping.evidence());
        let found = overrules(&self.nic, None);
        if !found.is_empty() {
            let names: Vec<String> = found.iter().map(Overrule::name).collect();
            text += &format!(
                "; likely because of this: {} (`steer doctor {}` says what to do)",
                names.join(", "),
                self.nic.name
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mapping, Queue, Rss};

    fn nic(driver: &str) -> Nic {
        Nic {
            name: "eth0".to_owned(),
            driver: Some(driver.to_owned()),
            queues: (0..4)
                .map(|id| Queue { id, rps_flows: Some(4096), ..Queue::default() })
                .collect(),
            ..Nic::default()
        }
    }

    fn with_ntuple(driver: &str, on: bool) -> Nic {
        let mut nic = nic(driver);
        nic.features.insert("rx-ntuple-filter".to_owned(), on);
        nic
    }

    fn names(nic: &Nic) -> Vec<String> {
        overrules(nic, Some(32_768)).iter().map(Overrule::name).collect()
    }

    #[test]
    fn an_ixgbe_has_atr_while_ntuple_is_off_and_it_has_no_vfs() {
        let mut ixgbe = with_ntuple("ixgbe", false);
        let found = overrules(&ixgbe, None);
        assert!(matches!(&found[..], [Overrule::Atr { .. }]), "{found:?}");
        assert!(found[0].consequence("eth0").contains("`ethtool -K eth0 ntuple on`"));
        ixgbe.virtual_functions = Some(2);
        assert_eq!(overrules(&ixgbe, None), []);
        ixgbe.virtual_functions = Some(0);
        ixgbe.queues.truncate(1);
        assert_eq!(overrules(&ixgbe, None), []);
        assert_eq!(overrules(&with_ntuple("ixgbe", true), None), []);
        assert_eq!(overrules(&with_ntuple("igb", false), None), []);
    }

    #[test]
    fn an_i40e_says_by_a_flag() {
        let mut i40e = nic("i40e");
        assert_eq!(
            overrules(&i40e, None),
            [Overrule::AtrUnknown { flag: "flow-director-atr" }],
            "unknown is not off"
        );
        i40e.private_flags.insert("flow-director-atr".to_owned(), true);
        let consequence = overrules(&i40e, None)[0].consequence("ens1");
        assert!(
            consequence.contains("`ethtool --set-priv-flags ens1 flow-director-atr off`"),
            "{consequence}"
        );
        i40e.private_flags.insert("flow-director-atr".to_owned(), false);
        assert_eq!(overrules(&i40e, None), []);
    }

    #[test]
    fn arfs_takes_driver_filter_and_flow_tables() {
        assert_eq!(names(&with_ntuple("ice", true)), ["aRFS is on"]);
        assert_eq!(overrules(&with_ntuple("ice", true), Some(0)), [], "no RFS at all");
        assert_eq!(names(&with_ntuple("ice", false)), Vec::<String>::new());
        assert_eq!(names(&with_ntuple("igb", true)), Vec::<String>::new());
        let mut none = with_ntuple("ice", true);
        none.queues.iter_mut().for_each(|queue| queue.rps_flows = Some(0));
        assert_eq!(names(&none), Vec::<String>::new());
    }

    #[test]
    fn an_unverified_mapping_names_what_may_be_behind_it() {
        let mut world = NicWorld { nic: nic("iavf"), ..NicWorld::default() };
        world.mapping = Mapping { checked: 100, agreeing: 50, flows: 8, ..Mapping::default() };
        let reason = world.unverified();
        assert!(reason.starts_with("mapping unverified: 50.0 % of 100"), "{reason}");
        assert!(!reason.contains("likely"), "{reason}");
        world.nic.rule_count = Some(3);
        world.nic.is_virtual_function = true;
        world.nic.rss = Some(Rss { extra_contexts: Some(2), ..Rss::default() });
        let reason = world.unverified();
        assert!(
            reason.ends_with(
                "; likely because of this: 3 exact-match rules, 2 additional RSS contexts, it is a \
                 virtual function (SR-IOV) (`steer doctor eth0` says what to do)"
            ),
            "{reason}"
        );
    }
}
