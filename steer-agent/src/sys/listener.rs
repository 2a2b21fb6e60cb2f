//! Other processes' listening sockets: who holds them, and a duplicate of one for a moment.
//!
//! A duplicate keeps the socket alive: while one is held, a listener that its owner closes goes on to
//! take connections that nobody accepts. So none is handed out; what is to be done with it is given to
//! [`with_socket`], which closes it again.
//!
//! Duplicating takes `CAP_SYS_PTRACE`, or the same user (`PTRACE_MODE_ATTACH_REALCREDS`,
//! `pidfd_getfd(2)`); Yama's scope 3 forbids it to everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::programs::sk_reuseport::SkReuseportError;
use aya::programs::{ProgramError, SkReuseport};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::root::{self, Root};
use super::{SysError, diag};
use crate::model::CpuSet;
use crate::model::listener::{Holder, ListeningSocket};

/// Holders of one socket that are told: a master and its workers may all have it.
const MOST_HOLDERS: usize = 64;

/// Who holds sockets with these inodes. Processes in `first` are looked at before all others, and
/// nobody else once each socket has a holder: the others of a machine may be thousands.
#[must_use]
pub fn holders(
    proc: &Root,
    inodes: &BTreeSet<u64>,
    first: &BTreeSet<u32>,
) -> BTreeMap<u64, Vec<Holder>> {
    let mut found = BTreeMap::new();
    for pid in first {
        look_into(proc, *pid, inodes, &mut found);
    }
    if inodes.iter().all(|inode| found.contains_key(inode)) {
        return found;
    }
    for name in root::list(&proc.proc("")).unwrap_or_default() {
        let Ok(pid) = name.parse::<u32>() else { continue };
        if !first.contains(&pid) {
            look_into(proc, pid, inodes, &mut found);
        }
    }
    found
}

fn look_into(
    proc: &Root,
    pid: u32,
    inodes: &BTreeSet<u64>,
    found: &mut BTreeMap<u64, Vec<Holder>>,
) {
    let directory = proc.proc(pid.to_string());
    // A process that ends meanwhile, or that may not be looked at, holds nothing that is known.
    let Ok(entries) = fs::read_dir(directory.join("fd")) else { return };
    let mut comm = None;
    for entry in entries.flatten() {
        let Some(inode) = socket_inode(&entry.path()) else { continue };
        let fd = entry.file_name().to_str().and_then(|fd| fd.parse().ok());
        let (true, Some(fd)) = (inodes.contains(&inode), fd) else { continue };
        let comm = comm.get_or_insert_with(|| {
            root::read(&directory.join("comm")).unwrap_or_else(|_| "?".to_owned())
        });
        let holders: &mut Vec<Holder> = found.entry(inode).or_default();
        if holders.len() < MOST_HOLDERS {
            holders.push(Holder { pid, fd, comm: comm.clone() });
        }
    }
}

/// The inode in a link such as `socket:[12345]`.
fn socket_inode(link: &Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Does something with a duplicate of the socket that `holder` has, if it is still the one with this
/// cookie: a number may have been given to another file since it was seen.
pub fn with_socket<T>(
    holder: &Holder,
    cookie: u64,
    act: impl FnOnce(&OwnedFd) -> T,
) -> Result<T, SysError> {
    let object = || format!("descriptor {} of process {} ({})", holder.fd, holder.pid, holder.comm);
    let failed = |call: &'static str, errno: Errno| SysError::new(call, object(), errno);
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed("pidfd_open", Errno::SRCH))?;
    let fd = i32::try_from(holder.fd).map_err(|_| failed("pidfd_getfd", Errno::BADF))?;
    let process =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed("pidfd_open", errno))?;
    let socket = pidfd_getfd(process, fd, PidfdGetfdFlags::empty())
        .map_err(|errno| failed("pidfd_getfd", errno))?;
    match sockopt::socket_cookie(&socket) {
        Ok(found) if found == cookie => Ok(act(&socket)),
        Ok(_) => Err(failed("SO_COOKIE", Errno::BADF)),
        Err(errno) => Err(failed("SO_COOKIE", errno)),
    }
}

/// Whether the socket may be one of several (`SO_REUSEPORT`).
pub fn is_reuseport(socket: &OwnedFd) -> Result<bool, SysError> {
    sockopt::socket_reuseport(socket)
        .map_err(|errno| SysError::new("SO_REUSEPORT", "a listening socket", errno))
}

/// `SO_INCOMING_CPU` of a listening socket; `None` where it is not set (-1).
pub fn incoming_cpu(socket: &OwnedFd) -> Result<Option<u32>, SysError> {
    let cpu = sockopt::socket_incoming_cpu(socket)
        .map_err(|errno| SysError::new("SO_INCOMING_CPU", "a listening socket", errno))?;
    Ok((cpu != u32::MAX).then_some(cpu))
}

/// Sets it.
pub fn set_incoming_cpu(socket: &OwnedFd, cpu: Option<u32>) -> Result<(), SysError> {
    sockopt::set_socket_incoming_cpu(socket, cpu.unwrap_or(u32::MAX)).map_err(|errno| {
        SysError::new("SO_INCOMING_CPU", "a listening socket", errno)
            .with_value(cpu.map_or_else(|| "-1".to_owned(), |cpu| cpu.to_string()))
    })
}

/// Takes the program out of the socket's reuseport group, whosever it is.
pub fn detach_program(socket: &OwnedFd) -> Result<(), SysError> {
    SkReuseport::detach(socket).map_err(|error| {
        let error = match error {
            ProgramError::SkReuseportError(SkReuseportError::SetsockoptError {
                io_error, ..
            }) => io_error,
            error => std::io::Error::other(error),
        };
        SysError::from_io("SO_DETACH_REUSEPORT_BPF", "a listening socket", &error)
    })
}

/// What is asked of listening sockets, for whoever writes to them.
pub trait Sockets {
    /// The network namespace that the sockets are in, by its inode number; 0 where unknown.
    fn netns(&self) -> u64;
    /// Those that listen there.
    fn listening(&self) -> Result<Vec<ListeningSocket>, SysError>;
    /// Who has the socket open.
    fn holders(&self, socket: &ListeningSocket) -> Vec<Holder>;
    /// Its `SO_INCOMING_CPU`; `None` where it is not set.
    fn incoming_cpu(&self, holder: &Holder, cookie: u64) -> Result<Option<u32>, SysError>;
    /// Sets it.
    fn set_incoming_cpu(
        &self,
        holder: &Holder,
        cookie: u64,
        cpu: Option<u32>,
    ) -> Result<(), SysError>;
    /// Takes the program out of its reuseport group.
    fn detach_program(&self, holder: &Holder, cookie: u64) -> Result<(), SysError>;
}

/// The sockets of the present network namespace.
#[derive(Clone, Debug)]
pub struct LiveSockets {
    root: Root,
}

impl LiveSockets {
    /// With /proc at this root.
    #[must_use]
    pub fn new(root: Root) -> Self {
        Self { root }
    }
}

impl Sockets for LiveSockets {
    fn netns(&self) -> u64 {
        fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino())
    }

    fn listening(&self) -> Result<Vec<ListeningSocket>, SysError> {
        diag::listeners()
    }

    fn holders(&self, socket: &ListeningSocket) -> Vec<Holder> {
        let inodes = BTreeSet::from([socket.inode]);
        holders(&self.root, &inodes, &BTreeSet::new()).remove(&socket.inode).unwrap_or_default()
    }

    fn incoming_cpu(&self, holder: &Holder, cookie: u64) -> Result<Option<u32>, SysError> {
        with_socket(holder, cookie, incoming_cpu)?
    }

    fn set_incoming_cpu(
        &self,
        holder: &Holder,
        cookie: u64,
        cpu: Option<u32>,
    ) -> Result<(), SysError> {
        with_socket(holder, cookie, |socket| set_incoming_cpu(socket, cpu))?
    }

    fn detach_program(&self, holder: &Holder, cookie: u64) -> Result<(), SysError> {
        with_socket(holder, cookie, detach_program)?
    }
}

/// The CPUs that a thread may run on (`Cpus_allowed_list` of `proc_pid_status(5)`).
#[must_use]
pub fn thread_mask(proc: &Root, pid: u32, tid: u32) -> Option<CpuSet> {
    let path = proc.proc(format!("{pid}/task/{tid}/status"));
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::sys::diag;

    #[test]
    fn a_listener_of_this_process_is_found_duplicated_and_set() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let cookie = sockopt::socket_cookie(&listener).expect("told");
        let sockets = diag::listeners().expect("answered");
        let socket = sockets.iter().find(|socket| socket.cookie == cookie).expect("found");
        let inodes = BTreeSet::from([socket.inode]);
        let own = BTreeSet::from([std::process::id()]);
        let holders = holders(&Root::default(), &inodes, &own);
        let holder = &holders[&socket.inode][0];
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(i32::try_from(holder.fd).expect("small"), listener.as_raw_fd());
        let outcome = with_socket(holder, cookie, |socket| {
            assert_eq!(is_reuseport(socket), Ok(false));
            assert_eq!(incoming_cpu(socket), Ok(None), "not set");
            set_incoming_cpu(socket, Some(3))?;
            assert_eq!(incoming_cpu(socket), Ok(Some(3)));
            set_incoming_cpu(socket, None)?;
            incoming_cpu(socket)
        });
        assert_eq!(outcome, Ok(Ok(None)), "and as it was again");
        assert!(thread_mask(&Root::default(), std::process::id(), std::process::id()).is_some());
    }

    #[test]
    fn what_is_not_the_socket_meant_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let cookie = sockopt::socket_cookie(&listener).expect("told");
        let fd = u32::try_from(listener.as_raw_fd()).expect("small");
        let holder = |pid, fd| Holder { pid, fd, comm: "test".to_owned() };
        let touch = |holder: &Holder, cookie| with_socket(holder, cookie, |_| ());
        let own = std::process::id();
        let error = touch(&holder(own, fd), cookie + 1).expect_err("another socket");
        assert!(error.to_string().contains("SO_COOKIE"), "{error}");
        let error = touch(&holder(own, 1_000_000), cookie).expect_err("no such descriptor");
        assert_eq!(error.errno(), Some(Errno::BADF));
        let error = touch(&holder(u32::MAX, fd), cookie).expect_err("no such process");
        assert_eq!(error.errno(), Some(Errno::SRCH));
    }
}
