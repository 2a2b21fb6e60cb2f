//! Reads, and only reads: the kernel side's counters, the NICs' settings, the host.

pub mod kernel;

pub use kernel::{KernelReading, KernelSide, Observer, ProgramStatus, StartOptions, WatchedNic};
