//! Recordings: what was read, window by window, in one file that everything can be worked out from
//! again. A bug report is one such file.
//!
//! A recording is a gzip stream (RFC 1952) of lines, each a JSON object: first a [`Header`], then
//! [`Record`]s. `zcat FILE | jq` shows it. Every record is flushed, so that a file that was cut off is
//! good up to the cut. Fields may be added; [`Header::FORMAT`] rises where one changes.

mod anonymise;
mod check;
mod read;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use anonymise::{Anonymiser, Extent};
pub use read::{Limits, ReadError, Reader};
pub use write::Writer;

use super::Status;
use crate::model::{Facts, HostFacts, Sample};
use crate::policy::Policy;

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`Header::FORMAT`] of the writer.
    pub steer_recording: u32,
    /// Version of the steer that wrote it.
    pub version: String,
    /// When it began, in seconds since 1970 (UTC).
    pub began_unix_s: u64,
    /// Length of a window, in seconds.
    pub every_s: f64,
    /// What the host and its kernel can do, and who else writes affinities there.
    pub facts: Facts,
    /// The policy of each NIC, by name: what was decided was decided by these.
    pub policies: BTreeMap<String, Policy>,
    /// Whether addresses and names were replaced.
    #[serde(default)]
    pub anonymised: bool,
    /// What kind of machine it is; `None` where a steer wrote it that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostFacts>,
    /// How packets were seen to arrive: `tracing` or `xdp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<String>,
}

impl Header {
    /// Raised when a field is renamed, removed or changes its meaning.
    pub const FORMAT: u32 = 1;
}

/// What a recording goes on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// Everything that was read at one moment.
    Sample(Box<Sample>),
    /// What a running daemon said of itself at about the same time: its states and reasons, what it
    /// did last, and what it would do.
    Daemon(Box<Status>),
}

#[cfg(test)]
mod tests;
