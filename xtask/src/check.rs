//! `cargo xtask check`: what can be said about the source without running it.

use std::process::Command;

use anyhow::{Error, Result, ensure};

use crate::{
    bpf::{self, Subcommand},
    layers, process,
    summary::Summary,
    workspace,
};

type Check = fn() -> Result<()>;

/// The checks, in the order in which they fail fastest.
const CHECKS: [(&str, Check); 5] = [
    ("layers", layers::check),
    ("fmt", fmt),
    ("clippy", clippy),
    ("clippy for BPF", clippy_for_bpf),
    ("doc", doc),
];

/// The command.
pub(crate) fn check() -> Result<()> {
    let mut summary = Summary::default();
    add_to(&mut summary);
    summary.finish()
}

/// Runs every check; one that fails does not keep the others from being run.
pub(crate) fn add_to(summary: &mut Summary) {
    for (name, check) in CHECKS {
        summary.step(name, check);
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(workspace::root());
    cargo
}

fn fmt() -> Result<()> {
    process::run(&mut cargo(&["fmt", "--all", "--check"]))
}

/// The kernel side is left out: it has no standard library and no host to be built for.
fn clippy() -> Result<()> {
    process::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--exclude=steer-ebpf",
        // Built with C++ and libclang, which nothing else needs: `cargo xtask exact`.
        "--exclude=steer-exact",
        // Brings libFuzzer, which is C++ too: `cargo xtask fuzz`.
        "--exclude=steer-fuzz",
        "--all-targets",
        "--",
        "--deny=warnings",
    ]))
}

fn clippy_for_bpf() -> Result<()> {
    let toolchain = bpf::detect().map_err(Error::msg)?;
    let target = workspace::target().join("bpf");
    let mut command =
        bpf::cargo_command(&toolchain, &workspace::root(), &target, Subcommand::Clippy);
    process::run(command.args(["--", "--deny=warnings"]))
}

/// With the private items: the readers are those who change steer.
fn doc() -> Result<()> {
    let mut cargo = cargo(&[
        "doc",
        "--workspace",
        "--exclude=steer-ebpf",
        // Built with C++ and libclang, which nothing else needs: `cargo xtask exact`.
        "--exclude=steer-exact",
        // Brings libFuzzer, which is C++ too: `cargo xtask fuzz`.
        "--exclude=steer-fuzz",
        "--no-deps",
        "--document-private-items",
    ]);
    process::run(
        cargo.env("RUSTDOCFLAGS", "--deny=warnings --allow=rustdoc::private-intra-doc-links"),
    )?;
    let index = workspace::target().join("doc/steer_agent/index.html");
    ensure!(index.is_file(), "cargo doc left no documentation of steer-agent");
    Ok(())
}
