//! The NICs that the kernel side watches, and what it is told of each.

use steer_common::{
    nic::{
        FIELDS_ADDRESSES, FIELDS_PORTS, FIELDS_UNKNOWN, HASH_COMPUTED, HASH_NONE, HASH_REPORTED,
        NicConfig, NicKey, NicRef, TCP4, TCP6, UDP4, UDP6,
    },
    toeplitz::Table,
};

use crate::model::{HashFields, Nic, Rss};

/// Name of the feature that makes a driver report the NIC's hash (`NETIF_F_RXHASH`).
const RX_HASHING: &str = "rx-hashing";

/// A NIC to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedNic {
    /// Name of the interface.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Indexes of the interfaces stacked on it.
    pub upper_ifindexes: Vec<u32>,
    /// Entries of its indirection table; 0 where it has none.
    pub buckets: u32,
    /// Its RX queues.
    pub queues: u32,
    /// Where the hash of its packets comes from.
    pub hash: HashSource,
}

/// Where the hash of a NIC's packets comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// The NIC reports it with each packet.
    Reported,
    /// It does not, but its key is known: the kernel side computes it once for each flow.
    Computed {
        /// The key, 40 bytes or more.
        key: Vec<u8>,
        /// Which header fields enter it.
        fields: HashFields,
    },
    /// Neither; consumption cannot be told apart by bucket.
    Unknown,
}

impl WatchedNic {
    /// What is to be watched of a NIC, from its settings.
    #[must_use]
    pub fn of(nic: &Nic) -> Self {
        let rows = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let table = nic.rss.as_ref().map_or(0, |rss| rss.table.len());
        Self {
            name: nic.name.clone(),
            ifindex: nic.ifindex,
            upper_ifindexes: nic.upper_ifindexes.clone(),
            buckets: rows(table),
            queues: rows(nic.queues.len()).max(nic.rx_rings.unwrap_or(0)).max(1),
            hash: HashSource::of(nic),
        }
    }
}

impl HashSource {
    /// Which source a NIC has, as far as its settings tell.
    fn of(nic: &Nic) -> Self {
        let Some(rss) = &nic.rss else {
            return Self::Unknown;
        };
        if !rss.table.len().is_power_of_two() {
            // The bucket is the hash's low bits only where the table's length is a power of two.
            return Self::Unknown;
        }
        if nic.features.get(RX_HASHING) == Some(&true) {
            return Self::Reported;
        }
        Self::from_key(nic)
    }

    /// The source where packets carry no hash, whatever the features say: the key, if it is known.
    #[must_use]
    pub fn from_key(nic: &Nic) -> Self {
        match nic.rss.as_ref().and_then(|rss| Some((plain_key(rss)?, rss.hash_fields))) {
            Some((key, fields)) => Self::Computed { key, fields },
            None => Self::Unknown,
        }
    }
}

/// The key, if the function is plain Toeplitz. A driver that does not name its function has the
/// usual one; a symmetric variant is another function.
fn plain_key(rss: &Rss) -> Option<Vec<u8>> {
    let toeplitz = rss.hash_function.as_deref().is_none_or(|name| name == "toeplitz");
    let plain = rss.input_xfrm.is_none_or(|transform| transform == 0);
    let key = &rss.key.as_ref()?.bytes;
    // A key that is too short for the longest input has no table.
    (toeplitz && plain && Table::new(key).is_some()).then(|| key.clone())
}

impl WatchedNic {
    /// What the kernel side is told of it.
    pub(super) fn config(&self) -> NicConfig {
        let (hash_source, fields) = match &self.hash {
            HashSource::Reported => (HASH_REPORTED, [FIELDS_UNKNOWN; 4]),
            HashSource::Computed { fields, .. } => (HASH_COMPUTED, input(*fields)),
            HashSource::Unknown => (HASH_NONE, [FIELDS_UNKNOWN; 4]),
        };
        NicConfig {
            bucket_mask: self.buckets.saturating_sub(1),
            hash_source,
            queues: self.queues,
            fields,
        }
    }

    /// What the kernel side computes its hash with, where it does.
    pub(super) fn hash_table(&self) -> Option<Table> {
        match &self.hash {
            HashSource::Computed { key, .. } => Table::new(key),
            HashSource::Reported | HashSource::Unknown => None,
        }
    }

    /// The interfaces that stand for it, with what each is.
    pub(super) fn interfaces(&self, slot: u32, netns: u32) -> Vec<(NicKey, NicRef)> {
        let itself = (NicKey { ifindex: self.ifindex, netns }, NicRef { slot, upper: 0 });
        let uppers = self
            .upper_ifindexes
            .iter()
            .map(|ifindex| (NicKey { ifindex: *ifindex, netns }, NicRef { slot, upper: 1 }));
        std::iter::once(itself).chain(uppers).collect()
    }

    /// Whether consumption is counted by bucket.
    pub(super) fn has_demand(&self) -> bool {
        self.hash != HashSource::Unknown && self.buckets > 0
    }

    /// Whether packets are counted by bucket.
    pub(super) fn has_load(&self) -> bool {
        self.hash == HashSource::Reported && self.buckets > 0
    }
}

/// Which fields enter the hash. A driver that does not say hashes TCP with its ports, as all do;
/// for UDP drivers differ, and nothing is computed.
fn input(fields: HashFields) -> [u8; 4] {
    let known = |ports: Option<bool>, silent: u8| match ports {
        Some(true) => FIELDS_PORTS,
        Some(false) => FIELDS_ADDRESSES,
        None => silent,
    };
    let mut input = [FIELDS_UNKNOWN; 4];
    input[TCP4] = known(fields.tcp4_ports, FIELDS_PORTS);
    input[TCP6] = known(fields.tcp6_ports, FIELDS_PORTS);
    input[UDP4] = known(fields.udp4_ports, FIELDS_UNKNOWN);
    input[UDP6] = known(fields.udp6_ports, FIELDS_UNKNOWN);
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RssKey;

    fn nic() -> Nic {
        Nic {
            name: "eth0".to_owned(),
            ifindex: 2,
            upper_ifindexes: vec![7],
            rx_rings: Some(4),
            rss: Some(Rss {
                table: vec![0; 128],
                key: Some(RssKey { bytes: vec![1; 40], from_driver: true }),
                ..Rss::default()
            }),
            ..Nic::default()
        }
    }

    #[test]
    fn a_reported_hash_is_preferred() {
        let mut nic = nic();
        nic.features.insert(RX_HASHING.to_owned(), true);
        assert_eq!(WatchedNic::of(&nic).hash, HashSource::Reported);
        nic.features.insert(RX_HASHING.to_owned(), false);
        assert!(matches!(WatchedNic::of(&nic).hash, HashSource::Computed { .. }));
    }

    #[test]
    fn unknown_is_never_computed() {
        let unknown = |change: fn(&mut Rss)| {
            let mut nic = nic();
            nic.rss.as_mut().map(change);
            WatchedNic::of(&nic).hash == HashSource::Unknown
        };
        assert!(unknown(|rss| rss.key = None));
        assert!(unknown(|rss| rss.hash_function = Some("xor".to_owned())));
        assert!(unknown(|rss| rss.input_xfrm = Some(1)));
        assert!(unknown(|rss| rss.table.clear()));
        assert!(unknown(|rss| rss.table.truncate(100)));
        assert!(!unknown(|rss| rss.hash_function = Some("toeplitz".to_owned())));
    }

    #[test]
    fn one_slot_for_all_interfaces() {
        let watched = WatchedNic::of(&nic());
        let interfaces: Vec<_> = watched
            .interfaces(3, 9)
            .into_iter()
            .map(|(key, to)| (key.ifindex, key.netns, to.slot, to.upper))
            .collect();
        assert_eq!(interfaces, [(2, 9, 3, 0), (7, 9, 3, 1)]);
        assert_eq!((watched.config().bucket_mask, watched.config().queues), (127, 4));
    }

    #[test]
    fn silent_drivers_hash_tcp_with_ports_and_udp_nobody_knows_how() {
        assert_eq!(input(HashFields::default()), [2, 2, 0, 0]);
        let fields = HashFields { udp4_ports: Some(false), ..HashFields::default() };
        assert_eq!(input(fields), [2, 2, 1, 0]);
    }
}
