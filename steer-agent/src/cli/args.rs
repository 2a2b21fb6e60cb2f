//! The arguments, and nothing but them: what they mean together is settled in `settings`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::keys::ObserverChoice;
pub use crate::config::keys::OnExit;
use crate::observe::Observer;
use crate::policy::{Placement, Policy};
use crate::report::accept::Mechanism;
pub use crate::report::recording::Extent;

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
    /// Directory of journals and recordings [default: /var/lib/steer]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory of the status socket [default: /run/steer]
    #[arg(long, global = true, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Configuration; may be absent where it is not named [default: /etc/steer/steer.toml]
    #[arg(long, global = true, value_name = "FILE", env = "STEER_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What this host and its NICs can do, what is missing and what fights, each with its consequence
    Doctor(DoctorArgs),
    /// Flow-to-core mismatches, queues and alignment, from the daemon or observed here
    Status(StatusArgs),
    /// Show the same on a screen that goes on: flows, queues, heat map, history, events
    Top(TopArgs),
    /// The steps that would help, with gain and reason; writes nothing
    Plan(PlanArgs),
    /// Observe, plan, write once, check; `restore` undoes it
    Apply(ApplyArgs),
    /// Keep correcting until told to stop
    Run(RunArgs),
    /// Write down what is read, window by window, into one file
    Record(RecordArgs),
    /// Show the windows of a recording one after the other
    Replay(ReplayArgs),
    /// One HTML page to show around: before, what was changed and why, after
    Report(ReportArgs),
    /// Put back what was set before steer
    Restore(RestoreArgs),
    /// Give a NIC up: forget what was before steer, leave everything set, unblock `ethtool -L`
    Release(ReleaseArgs),
    /// What the configuration says, and what is wrong with it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The planner beside other policies on synthetic traffic; touches no NIC
    Simulate(SimulateArgs),
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Find everything that is wrong with it; exit code 2 if anything is
    Check(ConfigCheckArgs),
    /// Every key with its effective value and where that comes from
    Show(ConfigShowArgs),
    /// Whether `run` has something to do: exit code 1 while no interface is named; for service managers
    Ready,
}

/// Arguments of `config check`.
#[derive(Debug, clap::Args)]
pub struct ConfigCheckArgs {
    /// The file; without one, that of --config
    pub file: Option<PathBuf>,
}

/// Arguments of `config show`: those of `run`, for which it shows what they would come to.
#[derive(Debug, clap::Args)]
pub struct ConfigShowArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What `run` would be told.
    #[command(flatten)]
    pub run: RunArgs,
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
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
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
    #[arg(long, conflicts_with = "from")]
    pub watch: bool,
    /// How long to observe where no daemon runs
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub window: Duration,
    /// How to see packets arrive; naming one observes here even if a daemon runs
    #[arg(long, value_name = "HOW", conflicts_with = "from")]
    pub observer: Option<ObserverArg>,
    /// Ask the daemon and do nothing else: exit code 1 where none answers
    #[arg(long, conflicts_with_all = ["from", "observer", "watch", "window"])]
    pub daemon: bool,
    /// A recording to look at.
    #[command(flatten)]
    pub recording: FromArgs,
}

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// Interfaces; without any, all that can be steered
    pub interfaces: Vec<String>,
    /// Time between two looks where no daemon runs
    #[arg(long = "for", value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub window: Duration,
    /// Leave the mouse to the terminal; without this the wheel scrolls and a click chooses a view
    #[arg(long)]
    pub no_mouse: bool,
    /// How to see packets arrive; naming one observes here even if a daemon runs
    #[arg(long, value_name = "HOW")]
    pub observer: Option<ObserverArg>,
    /// Play this recording instead of looking at this machine; `p` pauses, `+` and `-` change the speed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["window", "observer"])]
    pub from: Option<PathBuf>,
    /// Play it so many times as fast as it was
    #[arg(long, value_name = "N", default_value = "1", requires = "from", value_parser = speed)]
    pub speed: f64,
}

impl TopArgs {
    /// What `status` would be asked for the same.
    #[must_use]
    pub fn as_status(&self) -> StatusArgs {
        StatusArgs {
            interfaces: self.interfaces.clone(),
            json: false,
            flows: true,
            watch: true,
            window: self.window,
            observer: self.observer,
            daemon: false,
            recording: FromArgs::default(),
        }
    }
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
    /// A recording to plan for.
    #[command(flatten)]
    pub recording: FromArgs,
    /// Plan the problem in this file instead (`-` is standard input; see docs/planner.md)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "window", "observer", "policy", "from"])]
    pub problem: Option<PathBuf>,
    /// Where the planner's random numbers start
    #[arg(long, value_name = "N", default_value_t = 1, requires = "problem")]
    pub seed: u64,
    /// Search on for this long, instead of a fixed amount of work
    #[arg(long, value_name = "N", requires = "problem")]
    pub budget_us: Option<u64>,
}

/// Arguments of `record`.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// Interfaces; without any, all that can be steered
    pub interfaces: Vec<String>,
    /// How long
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = long_duration)]
    pub length: Duration,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub every: Duration,
    /// The file, which must not be there yet (`-` is standard output)
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace addresses (prefixes stay prefixes) and names of processes; with `all`, of interfaces too
    #[arg(
        long,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "addresses"
    )]
    pub anonymise: Option<Extent>,
    /// Copy this recording instead of observing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "length", "every", "observer"])]
    pub from: Option<PathBuf>,
    /// How to see packets arrive
    #[arg(long, value_name = "HOW")]
    pub observer: Option<ObserverArg>,
}

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The recording
    pub file: PathBuf,
    /// Times as fast as it was; 0 does not wait
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub speed: f64,
    /// Print JSON, one document a line
    #[arg(long)]
    pub json: bool,
}

/// One HTML page to show around: before, what was changed and why, after
///
/// From a recording, or from looking on here. With --apply half of the time is observed, then settings are
/// written once as by `steer apply`, then the other half is observed. The page stands for itself: it loads
/// nothing, follows the reader's light or dark, and prints. It names addresses and processes (--anonymise
/// replaces them) and is readable by its owner only.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steer report eth0 --live 60s -o now.html               look on for a minute
  steer report eth0 --live 60s --apply -o gain.html      30 s before, correct, 30 s after
  steer report --from now.steer -o then.html             of what `steer record` wrote
  steer report eth0 -o - | ssh desk 'cat > eth0.html'")]
pub struct ReportArgs {
    /// Interfaces; without any, all that can be steered, or all of the recording. With --apply naming one
    /// is the consent to write to it
    pub interfaces: Vec<String>,
    /// Report on this recording instead of this machine
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["live", "apply", "every", "observer", "policy", "pins"]
    )]
    pub from: Option<PathBuf>,
    /// Look on for this long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = long_duration)]
    pub live: Option<Duration>,
    /// Correct once in the middle of that time
    #[arg(long)]
    pub apply: bool,
    /// What --apply leaves behind at the end: the correction, as `apply` does, until `steer restore`, or
    /// everything as it was
    #[arg(long, value_name = "WHAT", default_value = "keep", requires = "apply")]
    pub on_exit: OnExit,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub every: Duration,
    /// The file, `-` for standard output [default: steer-report.html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the file if it is there
    #[arg(long)]
    pub force: bool,
    /// Replace addresses (prefixes stay prefixes) and names of processes; with `all`, of interfaces too
    #[arg(
        long,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "addresses"
    )]
    pub anonymise: Option<Extent>,
    /// How to observe and what to plan for.
    #[command(flatten)]
    pub planning: PlanningArgs,
}

/// A recording, and a moment of it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FromArgs {
    /// Look at this recording instead of this machine
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// The window that is over by then, counted from its beginning [default: the last one]
    #[arg(long, value_name = "TIME", requires = "from", value_parser = moment)]
    pub at: Option<Duration>,
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
    /// Interfaces; naming one, here or as `run.interfaces`, is the consent to write to it
    pub interfaces: Vec<String>,
    /// Time between two looks [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub period: Option<Duration>,
    /// Answer Prometheus at this address, such as 127.0.0.1:9750 [default: off]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub metrics: Option<SocketAddr>,
    /// Write metrics into this file, for the textfile collector of `node_exporter`
    #[arg(long, value_name = "FILE")]
    pub metrics_textfile: Option<PathBuf>,
    /// What to leave behind on SIGTERM and Ctrl-C [default: restore]
    #[arg(long, value_name = "WHAT")]
    pub on_exit: Option<OnExit>,
    /// How to observe and what to plan for.
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Bring new connections to these ports to the worker that lives on the CPU where they arrive; the
    /// listeners must share their port (`SO_REUSEPORT`), one for each worker (docs/accept.md)
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = port)]
    pub accept: Vec<u16>,
    /// How to do that [default: sk-lookup]
    #[arg(long, value_name = "HOW", requires = "accept")]
    pub accept_by: Option<AcceptArg>,
    /// Steer the TCP connections that programs in this cgroup make: each leaves from a source port whose
    /// replies come to the CPU that connects. `pid:PID` is the cgroup that this process is in. May be given
    /// more than once (see docs/connect.md)
    #[arg(long, value_name = "CGROUP")]
    pub connect: Vec<String>,
    /// Say what would be written and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Interfaces; naming one is the consent to write to it
    pub interfaces: Vec<String>,
    /// All interfaces of which there is a journal; having none is fine
    #[arg(long, conflicts_with = "interfaces")]
    pub all: bool,
    /// Leave everything as it is where `run.on_exit` in the configuration is `keep`; for service managers,
    /// after a daemon that was killed
    #[arg(long, requires = "all")]
    pub as_on_exit: bool,
    /// Put back over what somebody else has set since
    #[arg(long)]
    pub force: bool,
}

/// What `plan`, `apply` and `run` have in common.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanningArgs {
    /// How to see packets arrive [default: auto]
    #[arg(long, value_name = "HOW")]
    pub observer: Option<ObserverArg>,
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
    /// The same in the configuration.
    #[must_use]
    pub fn choice(self) -> ObserverChoice {
        match self {
            Self::Auto => ObserverChoice::Auto,
            Self::Tracing => ObserverChoice::Tracing,
            Self::Xdp => ObserverChoice::Xdp,
        }
    }

    /// The observer that is meant.
    #[must_use]
    pub fn resolve(self) -> Observer {
        self.choice().resolve()
    }
}

/// How connections are brought to the worker of the CPU where they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcceptArg {
    /// A program that looks sockets up: leaves connections of this host alone, caps a worker's share,
    /// gone with steer
    SkLookup,
    /// `SO_INCOMING_CPU` on each listening socket: the kernel chooses by itself, for connections of this
    /// host too; caps nothing; gone with the socket
    IncomingCpu,
    /// A program in each reuseport group, taken out at the end; refused where the group has one already.
    /// It stays, and does nothing, when steer is killed: `steer restore` takes it out
    Reuseport,
}

impl AcceptArg {
    /// The mechanism that is meant.
    #[must_use]
    pub fn resolve(self) -> Mechanism {
        match self {
            Self::SkLookup => Mechanism::SkLookup,
            Self::IncomingCpu => Mechanism::IncomingCpu,
            Self::Reuseport => Mechanism::Reuseport,
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

/// A length of at least a tenth of a second and at most a week.
fn long_duration(text: &str) -> Result<Duration, String> {
    let duration = moment(text)?;
    if (Duration::from_millis(100)..=Duration::from_hours(7 * 24)).contains(&duration) {
        Ok(duration)
    } else {
        Err("expected between 100ms and 7days".to_owned())
    }
}

/// Any length of time.
fn moment(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a time such as 3s or 10m"))
}

/// A port that something can listen on.
fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("expected a port from 1 to 65535, or several with commas between".to_owned()),
    }
}

/// An address to listen at.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port such as 127.0.0.1:9750 or [::1]:9750";
    text.parse().map_err(|_| expected.to_owned())
}

/// How many times as fast.
fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.0..=1e6).contains(&speed) => Ok(speed),
        _ => Err("expected a number from 0 to 1000000, such as 2 or 0.5".to_owned()),
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
