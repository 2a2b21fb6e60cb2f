//! What was made, held against what will read it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use super::{Made, image};
use crate::{
    process::{self, step},
    setup, workspace,
};

/// How exposed the unit may be for `systemd-analyze security`, from 0 to 10. Where it stands is in
/// docs/packages.md.
const MOST_EXPOSED: f64 = 3.9;
/// The Kubernetes whose schema the manifest is held against, beside the newest one known.
const OLD_KUBERNETES: &str = "1.29.0";

/// Everything; the first that complains ends it.
pub(super) fn check(made: &Made) -> Result<()> {
    let tree = workspace::target().join("dist/installed");
    step("lintian", || lintian(&made.package))?;
    step("static, in an empty root", || in_an_empty_root(made))?;
    step("the unit, by systemd-analyze", || unit(&made.package, &tree))?;
    step("DaemonSet, by the schema of Kubernetes", || manifest(&made.manifest))?;
    image::check(&made.container)
}

/// Nothing to complain about, but for what deploy/debian/steer.lintian-overrides gives a reason for.
fn lintian(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args([
        "--allow-root",
        "--fail-on",
        "error,warning",
        "--info",
        "--tag-display-limit",
        "0",
    ]);
    process::capture(lintian.arg(package)).map(drop)
}

/// The program alone in a directory that is all it sees.
fn in_an_empty_root(made: &Made) -> Result<()> {
    let root = workspace::target().join("dist/empty");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    fs::copy(made.container.join("steer"), root.join("steer"))?;
    let mut chroot = Command::new("chroot");
    let said = process::capture(chroot.arg(&root).args(["/steer", "simulate", "--list"]))?;
    ensure!(!said.trim().is_empty(), "steer has nothing to say in an empty root");
    fs::remove_dir_all(&root).context("cannot remove the empty root")
}

/// The unit of the package: no complaint, and a score.
fn unit(package: &Path, tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    process::capture(Command::new("dpkg-deb").arg("--extract").arg(package).arg(tree))?;
    let path = tree.join("lib/systemd/system/steer.service");
    ensure!(path.is_file(), "the package has no {}", path.display());
    // What the unit calls is looked for below the same root; of the rest of a system there is nothing.
    for program in ["bin/sh", "bin/kill"] {
        let path = tree.join(program);
        fs::create_dir_all(tree.join("bin"))?;
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg("--root")
        .arg(tree)
        .arg("steer.service")
        .output()
        .context("cannot run systemd-analyze")?;
    let said = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.success() && said.trim().is_empty(), "verify: {said}");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]).arg(&path);
    let table = process::capture(&mut analyze)?;
    let last = table.lines().last().unwrap_or_default();
    let score = last.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    let score = score.with_context(|| format!("no score in: {last}"))?;
    ensure!(score <= MOST_EXPOSED, "exposure {score}, at most {MOST_EXPOSED}:\n{table}");
    let documented = format!("exposure level {score:.1}");
    let text = fs::read_to_string(workspace::root().join("docs/packages.md"))?;
    ensure!(text.contains(&documented), "docs/packages.md does not say: {documented}");
    fs::remove_dir_all(tree).context("cannot remove what was unpacked")
}

/// Every document of the manifest, strictly: an unknown field is an error.
fn manifest(path: &Path) -> Result<()> {
    let validate = setup::kubernetes_validate();
    for version in [None, Some(OLD_KUBERNETES)] {
        let mut command = Command::new(&validate);
        command.args(["--strict"]);
        if let Some(version) = version {
            command.args(["--kubernetes-version", version]);
        }
        process::capture(command.arg(path))?;
    }
    // And it does complain where there is reason to.
    let wrong = workspace::target().join("dist/wrong.yaml");
    let text = fs::read_to_string(path)?;
    fs::write(&wrong, text.replace("hostNetwork:", "hostNetworks:"))?;
    let taken = process::capture(Command::new(&validate).arg("--strict").arg(&wrong)).is_ok();
    fs::remove_file(&wrong)?;
    if taken {
        bail!("the schema takes an unknown field, so it says nothing");
    }
    Ok(())
}
