//! Policies on synthetic traffic.

pub mod catalogue;
mod draw;
mod machine;
pub mod scenario;
mod seen;
mod steer;
pub mod traffic;

pub use machine::Machine;
