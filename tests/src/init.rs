//! The machine's first process: mounts, the two NICs, the scenario, the verdict, power off.

use std::{
    ffi::CStr,
    fs::{self, File},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    mount::{MountFlags, mount},
    stdio::{dup2_stderr, dup2_stdout},
    system::{RebootCommand, reboot},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{
    guest::{Guest, PATIENCE, PEER, ip, read, run, wait_for},
    scenario, systemd,
};

/// File systems beyond the root, with whether the machine cannot do without.
const MOUNTS: [(&str, &str, bool); 9] = [
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/run", true),
    ("tmpfs", "/tmp", true),
    ("tmpfs", "/var/lib", true),
    ("cgroup2", "/sys/fs/cgroup", true),
    ("bpf", "/sys/fs/bpf", true),
    ("tracefs", "/sys/kernel/tracing", false),
];

/// A sleep of 5 ms that takes longer has no end.
const TIMERS: Duration = Duration::from_secs(3);

/// Runs a scenario and powers off; returns only if the machine will not go.
pub fn init(nic: &str, nics: usize, scenario: &str) -> Result<()> {
    let under_systemd = scenario::is_under_systemd(scenario);
    if under_systemd && !systemd::is_first() {
        // There is nobody to say it to but the console.
        return systemd::hand_over();
    }
    let mounts = if under_systemd { &[][..] } else { &MOUNTS };
    say_verdict(set_up(nic, nics, mounts).and_then(|guest| scenario::run(&guest, scenario)));
    // The line is on its way through the emulated port; there is nothing else to wait on.
    thread::sleep(Duration::from_millis(100));
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

/// Says how a scenario ended, in the line that xtask waits for.
pub(crate) fn say_verdict(ended: Result<()>) {
    let verdict = match ended {
        Ok(()) => "pass".to_owned(),
        // A verdict is one line.
        Err(error) => format!("{error:#}").replace('\n', " / "),
    };
    println!("verdict: {verdict}");
}

fn set_up(nic: &str, nics: usize, mounts: &[(&str, &str, bool)]) -> Result<Guest> {
    for &(kind, target, needed) in mounts {
        let none: Option<&CStr> = None;
        let result = mount(kind, target, kind, MountFlags::empty(), none);
        if needed {
            result.with_context(|| format!("cannot mount {target}"))?;
        }
    }
    redirect_output()?;
    // systemd's machine has said it.
    if !mounts.is_empty() {
        println!("{}", first_word()?);
    }
    let driver = if nic == "virtio" { "virtio_net" } else { nic };
    run("modprobe", &["-a", driver, "virtio_net"])?;
    ip("link set lo up")?;
    for wire in 0..nics {
        set_up_wire(wire)?;
    }
    let program = std::env::current_exe()?;
    Ok(Guest {
        nic: nic.to_owned(),
        nics,
        cpus: thread::available_parallelism()?.get(),
        steer: program.with_file_name("steer"),
        program,
    })
}

/// The machine's first word, by which xtask knows that it is up, or that it is to be started again.
///
/// Somebody sleeps for a moment on each CPU. Now and then a CPU of QEMU's has lost its first timer interrupt,
/// and who sleeps there sleeps for ever (`hrtimer_reprogram` asks for none while an earlier one is due).
pub(crate) fn first_word() -> Result<&'static str> {
    let all = sched_getaffinity(None)?;
    let mut asleep: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect();
    let (wake, awake) = mpsc::channel();
    for &cpu in &asleep {
        let wake = wake.clone();
        thread::spawn(move || -> Result<()> {
            let mut here = CpuSet::new();
            here.set(cpu);
            sched_setaffinity(None, &here)?;
            thread::sleep(Duration::from_millis(5));
            Ok(wake.send(cpu)?)
        });
    }
    let begun = Instant::now();
    // Without sleeping: this may be the CPU that would not wake up.
    while !asleep.is_empty() && begun.elapsed() < TIMERS {
        for up in awake.try_iter() {
            asleep.retain(|cpu| *cpu != up);
        }
        thread::yield_now();
    }
    Ok(if asleep.is_empty() { "up" } else { "timer: lost" })
}

/// Puts the output on the port that xtask reads: the console belongs to the kernel's messages.
fn redirect_output() -> Result<()> {
    let port = port()?;
    dup2_stdout(&port)?;
    dup2_stderr(&port)?;
    Ok(())
}

/// The port that xtask reads.
pub(crate) fn port() -> Result<File> {
    let mut ports = fs::read_dir("/sys/class/virtio-ports")?.flatten();
    let port = ports
        .find(|port| {
            fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == "steer")
        })
        .context("the machine has no port named steer")?;
    Ok(File::options().write(true).open(Path::new("/dev").join(port.file_name()))?)
}

/// The two ends of a wire: `eth0` here, `peer0` in a network namespace, and so on. `cargo xtask lab`
/// marks them by their addresses.
fn set_up_wire(wire: usize) -> Result<()> {
    let (nic, peer_nic) = (format!("eth{wire}"), format!("peer{wire}"));
    let namespace = if wire == 0 { PEER.to_owned() } else { format!("{PEER}{wire}") };
    let mac = |end: u32| format!("52:54:00:00:{wire:02x}:{end:02x}");
    // Both are renamed by way of a name that no driver gives.
    rename(&mac(1), &format!("under-test{wire}"))?;
    rename(&mac(2), &format!("far{wire}"))?;
    ip(&format!("link set under-test{wire} name {nic}"))?;
    ip(&format!("link set far{wire} name {peer_nic}"))?;
    ip(&format!("netns add {namespace}"))?;
    ip(&format!("link set {peer_nic} netns {namespace}"))?;
    let net = 9 + wire;
    ip(&format!("address add 10.{net}.0.1/24 dev {nic}"))?;
    ip(&format!("address add fd{net:02}::1/64 dev {nic} nodad"))?;
    ip(&format!("link set {nic} up"))?;
    let peer = |command: &str| ip(&format!("-n {namespace} {command}"));
    peer("link set lo up")?;
    peer(&format!("address add 10.{net}.0.2/24 dev {peer_nic}"))?;
    peer(&format!("address add fd{net:02}::2/64 dev {peer_nic} nodad"))?;
    peer(&format!("link set {peer_nic} up"))?;
    let carrier = format!("/sys/class/net/{nic}/carrier");
    wait_for("the link to come up", PATIENCE, || Ok(read(&carrier)? == "1"))?;
    Ok(())
}

fn rename(mac: &str, name: &str) -> Result<()> {
    let find = || -> Result<Option<String>> {
        for entry in fs::read_dir("/sys/class/net")?.flatten() {
            let interface = entry.file_name().to_string_lossy().into_owned();
            if read(&format!("/sys/class/net/{interface}/address"))? == mac {
                return Ok(Some(interface));
            }
        }
        Ok(None)
    };
    let mut found = None;
    wait_for(&format!("the NIC {mac} to appear"), PATIENCE, || {
        found = find()?;
        Ok(found.is_some())
    })?;
    ip(&format!("link set {} name {name}", found.unwrap_or_default()))
}
