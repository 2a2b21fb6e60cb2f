//! The licences of the crates that are linked into the program, with their texts, as those ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{process, workspace};

/// What cargo knows of a crate.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Writes them into one file in `directory`.
pub(super) fn write(directory: &Path) -> Result<PathBuf> {
    let linked = linked()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    let text = process::capture(cargo.current_dir(workspace::root()))?;
    let metadata: Metadata = serde_json::from_str(&text).context("what cargo metadata prints")?;
    let mut list = String::new();
    // Many crates have the same text to the byte.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        if package.source.is_none() || !linked.contains(&name) {
            continue;
        }
        writeln!(list, "  {name}: {}", package.license.as_deref().unwrap_or("see below"))?;
        for text in texts_of(&package.manifest_path)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut all = format!("Crates that are linked into steer, and their licences:\n\n{list}");
    for (text, names) in &texts {
        let line = "-".repeat(80);
        write!(all, "\n{line}\n{}:\n\n{}\n", names.join(", "), text.trim_end())?;
    }
    let path = directory.join("third-party.txt");
    fs::write(&path, all).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Name and version of everything that is linked in, of this workspace too.
fn linked() -> Result<BTreeSet<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--package", "steer-agent", "--edges", "normal"]);
    cargo.args(["--target", "x86_64-unknown-linux-gnu", "--prefix", "none"]);
    let tree = process::capture(cargo.current_dir(workspace::root()))?;
    // `name v1.2.3 (proc-macro) (*)`; what runs in the compiler is not linked in.
    let lines = tree.lines().filter(|line| !line.contains("(proc-macro)"));
    let name = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some(format!("{name} {}", rest.split_whitespace().next()?))
    };
    Ok(lines.filter_map(name).collect())
}

/// The texts beside a crate's manifest.
fn texts_of(manifest: &Path) -> Result<Vec<String>> {
    let directory = manifest.parent().context("a manifest is in a directory")?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let words = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE"];
        if path.is_file() && words.iter().any(|word| name.starts_with(word)) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned());
    paths.into_iter().map(read).collect()
}
