//! A cgroup of the tests' own, in which this process is for as long as anybody holds it.

use std::{
    fs,
    io::ErrorKind,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use steer_agent::sys::{Root, cgroup};

/// One holder.
pub(crate) struct Group;

static HOLDERS: Mutex<usize> = Mutex::new(0);

fn holders() -> MutexGuard<'static, usize> {
    HOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(name: &str) -> PathBuf {
    cgroup::path_of(&Root::default(), name).expect("mounted")
}

fn path() -> PathBuf {
    path_of(&format!("steer-test-{}", std::process::id()))
}

impl Group {
    /// Puts this process into the cgroup.
    pub(crate) fn join() -> Self {
        let mut holders = holders();
        if *holders == 0 {
            // The last holder could not remove it if a command of another test was still in it.
            if let Err(error) = fs::create_dir(path()) {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            }
            fs::write(path().join("cgroup.procs"), "0").expect("joined");
        }
        *holders += 1;
        Self
    }

    /// Opens it, to attach to.
    #[expect(clippy::unused_self, reason = "it must exist to be opened")]
    pub(crate) fn open(&self) -> cgroup::Cgroup {
        cgroup::Cgroup::open(&path()).expect("a cgroup")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut holders = holders();
        *holders -= 1;
        if *holders == 0 {
            let _ = fs::write(path_of("/").join("cgroup.procs"), "0");
            let _ = fs::remove_dir(path());
        }
    }
}
