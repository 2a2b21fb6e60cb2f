//! The lab's kernels: Debian's, downloaded and unpacked without being installed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    apt::{self, Apt},
    process, workspace,
};

/// The series that the lab can boot and the suite that each comes from, in rising order. Backports move on:
/// 7.2, of which results are stored, is found only where it was fetched before.
pub(crate) const SERIES: [(&str, &str); 5] = [
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "bookworm-backports"),
    ("7.2", "trixie-backports"),
    ("7.3", "trixie-backports"),
];

/// What set-up fetches. The others are fetched when a lab machine is first asked to boot them.
pub(crate) const DEFAULT: [&str; 2] = ["6.1", "6.12"];

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// What `uname -r` says under it.
    pub(crate) release: String,
    directory: PathBuf,
}

impl Kernel {
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The directory to be mounted over `/lib/modules`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules")
    }

    /// The kernel of a series if it is there.
    pub(crate) fn find(series: &str) -> Option<Self> {
        let directory = workspace::lab().join("kernels").join(series);
        // Written last, so it marks a complete kernel.
        let release = fs::read_to_string(directory.join("release")).ok()?;
        Some(Self { release: release.trim_end().to_owned(), directory })
    }

    /// The kernel of a series, fetched if need be.
    pub(crate) fn ensure(series: &str) -> Result<Self> {
        match Self::find(series) {
            Some(kernel) => Ok(kernel),
            None => process::step(&format!("kernel {series}"), || Self::fetch(series)),
        }
    }

    fn fetch(series: &str) -> Result<Self> {
        let Some((_, suite)) = SERIES.iter().find(|(known, _)| *known == series) else {
            let known = SERIES.map(|(series, _)| series).join(", ");
            bail!("the lab has no kernel {series}; it has {known}");
        };
        let apt =
            if suite.starts_with(&apt::codename()?) { Apt::machine()? } else { Apt::suite(suite)? };
        let directory = workspace::lab().join("kernels").join(series);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        apt.unpack_kernel(series, &directory)?;

        // Where the packages of a release with a merged /usr put them.
        let merged = directory.join("usr/lib/modules");
        if merged.is_dir() {
            fs::create_dir_all(directory.join("lib"))?;
            fs::rename(&merged, directory.join("lib/modules"))?;
        }
        let modules = directory.join("lib/modules");
        let releases: Vec<String> = fs::read_dir(&modules)
            .with_context(|| format!("the packages of kernel {series} hold no modules"))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ensure!(releases.len() == 1, "kernel {series} has modules of {releases:?}");
        let release = &releases[0];
        let candidates = [
            directory.join("boot").join(format!("vmlinuz-{release}")),
            modules.join(release).join("vmlinuz"),
        ];
        let image = candidates.iter().find(|path| path.is_file());
        let image = image.with_context(|| format!("the packages of {release} hold no image"))?;
        fs::rename(image, directory.join("vmlinuz"))?;
        let depmod = workspace::program("depmod").context("depmod (package kmod) is missing")?;
        process::capture(Command::new(depmod).arg("-b").arg(&directory).arg(release))?;
        fs::write(directory.join("release"), release)?;
        Self::find(series).context("the kernel vanished while it was unpacked")
    }
}
