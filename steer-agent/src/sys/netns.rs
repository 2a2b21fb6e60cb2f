//! The network namespace that this process is in, as BPF programs know it.

use std::os::fd::AsFd as _;

use rustix::net::{AddressFamily, SocketType, socket};

use super::{SysError, raw};

/// Its cookie: a number that no other namespace has until the next boot (`SO_NETNS_COOKIE`, 5.14).
pub fn cookie() -> Result<u64, SysError> {
    let failed = |errno| SysError::new("SO_NETNS_COOKIE", "the network namespace", errno);
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(failed)?;
    raw::netns_cookie(socket.as_fd()).map_err(failed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_namespace_has_one_cookie() {
        let cookie = super::cookie().expect("told");
        assert_ne!(cookie, 0);
        assert_eq!(super::cookie(), Ok(cookie));
    }
}
