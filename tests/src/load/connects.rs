//! Many short connections from this machine to its peer: a request, an answer, and the far end closes.
//!
//! Workers are pinned, one to each CPU, as a proxy's are. At each read of an answer the CPU is compared
//! with the one where the softirq processed it (`SO_INCOMING_CPU`), by which steer never goes.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    net::sockopt,
    thread::{CpuSet, sched_getcpu, sched_setaffinity},
};
use serde::{Deserialize, Serialize};

use super::{
    REQUEST, RESPONSE,
    control::{self, ask},
    session::await_socket,
};
use crate::guest::{Guest, PEER, wait_for};

/// Where the far end listens.
const PORTS: [u16; 2] = [9100, 9101];
/// Threads of the far end. Each serves one connection at a time.
const THREADS: usize = 16;

/// What the workers have counted since the start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Connections that were made and answered in full.
    pub connections: u64,
    /// Those that could not be made for want of a port (`EADDRNOTAVAIL`).
    pub no_port: u64,
    /// Those that failed in any other way.
    pub failed: u64,
    /// Reads that got data.
    pub reads: u64,
    /// Those of them on the CPU of the softirq.
    pub aligned: u64,
}

impl Stats {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            no_port: self.no_port - earlier.no_port,
            failed: self.failed - earlier.failed,
            reads: self.reads - earlier.reads,
            aligned: self.aligned - earlier.aligned,
        }
    }

    /// Share of the reads on the CPU of the softirq.
    #[must_use]
    pub fn share(self) -> f64 {
        let count = |count: u64| u32::try_from(count).map_or(f64::MAX, f64::from);
        count(self.aligned) / count(self.reads.max(1))
    }
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    no_port: AtomicU64,
    failed: AtomicU64,
    reads: AtomicU64,
    aligned: AtomicU64,
    stop: AtomicBool,
}

impl Counters {
    fn stats(&self) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections: of(&self.connections),
            no_port: of(&self.no_port),
            failed: of(&self.failed),
            reads: of(&self.reads),
            aligned: of(&self.aligned),
        }
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The far end: answers each connection once and closes it, for ever.
pub fn answer(listen: &[SocketAddr]) -> Result<()> {
    let listeners: Vec<Arc<TcpListener>> = listen
        .iter()
        .map(|address| Ok(Arc::new(TcpListener::bind(address).context("cannot listen")?)))
        .collect::<Result<_>>()?;
    for number in 1..THREADS {
        let listener = Arc::clone(&listeners[number % listeners.len()]);
        thread::spawn(move || answer_all(&listener));
    }
    answer_all(&listeners[0]);
    Ok(())
}

fn answer_all(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let mut request = [0; REQUEST];
        if stream.read_exact(&mut request).is_ok() && stream.write_all(&[7; RESPONSE]).is_ok() {
            // Whoever closes first keeps the TIME-WAIT; here it is this end.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut request);
        }
    }
}

/// Makes connections from a worker on each of `cpus` until told to stop.
pub fn connect(targets: &[SocketAddr], cpus: usize, control: &Path) -> Result<()> {
    let counters = Arc::new(Counters::default());
    let workers: Vec<_> = (0..cpus)
        .map(|cpu| {
            let (targets, counters) = (targets.to_vec(), Arc::clone(&counters));
            thread::spawn(move || work(cpu, &targets, &counters))
        })
        .collect();
    control::answer(
        control,
        |_| control::json(&counters.stats()),
        || {
            counters.stop.store(true, Ordering::Relaxed);
            for worker in workers {
                let _ = worker.join();
            }
            control::json(&counters.stats())
        },
    )
}

fn work(cpu: usize, targets: &[SocketAddr], counters: &Counters) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)?;
    for target in targets.iter().cycle() {
        if counters.stop.load(Ordering::Relaxed) {
            break;
        }
        match exchange(*target, counters) {
            Ok(()) => add_one(&counters.connections),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => add_one(&counters.no_port),
            Err(error) => {
                complain(&error);
                add_one(&counters.failed);
            }
        }
    }
    Ok(())
}

/// Says why a connection failed, on the machine's log.
fn complain(error: &std::io::Error) {
    let _ = writeln!(std::io::stderr(), "a connection failed: {error}");
}

fn exchange(target: SocketAddr, counters: &Counters) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(&[1; REQUEST])?;
    let mut response = [0; RESPONSE];
    let mut got = 0;
    while got < RESPONSE {
        let read = stream.read(&mut response)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        got += read;
        add_one(&counters.reads);
        let incoming = sockopt::socket_incoming_cpu(&stream)?;
        if usize::try_from(incoming) == Ok(sched_getcpu()) {
            add_one(&counters.aligned);
        }
    }
    // The far end has closed, or is about to.
    let _ = stream.read(&mut response)?;
    Ok(())
}

/// A load of short connections in a lab machine.
#[derive(Debug)]
pub struct Connects {
    far: Child,
    near: Child,
    control: PathBuf,
}

impl Connects {
    /// Starts the far end in the peer's namespace and the workers in the cgroup `cgroup`.
    pub fn start(guest: &Guest, cgroup: &Path) -> Result<Self> {
        let control = PathBuf::from("/run/lab-connects");
        let _ = fs::remove_file(&control);
        let targets: Vec<String> = ["10.9.0.2", "[fd09::2]"]
            .iter()
            .flat_map(|address| PORTS.map(|port| format!("{address}:{port}")))
            .collect();
        let mut far = Command::new("ip");
        far.args(["netns", "exec", PEER]).arg(&guest.program).arg("answer");
        let mut near = Command::new(&guest.program);
        near.args(["connect", "--cpus", &guest.cpus.to_string()]);
        near.arg("--control").arg(&control).arg("--cgroup").arg(cgroup);
        for target in &targets {
            far.args(["--listen", target]);
            near.args(["--target", target]);
        }
        let far = far.spawn().context("cannot start the far end")?;
        // A connection before its listeners are there would count as failed.
        for target in &targets {
            let target: SocketAddr = target.parse()?;
            wait_for("the far end to listen", Duration::from_secs(20), || {
                Ok(TcpStream::connect(target).is_ok())
            })?;
        }
        let mut near = near.spawn().context("cannot start the workers")?;
        await_socket(&control, &mut near)?;
        let load = Self { far, near, control };
        let give_up = Instant::now() + Duration::from_secs(10);
        while load.stats()?.connections < 50 {
            ensure!(Instant::now() < give_up, "the load does not get going");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(load)
    }

    /// The process that connects.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.near.id()
    }

    /// The count since the start.
    pub fn stats(&self) -> Result<Stats> {
        ask(&self.control, "stats")
    }

    /// What happens from now on for as long as given.
    pub fn window(&self, length: Duration) -> Result<Stats> {
        let before = self.stats()?;
        thread::sleep(length);
        Ok(self.stats()?.since(before))
    }

    /// Ends the load and returns the count.
    pub fn stop(mut self) -> Result<Stats> {
        let stats = ask(&self.control, "stop")?;
        self.near.wait()?;
        Ok(stats)
    }
}

impl Drop for Connects {
    fn drop(&mut self) {
        for process in [&mut self.near, &mut self.far] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
