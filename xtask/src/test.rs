//! `cargo xtask test`: everything, from set-up to the lab.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{check, lab, process, setup, summary::Summary, workspace};

/// The command. Its last line is the number of steps passed and failed.
pub(crate) fn test() -> Result<()> {
    let mut summary = Summary::default();
    // Nothing else makes sense without it.
    if !summary.step("setup", setup::setup) {
        return summary.finish();
    }
    check::add_to(&mut summary);
    summary.step("cargo test", cargo_test);
    let mut runs = Vec::new();
    let built = summary.step("build for the lab", || {
        runs = lab::matrix()?;
        Ok(())
    });
    if built {
        println!("== lab");
        for run in &runs {
            let outcome = run.run().with_context(|| format!("cannot run {}", run.title()))?;
            let passed = outcome.failure.is_none();
            summary.note(&run.title(), outcome.took, passed);
        }
    }
    summary.finish()
}

/// Unit tests, and those that load the programs into the kernel of this machine.
fn cargo_test() -> Result<()> {
    let mut cargo = Command::new("cargo");
    // steer-exact is left out: it needs C++ and libclang: `cargo xtask exact`.
    cargo.args(["test", "--workspace", "--exclude=steer-ebpf", "--exclude=steer-exact"]);
    process::run(cargo.current_dir(workspace::root()))
}
