//! `cargo xtask setup`: everything that building, checking and the lab need, on a Debian machine
//! that has only rustup's stable Rust, git and root.
//!
//! Each thing is looked for first and installed only where it is missing, so a second run changes
//! nothing. A machine that is not Debian is served as far as it has the tools by itself.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    apt::{self, Apt},
    bpf::{self, Compiler},
    kernel::{self, Kernel},
    process::{self, step},
    servers, workspace,
};

/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 22] = [
    ("buildah", "buildah"),
    ("cc", "build-essential"),
    ("chromium-headless-shell", "chromium-headless-shell"),
    ("depmod", "kmod"),
    ("dh", "debhelper"),
    ("ethtool", "ethtool"),
    ("fish", "fish"),
    ("groff", "groff-base"),
    ("ip", "iproute2"),
    ("irqbalance", "irqbalance"),
    ("lintian", "lintian"),
    ("man", "man-db"),
    ("mandoc", "mandoc"),
    ("openssl", "openssl"),
    ("pkill", "procps"),
    ("prometheus", "prometheus"),
    ("setpriv", "util-linux"),
    ("systemd-analyze", "systemd"),
    ("tmux", "tmux"),
    ("xz", "xz-utils"),
    ("zsh", "zsh"),
    ("zstd", "zstd"),
];

/// Debian's Rust that keeps up with the browsers' needs, and its `core` for BPF. rustup's Rust
/// comes first in `PATH` and stays the one for everything else.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
const DEBIAN_CLIPPY: &str = "rust-web-clippy";

const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";

const BPF_LINKER_VERSION: &str = "0.13.0";
/// What `rustc-web` is built on; asked of the compiler once it is there.
const EXPECTED_LLVM: &str = "22";

/// Does what is missing, and says what it does.
pub(crate) fn setup() -> Result<()> {
    let start = Instant::now();
    println!("setup");
    packages()?;
    components()?;
    bpf_linker()?;
    for series in kernel::DEFAULT {
        Kernel::ensure(series)?;
    }
    servers::ensure()?;
    validator()?;
    let toolchain = bpf::detect().map_err(anyhow::Error::msg)?;
    println!("  BPF is built with {toolchain}");
    println!("  complete ({:.1} s)", start.elapsed().as_secs_f64());
    Ok(())
}

/// What the exact solver is built with, which nothing else needs.
pub(crate) fn exact() -> Result<()> {
    let programs = [("cc", "build-essential"), ("cmake", "cmake")];
    let absent = programs.into_iter().filter(|(program, _)| workspace::program(program).is_none());
    let mut packages: Vec<String> = absent.map(|(_, package)| package.to_owned()).collect();
    if !has_libclang() {
        packages.push("libclang-dev".to_owned());
    }
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        bail!("packages are missing that only root can install.\n{}", advice(&packages, false)?);
    }
    println!("setup");
    let apt = Apt::machine()?;
    step("package lists", || apt.update())?;
    step(&packages.join(" "), || apt.install(&packages, None))
}

/// Whether there is a libclang where bindgen looks for one.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() || is_installed("libclang-dev") {
        return true;
    }
    let directories = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let llvm = directories.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-"))
    });
    let mut files = llvm.flat_map(|path| fs::read_dir(path.join("lib")).into_iter().flatten());
    files.any(|file| {
        file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libclang.so"))
    })
}

/// Whether dpkg knows `package` as installed.
fn is_installed(package: &str) -> bool {
    let status = ["--show", "--showformat", "${Status}"];
    let query = process::capture(Command::new("dpkg-query").args(status).arg(package));
    query.is_ok_and(|status| status.ends_with("ok installed"))
}

/// Installs the packages that are missing, or says which they are where only root can.
fn packages() -> Result<()> {
    let packages = missing_packages();
    let qemu = !qemu_has_igb();
    let llvm = missing_llvm();
    if packages.is_empty() && llvm.is_empty() && !qemu {
        return Ok(());
    }
    if !is_root()? {
        let all: Vec<String> = packages.into_iter().chain(llvm).collect();
        bail!("packages are missing that only root can install.\n{}", advice(&all, qemu)?);
    }
    let apt = Apt::machine()?;
    step("package lists", || apt.update())?;
    if !packages.is_empty() {
        step(&packages.join(" "), || apt.install(&packages, None))?;
    }
    if qemu {
        let suite = qemu_suite()?;
        let packages = [QEMU_PACKAGE.to_owned()];
        step(QEMU_PACKAGE, || apt.install(&packages, suite.as_deref()))?;
    }
    // Asked for again: which LLVM it must be is known once there is a compiler.
    let llvm = missing_llvm();
    if !llvm.is_empty() {
        step(&llvm.join(" "), || apt.install(&llvm, None))?;
    }
    Ok(())
}

/// The commands that root would have to run.
fn advice(packages: &[String], qemu: bool) -> Result<String> {
    let mut text = "Run `cargo xtask setup` as root, or let root run:\n".to_owned();
    if !packages.is_empty() {
        writeln!(text, "  apt-get install --yes --no-install-recommends {}", packages.join(" "))?;
    }
    if qemu {
        let suite = qemu_suite()?;
        let option = suite.as_ref().map(|suite| format!("--target-release {suite} "));
        let option = option.unwrap_or_default();
        writeln!(text, "  apt-get install --yes --no-install-recommends {option}{QEMU_PACKAGE}")?;
        if let Some(suite) = suite {
            writeln!(text, "  (with {suite} in apt's sources: QEMU 8 is the first with an igb)")?;
        }
    }
    Ok(text)
}

pub(crate) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot see /proc/self")?.uid() == 0)
}

fn missing_packages() -> Vec<String> {
    let absent = PROGRAMS.iter().filter(|(program, _)| workspace::program(program).is_none());
    let mut missing: Vec<String> = absent.map(|(_, package)| (*package).to_owned()).collect();
    if !has_static_busybox() {
        missing.push("busybox-static".to_owned());
    }
    if !is_installed("python3-venv") && !kubernetes_validate().is_file() {
        missing.push("python3-venv".to_owned());
    }
    let compiler = bpf::compiler();
    if compiler.is_none() {
        missing.extend(DEBIAN_RUST.map(str::to_owned));
    }
    if compiler != Some(Compiler::Nightly) && !Path::new(bpf::DEBIAN_CLIPPY).is_file() {
        missing.push(DEBIAN_CLIPPY.to_owned());
    }
    missing
}

/// What bpf-linker is built from, if it is not there.
fn missing_llvm() -> Vec<String> {
    if bpf::linker().is_some() {
        return Vec::new();
    }
    let major = llvm_major().unwrap_or_else(|| EXPECTED_LLVM.to_owned());
    let packages = [format!("llvm-{major}-dev"), "libzstd-dev".to_owned(), "zlib1g-dev".to_owned()];
    packages.into_iter().filter(|package| !is_installed(package)).collect()
}

/// The LLVM that the BPF compiler writes its bitcode with, and that must read it again.
fn llvm_major() -> Option<String> {
    let mut rustc = match bpf::compiler()? {
        Compiler::Nightly => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", "nightly", "rustc"]);
            rustup
        }
        Compiler::Debian => Command::new(bpf::DEBIAN_RUSTC),
    };
    let facts = process::capture(rustc.arg("-vV")).ok()?;
    let version = facts.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next().map(str::to_owned)
}

fn bpf_linker() -> Result<()> {
    if bpf::linker().is_some() {
        return Ok(());
    }
    let major = llvm_major().context("the BPF compiler does not say which LLVM it uses")?;
    let package = format!("bpf-linker@{BPF_LINKER_VERSION}");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", "--locked", "--no-default-features", "--features"])
        .args([&format!("llvm-{major}"), &package])
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{major}"))
        // Built once and kept out of the way of the workspace's own builds.
        .env("CARGO_TARGET_DIR", workspace::target().join("bpf-linker"));
    step(&package, || process::capture(&mut cargo))?;
    Ok(())
}

/// The schemas of Kubernetes with a program that holds a manifest against them, from `PyPI`.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// Where that program is.
pub(crate) fn kubernetes_validate() -> PathBuf {
    workspace::lab().join("python/bin/kubernetes-validate")
}

/// Installs it below the target directory, with a Python environment of its own.
fn validator() -> Result<()> {
    if kubernetes_validate().is_file() {
        return Ok(());
    }
    let environment = workspace::lab().join("python");
    step(VALIDATOR, || {
        process::capture(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", VALIDATOR]);
        process::capture(&mut pip).map(drop)
    })
}

/// rustfmt and clippy, which rustup's minimal profile lacks.
fn components() -> Result<()> {
    let present =
        |name: &str| process::capture(Command::new("cargo").args([name, "--version"])).is_ok();
    if present("fmt") && present("clippy") {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rustfmt", "clippy"]);
    step("rustfmt and clippy", || process::capture(&mut rustup))?;
    Ok(())
}

/// Whether there is a busybox that runs without libraries, as the initramfs has none.
fn has_static_busybox() -> bool {
    let contents = workspace::program("busybox").and_then(|path| fs::read(path).ok());
    let interpreter: &[u8] = b"/ld-linux";
    contents.is_some_and(|elf| !elf.windows(interpreter.len()).any(|bytes| bytes == interpreter))
}

fn qemu_has_igb() -> bool {
    let help = process::capture(Command::new(QEMU).args(["-device", "igb,help"]));
    help.is_ok_and(|help| help.contains("igb options"))
}

/// The suite with a QEMU that emulates an igb, where the release's own does not.
fn qemu_suite() -> Result<Option<String>> {
    let codename = apt::codename()?;
    Ok((codename == "bookworm").then(|| format!("{codename}-backports")))
}
