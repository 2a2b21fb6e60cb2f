//! The door to the kernel: the only module with `unsafe`, with ioctls and netlink, and with writes
//! to /proc and /sys.
//!
//! ```text
//! Port         what apply may ask for        port.rs
//!  |- Machine      the running one               machine.rs
//!  |   |- ethtool      ioctl, every kernel           ethtool.rs, over raw.rs (the unsafe calls)
//!  |   |- ethnl        netlink, where it answers     ethnl.rs, over netlink.rs
//!  |   |- irq, queues  files of interrupts, queues   irq.rs, queues.rs, over root.rs
//!  |- FakeMachine  the one of the tests          fake.rs
//! diag         who listens                    diag.rs
//! owner        one steer a NIC               owner.rs
//! ```
//!
//! Every failure is a [`SysError`] that names call, object, value and errno. Nothing here decides.

pub mod diag;
mod error;
pub mod ethnl;
pub mod ethtool;
#[cfg(any(test, feature = "testkit"))]
pub mod fake;
pub mod irq;
mod machine;
mod netlink;
pub mod owner;
mod port;
pub mod queues;
mod raw;
pub mod root;

pub use error::SysError;
pub use ethnl::Ethnl;
pub use ethtool::Ethtool;
pub use machine::Machine;
pub use port::{DeviceId, Port};
pub use root::Root;
