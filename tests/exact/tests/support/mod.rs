//! A planning problem as a mixed-integer programme, solved by `HiGHS`.
//!
//! For every bucket and site there is a binary "in its own queue, which is there" and one "in another
//! queue, which is there"; for every queue and site a binary "the queue is there". The first needs
//! the bucket's own queue at the site, the second any queue. Overload is a continuous number per site.

use highs::{Col, HighsModelStatus, RowProblem, Sense};
use steer_agent::plan::solve::{Problem, Solution};

/// What is known of the optimum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Optimum {
    /// Objective of the best plan found.
    pub(crate) objective: f64,
    /// Whether no plan is better (by more than one part in 100,000).
    pub(crate) proven: bool,
}

/// Solves `problem`, which must have neither pins nor queues that cannot move, within `seconds`.
/// `hint` is a plan to start from: it shortens the proof and does not enter the result otherwise.
pub(crate) fn solve(problem: &Problem, hint: &Solution, seconds: f64) -> Optimum {
    let sites = &problem.allowed;
    let queues = problem.queues();
    // HiGHS works with absolute tolerances: a bucket should weigh about one.
    let total: f64 = problem.load.iter().sum();
    let scale = if total > 0.0 { problem.buckets() as f64 / total } else { 1.0 };
    let mut rows = RowProblem::default();
    let mut start = Vec::new();

    let seat: Vec<Vec<Col>> = (0..queues)
        .map(|queue| {
            let mut at = |cpu: &usize| {
                start.push(f64::from(u8::from(hint.affinity[queue] == *cpu)));
                rows.add_integer_column(0.0, 0.0..=1.0)
            };
            sites.iter().map(&mut at).collect()
        })
        .collect();
    let mut own = Vec::new();
    let mut other = Vec::new();
    for bucket in 0..problem.buckets() {
        let queue = problem.table[bucket];
        let moved = problem.lambda_move * problem.load[bucket] * problem.move_factor(bucket);
        let (mut stays, mut goes) = (Vec::new(), Vec::new());
        for cpu in sites {
            let row = problem.distance.row(*cpu);
            let far: f64 = problem.consumed.row(bucket).map(|(to, rate)| rate * row[to]).sum();
            let there = hint.affinity[hint.table[bucket]] == *cpu;
            let stayed = hint.table[bucket] == queue;
            if queue < queues {
                let share = if problem.affinity[queue] == *cpu { 0.0 } else { problem.kappa };
                stays.push(rows.add_integer_column((far + share * moved) * scale, 0.0..=1.0));
                start.push(f64::from(u8::from(there && stayed)));
            }
            goes.push(rows.add_integer_column((far + moved) * scale, 0.0..=1.0));
            start.push(f64::from(u8::from(there && !stayed)));
        }
        own.push(stays);
        other.push(goes);
    }
    for (site, cpu) in sites.iter().enumerate() {
        let over = rows.add_column(problem.lambda_load * scale, 0.0..);
        let mut terms = vec![(over, -1.0)];
        let mut carried = 0.0;
        for (bucket, load) in problem.load.iter().enumerate() {
            terms.extend(own[bucket].get(site).map(|col| (*col, *load)));
            terms.push((other[bucket][site], *load));
            if hint.affinity[hint.table[bucket]] == *cpu {
                carried += load;
            }
        }
        start.push((carried - problem.cap[*cpu]).max(0.0));
        rows.add_row(..=problem.cap[*cpu], terms);
    }
    for queue in &seat {
        rows.add_row(1.0..=1.0, queue.iter().map(|col| (*col, 1.0)));
    }
    for bucket in 0..problem.buckets() {
        let places = own[bucket].iter().chain(&other[bucket]);
        rows.add_row(1.0..=1.0, places.map(|col| (*col, 1.0)));
        for site in 0..sites.len() {
            if let Some(stays) = own[bucket].get(site) {
                let queue = &seat[problem.table[bucket]];
                rows.add_row(..=0.0, [(*stays, 1.0), (queue[site], -1.0)]);
            }
            let any = seat.iter().map(|queue| (queue[site], -1.0));
            rows.add_row(..=0.0, any.chain([(other[bucket][site], 1.0)]));
        }
    }
    if let Some(most) = problem.max_table_changes {
        rows.add_row(..=most as f64, other.iter().flatten().map(|col| (*col, 1.0)));
    }
    if let Some(most) = problem.max_affinity_changes {
        let moves = seat.iter().enumerate().flat_map(|(queue, at)| {
            let moved = move |(_, cpu): &(&Col, &usize)| **cpu != problem.affinity[queue];
            at.iter().zip(sites).filter(moved).map(|(col, _)| (*col, 1.0))
        });
        rows.add_row(..=most as f64, moves);
    }

    let mut model = rows.optimise(Sense::Minimise);
    model.make_quiet();
    model.set_option("time_limit", seconds);
    model.set_option("threads", 1);
    model.set_option("mip_rel_gap", 1e-5);
    model.set_option("mip_abs_gap", 1e-9);
    model.set_solution(Some(&start), None, None, None);
    let solved = model.solve();
    Optimum {
        objective: solved.objective_value() / scale,
        proven: solved.status() == HighsModelStatus::Optimal,
    }
}
