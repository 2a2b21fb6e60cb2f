//! How large the maps are and where in them each NIC's counters stand.

use steer_common::{abi, cells};

use super::nics::WatchedNic;

/// Room that each NIC has for buckets, at least: most tables, and so much that a NIC whose table
/// shows up only with its link (vmxnet3, igb) needs no reload.
const MIN_BUCKETS: u32 = 256;

/// Sizes for one set of NICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) nics: u32,
    pub(super) cpus: u32,
    /// Counters of each NIC, a multiple of [`cells::CELLS`] that holds the largest NIC.
    pub(super) bucket_stride: u32,
    pub(super) queue_stride: u32,
    pub(super) cpu_stride: u32,
    xdp: bool,
}

impl Layout {
    /// Sizes for these NICs on a machine with so many possible CPUs.
    pub(super) fn new(nics: &[WatchedNic], cpus: u32, xdp: bool) -> Self {
        let largest = |of: fn(&WatchedNic) -> u32| nics.iter().map(of).max().unwrap_or(0);
        Self {
            nics: u32::try_from(nics.len()).unwrap_or(u32::MAX),
            cpus,
            bucket_stride: cells::stride(largest(|nic| nic.buckets).max(MIN_BUCKETS)),
            queue_stride: cells::stride(largest(|nic| nic.queues).max(1)),
            cpu_stride: cells::stride(cpus),
            xdp,
        }
    }

    /// Whether a NIC that has changed still fits.
    pub(super) fn fits(&self, nic: &WatchedNic) -> bool {
        nic.buckets <= self.bucket_stride
            && nic.queues <= self.queue_stride
            && nic.upper_ifindexes.len() < abi::IFINDEXES_PER_NIC as usize
    }

    /// NAPI ids that are remembered: four for each queue, see `NAPIS` in the kernel side.
    pub(super) fn napis(&self) -> u32 {
        (4 * self.nics.max(1) * self.queue_stride).max(abi::NAPIS_MIN)
    }

    /// Entries of each map whose size is not fixed in the object.
    pub(super) fn map_sizes(&self) -> [(&'static str, u32); 13] {
        let slots = self.nics.max(1);
        let queues = slots * self.queue_stride;
        [
            ("NICS", slots * abi::IFINDEXES_PER_NIC),
            ("NIC_CONFIG", slots),
            ("HASH_TABLES", slots),
            ("QUEUE_STATE", queues),
            ("NAPIS", self.napis()),
            ("LOAD", cells::blocks(slots * self.bucket_stride)),
            ("QUEUE_PACKETS", cells::blocks(queues)),
            ("DEMAND", cells::blocks(slots * self.bucket_stride)),
            ("CONSUMED_QUEUE", cells::blocks(queues)),
            ("BY_NAPI_CPU", cells::blocks(slots * self.cpu_stride)),
            ("BY_PROTOCOL_CPU", cells::blocks(slots * self.cpu_stride)),
            ("UNATTRIBUTED", cells::blocks(slots)),
            ("RX_FLOWS", if self.xdp { abi::RX_FLOWS } else { 1 }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::kernel::nics::HashSource;

    fn nic(buckets: u32, queues: u32) -> WatchedNic {
        WatchedNic {
            name: "eth0".to_owned(),
            ifindex: 2,
            upper_ifindexes: Vec::new(),
            buckets,
            queues,
            hash: HashSource::Unknown,
        }
    }

    #[test]
    fn slots_do_not_overlap() {
        let layout = Layout::new(&[nic(128, 4), nic(2048, 65)], 96, false);
        assert_eq!(
            (layout.bucket_stride, layout.queue_stride, layout.cpu_stride),
            (2048, 128, 128)
        );
        let blocks: std::collections::HashMap<_, _> = layout.map_sizes().into_iter().collect();
        // The last counter of the last NIC is inside, and the next one is not.
        for (map, stride) in [("DEMAND", 2048), ("QUEUE_PACKETS", 128), ("BY_NAPI_CPU", 128)] {
            let last = stride + stride - 1;
            assert_eq!(cells::block_of(last), blocks[map] - 1, "{map}");
            assert_eq!(cells::block_of(last + 1), blocks[map], "{map}");
        }
    }

    #[test]
    fn knows_what_fits() {
        let layout = Layout::new(&[nic(0, 1)], 4, false);
        assert!(layout.fits(&nic(256, 64)), "a table that came with the link");
        assert!(!layout.fits(&nic(512, 4)));
        assert!(!layout.fits(&nic(128, 65)));
    }
}
