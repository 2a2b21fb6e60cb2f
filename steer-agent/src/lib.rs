//! steer: makes a connection's packets and its consumer meet on one CPU.
//!
//! The modules in the order in which data flows through them:
//!
//! ```text
//! packet -> kernel side   counts, decides nothing
//!        -> observe       Sample: what was read, when, and what was missing
//!        -> model         World: rates, loads, who consumes what where, distances, trust
//!        -> plan          Plan: steps with their inverse, the gain, the reason
//!        -> apply         Receipt: journal synced first, then each write, read back
//!        -> verify        Verdict: did the softirq CPU and the alignment follow?
//!        -> report        status, JSON
//! ```
//!
//! Beside the line stands [`simulate`]: model and plan on synthetic traffic. `fuzzing`, for tests, hands
//! any bytes to whatever reads something here.

pub mod apply;
pub mod cli;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod golden;
pub mod model;
pub mod observe;
pub mod plan;
pub mod policy;
pub mod report;
pub mod run;
pub mod simulate;
pub mod sys;
