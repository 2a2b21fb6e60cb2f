//! Where /proc and /sys are, and the only place that writes to them.
//!
//! Everything reads through a [`Root`], so that a tree captured on another machine, or a host's
//! tree mounted into a container, runs through the shipped code. A write is one write(2) of the
//! whole value, as sysfs and procfs want it, and its error carries path and value. There is no
//! caching: what is returned was read now.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::SysError;

/// The two trees in which the kernel shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    proc: PathBuf,
    sys: PathBuf,
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/proc", "/sys")
    }
}

impl Root {
    /// Trees mounted at `proc` and `sys`.
    pub fn new(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), sys: sys.into() }
    }

    /// A path below /proc.
    #[must_use]
    pub fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.proc.join(path)
    }

    /// A path below /sys.
    #[must_use]
    pub fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.sys.join(path)
    }

    /// The directory of an interface.
    #[must_use]
    pub fn nic(&self, nic: &str) -> PathBuf {
        self.sys.join("class/net").join(nic)
    }

    /// Whether both trees are the running kernel's own. Only then do sockets (ioctl, netlink)
    /// speak of the same machine as the files.
    #[must_use]
    pub fn is_live(&self) -> bool {
        *self == Self::default()
    }
}

/// The text of a file without its final newline.
pub fn read(path: &Path) -> Result<String, SysError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// The value that a file holds.
pub fn read_value<T: FromStr>(path: &Path) -> Result<T, SysError> {
    let text = read(path)?;
    text.parse().map_err(|_| {
        let what = format!("`{text}` is not what this file should hold");
        SysError::unexpected("read", path.display().to_string(), what)
    })
}

/// The value that a file holds, where it can be read and understood. For what is only reported.
#[must_use]
pub fn value<T: FromStr>(path: &Path) -> Option<T> {
    read_value(path).ok()
}

/// Names of the entries of a directory, sorted.
pub fn list(path: &Path) -> Result<Vec<String>, SysError> {
    let entries = fs::read_dir(path).map_err(|error| failed("list", path, &error))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The last part of a symbolic link's target: how sysfs names drivers, buses and nodes.
#[must_use]
pub fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Whether anybody may write the file: its mode has a write bit. Root's rights are not asked,
/// because procfs tells by the mode that there is nothing to write (kernel/irq/proc.c).
#[must_use]
pub fn is_writable_by_mode(path: &Path) -> Option<bool> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o222 != 0)
}

/// Writes `value` in one write(2). The file must exist: nothing is ever created here.
pub(super) fn write(path: &Path, value: &str) -> Result<(), SysError> {
    let mut file = match fs::OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) => return Err(failed("write", path, &error).with_value(value)),
    };
    // Not write_all(): a rest sent in a second call would be parsed as a value of its own.
    match file.write(value.as_bytes()) {
        Ok(written) if written == value.len() => Ok(()),
        Ok(written) => {
            let what = format!("the kernel took only {written} of {} bytes", value.len());
            Err(SysError::unexpected("write", path.display().to_string(), what).with_value(value))
        }
        Err(error) => Err(failed("write", path, &error).with_value(value)),
    }
}

fn failed(call: &'static str, path: &Path, error: &std::io::Error) -> SysError {
    SysError::from_io(call, path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_tree_is_read_like_the_real_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path().join("proc"), dir.path().join("sys"));
        let nic = root.nic("eth0");
        fs::create_dir_all(&nic).expect("made");
        fs::write(nic.join("ifindex"), "7\n").expect("written");
        fs::write(nic.join("speed"), "fast\n").expect("written");
        std::os::unix::fs::symlink("../../bus/drivers/igb", nic.join("driver")).expect("linked");
        assert_eq!(read_value::<u32>(&nic.join("ifindex")), Ok(7));
        assert_eq!(list(&nic).expect("listed"), ["driver", "ifindex", "speed"]);
        assert_eq!(link_name(&nic.join("driver")).as_deref(), Some("igb"));
        assert_eq!(link_name(&nic.join("ifindex")), None);
        assert!(!root.is_live());
        let error = read_value::<u32>(&nic.join("speed")).expect_err("not a number");
        assert!(error.to_string().ends_with("`fast` is not what this file should hold"), "{error}");
    }

    #[test]
    fn a_write_creates_nothing_and_names_path_and_value() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("xps_cpus");
        let error = write(&path, "f").expect_err("no such file");
        assert!(error.is_absent() && !path.exists());
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("write {} = `f`: No such file", path.display())),
            "{text}"
        );
        fs::write(&path, "00").expect("made");
        write(&path, "f").expect("written");
        assert_eq!(read(&path).expect("read"), "f0", "no truncation either");
    }
}
