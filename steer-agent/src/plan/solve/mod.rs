//! placeholder
mod bound;
mod distance;
#[cfg(any(test, feature = "testkit"))]
pub mod families;
mod hosts;
mod instance;
mod kick;
mod limit;
mod price;
mod problem;
mod queues;
mod search;
mod solver;
mod state;

pub use distance::Distances;
pub use problem::{Budget, Parts, Pins, Problem, Rows, Solution};
pub use solver::Workspace;

/// No queue, no site, no CPU.
pub const NONE: usize = usize::MAX;
