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
//! listener     other processes' sockets       listener.rs
//! reuseport    what SO_INCOMING_CPU does    reuseport.rs
//! irqbalance   its ban list                   irqbalance.rs
//! owner        one steer a NIC               owner.rs
//! caps         rights, given up               caps.rs
//! cgroup       cgroups by name                cgroup.rs
//! netns, route where this process is, which way a connection takes
//! peer         who is at the other end        peer.rs, over raw.rs
//! ```
//!
//! Every failure is a [`SysError`] that names call, object, value and errno. Nothing here decides.

pub mod caps;
pub mod cgroup;
pub mod diag;
mod error;
pub mod ethnl;
pub mod ethtool;
#[cfg(any(test, feature = "testkit"))]
pub mod fake;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod irq;
pub mod irqbalance;
pub mod listener;
mod machine;
mod netlink;
pub mod netns;
pub mod own;
pub mod owner;
pub mod peer;
mod port;
pub mod queues;
mod raw;
pub mod reuseport;
pub mod root;
pub mod route;

pub use error::SysError;
pub use ethnl::Ethnl;
pub use ethtool::Ethtool;
pub use machine::Machine;
pub use port::{DeviceId, Port};
pub use root::Root;
