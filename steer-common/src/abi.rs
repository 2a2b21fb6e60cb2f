//! What both sides must agree on before they exchange a byte: the version, and how large things are.
//!
//! Capacities that depend on the machine (tables, queues, CPUs) are set by the agent when it loads
//! the object; the object carries only small stand-ins for them.

/// Raised with every change of a shared type or of the meaning of a counter. The object carries it
/// in section [`SECTION`]; the agent refuses an object with another one.
pub const VERSION: u32 = 2;

/// The object's section that holds [`VERSION`] and nothing else. aya makes a map of it.
pub const SECTION: &str = ".rodata.abi";

/// Flows that are remembered at a time.
///
/// 16,384 × (40 B key + 80 B value + about 64 B for the kernel's element) is 3 MiB. A busy proxy
/// has more connections than that; what is kept are those that were consumed last, which the heavy
/// ones always are.
pub const FLOWS: u32 = 16_384;

/// Flows that the XDP observer remembers at a time: twice [`FLOWS`], for it also sees flows that
/// nobody on this host consumes. 32,768 × (40 B + 16 B + about 64 B) is 4 MiB.
pub const RX_FLOWS: u32 = 32_768;

/// Hashes whose last arrival is remembered: 65,536 × 8 B is 512 KiB. Two hashes with the same low 16
/// bits share a place; of 1,000 flows three in two hundred do.
pub const ARRIVALS: u32 = 1 << 16;

/// Least size of the table of NAPI ids. It holds four ids for each queue, because an id changes
/// when a NIC is reopened and the old one stays until the agent removes it.
pub const NAPIS_MIN: u32 = 256;

/// Interface indexes that may stand for one NIC: itself and what is stacked on it.
pub const IFINDEXES_PER_NIC: u32 = 64;
