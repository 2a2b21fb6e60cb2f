//! The loop's part of the status document: how many windows there were, how many were missed, and
//! how long the work of one takes.

use serde::{Deserialize, Serialize};

/// The pace of the loop since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pace {
    /// Windows that were looked at.
    pub windows: u64,
    /// Periods that passed without a look, because a look or the machine took too long.
    pub missed: u64,
    /// Time that the last window's work took, in microseconds.
    pub tick_us: u64,
    /// The most that a window's work took, in microseconds.
    pub tick_max_us: u64,
}
