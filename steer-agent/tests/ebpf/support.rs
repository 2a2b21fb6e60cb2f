//! What the tests of the kernel side share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    os::fd::AsFd as _,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use steer_agent::{
    model::HashFields,
    observe::kernel::{HashSource, KernelSide, ProgramStatus, WatchedNic},
};

/// Whether programs can be loaded here. Without root the tests are skipped, and say so; where they
/// must run (`CI=true`), that is a failure.
pub(crate) fn may_load() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "these tests need root, and must not be skipped in CI"
    );
    println!("skipped: loading BPF programs needs root");
    false
}

/// A NIC that hashes everything with ports.
pub(crate) fn ports() -> HashFields {
    HashFields {
        tcp4_ports: Some(true),
        tcp6_ports: Some(true),
        udp4_ports: Some(true),
        udp6_ports: Some(true),
    }
}

/// Whether every program is attached. A kernel may refuse to hook functions at all (a policy module,
/// no trampolines on its architecture); that is noted and left to the lab's kernels.
pub(crate) fn all_attached(side: &KernelSide) -> bool {
    let refused: Vec<ProgramStatus> =
        side.programs().into_iter().filter(|program| !program.attached.yes()).collect();
    for program in &refused {
        println!("not attached: {program:?}");
    }
    refused.iter().all(|program| {
        program.hook.starts_with("fentry/")
            && program.attached.why().is_some_and(|why| why.contains("no program hook a function"))
    })
}

/// Two network namespaces joined by a pair of virtual interfaces: `here`, where steer observes, and
/// `there`, its peer. All of it goes when the value is dropped.
///
/// One at a time: programs see the whole host, those of connect steering share a cgroup, and a range of
/// ports or a queue that another test uses too is not what this one made.
pub(crate) struct Wire {
    here: String,
    there: String,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// The observed interface.
pub(crate) const NIC: &str = "nic0";
/// Its other end.
pub(crate) const PEER: &str = "peer0";

pub(crate) const HERE_V4: &str = "192.0.2.1";
pub(crate) const THERE_V4: &str = "192.0.2.2";
pub(crate) const HERE_VLAN: &str = "198.51.100.1";
pub(crate) const THERE_VLAN: &str = "198.51.100.2";
pub(crate) const HERE_V6: &str = "2001:db8::1";
pub(crate) const THERE_V6: &str = "2001:db8::2";

impl Wire {
    /// Makes the namespaces; `name` keeps parallel tests apart.
    pub(crate) fn new(name: &str, queues: u32) -> Self {
        let process = std::process::id();
        let wire = Self {
            here: format!("steer-{process}-{name}-here"),
            there: format!("steer-{process}-{name}-there"),
            // A test that failed has left nothing behind: what it made goes with its value.
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let (here, there) = (&wire.here, &wire.there);
        run(&format!("ip netns add {here}"));
        run(&format!("ip netns add {there}"));
        run(&format!(
            "ip -n {here} link add {NIC} numtxqueues {queues} numrxqueues {queues} type veth \
             peer name {PEER} netns {there} numtxqueues {queues} numrxqueues {queues}"
        ));
        for (namespace, device, v4, v6) in
            [(here, NIC, HERE_V4, HERE_V6), (there, PEER, THERE_V4, THERE_V6)]
        {
            run(&format!("ip -n {namespace} link set lo up"));
            run(&format!("ip -n {namespace} address add {v4}/24 dev {device}"));
            run(&format!("ip -n {namespace} address add {v6}/64 dev {device} nodad"));
            // With GRO the interface has a NAPI, as a NIC has; packets take it where the sender does
            // not segment in hardware (`veth_skb_is_eligible_for_gro`).
            run(&format!("ip netns exec {namespace} ethtool -K {device} gro on tso off"));
            run(&format!("ip -n {namespace} link set {device} up"));
        }
        wire
    }

    /// Adds a VLAN on both sides, with its addresses; returns the index of the observer's interface,
    /// `None` where the kernel has no VLANs.
    pub(crate) fn add_vlan(&self) -> Option<u32> {
        for (namespace, device, v4) in
            [(&self.here, NIC, HERE_VLAN), (&self.there, PEER, THERE_VLAN)]
        {
            let add = format!("ip -n {namespace} link add link {device} name vlan7 type vlan id 7");
            match try_run(&add) {
                Err(why) if why.contains("Unknown device type") => return None,
                outcome => outcome.unwrap_or_else(|why| panic!("{add}: {why}")),
            };
            run(&format!("ip -n {namespace} address add {v4}/24 dev vlan7"));
            run(&format!("ip -n {namespace} link set vlan7 up"));
        }
        Some(self.ifindex("vlan7"))
    }

    /// Adds a container behind a bridge with the observed interface, as container engines do.
    pub(crate) fn add_container(&self, v4: &str) -> Container {
        let (here, inside) = (&self.here, format!("{}-box", self.here));
        run(&format!("ip netns add {inside}"));
        run(&format!("ip -n {here} link add vbox type veth peer name eth0 netns {inside}"));
        run(&format!("ip -n {here} link add br0 type bridge"));
        for port in [NIC, "vbox"] {
            run(&format!("ip -n {here} link set {port} master br0"));
            run(&format!("ip -n {here} link set {port} up"));
        }
        run(&format!("ip -n {here} link set br0 up"));
        run(&format!("ip -n {inside} address add {v4}/24 dev eth0"));
        run(&format!("ip -n {inside} link set eth0 up"));
        Container { inside }
    }

    /// Index of an interface of the observer's side.
    fn ifindex(&self, device: &str) -> u32 {
        let text = self.here(&format!("cat /sys/class/net/{device}/ifindex"));
        text.trim().parse().expect("an interface index")
    }

    /// Runs a command of the observer's side.
    pub(crate) fn here(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.here))
    }

    /// Runs a command of the peer's side.
    pub(crate) fn there(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.there))
    }

    /// Moves the calling thread to the observer's side.
    pub(crate) fn enter_here(&self) {
        enter(&self.here);
    }

    /// Moves the calling thread to the peer's side.
    pub(crate) fn enter_there(&self) {
        enter(&self.there);
    }

    /// Name of the observer's side.
    pub(crate) fn here_name(&self) -> &str {
        &self.here
    }

    /// Index of the observed interface.
    pub(crate) fn nic_index(&self) -> u32 {
        self.ifindex(NIC)
    }

    /// Does something in a thread on the peer's side.
    pub(crate) fn at_far_end<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let side = scope.spawn(|| {
                self.enter_there();
                act()
            });
            side.join().expect("the peer's side")
        })
    }

    /// The observed interface as a NIC; from the observer's side.
    pub(crate) fn nic(&self, queues: u32, hash: HashSource) -> WatchedNic {
        WatchedNic {
            name: NIC.to_owned(),
            ifindex: self.ifindex(NIC),
            upper_ifindexes: Vec::new(),
            buckets: 128,
            queues,
            hash,
        }
    }
}

/// A network namespace behind the observed interface.
pub(crate) struct Container {
    inside: String,
}

impl Container {
    /// Moves the calling thread into it.
    pub(crate) fn enter(&self) {
        enter(&self.inside);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.inside]).status();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [&self.here, &self.there] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Moves the calling thread to a namespace.
pub(crate) fn enter(namespace: &str) {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).expect("the namespace");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &str) -> String {
    try_run(command).unwrap_or_else(|why| panic!("{command}: {why}"))
}

/// Runs a command; what it printed, or what it complained about.
fn try_run(command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Pins the calling thread to a CPU.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("the CPU is online");
}
