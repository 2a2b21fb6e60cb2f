//! `steer config`: what is wrong with the configuration, and what is in force.

use super::Exit;
use super::args::{CommonArgs, ConfigCommand, ConfigShowArgs};
use super::output::{note, print, print_json, print_line};
use super::settings::{DEFAULT_CONFIG, complaint, load, run_words};
use crate::config;

pub(super) fn config(command: &ConfigCommand, common: &CommonArgs) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Check(args) => {
            let file = args.file.clone().or_else(|| common.config.clone());
            check(&CommonArgs { config: file, ..common.clone() })
        }
        ConfigCommand::Show(args) => show(args, common),
        ConfigCommand::Ready => ready(common),
    }
}

fn check(common: &CommonArgs) -> anyhow::Result<Exit> {
    let config = match load(common)? {
        Ok(config) => config,
        Err(faulty) => anyhow::bail!("{}", complaint(&faulty)),
    };
    match config.file() {
        Some(file) => {
            let own: Vec<&str> = config.interfaces().into_iter().collect();
            let own = if own.is_empty() {
                String::new()
            } else {
                format!(", interfaces with a section of their own: {}", own.join(", "))
            };
            print_line(&format!("{file}: valid; {} keys are set{own}", config.keys_set()))?;
            Ok(Exit::Done)
        }
        None => {
            let rest = match config.keys_set() {
                0 => "every key has its default".to_owned(),
                count => format!("{count} keys are set otherwise, all others have their defaults"),
            };
            note(&format!("there is no {DEFAULT_CONFIG}: {rest}"));
            Ok(Exit::NotMet)
        }
    }
}

fn show(args: &ConfigShowArgs, common: &CommonArgs) -> anyhow::Result<Exit> {
    let config = match load(common)? {
        // Naming an interface here asks about it; it does not set `run.interfaces`.
        Ok(config) => config.over(
            run_words(&args.run).into_iter().filter(|(key, _)| *key != "run.interfaces").collect(),
        ),
        Err(faulty) => anyhow::bail!("{}", complaint(&faulty)),
    };
    if args.json {
        print_json(&config::json(&config, &args.run.interfaces))?;
    } else {
        print(&config::describe(&config, &args.run.interfaces))?;
    }
    Ok(Exit::Done)
}

fn ready(common: &CommonArgs) -> anyhow::Result<Exit> {
    let config = match load(common)? {
        Ok(config) => config,
        Err(faulty) => anyhow::bail!("{}", complaint(&faulty)),
    };
    let values = config.values(None);
    Ok(match values.interfaces.as_slice() {
        [] if values.dry_run => {
            print_line("`run` has something to do: it looks at every NIC that can be steered")?;
            Exit::Done
        }
        [] => {
            let file = config.file().unwrap_or(DEFAULT_CONFIG);
            print_line(&format!(
                "nothing to do: `interfaces` in section [run] of {file} names no interface that may be \
                 written to (and `dry_run` is not set, which looks at all); `steer status` looks without"
            ))?;
            Exit::NotMet
        }
        names => {
            print_line(&format!("`run` has something to do: {}", names.join(", ")))?;
            Exit::Done
        }
    })
}
