//! A scenario run with several seeds, and its figures by policy.

use serde::Serialize;

use crate::policy::Policy;

use super::scenario::Scenario;
use super::scheduler::{self, SchedulerFigures, SchedulerPolicy, SchedulerRun};
use super::traffic::{self, Second, TrafficFigures, TrafficPolicy, TrafficRun};

/// Which policies are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// On a traffic scenario.
    Traffic(Vec<TrafficPolicy>),
    /// On a scheduler scenario.
    Scheduler(Vec<SchedulerPolicy>),
}

/// A name that is no policy's.
#[derive(Debug, thiserror::Error)]
#[error("no policy is called `{name}`; expected one of: {known}")]
pub struct SelectionError {
    name: String,
    known: String,
}

impl Selection {
    /// The policies called `names`, or all where there is none.
    pub fn new(scenario: &Scenario, names: &[String]) -> Result<Self, SelectionError> {
        match scenario {
            Scenario::Traffic(_) => {
                choose(&TrafficPolicy::ALL, TrafficPolicy::name, names).map(Self::Traffic)
            }
            Scenario::Scheduler(_) => {
                choose(&SchedulerPolicy::ALL, SchedulerPolicy::name, names).map(Self::Scheduler)
            }
        }
    }
}

fn choose<P: Copy>(
    all: &[P],
    name: impl Fn(P) -> &'static str,
    names: &[String],
) -> Result<Vec<P>, SelectionError> {
    if let Some(unknown) =
        names.iter().find(|wanted| !all.iter().any(|one| name(*one).eq_ignore_ascii_case(wanted)))
    {
        let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        return Err(SelectionError { name: unknown.clone(), known: known.join(", ") });
    }
    let is_wanted = |one: &&P| {
        names.is_empty() || names.iter().any(|wanted| name(**one).eq_ignore_ascii_case(wanted))
    };
    Ok(all.iter().filter(is_wanted).copied().collect())
}

/// The figures of one policy, means over the seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Row<P, F, S> {
    /// The policy.
    pub policy: P,
    /// Means over the seeds.
    pub mean: F,
    /// Standard deviation of the aligned share over the seeds.
    pub aligned_deviation: f64,
    /// Means over the seeds of the last 30 seconds, where they are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<F>,
    /// Second by second, of the first seed.
    pub timeline: Vec<S>,
}

/// The rows of either kind of scenario.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Of a traffic scenario.
    Traffic(Vec<Row<TrafficPolicy, TrafficFigures, Second>>),
    /// Of a scheduler scenario.
    Scheduler(Vec<Row<SchedulerPolicy, SchedulerFigures, SchedulerFigures>>),
}

/// A scenario, run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Its name.
    pub scenario: String,
    /// Seconds simulated with each seed.
    pub seconds: u32,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The policies.
    pub rows: Rows,
}

/// Runs `scenario` once for each of `seeds`; steer's policies are made from `base`. `progress` is
/// told the share that is done.
#[must_use]
pub fn run(
    name: &str,
    scenario: &Scenario,
    selection: &Selection,
    base: &Policy,
    seeds: &[u64],
    progress: &mut dyn FnMut(f64),
) -> Results {
    let all = f64::from(scenario.seconds()) * seeds.len().max(1) as f64;
    let mut done = 0.0;
    let mut second = |_: u32| {
        done += 1.0;
        progress(done / all);
    };
    let rows = match (scenario, selection) {
        (Scenario::Traffic(traffic), Selection::Traffic(policies)) => {
            let runs: Vec<Vec<TrafficRun>> = seeds
                .iter()
                .map(|seed| traffic::run(traffic, policies, base, *seed, &mut second))
                .collect();
            Rows::Traffic(transposed(runs).into_iter().map(traffic_row).collect())
        }
        (Scenario::Scheduler(scheduler), Selection::Scheduler(policies)) => {
            let runs: Vec<Vec<SchedulerRun>> = seeds
                .iter()
                .map(|seed| scheduler::run(scheduler, policies, base, *seed, &mut second))
                .collect();
            Rows::Scheduler(transposed(runs).into_iter().map(scheduler_row).collect())
        }
        // Policies of the other kind of scenario: none of them can be run on this one.
        (Scenario::Traffic(_), Selection::Scheduler(_)) => Rows::Traffic(Vec::new()),
        (Scenario::Scheduler(_), Selection::Traffic(_)) => Rows::Scheduler(Vec::new()),
    };
    Results { scenario: name.to_owned(), seconds: scenario.seconds(), seeds: seeds.to_vec(), rows }
}

/// Runs by seed and policy as runs by policy and seed.
fn transposed<R>(runs: Vec<Vec<R>>) -> Vec<Vec<R>> {
    let mut rows: Vec<Vec<R>> = Vec::new();
    for run in runs {
        rows.resize_with(rows.len().max(run.len()), Vec::new);
        for (row, run) in rows.iter_mut().zip(run) {
            row.push(run);
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}

fn traffic_row(runs: Vec<TrafficRun>) -> Row<TrafficPolicy, TrafficFigures, Second> {
    let figures: Vec<TrafficFigures> = runs.iter().map(|run| run.figures).collect();
    Row {
        policy: runs[0].policy,
        mean: TrafficFigures::mean(&figures),
        aligned_deviation: deviation(figures.iter().map(|figures| figures.aligned)),
        last: None,
        timeline: runs.into_iter().next().map(|run| run.timeline).unwrap_or_default(),
    }
}

fn scheduler_row(
    runs: Vec<SchedulerRun>,
) -> Row<SchedulerPolicy, SchedulerFigures, SchedulerFigures> {
    let figures: Vec<SchedulerFigures> = runs.iter().map(|run| run.figures).collect();
    let last: Vec<SchedulerFigures> = runs.iter().map(|run| run.last).collect();
    Row {
        policy: runs[0].policy,
        mean: SchedulerFigures::mean(&figures),
        aligned_deviation: deviation(figures.iter().map(|figures| figures.aligned)),
        last: Some(SchedulerFigures::mean(&last)),
        timeline: runs.into_iter().next().map(|run| run.timeline).unwrap_or_default(),
    }
}

/// Standard deviation of a sample.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::catalogue;

    #[test]
    fn policies_are_chosen_by_name() {
        let scenario = catalogue::find("sched8").expect("built in");
        let chosen = Selection::new(&scenario, &["STEER".to_owned()]).expect("known");
        assert_eq!(chosen, Selection::Scheduler(vec![SchedulerPolicy::Steer]));
        let error = Selection::new(&scenario, &["magic".to_owned()]).expect_err("unknown");
        assert!(error.to_string().contains("`magic`; expected one of: static, steer"), "{error}");
    }

    #[test]
    fn the_same_seeds_give_the_same_results() {
        let mut scenario = catalogue::find("eleph16").expect("built in");
        scenario.set_seconds(35);
        let names = ["static".to_owned(), "accept+steer/abs".to_owned()];
        let selection = Selection::new(&scenario, &names).expect("known");
        let results = || {
            let mut told = 0.0;
            let results =
                run("x", &scenario, &selection, &Policy::default(), &[1, 2], &mut |done| {
                    assert!(done > told);
                    told = done;
                });
            assert!((told - 1.0).abs() < 1e-9);
            serde_json::to_string(&results).expect("serialises")
        };
        assert_eq!(results(), results());
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        assert!((deviation([1.0, 2.0, 3.0].into_iter()) - 1.0).abs() < 1e-12);
        assert!(deviation([1.0].into_iter()).abs() < 1e-12);
    }
}
