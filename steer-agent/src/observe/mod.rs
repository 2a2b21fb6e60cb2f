//! Reads, and only reads: the kernel side's counters, the NICs' settings, the host.

#[cfg(test)]
mod fixture;
mod calibrate;
pub mod host;
mod irq_names;
pub mod kernel;
mod watch;
pub mod nic;
pub mod probe;

pub use kernel::{HashSource, KernelReading, KernelSide, Observer, ProgramStatus, StartOptions, WatchedNic};
pub use watch::Watch;
