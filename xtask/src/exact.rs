//! `cargo xtask exact`: the planner against an exact solver, on problems solved here and now.
//!
//! The solver is C++ and takes some minutes to build, so this is no part of `cargo xtask test`; there
//! the planner is held against optima that were proven before.

use std::process::Command;

use anyhow::Result;

use crate::{process, setup, workspace};

/// The command.
pub(crate) fn exact() -> Result<()> {
    setup::exact()?;
    println!("build HiGHS (some minutes the first time) and compare");
    for arguments in [
        ["clippy", "-p", "steer-exact", "--all-targets", "--", "--deny=warnings"].as_slice(),
        ["test", "-p", "steer-exact", "--", "--nocapture"].as_slice(),
    ] {
        let mut cargo = Command::new("cargo");
        // The planner needs no kernel side.
        cargo.args(arguments).env("STEER_SKIP_EBPF", "1").current_dir(workspace::root());
        process::run(&mut cargo)?;
    }
    Ok(())
}
