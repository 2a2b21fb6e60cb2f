//! Counters of what went wrong in the kernel side.
//!
//! Every early return that loses information adds one to its counter, on the CPU where it happens.
//! `steer status` shows them by the names below; nothing is ever lost silently.

/// What can go wrong. The number is the counter's index.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The table of flows refused a new one.
    TableFull = 0,
    /// The table of NAPI ids refused a new one; flows fall back to the socket's queue.
    NapiTableFull = 1,
    /// A packet ended before its headers did.
    HeaderShort = 2,
    /// A packet's headers nest deeper than the parser follows.
    HeaderDeep = 3,
    /// The consumed flow's NIC is known, its queue is not.
    NoQueue = 4,
    /// The consumed flow's queue is known, the CPU that polls it is not yet.
    NoNapi = 5,
    /// The NIC reports hashes, this packet or flow had none.
    NoHash = 6,
    /// A queue above the number that the tables were made for.
    QueueOutOfRange = 7,
    /// A bucket above the number that the tables were made for.
    BucketOutOfRange = 8,
    /// A CPU above the number that the tables were made for.
    CpuOutOfRange = 9,
    /// A needed field of the socket or packet is absent on this kernel.
    FieldAbsent = 10,
    /// The headers of a consumed datagram could not be read.
    DatagramUnreadable = 11,
}

impl Health {
    /// All of them, by rising number.
    pub const ALL: [Self; 12] = [
        Self::TableFull,
        Self::NapiTableFull,
        Self::HeaderShort,
        Self::HeaderDeep,
        Self::NoQueue,
        Self::NoNapi,
        Self::NoHash,
        Self::QueueOutOfRange,
        Self::BucketOutOfRange,
        Self::CpuOutOfRange,
        Self::FieldAbsent,
        Self::DatagramUnreadable,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The name in JSON and on screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TableFull => "table_full",
            Self::NapiTableFull => "napi_table_full",
            Self::HeaderShort => "header_short",
            Self::HeaderDeep => "header_deep",
            Self::NoQueue => "no_queue",
            Self::NoNapi => "no_napi",
            Self::NoHash => "no_hash",
            Self::QueueOutOfRange => "queue_out_of_range",
            Self::BucketOutOfRange => "bucket_out_of_range",
            Self::CpuOutOfRange => "cpu_out_of_range",
            Self::FieldAbsent => "field_absent",
            Self::DatagramUnreadable => "datagram_unreadable",
        }
    }
}

// All counters are read with one call.
const _: () = assert!(Health::COUNT <= crate::cells::CELLS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (position, health) in Health::ALL.into_iter().enumerate() {
            assert_eq!(health as usize, position, "{}", health.name());
        }
    }
}
