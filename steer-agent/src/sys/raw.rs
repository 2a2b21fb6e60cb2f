//! The system calls that no safe crate offers, and all of steer's `unsafe`.
//!
//! The functions are sound for every argument: before the kernel is let loose on a buffer, the
//! most that it may read and write there is worked out from the request itself, and a buffer that
//! is too small never reaches it. What the bytes mean is the business of [`ethtool`](super::ethtool).

#![allow(
    unsafe_code,
    reason = "ioctl(SIOCETHTOOL), NETLINK_EXT_ACK, SO_PEERGROUPS, SO_NETNS_COOKIE take pointers"
)]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

/// Commands of the ethtool ioctl, as in include/uapi/linux/ethtool.h.
pub(super) mod command {
    /// Read interrupt moderation (`struct ethtool_coalesce`).
    pub(in crate::sys) const GCOALESCE: u32 = 0x0e;
    /// Read the sizes of rings (`struct ethtool_ringparam`).
    pub(in crate::sys) const GRINGPARAM: u32 = 0x10;
    /// Read the strings of a set (`struct ethtool_gstrings`).
    pub(in crate::sys) const GSTRINGS: u32 = 0x1b;
    /// Read which header fields are hashed (`struct ethtool_rxnfc`).
    pub(in crate::sys) const GRXFH: u32 = 0x29;
    /// Read the private flags of a driver (`struct ethtool_value`).
    pub(in crate::sys) const GPFLAGS: u32 = 0x27;
    /// Read the number of RX rings (`struct ethtool_rxnfc`).
    pub(in crate::sys) const GRXRINGS: u32 = 0x2d;
    /// Read how many exact-match rules there are (`struct ethtool_rxnfc`).
    pub(in crate::sys) const GRXCLSRLCNT: u32 = 0x2e;
    /// Read one exact-match rule (`struct ethtool_rxnfc`).
    pub(in crate::sys) const GRXCLSRULE: u32 = 0x2f;
    /// Read the numbers of all exact-match rules (`struct ethtool_rxnfc` and an array).
    pub(in crate::sys) const GRXCLSRLALL: u32 = 0x30;
    /// Delete an exact-match rule (`struct ethtool_rxnfc`).
    pub(in crate::sys) const SRXCLSRLDEL: u32 = 0x31;
    /// Add an exact-match rule (`struct ethtool_rxnfc`).
    pub(in crate::sys) const SRXCLSRLINS: u32 = 0x32;
    /// Read the indirection table alone (`struct ethtool_rxfh_indir`).
    pub(in crate::sys) const GRXFHINDIR: u32 = 0x38;
    /// Read the state of offloads (`struct ethtool_gfeatures`).
    pub(in crate::sys) const GFEATURES: u32 = 0x3a;
    /// Read channel counts (`struct ethtool_channels`).
    pub(in crate::sys) const GCHANNELS: u32 = 0x3c;
    /// Read indirection table, key and hash function (`struct ethtool_rxfh`).
    pub(in crate::sys) const GRSSH: u32 = 0x46;
    /// Write them, each if wanted (`struct ethtool_rxfh`).
    pub(in crate::sys) const SRSSH: u32 = 0x47;
    /// The string set of private flags (`ETH_SS_PRIV_FLAGS`).
    pub(in crate::sys) const SS_PRIV_FLAGS: u32 = 2;
    /// The string set of offloads (`ETH_SS_FEATURES`).
    pub(in crate::sys) const SS_FEATURES: u32 = 4;
    /// In a set request: leave the table alone (`ETH_RXFH_INDIR_NO_CHANGE`).
    pub(in crate::sys) const INDIR_NO_CHANGE: u32 = u32::MAX;
}

/// `SIOCETHTOOL`, include/uapi/linux/sockios.h.
const SIOCETHTOOL: u32 = 0x8946;

/// Size of `struct ethtool_rxnfc` on 64-bit machines, the largest it has.
const RXNFC_BYTES: usize = 192;

/// Names that a features buffer has room for: 64 times today's. A feature is a bit of a bitmap
/// that is fixed when the kernel is built, and the kernel writes as many names as it has bits.
pub(super) const MAX_FEATURES: usize = 4096;

/// Names that a flags buffer has room for: flags are bits of a word, so there are 32 at most, and
/// this is eight times that.
pub(super) const MAX_FLAGS: usize = 256;

/// `ETH_GSTRING_LEN`.
pub(super) const STRING_BYTES: usize = 32;

/// Asks the driver of `nic` with the ethtool request in `buffer`, which starts with its command;
/// the answer replaces it (netdevice(7), `SIOCETHTOOL`). `EINVAL` for a command that is not in
/// [`command`] or a buffer that is too small for it; `ENODEV` for a name that cannot exist.
pub(super) fn ethtool(socket: BorrowedFd<'_>, nic: &str, buffer: &mut [u8]) -> Result<(), Errno> {
    if extent(buffer).is_none_or(|bytes| bytes > buffer.len()) {
        return Err(Errno::INVAL);
    }
    let mut name = [0; libc::IFNAMSIZ];
    // One byte stays for the NUL. A longer name is an alternative one (ip-link(8) altname), which
    // this ioctl cannot carry.
    if nic.is_empty() || nic.len() >= name.len() || nic.contains('\0') {
        return Err(Errno::NODEV);
    }
    for (to, from) in name.iter_mut().zip(nic.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let data = buffer.as_mut_ptr().cast::<libc::c_char>();
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    // SAFETY: `request` is a whole `struct ifreq` with a NUL-terminated name, and it and `buffer`
    // outlive the call, which does not keep the pointers. The kernel reads and writes at
    // `ifr_data` no more than `extent` says for this command, and that was checked to be inside
    // `buffer`. Any bytes are valid in a `[u8]`.
    let result = unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::Ioctl::from(SIOCETHTOOL), &raw mut request)
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Makes the kernel add its own words to netlink errors (`NETLINK_EXT_ACK`, netlink(7); 4.12).
pub(super) fn enable_extended_ack(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let on: c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(|_| Errno::INVAL)?;
    let value = (&raw const on).cast::<c_void>();
    // SAFETY: `value` points to `length` readable bytes that live until the call returns.
    let result = unsafe {
        let fd = socket.as_raw_fd();
        libc::setsockopt(fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, value, length)
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The supplementary groups of the process at the other end of a Unix socket (`SO_PEERGROUPS`;
/// 4.13), as they were when the connection was made.
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length =
            libc::socklen_t::try_from(size_of_val(&groups[..])).map_err(|_| Errno::INVAL)?;
        let value = groups.as_mut_ptr().cast::<c_void>();
        // SAFETY: `value` points to `length` writable bytes that live until the call returns; the
        // kernel writes no more than that (net/core/sock.c), and any bytes are valid in a `[u32]`.
        let result = unsafe {
            let fd = socket.as_raw_fd();
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERGROUPS, value, &raw mut length)
        };
        let count = usize::try_from(length).map_err(|_| Errno::INVAL)? / size_of::<u32>();
        if result >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        match last_errno() {
            // It has said how many there are (at most `NGROUPS_MAX`, 65536).
            Errno::RANGE if count > groups.len() => groups.resize(count, 0),
            errno => return Err(errno),
        }
    }
}

/// The cookie of the network namespace that a socket is in (`SO_NETNS_COOKIE`; 5.14).
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    /// include/uapi/asm-generic/socket.h.
    const SO_NETNS_COOKIE: c_int = 71;
    let mut cookie: u64 = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).map_err(|_| Errno::INVAL)?;
    let value = (&raw mut cookie).cast::<c_void>();
    // SAFETY: `value` points to `length` writable bytes that live until the call returns; the kernel
    // writes no more than that, and any bytes are valid in a `u64`.
    let result = unsafe {
        let fd = socket.as_raw_fd();
        libc::getsockopt(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length)
    };
    if result < 0 { Err(last_errno()) } else { Ok(cookie) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The most bytes from the start of `request` that the kernel reads or writes for it
/// (net/ethtool/ioctl.c); `None` for commands that are not used here. Where the length depends on
/// the device, the kernel refuses a request whose own size fields do not match the device's.
fn extent(request: &[u8]) -> Option<usize> {
    let word = |index: usize| -> Option<u32> {
        let bytes = request.get(index * 4..index * 4 + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let size = |index: usize| usize::try_from(word(index)?).ok();
    match word(0)? {
        command::GCOALESCE => Some(23 * 4),
        command::GCHANNELS | command::GRINGPARAM => Some(9 * 4),
        command::GRXFH
        | command::GRXRINGS
        | command::GRXCLSRLCNT
        | command::GRXCLSRULE
        | command::SRXCLSRLDEL
        | command::SRXCLSRLINS => Some(RXNFC_BYTES),
        // The array starts before the structure's padding ends. The kernel allocates as many numbers
        // as the request says and copies as many as the driver then says, which must not be more
        // (`ethtool_get_rxnfc`; drivers answer -EMSGSIZE).
        command::GRXCLSRLALL => Some(size(46)?.checked_mul(4)?.checked_add(188)?.max(RXNFC_BYTES)),
        command::GPFLAGS => Some(2 * 4),
        // The count in the request is not looked at: the kernel writes all names of the set.
        command::GSTRINGS if word(1)? == command::SS_FEATURES => {
            Some(12 + MAX_FEATURES * STRING_BYTES)
        }
        command::GSTRINGS if word(1)? == command::SS_PRIV_FLAGS => {
            Some(12 + MAX_FLAGS * STRING_BYTES)
        }
        command::GFEATURES => size(1)?.checked_mul(16)?.checked_add(8),
        command::GRXFHINDIR => size(1)?.checked_mul(4)?.checked_add(8),
        command::SRSSH if word(2)? == command::INDIR_NO_CHANGE => size(3)?.checked_add(24),
        command::GRSSH | command::SRSSH => {
            size(2)?.checked_mul(4)?.checked_add(size(3)?)?.checked_add(24)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::{AsFd as _, OwnedFd};

    fn socket() -> OwnedFd {
        use rustix::net::{AddressFamily, SocketType, socket};
        socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket")
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_buffer_that_is_too_small_never_reaches_the_kernel() {
        for request in [
            words(&[command::GCHANNELS, 0]),
            words(&[command::GRSSH, 0, 128, 40, 0, 0]),
            words(&[command::GSTRINGS, command::SS_FEATURES, 0]),
            words(&[command::GSTRINGS, command::SS_PRIV_FLAGS, 0]),
            words(&[command::GPFLAGS]),
            words(&[command::GRXCLSRLCNT, 0]),
            words(&[command::GFEATURES, 2]),
            words(&[command::SRXCLSRLINS, 0, 0, 0]),
            words(&[&[command::GRXCLSRLALL][..], &[0; 45], &[2, 0]].concat()),
            words(&[0x22 /* ETHTOOL_SPAUSEPARAM's neighbourhood: not ours */, 0, 0, 0]),
            Vec::new(),
        ] {
            let mut buffer = request.clone();
            assert_eq!(ethtool(socket().as_fd(), "lo", &mut buffer), Err(Errno::INVAL));
            assert_eq!(buffer, request);
        }
    }

    #[test]
    fn the_errno_is_the_kernels() {
        let mut buffer = words(&[command::GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0]);
        for name in ["nosuchnic0", "", "a-name-that-is-too-long-for-an-ioctl", "l\0o"] {
            assert_eq!(ethtool(socket().as_fd(), name, &mut buffer), Err(Errno::NODEV), "{name}");
        }
        assert_eq!(ethtool(socket().as_fd(), "lo", &mut buffer), Err(Errno::OPNOTSUPP));
        assert_eq!(enable_extended_ack(socket().as_fd()), Err(Errno::NOPROTOOPT));
    }

    proptest! {
        #[test]
        fn any_request_has_an_extent_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = extent(&bytes);
        }

        #[test]
        fn sizes_never_overflow(cmd in 0u32..0x50, sizes in any::<[u32; 5]>()) {
            let request: Vec<u32> = std::iter::once(cmd).chain(sizes).collect();
            let _ = extent(&words(&request));
        }
    }
}
