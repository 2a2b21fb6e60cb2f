//! What all targets share.

#[doc(hidden)]
pub use libfuzzer_sys;

/// Runs the target of steer-agent that has the name of this binary.
#[macro_export]
macro_rules! target {
    () => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::run(
            env!("CARGO_BIN_NAME"),
            bytes
        ));
    };
}

/// Runs the target called `name`.
///
/// # Panics
/// There is no such target, or it does not stand these bytes.
pub fn run(name: &str, bytes: &[u8]) {
    match steer_agent::fuzzing::find(name) {
        Some(target) => target.run(bytes),
        None => panic!("{name} is not in the table of targets"),
    }
}
