//! `cargo xtask dist`: what is handed out, in `target/dist`.
//!
//! ```text
//! steer                      the program, which runs without any library
//! steer_VERSION_amd64.deb    program, unit, configuration, man pages, completions, documentation
//! container/                 what an image is built from
//! kubernetes/steer.yaml      a DaemonSet
//! SHA256SUMS                 of all of it
//! ```

mod check;
mod debian;
mod image;
mod licences;
mod program;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    process::{self, step},
    workspace,
};

/// The version of steer, and of everything that is made here.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What to do with what was made.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Hold it against what reads it: lintian, systemd, the schema of Kubernetes, a container.
    #[arg(long)]
    check: bool,
}

/// The command.
pub(crate) fn dist(options: &Options) -> Result<()> {
    let made = make()?;
    for line in made.sums.lines() {
        println!("  {line}");
    }
    println!("  all in {}", directory().display());
    if options.check { check::check(&made) } else { Ok(()) }
}

/// Makes everything and holds it against what reads it, as a step of the tests.
pub(crate) fn checked() -> Result<()> {
    dist(&Options { check: true })
}

/// Generates man pages and completions, below `target/manual`.
pub(crate) fn generate() -> Result<PathBuf> {
    let manual = workspace::target().join("manual");
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--release", "--package", "steer-manual", "--"]).arg(&manual);
    cargo.args(["--date", source::date("+%F")?.trim()]);
    step("man pages and completions", || {
        process::capture(cargo.current_dir(workspace::root())).map(drop)
    })?;
    Ok(manual)
}

/// Two versions of the package, for the lab to install one and upgrade to the other: `present.deb` and
/// `next.deb`, in which only the version differs.
pub(crate) fn for_lab() -> Result<()> {
    let directory = workspace::lab().join("packages");
    fs::create_dir_all(&directory)?;
    let ingredients = ingredients()?;
    for (name, version) in
        [("present.deb", VERSION.to_owned()), ("next.deb", format!("{VERSION}+1"))]
    {
        let package = debian::build(&ingredients, &version)?;
        fs::copy(&package, directory.join(name))
            .with_context(|| format!("cannot copy {}", package.display()))?;
    }
    Ok(())
}

fn directory() -> PathBuf {
    workspace::target().join("dist")
}

/// What the packages are made of.
struct Ingredients {
    /// The static program.
    program: PathBuf,
    /// Directory of man pages and completions.
    manual: PathBuf,
    /// What is linked in, and under which licences.
    licences: PathBuf,
}

fn ingredients() -> Result<Ingredients> {
    fs::create_dir_all(directory())?;
    let program = program::build(&directory())?;
    let manual = generate()?;
    let licences = step("licences of what is linked in", || licences::write(&directory()))?;
    Ok(Ingredients { program, manual, licences })
}

/// What was made.
struct Made {
    package: PathBuf,
    manifest: PathBuf,
    /// Directory that an image is built from.
    container: PathBuf,
    /// A line for each file, as sha256sum(1) prints them.
    sums: String,
}

fn make() -> Result<Made> {
    println!("dist");
    let directory = directory();
    let ingredients = ingredients()?;
    let built = debian::build(&ingredients, VERSION)?;
    let name = built.file_name().context("a package has a name")?.to_owned();
    let package = directory.join(&name);
    fs::copy(&built, &package)?;
    let container = image::lay_out(&ingredients, &directory)?;
    let manifest = directory.join("kubernetes/steer.yaml");
    copy("deploy/kubernetes/steer.yaml", &manifest)?;
    let name = name.to_string_lossy().into_owned();
    let files = ["steer", &name, "kubernetes/steer.yaml", "third-party.txt"];
    let sums = process::capture(Command::new("sha256sum").args(files).current_dir(&directory))?;
    fs::write(directory.join("SHA256SUMS"), &sums)?;
    Ok(Made { package, manifest, container, sums })
}

/// Copies a file of the checkout, making the directories on the way.
fn copy(from: &str, to: &Path) -> Result<()> {
    let from = workspace::root().join(from);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(&from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Copies a directory with all that is in it.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
