//! The server: workers pinned to CPUs, each with an epoll over its own connections.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    net::{self, AddressFamily, SocketType, sockopt},
    thread::{CpuSet, Pid, gettid, sched_getcpu, sched_setaffinity},
};
use serde::{Deserialize, Serialize};

use super::{Proto, REQUEST, RESPONSE, control, number, set_number};

/// How a connection finds its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Assign {
    /// One thread accepts and hands the connections to the workers in turn, whatever CPU their
    /// packets come in on. This is what mismatches a load. With UDP each far end is given a connected
    /// socket, as QUIC servers do.
    Handover,
    /// Each worker has a listener of its own; the kernel picks one by hash.
    Reuseport,
}

/// What to serve.
#[derive(Debug)]
pub struct Server {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// CPU of each worker.
    pub workers: Vec<usize>,
    /// The scheduler decides where the workers run, and not `workers`.
    pub roam: bool,
    /// How a connection finds its worker.
    pub assign: Assign,
    /// Transport.
    pub proto: Proto,
}

/// What the workers have counted since the start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Receives that got data.
    pub received: u64,
    /// Those of them on the CPU of the softirq.
    pub aligned: u64,
    /// The same by worker.
    pub workers: Vec<WorkerStats>,
}

/// What a worker has counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStats {
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// Receives that got data.
    pub received: u64,
    /// Those of them on the CPU of the softirq.
    pub aligned: u64,
    /// Connections it holds.
    pub connections: usize,
}

/// A connection as the server sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flow {
    /// The server's end.
    pub local: SocketAddr,
    /// The client's end.
    pub remote: SocketAddr,
    /// CPU of the worker that serves it.
    pub worker_cpu: usize,
    /// CPU of the softirq that last processed a packet of it.
    pub incoming_cpu: u32,
}

/// A socket in a worker's epoll.
enum Socket {
    Listener(TcpListener),
    Connection(TcpStream),
    Datagrams(UdpSocket),
}

struct Worker {
    /// The CPU it is pinned to.
    cpu: AtomicUsize,
    /// It is not pinned.
    roam: bool,
    /// Its thread, once it runs.
    thread: OnceLock<Pid>,
    epoll: OwnedFd,
    sockets: Mutex<HashMap<u64, Socket>>,
    received: AtomicU64,
    aligned: AtomicU64,
}

impl Server {
    /// Serves until the control socket is told to stop.
    pub fn run(&self, control: &Path) -> Result<()> {
        let workers: Vec<Arc<Worker>> = self
            .workers
            .iter()
            .map(|&cpu| Worker::new(cpu, self.roam).map(Arc::new))
            .collect::<Result<_>>()?;
        match (self.proto, self.assign) {
            (Proto::Udp, Assign::Reuseport) => self.bind_datagrams(&workers)?,
            (Proto::Udp, Assign::Handover) => self.start_datagram_handover(&workers)?,
            (Proto::Tcp, Assign::Reuseport) => self.bind_listeners(&workers)?,
            (Proto::Tcp, Assign::Handover) => self.start_handover(&workers)?,
        }
        for worker in &workers {
            let worker = Arc::clone(worker);
            thread::spawn(move || worker.serve());
        }
        let stats = || control::json(&sum(&workers));
        let command = |command: &str| match command {
            "stats" => stats(),
            order if order.starts_with("move ") => {
                move_worker(&workers, order)?;
                stats()
            }
            "flows" => {
                let flows: Vec<Flow> = workers.iter().flat_map(|worker| worker.flows()).collect();
                control::json(&flows)
            }
            other => bail!("unknown command {other}"),
        };
        control::answer(control, command, stats)
    }

    fn bind_datagrams(&self, workers: &[Arc<Worker>]) -> Result<()> {
        for worker in workers {
            for &address in &self.listen {
                let socket = UdpSocket::from(shared_socket(address, SocketType::DGRAM)?);
                socket.set_nonblocking(true)?;
                worker.adopt(Socket::Datagrams(socket))?;
            }
        }
        Ok(())
    }

    /// The first datagram of a far end comes to a socket of nobody's; what follows goes to the
    /// connected one that a worker is given, which the kernel prefers (`udp4_lib_lookup2`).
    fn start_datagram_handover(&self, workers: &[Arc<Worker>]) -> Result<()> {
        let turn = Arc::new(AtomicUsize::new(0));
        for &address in &self.listen {
            let door = UdpSocket::from(shared_socket(address, SocketType::DGRAM)?);
            let (turn, workers) = (Arc::clone(&turn), workers.to_vec());
            thread::spawn(move || -> Result<()> {
                let mut request = [0; REQUEST];
                loop {
                    let Ok((got, from)) = door.recv_from(&mut request) else { continue };
                    let flow = UdpSocket::from(shared_socket(address, SocketType::DGRAM)?);
                    flow.connect(from)?;
                    flow.set_nonblocking(true)?;
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    workers[turn % workers.len()].adopt(Socket::Datagrams(flow))?;
                    let mut response = [0; RESPONSE];
                    set_number(&mut response, number(&request[..got]).unwrap_or_default());
                    // An answer that cannot be sent is missed by the client.
                    let _ = door.send_to(&response, from);
                }
            });
        }
        Ok(())
    }

    fn bind_listeners(&self, workers: &[Arc<Worker>]) -> Result<()> {
        for worker in workers {
            for &address in &self.listen {
                let socket = shared_socket(address, SocketType::STREAM)?;
                net::listen(&socket, 1024)?;
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                worker.adopt(Socket::Listener(listener))?;
            }
        }
        Ok(())
    }

    fn start_handover(&self, workers: &[Arc<Worker>]) -> Result<()> {
        let turn = Arc::new(AtomicUsize::new(0));
        for address in &self.listen {
            let listener = TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}"))?;
            let (turn, workers) = (Arc::clone(&turn), workers.to_vec());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    // A connection that cannot be handed over is closed, and the client says so.
                    let _ = workers[turn % workers.len()].adopt_stream(stream);
                }
            });
        }
        Ok(())
    }
}

/// A socket bound to an address that others bind to as well.
fn shared_socket(address: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket(family, kind, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address).with_context(|| format!("cannot bind to {address}"))?;
    Ok(socket)
}

/// Carries out `move WORKER CPU`: what a scheduler or an operator does to a running worker.
fn move_worker(workers: &[Arc<Worker>], order: &str) -> Result<()> {
    let mut words = order.split(' ').skip(1).map(str::parse::<usize>);
    let mut word = || words.next().with_context(|| format!("too short: {order}"));
    let (worker, cpu) = (word()??, word()??);
    let worker = workers.get(worker).with_context(|| format!("no worker {worker}"))?;
    Worker::pin(*worker.thread.get().context("the worker does not run yet")?, cpu)?;
    worker.cpu.store(cpu, Ordering::Relaxed);
    Ok(())
}

fn sum(workers: &[Arc<Worker>]) -> Stats {
    let workers: Vec<WorkerStats> = workers.iter().map(|worker| worker.stats()).collect();
    Stats {
        received: workers.iter().map(|worker| worker.received).sum(),
        aligned: workers.iter().map(|worker| worker.aligned).sum(),
        workers,
    }
}

impl Worker {
    fn new(cpu: usize, roam: bool) -> Result<Self> {
        Ok(Self {
            roam,
            cpu: AtomicUsize::new(cpu),
            thread: OnceLock::new(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sockets: Mutex::default(),
            received: AtomicU64::new(0),
            aligned: AtomicU64::new(0),
        })
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<u64, Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt_stream(&self, stream: TcpStream) -> Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.adopt(Socket::Connection(stream))
    }

    fn adopt(&self, socket: Socket) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let token = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut sockets = self.sockets();
        let socket = &*sockets.entry(token).or_insert(socket);
        let fd = match socket {
            Socket::Listener(listener) => listener.as_fd(),
            Socket::Connection(stream) => stream.as_fd(),
            Socket::Datagrams(datagrams) => datagrams.as_fd(),
        };
        epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)?;
        Ok(())
    }

    fn pin(thread: Pid, cpu: usize) -> Result<()> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        Ok(sched_setaffinity(Some(thread), &cpus)?)
    }

    fn serve(&self) -> Result<()> {
        let thread = gettid();
        if !self.roam {
            Self::pin(thread, self.cpu.load(Ordering::Relaxed))?;
        }
        // Only now, so that nobody moves a worker that then goes back.
        let _ = self.thread.set(thread);
        let mut events = Vec::with_capacity(64);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let mut accepted = Vec::new();
            let mut sockets = self.sockets();
            for event in events.drain(..) {
                let token = event.data.u64();
                let alive = match sockets.get_mut(&token) {
                    Some(Socket::Connection(stream)) => self.answer(stream),
                    Some(Socket::Datagrams(socket)) => self.answer_datagrams(socket),
                    Some(Socket::Listener(listener)) => {
                        accepted.extend(listener.accept().map(|(stream, _)| stream));
                        true
                    }
                    None => true,
                };
                if !alive {
                    sockets.remove(&token);
                }
            }
            drop(sockets);
            for stream in accepted {
                self.adopt_stream(stream)?;
            }
        }
    }

    /// Receives a request and answers it. False when the connection ended, or when what came is
    /// not the one segment that a request is sent in: the client will miss its answer.
    fn answer(&self, stream: &mut TcpStream) -> bool {
        let mut request = [0; REQUEST];
        match stream.read(&mut request) {
            Ok(REQUEST) => self.count(&*stream),
            Ok(_) => return false,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        let mut response = [0; RESPONSE];
        set_number(&mut response, number(&request).unwrap_or_default());
        stream.write_all(&response).is_ok()
    }

    fn answer_datagrams(&self, socket: &UdpSocket) -> bool {
        let mut request = [0; REQUEST];
        if let Ok((got, from)) = socket.recv_from(&mut request) {
            self.count(socket);
            let mut response = [0; RESPONSE];
            set_number(&mut response, number(&request[..got]).unwrap_or_default());
            // An answer that cannot be sent is missed by the client.
            let _ = socket.send_to(&response, from);
        }
        true
    }

    /// The independent count. The kernel keeps no incoming CPU for a UDP socket that is not
    /// connected; its receives count as not aligned.
    fn count(&self, socket: impl AsFd) {
        self.received.fetch_add(1, Ordering::Relaxed);
        let incoming = sockopt::socket_incoming_cpu(socket).ok();
        if incoming.is_some_and(|cpu| usize::try_from(cpu) == Ok(sched_getcpu())) {
            self.aligned.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> WorkerStats {
        let sockets = self.sockets();
        let connections =
            sockets.values().filter(|socket| matches!(socket, Socket::Connection(_))).count();
        WorkerStats {
            cpu: self.cpu.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            aligned: self.aligned.load(Ordering::Relaxed),
            connections,
        }
    }

    fn flows(&self) -> Vec<Flow> {
        let flow = |socket: &Socket| {
            let (fd, local, remote) = match socket {
                Socket::Connection(stream) => {
                    (stream.as_fd(), stream.local_addr(), stream.peer_addr())
                }
                Socket::Datagrams(flow) => (flow.as_fd(), flow.local_addr(), flow.peer_addr()),
                Socket::Listener(_) => return None,
            };
            Some(Flow {
                local: local.ok()?,
                remote: remote.ok()?,
                worker_cpu: self.cpu.load(Ordering::Relaxed),
                incoming_cpu: sockopt::socket_incoming_cpu(fd).ok()?,
            })
        };
        self.sockets().values().filter_map(flow).collect()
    }
}
