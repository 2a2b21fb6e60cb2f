//! The client: one thread, many flows, each with at most one request on its way.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{BuildHasher, RandomState},
    io::{ErrorKind, Read, Result as IoResult, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt},
};
use serde::{Deserialize, Serialize};

use super::{Buckets, Proto, REQUEST, RESPONSE, buckets::MOST_FLOWS, control, number, set_number};

/// How long an answer may take. The emulated machine stalls for tens of milliseconds, on a busy host for
/// seconds, a link that renegotiates for two or three; TCP, whose pauses double, repairs all of it in
/// this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to send.
#[derive(Debug)]
pub struct Client {
    /// Addresses to connect to, in turn.
    pub targets: Vec<SocketAddr>,
    /// Number of flows.
    pub flows: usize,
    /// Requests per second over all flows.
    pub rate: u32,
    /// How uneven the flows are: the n-th has a rate in proportion to n to the power of minus this.
    pub skew: f64,
    /// Transport.
    pub proto: Proto,
    /// A connection for each request.
    pub short: bool,
    /// Ports by which each flow falls into a bucket of its own, of a NIC with this key.
    pub apart: Option<String>,
}

/// What the client has counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered with their own number.
    pub answered: u64,
    /// Requests lost, answers that are wrong or that nobody asked for.
    pub failed: u64,
    /// Connections made anew after a failure.
    pub reconnects: u64,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    reconnects: AtomicU64,
}

impl Counters {
    fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            sent: read(&self.sent),
            answered: read(&self.answered),
            failed: read(&self.failed),
            reconnects: read(&self.reconnects),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// An address to send from, with a port taken at random, by which the flow has a bucket of its own if
/// that is wanted.
///
/// The kernel's own choice goes up in steps of two. Such ports differ in a few bits, the hash is
/// linear in them, and flows then fall into the same buckets in whole patterns or not at all.
fn anywhere(target: SocketAddr, buckets: Option<&mut Buckets>) -> Result<SocketAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A hasher's keys are the standard library's only source of chance.
    let port = || u16::try_from(32_768 + RandomState::new().hash_one(()) % 28_000);
    let Some(buckets) = buckets else { return Ok(SocketAddr::new(any, port()?)) };
    // Where packets to the target leave from. Nothing is sent for it.
    let probe = UdpSocket::bind(SocketAddr::new(any, 0))?;
    probe.connect(target)?;
    let mut from = probe.local_addr()?;
    from.set_port(port()?);
    while !buckets.take(from, target) {
        from.set_port(port()?);
    }
    Ok(from)
}

/// A socket that is bound to such an address.
fn bound(
    kind: SocketType,
    target: SocketAddr,
    mut buckets: Option<&mut Buckets>,
) -> Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    loop {
        match bind(&socket, &anywhere(target, buckets.as_deref_mut())?) {
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(errno.into()),
            Ok(()) => return Ok(socket),
        }
    }
}

impl Socket {
    fn connect(
        proto: Proto,
        target: SocketAddr,
        short: bool,
        buckets: Option<&mut Buckets>,
    ) -> Result<Self> {
        let socket = match proto {
            Proto::Tcp => {
                let socket = bound(SocketType::STREAM, target, buckets)?;
                if short {
                    // Closed with a reset once the answer is there: a minute of TIME_WAIT for each would
                    // use up all ports.
                    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
                }
                connect(&socket, &target)?;
                let stream = TcpStream::from(socket);
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Self::Tcp(stream)
            }
            Proto::Udp => {
                let socket = UdpSocket::from(bound(SocketType::DGRAM, target, buckets)?);
                socket.connect(target)?;
                socket.set_nonblocking(true)?;
                Self::Udp(socket)
            }
        };
        Ok(socket)
    }

    fn send(&mut self, message: &[u8]) -> IoResult<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(message),
            Self::Udp(socket) => socket.send(message).map(drop),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Udp(socket) => socket.recv(buffer),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// A flow and the request it waits for.
struct Flow {
    target: SocketAddr,
    socket: Socket,
    next: u64,
    /// When the request now on its way was sent.
    waiting: Option<Instant>,
    /// What has come of its answer.
    answer: [u8; RESPONSE],
    have: usize,
    /// From one request to the next.
    interval: Duration,
}

struct Engine {
    proto: Proto,
    short: bool,
    epoll: OwnedFd,
    flows: Vec<Flow>,
    /// When each idle flow sends next.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    counters: Arc<Counters>,
}

impl Client {
    /// Sends until the control socket is told to stop, and then until nothing is on its way.
    pub fn run(&self, control: &Path) -> Result<()> {
        let counters = Arc::new(Counters::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let mut engine = Engine::connect(self, Arc::clone(&counters))?;
        let stop = Arc::clone(&stopping);
        let engine = thread::spawn(move || engine.run(&stop));
        let engine = Mutex::new(Some(engine));
        let stats = || control::json(&counters.stats());
        let command = |command: &str| match command {
            "stats" => stats(),
            other => bail!("unknown command {other}"),
        };
        let finish = || {
            stopping.store(true, Ordering::Relaxed);
            let engine = engine.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(Err(_)) = engine.map(thread::JoinHandle::join) {
                bail!("the sending thread failed");
            }
            stats()
        };
        control::answer(control, command, finish)
    }
}

impl Engine {
    fn connect(client: &Client, counters: Arc<Counters>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let start = Instant::now();
        let count = u32::try_from(client.flows).context("too many flows")?;
        let weight = |index: u32| f64::from(index + 1).powf(-client.skew);
        let weights: f64 = (0..count).map(weight).sum();
        let (mut flows, mut due) = (Vec::new(), BinaryHeap::new());
        ensure!(
            client.apart.is_none() || count <= MOST_FLOWS,
            "{count} flows are too many for a bucket each"
        );
        let mut buckets = client.apart.as_deref().map(Buckets::new).transpose()?;
        for (index, &target) in client.targets.iter().cycle().take(client.flows).enumerate() {
            let socket = Socket::connect(client.proto, target, client.short, buckets.as_mut())
                .with_context(|| format!("cannot connect to {target}"))?;
            let token = EventData::new_u64(index as u64);
            epoll::add(&epoll, socket.as_fd(), token, EventFlags::IN)?;
            let turn = u32::try_from(index).context("too many flows")?;
            let rate = f64::from(client.rate.max(1)) * weight(turn) / weights;
            let interval = Duration::from_secs_f64(1.0 / rate);
            flows.push(Flow::new(target, socket, interval));
            // Spread over the interval, so that the load is even from the start.
            due.push(Reverse((start + interval * turn / count, index)));
        }
        Ok(Self { proto: client.proto, short: client.short, epoll, flows, due, counters })
    }

    fn run(&mut self, stopping: &AtomicBool) -> Result<()> {
        let mut events = Vec::with_capacity(64);
        let mut overdue_check = Instant::now();
        loop {
            let stop = stopping.load(Ordering::Relaxed);
            if stop && self.flows.iter().all(|flow| flow.waiting.is_none()) {
                return Ok(());
            }
            if !stop {
                self.send_what_is_due()?;
            }
            let now = Instant::now();
            if now > overdue_check + Duration::from_millis(500) {
                overdue_check = now;
                self.give_up_overdue(now)?;
            }
            let next = self.due.peek().filter(|_| !stop);
            let wait = next.map_or(Duration::from_millis(50), |Reverse((due, _))| {
                due.saturating_duration_since(now).min(Duration::from_millis(50))
            });
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            for event in events.drain(..) {
                self.receive(usize::try_from(event.data.u64())?)?;
            }
        }
    }

    fn send_what_is_due(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(&Reverse((due, index))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            let flow = &mut self.flows[index];
            let mut request = [0; REQUEST];
            set_number(&mut request, flow.next);
            flow.waiting = Some(now);
            add(&self.counters.sent);
            if flow.socket.send(&request).is_err() {
                self.fail(index)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let flow = &mut self.flows[index];
        let complete = flow.receive();
        match (complete, flow.waiting) {
            (Ok(false), _) => Ok(()),
            (Ok(true), Some(sent)) if number(&flow.answer) == Some(flow.next) => {
                flow.next += 1;
                flow.waiting = None;
                add(&self.counters.answered);
                // Late answers do not make a flow catch up in a burst.
                let next = (sent + flow.interval).max(Instant::now());
                self.due.push(Reverse((next, index)));
                if self.short { self.renew(index) } else { Ok(()) }
            }
            _ => self.fail(index),
        }
    }

    fn give_up_overdue(&mut self, now: Instant) -> Result<()> {
        for index in 0..self.flows.len() {
            if self.flows[index].waiting.is_some_and(|sent| now > sent + PATIENCE) {
                self.fail(index)?;
            }
        }
        Ok(())
    }

    /// Closes a connection that has served, and makes the one for the next request.
    fn renew(&mut self, index: usize) -> Result<()> {
        let flow = &mut self.flows[index];
        epoll::delete(&self.epoll, flow.socket.as_fd())?;
        match Socket::connect(self.proto, flow.target, self.short, None) {
            Ok(socket) => {
                let token = EventData::new_u64(index as u64);
                epoll::add(&self.epoll, socket.as_fd(), token, EventFlags::IN)?;
                let next = flow.next;
                *flow = Flow::new(flow.target, socket, flow.interval);
                flow.next = next;
                Ok(())
            }
            // Refused: a request that could not even be made.
            Err(error) => {
                add(&self.counters.failed);
                Err(error)
            }
        }
    }

    /// Counts a failure and starts the flow anew.
    fn fail(&mut self, index: usize) -> Result<()> {
        add(&self.counters.failed);
        let flow = &mut self.flows[index];
        epoll::delete(&self.epoll, flow.socket.as_fd())?;
        let idle = flow.waiting.is_none();
        let socket = Socket::connect(self.proto, flow.target, self.short, None);
        let socket = socket.with_context(|| format!("cannot connect to {} again", flow.target))?;
        add(&self.counters.reconnects);
        let token = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, socket.as_fd(), token, EventFlags::IN)?;
        let interval = flow.interval;
        *flow = Flow::new(flow.target, socket, interval);
        if !idle {
            self.due.push(Reverse((Instant::now() + interval, index)));
        }
        Ok(())
    }
}

impl Flow {
    fn new(target: SocketAddr, socket: Socket, interval: Duration) -> Self {
        Self { target, socket, next: 0, waiting: None, answer: [0; RESPONSE], have: 0, interval }
    }

    /// Takes what has come; true when an answer is complete.
    fn receive(&mut self) -> IoResult<bool> {
        match self.socket.receive(&mut self.answer[self.have..]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                self.have = (self.have + got) % RESPONSE;
                Ok(self.have == 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
