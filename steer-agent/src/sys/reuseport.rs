//! Whether `SO_INCOMING_CPU` chooses among the sockets of a reuseport group on this kernel.
//!
//! From 4.6 to 6.1 it did not, and where it does again depends on what a distribution took over, so
//! that no version tells. It is tried: two sockets share a port of the loopback interface, one is set to
//! a CPU, and connections are made from a thread on that CPU, where the loopback interface delivers
//! them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use super::SysError;
use crate::model::Fact;

/// Connections of each half of the trial: by chance all go to the socket that is meant once in 2^24.
const CONNECTIONS: usize = 12;
/// Longest that a connection over loopback may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tries it, in a thread of its own.
#[must_use]
pub fn incoming_cpu_chooses() -> Fact {
    let tried = std::thread::spawn(try_it).join();
    match tried {
        Ok(Ok(true)) => Fact::Yes,
        Ok(Ok(false)) => Fact::No(
            "this kernel does not look at SO_INCOMING_CPU in reuseport groups (tried over loopback)"
                .to_owned(),
        ),
        Ok(Err(error)) => Fact::Unknown(format!("it could not be tried over loopback: {error}")),
        Err(_) => Fact::Unknown("the trial broke off".to_owned()),
    }
}

fn try_it() -> Result<bool, SysError> {
    let failed = |call: &'static str| move |errno: Errno| SysError::new(call, "127.0.0.1", errno);
    let cpu = sched_getcpu();
    let mut here = CpuSet::new();
    here.set(cpu);
    sched_setaffinity(None, &here).map_err(failed("sched_setaffinity"))?;
    let cpu = u32::try_from(cpu).unwrap_or(0);
    let first = shared(0)?;
    let address = first.local_addr().map_err(|error| io("getsockname", &error))?;
    let second = shared(address.port())?;
    for (meant, other) in [(&first, &second), (&second, &first)] {
        let set = |socket: &TcpListener, cpu: u32| {
            sockopt::set_socket_incoming_cpu(socket, cpu).map_err(failed("SO_INCOMING_CPU"))
        };
        set(meant, cpu)?;
        set(other, cpu + 1)?;
        for _ in 0..CONNECTIONS {
            let client = TcpStream::connect_timeout(&address, PATIENCE);
            let _client = client.map_err(|error| io("connect", &error))?;
            if accepts(other)? {
                return Ok(false);
            }
            if !accepts(meant)? {
                return Err(SysError::unexpected("accept", "127.0.0.1", "neither socket had it"));
            }
        }
    }
    Ok(true)
}

/// A listening socket that shares its port and does not wait.
fn shared(port: u16) -> Result<TcpListener, SysError> {
    let make = || -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        listen(&socket, 64)?;
        Ok(socket)
    };
    make().map(TcpListener::from).map_err(|errno| SysError::new("listen", "127.0.0.1", errno))
}

/// Whether a connection was waiting; over loopback it is there before connect(2) returns.
fn accepts(socket: &TcpListener) -> Result<bool, SysError> {
    match socket.accept() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(io("accept", &error)),
    }
}

fn io(call: &'static str, error: &std::io::Error) -> SysError {
    SysError::from_io(call, "127.0.0.1", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_ends_with_an_answer() {
        // What it is depends on the kernel; that the process goes on as before does not.
        let before = rustix::thread::sched_getaffinity(None).expect("told");
        let answer = incoming_cpu_chooses();
        assert!(!matches!(answer, Fact::Unknown(_)), "{answer:?}");
        assert_eq!(rustix::thread::sched_getaffinity(None).expect("told"), before);
    }
}
