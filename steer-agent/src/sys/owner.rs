//! One owner a NIC: two steers on the same NIC would undo each other.
//!
//! The lock is a bound abstract Unix socket (unix(7)) named after the interface index. It lives in
//! the network namespace, as the NIC does, whatever directories the two processes use, and the
//! kernel frees it with the process, however that ends. Anybody could bind such a name, so the
//! holder counts only if it could write to a NIC: as root, as this very user, or by its capabilities.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use procfs::process::Process;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::SysError;

/// Ownership of a NIC; given up when dropped.
#[derive(Debug)]
pub struct Owner {
    _listener: Option<UnixListener>,
}

/// What came of asking for ownership.
#[derive(Debug)]
pub enum Claim {
    /// The NIC is ours.
    Ours(Owner),
    /// Another steer has it: its process id.
    Taken(i32),
}

/// Asks for the NIC with this index.
pub fn claim(ifindex: u32) -> Result<Claim, SysError> {
    let name = format!("steer/nic/{ifindex}");
    let fail = |error: &std::io::Error| SysError::from_io("bind lock", &name, error);
    let address = SocketAddr::from_abstract_name(&name).map_err(|error| fail(&error))?;
    let busy = match UnixListener::bind_addr(&address) {
        Ok(listener) => return Ok(Claim::Ours(Owner { _listener: Some(listener) })),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRINUSE) => error,
        Err(error) => return Err(fail(&error)),
    };
    let holder = UnixStream::connect_addr(&address).map_err(|_| fail(&busy))?;
    let credentials = rustix::net::sockopt::socket_peercred(&holder)
        .map_err(|errno| SysError::new("SO_PEERCRED", &name, errno))?;
    let known = credentials.uid.is_root() || credentials.uid == rustix::process::geteuid();
    // The lock ends with the process, so this number is still the holder's.
    if known || may_set_nics(credentials.pid.as_raw_nonzero().get()) {
        return Ok(Claim::Taken(credentials.pid.as_raw_nonzero().get()));
    }
    log::warn!(
        "process {} of user {} holds the lock {name} and cannot own a NIC; going on without it",
        credentials.pid.as_raw_nonzero(),
        credentials.uid.as_raw()
    );
    Ok(Claim::Ours(Owner { _listener: None }))
}

fn may_set_nics(pid: i32) -> bool {
    Process::new(pid).and_then(|process| process.status()).is_ok_and(|status| {
        CapabilitySet::from_bits_retain(status.capeff).contains(CapabilitySet::NET_ADMIN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_has_one_owner_until_it_lets_go() {
        // No interface has such an index, so that a steer that runs here is not in the way.
        let index = 4_000_000_000 + std::process::id() % 1000;
        let first = claim(index).expect("claimed");
        assert!(matches!(first, Claim::Ours(_)));
        match claim(index).expect("answered") {
            Claim::Taken(pid) => assert_eq!(pid.unsigned_abs(), std::process::id()),
            Claim::Ours(_) => panic!("two owners"),
        }
        drop(first);
        assert!(matches!(claim(index).expect("claimed"), Claim::Ours(_)));
    }
}
