//! Trees of /proc and /sys as text, for tests: the shipped readers run over them.
//!
//! A line is `path = text` for a file (`\n` for a line break, `\t` and `\0` likewise), `path -> target`
//! for a symbolic link, and `path (0444) = text` for a file that nobody may write. `#` starts a comment.

#![allow(clippy::expect_used, reason = "a test that cannot set up its tree has failed")]

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::sys::{Machine, Root};

/// A tree on disk, removed when dropped.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    #[cfg(test)]
    pub(crate) fn new(text: &str) -> Self {
        let fixture = Self::empty();
        fixture.add(text);
        fixture
    }

    /// A tree with nothing in it.
    pub(crate) fn empty() -> Self {
        let fixture = Self { dir: tempfile::tempdir().expect("a directory") };
        for directory in ["proc", "sys"] {
            fs::create_dir(fixture.dir.path().join(directory)).expect("made");
        }
        fixture
    }

    /// Adds to the tree, or replaces files in it.
    #[cfg(test)]
    pub(crate) fn add(&self, text: &str) {
        for line in text.lines() {
            self.add_line(line).expect(line);
        }
    }

    /// The same with one line; one that is no entry, or cannot be where it is to be, is an error.
    pub(crate) fn add_line(&self, line: &str) -> io::Result<()> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some((path, target)) = line.split_once(" -> ") {
            return symlink(target, self.place(path)?);
        }
        let no_entry = || io::Error::other("neither `path = text` nor `path -> target`");
        let (path, value) = line.split_once(" =").ok_or_else(no_entry)?;
        let (path, mode) = match path.strip_suffix(" (0444)") {
            Some(path) => (path, 0o444),
            None => (path, 0o644),
        };
        let path = self.place(path)?;
        let value = value.trim_start();
        let escapes = [("\\n", "\n"), ("\\t", "\t"), ("\\0", "\0")];
        let text = escapes.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to));
        fs::write(&path, text + "\n")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    }

    fn place(&self, path: &str) -> io::Result<std::path::PathBuf> {
        let path = self.dir.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(path)
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.dir.path().join("proc"), self.dir.path().join("sys"))
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine::captured(self.root())
    }
}
