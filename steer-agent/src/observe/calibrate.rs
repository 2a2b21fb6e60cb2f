//! Finds out what a NIC's settings do not tell: whether packets really carry a hash, and which key is
//! in use where they do not.

use crate::model::{Flow, KeyVariant, Nic, calibrate};

use super::{HashSource, WatchedNic};

/// Fewest flows that show that a NIC reports no hash although its features say so.
const FEWEST_FLOWS: usize = 4;

/// What live flows have said about one NIC so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calibration {
    /// It says that packets carry a hash, and they do not (vmxnet3 as QEMU emulates it).
    silent: bool,
    variant: KeyVariant,
}

impl Calibration {
    /// Puts what is known into the settings as read, and says what to tell the kernel side.
    pub(super) fn watched(self, nic: &mut Nic) -> WatchedNic {
        if let Some(rss) = &mut nic.rss {
            rss.key_variant = self.variant;
            if let Some(key) = &mut rss.key {
                key.bytes = self.variant.of(&key.bytes);
            }
        }
        let mut watched = WatchedNic::of(nic);
        if self.silent && watched.hash == HashSource::Reported {
            watched.hash = HashSource::from_key(nic);
        }
        watched
    }

    /// Learns from the flows of the NIC that were seen since `since_ns`; `nic` has its key as told.
    pub(super) fn learn(&mut self, nic: &Nic, flows: &[Flow], since_ns: u64) {
        let active = flows.iter().filter(|flow| {
            flow.ifindex == Some(nic.ifindex) && flow.queue.is_some() && flow.last_ns > since_ns
        });
        let Some(rss) = &nic.rss else { return };
        if !self.silent && WatchedNic::of(nic).hash == HashSource::Reported {
            let seen = active.clone().count();
            self.silent = seen >= FEWEST_FLOWS && active.clone().all(|flow| flow.hash.is_none());
            return;
        }
        if let Some(key) = &rss.key
            && let Some(variant) = calibrate(&key.bytes, &rss.table, rss.hash_fields, &active)
        {
            self.variant = variant;
        }
    }
}
