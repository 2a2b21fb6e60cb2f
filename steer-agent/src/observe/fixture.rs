//! Trees of /proc and /sys as text, for tests: the shipped readers run over them.
//!
//! A line is `path = text` for a file (`\n` for a line break), `path -> target` for a symbolic
//! link, and `path (0444) = text` for a file that nobody may write. `#` starts a comment.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::sys::{Machine, Root};

/// A tree on disk, removed when dropped.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new(text: &str) -> Self {
        let fixture = Self { dir: tempfile::tempdir().expect("a directory") };
        for directory in ["proc", "sys"] {
            fs::create_dir(fixture.dir.path().join(directory)).expect("made");
        }
        fixture.add(text);
        fixture
    }

    /// Adds to the tree, or replaces files in it.
    pub(crate) fn add(&self, text: &str) {
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((path, target)) = line.split_once(" -> ") {
                symlink(target, self.place(path)).expect("linked");
            } else {
                let (path, value) =
                    line.split_once(" =").expect("`path = text` or `path -> target`");
                let (path, mode) = match path.strip_suffix(" (0444)") {
                    Some(path) => (path, 0o444),
                    None => (path, 0o644),
                };
                let path = self.place(path);
                fs::write(&path, value.trim_start().replace("\\n", "\n") + "\n").expect("written");
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            }
        }
    }

    fn place(&self, path: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        path
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.dir.path().join("proc"), self.dir.path().join("sys"))
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine::captured(self.root())
    }
}
