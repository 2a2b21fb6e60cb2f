//! What people and scripts are shown.

pub mod doctor;
mod number;
pub mod simulation;
pub mod socket;
mod status;
pub mod text;

pub use status::{FlowReport, NicState, NicStatus, PlannerReport, Source, Status, Tally};
