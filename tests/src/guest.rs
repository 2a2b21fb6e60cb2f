//! The machine a scenario runs in, and how a scenario does things there.

use std::{
    fmt, fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::nic;

/// The NIC under test.
pub const NIC: &str = "eth0";
/// The network namespace with the other end of the wire.
pub const PEER: &str = "peer";
/// The NIC at the other end of the wire.
pub const PEER_NIC: &str = "peer0";

/// For what is waited for and whose time is no claim: longer than it takes on a host that is as busy as
/// may be.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The machine's disk.
const DISK: &str = "/dev/vda";

/// The machine under test.
#[derive(Debug)]
pub struct Guest {
    /// The emulated NIC, by the lab's name for it.
    pub nic: String,
    /// How many of them there are: `eth0`, `eth1`, ...
    pub nics: usize,
    /// Number of CPUs.
    pub cpus: usize,
    /// This program.
    pub program: PathBuf,
    /// The `steer` program, which is built beside it.
    pub steer: PathBuf,
}

impl Guest {
    /// Says what happens, with the guest's time since boot.
    pub fn say(&self, what: impl fmt::Display) {
        for line in what.to_string().lines() {
            println!("[{:6.2}] {line}", uptime().as_secs_f64());
        }
    }

    /// Whether the NIC spreads packets by its table, as those worth steering do.
    #[must_use]
    pub fn honours_table(&self) -> bool {
        matches!(self.nic.as_str(), "igb" | "virtio")
    }

    /// Spreads the NIC's table evenly over all queues. The emulated igb starts with a table of
    /// zeros; a real driver does this itself.
    pub fn spread(&self) -> Result<()> {
        if self.nic == "e1000e" { Ok(()) } else { spread(NIC) }
    }

    /// Mounts the machine's disk, which outlives its power being cut, and returns how often that has
    /// happened in this scenario.
    pub fn disk(&self, place: &str) -> Result<u32> {
        run("modprobe", &["-a", "virtio_blk", "ext4"])?;
        fs::create_dir_all(place)?;
        let mounted = || run("mount", &["-t", "ext4", DISK, place]);
        if mounted().is_ok() {
            let lives = format!("{place}/lives");
            let cuts = read(&lives)?.parse::<u32>()? + 1;
            write(&lives, &cuts.to_string())?;
            run("sync", &[])?;
            return Ok(cuts);
        }
        run("mkfs.ext4", &["-q", DISK])?;
        mounted()?;
        write(&format!("{place}/lives"), "0")?;
        run("sync", &[])?;
        Ok(0)
    }

    /// Has the power cut. The scenario begins again from its first line when it is back; what
    /// was not synced to the disk is lost.
    pub fn cut_power(&self) -> ! {
        println!("power: cut");
        loop {
            thread::park();
        }
    }

    /// Puts VLAN 7 on both ends of the wire, with 10.9.7.1 and 10.9.7.2.
    pub fn add_vlan(&self) -> Result<()> {
        run("modprobe", &["8021q"])?;
        let link = |parent: &str| format!("link add link {parent} name {parent}.7 type vlan id 7");
        ip(&link(NIC))?;
        ip(&format!("address add 10.9.7.1/24 dev {NIC}.7"))?;
        ip(&format!("link set {NIC}.7 up"))?;
        let peer = |command: &str| ip(&format!("-n {PEER} {command}"));
        peer(&link(PEER_NIC))?;
        peer(&format!("address add 10.9.7.2/24 dev {PEER_NIC}.7"))?;
        peer(&format!("link set {PEER_NIC}.7 up"))
    }
}

/// The NIC under test while no driver has it.
#[derive(Debug)]
pub struct Unbound {
    device: PathBuf,
    driver: PathBuf,
    /// Its address on its bus.
    bus: String,
}

impl Guest {
    /// Takes the NIC from its driver.
    pub fn unbind(&self) -> Result<Unbound> {
        let device = fs::canonicalize(format!("/sys/class/net/{NIC}/device"))?;
        let driver = fs::canonicalize(device.join("driver"))?;
        let bus = device.file_name().context("a bus address")?.to_string_lossy().into_owned();
        fs::write(driver.join("unbind"), &bus)?;
        Ok(Unbound { device, driver, bus })
    }

    /// Takes the NIC from its driver and gives it back, which sets everything on it anew.
    pub fn load_driver_anew(&self) -> Result<()> {
        self.unbind()?.bind()
    }
}

impl Unbound {
    /// Gives the NIC back to its driver, with name and address as before.
    pub fn bind(self) -> Result<()> {
        fs::write(self.driver.join("bind"), &self.bus)?;
        // The kernel may have given it another name on the way.
        for entry in fs::read_dir(self.device.join("net"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != NIC {
                ip(&format!("link set {name} name {NIC}"))?;
            }
        }
        ip(&format!("address add 10.9.0.1/24 dev {NIC}"))?;
        ip(&format!("link set {NIC} up"))
    }
}

/// Spreads the table of this NIC evenly over all queues.
pub fn spread(nic: &str) -> Result<()> {
    let queues = nic::queues(nic)?.len();
    run("ethtool", &["-X", nic, "equal", &queues.to_string()]).map(drop)
}

/// The guest's time since boot.
#[must_use]
pub fn uptime() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

/// Runs a program to its end and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {} ({})", arguments.join(" "), stderr.trim(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `ip`, with its arguments as one would type them.
pub fn ip(arguments: &str) -> Result<()> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>()).map(drop)
}

/// Reads a small file of /proc or /sys, without the line's end.
pub fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a small file of /proc or /sys.
pub fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text} to {path}"))
}

/// Waits until something holds, looking every 20 ms.
pub fn wait_for(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < patience, "waited {} s in vain: {what}", patience.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}
