//! The container image: what it is built from, and the image itself where there is a buildah.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Ingredients, copy};
use crate::{
    process::{self, step},
    workspace,
};

/// Files of the checkout that the image is built from.
const FILES: [&str; 3] = ["LICENSE-MIT", "LICENSE-APACHE", "LICENSE-GPL2"];

/// A network namespace with a pair of interfaces, and the image run in it as a `DaemonSet` would run it:
/// the host's trees below /host, and nothing to be written.
const RUN: &str = "set -e
mount -t sysfs sysfs /sys
ip link set lo up
ip link add v0 numrxqueues 1 numtxqueues 1 type veth peer name v1
ip link set v0 up
ip link set v1 up
in_image() {
    buildah --root \"$STORE/root\" --runroot \"$STORE/run\" --storage-driver vfs run --isolation chroot \
        --network host --cap-add CAP_BPF --cap-add CAP_PERFMON \
        --volume /proc:/host/proc:ro --volume /sys:/host/sys:ro \"$CONTAINER\" -- /usr/bin/steer \"$@\"
}
in_image --version
in_image doctor v0 || [ $? = 1 ]
in_image status v0 --for 200ms --json || [ $? = 1 ]
";

/// Lays out what the image is built from.
pub(super) fn lay_out(ingredients: &Ingredients, directory: &Path) -> Result<PathBuf> {
    let context = directory.join("container");
    fs::create_dir_all(&context)?;
    copy("deploy/Containerfile", &context.join("Containerfile"))?;
    for file in FILES {
        copy(file, &context.join(file))?;
    }
    fs::copy(&ingredients.program, context.join("steer"))?;
    fs::copy(&ingredients.licences, context.join("third-party.txt"))?;
    Ok(context)
}

/// Builds the image and runs it.
pub(super) fn check(context: &Path) -> Result<()> {
    // Of one filesystem's own, for it is thrown away, and without what a nested container may not do.
    let store = workspace::target().join("image-store");
    if store.exists() {
        fs::remove_dir_all(&store)?;
    }
    let buildah = |arguments: &[&str]| {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        buildah.args(["--storage-driver", "vfs"]).args(arguments).current_dir(context);
        process::capture(&mut buildah)
    };
    let said = step("image, built and run", || {
        buildah(&["build", "--isolation", "chroot", "--tag", "steer", "."])?;
        // The default profile lets bpf(2) through for CAP_SYS_ADMIN only.
        let unconfined = ["from", "--pull-never", "--security-opt", "seccomp=unconfined", "steer"];
        let container = buildah(&unconfined)?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "sh", "-c", RUN]);
        unshare.env("STORE", &store).env("CONTAINER", container.trim());
        process::capture(&mut unshare)
    })?;
    fs::remove_dir_all(&store).context("cannot remove the store of images")?;
    let version = format!("steer {}", super::VERSION);
    ensure!(said.contains(&version), "the image does not say {version}: {said}");
    let status = said.lines().find(|line| line.starts_with('{'));
    let status: serde_json::Value =
        serde_json::from_str(status.with_context(|| format!("no status in the image: {said}"))?)?;
    // A window that has passed, and counters of the kernel side: it was loaded.
    let seen = status["nics"][0]["health"]["no_hash"].is_u64();
    ensure!(
        seen && status["nics"][0]["name"] == "v0" && status["source"] == "self",
        "in the image v0 is not observed: {said}"
    );
    Ok(())
}
