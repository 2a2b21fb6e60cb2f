//! What runs inside a lab machine: its init, the load, and the scenarios.
//!
//! A machine is booted for one scenario by `cargo xtask lab`. [`init`] mounts what a Linux needs
//! and sets up the two NICs; the scenario puts a [`load`] with pinned workers on the wire, drives
//! the `steer` program through its documented command line alone, and judges it by what the
//! kernel and the load's own counters say.

#![allow(clippy::print_stdout, reason = "a scenario tells its story on stdout")]

pub mod count;
pub mod documents;
pub mod expect;
pub mod guest;
pub mod host;
pub mod host_pace;
pub mod init;
pub mod irqbalance;
pub mod load;
pub mod nic;
pub mod proxy;
pub mod scenario;
pub mod steer;
pub mod systemd;
