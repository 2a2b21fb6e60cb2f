//! Who is at the other end of a Unix socket, as the kernel noted it when the connection was made
//! (unix(7) `SO_PEERCRED`; `SO_PEERGROUPS` since 4.13). Nothing that the peer says or does later
//! changes it, and no process id is looked up, which could be another process's by then.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use super::{SysError, raw, root};

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process, for people to read.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
}

const OBJECT: &str = "a client of the status socket";

/// Asks for the other end of `socket`.
pub fn of(socket: BorrowedFd<'_>) -> Result<Peer, SysError> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)
        .map_err(|errno| SysError::new("SO_PEERCRED", OBJECT, errno))?;
    Ok(Peer {
        pid: credentials.pid.as_raw_nonzero().get(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

/// Whether the other end of `socket` belongs to `group` by one of its further groups.
pub fn has_group(socket: BorrowedFd<'_>, group: u32) -> Result<bool, SysError> {
    match raw::peer_groups(socket) {
        Ok(groups) => Ok(groups.contains(&group)),
        // Before 4.13: the first group is all that is known.
        Err(Errno::NOPROTOOPT) => Ok(false),
        Err(errno) => Err(SysError::new("SO_PEERGROUPS", OBJECT, errno)),
    }
}

/// The number of the group called `name`, which may be a number itself. Looked up in `database`
/// (group(5)), not by the C library, whose name services a static program does not have: groups
/// that are kept elsewhere (LDAP) are named by number.
pub fn group_id(database: &Path, name: &str) -> Result<u32, SysError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = root::read(database)?;
    number_in(&text, name).ok_or_else(|| {
        let what = format!("there is no group `{name}`");
        SysError::unexpected("look up group in", database.display().to_string(), what)
    })
}

/// `name:password:number:members`, group(5).
pub(super) fn number_in(database: &str, name: &str) -> Option<u32> {
    database.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_other_end_is_this_process() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let peer = of(here.as_fd()).expect("told");
        assert_eq!(peer.pid.unsigned_abs(), std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        for group in rustix::process::getgroups().expect("told") {
            assert_eq!(has_group(here.as_fd(), group.as_raw()), Ok(true));
        }
        assert_eq!(has_group(here.as_fd(), 4_000_000_000), Ok(false));
    }

    #[test]
    fn groups_have_names_or_numbers() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = dir.path().join("group");
        std::fs::write(&database, "root:x:0:\nsteer:x:998:ann,bob\nbroken\nodd:x:y:\n")
            .expect("written");
        assert_eq!(group_id(&database, "steer"), Ok(998));
        assert_eq!(group_id(&database, "77"), Ok(77));
        for name in ["broken", "odd", "nobody", ""] {
            let error = group_id(&database, name).expect_err(name).to_string();
            assert!(error.contains(&format!("no group `{name}`")), "{error}");
        }
        assert!(group_id(&dir.path().join("none"), "steer").expect_err("no file").is_absent());
    }
}
