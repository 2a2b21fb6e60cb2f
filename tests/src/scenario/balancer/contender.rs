//! The contenders: what a host can do about its packets' CPUs.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};

use crate::{
    guest::{Guest, NIC, read, write},
    irqbalance::{Irqbalance, Socket},
    nic::State,
    proxy::{CGROUP, Layout, PORT, TLS_PORT},
    steer::{Daemon, exit},
};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    /// The NIC's table and interrupts spread evenly, and left alone.
    Default,
    /// irqbalance, looking every second.
    Irqbalance,
    /// Receive flow steering, as Documentation/networking/scaling.rst suggests.
    Rfs,
    /// steer, with accept and connect steering.
    Steer,
}

/// Entries of the flow table of RFS, which the kernel's documentation suggests.
const FLOW_ENTRIES: usize = 32768;
const FLOW_TABLE: &str = "/proc/sys/net/core/rps_sock_flow_entries";

/// A contender at work.
#[derive(Debug)]
pub(super) enum Active {
    Default,
    Irqbalance(#[allow(dead_code, reason = "held, for it ends when dropped")] Irqbalance),
    Rfs,
    Steer(Daemon),
}

impl Contender {
    /// In the order of the tables.
    pub(super) const ALL: [Self; 4] = [Self::Default, Self::Irqbalance, Self::Rfs, Self::Steer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Irqbalance => "irqbalance",
            Self::Rfs => "RFS",
            Self::Steer => "steer",
        }
    }

    /// Sets it to work.
    pub(super) fn start(self, guest: &Guest, layout: &Layout) -> Result<Active> {
        Ok(match self {
            Self::Default => Active::Default,
            Self::Irqbalance => {
                let irqbalance = Irqbalance::start_sparing(
                    Socket::Path,
                    1,
                    &layout.far_irqs()?,
                    Some(layout.far),
                )?;
                layout.take_part(irqbalance.pid())?;
                irqbalance.rescan()?;
                // It moves what it may one tick after it has looked at everything.
                thread::sleep(Duration::from_secs(4));
                Active::Irqbalance(irqbalance)
            }
            Self::Rfs => {
                set_rfs(FLOW_ENTRIES)?;
                Active::Rfs
            }
            Self::Steer => Active::Steer(start_steer(guest, layout)?),
        })
    }
}

/// What `steer run` is told for a load balancer.
pub(super) fn steer_arguments(guest: &Guest) -> Result<Vec<String>> {
    let mut arguments = vec![NIC.to_owned(), "--accept".to_owned(), format!("{PORT},{TLS_PORT}")];
    if steers_connects(guest)? {
        arguments.extend(["--connect", CGROUP].map(str::to_owned));
    }
    Ok(arguments)
}

/// `steer run` for a load balancer, on the CPUs of the machine under test.
pub(super) fn start_steer(guest: &Guest, layout: &Layout) -> Result<Daemon> {
    let arguments = steer_arguments(guest)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let daemon = Daemon::start(guest, &arguments)?;
    layout.take_part(daemon.pid())?;
    Ok(daemon)
}

/// Whether this steer has connect steering; what it cannot do is not expected of it.
pub(super) fn steers_connects(guest: &Guest) -> Result<bool> {
    Ok(guest.steer(&["run", "--help"])?.stdout.contains("--connect"))
}

impl Active {
    /// Ends its work; what it has set is put back by [`Settings::restore`], but steer does that
    /// itself.
    pub(super) fn stop(self, guest: &Guest) -> Result<()> {
        match self {
            Self::Default | Self::Irqbalance(_) => Ok(()),
            Self::Rfs => set_rfs(0),
            Self::Steer(daemon) => {
                for line in daemon.said() {
                    guest.say(format_args!("steer: {line}"));
                }
                let ended = daemon.terminate()?;
                guest.expect_equal("exit code of steer", &ended.code, &exit::DONE)
            }
        }
    }
}

fn set_rfs(entries: usize) -> Result<()> {
    write(FLOW_TABLE, &entries.to_string())?;
    let queues: Vec<_> = fs::read_dir(format!("/sys/class/net/{NIC}/queues"))?.flatten().collect();
    let files = queues.iter().map(|queue| queue.path().join("rps_flow_cnt"));
    let files: Vec<_> = files.filter(|file| file.exists()).collect();
    for file in &files {
        let path = file.to_str().context("a queue has a strange name")?;
        write(path, &(entries / files.len()).to_string())?;
    }
    Ok(())
}

/// Every interrupt's affinity and the state of the NIC, as they were.
#[derive(Debug)]
pub(super) struct Settings {
    affinities: Vec<(String, String)>,
    state: State,
}

impl Settings {
    /// Remembers what is set now.
    pub(super) fn save() -> Result<Self> {
        let mut affinities = Vec::new();
        for entry in fs::read_dir("/proc/irq")?.flatten() {
            let path = entry.path().join("smp_affinity_list").display().to_string();
            if let Ok(cpus) = read(&path) {
                affinities.push((path, cpus));
            }
        }
        Ok(Self { affinities, state: State::read(NIC)? })
    }

    /// Puts back the affinities, and expects everything to be as it was.
    pub(super) fn restore(&self, guest: &Guest) -> Result<()> {
        for (path, cpus) in &self.affinities {
            if read(path).is_ok_and(|now| now != *cpus) {
                write(path, cpus)?;
            }
        }
        let difference = self.state.difference(&State::read(NIC)?);
        guest.expect("the NIC is set as it was at first", difference.is_empty(), difference)
    }
}
