//! Recordings in place of an observation: the window that is asked about, and all of them in turn.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::output::note;
use crate::model::Sample;
use crate::policy::Policy;
use crate::report::Status;
use crate::report::recording::{Header, Limits, Reader, Record};

/// Two samples in a row, and what a daemon said of itself at the end of that window.
pub(super) struct Window {
    pub(super) first: Sample,
    pub(super) second: Sample,
    pub(super) daemon: Option<Status>,
    /// Time from the first sample of the recording to the end of the window.
    pub(super) at: Duration,
}

/// A recording that is read window by window.
pub(super) struct Recorded {
    path: PathBuf,
    reader: Reader<File>,
    began_ns: Option<u64>,
    last: Option<Sample>,
    /// A sample that was read in search of a daemon's words, and belongs to the next window.
    ahead: Option<Sample>,
}

impl Recorded {
    /// Opens `path`.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("cannot read the recording {}", path.display());
        let file = File::open(path).with_context(what)?;
        let reader = Reader::open(file, Limits::default()).with_context(what)?;
        Ok(Self { path: path.to_owned(), reader, began_ns: None, last: None, ahead: None })
    }

    /// What it begins with.
    pub(super) fn header(&self) -> &Header {
        self.reader.header()
    }

    /// The policy that `nic` was recorded under.
    pub(super) fn policy_of(&self, nic: &str) -> Policy {
        self.header().policies.get(nic).cloned().unwrap_or_default()
    }

    /// The next record.
    pub(super) fn next_record(&mut self) -> anyhow::Result<Option<Record>> {
        let record = self.reader.next_record();
        let record = record.with_context(|| format!("in the recording {}", self.path.display()))?;
        if record.is_none() && self.reader.was_cut() {
            note(&format!("{} is cut off; what is there is good", self.path.display()));
        }
        Ok(record)
    }

    /// The next window; `None` at the end.
    pub(super) fn next_window(&mut self) -> anyhow::Result<Option<Window>> {
        loop {
            let sample = match self.ahead.take() {
                Some(sample) => sample,
                None => match self.next_record()? {
                    Some(Record::Sample(sample)) => *sample,
                    Some(Record::Daemon(_)) => continue,
                    None => return Ok(None),
                },
            };
            let began_ns = *self.began_ns.get_or_insert(sample.at_ns);
            let Some(first) = self.last.replace(sample.clone()) else { continue };
            // What the daemon said stands behind the sample.
            let mut daemon = None;
            match self.next_record()? {
                Some(Record::Daemon(status)) => daemon = Some(*status),
                Some(Record::Sample(next)) => self.ahead = Some(*next),
                None => {}
            }
            let at = Duration::from_nanos(sample.at_ns.saturating_sub(began_ns));
            return Ok(Some(Window { first, second: sample, daemon, at }));
        }
    }

    /// The window that is over at `at` after the beginning, or the last one.
    pub(super) fn window_at(&mut self, at: Option<Duration>) -> anyhow::Result<Window> {
        let mut last: Option<Window> = None;
        while let Some(window) = self.next_window()? {
            if at.is_some_and(|at| window.at >= at) {
                return Ok(window);
            }
            last = Some(window);
        }
        match (last, at) {
            (Some(window), None) => Ok(window),
            (Some(window), Some(at)) => bail!(
                "the recording {} ends after {:?}, so there is nothing at {at:?}; expected --at of at \
                 most that",
                self.path.display(),
                window.at
            ),
            (None, _) => bail!(
                "the recording {} has no whole window: it takes two samples, expected a recording of \
                 at least --every",
                self.path.display()
            ),
        }
    }

    /// An error unless every one of `names` is in `sample`.
    pub(super) fn demand(&self, names: &[String], sample: &Sample) -> anyhow::Result<()> {
        let has = |name: &String| sample.nics.iter().any(|nic| nic.nic.name == *name);
        match names.iter().find(|name| !has(name)) {
            None => Ok(()),
            Some(name) => {
                let there: Vec<&str> =
                    sample.nics.iter().map(|nic| nic.nic.name.as_str()).collect();
                bail!(
                    "there is no interface `{name}` in the recording {}; it has: {}",
                    self.path.display(),
                    there.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
#[path = "recorded_tests.rs"]
mod tests;
