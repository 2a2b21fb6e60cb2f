//! The machine's first process: mounts, the two NICs, the scenario, the verdict, power off.

use std::{
    ffi::CStr,
    fs::{self, File},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::{
    mount::{MountFlags, mount},
    stdio::{dup2_stderr, dup2_stdout},
    system::{RebootCommand, reboot},
};

use crate::{
    guest::{Guest, NIC, PEER, PEER_NIC, ip, read, run, wait_for},
    scenario,
};

/// Addresses by which `cargo xtask lab` marks the two NICs.
const MAC_UNDER_TEST: &str = "52:54:00:00:00:01";
const MAC_OF_PEER: &str = "52:54:00:00:00:02";

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

/// Runs a scenario and powers off; returns only if the machine will not go.
pub fn init(nic: &str, scenario: &str) -> Result<()> {
    let verdict = match set_up(nic).and_then(|guest| scenario::run(&guest, scenario)) {
        Ok(()) => "pass".to_owned(),
        // A verdict is one line.
        Err(error) => format!("{error:#}").replace('\n', " / "),
    };
    println!("verdict: {verdict}");
    // The line is on its way through the emulated port; there is nothing else to wait on.
    thread::sleep(Duration::from_millis(100));
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

fn set_up(nic: &str) -> Result<Guest> {
    for (kind, target, needed) in MOUNTS {
        let none: Option<&CStr> = None;
        let result = mount(kind, target, kind, MountFlags::empty(), none);
        if needed {
            result.with_context(|| format!("cannot mount {target}"))?;
        }
    }
    redirect_output()?;
    // The first word, by which xtask knows that the machine is up.
    println!("up");
    set_up_network(nic)?;
    let program = std::env::current_exe()?;
    Ok(Guest {
        nic: nic.to_owned(),
        cpus: thread::available_parallelism()?.get(),
        steer: program.with_file_name("steer"),
        program,
    })
}

/// Puts the output on the port that xtask reads: the console belongs to the kernel's messages.
fn redirect_output() -> Result<()> {
    let mut ports = fs::read_dir("/sys/class/virtio-ports")?.flatten();
    let port = ports
        .find(|port| {
            fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == "steer")
        })
        .context("the machine has no port named steer")?;
    let port = File::options().write(true).open(Path::new("/dev").join(port.file_name()))?;
    dup2_stdout(&port)?;
    dup2_stderr(&port)?;
    Ok(())
}

fn set_up_network(nic: &str) -> Result<()> {
    let driver = if nic == "virtio" { "virtio_net" } else { nic };
    run("modprobe", &["-a", driver, "virtio_net"])?;
    // Both are renamed by way of a name that no driver gives.
    rename(MAC_UNDER_TEST, "under-test")?;
    rename(MAC_OF_PEER, PEER_NIC)?;
    ip(&format!("link set under-test name {NIC}"))?;
    ip("link set lo up")?;
    ip(&format!("netns add {PEER}"))?;
    ip(&format!("link set {PEER_NIC} netns {PEER}"))?;
    ip(&format!("address add 10.9.0.1/24 dev {NIC}"))?;
    ip(&format!("address add fd09::1/64 dev {NIC} nodad"))?;
    ip(&format!("link set {NIC} up"))?;
    let peer = |command: &str| ip(&format!("-n {PEER} {command}"));
    peer("link set lo up")?;
    peer(&format!("address add 10.9.0.2/24 dev {PEER_NIC}"))?;
    peer(&format!("address add fd09::2/64 dev {PEER_NIC} nodad"))?;
    peer(&format!("link set {PEER_NIC} up"))?;
    let carrier = format!("/sys/class/net/{NIC}/carrier");
    wait_for("the link to come up", Duration::from_secs(15), || Ok(read(&carrier)? == "1"))?;
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
    wait_for(&format!("the NIC {mac} to appear"), Duration::from_secs(10), || {
        found = find()?;
        Ok(found.is_some())
    })?;
    ip(&format!("link set {} name {name}", found.unwrap_or_default()))
}
