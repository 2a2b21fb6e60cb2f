//! `steer run`: keeps correcting until told to stop.

use std::cell::RefCell;
use std::path::Path;

use anyhow::Context as _;

use super::args::{AcceptArg, CommonArgs, OnExit, RunArgs};
use super::output::print_line;
use super::select::{for_looking_on, for_writing};
use super::settings::{complaint, conduct, load, run_words};
use super::{Exit, Settings, rights};
use crate::config::Config;
use crate::config::keys::Effect;
use crate::run::accept::AcceptOptions;
use crate::run::metrics::Audience;
use crate::run::terms::Conduct;
use crate::run::{Ended, Options, run as steer};
use crate::sys::peer;

/// Where groups have their numbers, group(5).
const GROUPS: &str = "/etc/group";

pub(super) fn run(
    args: &RunArgs,
    common: &CommonArgs,
    settings: &Settings,
) -> anyhow::Result<Exit> {
    let machine = settings.machine()?;
    let config = settings.config.clone().over(run_words(args));
    let values = config.values(None);
    let (observer, dry_run) = (values.observer.resolve(), values.dry_run);
    let group = values.group.as_deref().map(|name| peer::group_id(Path::new(GROUPS), name));
    let group = group.transpose().context("`run.group` in the configuration")?;
    let conduct = conduct(&config, dry_run);
    let policy_of = |nic: &str| conduct.of(nic).policy.clone();
    let nics = if dry_run && values.interfaces.is_empty() {
        for_looking_on(&machine)?
    } else {
        for_writing(&machine, &values.interfaces, &policy_of)?
    };
    if dry_run {
        rights::to_observe(&machine, observer)?;
    } else {
        rights::to_write(&machine, observer)?;
    }
    let names: Vec<String> = nics.iter().map(|nic| nic.name.clone()).collect();
    let period = values.period;
    let end = match values.on_exit {
        OnExit::Restore => "on exit everything is put back",
        OnExit::Keep => "on exit everything is left as corrected",
    };
    let mut greeting = vec![if dry_run {
        format!("observing {} every {period:?}; dry run, nothing is written", names.join(", "))
    } else {
        format!(
            "observing {} every {period:?}; table, IRQs and XPS may be written; {end}",
            names.join(", ")
        )
    }];
    for nic in &nics {
        if let Some(refusal) = policy_of(&nic.name).table_refusal(nic) {
            greeting.push(format!("{}: {refusal}", nic.name));
        }
    }
    let options = Options {
        greeting,
        nics,
        conduct,
        observer,
        state_dir: settings.state_dir.clone(),
        runtime_dir: settings.runtime_dir.clone(),
        group,
        accept: AcceptOptions { ports: values.accept, by: args.accept_by.map(AcceptArg::resolve) },
        connect: values.connect,
        metrics: Audience {
            listen: values.metrics_listen,
            textfile: values.metrics_textfile,
            bpf_run_time: values.bpf_run_time,
        },
        dry_run,
    };
    let say = |line: &str| {
        if let Err(error) = print_line(line) {
            log::warn!("cannot write to standard output: {error}");
        }
    };
    let reload = Reload { args, common, dry_run, present: RefCell::new(config), say: &say };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(steer(options, &machine, &say, &|| reload.again()))?;
    Ok(match ended {
        Ended::AsAsked => Exit::Done,
        Ended::NotRestored => Exit::NotRestored,
    })
}

/// Reads the configuration again, under the same command line.
struct Reload<'a> {
    args: &'a RunArgs,
    common: &'a CommonArgs,
    dry_run: bool,
    /// What is in force, as far as a reload may change it.
    present: RefCell<Config>,
    say: &'a dyn Fn(&str),
}

impl Reload<'_> {
    /// What to go by from now on, after saying what is different; `None`, after saying why, where the
    /// present configuration stays.
    fn again(&self) -> Option<Conduct> {
        let kept = "configuration not reloaded, everything stays as it is";
        let new = match load(self.common) {
            Ok(Ok(new)) => new.over(run_words(self.args)),
            Ok(Err(faulty)) => {
                (self.say)(&format!("{kept}: {}", complaint(&faulty)));
                return None;
            }
            Err(error) => {
                (self.say)(&format!("{kept}: {error:#}"));
                return None;
            }
        };
        let differences = self.present.replace(new.clone()).differences(&new);
        let of = |effect| -> Vec<String> {
            let those = differences.iter().filter(|one| one.key.effect == effect);
            those.map(ToString::to_string).collect()
        };
        let (now, later) = (of(Effect::Reload), of(Effect::Start));
        (self.say)(&match now.as_slice() {
            [] => "configuration reloaded: nothing is different".to_owned(),
            now => format!("configuration reloaded: {}", now.join(", ")),
        });
        if !later.is_empty() {
            (self.say)(&format!("at the next start only: {}", later.join(", ")));
        }
        Some(conduct(&new, self.dry_run))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Args, Command};
    use super::*;

    #[test]
    fn a_reload_is_taken_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("steer.toml");
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        let words =
            ["steer", "run", "eth0", "--period", "2s", "--config", file.to_str().expect("text")];
        let Args { common, command: Command::Run(args) } = Args::parse_from(words) else {
            panic!("it is `run`")
        };
        let said = RefCell::new(Vec::<String>::new());
        let say = |line: &str| said.borrow_mut().push(line.replace(words[6], "FILE"));
        let present = RefCell::new(Config::default().over(run_words(&args)));
        let reload = Reload { args: &args, common: &common, dry_run: false, present, say: &say };

        write("[policy]\npins = 2\n[run]\nperiod = \"5s\"\ngroup = \"staff\"\n");
        let conduct = reload.again().expect("valid");
        assert_eq!(conduct.of("eth0").policy.pins, 2);
        assert_eq!(conduct.period.as_secs(), 2, "the command line counts for more");
        assert_eq!(
            said.take(),
            [
                "configuration reloaded: policy.pins 0 -> 2",
                "at the next start only: run.group \"none\" -> \"staff\""
            ]
        );

        write("[policy]\npins = 3\nplacement = \"nowhere\"\n");
        assert!(reload.again().is_none(), "nothing of it holds");
        let told = said.take().join("\n");
        assert!(
            told.starts_with(
                "configuration not reloaded, everything stays as it is: 1 error in the \
                 configuration\nFILE:3: `policy.placement` is \"nowhere\", expected \"same-core\""
            ),
            "{told}"
        );

        std::fs::remove_file(&file).expect("removed");
        assert!(reload.again().is_none(), "it was named, and is gone");
        assert!(said.take().join("\n").contains("cannot read the configuration FILE"));

        // Compared with what is in force, not with what was refused.
        write("[interface.eth0]\npins = 1\n[run]\ngroup = \"staff\"\n");
        let conduct = reload.again().expect("valid");
        assert_eq!((conduct.of("eth0").policy.pins, conduct.of("eth1").policy.pins), (1, 0));
        assert_eq!(
            said.take(),
            ["configuration reloaded: policy.pins 2 -> 0, eth0: policy.pins 2 -> 1"]
        );
    }
}
