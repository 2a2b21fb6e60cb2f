//! What is simulated: all parameters of a scenario, as built in or as a file.
//!
//! A file is TOML or JSON with either a `traffic` or a `scheduler` table. What it leaves out has the
//! value of the built-in scenarios; an unknown key and a value out of range are errors that say
//! which, and what was expected.

use serde::{Deserialize, Serialize};

use super::draw::pareto_scale;
use super::machine::{MOST_CPUS, Machine};

/// A scenario of either kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Flows come and go, workers change CPU now and then.
    Traffic(Traffic),
    /// Long flows, and threads that the kernel's wake-up rules move.
    Scheduler(Scheduler),
}

/// Flows that come and go, and workers that change CPU now and then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// The machine; a worker on each CPU.
    pub machine: Machine,
    /// RX queues; queue q starts on CPU q x CPUs / queues.
    pub queues: usize,
    /// Entries of the indirection table; entry b starts on queue b mod queues.
    pub buckets: usize,
    /// Packets per second, all flows together.
    pub packets_per_s: f64,
    /// Whether it is that at every moment, with only the shares of flows changing; else on average.
    pub steady_total: bool,
    /// How long rates stay.
    pub tick_s: f64,
    /// Standard deviation of the logarithm of each flow's rate from tick to tick.
    pub tick_sigma: f64,
    /// How long popularity and the phases of the groups stay.
    pub phase_s: f64,
    /// Groups of flows whose rates change together.
    pub phase_groups: usize,
    /// Standard deviation of the logarithm of a group's rate from phase to phase.
    pub phase_sigma: f64,
    /// Exponent of the popularity of workers by rank.
    pub popularity_exponent: f64,
    /// Rate of the largest flow, as a share of the average of a CPU.
    pub largest_flow: f64,
    /// Changes of CPU per worker and minute; workers swap in pairs.
    pub worker_moves_per_min: f64,
    /// Mean softirq time of the CPUs with a queue, as a share of a CPU.
    pub mean_softirq: f64,
    /// With accept steering a client goes to one of so many CPUs around the one that received it.
    pub accept_cpus: usize,
    /// Length.
    pub seconds: u32,
    /// Of that, left out of all figures.
    pub warm_up_s: u32,
    /// What flows there are.
    pub flows: Vec<FlowKind>,
}

/// Flows of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowKind {
    /// How many are active on average.
    pub active: usize,
    /// Share of all packets.
    pub share: f64,
    /// Mean life.
    pub life_s: f64,
    /// Exponent of Pareto-distributed lives; exponentially distributed without.
    #[serde(default)]
    pub life_exponent: Option<f64>,
    /// Exponent of Pareto-distributed rates; equal rates without.
    #[serde(default)]
    pub rate_exponent: Option<f64>,
    /// Whether the far end connected, so that accept steering chooses the worker.
    pub clients: bool,
}

/// Long flows, and threads that the kernel's wake-up rules move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduler {
    /// The machine; as many queues as CPUs, queue q on CPU q.
    pub machine: Machine,
    /// Entries of the indirection table.
    pub buckets: usize,
    /// Threads.
    pub threads: usize,
    /// Flows of each thread, which stay to the end.
    pub flows_per_thread: usize,
    /// Exponent of the flows' rates.
    pub rate_exponent: f64,
    /// Time between two wake-ups of a thread.
    pub tick_s: f64,
    /// Chance that a thread has something to do in a tick.
    pub thread_busy: f64,
    /// Mean softirq time of all CPUs, as a share of a CPU.
    pub mean_softirq: f64,
    /// Softirq time of a CPU above which ksoftirqd may be running when a thread wakes.
    pub ksoftirqd_from: f64,
    /// Softirq time of a CPU at which it always is.
    pub ksoftirqd_always: f64,
    /// Length.
    pub seconds: u32,
    /// Of that, left out of all figures.
    pub warm_up_s: u32,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            machine: Machine { nodes: 1, llcs_per_node: 2, cpus_per_llc: 8 },
            queues: 16,
            buckets: 512,
            packets_per_s: 1e6,
            steady_total: true,
            tick_s: 0.25,
            tick_sigma: 0.4,
            phase_s: 60.0,
            phase_groups: 8,
            phase_sigma: 0.5,
            popularity_exponent: 0.4,
            largest_flow: 0.8,
            worker_moves_per_min: 0.5,
            mean_softirq: 0.14,
            accept_cpus: 1,
            seconds: 180,
            warm_up_s: 30,
            flows: Vec::new(),
        }
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            machine: Machine { nodes: 1, llcs_per_node: 2, cpus_per_llc: 8 },
            buckets: 128,
            threads: 8,
            flows_per_thread: 24,
            rate_exponent: 1.3,
            tick_s: 0.02,
            thread_busy: 0.9,
            mean_softirq: 0.05,
            ksoftirqd_from: 0.4,
            ksoftirqd_always: 0.9,
            seconds: 100,
            warm_up_s: 10,
        }
    }
}

/// Why a scenario cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML or JSON of that form.
    #[error("`{key}`: {why}")]
    Form {
        /// The key that it stumbled at.
        key: String,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// A value that makes no sense.
    #[error("`{key}` is {found}, expected {expected}")]
    Value {
        /// Its key.
        key: &'static str,
        /// The value.
        found: String,
        /// What was expected.
        expected: String,
    },
}

impl Scenario {
    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        match self {
            Self::Traffic(traffic) => traffic.seconds,
            Self::Scheduler(scheduler) => scheduler.seconds,
        }
    }

    /// The same, of another length.
    pub fn set_seconds(&mut self, seconds: u32) {
        match self {
            Self::Traffic(traffic) => traffic.seconds = seconds,
            Self::Scheduler(scheduler) => scheduler.seconds = seconds,
        }
    }

    /// Reads and checks a file: JSON where it begins with a brace, else TOML.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = if text.trim_start().starts_with('{') {
            let mut json = serde_json::Deserializer::from_str(text);
            let scenario = serde_path_to_error::deserialize(&mut json).map_err(form)?;
            json.end().map_err(|error| ScenarioError::Form {
                key: ".".to_owned(),
                why: error.to_string(),
            })?;
            scenario
        } else {
            let toml = toml::Deserializer::parse(text).map_err(|error| ScenarioError::Form {
                key: ".".to_owned(),
                why: error.to_string(),
            })?;
            serde_path_to_error::deserialize(toml).map_err(form)?
        };
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether every value is within its range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        match self {
            Self::Traffic(traffic) => traffic.check(),
            Self::Scheduler(scheduler) => scheduler.check(),
        }
    }
}

fn form<E: std::fmt::Display>(error: serde_path_to_error::Error<E>) -> ScenarioError {
    let key = error.path().to_string();
    ScenarioError::Form { key, why: error.into_inner().to_string() }
}

fn within<T: Copy + PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ScenarioError> {
    // Written so that a value that is no number is out of range.
    if value >= least && value <= most {
        return Ok(());
    }
    let expected = format!("{least} to {most}");
    Err(ScenarioError::Value { key, found: value.to_string(), expected })
}

fn machine(machine: Machine) -> Result<(), ScenarioError> {
    within("machine.nodes", machine.nodes, 1, 64)?;
    within("machine.llcs_per_node", machine.llcs_per_node, 1, 256)?;
    within("machine.cpus_per_llc", machine.cpus_per_llc, 1, 256)?;
    within("machine (CPUs in all)", machine.cpus(), 2, MOST_CPUS)
}

/// A second is a whole number of ticks.
fn tick(tick_s: f64) -> Result<(), ScenarioError> {
    within("tick_s", tick_s, 0.001, 1.0)?;
    let per_second = 1.0 / tick_s;
    if (per_second - per_second.round()).abs() < 1e-6 {
        return Ok(());
    }
    let expected = "a second divided by a whole number".to_owned();
    Err(ScenarioError::Value { key: "tick_s", found: tick_s.to_string(), expected })
}

fn length(seconds: u32, warm_up_s: u32) -> Result<(), ScenarioError> {
    within("seconds", seconds, 1, 100_000)?;
    within("warm_up_s", warm_up_s, 0, seconds - 1)
}

impl Traffic {
    fn check(&self) -> Result<(), ScenarioError> {
        machine(self.machine)?;
        within("queues", self.queues, 1, MOST_CPUS)?;
        within("buckets", self.buckets, 1, 65_536)?;
        within("packets_per_s", self.packets_per_s, 1.0, 1e9)?;
        tick(self.tick_s)?;
        within("tick_sigma", self.tick_sigma, 0.0, 3.0)?;
        within("phase_s", self.phase_s, self.tick_s, 1e6)?;
        within("phase_groups", self.phase_groups, 1, 1024)?;
        within("phase_sigma", self.phase_sigma, 0.0, 3.0)?;
        within("popularity_exponent", self.popularity_exponent, 0.0, 5.0)?;
        within("largest_flow", self.largest_flow, 1e-6, 1e6)?;
        within("worker_moves_per_min", self.worker_moves_per_min, 0.0, 6000.0)?;
        within("mean_softirq", self.mean_softirq, 1e-6, 1.0)?;
        within("accept_cpus", self.accept_cpus, 1, self.machine.cpus())?;
        length(self.seconds, self.warm_up_s)?;
        within("flows (kinds)", self.flows.len(), 1, 64)?;
        let mut shares = 0.0;
        for kind in &self.flows {
            kind.check(self.mean_rate(kind), self.largest_rate())?;
            shares += kind.share;
        }
        within("flows.share (sum over all kinds)", shares, 0.999, 1.001)
    }

    /// Rate of the largest flow, in packets per second.
    pub(super) fn largest_rate(&self) -> f64 {
        self.largest_flow * self.packets_per_s / self.machine.cpus() as f64
    }

    /// Mean rate of a flow of `kind`, in packets per second.
    pub(super) fn mean_rate(&self, kind: &FlowKind) -> f64 {
        kind.share * self.packets_per_s / kind.active.max(1) as f64
    }

    /// CPU time of a packet, as a share of a CPU per packet per second.
    pub(super) fn time_per_packet(&self) -> f64 {
        let used = self.queues.min(self.machine.cpus());
        self.mean_softirq * used as f64 / self.packets_per_s
    }
}

impl FlowKind {
    fn check(&self, mean_rate: f64, largest_rate: f64) -> Result<(), ScenarioError> {
        within("flows.active", self.active, 1, 1_000_000)?;
        within("flows.share", self.share, 1e-9, 1.0)?;
        within("flows.life_s", self.life_s, 0.01, 1e6)?;
        within("flows.life_exponent", self.life_exponent.unwrap_or(2.0), 1.01, 100.0)?;
        let exponent = self.rate_exponent.unwrap_or(2.0);
        within("flows.rate_exponent", exponent, 1.01, 100.0)?;
        if pareto_scale(exponent, largest_rate, mean_rate).is_none() {
            return Err(ScenarioError::Value {
                key: "flows.share",
                found: self.share.to_string(),
                expected: format!(
                    "no more than {} flows of at most `largest_flow` can carry",
                    self.active
                ),
            });
        }
        Ok(())
    }
}

impl Scheduler {
    fn check(&self) -> Result<(), ScenarioError> {
        machine(self.machine)?;
        within("buckets", self.buckets, 1, 65_536)?;
        within("threads", self.threads, 1, 10_000)?;
        within("flows_per_thread", self.flows_per_thread, 1, 10_000)?;
        within("rate_exponent", self.rate_exponent, 1.01, 100.0)?;
        tick(self.tick_s)?;
        within("thread_busy", self.thread_busy, 0.0, 1.0)?;
        within("mean_softirq", self.mean_softirq, 1e-6, 1.0)?;
        within("ksoftirqd_from", self.ksoftirqd_from, 0.0, 1.0)?;
        within("ksoftirqd_always", self.ksoftirqd_always, self.ksoftirqd_from, 1.0)?;
        length(self.seconds, self.warm_up_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOWS: &str =
        "[[traffic.flows]]\nactive = 100\nshare = 1.0\nlife_s = 5.0\nclients = true\n";

    #[test]
    fn what_a_file_leaves_out_is_as_built_in() {
        let Scenario::Traffic(traffic) = Scenario::parse(FLOWS).expect("valid") else { panic!() };
        assert_eq!((traffic.buckets, traffic.seconds), (512, 180));
        let json = "{\"scheduler\": {\"threads\": 3}}";
        let Scenario::Scheduler(scheduler) = Scenario::parse(json).expect("valid") else {
            panic!()
        };
        assert_eq!((scheduler.threads, scheduler.flows_per_thread), (3, 24));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |line: &str| format!("[traffic]\n{line}\n{FLOWS}");
        for (text, key, why) in [
            (with("bukets = 1"), "bukets", "expected one of"),
            (with("buckets = \"many\""), "traffic.buckets", "expected usize"),
            (with("buckets = 0"), "buckets", "1 to 65536"),
            (with("tick_s = 0.3"), "tick_s", "whole number"),
            (with("tick_sigma = nan"), "tick_sigma", "0 to 3"),
            (with("warm_up_s = 180"), "warm_up_s", "0 to 179"),
            (FLOWS.replace("1.0", "0.5"), "flows.share", "0.999"),
            (FLOWS.replace("100", "10"), "flows.share", "largest_flow"),
            (FLOWS.replace("life_s = 5.0", ""), "traffic.flows[0]", "life_s"),
            ("{\"scheduler\": {\"threads\": \"x\"}}".to_owned(), "scheduler.threads", "usize"),
            ("[road]\n".to_owned(), "road", "traffic"),
            ("{".to_owned(), ".", "EOF"),
        ] {
            let error = Scenario::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(key) && error.contains(why), "{text}: {error}");
        }
    }
}
