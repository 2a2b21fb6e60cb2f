//! The planner and other policies on synthetic traffic, side by side.
//!
//! What a plan promises is fitted to one window; what it is worth is seen only in those that follow,
//! while flows come and go and their consumers move. So the planner is run here as `steer run` runs
//! it, on traffic whose every flow is known, beside policies that look at less. docs/simulator.md says
//! what is modelled and what is not.
//!
//! - [`scenario`]: all parameters, built in ([`catalogue`]) or from a file.
//! - [`traffic`]: flows and workers come, go and move; many policies on the same trace.
//! - [`scheduler`]: the kernel's wake-up rules answer to where softirq runs.
//!
//! # Guarantees
//! Each is checked in `traffic/tests.rs` and `scheduler/tests.rs`, the first and the last scenario by
//! scenario.
//! - `steering_aligns_as_much_and_moves_as_little_as_it_should`
//! - `other_policies_are_as_they_are_known`
//! - `there_is_no_limit_cycle`
//!
//! Pure: no I/O, no clock, no randomness but the seed.

pub mod catalogue;
mod draw;
mod machine;
pub mod plot;
mod results;
pub mod scenario;
pub mod scheduler;
mod seen;
mod steer;
pub mod traffic;

pub use machine::Machine;
pub use results::{Results, Row, Rows, Selection, SelectionError, run};
