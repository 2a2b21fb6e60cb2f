//! Arguments, environment and configuration file, merged. Opens nothing else until complete.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::args::{CommonArgs, PlanningArgs, RunArgs};
use super::output::note;
use crate::config::form::Value;
use crate::config::keys::{ObserverChoice, OnExit, OnIrqbalance, Values};
use crate::config::{Config, Faulty, variables};
use crate::observe::Observer;
use crate::policy::Policy;
use crate::run::irqbalance::Consent;
use crate::run::terms::{Conduct, Terms};
use crate::sys::{Machine, Root, SysError};

/// Where the configuration is looked for where none is named.
pub(super) const DEFAULT_CONFIG: &str = "/etc/steer/steer.toml";
/// No configuration is as long as this.
const MOST_BYTES: u64 = 1 << 20;

/// What the commands work by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All of it, with where each value comes from.
    pub config: Config,
    /// Directory of journals.
    pub state_dir: PathBuf,
    /// Directory of the status socket.
    pub runtime_dir: PathBuf,
    /// Thresholds of the planner, for interfaces that have none of their own.
    pub policy: Policy,
    /// How packets are seen to arrive.
    pub observer: Observer,
    /// Where the host's /proc and /sys are.
    pub root: Root,
}

impl Settings {
    /// Merges `common` with environment and file. An absent file is fine unless it was named; one with
    /// faults is an error that lists them all.
    pub fn resolve(common: &CommonArgs) -> anyhow::Result<Self> {
        match load(common)? {
            Ok(config) => Ok(Self::new(config)),
            Err(faulty) => bail!("{}", complaint(&faulty)),
        }
    }

    /// The same for what must work whatever the configuration is like: faults are only reported, and
    /// what is right holds.
    pub fn resolve_leniently(common: &CommonArgs) -> anyhow::Result<Self> {
        Ok(match load(common)? {
            Ok(config) => Self::new(config),
            Err(faulty) => {
                note(&format!("{}\nthe rest of the configuration holds", complaint(&faulty)));
                Self::new(faulty.rest)
            }
        })
    }

    fn new(config: Config) -> Self {
        let Values { state_dir, runtime_dir, policy, observer, proc, sys, .. } =
            config.values(None);
        let (observer, root) = (observer.resolve(), Root::new(proc, sys));
        Self { config, state_dir, runtime_dir, policy, observer, root }
    }

    /// The machine, through the configured trees.
    pub fn machine(&self) -> Result<Machine, SysError> {
        Machine::with_root(self.root.clone())
    }

    /// Thresholds of the planner for `interface`, under what the command line says.
    #[must_use]
    pub fn policy_of(&self, interface: &str, planning: &PlanningArgs) -> Policy {
        planning.over(&self.config.values(Some(interface)).policy)
    }

    /// How packets are to be seen to arrive, under what the command line says.
    #[must_use]
    pub fn observer(&self, planning: &PlanningArgs) -> Observer {
        planning.observer.map_or(self.observer, super::args::ObserverArg::resolve)
    }
}

/// The configuration, or what is wrong with it; an error where it cannot be read at all.
pub(super) fn load(common: &CommonArgs) -> anyhow::Result<Result<Config, Faulty>> {
    let (path, named) = match &common.config {
        Some(path) => (path.as_path(), true),
        None => (Path::new(DEFAULT_CONFIG), false),
    };
    let text = match read(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => None,
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "cannot read the configuration {}, which --config or STEER_CONFIG names",
                    path.display()
                )
            });
        }
    };
    let file = text.as_deref().map(|text| (path, text));
    let words = common_words(common);
    Ok(match Config::read(file, &variables()) {
        Ok(config) => Ok(config.over(words)),
        Err(faulty) => Err(Faulty { rest: faulty.rest.over(words), ..faulty }),
    })
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        let what = format!("it is longer than {MOST_BYTES} bytes, which no configuration is");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// What is wrong, and what to do about it.
pub(super) fn complaint(faulty: &Faulty) -> String {
    let count = faulty.problems.len();
    let them = if count == 1 { "it" } else { "them" };
    let errors = if count == 1 { "error" } else { "errors" };
    format!(
        "{count} {errors} in the configuration\n{faulty}\ncorrect {them}; `steer config check` looks \
         again, and `--config /dev/null` does without the file"
    )
}

fn common_words(common: &CommonArgs) -> Vec<(&'static str, Value)> {
    let mut words = Vec::new();
    let mut add = |key, value: Option<Value>| words.extend(value.map(|value| (key, value)));
    add("paths.state_dir", common.state_dir.clone().map(Value::Directory));
    add("paths.runtime_dir", common.runtime_dir.clone().map(Value::Directory));
    words
}

/// What the arguments of `run` say.
pub(super) fn run_words(args: &RunArgs) -> Vec<(&'static str, Value)> {
    let mut words = Vec::new();
    let mut add = |key, value: Option<Value>| words.extend(value.map(|value| (key, value)));
    let named = (!args.interfaces.is_empty()).then(|| args.interfaces.clone());
    add("run.interfaces", named.map(Value::Names));
    let ports = (!args.accept.is_empty()).then(|| args.accept.iter().copied().collect());
    add("run.accept", ports.map(Value::Ports));
    add("run.connect", (!args.connect.is_empty()).then(|| Value::Names(args.connect.clone())));
    add("run.period", args.period.map(Value::Time));
    add("run.on_exit", args.on_exit.map(|what: OnExit| Value::choice(&what)));
    add("run.dry_run", args.dry_run.then_some(Value::Flag(true)));
    add("metrics.listen", args.metrics.map(|address| Value::Address(Some(address))));
    let textfile = args.metrics_textfile.clone();
    add("metrics.textfile", textfile.map(|path| Value::File(Some(path))));
    let planning = &args.planning;
    let observer = planning.observer.map(super::args::ObserverArg::choice);
    add("run.observer", observer.map(|how: ObserverChoice| Value::choice(&how)));
    add("policy.placement", planning.policy.map(|policy| Value::choice(&policy.resolve())));
    add("policy.pins", planning.pins.map(|pins| Value::Whole(pins as u64)));
    words
}

/// What a NIC is steered by.
#[must_use]
pub(super) fn terms(values: Values) -> Terms {
    let irqbalance = match values.irqbalance {
        OnIrqbalance::Ban => Consent::Ban,
        OnIrqbalance::Report => Consent::Report(
            "`irqbalance = \"ban\"` under [run] in the configuration would let steer ask it to leave \
             them alone",
        ),
    };
    let Values { policy, maintenance_window, .. } = values;
    Terms { policy, irqbalance, maintenance_window }
}

/// What a daemon does by, as far as a reload may change it.
#[must_use]
pub(super) fn conduct(config: &Config, dry_run: bool) -> Conduct {
    let consented = |values: Values| {
        let mut terms = terms(values);
        if dry_run {
            terms.irqbalance = Consent::Report("this is a dry run, so it is not asked");
        }
        terms
    };
    let values = config.values(None);
    let named = config.interfaces().into_iter();
    Conduct {
        period: values.period,
        restore_on_exit: values.on_exit == OnExit::Restore,
        by_name: named
            .map(|name| (name.to_owned(), consented(config.values(Some(name)))))
            .collect(),
        others: consented(values),
    }
}
