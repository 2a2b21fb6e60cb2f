//! What people and scripts are shown.

pub mod accept;
pub mod change;
mod connect;
mod cost;
pub mod doctor;
mod flow;
mod heat;
pub mod lever;
pub mod metrics;
pub mod neighbours;
mod next;
mod number;
mod pace;
pub mod page;
mod planner;
pub mod recording;
#[cfg(test)]
mod schema;
pub mod simulation;
pub mod socket;
mod status;
pub mod text;
pub mod textfile;
pub mod top;

pub use change::EventReport;
pub use connect::{ConnectState, ConnectStatus, DestinationReport};
pub use cost::Cost;
pub use flow::{FlowReport, MismatchReport};
pub use next::next;
pub use pace::Pace;
pub use planner::{PlannerReport, Tally};
pub use status::{NicState, NicStatus, Source, Status};
