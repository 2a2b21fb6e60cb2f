//! A scenario on the running kernel, without a machine of its own: over a pair of virtual interfaces
//! instead of a wire.
//!
//! The process is started in new network and mount namespaces (`unshare --net --mount`), so that
//! nothing of the host is changed and everything ends with it. A virtual interface has no table: what
//! is tried here is observing, and that steer says what it cannot do.

use std::{ffi::CStr, thread};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::{
    guest::{Guest, NIC, PEER, PEER_NIC, ip, run},
    init::say_verdict,
    scenario,
};

/// Mounted anew, for they belong to the network namespace or would be left behind.
const MOUNTS: [(&str, &str); 3] = [("sysfs", "/sys"), ("tmpfs", "/run"), ("tmpfs", "/var/lib")];

/// Runs a scenario and says the verdict.
pub fn host(scenario: &str) -> Result<()> {
    say_verdict(set_up().and_then(|guest| scenario::run(&guest, scenario)));
    Ok(())
}

fn set_up() -> Result<Guest> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    for (kind, target) in MOUNTS {
        let none: Option<&CStr> = None;
        mount(kind, target, kind, MountFlags::empty(), none)
            .with_context(|| format!("cannot mount {target}"))?;
    }
    ip("link set lo up")?;
    ip(&format!("netns add {PEER}"))?;
    ip(&format!("link add {NIC} type veth peer name {PEER_NIC} netns {PEER}"))?;
    let ethtool =
        |arguments: &str| run("ethtool", &arguments.split(' ').collect::<Vec<_>>()).map(drop);
    // With GRO the interface has a NAPI, as a NIC has; packets take it where the sender does not
    // segment in hardware (`veth_skb_is_eligible_for_gro`).
    ethtool(&format!("-K {NIC} gro on tso off"))?;
    run("ip", &["netns", "exec", PEER, "ethtool", "-K", PEER_NIC, "gro", "on", "tso", "off"])?;
    ip(&format!("address add 10.9.0.1/24 dev {NIC}"))?;
    ip(&format!("link set {NIC} up"))?;
    ip(&format!("-n {PEER} address add 10.9.0.2/24 dev {PEER_NIC}"))?;
    ip(&format!("-n {PEER} link set {PEER_NIC} up"))?;
    let program = std::env::current_exe()?;
    Ok(Guest {
        nic: "veth".to_owned(),
        nics: 1,
        cpus: thread::available_parallelism()?.get(),
        steer: program.with_file_name("steer"),
        program,
    })
}
