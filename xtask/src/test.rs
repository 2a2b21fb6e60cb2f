//! `cargo xtask test`: everything, from set-up to the lab.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{check, dist, lab, process, setup, summary::Summary, workspace};

/// The command. Its last line is the number of steps passed and failed.
pub(crate) fn test() -> Result<()> {
    let mut summary = Summary::default();
    // Nothing else makes sense without it.
    if !summary.step("setup", setup::setup) {
        return summary.finish();
    }
    check::add_to(&mut summary);
    summary.step("cargo test", cargo_test);
    summary.step("packages", dist::checked);
    let mut runs = Vec::new();
    let built = summary.step("build for the lab", || {
        runs = lab::short()?;
        Ok(())
    });
    if built {
        println!("== lab");
        for run in &runs {
            let outcome = run.run().with_context(|| format!("cannot run {}", run.title()))?;
            summary.note(&run.title(), outcome.took, outcome.failure);
        }
    }
    summary.finish()
}

/// Unit tests, and those that load the programs into the kernel of this machine.
fn cargo_test() -> Result<()> {
    let mut cargo = Command::new("cargo");
    // steer-exact needs cmake and libclang (`cargo xtask exact`), steer-fuzz a build of its own (`cargo
    // xtask fuzz`); its corpus is among the tests of steer-agent.
    cargo.args(["test", "--workspace", "--no-fail-fast", "--exclude=steer-ebpf"]);
    cargo.args(["--exclude=steer-exact", "--exclude=steer-fuzz"]);
    // What it takes is set up by now: a test that skips itself for lack of it has failed.
    if setup::is_root()? {
        cargo.env("CI", "true");
    } else {
        println!("not root: tests that load programs or make network namespaces skip themselves");
    }
    process::run(cargo.current_dir(workspace::root()))
}
