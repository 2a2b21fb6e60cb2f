//! The configuration: defaults, under a file, under the environment, under the command line.
//!
//! ```text
//! [run] [policy] [paths]     for everything
//! [interface.eth0]           instead, for one NIC; without the section's name
//! STEER_POLICY_PLACEMENT     instead of both
//! --policy                   instead of all
//! ```
//!
//! It is read whole or not at all: whatever is wrong is found in one go, with its file and line, and
//! nothing of a configuration with a fault is ever in force. [`keys::KEYS`] is what there is.

mod document;
mod environment;
mod file;
pub mod form;
pub mod keys;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

pub use document::{describe, example, json};
pub use environment::variables;
use form::Value;
use keys::{KEYS, Key, Values};

/// A configuration that nothing is wrong with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// In rising order of precedence.
    entries: Vec<Entry>,
    /// The file that was read, if any.
    file: Option<String>,
}

/// One value of one key.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) key: &'static Key,
    /// Where it is for one interface only.
    pub(crate) interface: Option<String>,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this program.
    Default,
    /// From a file.
    File {
        /// Its path.
        file: String,
        /// The line, from 1 on.
        line: usize,
    },
    /// From this variable of the environment.
    Environment(String),
    /// From the command line.
    CommandLine,
}

impl Origin {
    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Environment(_) => "environment",
            Self::CommandLine => "command-line",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment(variable) => write!(f, "{variable}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `FILE:LINE`, or a variable of the environment.
    pub place: String,
    /// What, and what was expected.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// All that is wrong with a configuration, and what of it is right.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.problems))]
pub struct Faulty {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The configuration without that.
    pub rest: Config,
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl Config {
    /// The configuration in `file` with this text, under `environment`.
    pub fn read(
        file: Option<(&Path, &str)>,
        environment: &[(String, String)],
    ) -> Result<Self, Faulty> {
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        if let Some((path, text)) = file {
            (entries, problems) = file::read(text, &path.display().to_string());
            // What is said of one interface counts for more than what is said of all.
            entries.sort_by_key(|entry| entry.interface.is_some());
        }
        let (more, wrong) = environment::read(environment);
        entries.extend(more);
        problems.extend(wrong);
        let config = Self { entries, file: file.map(|(path, _)| path.display().to_string()) };
        if problems.is_empty() { Ok(config) } else { Err(Faulty { problems, rest: config }) }
    }

    /// The same with what the command line says. A path that is no key is no value either, which
    /// cannot come from a command line that was parsed.
    #[must_use]
    pub fn over(mut self, words: Vec<(&'static str, Value)>) -> Self {
        for (path, value) in words {
            let Some(key) = KEYS.iter().find(|key| key.path() == path) else { continue };
            let origin = Origin::CommandLine;
            self.entries.push(Entry { key, interface: None, value, origin });
        }
        self
    }

    /// The file that was read, if any.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// How many keys are set, by whomever.
    #[must_use]
    pub fn keys_set(&self) -> usize {
        self.entries.len()
    }

    /// What holds for `interface`, or for those that are not named.
    #[must_use]
    pub fn values(&self, interface: Option<&str>) -> Values {
        let mut values = Values::default();
        for entry in self.entries_for(interface) {
            let set = (entry.key.set)(&mut values, &entry.value);
            debug_assert!(set.is_some(), "{:?} takes what its form reads", entry.key);
        }
        values
    }

    /// Where the value of `key` for `interface` comes from.
    #[must_use]
    pub fn origin(&self, key: &Key, interface: Option<&str>) -> Origin {
        let last = self.entries_for(interface).filter(|entry| std::ptr::eq(entry.key, key)).last();
        last.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// The interfaces that have a section of their own.
    #[must_use]
    pub fn interfaces(&self) -> BTreeSet<&str> {
        self.entries.iter().filter_map(|entry| entry.interface.as_deref()).collect()
    }

    fn entries_for(&self, interface: Option<&str>) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| {
            entry.interface.is_none() || entry.interface.as_deref() == interface
        })
    }

    /// What is different in `new`: the key, the interface where it is one's own, and both values as
    /// they stand in a file.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let named: BTreeSet<&str> = self.interfaces().union(&new.interfaces()).copied().collect();
        let all = (self.values(None), new.values(None));
        for key in KEYS {
            let both = |values: &(Values, Values)| ((key.get)(&values.0), (key.get)(&values.1));
            let (from, to) = both(&all);
            if from != to {
                differences.push(Difference::new(key, None, &from, &to));
            }
            for interface in named.iter().filter(|_| key.per_interface) {
                let own = (self.values(Some(interface)), new.values(Some(interface)));
                let (own_from, own_to) = both(&own);
                if own_from != own_to && (&own_from, &own_to) != (&from, &to) {
                    differences.push(Difference::new(key, Some(interface), &own_from, &own_to));
                }
            }
        }
        differences
    }
}

/// A key whose value is another one now.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The key.
    pub key: &'static Key,
    what: String,
}

impl Difference {
    fn new(key: &'static Key, interface: Option<&str>, from: &Value, to: &Value) -> Self {
        let place = interface.map_or_else(|| key.path(), |name| format!("{name}: {}", key.path()));
        let (from, to) = (from.to_toml(key.form), to.to_toml(key.form));
        Self { key, what: format!("{place} {from} -> {to}") }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

#[cfg(test)]
mod tests;
