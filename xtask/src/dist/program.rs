//! The program as it is handed out: linked statically, so that it runs on any Linux of its architecture,
//! whatever C library there is or none.
//!
//! With glibc, for whose static form plain rustc has all it needs; musl's would take another standard
//! library. What a static glibc cannot do is load name services and other libraries at run time: steer
//! asks for neither (addresses are numbers, groups are read from /etc/group), and that is checked here
//! on what was linked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    process::{self, step},
    workspace,
};

/// Functions of glibc that load libraries when they are called. None may be linked in.
const LOADERS: [&str; 6] =
    ["getaddrinfo", "gethostbyname", "getpwnam_r", "getpwuid_r", "getgrnam_r", "iconv_open"];

/// Builds it into `directory`.
pub(super) fn build(directory: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    // Only the program itself is compiled for it: all that it is linked from is as for any other.
    cargo.args(["rustc", "--release", "--package", "steer-agent", "--bin", "steer", "--"]);
    cargo.args(["-C", "target-feature=+crt-static"]);
    step("steer, linked statically", || {
        process::capture(cargo.current_dir(workspace::root()))?;
        let linked = workspace::target().join("release/steer");
        check(&linked)?;
        let program = directory.join("steer");
        let mut strip = Command::new("strip");
        strip.arg("--strip-all").arg("-o").arg(&program).arg(&linked);
        process::capture(&mut strip)?;
        // Cargo's own place for it gets back what `cargo build` puts there.
        let _ = fs::remove_file(&linked);
        Ok(program)
    })
}

/// Whether it runs without any file beside it.
fn check(program: &Path) -> Result<()> {
    let readelf = |what: &str| {
        let mut readelf = Command::new("readelf");
        process::capture(readelf.args(["--wide", what]).arg(program)).context("readelf")
    };
    let headers = readelf("--program-headers")?;
    ensure!(!headers.contains("INTERP"), "steer asks for a loader, so it is not static");
    let dynamic = readelf("--dynamic")?;
    ensure!(!dynamic.contains("(NEEDED)"), "steer needs libraries:\n{dynamic}");
    let symbols = readelf("--symbols")?;
    let mut names = symbols.lines().filter_map(|line| line.split_whitespace().nth(7));
    let loader = names.find(|name| LOADERS.contains(name));
    ensure!(
        loader.is_none(),
        "steer calls {}, which loads libraries that a static program has not",
        loader.unwrap_or_default()
    );
    Ok(())
}
