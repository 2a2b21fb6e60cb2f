//! Documents that come from files and sockets.

use crate::model::CpuSet;
use crate::plan::problem::{PlanFile, ProblemFile};
use crate::plan::solve::{Budget, Workspace};
use crate::report::socket::{Request, parse_answer};
use crate::report::text;
use crate::simulate::scenario::Scenario;

/// Cells of the cost table, and queues, up to which a problem is planned too.
const SMALL: usize = 256;

pub(super) fn cpu_sets(text: &str) {
    for set in [text.parse().ok(), CpuSet::from_mask(text).ok()].into_iter().flatten() {
        assert_eq!(set.to_string().parse(), Ok(set.clone()));
        assert_eq!(CpuSet::from_mask(&set.to_mask()), Ok(set));
    }
}

pub(super) fn answer(bytes: &[u8]) {
    if let Ok(status) = parse_answer(bytes) {
        for width in [1, 80, 200] {
            let _ = text::status(&status, width);
        }
        let Ok(written) = serde_json::to_vec(&status) else { return };
        assert!(parse_answer(&written).is_ok(), "what was read cannot be read again");
    }
}

pub(super) fn request(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        let written = serde_json::to_vec(&request).unwrap_or_default();
        assert_eq!(Request::parse(&written), Ok(request));
    }
}

pub(super) fn problem(text: &str) {
    let Ok(file) = ProblemFile::parse(text) else { return };
    let Ok(problem) = file.problem() else { return };
    if file.buckets.saturating_mul(file.cpus).saturating_add(file.queues) > SMALL {
        return;
    }
    let mut workspace = Workspace::default();
    let solution = workspace.solve(&problem, &Budget::QUICK, 1, &mut || true);
    assert!(problem.is_legal(&solution.table, &solution.affinity), "{solution:?}");
    let plan = PlanFile::new(&solution, 0);
    assert!(!plan.objective.is_nan(), "{plan:?}");
}

pub(super) fn scenario(text: &str) {
    let Ok(scenario) = Scenario::parse(text) else { return };
    let Ok(written) = serde_json::to_string(&scenario) else { return };
    assert!(Scenario::parse(&written).is_ok(), "what was read cannot be read again: {written}");
}
