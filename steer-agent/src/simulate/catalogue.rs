//! The built-in scenarios.

use super::machine::Machine;
use super::scenario::{FlowKind, Scenario, Scheduler, Traffic};

/// A scenario with its name and what is special about it.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// What is special about it.
    pub about: &'static str,
    /// The scenario.
    pub scenario: Scenario,
}

/// All built-in scenarios.
#[must_use]
pub fn all() -> Vec<Named> {
    let named = |name, about, scenario| Named { name, about, scenario };
    vec![
        named(
            "long16",
            "16 CPUs, 790 long-lived flows of very different rates",
            Scenario::Traffic(Traffic {
                flows: vec![flows(790, 1.0, 200.0, None, Some(1.2), true)],
                ..Traffic::default()
            }),
        ),
        named(
            "web16",
            "16 CPUs, 12,000 short flows, 2,000 of them new in every second",
            Scenario::Traffic(Traffic {
                flows: vec![flows(12_000, 1.0, 6.0, Some(1.5), Some(1.3), true)],
                ..Traffic::default()
            }),
        ),
        named(
            "lb16",
            "16 CPUs, 256 back-end connections carry half, clients of two seconds the rest",
            Scenario::Traffic(Traffic {
                flows: vec![
                    flows(256, 0.5, 600.0, None, Some(3.0), false),
                    flows(6144, 0.5, 2.0, None, Some(1.5), true),
                ],
                ..Traffic::default()
            }),
        ),
        named(
            "eleph16",
            "16 CPUs, 60 elephants carry 80 %, mice the rest; 128 buckets",
            Scenario::Traffic(Traffic {
                buckets: 128,
                flows: vec![
                    flows(60, 0.8, 60.0, None, Some(1.1), true),
                    flows(5040, 0.2, 10.0, None, None, true),
                ],
                ..Traffic::default()
            }),
        ),
        named(
            "numa64",
            "64 CPUs on two nodes of four caches, 3,000 flows",
            Scenario::Traffic(Traffic {
                machine: LARGE,
                queues: 64,
                worker_moves_per_min: 0.2,
                flows: vec![flows(3000, 1.0, 100.0, None, Some(1.2), true)],
                ..Traffic::default()
            }),
        ),
        named(
            "fewq64",
            "64 CPUs, 16 queues and 128 buckets, 1,500 flows",
            Scenario::Traffic(Traffic {
                machine: LARGE,
                buckets: 128,
                worker_moves_per_min: 0.2,
                accept_cpus: 4,
                flows: vec![flows(1500, 1.0, 100.0, None, Some(1.2), true)],
                ..Traffic::default()
            }),
        ),
        named(
            "sched8",
            "8 threads that the scheduler moves, light softirq load",
            threads(8, LIGHT),
        ),
        named("sched14", "the same with 14 threads", threads(14, LIGHT)),
        named("sched8-heavy", "8 threads, softirq takes 30 % of all CPUs", threads(8, HEAVY)),
        named("sched14-heavy", "14 threads, softirq takes 30 % of all CPUs", threads(14, HEAVY)),
        named("sched24", "24 threads on 16 CPUs: none stays where it is", threads(24, LIGHT)),
    ]
}

/// The built-in scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|named| named.name == name).map(|named| named.scenario)
}

const LARGE: Machine = Machine { nodes: 2, llcs_per_node: 4, cpus_per_llc: 8 };
/// Mean softirq time of all CPUs.
const LIGHT: f64 = 0.05;
const HEAVY: f64 = 0.3;

fn flows(
    active: usize,
    share: f64,
    life_s: f64,
    life_exponent: Option<f64>,
    rate_exponent: Option<f64>,
    clients: bool,
) -> FlowKind {
    FlowKind { active, share, life_s, life_exponent, rate_exponent, clients }
}

fn threads(threads: usize, mean_softirq: f64) -> Scenario {
    Scenario::Scheduler(Scheduler { threads, mean_softirq, ..Scheduler::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_valid() {
        for named in all() {
            named.scenario.check().unwrap_or_else(|error| panic!("{}: {error}", named.name));
        }
    }

    #[test]
    fn a_scenario_survives_being_written_to_a_file() {
        for named in all() {
            let toml = toml::to_string(&named.scenario).expect("writes");
            assert_eq!(Scenario::parse(&toml).expect("reads"), named.scenario, "{}", named.name);
            let json = serde_json::to_string(&named.scenario).expect("writes");
            assert_eq!(Scenario::parse(&json).expect("reads"), named.scenario, "{}", named.name);
        }
    }
}
