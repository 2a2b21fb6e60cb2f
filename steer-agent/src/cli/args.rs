//! The arguments, and nothing but them: what they mean together is settled in `settings`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::observe::Observer;
use crate::policy::{Placement, Policy};

/// Makes a connection's packets and its consumer meet on one CPU.
///
/// steer sees, for each connection, the NIC queue and the CPU where its packets arrive and the CPU
/// where its data is consumed. Where they differ it rewrites the RSS indirection table and the
/// affinity of the interrupts, checks that it helped, and can put everything back.
///
/// Looking never writes: only `apply`, `run`, `restore` and `release` do. Exit codes: 0 done, 1 nothing to do
/// or not met, 2 failed, 3 failed and not fully restored.
#[derive(Debug, Parser)]
#[command(name = "steer", version, max_term_width = 100)]
pub struct Args {
    /// What all commands take.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands take.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Directory of journals and recordings
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/steer")]
    pub state_dir: PathBuf,
    /// Directory of the status socket
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/steer")]
    pub runtime_dir: PathBuf,
    /// Configuration; may be absent where it is not named [default: /etc/steer/steer.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What this host and its NICs can do, what is missing and what fights, each with its consequence
    Doctor(DoctorArgs),
    /// Flow-to-core mismatches, queues and alignment, from the daemon or observed here
    Status(StatusArgs),
    /// The steps that would help, with gain and reason; writes nothing
    Plan(PlanArgs),
    /// Observe, plan, write once, check; `restore` undoes it
    Apply(ApplyArgs),
    /// Keep correcting until told to stop
    Run(RunArgs),
    /// Put back what was set before steer
    Restore(RestoreArgs),
    /// Give a NIC up: forget what was before steer, leave everything set, unblock `ethtool -L`
    Release(ReleaseArgs),
    /// The planner beside other policies on synthetic traffic; touches no NIC
    Simulate(SimulateArgs),
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Interfaces; without any, all that have hardware
    pub interfaces: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Interfaces; without any, all that can be steered
    pub interfaces: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// List all flows, aligned ones too (JSON only)
    #[arg(long, requires = "json")]
    pub flows: bool,
    /// Print again and again, once a window, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// How long to observe where no daemon runs
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub window: Duration,
    /// How to see packets arrive; naming one observes here even if a daemon runs
    #[arg(long, value_name = "HOW")]
    pub observer: Option<ObserverArg>,
}

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Interfaces; without any, all that can be steered
    pub interfaces: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How long to observe
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub window: Duration,
    /// How to observe and what to plan for.
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Plan the problem in this file instead (`-` is standard input; see docs/planner.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "window", "observer", "policy"])]
    pub problem: Option<PathBuf>,
    /// Where the planner's random numbers start
    #[arg(long, value_name = "N", default_value_t = 1, requires = "problem")]
    pub seed: u64,
    /// Search on for this long, instead of a fixed amount of work
    #[arg(long, value_name = "N", requires = "problem")]
    pub budget_us: Option<u64>,
}

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Interfaces; naming one is the consent to write to it
    pub interfaces: Vec<String>,
    /// How long to observe before, and again after
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub window: Duration,
    /// How to observe and what to plan for.
    #[command(flatten)]
    pub planning: PlanningArgs,
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Interfaces; naming one is the consent to write to it
    pub interfaces: Vec<String>,
    /// Time between two looks [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub period: Option<Duration>,
    /// What to leave behind on SIGTERM and Ctrl-C [default: restore]
    #[arg(long, value_name = "WHAT")]
    pub on_exit: Option<OnExit>,
    /// How to observe and what to plan for.
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Say what would be written and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Interfaces; naming one is the consent to write to it
    pub interfaces: Vec<String>,
    /// Put back over what somebody else has set since
    #[arg(long)]
    pub force: bool,
}

/// What `plan`, `apply` and `run` have in common.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanningArgs {
    /// How to see packets arrive
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub observer: ObserverArg,
    /// Where interrupts are to be, relative to consumers [default: same-core]
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<PolicyArg>,
    /// At most so many exact-match (ntuple) rules for heavy flows that have been seen for 5 s; off by
    /// default, and not yet run on hardware
    #[arg(long, value_name = "N")]
    pub pins: Option<usize>,
}

impl PlanningArgs {
    /// The configured policy with what the arguments say instead.
    #[must_use]
    pub fn over(&self, configured: &Policy) -> Policy {
        let placement = self.policy.map_or(configured.placement, PolicyArg::resolve);
        let pins = self.pins.unwrap_or(configured.pins);
        Policy { placement, pins, ..configured.clone() }
    }
}

/// Arguments of `release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// Interfaces; naming one is the consent to write to it
    pub interfaces: Vec<String>,
    /// Set the table to the kernel's default even if that moves buckets
    #[arg(long)]
    pub default_table: bool,
}

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Built-in scenarios, or files of scenarios in TOML or JSON (see docs/simulator.md)
    #[arg(value_name = "SCENARIO|FILE", required_unless_present = "list")]
    pub scenarios: Vec<String>,
    /// List the built-in scenarios; with --json, all their parameters
    #[arg(long, conflicts_with_all = ["scenarios", "plot", "seed", "seeds", "policy", "seconds"])]
    pub list: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Draw alignment and moves over time into this SVG file; one scenario only
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// A seed; may be given more than once, and figures are means over all [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Vec<u64>,
    /// So many seeds, from 1 on
    #[arg(long, value_name = "N", conflicts_with = "seed", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: Option<u64>,
    /// Only this policy; may be given more than once
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub policy: Vec<String>,
    /// Simulate so many seconds instead of the scenario's
    #[arg(long, value_name = "N")]
    pub seconds: Option<u32>,
}

/// How packets are seen to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObserverArg {
    /// The least intrusive that works here: tracing
    Auto,
    /// Tracing programs on the receive path; resets nothing
    Tracing,
    /// An XDP program; attaching it resets most NICs for a moment
    Xdp,
}

impl ObserverArg {
    /// The observer that is meant.
    #[must_use]
    pub fn resolve(self) -> Observer {
        match self {
            Self::Auto | Self::Tracing => Observer::Tracing,
            Self::Xdp => Observer::Xdp,
        }
    }
}

/// Where interrupts are to be, relative to consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// On the consumer's own CPU
    SameCore,
    /// On the other hardware thread of the consumer's core
    SmtSibling,
    /// Anywhere under the consumer's last-level cache
    SameLlc,
    /// Anywhere on the consumer's NUMA node
    SameNode,
    /// Near the consumer, but on cores that consume nothing
    Dedicated,
}

impl PolicyArg {
    /// The placement that is meant.
    #[must_use]
    pub fn resolve(self) -> Placement {
        match self {
            Self::SameCore => Placement::SameCore,
            Self::SmtSibling => Placement::SmtSibling,
            Self::SameLlc => Placement::SameLlc,
            Self::SameNode => Placement::SameNode,
            Self::Dedicated => Placement::Dedicated,
        }
    }
}

/// What `run` leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// Everything as it was before
    Restore,
    /// Everything as corrected; `steer restore` undoes it later
    Keep,
}

/// A duration such as `3s`, `500ms` or `1m`, between 100 milliseconds and a minute.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a time such as 3s or 500ms"))?;
    if (Duration::from_millis(100)..=Duration::from_mins(1)).contains(&duration) {
        Ok(duration)
    } else {
        Err("expected between 100ms and 1m".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_argument_has_help_and_none_clash() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(walk);
        }
        let command = Args::command();
        command.clone().debug_assert();
        walk(&command);
    }

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "3", "-1s", "10ms", "2h", "1e9s", "s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
