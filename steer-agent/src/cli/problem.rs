//! `steer plan --problem`: one planning problem from a file, its plan to standard output.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rustix::time::{ClockId, clock_gettime};

use super::Exit;
use super::output::{print, print_json};
use crate::plan::problem::{PlanFile, ProblemFile};
use crate::plan::solve::{Budget, Problem, Rows, Solution, Workspace};

/// Longest document: the largest problem with all digits is shorter.
const LONGEST: u64 = 1 << 30;
/// Longest rehearsal before a search with a time limit.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Plans the problem in `file` (`-` is standard input). With `budget_us` the search goes on until
/// it has had that much processor time, else it does a fixed amount of work and the same seed gives the same plan.
pub(super) fn problem(
    file: &Path,
    seed: u64,
    budget_us: Option<u64>,
    json: bool,
) -> anyhow::Result<Exit> {
    let name = file.display().to_string();
    let text = if file == Path::new("-") {
        read(std::io::stdin().lock())
            .context("cannot read the planning problem from standard input")?
    } else {
        let unreadable = || format!("cannot read the planning problem {name}");
        let source = File::open(file).with_context(unreadable)?;
        let bytes = source.metadata().with_context(unreadable)?.len();
        // Told before it is in memory.
        if bytes > LONGEST { Err(too_long()) } else { read(source) }.with_context(unreadable)?
    };
    let problem = ProblemFile::parse(&text).and_then(|file| file.problem()).with_context(|| {
        format!("{name} is no problem that can be planned (docs/planner.md has its form)")
    })?;

    let mut workspace = Workspace::default();
    let Search { mut solution, elapsed, .. } = match budget_us {
        Some(us) => search_for(Duration::from_micros(us), &problem, seed, &mut workspace),
        None => {
            let budget = Budget::thorough(problem.buckets(), problem.allowed.len());
            search(&problem, &budget, None, seed, &mut workspace)
        }
    };
    let elapsed_us = u64::try_from(elapsed.as_micros())?;
    solution.bound = workspace.bound(&problem, &solution, Budget::BOUND_STEPS);

    let plan = PlanFile::new(&solution, elapsed_us);
    if json {
        print_json(&plan)?;
    } else {
        let entries = problem.table_changes(&plan.table);
        let queues = problem.affinity_changes(&plan.affinity);
        print(&format!(
            "{entries} of {} entries and {queues} of {} affinities change\n\
             objective {:.6e} (distance {:.6e}, overload {:.6e}, moved {:.6e})\n\
             no plan is below {:.6e}; found in {elapsed_us} us\n",
            plan.table.len(),
            plan.affinity.len(),
            plan.objective,
            plan.distance,
            plan.overload,
            plan.moved,
            plan.bound.unwrap_or(0.0),
        ))?;
    }
    Ok(Exit::Done)
}

/// The text of a document. What cannot be one, such as a device that never ends, is not read to the
/// end.
fn read(source: impl Read) -> anyhow::Result<String> {
    let mut source = BufReader::new(source);
    let first = source.fill_buf()?.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    if let Some(byte) = first.filter(|byte| *byte != b'{') {
        bail!("not a planning problem: begins with {:?}, not with a brace", char::from(byte));
    }
    let mut bytes = Vec::new();
    let read = source.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if read as u64 > LONGEST {
        return Err(too_long());
    }
    String::from_utf8(bytes).context("not a planning problem: not UTF-8")
}

fn too_long() -> anyhow::Error {
    anyhow!("not a planning problem: longer than {LONGEST} bytes")
}

/// What a search came to. Times are processor time, which other programs do not add to.
struct Search {
    solution: Solution,
    elapsed: Duration,
    /// From when it was told to end until it had; `None` where it ended by itself.
    tail: Option<Duration>,
}

fn search(
    problem: &Problem,
    budget: &Budget,
    limit: Option<Duration>,
    seed: u64,
    workspace: &mut Workspace,
) -> Search {
    let before = processor_time();
    let begun = Instant::now();
    let mut told = None;
    let mut keep_going = || {
        // A thread has had no more processor time than has passed, and to ask how much takes longer.
        let goes_on = limit.is_none_or(|limit| {
            begun.elapsed() < limit || processor_time().saturating_sub(before) < limit
        });
        if !goes_on && told.is_none() {
            told = Some(processor_time());
        }
        goes_on
    };
    let solution = workspace.solve(problem, budget, seed, &mut keep_going);
    let now = processor_time();
    let since = |then: Duration| now.saturating_sub(then);
    Search { solution, elapsed: since(before), tail: told.map(since) }
}

/// Processor time that this thread has had.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Steps of the price stage, as many as there is time for. Few are much better than none, with which the
/// search begins where things are.
const PRICE_STEPS: [u32; 3] = [Budget::QUICK.price_steps, 6, 3];

/// Searches for `limit`, and little longer if at all. A problem like this one is planned first, off the
/// clock: program and memory are then in place as they are in the daemon, and it is known how much there
/// is time for, and how long the search takes to end.
fn search_for(limit: Duration, problem: &Problem, seed: u64, workspace: &mut Workspace) -> Search {
    let quick = Budget { apart: false, ..Budget::QUICK };
    let exact_steps = Budget::THOROUGH.exact_steps;
    let like = with_consumers_changed(problem);
    let mut rehearse = |budget: &Budget, limit| search(&like, budget, limit, seed, workspace);
    rehearse(&quick, Some(LONG_ENOUGH));
    let steps = PRICE_STEPS.into_iter().find(|&price_steps| {
        let whole = rehearse(&Budget { price_steps, ..quick }, Some(LONG_ENOUGH));
        whole.tail.is_none() && whole.elapsed <= limit
    });
    let base = Budget { price_steps: steps.unwrap_or(0), ..quick };
    let budget = Budget { kicks: u32::MAX, exact_steps, ..base };
    let tail = rehearse(&budget, Some(limit.min(LONG_ENOUGH))).tail.unwrap_or_default();
    let left = limit.saturating_sub((tail + tail / 2).min(limit / 2));
    search(problem, &budget, Some(left), seed, workspace)
}

/// `problem` with each bucket's consumption and load at the bucket before it.
fn with_consumers_changed(problem: &Problem) -> Problem {
    let mut load = problem.load.clone();
    load.rotate_left(1);
    let mut consumed = Rows::default();
    for bucket in (1..problem.buckets()).chain([0]) {
        consumed.push(problem.consumed.row(bucket));
    }
    Problem { consumed, load, ..problem.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::solve::Distances;

    /// `buckets` of a packet each, all consumed on the second of two CPUs and received on the first.
    fn problem(buckets: usize) -> Problem {
        let mut consumed = Rows::default();
        (0..buckets).for_each(|_| consumed.push([(1, 1.0)]));
        Problem {
            cpus: 2,
            allowed: vec![0, 1],
            table: vec![0; buckets],
            affinity: vec![0, 1],
            distance: Distances::new(2, vec![0.0, 1.0, 1.0, 0.0]).expect("square"),
            consumed,
            load: vec![1.0; buckets],
            cap: vec![buckets as f64; 2],
            lambda_load: 8.0,
            kappa: 0.5,
            ..Problem::default()
        }
    }

    #[test]
    fn a_search_without_time_gives_a_legal_plan_no_worse_than_now() {
        let mut workspace = Workspace::default();
        for buckets in [1, 200] {
            let problem = problem(buckets);
            for us in [0, 1, 100] {
                let limit = Duration::from_micros(us);
                let found = search_for(limit, &problem, 1, &mut workspace).solution;
                assert!(problem.is_legal(&found.table, &found.affinity));
                let now = problem.cost(&problem.table, &problem.affinity);
                assert!(found.cost.total() <= now.total(), "{us}: {:?}", found.cost);
            }
        }
    }

    #[test]
    fn a_search_that_is_told_to_end_says_how_long_that_took() {
        let mut workspace = Workspace::default();
        let endless = Budget { kicks: u32::MAX, ..Budget::QUICK };
        let problem = problem(200);
        let told = search(&problem, &endless, Some(Duration::ZERO), 1, &mut workspace);
        assert!(told.tail.is_some_and(|tail| tail <= told.elapsed));
        let by_itself = search(&problem, &Budget::QUICK, None, 1, &mut workspace);
        assert!(by_itself.tail.is_none());
        assert!(by_itself.solution.cost.total() < 1e-9, "everything is on CPU 1");
    }

    #[test]
    fn what_is_no_document_is_not_read() {
        let error = |bytes: &[u8]| read(bytes).expect_err("no document").to_string();
        assert!(error(b"\0\0\0").contains(r"begins with '\0'"));
        assert!(error(b"[1]").contains("begins with '['"));
        assert!(error(b"{\"a\": \"\xff\"}").contains("not UTF-8"));
        // It never ends, and is not waited for.
        assert!(read(std::io::repeat(0)).is_err());
        assert_eq!(read(&b" {}"[..]).expect("a document"), " {}");
    }
}
