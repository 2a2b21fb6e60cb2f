//! Arguments and configuration file, merged. Opens nothing else until complete.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::args::{CommonArgs, OnExit};
use crate::policy::Policy;
use crate::run::irqbalance::Consent;

/// Where the configuration is looked for where none is named.
const DEFAULT_CONFIG: &str = "/etc/steer/steer.toml";

/// What the commands work by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of journals.
    pub state_dir: PathBuf,
    /// Directory of the status socket.
    pub runtime_dir: PathBuf,
    /// Thresholds of the planner.
    pub policy: Policy,
    /// Time between two looks of `run`.
    pub period: Duration,
    /// What `run` leaves behind.
    pub on_exit: OnExit,
    /// What `run` and `apply` may do about irqbalance.
    pub irqbalance: Consent,
    /// Name or number of the group that may ask a daemon, beside root.
    pub group: Option<String>,
}

/// The configuration file. Every key has a default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    run: RunSection,
    policy: Policy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RunSection {
    period: Option<String>,
    on_exit: Option<OnExit>,
    irqbalance: OnIrqbalance,
    group: Option<String>,
}

/// What is done about a running irqbalance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnIrqbalance {
    /// Say so, and leave interrupts to it.
    #[default]
    Report,
    /// Ask it to leave the NIC's interrupts alone.
    Ban,
}

impl OnIrqbalance {
    fn consent(self) -> Consent {
        match self {
            Self::Ban => Consent::Ban,
            Self::Report => Consent::Report(
                "`irqbalance = \"ban\"` under [run] in the configuration would let steer ask it to \
                 leave them alone",
            ),
        }
    }
}

impl Settings {
    /// Merges `common` with the configuration. An absent file is fine unless it was named.
    pub fn resolve(common: &CommonArgs) -> anyhow::Result<Self> {
        let file = match &common.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {}", path.display()))?;
                parse(&text, path)?
            }
            None => {
                let path = Path::new(DEFAULT_CONFIG);
                match std::fs::read_to_string(path) {
                    Ok(text) => parse(&text, path)?,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        ConfigFile::default()
                    }
                    Err(error) => {
                        return Err(error).with_context(|| {
                            format!("cannot read the configuration {}", path.display())
                        });
                    }
                }
            }
        };
        let period = match &file.run.period {
            Some(text) => humantime::parse_duration(text)
                .with_context(|| format!("`run.period = \"{text}\"` is not a time such as 1s"))?,
            None => Duration::from_secs(1),
        };
        if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&period) {
            bail!("`run.period` is {period:?}, expected between 100ms and 1m");
        }
        Ok(Self {
            state_dir: common.state_dir.clone(),
            runtime_dir: common.runtime_dir.clone(),
            policy: file.policy,
            period,
            on_exit: file.run.on_exit.unwrap_or(OnExit::Restore),
            irqbalance: file.run.irqbalance.consent(),
            group: file.run.group,
        })
    }
}

fn parse(text: &str, path: &Path) -> anyhow::Result<ConfigFile> {
    let file: ConfigFile =
        toml::from_str(text).with_context(|| format!("in the configuration {}", path.display()))?;
    let policy = &file.policy;
    for (name, value) in [
        ("load_slack", policy.load_slack),
        ("softirq_cap", policy.softirq_cap),
        ("least_gain", policy.least_gain),
        ("move_price", policy.move_price),
        ("irq_move_share", policy.irq_move_share),
        ("nic_distance", policy.nic_distance),
    ] {
        if !value.is_finite() || value < 0.0 {
            bail!("in {}: `policy.{name}` is {value}, expected zero or more", path.display());
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> anyhow::Result<ConfigFile> {
        parse(text, Path::new("steer.toml"))
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(file("").expect("valid").policy, Policy::default());
    }

    #[test]
    fn irqbalance_is_asked_with_consent_only() {
        let of = |text| file(text).expect("valid").run.irqbalance;
        assert!(matches!(of("").consent(), Consent::Report(_)));
        assert!(matches!(of("[run]\nirqbalance = \"report\"").consent(), Consent::Report(_)));
        assert_eq!(of("[run]\nirqbalance = \"ban\"").consent(), Consent::Ban);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("[policy]\nsoftirq_cap = -1.0", "softirq_cap"),
            ("[policy]\nload_slack = nan", "load_slack"),
            ("[policy]\nunknown = 1", "unknown"),
            ("[run]\non-exit = \"explode\"", "explode"),
            ("[run]\nirqbalance = \"stop\"", "stop"),
            ("[run]\ngroup = 5", "group"),
            ("[policy]\nallowed_cpus = \"3-1\"", "low to high"),
            ("nonsense", "steer.toml"),
        ] {
            let error = format!("{:#}", file(text).expect_err(text));
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
