//! Clients as they should be, and as they should not. Times that a test waits for are limits that
//! were made short; how long something takes is never judged.

use std::collections::VecDeque;
use std::io::Read as _;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use tokio::sync::watch::Sender;

use super::*;
use crate::model::World;
use crate::report::socket::ask;
use crate::report::{NicStatus, Source};

/// So long a test may take before it has failed.
const FOREVER: Duration = Duration::from_mins(1);

const SHORT: Duration = Duration::from_millis(200);

fn status(missing: String) -> Status {
    let mut status = Status::new(Source::Daemon, &World::default(), Vec::<NicStatus>::new());
    status.missing.push(missing);
    status
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

/// A server with a window, in a directory of its own.
struct Bench {
    dir: tempfile::TempDir,
    server: Server,
    publish: Sender<Option<Arc<Window>>>,
    /// How often the loop came round.
    rounds: AtomicUsize,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(limits: Limits, window: Status) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = runtime();
        let server = {
            let _inside = runtime.enter();
            Server::bind(dir.path(), None, limits).expect("bound")
        };
        let (publish, _) = watch::channel(Some(Arc::new(Window::new(window))));
        Self { dir, server, publish, rounds: AtomicUsize::new(0), runtime }
    }

    fn path(&self) -> PathBuf {
        path_of(self.dir.path(), std::process::id())
    }

    /// Serves while `clients` runs in a thread, with a loop beside it as that of `run`; returns what
    /// the clients did.
    fn during<T: Send>(&self, clients: impl FnOnce(&Path) -> T + Send) -> T {
        let path = self.path();
        thread::scope(|scope| {
            let clients = scope.spawn(move || clients(&path));
            self.runtime.block_on(async {
                let serving = self.server.serve(self.publish.subscribe());
                tokio::pin!(serving);
                let mut ticks = tokio::time::interval(Duration::from_millis(10));
                let round = async {
                    while !clients.is_finished() {
                        tokio::select! {
                            biased;
                            _ = ticks.tick() => { self.rounds.fetch_add(1, Ordering::Relaxed); }
                            () = &mut serving => {}
                        }
                    }
                };
                timeout(FOREVER, round).await.expect("the clients come to an end");
            });
            clients.join().expect("the clients fail nowhere")
        })
    }
}

fn connect_to(path: &Path) -> StdStream {
    let stream = StdStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(FOREVER)).expect("set");
    stream
}

/// What the server says to `bytes`. It may close before it has read all of them.
fn say(path: &Path, bytes: &[u8]) -> Value {
    let mut stream = connect_to(path);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    read(&mut stream)
}

fn read(stream: &mut StdStream) -> Value {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}

const ASK: &[u8] = b"{\"command\":\"status\"}\n";

#[test]
fn only_root_and_the_group_reach_the_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = runtime();
    let _inside = runtime.enter();
    let runtime_dir = dir.path().join("steer");
    let path = path_of(&runtime_dir, std::process::id());
    drop(Server::bind(&runtime_dir, None, Limits::default()).expect("bound"));
    assert_eq!(mode(&runtime_dir), 0o700);
    assert!(!path.exists(), "it goes with the server");

    let server = Server::bind(&runtime_dir, None, Limits::default()).expect("bound");
    assert_eq!(mode(&path), 0o600);
    drop(server);

    let group = rustix::process::getegid().as_raw();
    let shared = dir.path().join("shared");
    let path = path_of(&shared, std::process::id());
    let server = Server::bind(&shared, Some(group), Limits::default()).expect("bound");
    assert_eq!((mode(&shared), mode(&path)), (0o750, 0o660));
    drop(server);

    fs::set_permissions(&shared, Permissions::from_mode(0o777)).expect("set");
    let error = Server::bind(&shared, None, Limits::default()).expect_err("not there");
    assert!(format!("{error:#}").contains("everybody may write there (mode 777)"), "{error:#}");
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).expect("set");
    Server::bind(&shared, None, Limits::default()).expect("as in /tmp nobody can take its place");
}

#[test]
fn dead_sockets_are_cleared_away_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = runtime();
    let _inside = runtime.enter();
    // The one of this number: in a container every daemon may be process 1.
    let own = path_of(dir.path(), std::process::id());
    let (dead, alive) = (path_of(dir.path(), 1), path_of(dir.path(), 2));
    let (file, other) = (path_of(dir.path(), 3), dir.path().join("other.sock"));
    for path in [&own, &dead, &other] {
        drop(std::os::unix::net::UnixListener::bind(path).expect("bound"));
    }
    let listener = std::os::unix::net::UnixListener::bind(&alive).expect("bound");
    // A full backlog is no death.
    let flags = SocketFlags::NONBLOCK;
    let address = SocketAddrUnix::new(&alive).expect("short");
    rustix::net::listen(&listener, 0).expect("smaller");
    let mut waiting = Vec::new();
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        if connect(&socket, &address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    fs::write(&file, "").expect("written");
    let server = Server::bind(dir.path(), None, Limits::default()).expect("bound");
    assert!(!dead.exists());
    assert!(own.exists() && alive.exists() && other.exists());
    drop(server);
    assert!(!own.exists());
}

#[test]
fn one_line_is_answered_and_everything_else_is_told_why() {
    let bench = Bench::new(Limits { request: SHORT, ..Limits::default() }, status("x".to_owned()));
    bench.during(|path| {
        assert_eq!(say(path, ASK)["missing"][0], "x");
        assert_eq!(say(path, b"{\"command\":\"status\",\"flows\":true}\nmore")["missing"][0], "x");
        let long = vec![b'x'; 1 << 20];
        let garbage: Vec<u8> = (0..2000_u32).map(|at| (at.wrapping_mul(97) % 251) as u8).collect();
        for (bytes, why) in [
            (&b"{\"command\":\"reboot\"}\n"[..], "unknown request: unknown variant"),
            // Whose connections are steered is for whoever starts it to say.
            (b"{\"command\":\"accept\",\"ports\":[22]}\n", "unknown request: unknown variant"),
            (b"\n", "unknown request"),
            (b"\xff\xfe\0\n", "unknown request"),
            (b"{\"command\":\"status\"}", "does not end with a line end"),
            (b"", "does not end with a line end"),
            (&long, "at most 4096 bytes"),
            (&garbage, "unknown request"),
        ] {
            let answer = say(path, bytes);
            let error = answer["error"].as_str().unwrap_or_default();
            assert!(error.contains(why), "{why}: {answer}");
        }
        let mut nested = vec![b'['; 4000];
        nested.push(b'\n');
        assert!(say(path, &nested)["error"].is_string(), "no depth of JSON ends the daemon");
    });
}

#[test]
fn a_client_that_asks_byte_by_byte_is_cut_off() {
    let bench = Bench::new(Limits { request: SHORT, ..Limits::default() }, status("x".to_owned()));
    let answers = bench.during(|path| {
        let mut slow: Vec<StdStream> = (0..8).map(|_| connect_to(path)).collect();
        // Until the first write fails, as it does once the server has closed.
        'all: for at in 0.. {
            for stream in &mut slow {
                if stream.write_all(&ASK[at % 8..=at % 8]).is_err() {
                    break 'all;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(say(path, ASK)["missing"][0], "x", "others are answered meanwhile");
        slow.iter_mut().map(read).collect::<Vec<Value>>()
    });
    for answer in answers {
        assert!(answer["error"].as_str().unwrap_or_default().contains("no request"), "{answer}");
    }
}

#[test]
fn a_client_that_never_reads_its_answer_is_cut_off() {
    let limits = Limits { answer: SHORT, ..Limits::default() };
    let text = "x".repeat(4 << 20);
    let bench = Bench::new(limits, status(text.clone()));
    bench.during(|path| {
        let mut idle: Vec<StdStream> = (0..limits.clients).map(|_| connect_to(path)).collect();
        for stream in &mut idle {
            // The one that comes too late is turned away.
            let _ = stream.write_all(ASK);
        }
        // All places are taken, and come free again though none of them ever reads.
        let answer = loop {
            let answer = say(path, ASK);
            if !answer["missing"][0].is_null() {
                break answer;
            }
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(answer["missing"][0], *text);
        let mut rest = Vec::new();
        let _ = idle[0].read_to_end(&mut rest);
        assert!(rest.len() < text.len(), "what did not fit into the socket was given up");
    });
}

#[test]
fn a_window_is_put_into_words_once() {
    let window = Window::new(status("x".to_owned()));
    assert_eq!(window.text(true).as_ptr(), window.text(true).as_ptr());
    assert_eq!(window.text(false).as_ptr(), window.text(false).as_ptr());
}

#[test]
fn flows_are_listed_for_who_asks_and_for_nobody_else() {
    use crate::model::testkit::crossed_sample;
    use crate::plan::Plan;
    use crate::report::NicState;
    let (first, second) = (crossed_sample(1), crossed_sample(2));
    let world = World::between(&first, &second, first.at_ns);
    let nic = NicStatus::new(&world, &world.nics[0], &Plan::default(), NicState::Observing, None);
    let status = Status::new(Source::Daemon, &world, vec![nic]);
    let window = Window::new(status).with_flows_of(Arc::new(second), first.at_ns);
    let document = |flows| -> Value { serde_json::from_slice(&window.text(flows)).expect("JSON") };
    assert_eq!(document(true)["nics"][0]["flows"].as_array().map(Vec::len), Some(16));
    assert_eq!(document(false)["nics"][0]["flows"], Value::Null);
}

#[test]
fn thousands_of_connections_do_not_hold_up_the_loop() {
    const MANY: usize = 5000;
    const ROUNDS: usize = 50;
    let bench = Bench::new(Limits::default(), status("x".to_owned()));
    let rounds = &bench.rounds;
    let (made, refused) = bench.during(|path| {
        let (mut made, mut refused) = (0, 0);
        let mut held = VecDeque::new();
        // They say nothing, so each keeps its place for as long as it may.
        while made < MANY || rounds.load(Ordering::Relaxed) < ROUNDS {
            held.push_back(connect_to(path));
            made += 1;
            if held.len() > 200 {
                let mut oldest = held.pop_front().expect("one of them");
                oldest.set_nonblocking(true).expect("set");
                let answer = read(&mut oldest);
                let why = answer["error"].as_str().unwrap_or_default();
                refused += usize::from(why.contains("try again"));
            }
        }
        drop(held);
        // As soon as they let go there is room.
        while say(path, ASK)["missing"][0].is_null() {}
        (made, refused)
    });
    assert!(refused > 0, "of {made} none was turned away");
}

#[test]
fn the_asking_end_hears_why_it_is_turned_away() {
    let bench = Bench::new(Limits { clients: 0, ..Limits::default() }, status("x".to_owned()));
    let dir = bench.dir.path().to_owned();
    let error = bench.during(move |_| {
        runtime().block_on(ask(&dir, Request::Status { flows: false })).expect_err("no place")
    });
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("try again"), "{error}");
}

#[test]
fn the_first_window_is_waited_for() {
    let bench = Bench::new(Limits::default(), status("x".to_owned()));
    bench.publish.send_replace(None);
    let publish = bench.publish.clone();
    let answer = bench.during(move |path| {
        let mut early = connect_to(path);
        early.write_all(ASK).expect("asked");
        thread::sleep(SHORT);
        publish.send_replace(Some(Arc::new(Window::new(status("late".to_owned())))));
        read(&mut early)
    });
    assert_eq!(answer["missing"][0], "late");
}
