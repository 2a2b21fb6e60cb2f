//! The load: requests and answers over long-lived flows, with workers pinned to CPUs.
//!
//! The server counts, at each receive, whether the CPU it runs on is the one where the softirq
//! processed the packet (`SO_INCOMING_CPU`). This is the independent count that steer's own
//! figures are held against: it shares no code, no hook and no map with steer.
//!
//! Every request carries a number that its answer repeats, so that a lost, doubled or swapped
//! answer is seen by the client.

mod buckets;
pub mod client;
pub mod connects;
mod control;
pub mod server;
mod session;

pub use buckets::Buckets;
pub use session::{Load, Spec, Window};

/// Bytes of a request; the first eight are its number.
pub const REQUEST: usize = 100;
/// Bytes of an answer; the first eight are the number of the request.
pub const RESPONSE: usize = 400;

/// Transport of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    /// A connection for each flow.
    Tcp,
    /// A connected socket for each flow on the client's side; on the other too if it is handed over,
    /// else one socket per worker.
    Udp,
}

impl Proto {
    /// From the command line's switch.
    #[must_use]
    pub fn new(udp: bool) -> Self {
        if udp { Self::Udp } else { Self::Tcp }
    }
}

/// The number at the head of a message.
fn number(message: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(message.get(..8)?.try_into().ok()?))
}

/// Writes the number at the head of a message.
fn set_number(message: &mut [u8], number: u64) {
    for (byte, value) in message.iter_mut().zip(number.to_le_bytes()) {
        *byte = value;
    }
}
