//! The part of the status document about what was done to a NIC, and when and why.

use serde::{Deserialize, Serialize};

/// Something that the daemon did to a NIC, or that happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventReport {
    /// When, in seconds since 1970 (UTC).
    pub at_unix_s: f64,
    /// What, in words.
    pub what: String,
    /// Why, where a plan stands behind it.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether settings were written.
    #[serde(default)]
    pub wrote: bool,
}

impl EventReport {
    /// In words, with the reason.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.why {
            Some(why) => format!("{}, because {why}", self.what),
            None => self.what.clone(),
        }
    }
}

/// A length of time as people say it: its largest unit, rounded down.
#[must_use]
pub fn ago(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min")];
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.copied().unwrap_or((1.0, "s"));
    format!("{:.0} {name} ago", (seconds.max(0.0) / length).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_largest_unit() {
        let texts = [-3.0, 0.4, 59.9, 60.0, 7199.0, 90_000.0].map(ago);
        assert_eq!(texts, ["0 s ago", "0 s ago", "59 s ago", "1 min ago", "1 h ago", "1 d ago"]);
    }

    #[test]
    fn an_event_has_its_reason() {
        let mut event = EventReport {
            at_unix_s: 0.0,
            what: "wrote 9 settings".to_owned(),
            why: Some("CPU 2 consumes".to_owned()),
            wrote: true,
        };
        assert_eq!(event.text(), "wrote 9 settings, because CPU 2 consumes");
        event.why = None;
        assert_eq!(event.text(), "wrote 9 settings");
    }
}
