//! Control groups of version 2, by name, cgroups(7).
//!
//! A directory that is opened stands for the cgroup; when the cgroup is removed and made again under
//! its name, as a service manager does when a service starts anew, that is another one, and
//! [`Cgroup::is_current`] tells. Version 1 has no place for the programs that are attached here.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;

use super::{Root, SysError, root};

/// `CGROUP2_SUPER_MAGIC` of include/uapi/linux/magic.h.
const MAGIC: u64 = 0x6367_7270;

/// A cgroup that is there.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: File,
    inode: u64,
}

impl Cgroup {
    /// Opens the cgroup at `path`, a directory of a cgroup2 file system.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let object = || path.display().to_string();
        let failed = |error: &std::io::Error| SysError::from_io("open cgroup", object(), error);
        let directory = File::open(path).map_err(|error| failed(&error))?;
        let inode = directory.metadata().map_err(|error| failed(&error))?.ino();
        let kind = fstatfs(&directory).map_err(|errno| SysError::new("statfs", object(), errno))?;
        if u64::try_from(kind.f_type).ok() != Some(MAGIC) {
            return Err(SysError::unexpected(
                "open cgroup",
                object(),
                "this is no cgroup of version 2 (`mount -t cgroup2` shows where those are)",
            ));
        }
        Ok(Self { path: path.to_owned(), directory, inode })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, to attach to.
    #[must_use]
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Whether the name still stands for it.
    #[must_use]
    pub fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| now.ino() == self.inode)
    }
}

/// Where a cgroup is that is named by its directory, or as systemd-cgls(1) and /proc/PID/cgroup name
/// it, from the root of the hierarchy on, or by a process that is in it, as `pid:PID`.
pub fn path_of(root: &Root, name: &str) -> Result<PathBuf, SysError> {
    let mount = mount_point(root)?;
    if let Some(pid) = name.strip_prefix("pid:") {
        return of_process(root, &mount, pid);
    }
    let path = Path::new(name);
    if path.is_absolute() && path.starts_with(&mount) {
        return Ok(path.to_owned());
    }
    Ok(mount.join(name.trim_start_matches('/')))
}

/// The cgroup that a process is in, unless that is everybody's.
fn of_process(root: &Root, mount: &Path, pid: &str) -> Result<PathBuf, SysError> {
    let odd = |what| SysError::unexpected("look up the cgroup of process", pid.to_owned(), what);
    let pid: u32 = pid.parse().map_err(|_| odd("pid: is followed by the number of a process"))?;
    let text = root::read(&root.proc(format!("{pid}/cgroup")))?;
    let name = text.lines().find_map(|line| line.strip_prefix("0::/"));
    match name {
        Some("") => Err(odd(
            "it is in the root of the hierarchy, where every process without a cgroup of its own is; \
             give it one: mkdir /sys/fs/cgroup/lb && echo PID > /sys/fs/cgroup/lb/cgroup.procs",
        )),
        Some(name) => Ok(mount.join(name)),
        None => Err(odd("it is in no cgroup of version 2")),
    }
}

/// Processes that are in the cgroup at `path` itself or below it; `None` where that cannot be told.
#[must_use]
pub fn processes(path: &Path) -> Option<usize> {
    let text = fs::read_to_string(path.join("cgroup.procs")).ok()?;
    let below = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
    let below = below.filter(|path| path.is_dir()).filter_map(|path| processes(&path));
    Some(text.lines().count() + below.sum::<usize>())
}

/// Where the hierarchy of version 2 is mounted.
fn mount_point(root: &Root) -> Result<PathBuf, SysError> {
    let mounts = root.proc("mounts");
    let text = root::read(&mounts)?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place.replace("\\040", " ")))
    });
    found.ok_or_else(|| {
        let what = "no file system of type cgroup2 is mounted; connect steering works on cgroups of \
                    version 2";
        SysError::unexpected("look up cgroup2 in", mounts.display().to_string(), what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_from_the_root_of_the_hierarchy() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path(), dir.path());
        fs::write(
            dir.path().join("mounts"),
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /run/my\\040cgroups cgroup2 rw 0 0\n",
        )
        .expect("written");
        let of = |name| path_of(&root, name).expect("mounted");
        let expected = Path::new("/run/my cgroups/system.slice/haproxy.service");
        assert_eq!(of("system.slice/haproxy.service"), expected);
        assert_eq!(of("/system.slice/haproxy.service"), expected);
        assert_eq!(of("/run/my cgroups/system.slice/haproxy.service"), expected);
        for (pid, cgroups) in [
            ("7", "3:cpu:/old\n0::/system.slice/haproxy.service\n"),
            ("8", "0::/\n"),
            ("9", "3:cpu:/old\n"),
        ] {
            fs::create_dir(dir.path().join(pid)).expect("made");
            fs::write(dir.path().join(pid).join("cgroup"), cgroups).expect("written");
        }
        assert_eq!(of("pid:7"), expected);
        for (name, why) in [
            ("pid:8", "in the root of the hierarchy"),
            ("pid:9", "no cgroup of version 2"),
            ("pid:x", "the number of a process"),
            ("pid:10", "No such file"),
        ] {
            let error = path_of(&root, name).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
        }
        fs::write(dir.path().join("mounts"), "proc /proc proc rw 0 0\n").expect("written");
        let error = path_of(&root, "a").expect_err("not mounted").to_string();
        assert!(error.contains("no file system of type cgroup2"), "{error}");
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = Cgroup::open(dir.path()).expect_err("no cgroup").to_string();
        assert!(error.contains("no cgroup of version 2"), "{error}");
        let error = Cgroup::open(&dir.path().join("none")).expect_err("nothing there");
        assert!(error.is_absent(), "{error}");
    }
}
