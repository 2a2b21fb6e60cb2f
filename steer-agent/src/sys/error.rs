//! The error of everything that talks to the kernel.
//!
//! It says which call failed, on what, with which value where it was a write, the errno as the
//! kernel gave it, and what an operator can do about it. It deliberately does not retry, log or
//! decide: callers ask [`SysError::is_unsupported`], [`SysError::is_gone`] and
//! [`SysError::is_permission`].

use std::fmt;
use std::io;

use rustix::io::Errno;

/// A call to the kernel that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SysError {
    call: &'static str,
    object: String,
    value: Option<String>,
    cause: Cause,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// The kernel refused; errno(3), and netlink's extended acknowledgement where it sent one.
    Errno(Errno, Option<String>),
    /// The kernel answered with something that cannot be what was asked for.
    Unexpected(String),
}

impl SysError {
    /// `call` on `object` (a path or an interface) failed with `errno`.
    #[must_use]
    pub fn new(call: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self { call, object: object.into(), value: None, cause: Cause::Errno(errno, None) }
    }

    /// The same from the standard library's error. One without an errno (text that is not UTF-8,
    /// for instance) keeps its words.
    #[must_use]
    pub fn from_io(call: &'static str, object: impl Into<String>, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::new(call, object, errno),
            None => Self::unexpected(call, object, error.to_string()),
        }
    }

    /// `call` on `object` was answered with something that makes no sense; `what` says how.
    #[must_use]
    pub fn unexpected(
        call: &'static str,
        object: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self { call, object: object.into(), value: None, cause: Cause::Unexpected(what.into()) }
    }

    /// There is no interface called `nic` (any more).
    #[must_use]
    pub fn no_such_interface(nic: &str) -> Self {
        Self::new("find interface", nic, Errno::NODEV)
    }

    /// Adds the value that was being written.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds the kernel's own words (`NLMSGERR_ATTR_MSG`).
    #[must_use]
    pub fn with_kernel_message(mut self, message: Option<String>) -> Self {
        if let Cause::Errno(_, words) = &mut self.cause {
            *words = message;
        }
        self
    }

    /// The errno, unless the failure was an answer that makes no sense.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Errno(errno, _) => Some(errno),
            Cause::Unexpected(_) => None,
        }
    }

    /// The path or interface it was about.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The kernel or the driver lacks the operation: to be read as "absent", not as a failure.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.errno().is_some_and(means_unsupported)
    }

    /// The device is not there any more. `ENOENT` does not count: sysfs also answers it for an
    /// attribute that a device merely lacks.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::NODEV | Errno::NXIO))
    }

    /// The file or attribute does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    /// This process may not do it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::ROFS))
    }

    /// It is a write to an interrupt's affinity that the kernel reserves for itself:
    /// `irq_can_set_affinity_usr()` said no, which is `EPERM` since 6.12 and `EIO` before
    /// (kernel/irq/proc.c `write_irq_affinity`).
    #[must_use]
    pub fn is_managed_irq(&self) -> bool {
        self.on_irq() && matches!(self.errno(), Some(Errno::IO | Errno::PERM))
    }

    fn on_irq(&self) -> bool {
        self.object.contains("/irq/")
    }

    fn on_rule(&self) -> bool {
        matches!(self.call, "ETHTOOL_SRXCLSRLINS" | "ETHTOOL_SRXCLSRLDEL")
    }

    fn on_file(&self) -> bool {
        self.object.starts_with('/')
    }

    /// What the operator can do, where there is something to do.
    fn advice(&self) -> Option<&'static str> {
        let irq = self.on_irq();
        Some(match self.errno()? {
            Errno::PERM | Errno::IO if irq => {
                "the kernel manages this interrupt's affinity itself and takes no other"
            }
            Errno::ACCESS if irq => {
                "the file belongs to root, others need CAP_DAC_OVERRIDE: run as root or grant it"
            }
            Errno::ROFS => {
                "it is mounted read-only: give the container or service a writable one \
                 (systemd: no ProtectKernelTunables=yes)"
            }
            // By the file's mode (fs/namei.c `generic_permission`), before what is behind it is asked.
            Errno::ACCESS if self.on_file() => {
                "others than the file's owner need CAP_DAC_OVERRIDE: run as root or grant it"
            }
            // net/core/net-sysfs.c and net/ethtool/{ioctl,netlink}.c ask in the NIC's namespace.
            Errno::PERM | Errno::ACCESS => "this needs CAP_NET_ADMIN: run as root or grant it",
            Errno::NODEV | Errno::NXIO => {
                "there is no such interface (any more): `ip link` lists those that exist"
            }
            errno if means_unsupported(errno) => "the driver does not offer this",
            Errno::BUSY => {
                "it is held by a reset, by RDMA or by flow rules: try again, or release it first"
            }
            Errno::NOSPC | Errno::NOMEM if self.on_rule() => {
                "the rule table is full: fewer rules, or delete others (`ethtool -u` lists them)"
            }
            Errno::EXIST if self.on_rule() => "a rule for this flow exists already",
            Errno::INVAL if self.on_rule() => {
                "the driver takes no rule of this kind, or not beside those that exist"
            }
            Errno::NOSPC if irq => "that CPU is out of interrupt vectors: choose another CPU",
            Errno::INVAL if irq => "the set needs at least one CPU that is online",
            // Lists say the one (bitmap_parselist), masks the other (bitmap_parse).
            Errno::RANGE | Errno::OVERFLOW if self.on_file() => {
                "this machine cannot have a CPU with such a number"
            }
            Errno::INVAL => "the kernel or the driver refuses this value",
            _ => return None,
        })
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call, self.object)?;
        if let Some(value) = &self.value {
            write!(f, " = `{value}`")?;
        }
        match &self.cause {
            Cause::Errno(errno, words) => {
                write!(f, ": {errno}")?;
                if let Some(words) = words {
                    write!(f, ", the kernel says \"{words}\"")?;
                }
            }
            Cause::Unexpected(what) => write!(f, ": {what}")?,
        }
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// `ENOTSUPP` (include/linux/errno.h) is not meant for user space, and some drivers return it
/// nevertheless.
const ENOTSUPP: i32 = 524;

/// Whether an errno says that there is no such operation.
pub(super) fn means_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY)
        || errno.raw_os_error() == ENOTSUPP
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(call: &'static str, object: &str, errno: Errno) -> String {
        SysError::new(call, object, errno).to_string()
    }

    #[test]
    fn says_call_object_value_and_errno() {
        let error = SysError::new("write", "/proc/irq/29/smp_affinity_list", Errno::INVAL)
            .with_value("64-95");
        assert_eq!(
            error.to_string(),
            "write /proc/irq/29/smp_affinity_list = `64-95`: Invalid argument (os error 22); \
             the set needs at least one CPU that is online"
        );
    }

    #[test]
    fn says_what_to_do() {
        for (object, errno, words) in [
            ("eth0", Errno::PERM, "this needs CAP_NET_ADMIN: run as root"),
            ("/sys/class/net/eth0/queues/tx-0/xps_cpus", Errno::PERM, "CAP_NET_ADMIN"),
            ("/sys/class/net/eth0/queues/tx-0/xps_cpus", Errno::ACCESS, "CAP_DAC_OVERRIDE"),
            ("/proc/irq/29/smp_affinity_list", Errno::ACCESS, "CAP_DAC_OVERRIDE"),
            ("/proc/irq/29/smp_affinity_list", Errno::IO, "manages this interrupt's affinity"),
            ("/proc/irq/29/smp_affinity_list", Errno::NOSPC, "out of interrupt vectors"),
            ("/proc/irq/29/smp_affinity_list", Errno::ROFS, "ProtectKernelTunables"),
            ("/proc/irq/29/smp_affinity_list", Errno::RANGE, "cannot have a CPU"),
            ("/sys/class/net/eth0/queues/tx-0/xps_cpus", Errno::OVERFLOW, "cannot have a CPU"),
            ("eth0", Errno::NODEV, "no such interface"),
            ("eth0", Errno::OPNOTSUPP, "the driver does not offer this"),
            ("eth0", Errno::BUSY, "try again"),
        ] {
            let text = text("ETHTOOL_SRSSH", object, errno);
            assert!(text.contains(words), "{text}");
        }
        for (errno, words) in [
            (Errno::NOSPC, "the rule table is full"),
            (Errno::EXIST, "exists already"),
            (Errno::INVAL, "takes no rule of this kind"),
        ] {
            let text = text("ETHTOOL_SRXCLSRLINS", "eth0", errno);
            assert!(text.contains(words), "{text}");
        }
        assert!(!text("read", "/proc/stat", Errno::IO).contains(';'));
    }

    #[test]
    fn kinds_do_not_overlap_where_it_matters() {
        let absent = SysError::new("read", "/sys/class/net/eth0/x", Errno::NOENT);
        assert!(absent.is_absent() && !absent.is_gone() && !absent.is_unsupported());
        let odd = SysError::unexpected("ETHTOOL_GRSSH", "eth0", "reply too short");
        assert_eq!(odd.errno(), None);
        assert_eq!(odd.to_string(), "ETHTOOL_GRSSH eth0: reply too short");
        let managed = SysError::new("write", "/proc/irq/3/smp_affinity_list", Errno::IO);
        assert!(managed.is_managed_irq() && !managed.is_permission());
        assert!(!SysError::new("ETHTOOL_SRSSH", "eth0", Errno::PERM).is_managed_irq());
    }

    #[test]
    fn carries_the_kernels_words() {
        let error = SysError::new("rss-set", "eth0", Errno::INVAL)
            .with_kernel_message(Some("entry out of range".to_owned()));
        assert!(error.to_string().contains("the kernel says \"entry out of range\""), "{error}");
    }
}
