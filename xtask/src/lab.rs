//! `cargo xtask lab`: boots a machine for each scenario, shows what its guest program says, and
//! ends with one verdict line each.
//!
//! The scenarios and the machines each is meant for are a table in `steer-lab`, the guest program;
//! this side asks it for them. What a run is stands in [`crate::run`].

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{
    dist,
    machine::{Machine, Nic, Topology},
    process,
    run::{self, Run},
    workspace,
};

/// Choice of scenarios and machines.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Kernel series to boot instead of those the scenario is meant for.
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// NIC to test instead of those the scenario is meant for.
    #[arg(long)]
    nic: Option<Nic>,
    /// NICs under test, each on a wire of its own, instead of as many as the scenario is meant for.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=4))]
    nics: Option<u32>,
    /// CPUs of the machine: `8`, or sockets, cores and threads as `2x2x2`, with a NUMA node for each
    /// socket [default: what the scenario is meant for, mostly 4].
    #[arg(long, visible_alias = "topology", value_name = "CPUS")]
    cpus: Option<Topology>,
    /// Seconds after which a scenario is given up [default: 300, of a long one 4200].
    #[arg(long)]
    timeout: Option<u64>,
    /// Run the long scenarios too.
    #[arg(long)]
    full: bool,
    /// List the scenarios and their machines.
    #[arg(long)]
    list: bool,
    /// Scenarios to run; all of them if none is named.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// A row of the guest program's table.
struct Scenario {
    name: String,
    /// What it shows, in a sentence.
    about: String,
    needs: Needs,
    /// Takes many minutes, or needs many machines: runs when it is named, or with `--full`.
    long: bool,
    /// The machines it is meant for.
    machines: Vec<Machine>,
}

/// What a scenario drives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing but the lab.
    Lab,
    /// The program.
    Steer,
    /// The Debian package.
    Package,
}

/// The command.
pub(crate) fn lab(options: &Options) -> Result<()> {
    cargo_build("steer-tests")?;
    let scenarios = scenarios()?;
    if options.list {
        for scenario in &scenarios {
            let long = if scenario.long { " (only if named, or with --full)" } else { "" };
            println!("{:12} {}{long}", scenario.name, scenario.about);
            for machine in &scenario.machines {
                println!("{:12}   {machine}", "");
            }
        }
        return Ok(());
    }
    let selected = select(&scenarios, options)?;
    // A scenario of the lab alone does not wait for steer to be built.
    let needed = |what| selected.iter().any(|(scenario, _)| scenario.needs == what);
    if needed(Needs::Package) {
        dist::for_lab()?;
    }
    if needed(Needs::Steer) {
        cargo_build("steer-agent")?;
    }
    let mut failed = 0;
    for (_, run) in &selected {
        failed += usize::from(run.run()?.failure.is_some());
    }
    println!("{} passed, {failed} failed", selected.len() - failed);
    ensure!(failed == 0, "the logs are in {}", run::logs().display());
    Ok(())
}

/// Builds what runs in the guest.
pub(crate) fn build() -> Result<()> {
    cargo_build("steer-tests")?;
    cargo_build("steer-agent")
}

/// Builds what runs in the guest, and returns every short scenario on every machine it is meant for.
pub(crate) fn short() -> Result<Vec<Run>> {
    cargo_build("steer-tests")?;
    dist::for_lab()?;
    cargo_build("steer-agent")?;
    let short = scenarios()?.into_iter().filter(|scenario| !scenario.long);
    let selected = short.flat_map(|scenario| {
        let Scenario { name, machines, .. } = scenario;
        let run = move |machine| Run::new(&name, machine, Duration::from_secs(TIMEOUT));
        machines.into_iter().map(run)
    });
    Ok(selected.collect())
}

/// The machines that a scenario is meant for.
pub(crate) fn machines_of(name: &str) -> Result<Vec<Machine>> {
    let found = scenarios()?.into_iter().find(|scenario| scenario.name == name);
    Ok(found.with_context(|| format!("no scenario {name}"))?.machines)
}

/// Seconds after which a scenario is given up, unless asked for otherwise. On a quiet host most take a
/// minute and the longest, `package`, two; the rest is for a host that is not.
pub(crate) const TIMEOUT: u64 = 300;
/// The same for a long one: an hour, and some minutes to begin and to end.
const LONG_TIMEOUT: u64 = 4200;

/// Asks the guest program for its scenarios.
fn scenarios() -> Result<Vec<Scenario>> {
    let table = process::capture(Command::new(run::guest_program()).arg("list"))?;
    let row = |line: &str| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().with_context(|| format!("short row in the table: {line}"));
        let name = cell()?.to_owned();
        let needs = match cell()? {
            "package" => Needs::Package,
            "steer" => Needs::Steer,
            _ => Needs::Lab,
        };
        let long = cell()? == "long";
        let machines = cell()?.split(' ').map(str::parse).collect::<Result<_>>()?;
        Ok(Scenario { name, about: cell()?.to_owned(), needs, long, machines })
    };
    table.lines().map(row).collect()
}

/// The runs that the options ask for.
fn select<'a>(scenarios: &'a [Scenario], options: &Options) -> Result<Vec<(&'a Scenario, Run)>> {
    for name in &options.scenarios {
        if !scenarios.iter().any(|scenario| scenario.name == *name) {
            bail!("no scenario {name}; `cargo xtask lab --list` shows them");
        }
    }
    let by_name = !options.scenarios.is_empty();
    let mut selected = Vec::new();
    for scenario in scenarios {
        let wanted = if by_name {
            options.scenarios.contains(&scenario.name)
        } else {
            options.full || !scenario.long
        };
        if !wanted {
            continue;
        }
        let chosen = |machine: &&Machine| {
            options.nic.is_none_or(|it| it == machine.nic)
                && options.kernel.as_ref().is_none_or(|it| *it == machine.kernel)
        };
        let mut machines: Vec<_> = scenario.machines.iter().filter(chosen).cloned().collect();
        // A scenario asked for by name runs wherever one wants to see it.
        if machines.is_empty() && by_name {
            let mut machine = scenario.machines.last().context("a scenario has machines")?.clone();
            machine.nic = options.nic.unwrap_or(machine.nic);
            machine.kernel = options.kernel.clone().unwrap_or(machine.kernel);
            machines.push(machine);
        }
        for machine in &mut machines {
            machine.nics = options.nics.unwrap_or(machine.nics);
            machine.topology = options.cpus.unwrap_or(machine.topology);
        }
        let usual = if scenario.long { LONG_TIMEOUT } else { TIMEOUT };
        let timeout = Duration::from_secs(options.timeout.unwrap_or(usual));
        let run = |machine| (scenario, Run::new(&scenario.name, machine, timeout));
        selected.extend(machines.into_iter().map(run));
    }
    ensure!(!selected.is_empty(), "no scenario is meant for such a machine; name one to try it");
    Ok(selected)
}

fn cargo_build(package: &str) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", package]);
    process::run(cargo.current_dir(workspace::root()))
}
