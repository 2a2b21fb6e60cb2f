//! A file that is always whole: written beside, then renamed over the old one.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Puts `text` in place of what is at `path`. Readers see the old text or the new one.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = beside(path)?;
    // What a killed process left is in the way of `create_new`, which follows no link.
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside)?;
    let written = file.write_all(text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Takes the file away.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// A name in the same directory that the textfile collector does not read: it wants `*.prom`.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not the name of a file"));
    };
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.new", std::process::id()));
    Ok(path.with_file_name(beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("steer.prom");
        for text in ["old", "new"] {
            replace(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        // A link that somebody put in the way is not followed.
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").expect("written");
        std::os::unix::fs::symlink(&elsewhere, beside(&path).expect("a name")).expect("linked");
        replace(&path, b"newer").expect("written");
        assert_eq!(fs::read_to_string(&elsewhere).expect("there"), "theirs");
        remove(&path).expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        assert!(replace(&dir.path().join("no/where"), b"x").is_err());
    }
}
