//! Connect steering, the thinking part: from which port a new connection's replies come back to a
//! wanted CPU, whether that can be relied on, and what it is worth.
//!
//! ```text
//! ports     which source ports may be used, sorted by the bucket that each leads to
//! near      which buckets come to which CPU
//! key       which hash the NIC really computes, learned from live packets
//! judge     did the replies of steered connections come where they were to?
//! ```
//!
//! The program that acts on it is in `steer-ebpf/src/connect`.

mod judge;
mod key;
mod near;
mod ports;

pub use judge::{Judge, Seen, Tally, Verdict, see};
pub use key::{Evidence, HashModel, learn};
pub use near::{Near, Outlook};
pub use ports::{Classes, Family, Pool, PoolError};
