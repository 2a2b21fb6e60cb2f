//! Types that steer's kernel side and its agent share.
//!
//! Everything that crosses between the two is defined here once: `repr(C)`, integers of fixed
//! width, padding that has a name, no `bool` and no Rust enum that is read from bytes. Sizes and
//! offsets are asserted at compile time on both targets, and [`abi::VERSION`] stands in the object.
//!
//! Nothing here needs more than `core`; the feature `user` adds aya's `Pod` for the agent.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "a call costs the verifier of old kernels what it knows of the arguments"
)]

pub mod abi;
pub mod accept;
pub mod cells;
pub mod connect;
pub mod flow;
pub mod health;
pub mod knobs;
pub mod nic;
pub mod toeplitz;

/// Implements aya's `Pod` where the agent asks for it.
macro_rules! plain {
    ($($name:ty),+ $(,)?) => {
        $(
            #[cfg(feature = "user")]
            #[allow(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
            // SAFETY: the type is `repr(C)`, `Copy`, and made of integers without gaps (its padding
            // has a name, its size is asserted beside it), so that any bytes are a valid value.
            unsafe impl aya::Pod for $name {}
        )+
    };
}
pub(crate) use plain;
