//! A load in a lab machine: the server on the NIC under test, the client in the peer's namespace.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Proto,
    buckets::host_key,
    client,
    control::ask,
    server::{self, Assign},
};
use crate::guest::{Guest, PATIENCE, PEER};

const PORT: u16 = 9000;

/// What load to put on the wire.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Number of flows.
    pub flows: usize,
    /// Requests per second over all flows. Two host CPUs that emulate four do about 5,000; beyond
    /// that one measures the emulation.
    pub rate: u32,
    /// How uneven the flows are: 0 is even, 1 gives the n-th an n-th of the first's rate.
    pub skew: f64,
    /// Addresses of the machine under test, which the flows go to in turn.
    pub addresses: Vec<String>,
    /// CPUs of the workers; every CPU of the machine if empty.
    pub workers: Vec<usize>,
    /// Leave it to the scheduler where the workers run.
    pub roam: bool,
    /// How a connection finds its worker.
    pub assign: Assign,
    /// Transport.
    pub proto: Proto,
    /// Network namespace of the server; the machine's own if none.
    pub server_in: Option<String>,
    /// Network namespace of the client.
    pub client_in: String,
    /// Name that tells loads apart which run at the same time.
    pub name: String,
    /// A connection for each request.
    pub short: bool,
    /// Port of the server.
    pub port: u16,
    /// Each flow has a bucket of its own, as far as the kernel shows the key by which NICs hash. Ports are
    /// random else, and two of 16 flows fall into one of 128 buckets in every other load.
    pub apart: bool,
}

impl Default for Spec {
    /// 16 long-lived TCP flows over IPv4, handed to a worker on every CPU.
    fn default() -> Self {
        Self {
            flows: 16,
            rate: 2000,
            skew: 0.0,
            addresses: vec!["10.9.0.1".to_owned()],
            workers: Vec::new(),
            roam: false,
            assign: Assign::Handover,
            proto: Proto::Tcp,
            server_in: None,
            client_in: PEER.to_owned(),
            name: "lab".to_owned(),
            short: false,
            port: PORT,
            apart: false,
        }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    server: Child,
    client: Child,
    server_control: PathBuf,
    client_control: PathBuf,
}

/// What the server received between two points in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Receives that got data.
    pub received: u64,
    /// Those of them on the CPU of the softirq.
    pub aligned: u64,
}

impl Window {
    /// The aligned share; 0 where nothing was received.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.received == 0 { 0.0 } else { self.aligned as f64 / self.received as f64 }
    }
}

impl Load {
    /// Starts server and client, and returns once answers come.
    pub fn start(guest: &Guest, spec: &Spec) -> Result<Self> {
        let workers: Vec<usize> =
            if spec.workers.is_empty() { (0..guest.cpus).collect() } else { spec.workers.clone() };
        let workers = workers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let addresses =
            spec.addresses.iter().map(|address| Ok(SocketAddr::new(address.parse()?, spec.port)));
        let addresses: Vec<SocketAddr> = addresses.collect::<Result<_>>()?;
        let [server_control, client_control] =
            ["server", "client"].map(|side| PathBuf::from(format!("/run/{}-{side}", spec.name)));
        for stale in [&server_control, &client_control] {
            let _ = fs::remove_file(stale);
        }

        let mut serve = program_in(guest, spec.server_in.as_deref());
        serve.args(["serve", "--workers", &workers, "--assign"]);
        serve.arg(match spec.assign {
            Assign::Handover => "handover",
            Assign::Reuseport => "reuseport",
        });
        if spec.roam {
            serve.arg("--roam");
        }
        serve.arg("--control").arg(&server_control);
        let mut load = program_in(guest, Some(&spec.client_in));
        load.arg("load");
        load.args(["--flows", &spec.flows.to_string(), "--rate", &spec.rate.to_string()]);
        load.args(["--skew", &spec.skew.to_string()]);
        load.arg("--control").arg(&client_control);
        for address in addresses {
            serve.args(["--listen", &address.to_string()]);
            load.args(["--target", &address.to_string()]);
        }
        if spec.proto == Proto::Udp {
            serve.arg("--udp");
            load.arg("--udp");
        }

        if spec.short {
            load.arg("--short");
        }
        if spec.apart
            && let Some(key) = host_key()
        {
            load.args(["--apart", &key]);
        }

        let mut server = serve.spawn().context("cannot start the server")?;
        await_socket(&server_control, &mut server)?;
        let mut client = load.spawn().context("cannot start the client")?;
        await_socket(&client_control, &mut client)?;
        let load = Self { server, client, server_control, client_control };
        let give_up = Instant::now() + PATIENCE;
        while load.client()?.answered < spec.flows as u64 {
            ensure!(Instant::now() < give_up, "the load does not get going");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(load)
    }

    /// Starts a load, and another instead until one is as wanted.
    ///
    /// Ports and the NIC's key are random, so where a load's flows arrive is a matter of luck. A scenario
    /// that shows a correction needs something to correct. `wanted` says why a load is not.
    pub fn start_until(
        guest: &Guest,
        spec: &Spec,
        mut wanted: impl FnMut(&Self) -> Result<Result<(), String>>,
    ) -> Result<Self> {
        let mut reasons = Vec::new();
        for _ in 0..16 {
            let load = Self::start(guest, spec)?;
            match wanted(&load)? {
                Ok(()) => return Ok(load),
                Err(why) => reasons.push(why),
            }
            load.stop()?;
        }
        bail!("{} loads in a row did not come out as wanted: {}", reasons.len(), reasons.join("; "))
    }

    /// Whether between one and four receives in ten are aligned. By chance it is a quarter on
    /// average with four CPUs, but more than 40 % in one load of 16 flows out of twelve.
    pub fn is_mismatched(&self) -> Result<Result<(), String>> {
        let share = self.window(Duration::from_secs(1))?.share();
        let is_so = (0.10..0.40).contains(&share);
        Ok(if is_so { Ok(()) } else { Err(format!("{share:.2} of it is aligned")) })
    }

    /// The server's count since its start.
    pub fn server(&self) -> Result<server::Stats> {
        ask(&self.server_control, "stats")
    }

    /// The client's count since its start.
    pub fn client(&self) -> Result<client::Stats> {
        ask(&self.client_control, "stats")
    }

    /// The server's connections.
    pub fn flows(&self) -> Result<Vec<server::Flow>> {
        ask(&self.server_control, "flows")
    }

    /// Moves a worker, by its place in [`Spec::workers`], to another CPU.
    pub fn move_worker(&self, worker: usize, cpu: usize) -> Result<()> {
        let _: server::Stats = ask(&self.server_control, &format!("move {worker} {cpu}"))?;
        Ok(())
    }

    /// What is received from now on for as long as given.
    pub fn window(&self, length: Duration) -> Result<Window> {
        let ((), window) = self.window_of(|| {
            thread::sleep(length);
            Ok(())
        })?;
        Ok(window)
    }

    /// What is received while something else is done.
    pub fn window_of<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Window)> {
        let before = self.server()?;
        let result = work()?;
        let after = self.server()?;
        let window = Window {
            received: after.received - before.received,
            aligned: after.aligned - before.aligned,
        };
        Ok((result, window))
    }

    /// Lets the requests on their way be answered, ends the load, and returns the client's count.
    pub fn stop(mut self) -> Result<client::Stats> {
        let stats = ask(&self.client_control, "stop")?;
        self.client.wait()?;
        let _: server::Stats = ask(&self.server_control, "stop")?;
        self.server.wait()?;
        Ok(stats)
    }
}

impl Drop for Load {
    /// A scenario that failed leaves its load behind; the next start would find the port taken.
    fn drop(&mut self) {
        for process in [&mut self.client, &mut self.server] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The guest program, to be run in a network namespace.
fn program_in(guest: &Guest, namespace: Option<&str>) -> Command {
    match namespace {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(&guest.program);
            command
        }
        None => Command::new(&guest.program),
    }
}

pub(super) fn await_socket(socket: &Path, process: &mut Child) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !socket.exists() {
        if let Some(status) = process.try_wait()? {
            bail!("the process behind {} ended: {status}", socket.display());
        }
        ensure!(Instant::now() < give_up, "{} does not appear", socket.display());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
