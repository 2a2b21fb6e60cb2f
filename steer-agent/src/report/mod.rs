//! What people and scripts are shown.

pub mod doctor;
pub mod neighbours;
mod number;
mod planner;
pub mod simulation;
pub mod socket;
mod status;
pub mod text;

pub use planner::{PlannerReport, Tally};
pub use status::{FlowReport, NicState, NicStatus, Source, Status};
