//! Reads, and only reads: the kernel side's counters, the NICs' settings, the host.

mod calibrate;
#[cfg(test)]
mod fixture;
pub mod host;
mod irq_names;
pub mod kernel;
pub mod nic;
pub mod probe;
mod sampling;
mod watch;

pub use kernel::{
    HashSource, KernelReading, KernelSide, Observer, ProgramStatus, StartOptions, WatchedNic,
};
pub use watch::Watch;
