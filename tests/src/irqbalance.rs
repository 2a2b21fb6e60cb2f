//! The real irqbalance beside steer, and its list read by other means than steer's.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{PATIENCE, wait_for};

const DIRECTORY: &str = "/run/irqbalance";

/// Where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// In the directory that its systemd unit makes.
    Path,
    /// At an abstract name, as without that directory.
    Abstract,
}

/// A running irqbalance; ended when dropped.
#[derive(Debug)]
pub struct Irqbalance {
    child: Child,
    socket: Socket,
}

impl Irqbalance {
    /// Starts it, to look every `interval_s` and to leave `banned` alone.
    pub fn start(socket: Socket, interval_s: u32, banned: &[u32]) -> Result<Self> {
        Self::start_sparing(socket, interval_s, banned, None)
    }

    /// The same, with a CPU that is to have no interrupts.
    pub fn start_sparing(
        socket: Socket,
        interval_s: u32,
        banned: &[u32],
        spared: Option<usize>,
    ) -> Result<Self> {
        match socket {
            Socket::Path => fs::create_dir_all(DIRECTORY)?,
            Socket::Abstract if Path::new(DIRECTORY).exists() => fs::remove_dir_all(DIRECTORY)?,
            Socket::Abstract => {}
        }
        let child = Command::new("irqbalance")
            .args(["--foreground", "--interval", &interval_s.to_string()])
            .envs(spared.map(|cpu| ("IRQBALANCE_BANNED_CPULIST", cpu.to_string())))
            .args(banned.iter().map(|irq| format!("--banirq={irq}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start irqbalance")?;
        let irqbalance = Self { child, socket };
        let listens = || Ok(irqbalance.connect().is_ok());
        wait_for("irqbalance to listen", PATIENCE, listens)?;
        Ok(irqbalance)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Makes it look at everything anew and place every interrupt that it may.
    pub fn rescan(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::HUP)?)
    }

    /// Interrupts that it leaves alone. It does not answer in its sleep.
    pub fn banned(&self) -> Result<BTreeSet<u32>> {
        let mut stream = self.connect()?;
        // The kernel adds the credentials: the other end asks for them.
        stream.write_all(b"setup")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("SLEEP "), "irqbalance answers {answer:?}");
        let words: Vec<&str> = answer.split_whitespace().collect();
        let irqs = words.windows(2).filter(|pair| pair[0] == "IRQ").map(|pair| pair[1].parse());
        Ok(irqs.collect::<Result<_, _>>()?)
    }

    fn connect(&self) -> Result<UnixStream> {
        Ok(match self.socket {
            Socket::Path => {
                UnixStream::connect(format!("{DIRECTORY}/irqbalance{}.sock", self.pid()))?
            }
            Socket::Abstract => {
                UnixStream::connect_addr(&SocketAddr::from_abstract_name([0; 107])?)?
            }
        })
    }
}

impl Drop for Irqbalance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
