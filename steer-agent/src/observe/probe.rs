//! What this host can do, found by asking it once at the start.
//!
//! Every answer is yes, no with the way out, or unknown with the reason. Guaranteed: nothing is
//! tried out by writing, and no kernel version is compared; one eBPF program that does nothing is loaded,
//! attached to nothing. What a *NIC* can do is not asked here.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::programs::ProgramType;
use aya::sys::is_program_supported;
use procfs::process::Process;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::thread::CapabilitySet;

use super::{kernel, neighbours};
use crate::model::{Fact, Facts};
use crate::sys::root::{self, Root};
use crate::sys::{Ethnl, Machine, SysError, caps};

/// Asks everything.
#[must_use]
pub fn facts(machine: &Machine) -> Facts {
    let root = machine.root();
    let rights = Rights::of_this_process(root);
    Facts {
        kernel_release: root::read(&root.proc("sys/kernel/osrelease")).unwrap_or_default(),
        btf: btf(root),
        may_trace: loads_programs(may_trace(&rights), machine),
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
    Known {
        effective: CapabilitySet,
        /// It owns the files in /proc/irq.
        owns_irqs: bool,
        /// It is in the first user namespace. What is asked of the whole kernel, and not of a network
        /// namespace, counts only there (kernel/capability.c `capable`).
        initial: bool,
    },
    /// It could not be told, and why.
    Unknown(String),
}

impl Rights {
    /// From `/proc/self/status` (`proc_pid_status(5)`). Always the own /proc: the one that a
    /// container is given of its host knows this process by another number.
    fn of_this_process(root: &Root) -> Self {
        let status = match Process::myself().and_then(|process| process.status()) {
            Ok(status) => status,
            Err(error) => {
                return Self::Unknown(format!("/proc/self/status could not be read: {error}"));
            }
        };
        let owner = std::fs::metadata(root.proc("irq")).map(|files| files.uid());
        // The first user namespace maps every user to itself (`user_namespaces(7)`).
        let users = root::read(Path::new("/proc/self/uid_map")).unwrap_or_default();
        Self::Known {
            effective: CapabilitySet::from_bits_retain(status.capeff),
            owns_irqs: owner.is_ok_and(|owner| owner == status.euid),
            initial: users.is_empty() || users.split_whitespace().eq(["0", "0", "4294967295"]),
        }
    }

    /// Yes if all of `needed` is there, else a no that says for what `purpose` what is missing.
    fn need(&self, needed: CapabilitySet, purpose: &str) -> Fact {
        match self {
            Self::Unknown(why) => Fact::Unknown(why.clone()),
            Self::Known { effective, .. } if effective.contains(needed) => Fact::Yes,
            Self::Known { effective, .. } => {
                let missing = caps::names(needed - *effective);
                Fact::No(format!("{purpose} needs {missing}: run as root or grant it"))
            }
        }
    }
}

/// `CAP_SYS_ADMIN` contains the two (include/linux/capability.h `bpf_capable`, `perfmon_capable`)
/// and stands for them before 5.8.
fn may_trace(rights: &Rights) -> Fact {
    let purpose = "loading the eBPF programs that observe";
    match rights {
        Rights::Known { initial: false, .. } => Fact::No(format!(
            "{purpose} needs CAP_BPF and CAP_PERFMON in the first user namespace, and this process \
             is in another: run it outside of that container"
        )),
        Rights::Known { effective, .. } if effective.contains(CapabilitySet::SYS_ADMIN) => {
            Fact::Yes
        }
        _ => rights.need(CapabilitySet::BPF | CapabilitySet::PERFMON, purpose),
    }
}

/// Capabilities are not all that it takes: container runtimes filter bpf(2), and lockdown or a security
/// module may forbid it.
fn loads_programs(may: Fact, machine: &Machine) -> Fact {
    if !may.yes() || machine.ethnl().is_none() {
        return may;
    }
    kernel::lift_memlock();
    match is_program_supported(ProgramType::RawTracePoint) {
        Ok(true) => Fact::Yes,
        Ok(false) => Fact::No("this kernel has no eBPF programs at raw tracepoints".to_owned()),
        Err(error) => Fact::No(format!(
            "this process has the capabilities, and the kernel refuses an eBPF program all the same ({:#}): a \
             filter of system calls (seccomp, as containers have), lockdown or a security module must \
             permit bpf(2)",
            anyhow::Error::from(error)
        )),
    }
}

fn may_set_nic(rights: &Rights, read_only: bool) -> Fact {
    let fact = rights.need(CapabilitySet::NET_ADMIN, "writing the RSS table and XPS");
    if fact.yes() && read_only {
        let why = "/sys is mounted read-only, so XPS cannot follow: mount it writable";
        return Fact::No(why.to_owned());
    }
    fact
}

/// `/proc/irq` asks for no capability, only for the right to open the file, which is its owner's
/// (kernel/irq/proc.c).
fn may_set_irq(rights: &Rights, read_only: bool) -> Fact {
    let fact = match rights {
        Rights::Known { owns_irqs: true, .. } => Fact::Yes,
        _ => rights.need(
            CapabilitySet::DAC_OVERRIDE,
            "writing the affinity of interrupts (/proc/irq belongs to root)",
        ),
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

/// Whether the processes of other users can be seen: by looking at the first one.
#[must_use]
pub fn sees_processes(machine: &Machine) -> Fact {
    match std::fs::read(machine.root().proc("1/stat")) {
        Ok(_) => Fact::Yes,
        // fs/proc/base.c `has_pid_permissions`.
        Err(_) => Fact::No(
            "/proc hides the processes of others (hidepid), seeing them needs CAP_SYS_PTRACE: run \
             as root or grant it"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(effective: CapabilitySet) -> Rights {
        Rights::Known { effective, owns_irqs: false, initial: true }
    }

    fn no(fact: &Fact, words: &str) {
        assert!(matches!(fact, Fact::No(why) if why.contains(words)), "{words}: {fact:?}");
    }

    #[test]
    fn tracing_takes_two_capabilities_or_the_old_one() {
        let (bpf, perfmon) = (CapabilitySet::BPF, CapabilitySet::PERFMON);
        assert_eq!(may_trace(&holding(bpf | perfmon)), Fact::Yes);
        assert_eq!(may_trace(&holding(CapabilitySet::SYS_ADMIN)), Fact::Yes);
        no(&may_trace(&holding(bpf)), "observe needs CAP_PERFMON: run as root");
        no(&may_trace(&holding(perfmon)), "observe needs CAP_BPF: run as root");
        no(&may_trace(&holding(CapabilitySet::NET_ADMIN)), "needs CAP_PERFMON, CAP_BPF: run");
        let inside =
            Rights::Known { effective: CapabilitySet::all(), owns_irqs: false, initial: false };
        no(&may_trace(&inside), "in the first user namespace");
    }

    #[test]
    fn a_no_says_what_to_do() {
        let nobody = holding(CapabilitySet::empty());
        let nic = holding(CapabilitySet::NET_ADMIN);
        let files = holding(CapabilitySet::DAC_OVERRIDE);
        no(&may_set_nic(&nobody, false), "RSS table and XPS needs CAP_NET_ADMIN: run as root");
        no(&may_set_nic(&nic, true), "/sys is mounted read-only");
        no(&may_set_irq(&nobody, false), "belongs to root) needs CAP_DAC_OVERRIDE");
        no(&may_set_irq(&files, true), "ProtectKernelTunables");
        assert_eq!(may_set_nic(&nic, false), Fact::Yes);
        assert_eq!(may_set_irq(&files, false), Fact::Yes);
        let owner =
            Rights::Known { effective: CapabilitySet::empty(), owns_irqs: true, initial: true };
        assert_eq!(may_set_irq(&owner, false), Fact::Yes, "the owner of the files");
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
