//! A lab machine: which kernel, which NIC, how many CPUs; and QEMU's command line for it.
//!
//! The machine has one or more wires with two NICs on each. The NIC under test becomes `eth0` (the
//! next `eth1`, ...); its peer is moved to a network namespace of the guest. The guest tells them
//! apart by their addresses.

use std::{fmt, path::Path, process::Command, str::FromStr};

use anyhow::{Context, Error, Result, ensure};
use clap::ValueEnum;

use crate::{initramfs, kernel::Kernel};

/// The NICs that QEMU emulates and that Linux asks about their queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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

/// CPUs as the guest sees them. With more than one socket each is a NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) sockets: u32,
    pub(crate) cores: u32,
    pub(crate) threads: u32,
}

impl Topology {
    /// One socket of single-threaded cores.
    pub(crate) const fn flat(cpus: u32) -> Self {
        Self { sockets: 1, cores: cpus, threads: 1 }
    }

    fn cpus(self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

/// `8`, or sockets, cores of each and threads of each core: `2x2x2`.
impl FromStr for Topology {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || format!("{text}: expected a number of CPUs, or SOCKETSxCORESxTHREADS");
        let numbers: Vec<u32> =
            text.split('x').map(str::parse).collect::<Result<_, _>>().with_context(expected)?;
        let topology = match numbers[..] {
            [cpus] => Self::flat(cpus),
            [sockets, cores, threads] => Self { sockets, cores, threads },
            _ => return Err(Error::msg(expected())),
        };
        ensure!((1..=32).contains(&topology.cpus()), "{text}: the lab has 1 to 32 CPUs");
        Ok(topology)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sockets, cores, threads } = self;
        if (*sockets, *threads) == (1, 1) {
            write!(f, "{cores}")
        } else {
            write!(f, "{sockets}x{cores}x{threads}")
        }
    }
}

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The kernel's series, say `6.12`.
    pub(crate) kernel: String,
    pub(crate) nic: Nic,
    /// Number of NICs under test, each with a wire and a peer of its own.
    pub(crate) nics: u32,
    pub(crate) topology: Topology,
}

impl Machine {
    /// CPUs of a machine, unless asked for otherwise.
    pub(crate) const CPUS: u32 = 4;

    /// One NIC and four CPUs.
    #[cfg(test)]
    fn new(nic: Nic, kernel: &str) -> Self {
        let topology = Topology::flat(Self::CPUS);
        Self { kernel: kernel.to_owned(), nic, nics: 1, topology }
    }
}

/// `NIC[*NUMBER]/KERNEL[/TOPOLOGY]`: the lab's short form, as `igb/6.12` or `igb*2/6.12/2x2x2`.
impl FromStr for Machine {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        let (nic, kernel) = (parts.next(), parts.next());
        let (nic, kernel) = nic.zip(kernel).with_context(|| format!("{text}: NIC/KERNEL"))?;
        let (nic, nics) = nic.split_once('*').unwrap_or((nic, "1"));
        let nic = Nic::from_str(nic, false).map_err(Error::msg)?;
        let topology = match parts.next() {
            Some(topology) => topology.parse()?,
            None => Topology::flat(Self::CPUS),
        };
        Ok(Self { kernel: kernel.to_owned(), nic, nics: nics.parse()?, topology })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, nic, nics, topology } = self;
        let times = if *nics > 1 { format!("{nics} x ") } else { String::new() };
        write!(f, "{times}{}, kernel {kernel}, {topology} CPUs", nic.name())
    }
}

/// Queues of the multi-queue tap behind virtio-net; with fewer CPUs Linux uses that many.
const TAP_QUEUES: u32 = 4;
/// Memory of the machine, in MiB.
const MEMORY_MIB: u32 = 1536;

/// A network namespace for the taps, which QEMU takes with it when it ends. The host's firewall
/// rules are not in there, and no name can clash.
const TAPS: &str = "\
ip link add wire type bridge
ip tuntap add dev under-test0 mode tap multi_queue
ip tuntap add dev peer0 mode tap
for tap in under-test0 peer0; do
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
    pub(crate) fn qemu(
        &self,
        kernel: &Kernel,
        initramfs: &Path,
        disk: &Path,
        console: &Path,
    ) -> Result<Command> {
        ensure!(
            self.nic != Nic::Virtio || self.nics == 1,
            "the lab has one multi-queue tap, so one virtio NIC; igb can be had several times"
        );
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
        // For what has to outlive a power cut; most scenarios do not look at it.
        command.arg("-drive");
        command.arg(format!("file={},format=raw,if=virtio", disk.display()));
        for wire in 0..self.nics {
            self.add_wire(&mut command, wire);
        }
        Ok(command)
    }

    fn add_base(&self, command: &mut Command) {
        let Topology { sockets, cores, threads } = self.topology;
        let cpus = self.topology.cpus();
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        // The hosts this is for are virtual machines themselves and have no KVM to offer.
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.arg("-m").arg(MEMORY_MIB.to_string()).arg("-smp");
        command.arg(format!("{cpus},sockets={sockets},cores={cores},threads={threads}"));
        if sockets > 1 {
            self.add_nodes(command);
        }
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

    /// A NUMA node for each socket.
    fn add_nodes(&self, command: &mut Command) {
        let Topology { sockets, cores, threads } = self.topology;
        for node in 0..sockets {
            let size = MEMORY_MIB / sockets;
            let (first, each) = (node * cores * threads, cores * threads);
            let last = first + each - 1;
            command.arg("-object").arg(format!("memory-backend-ram,id=ram{node},size={size}M"));
            let cpus = format!("nodeid={node},cpus={first}-{last},memdev=ram{node}");
            command.arg("-numa").arg(format!("node,{cpus}"));
        }
    }

    /// A wire with the NIC under test at one end and its peer at the other.
    fn add_wire(&self, command: &mut Command, wire: u32) {
        let netdev = |command: &mut Command, id: &str, queues: u32| {
            let id = format!("{id}{wire}");
            let tap = |queues| {
                let queues = if queues > 1 { format!(",queues={queues}") } else { String::new() };
                format!("tap,id={id},ifname={id},script=no,downscript=no,vhost=off{queues}")
            };
            let hub = || format!("hubport,id={id},hubid={wire}");
            // The hub has no queues to offer, and the emulated virtio-net takes its own from it.
            let netdev = if self.nic == Nic::Virtio { tap(queues) } else { hub() };
            command.args(["-netdev", &netdev]);
        };
        netdev(command, "under-test", TAP_QUEUES);
        netdev(command, "peer", 1);
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
        // The guest knows them by these addresses.
        let mac = |end: u32| format!("mac=52:54:00:00:{wire:02x}:{end:02x},romfile=");
        command.arg("-device").arg(format!("{under_test},netdev=under-test{wire},{}", mac(1)));
        command.arg("-device").arg(format!("virtio-net-pci,netdev=peer{wire},{}", mac(2)));
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, Nic, Topology};

    #[test]
    fn machines_are_named_in_short() {
        let parse = |text: &str| text.parse::<Machine>();
        assert_eq!(parse("igb/6.12").expect("short"), Machine::new(Nic::Igb, "6.12"));
        let machine = parse("igb*2/6.1/2x2x2").expect("long");
        assert_eq!((machine.nics, machine.topology.cpus()), (2, 8));
        assert_eq!(machine.to_string(), "2 x igb, kernel 6.1, 2x2x2 CPUs");
        assert_eq!(parse("virtio/7.3/8").expect("flat").topology, Topology::flat(8));
        for wrong in ["igb", "nobody/6.12", "igb*x/6.12", "igb/6.12/2x2", "igb/6.12/0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
