//! The answering end of the status socket.
//!
//! It has a thread of its own, beside the control loop: no answer waits for a window's work, and no
//! window for an answer. The thread gives up every right that the daemon has left: it reads what
//! strangers send. Whatever a client does, little is taken of the machine: a window is put into words once however
//! often it is asked for; a client has a time to ask and a time to take its answer; and there are only
//! so many at once. Root and the daemon's own user have their own places, which the configured group
//! cannot take away.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::CapabilitySet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::model::Sample;
use crate::report::Status;
use crate::report::socket::{MOST_REQUEST_BYTES, PATIENCE, Refusal, Request, path_of, sockets};
use crate::sys::{caps, peer};

/// What a client may take of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, for root and for the group each.
    pub clients: usize,
    /// Answers on their way at once, for each. A client that reads slowly holds on to the window that
    /// it was given, and a window with all flows is megabytes.
    pub answers: usize,
    /// Time for the request. It is one write: a client that needs longer plays for time.
    pub request: Duration,
    /// Time for taking the answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 32,
            answers: 4,
            request: Duration::from_secs(5),
            answer: Duration::from_secs(10),
        }
    }
}

/// Users whose refusal is logged; further ones are many names of one nuisance.
const MOST_LOGGED: usize = 16;

/// One window, to be put into words when first asked for: with and without all flows once each, however
/// many ask.
#[derive(Debug)]
pub struct Window {
    status: Status,
    /// Where its flows are, and since when they count.
    flows: Option<(Arc<Sample>, u64)>,
    brief: OnceLock<Bytes>,
    full: OnceLock<Bytes>,
}

impl Window {
    /// Of a status without the lists of all flows.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status, flows: None, brief: OnceLock::new(), full: OnceLock::new() }
    }

    /// With the flows of `sample` that were consumed after `since_ns`, for who asks. The sample is kept
    /// as it is: most windows are never asked about.
    #[must_use]
    pub fn with_flows_of(self, sample: Arc<Sample>, since_ns: u64) -> Self {
        Self { flows: Some((sample, since_ns)), ..self }
    }

    fn text(&self, flows: bool) -> Bytes {
        if flows {
            return self.full.get_or_init(|| line(&self.full())).clone();
        }
        self.brief.get_or_init(|| line(&self.status)).clone()
    }

    /// The status with all flows.
    fn full(&self) -> Status {
        let mut status = self.status.clone();
        let Some((sample, since_ns)) = &self.flows else { return status };
        for nic in &mut status.nics {
            let named = sample.nics.iter().find(|sampled| sampled.nic.name == nic.name);
            if let Some(named) = named {
                nic.add_flows(&sample.flows, named.nic.ifindex, *since_ns);
            }
        }
        status
    }
}

/// The latest window, once there is one.
pub type Published = watch::Receiver<Option<Arc<Window>>>;

/// A bound socket whose file goes with it.
#[derive(Debug)]
pub struct Server {
    listener: StdListener,
    path: PathBuf,
    gate: Gate,
}

impl Server {
    /// Binds the socket of this process, after clearing away those of dead ones. It is for root, the
    /// own user and the members of `group`.
    pub fn bind(runtime_dir: &Path, group: Option<u32>, limits: Limits) -> anyhow::Result<Self> {
        prepare(runtime_dir, group)
            .with_context(|| format!("cannot use {}", runtime_dir.display()))?;
        for path in sockets(runtime_dir)? {
            if is_dead(&path) {
                // One that cannot be cleared away is in nobody's way but that of its own number.
                if let Err(error) = fs::remove_file(&path) {
                    log::debug!("{} stays: {error}", path.display());
                }
            }
        }
        let path = path_of(runtime_dir, std::process::id());
        let listener =
            StdListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        listener.set_nonblocking(true)?;
        let server = Self { listener, path, gate: Gate::new(group, limits) };
        // Whoever connects before the mode is set is looked at all the same when accepted.
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(&server.path, Permissions::from_mode(mode))?;
        give_to(&server.path, group)?;
        Ok(server)
    }

    /// Answers until dropped.
    pub async fn serve(&self, published: Published) {
        let listener = match self.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                log::warn!("the status socket is not served: {error}");
                return std::future::pending().await;
            }
        };
        // accept() yields to the rest of the program after a while even if clients keep coming
        // (tokio's cooperative budget).
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.gate.receive(stream, &published),
                Err(error) => {
                    log::warn!("cannot answer on the status socket: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// The thread that answers; it ends when this is dropped.
#[derive(Debug)]
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Begins to answer for `server` with what is published.
    pub fn begin(server: Server, published: Published) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let answer = move || {
            // Capabilities are a thread's own.
            if let Err(error) = caps::settle(CapabilitySet::empty(), CapabilitySet::empty()) {
                log::debug!("the thread that answers keeps its rights: {error}");
            }
            runtime.block_on(async {
                tokio::select! {
                    () = server.serve(published) => {}
                    // Dropped or sent, it is the end.
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("steer-status".to_owned()).spawn(answer)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the thread that answers `steer status` ended by a panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left behind it would be cleared away by the next daemon.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the directory, or looks whether it is safe: where others may write they could put a socket
/// of their own in this one's place.
fn prepare(dir: &Path, group: Option<u32>) -> anyhow::Result<()> {
    match fs::metadata(dir) {
        Ok(found) => {
            let mode = found.permissions().mode();
            let (others_write, sticky) = (mode & 0o002 != 0, mode & 0o1000 != 0);
            ensure!(
                sticky || !others_write,
                "everybody may write there (mode {:o}): take that away (`chmod o-w`)",
                mode & 0o7777
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mode = if group.is_some() { 0o750 } else { 0o700 };
            DirBuilder::new().recursive(true).mode(mode).create(dir)?;
            give_to(dir, group)
        }
        Err(error) => Err(error.into()),
    }
}

fn give_to(path: &Path, group: Option<u32>) -> anyhow::Result<()> {
    let Some(group) = group else { return Ok(()) };
    chown(path, None, Some(group)).with_context(|| {
        format!(
            "cannot give {} to group {group} (`run.group`); that needs CAP_CHOWN, or a user that is \
             in the group",
            path.display()
        )
    })
}

/// Whether nobody listens any more. Not by a connect that waits: a daemon with a full backlog lives.
fn is_dead(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let Ok(address) = SocketAddrUnix::new(path) else { return false };
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .is_ok_and(|socket| connect(&socket, &address) == Err(Errno::CONNREFUSED))
}

/// Places for one kind of client.
#[derive(Debug)]
struct Places {
    clients: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Places {
    fn new(limits: &Limits) -> Self {
        Self {
            clients: Arc::new(Semaphore::new(limits.clients)),
            answers: Arc::new(Semaphore::new(limits.answers)),
        }
    }
}

/// Who is let in, and how many.
#[derive(Debug)]
struct Gate {
    limits: Limits,
    own: u32,
    group: Option<u32>,
    trusted: Places,
    members: Places,
    logged: RefCell<Vec<u32>>,
}

impl Gate {
    fn new(group: Option<u32>, limits: Limits) -> Self {
        Self {
            limits,
            own: rustix::process::geteuid().as_raw(),
            group,
            trusted: Places::new(&limits),
            members: Places::new(&limits),
            logged: RefCell::default(),
        }
    }

    /// Begins to answer a client, or turns it away.
    fn receive(&self, stream: UnixStream, published: &Published) {
        let places = match self.places_for(&stream) {
            Ok(places) => places,
            Err(why) => return turn_away(stream, &why),
        };
        let Ok(place) = Arc::clone(&places.clients).try_acquire_owned() else {
            let why =
                format!("{} clients are being answered already: try again", self.limits.clients);
            return turn_away(stream, &why);
        };
        let answers = Arc::clone(&places.answers);
        let (published, limits) = (published.clone(), self.limits);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, published, &answers, limits).await {
                log::debug!("a status reader went away: {error}");
            }
            drop(place);
        });
    }

    fn places_for(&self, stream: &UnixStream) -> Result<&Places, String> {
        let peer = peer::of(stream.as_fd()).map_err(|error| error.to_string())?;
        if peer.uid == 0 || peer.uid == self.own {
            return Ok(&self.trusted);
        }
        let member = self.group.is_some_and(|group| {
            peer.gid == group || peer::has_group(stream.as_fd(), group) == Ok(true)
        });
        if member {
            return Ok(&self.members);
        }
        self.log_once(peer);
        Err(format!(
            "user {} may not ask: root may, and the members of `run.group` in the configuration",
            peer.uid
        ))
    }

    fn log_once(&self, peer: peer::Peer) {
        let mut logged = self.logged.borrow_mut();
        if logged.len() < MOST_LOGGED && !logged.contains(&peer.uid) {
            logged.push(peer.uid);
            log::warn!(
                "process {} of user {} was turned away from the status socket; further attempts of \
                 this user are not logged",
                peer.pid,
                peer.uid
            );
        }
    }
}

/// Says why and closes. What does not fit into the socket's buffer at once is not said.
fn turn_away(stream: UnixStream, why: &str) {
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(&refusal(why)));
}

async fn converse(
    mut stream: UnixStream,
    mut published: Published,
    answers: &Semaphore,
    limits: Limits,
) -> io::Result<()> {
    let request = match timeout(limits.request, read_request(&mut stream)).await {
        Ok(request) => request?,
        Err(_) => Err(format!("no request within {:?}", limits.request)),
    };
    // The first window of a daemon that has just started is not over yet: wait for it.
    if request.is_ok() {
        let first = timeout(PATIENCE, published.wait_for(Option::is_some)).await;
        if !matches!(first, Ok(Ok(_))) {
            return Ok(());
        }
    }
    // The window is taken with the turn: who waits holds none.
    let _turn = answers.acquire().await.map_err(io::Error::other)?;
    let answer = match request {
        Ok(Request::Status { flows }) => {
            let window = published.borrow().clone();
            window.map(|window| window.text(flows)).unwrap_or_default()
        }
        Err(why) => refusal(&why),
    };
    timeout(limits.answer, stream.write_all(&answer)).await.map_err(io::Error::other)?
}

/// The request, or why it is none.
async fn read_request(stream: &mut UnixStream) -> io::Result<Result<Request, String>> {
    let mut bytes = BytesMut::with_capacity(256);
    while !bytes.contains(&b'\n') {
        if bytes.len() > MOST_REQUEST_BYTES {
            return Ok(Err(format!("a request has at most {MOST_REQUEST_BYTES} bytes")));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(Err("the request does not end with a line end".to_owned()));
        }
    }
    let line = bytes.as_ref().split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Request::parse(line))
}

fn refusal(why: &str) -> Bytes {
    line(&Refusal { error: why.to_owned() })
}

fn line(document: &impl serde::Serialize) -> Bytes {
    // What cannot be put into words is said to be so; our own types can.
    let mut bytes = serde_json::to_vec(document)
        .unwrap_or_else(|_| br#"{"error":"the answer cannot be written as JSON"}"#.to_vec());
    bytes.push(b'\n');
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests;
