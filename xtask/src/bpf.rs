//! Finds a Rust compiler that can build for BPF, and builds `steer-ebpf` with it.
//!
//! Stable Rust has no `core` for `bpfel-unknown-none`. Two toolchains have one, asked for in this
//! order:
//!
//! 1. rustup's nightly with the `rust-src` component, which compiles `core` on the spot;
//! 2. Debian's `rustc-web` with `libstd-rust-web-dev-bpf`, which ships a compiled `core`.
//!
//! Both link with `bpf-linker`.
//!
//! Uses `std` alone: xtask and the build script of steer-agent both include this file, so that a
//! check and a build can never differ in how the object is made.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "steer-ebpf";

/// Linux 5.10 is the oldest kernel to load the object. It knows instruction set v3, but not the
/// fetching atomics that LLVM emits for it; v2 has neither those nor 32-bit subregisters, whose
/// bounds the verifier of that time loses track of.
const CPU: &str = "v2";

/// Debian's compiler. Not looked up in `PATH`, where rustup's comes first.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub(crate) const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// Variables with which an outer cargo, clippy or rustup would redirect the inner build.
const INHERITED: [&str; 12] = [
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_ENCODED_RUSTFLAGS",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// A compiler and a linker that make BPF objects together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// Where `core` for BPF comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// rustup's nightly, which builds `core` from `rust-src`.
    Nightly,
    /// Debian's `rustc-web`, which has it prebuilt.
    Debian,
}

/// What to do with the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "xtask lints, the build script of steer-agent builds")]
pub(crate) enum Subcommand {
    Build,
    Clippy,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = match self.compiler {
            Compiler::Nightly => "rustup's nightly with rust-src",
            Compiler::Debian => "Debian's rustc-web",
        };
        write!(f, "{compiler} and {}", self.linker.display())
    }
}

/// Finds a compiler and bpf-linker, or says in one sentence what is missing.
pub(crate) fn detect() -> Result<Toolchain, String> {
    let compiler = compiler();
    let linker = linker();
    match (compiler, linker) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        (None, Some(_)) => Err(format!(
            "no Rust compiler with `core` for {TARGET} was found: `cargo xtask setup` installs \
             Debian's rustc-web and libstd-rust-web-dev-bpf, elsewhere use \
             `rustup toolchain install nightly --component rust-src`"
        )),
        (Some(_), None) => {
            Err("bpf-linker was found neither in PATH nor in cargo's bin directory: \
             `cargo xtask setup` installs it"
                .to_owned())
        }
        (None, None) => Err(format!(
            "neither bpf-linker nor a Rust compiler with `core` for {TARGET} was found: \
             `cargo xtask setup` installs both"
        )),
    }
}

/// The compiler to use, if there is one.
pub(crate) fn compiler() -> Option<Compiler> {
    if nightly_has_source() {
        Some(Compiler::Nightly)
    } else if debian_has_core() {
        Some(Compiler::Debian)
    } else {
        None
    }
}

/// Where bpf-linker is; cargo installs it to a directory that need not be in `PATH`.
pub(crate) fn linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home().map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

fn cargo_home() -> Option<PathBuf> {
    let of_user = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(of_user)
}

fn nightly_has_source() -> bool {
    let sysroot = stdout(
        Command::new("rustup")
            .args(["run", "nightly", "rustc", "--print", "sysroot"])
            .env_remove("RUSTUP_TOOLCHAIN"),
    );
    sysroot.is_some_and(|sysroot| {
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

fn debian_has_core() -> bool {
    let mut rustc = Command::new(DEBIAN_RUSTC);
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let Some(Ok(libraries)) = stdout(&mut rustc).map(fs::read_dir) else {
        return false;
    };
    libraries.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

/// What a command printed, without the line's end; `None` if it cannot be run or fails.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}

/// The cargo call that builds or lints `steer-ebpf`; arguments may be added to it.
///
/// `target_dir` must not be the one that an outer cargo holds the lock of.
pub(crate) fn cargo_command(
    toolchain: &Toolchain,
    workspace_root: &Path,
    target_dir: &Path,
    subcommand: Subcommand,
) -> Command {
    let mut command = match (toolchain.compiler, subcommand) {
        (Compiler::Nightly, _) => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", "nightly", "cargo"]);
            rustup
        }
        (Compiler::Debian, Subcommand::Build) => {
            Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        }
        // rustup's clippy would look for the metadata of its own compiler.
        (Compiler::Debian, Subcommand::Clippy) => Command::new(DEBIAN_CLIPPY),
    };
    for variable in INHERITED {
        command.env_remove(variable);
    }
    command.arg(match subcommand {
        Subcommand::Build => "build",
        Subcommand::Clippy => "clippy",
    });
    command.args(["--release", "--package", PACKAGE, "--target", TARGET, "--target-dir"]);
    command.arg(target_dir).current_dir(workspace_root);
    match toolchain.compiler {
        Compiler::Nightly => {
            command.args(["-Z", "build-std=core"]);
        }
        Compiler::Debian => {
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        }
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain).join("\x1f"));
    command
}

fn rustflags(toolchain: &Toolchain) -> Vec<String> {
    [
        format!("linker={}", toolchain.linker.display()),
        "panic=abort".to_owned(),
        format!("target-cpu={CPU}"),
    ]
    .into_iter()
    .flat_map(|value| ["-C".to_owned(), value])
    .collect()
}

/// Builds the BPF object and returns its path.
#[allow(dead_code, reason = "the build script of steer-agent calls it")]
pub(crate) fn build(workspace_root: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let toolchain = detect()?;
    let mut cargo = cargo_command(&toolchain, workspace_root, target_dir, Subcommand::Build);
    let status = cargo.status().map_err(|error| format!("cannot run {cargo:?}: {error}"))?;
    if !status.success() {
        return Err(format!("building {PACKAGE} with {toolchain} failed ({status})"));
    }
    Ok(target_dir.join(TARGET).join("release").join(PACKAGE))
}
