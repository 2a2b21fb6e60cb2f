//! The pure middle: what was read ([`Sample`]) and what it means ([`World`]).
//!
//! Nothing here does I/O, reads a clock or waits. Everything that is decided from these types can
//! therefore be decided again from a recording. `cargo xtask check` holds the module to that.

pub mod accept;
pub mod connect;
mod cpuset;
mod driver;
mod event;
mod facts;
mod hash;
mod interrupts;
pub mod listener;
mod mapping;
mod matrix;
mod neighbours;
mod nic;
mod overrule;
mod rules;
mod sample;
pub mod service;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod topology;
mod world;

pub use cpuset::{CpuSet, ParseCpuSetError};
pub use driver::{
    Affinity, Atr, Cause, Count, Driver, Evidence, Hash, IrqName, Key, Loss, Refusal, TableWrite,
};
pub use event::{Event, events};
pub use facts::{Fact, Facts, HostFacts};
pub use hash::{KeyVariant, calibrate, flow_hash, flow_hash_by};
pub use interrupts::{InterruptRow, Interrupts};
pub use mapping::{Mapping, MappingVerdict, bucket_of};
pub use matrix::Matrix;
pub use neighbours::{Neighbours, Process};
pub use nic::{Channels, Coalesced, DropCounters, HashFields, IrqSource, Nic, Queue, Rss, RssKey};
pub use overrule::{Overrule, overrules};
pub use rules::{
    FEWEST_RULES, Location, Rule, RuleContent, RuleTable, can_be_ruled, canonical, why_no_rules,
};
pub use sample::{Flow, FlowAddr, NicCounters, NicSample, Sample, TcpSegments};
pub use topology::{CpuInfo, Distance, Topology};
pub use world::{
    Alignment, CpuPair, FlowWorld, Mismatch, NicWorld, QueueWorld, World, expected_residency,
};

/// Number of a CPU, as in `/sys/devices/system/cpu/cpuN`.
pub type CpuId = u32;
/// Number of an RX queue, as in `/sys/class/net/IF/queues/rx-N`.
pub type QueueId = u32;
