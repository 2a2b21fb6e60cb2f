//! A lab machine: which kernel, which NIC, how many CPUs; and QEMU's command line for it.
//!
//! The machine has two NICs on one wire. The NIC under test becomes `eth0`; its peer is moved to
//! a network namespace of the guest. The guest tells them apart by their addresses.

use std::{fmt, path::Path, process::Command};

use clap::ValueEnum;

use crate::{initramfs, kernel::Kernel};

const MAC_UNDER_TEST: &str = "52:54:00:00:00:01";
const MAC_OF_PEER: &str = "52:54:00:00:00:02";

/// The NICs that QEMU emulates and that Linux asks about their queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Nic {
    /// Intel igb: as many queues as CPUs up to 8, a table of 128 that it honours.
    Igb,
    /// virtio-net with RSS: 4 queues, a table of 128 that it honours, no hash reported.
    Virtio,
    /// `VMware` vmxnet3: takes a table and delivers everything to queue 0.
    Vmxnet3,
    /// Intel e1000e: a single queue.
    E1000e,
}

impl Nic {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Igb => "igb",
            Self::Virtio => "virtio",
            Self::Vmxnet3 => "vmxnet3",
            Self::E1000e => "e1000e",
        }
    }
}

/// CPUs as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) sockets: u32,
    pub(crate) cores: u32,
    pub(crate) threads: u32,
}

impl Topology {
    /// One socket of single-threaded cores.
    pub(crate) fn flat(cpus: u32) -> Self {
        Self { sockets: 1, cores: cpus, threads: 1 }
    }

    fn cpus(self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

/// What to boot.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The kernel's series, say `6.12`.
    pub(crate) kernel: String,
    pub(crate) nic: Nic,
    pub(crate) topology: Topology,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = self.topology.cpus();
        write!(f, "{}, kernel {}, {cpus} CPUs", self.nic.name(), self.kernel)
    }
}

/// Queues of the multi-queue tap behind virtio-net; with fewer CPUs Linux uses that many.
const TAP_QUEUES: u32 = 4;

/// A network namespace for the taps, which QEMU takes with it when it ends. The host's firewall
/// rules are not in there, and no name can clash.
const TAPS: &str = "\
ip link add wire type bridge
ip tuntap add dev under-test mode tap multi_queue
ip tuntap add dev peer mode tap
for tap in under-test peer; do
    ip link set dev $tap master wire
    echo 1 > /proc/sys/net/ipv6/conf/$tap/disable_ipv6
    ip link set dev $tap up
done
echo 1 > /proc/sys/net/ipv6/conf/wire/disable_ipv6
ip link set dev wire up
exec \"$@\"
";

impl Machine {
    /// The machine's QEMU. It writes what the guest program says to stdout, keeps the kernel's
    /// console in a file, and dies with its parent.
    pub(crate) fn qemu(&self, kernel: &Kernel, initramfs: &Path, console: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if self.nic == Nic::Virtio {
            command.args(["unshare", "--net", "--", "sh", "-euc", TAPS, "taps"]);
        }
        command.arg("qemu-system-x86_64");
        self.add_base(&mut command);
        command.arg("-kernel").arg(kernel.image());
        command.arg("-initrd").arg(initramfs);
        // A guest that panics ends at once: `-no-reboot` turns its reboot into an exit.
        command.args(["-append", "console=ttyS0 quiet loglevel=4 panic=-1"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        self.add_nics(&mut command);
        command
    }

    fn add_base(&self, command: &mut Command) {
        let Topology { sockets, cores, threads } = self.topology;
        let cpus = self.topology.cpus();
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        // The hosts this is for are virtual machines themselves and have no KVM to offer.
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.args(["-m", "1536", "-smp"]);
        command.arg(format!("{cpus},sockets={sockets},cores={cores},threads={threads}"));
        command.arg("-virtfs").arg(format!(
            "local,path=/,mount_tag={},security_model=none,readonly=on,multidevs=remap",
            initramfs::HOST_ROOT
        ));
        // As a file and not as QEMU's own "stdio", which counts as closed when stdin is at its end
        // and then holds up the guest that writes.
        command.args(["-chardev", "file,id=steer,path=/dev/stdout"]);
        command.args(["-device", "virtio-serial-pci"]);
        command.args(["-device", "virtserialport,chardev=steer,name=steer"]);
    }

    fn add_nics(&self, command: &mut Command) {
        let wire = |command: &mut Command, id: &str, queues: u32| {
            let tap = |queues| {
                let queues = if queues > 1 { format!(",queues={queues}") } else { String::new() };
                format!("tap,id={id},ifname={id},script=no,downscript=no,vhost=off{queues}")
            };
            let hub = || format!("hubport,id={id},hubid=0");
            // The hub has no queues to offer, and the emulated virtio-net takes its own from it.
            let wire = if self.nic == Nic::Virtio { tap(queues) } else { hub() };
            command.args(["-netdev", &wire]);
        };
        wire(command, "under-test", TAP_QUEUES);
        wire(command, "peer", 1);
        // Two vectors for each queue pair, and two for configuration and control.
        let vectors = 2 * TAP_QUEUES + 4;
        let under_test = match self.nic {
            Nic::Igb => "igb".to_owned(),
            Nic::Virtio => {
                format!("virtio-net-pci,mq=on,rss=on,hash=off,vectors={vectors}")
            }
            Nic::Vmxnet3 => "vmxnet3".to_owned(),
            Nic::E1000e => "e1000e".to_owned(),
        };
        command.arg("-device");
        command.arg(format!("{under_test},netdev=under-test,mac={MAC_UNDER_TEST},romfile="));
        command.arg("-device");
        command.arg(format!("virtio-net-pci,netdev=peer,mac={MAC_OF_PEER},romfile="));
    }
}
