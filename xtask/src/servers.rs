//! Load balancers and their load for the lab, from Debian's packages.
//!
//! They are unpacked below the target directory and not installed: installing would start an
//! HAProxy and an nginx on this machine, now and at each boot. What is installed already is used
//! as it is.

use std::path::PathBuf;

use anyhow::Result;

use crate::{apt::Apt, process::step, workspace};

/// Each a program and the package that brings it.
const PROGRAMS: [&str; 3] = ["haproxy", "nginx", "wrk"];

/// Unpacks those that are missing, with the libraries that they need and the machine lacks.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = Apt::machine()?;
    step(&format!("{} (unpacked, not installed)", missing.join(" ")), || {
        apt.unpack_programs(&missing, &directory())
    })
}

fn is_there(program: &str) -> bool {
    let unpacked = ["usr/sbin", "usr/bin"].map(|bin| directory().join(bin).join(program));
    unpacked.iter().any(|path| path.is_file()) || workspace::program(program).is_some()
}

fn directory() -> PathBuf {
    workspace::lab().join("servers")
}
