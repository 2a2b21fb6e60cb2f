//! The servers behind the proxy: an nginx in the peer's namespace that answers by itself.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{BACKEND, Layout, files, nginx};
use crate::guest::{Guest, wait_for};

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Backend {
    child: Child,
}

impl Backend {
    /// Starts it, and returns once it answers.
    pub fn start(guest: &Guest, layout: &Layout) -> Result<Self> {
        files::prepare()?;
        let (host, port) = BACKEND;
        let head = nginx::head("backend", 1, "");
        let body = "x".repeat(400);
        let configuration = format!(
            "{head}
    server {{
        listen {host}:{port} reuseport backlog=4096;
        location / {{ return 200 {body}; }}
    }}
}}
"
        );
        let path = files::path("backend.conf");
        fs::write(&path, configuration)?;
        let mut command = layout.far_command(guest, "nginx", 0);
        command.args(["-e", "stderr", "-c", &path]).stdin(Stdio::null());
        let child = command.spawn().context("cannot start the server behind the proxy")?;
        let backend = Self { child };
        let answers = || Ok(TcpStream::connect(BACKEND).is_ok());
        wait_for("the server behind the proxy", Duration::from_secs(20), answers)?;
        Ok(backend)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
