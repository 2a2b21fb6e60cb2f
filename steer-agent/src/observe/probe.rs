//! What this host can do, found by asking it once at the start.
//!
//! Every answer is yes, no with the way out, or unknown with the reason. Guaranteed: nothing is
//! tried out by writing, and no kernel version is compared. What a *NIC* can do is not asked here.

use std::path::Path;

use procfs::process::Process;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::neighbours;
use crate::model::{Fact, Facts};
use crate::sys::root::{self, Root};
use crate::sys::{Ethnl, Machine, SysError};

/// Capability numbers, include/uapi/linux/capability.h.
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Asks everything.
#[must_use]
pub fn facts(machine: &Machine) -> Facts {
    let root = machine.root();
    let rights = Rights::of_this_process();
    Facts {
        kernel_release: root::read(&root.proc("sys/kernel/osrelease")).unwrap_or_default(),
        btf: btf(root),
        may_trace: may_trace(&rights),
        may_set_nic: may_set_nic(&rights, read_only(&root.sys("class/net"))),
        may_set_irq: may_set_irq(&rights, read_only(&root.proc("irq"))),
        netlink_rss_get: offered(machine, Ethnl::offers_rss_get, "reads RSS tables"),
        netlink_rss_set: offered(machine, Ethnl::offers_rss_set, "writes RSS tables"),
        netlink_queues: offered(machine, Ethnl::offers_queues, "links queues to interrupts"),
        neighbours: neighbours::find(root, Path::new("/")),
        rps_sock_flow_entries: root::value(&root.proc("sys/net/core/rps_sock_flow_entries")),
    }
}

/// What this process may do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rights {
    /// Effective capabilities, and whether it runs as root.
    Known { effective: u64, root: bool },
    /// It could not be told, and why.
    Unknown(String),
}

impl Rights {
    /// From `/proc/self/status` (`proc_pid_status(5)`). Always the own /proc: the one that a
    /// container is given of its host knows this process by another number.
    fn of_this_process() -> Self {
        match Process::myself().and_then(|process| process.status()) {
            Ok(status) => Self::Known { effective: status.capeff, root: status.euid == 0 },
            Err(error) => Self::Unknown(format!("/proc/self/status could not be read: {error}")),
        }
    }

    /// Yes if one of the sets is complete, else no with `way_out`.
    fn need(&self, any_of: &[&[u32]], way_out: &str) -> Fact {
        match self {
            Self::Unknown(why) => Fact::Unknown(why.clone()),
            Self::Known { effective, .. } => {
                let has = |capability: &u32| effective >> capability & 1 == 1;
                if any_of.iter().any(|set| set.iter().all(has)) {
                    Fact::Yes
                } else {
                    Fact::No(way_out.to_owned())
                }
            }
        }
    }
}

fn may_trace(rights: &Rights) -> Fact {
    rights.need(
        &[&[CAP_BPF, CAP_PERFMON], &[CAP_SYS_ADMIN]],
        "loading the observers needs CAP_BPF and CAP_PERFMON: run as root",
    )
}

fn may_set_nic(rights: &Rights, read_only: bool) -> Fact {
    let fact = rights.need(
        &[&[CAP_NET_ADMIN]],
        "changing the RSS table or XPS needs CAP_NET_ADMIN: run as root",
    );
    if fact.yes() && read_only {
        let why = "/sys is mounted read-only, so XPS cannot follow: mount it writable";
        return Fact::No(why.to_owned());
    }
    fact
}

/// `/proc/irq` asks for no capability, only for the owner of the file (kernel/irq/proc.c).
fn may_set_irq(rights: &Rights, read_only: bool) -> Fact {
    let why = "changing the affinity of interrupts needs root: run as root";
    let fact = match rights {
        Rights::Known { root: true, .. } => Fact::Yes,
        _ => rights.need(&[&[CAP_DAC_OVERRIDE]], why),
    };
    if fact.yes() && read_only {
        let why = "/proc/irq is mounted read-only: mount it writable \
                   (systemd: no ProtectKernelTunables=yes)";
        return Fact::No(why.to_owned());
    }
    fact
}

fn btf(root: &Root) -> Fact {
    let path = root.sys("kernel/btf/vmlinux");
    match std::fs::metadata(&path) {
        Ok(_) => Fact::Yes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fact::No(
            "the kernel has no type information (/sys/kernel/btf/vmlinux), so nothing can be \
             observed: use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
                .to_owned(),
        ),
        Err(error) => {
            Fact::Unknown(SysError::from_io("stat", path.display().to_string(), &error).to_string())
        }
    }
}

/// Whether netlink has an operation that `does` something. A no costs nothing: there is another way.
fn offered(
    machine: &Machine,
    ask: impl FnOnce(&Ethnl) -> Result<bool, SysError>,
    does: &str,
) -> Fact {
    match machine.ethnl().map(ask) {
        Some(Ok(true)) => Fact::Yes,
        Some(Ok(false)) => {
            Fact::No(format!("no netlink operation of this kernel {does}: the older way is taken"))
        }
        Some(Err(error)) => Fact::Unknown(error.to_string()),
        None => Fact::Unknown("these are captured files: there is no kernel to ask".to_owned()),
    }
}

fn read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Rights = Rights::Known { effective: 0, root: false };

    fn holding(capabilities: &[u32]) -> Rights {
        let effective = capabilities.iter().fold(0, |set, capability| set | 1 << capability);
        Rights::Known { effective, root: false }
    }

    #[test]
    fn tracing_takes_two_capabilities_or_the_old_one() {
        assert_eq!(may_trace(&holding(&[CAP_BPF, CAP_PERFMON])), Fact::Yes);
        assert_eq!(may_trace(&holding(&[CAP_SYS_ADMIN])), Fact::Yes);
        let no = may_trace(&holding(&[CAP_BPF, CAP_NET_ADMIN]));
        assert!(no.why().is_some_and(|why| why.contains("CAP_PERFMON: run as root")), "{no:?}");
    }

    #[test]
    fn a_no_says_what_to_do() {
        for (fact, words) in [
            (may_set_nic(&NOBODY, false), "CAP_NET_ADMIN: run as root"),
            (may_set_nic(&holding(&[CAP_NET_ADMIN]), true), "/sys is mounted read-only"),
            (may_set_irq(&NOBODY, false), "needs root"),
            (may_set_irq(&holding(&[CAP_DAC_OVERRIDE]), true), "ProtectKernelTunables"),
        ] {
            assert!(matches!(&fact, Fact::No(why) if why.contains(words)), "{fact:?}");
        }
        let root = Rights::Known { effective: 0, root: true };
        assert_eq!(may_set_irq(&root, false), Fact::Yes, "the owner of the files");
        let unknown = may_set_irq(&Rights::Unknown("no /proc".to_owned()), false);
        assert_eq!(unknown, Fact::Unknown("no /proc".to_owned()));
    }

    #[test]
    fn captured_files_leave_the_kernel_unknown() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path().join("proc"), dir.path().join("sys"));
        let kernel = root.proc("sys/kernel");
        std::fs::create_dir_all(&kernel).expect("made");
        std::fs::write(kernel.join("osrelease"), "6.1.0-lab\n").expect("written");
        let facts = facts(&Machine::captured(root));
        assert_eq!(facts.kernel_release, "6.1.0-lab");
        assert!(matches!(facts.btf, Fact::No(_)));
        assert!(matches!(facts.netlink_rss_set, Fact::Unknown(_)));
        assert_eq!((facts.neighbours.irqbalance, facts.rps_sock_flow_entries), (None, None));
    }

    #[test]
    fn this_kernel_answers_every_question() {
        let facts = facts(&Machine::open().expect("sockets"));
        assert!(!facts.kernel_release.is_empty());
        for fact in [&facts.netlink_rss_get, &facts.netlink_rss_set, &facts.netlink_queues] {
            assert!(!matches!(fact, Fact::Unknown(_)), "{fact:?}");
        }
        assert!(facts.rps_sock_flow_entries.is_some());
    }
}
