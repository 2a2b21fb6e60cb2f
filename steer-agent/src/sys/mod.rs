//! The door to the kernel: the only module with `unsafe`, with ioctls and netlink, and with writes
//! to /proc and /sys.
//!
//! ```text
//! Port         what apply may ask for        port.rs
//!  |- Machine      the running one               machine.rs
//!  |   |- ethtool      ioctl, every kernel           ethtool.rs, over ioctl.rs (the unsafe call)
//!  |   |- ethnl        netlink, where it answers     ethnl.rs, over netlink.rs
//!  |   |- irq, queues  files of interrupts, queues   irq.rs, queues.rs, over root.rs
//!  |- FakeMachine  the one of the tests          fake.rs
//! ```
//!
//! Every failure is a [`SysError`] that names call, object, value and errno. Nothing here decides.

mod error;
#[cfg(any(test, feature = "testkit"))]
pub mod fake;
mod port;
pub mod root;

pub use error::SysError;
pub use port::{DeviceId, Port};
pub use root::Root;
