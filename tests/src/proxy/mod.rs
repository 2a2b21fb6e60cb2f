//! Real load balancers, from Debian's packages, with real servers behind them and a real load
//! in front.
//!
//! `cargo xtask setup` unpacks them below the target directory; nothing is installed, so no
//! service is ever started on the machine itself. The proxy listens on the NIC under test; the
//! servers behind it and the load are in the peer's namespace.

mod backend;
mod files;
mod haproxy;
mod layout;
mod nginx;
pub mod programs;
mod wrk;

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

pub use self::{
    backend::Backend,
    layout::Layout,
    wrk::{Connections, Summary, Traffic, Wrk},
};
use crate::guest::{Guest, wait_for};

/// Address that the proxy listens on.
pub const ADDRESS: &str = "10.9.0.1";
/// Its port without TLS.
pub const PORT: u16 = 80;
/// Its port with TLS.
pub const TLS_PORT: u16 = 443;
/// Address and port of the servers behind it.
pub const BACKEND: (&str, u16) = ("10.9.0.2", 8080);
/// The control group that a proxy's processes are in.
pub const CGROUP: &str = "/sys/fs/cgroup/proxy";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// HAProxy, a thread per CPU.
    Haproxy,
    /// nginx, a process per CPU.
    Nginx,
}

impl Program {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// How a proxy is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which program.
    pub program: Program,
    /// CPU of each worker, which is pinned to it and has listeners of its own.
    pub workers: Vec<usize>,
    /// Connections to the servers behind it are used again.
    pub backend_keepalive: bool,
}

/// What a proxy has counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests.
    pub requests: u64,
    /// Requests that it could not serve, by its own count.
    pub failed: u64,
}

/// A running proxy; ended when dropped.
#[derive(Debug)]
pub struct Proxy {
    program: Program,
    child: Child,
}

impl Proxy {
    /// Starts it in [`CGROUP`], and returns once it listens.
    pub fn start(guest: &Guest, setup: &Setup) -> Result<Self> {
        files::prepare()?;
        let config = match setup.program {
            Program::Haproxy => haproxy::configuration(setup),
            Program::Nginx => nginx::configuration(setup),
        };
        let path = files::path(&format!("{}.conf", setup.program.name()));
        fs::write(&path, config).with_context(|| format!("cannot write {path}"))?;
        let command = match setup.program {
            Program::Haproxy => haproxy::command(guest, &path),
            Program::Nginx => nginx::command(guest, &path),
        };
        fs::create_dir_all(CGROUP).context("cannot make a control group")?;
        let child = in_cgroup(&command).spawn().context("cannot start the proxy")?;
        let mut proxy = Self { program: setup.program, child };
        let listens = || {
            let status = proxy.child.try_wait()?;
            ensure!(status.is_none(), "{} ended at once: {status:?}", proxy.program.name());
            Ok(proxy.served().is_ok())
        };
        wait_for("the proxy to answer", Duration::from_secs(20), listens)?;
        Ok(proxy)
    }

    /// What it has counted. Processes that a reload replaced take their counts along.
    pub fn served(&self) -> Result<Served> {
        match self.program {
            Program::Haproxy => haproxy::served(),
            Program::Nginx => nginx::served(),
        }
    }

    /// Has it read its configuration again, which replaces its workers.
    pub fn reload(&self) -> Result<()> {
        let signal = match self.program {
            Program::Haproxy => Signal::USR2,
            Program::Nginx => Signal::HUP,
        };
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Its processes.
    pub fn workers(&self) -> Result<BTreeSet<u32>> {
        let text = fs::read_to_string(format!("{CGROUP}/cgroup.procs"))?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Its first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The command, run by a shell that first joins the control group.
fn in_cgroup(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("echo $$ > {CGROUP}/cgroup.procs; exec \"$@\"");
    shell.args(["-euc", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}
