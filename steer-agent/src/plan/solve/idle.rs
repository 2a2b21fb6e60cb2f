//! CPUs that take no part, neither consuming nor polling, and the sets of them that are compared.
//!
//! One more CPU may send the search another way, to a worse end. So a problem with such CPUs is
//! planned with every set of them, and the best plan is taken: with one more CPU there are more sets,
//! and none of those before is lost. CPUs that are alike to all consumers are told apart by number
//! only, so of them only how many are in a set matters.

use super::{NONE, Problem};

/// Most sets that are compared, and most cells of the cost table of all of them together.
const MOST_SETS: usize = 16;
const MOST_CELLS: usize = 1 << 15;

/// The sets, one after the other.
#[derive(Debug, Default)]
pub(super) struct IdleSets {
    consumes: Vec<bool>,
    /// Idle CPUs with the kind of each; one CPU of each kind, and how many it has.
    cpus: Vec<(usize, usize)>,
    example: Vec<usize>,
    size: Vec<usize>,
    /// How many of each kind are in the set.
    count: Vec<usize>,
    taken: Vec<usize>,
    /// Whether there are CPUs that do take part.
    others: bool,
    ended: bool,
    /// CPUs that are not in the set.
    pub(super) left_out: Vec<bool>,
}

impl IdleSets {
    /// Finds the CPUs that take no part while the queues are on `affinity`. Whether there are any.
    pub(super) fn find(&mut self, problem: &Problem, affinity: &[usize]) -> bool {
        self.example.clear();
        self.size.clear();
        self.cpus.clear();
        let found = mark(problem, affinity, &mut self.left_out);
        self.others = found < problem.allowed.len();
        self.ended = found == 0;
        if found == 0 {
            return false;
        }
        self.consumes.clear();
        self.consumes.resize(problem.cpus, false);
        for (cpu, _) in problem.consumed.entries().chain(problem.pins.consumed.entries()) {
            self.consumes[cpu] = true;
        }
        let cells = problem.buckets().saturating_mul(problem.allowed.len()).max(1);
        let most = (MOST_CELLS / cells).clamp(2, MOST_SETS);
        let mut sets = 1;
        for cpu in 0..problem.cpus {
            if !self.left_out[cpu] {
                continue;
            }
            let kind = self.example.iter().position(|other| self.alike(problem, cpu, *other));
            let kind = kind.unwrap_or(self.example.len());
            if kind == self.example.len() {
                self.example.push(cpu);
                self.size.push(0);
            }
            sets = sets / (self.size[kind] + 1) * (self.size[kind] + 2);
            self.size[kind] += 1;
            self.cpus.push((cpu, kind));
            if sets > most {
                break;
            }
        }
        if sets > most {
            // Too many: only without any.
            self.size.clear();
        }
        self.count.clear();
        self.count.resize(self.size.len(), NONE);
        true
    }

    /// Whether nothing tells two idle CPUs apart but their number.
    fn alike(&self, problem: &Problem, one: usize, other: usize) -> bool {
        let cost = |cpu: usize| problem.cpu_cost.get(cpu).copied().unwrap_or(0.0).to_bits();
        let (row, beside) = (problem.distance.row(one), problem.distance.row(other));
        problem.cap[one].to_bits() == problem.cap[other].to_bits()
            && cost(one) == cost(other)
            && row
                .iter()
                .zip(beside)
                .zip(&self.consumes)
                .all(|((a, b), consumes)| !consumes || a.to_bits() == b.to_bits())
    }

    /// The next set but that of all, which is the problem itself; `left_out` then says what is not
    /// in it. False after the last.
    pub(super) fn advance(&mut self) -> bool {
        loop {
            if self.ended {
                return false;
            }
            if self.count.first().is_none_or(|first| *first == NONE) {
                // The first: none at all.
                self.count.fill(0);
                self.ended = self.size.is_empty();
            } else {
                let below = |(count, size): (&usize, &usize)| count < size;
                let grows = self.count.iter().zip(&self.size).position(below);
                let Some(grows) = grows else { return false };
                self.count[..grows].fill(0);
                self.count[grows] += 1;
                if self.count == self.size {
                    return false;
                }
            }
            if self.others || self.count.iter().any(|count| *count > 0) {
                break;
            }
        }
        if !self.size.is_empty() {
            self.taken.clear();
            self.taken.resize(self.size.len(), 0);
            for (cpu, kind) in &self.cpus {
                self.left_out[*cpu] = self.taken[*kind] >= self.count[*kind];
                self.taken[*kind] += 1;
            }
        }
        true
    }
}

/// Marks the allowed CPUs that neither consume nor poll a queue, and counts them.
pub(super) fn mark(problem: &Problem, affinity: &[usize], idle: &mut Vec<bool>) -> usize {
    idle.clear();
    idle.resize(problem.cpus, false);
    for cpu in &problem.allowed {
        idle[*cpu] = true;
    }
    for cpu in affinity {
        if let Some(idle) = idle.get_mut(*cpu) {
            *idle = false;
        }
    }
    // Mostly every CPU polls: then what they consume need not be looked at.
    if problem.allowed.iter().any(|cpu| idle[*cpu]) {
        for (cpu, _) in problem.consumed.entries().chain(problem.pins.consumed.entries()) {
            idle[cpu] = false;
        }
    }
    problem.allowed.iter().filter(|cpu| idle[**cpu]).count()
}
