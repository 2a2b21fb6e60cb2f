//! Signals that end or change a run.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears `kind`, which is called `name`, from now on. Until then the kernel's default ends the process,
/// and nothing would be put back.
///
/// # Errors
/// The kernel does not let it be heard (sigaction(2)), or has no descriptors left for it.
pub fn hear(kind: SignalKind, name: &str) -> anyhow::Result<Signal> {
    signal(kind).with_context(|| {
        format!(
            "cannot listen for {name}, so nothing was begun (`ulimit -n` may leave no descriptor)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;

    #[test]
    fn a_signal_that_cannot_be_heard_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _inside = runtime.as_ref().expect("a runtime").enter();
        // Nobody hears this one, signal(7).
        let error = hear(SignalKind::from_raw(9), "SIGKILL").expect_err("it cannot be heard");
        golden("signal-errors.txt", &format!("steer: {error:#}\n"));
    }
}
