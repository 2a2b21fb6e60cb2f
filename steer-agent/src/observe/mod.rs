//! Reads, and only reads: the kernel side's counters, the NICs' settings, the host.

mod calibrate;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fixture;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod host;
mod interrupts;
mod irq_names;
pub mod kernel;
pub mod neighbours;
pub mod nic;
pub mod probe;
mod sampling;
pub mod services;
mod watch;

pub use kernel::{
    HashSource, KernelReading, KernelSide, Observer, ProgramStatus, StartOptions, WatchedNic,
};
pub use watch::Watch;
