//! Who runs where: the machine under test and the far end of the wire share one emulated machine.
//!
//! The far end would also be interrupted, woken and moved about, and its calls from CPU to CPU
//! counted as the proxy's. It has the last CPU to itself, with its interrupts; the workers have
//! the others, as many in each socket.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

use super::programs;
use crate::{
    guest::{Guest, NIC, PEER, PEER_NIC, read, run, wait_for, write},
    nic,
};

/// CPUs of the two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// CPUs of the machine under test, of which each has a worker.
    pub workers: Vec<usize>,
    /// The CPU of the far end.
    pub far: usize,
}

impl Layout {
    /// Divides the machine's CPUs, and binds the interrupts of both ends to them.
    pub fn divide(guest: &Guest) -> Result<Self> {
        let mut sockets: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for cpu in 0..guest.cpus {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id");
            sockets.entry(read(&path)?.parse()?).or_default().push(cpu);
        }
        let layout = Self::of(sockets.into_values());
        ensure!(layout.workers.len() > 1, "a CPU for the far end and two for workers are needed");
        let spread = list(&layout.workers);
        for irq in nic::irqs(NIC)?.keys() {
            write(&format!("/proc/irq/{irq}/smp_affinity_list"), &spread)?;
        }
        for irq in layout.far_irqs()? {
            write(&format!("/proc/irq/{irq}/smp_affinity_list"), &layout.far.to_string())?;
        }
        // Not a queue for the far end's CPU.
        let queues = nic::queues(NIC)?.len().min(layout.workers.len());
        if queues < nic::queues(NIC)?.len() {
            run("ethtool", &["-L", NIC, "combined", &queues.to_string()])?;
            let carrier = format!("/sys/class/net/{NIC}/carrier");
            let up = || Ok(read(&carrier)? == "1");
            wait_for("the link to come up again", Duration::from_secs(15), up)?;
            return Self::divide(guest);
        }
        Ok(layout)
    }

    fn of(sockets: impl Iterator<Item = Vec<usize>>) -> Self {
        let (mut workers, mut far) = (Vec::new(), 0);
        for mut cpus in sockets {
            far = cpus.pop().unwrap_or(far);
            workers.extend(cpus);
        }
        Self { workers, far }
    }

    /// The workers' CPUs as a list.
    #[must_use]
    pub fn workers(&self) -> String {
        list(&self.workers)
    }

    /// The interrupts of the far end's virtio NIC, by the name of its device.
    pub fn far_irqs(&self) -> Result<Vec<u32>> {
        let link = format!("/sys/class/net/{PEER_NIC}/device");
        let device = run("ip", &["netns", "exec", PEER, "readlink", &link])?;
        let device = device.trim().rsplit('/').next().unwrap_or_default().to_owned();
        ensure!(device.starts_with("virtio"), "the far end's NIC is {device}");
        let prefix = format!("{device}-");
        let interrupts = fs::read_to_string("/proc/interrupts")?;
        let rows = interrupts.lines().filter(|line| {
            let name = line.split_whitespace().last().unwrap_or_default();
            // The one for changes of configuration may be shared.
            name.starts_with(&prefix) && !name.ends_with("config")
        });
        let irq = |line: &str| -> Result<u32> {
            let number = line.split(':').next().context("a row without a number")?;
            Ok(number.trim().parse()?)
        };
        rows.map(irq).collect()
    }

    /// Has this program's threads run on the far end's CPU from now on: what it does by itself
    /// is not the proxy's. What it starts inherits that, and may choose otherwise.
    pub fn step_aside(&self) -> Result<()> {
        Self::bind(None, &[self.far])
    }

    /// Has a process run where the proxy runs: what is part of the contest is counted.
    pub fn take_part(&self, process: u32) -> Result<()> {
        Self::bind(Some(process), &self.workers)
    }

    fn bind(process: Option<u32>, cpus: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu);
        }
        let process =
            process.map(|process| Pid::from_raw(process.cast_signed()).context("no process"));
        Ok(sched_setaffinity(process.transpose()?, &set)?)
    }

    /// A program that runs at the far end, as this user.
    pub(super) fn far_command(&self, guest: &Guest, program: &str, user: u32) -> Command {
        let program = programs::command(guest, program);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", PEER, "taskset", "--cpu-list", &self.far.to_string()]);
        command.args(["setpriv", "--reuid", &user.to_string(), "--clear-groups"]);
        command.arg(program.get_program());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn every_socket_gives_up_its_last_cpu() {
        let one = Layout::of([vec![0, 1, 2, 3, 4]].into_iter());
        assert_eq!(one, Layout { workers: vec![0, 1, 2, 3], far: 4 });
        let two = Layout::of([vec![0, 1, 2], vec![3, 4, 5]].into_iter());
        assert_eq!(two, Layout { workers: vec![0, 1, 3, 4], far: 5 });
        assert_eq!(two.workers(), "0,1,3,4");
    }
}
