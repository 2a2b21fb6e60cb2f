//! Accept steering over a pair of virtual interfaces: pinned workers, each with a listener of its own,
//! and clients whose CPU decides where a connection arrives.
//!
//! A packet over veth is processed on the CPU that sent it, so that a client on a CPU is a queue on that
//! CPU. Nothing waits for time to pass: each test makes connections, and looks when they are served.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

#[path = "ebpf/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use steer_agent::apply::Trust;
use steer_agent::apply::listener::{ListenerJournal, ListenerRestoration};
use steer_agent::model::listener::{Holder, Life, ListeningSocket};
use steer_agent::observe::kernel::accept::{AcceptSide, Chooser};
use steer_agent::report::accept::Mechanism;
use steer_agent::run::accept::{Accept, AcceptOptions, JournalPlace};
use steer_agent::sys::Root;
use steer_agent::sys::listener::{LiveSockets, Sockets as _, with_socket};
use steer_common::accept::ABANDONED_NS;
use support::{HERE_V4, HERE_V6, Wire};

/// A worker: a thread on one CPU, or wherever the scheduler likes, with a listener of its own.
struct Worker {
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// A listener that shares its port.
fn listener(address: SocketAddr) -> TcpListener {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd =
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("set");
    sockopt::set_socket_reuseport(&socket, true).expect("set");
    bind(&socket, &address).expect("an address of this side");
    listen(&socket, 128).expect("listens");
    TcpListener::from(socket)
}

impl Worker {
    fn start(wire: &Wire, address: SocketAddr, cpu: Option<usize>) -> Self {
        let here = wire.here_name().to_owned();
        let (served, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&served), Arc::clone(&stop));
        let (ready, listening) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            support::enter(&here);
            if let Some(cpu) = cpu {
                support::pin(cpu);
            }
            let listener = listener(address);
            ready.send(listener.local_addr().expect("bound")).expect("the test waits");
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let mut stream = stream.expect("a client");
                let mut request = [0; 8];
                if stream.read_exact(&mut request).is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&request).expect("an answer");
                }
            }
        });
        let address = listening.recv().expect("it listens");
        Self { served, stop, address, thread: Some(thread) }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Ends it: its listener is closed. `cpu` is where connections come to it from.
    fn end(mut self, wire: &Wire, cpu: usize) {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("it runs");
        // The kernel chooses who is woken by a connection, so that more than one may be needed.
        while !thread.is_finished() {
            wire.at_far_end(|| {
                support::pin(cpu);
                let _ = TcpStream::connect(self.address).map(drop);
            });
        }
        thread.join().expect("it ends");
    }
}

/// Makes so many connections one after the other, each a request and its answer, from `cpu`.
fn connect(wire: &Wire, to: SocketAddr, cpu: usize, connections: usize) {
    wire.at_far_end(|| {
        support::pin(cpu);
        for _ in 0..connections {
            let mut stream = TcpStream::connect(to).expect("it is never refused");
            stream.write_all(&[7; 8]).expect("a request");
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).expect("an answer");
        }
    });
}

fn start(wire: &Wire, port: u16) -> Accept {
    wire.enter_here();
    start_by(wire, port, None, Path::new("/nonexistent"))
}

fn start_by(wire: &Wire, port: u16, by: Option<Mechanism>, state_dir: &Path) -> Accept {
    wire.enter_here();
    let options = AcceptOptions { ports: BTreeSet::from([port]), by };
    let interfaces = BTreeSet::from([wire.nic_index()]);
    let journal = JournalPlace { state_dir, nic: "nic0", boot_id: "this boot" };
    let say = |line: &str| println!("{line}");
    Accept::start(&options, &Root::default(), interfaces, journal, &say).expect("steers")
}

fn tick(accept: &mut Accept) {
    accept.tick(None, &|line| println!("{line}")).expect("looks");
}

/// Serves enough connections for where each worker lives to be learned.
fn learn(wire: &Wire, accept: &mut Accept, to: SocketAddr, cpus: usize) {
    for _ in 0..4 {
        for cpu in 0..cpus {
            connect(wire, to, cpu, 16);
        }
        tick(accept);
    }
}

fn may_run() -> bool {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("skipped: one CPU has nobody to steer between");
        return false;
    }
    support::may_load()
}

#[test]
fn connections_come_to_the_worker_of_the_cpu_where_they_arrive() {
    if !may_run() {
        return;
    }
    for (port, here) in [(9001, HERE_V4), (9002, HERE_V6)] {
        let wire = Wire::new(&format!("accept{port}"), 1);
        let to = SocketAddr::new(here.parse::<IpAddr>().expect("an address"), port);
        let workers: Vec<Worker> = (0..2).map(|cpu| Worker::start(&wire, to, Some(cpu))).collect();
        let mut accept = start(&wire, port);
        assert_eq!(accept.sockets().count(), 2);
        learn(&wire, &mut accept, to, 2);
        let report = accept.report().remove(0);
        assert_eq!((report.sockets, &report.reason), (2, &None));
        let lives: BTreeMap<Option<u32>, Life> =
            report.workers.iter().map(|worker| (worker.tid, worker.life.clone())).collect();
        let lives: BTreeSet<Option<u32>> = lives.values().map(Life::home).collect();
        assert_eq!(lives, BTreeSet::from([Some(0), Some(1)]), "learned");
        for cpu in 0..2 {
            let before: Vec<u64> = workers.iter().map(Worker::served).collect();
            connect(&wire, to, cpu, 200);
            let served: Vec<u64> = workers
                .iter()
                .zip(before)
                .map(|(worker, before)| worker.served() - before)
                .collect();
            println!("CPU {cpu}: {served:?}");
            // A worker's share is 1.3 halves, and half of what is left to the hash: with all
            // connections on one CPU the other worker is not left out.
            assert_eq!(served.iter().sum::<u64>(), 200);
            assert!(served[cpu] >= 190, "{served:?}");
        }
        tick(&mut accept);
        let report = accept.report().remove(0);
        println!("{report:#?}");
        assert!(report.aligned.expect("seen") > 0.95);
    }
}

/// What each of `workers` serves while something is done.
fn served(workers: &[Worker], act: impl FnOnce()) -> Vec<u64> {
    let before: Vec<u64> = workers.iter().map(Worker::served).collect();
    act();
    workers.iter().zip(before).map(|(worker, before)| worker.served() - before).collect()
}

fn pair(wire: &Wire, to: SocketAddr) -> Vec<Worker> {
    (0..2).map(|cpu| Worker::start(wire, to, Some(cpu))).collect()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(HERE_V4.parse::<IpAddr>().expect("an address"), port)
}

#[test]
fn a_hot_cpu_does_not_drown_its_worker() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("accepthot", 1), at(9011));
    let workers = pair(&wire, to);
    let mut accept = start(&wire, 9011);
    learn(&wire, &mut accept, to, 2);
    // All arrive on CPU 0 from now on; a look between, as there is four times a second.
    for _ in 0..4 {
        connect(&wire, to, 0, 100);
        tick(&mut accept);
    }
    let served = served(&workers, || connect(&wire, to, 0, 1000));
    println!("{served:?}");
    // 1.3 halves are 650; what is left to the hash is thrown 700 times, 110 are eight deviations.
    assert!(served[0] < 760, "{served:?}");
    assert!(served[0] > 540, "{served:?}");
    tick(&mut accept);
    let report = accept.report().remove(0);
    assert!(report.outcomes.over_share > 500, "{report:?}");
}

#[test]
fn a_worker_that_ends_and_one_that_comes_are_followed() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("acceptreload", 1), at(9012));
    let mut workers = pair(&wire, to);
    let mut accept = start(&wire, 9012);
    learn(&wire, &mut accept, to, 2);
    // Its CPU has no worker now: all are served by the other, none is refused.
    workers.remove(0).end(&wire, 0);
    let left = served(&workers, || connect(&wire, to, 0, 50));
    assert_eq!(left, [50]);
    tick(&mut accept);
    assert_eq!(accept.sockets().count(), 1);
    // A new one on that CPU is learned and steered to.
    workers.insert(0, Worker::start(&wire, to, Some(0)));
    tick(&mut accept);
    learn(&wire, &mut accept, to, 2);
    for cpu in 0..2 {
        let served = served(&workers, || connect(&wire, to, cpu, 100));
        assert!(served[cpu] >= 95, "CPU {cpu}: {served:?}");
    }
}

#[test]
fn connections_of_this_host_are_left_to_the_kernel() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("acceptlo", 1), at(9013));
    let workers = pair(&wire, to);
    let mut accept = start(&wire, 9013);
    learn(&wire, &mut accept, to, 2);
    tick(&mut accept);
    accept.report();
    // From CPU 0 of this very host, over loopback: by hash, and in no count.
    let served = served(&workers, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                wire.enter_here();
                support::pin(0);
                for _ in 0..64 {
                    let mut stream = TcpStream::connect(to).expect("it listens");
                    stream.write_all(&[7; 8]).expect("a request");
                    stream.read_exact(&mut [0; 8]).expect("an answer");
                }
            });
        });
    });
    assert_eq!(served.iter().sum::<u64>(), 64);
    assert!(served[1] > 8, "{served:?}: one in 2^38 times by chance");
    tick(&mut accept);
    let report = accept.report().remove(0);
    assert_eq!((report.outcomes.total(), report.connections_per_s), (0, 0.0));
}

#[test]
fn without_the_agent_the_kernel_chooses_again() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("acceptend", 1), at(9014));
    let workers = pair(&wire, to);
    let mut accept = start(&wire, 9014);
    learn(&wire, &mut accept, to, 2);
    let steered = served(&workers, || connect(&wire, to, 0, 100));
    assert_eq!(steered, [100, 0]);
    drop(accept);
    let by_hash = served(&workers, || connect(&wire, to, 0, 100));
    assert_eq!(by_hash.iter().sum::<u64>(), 100);
    assert!(by_hash[1] > 15, "{by_hash:?}: seven deviations from half");
}

#[test]
fn a_new_listener_on_the_very_address_has_its_connections_at_once() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("acceptexact", 1), at(9015));
    let any = SocketAddr::new("0.0.0.0".parse().expect("an address"), 9015);
    let workers = pair(&wire, any);
    let mut accept = start(&wire, 9015);
    learn(&wire, &mut accept, to, 2);
    assert_eq!(served(&workers, || connect(&wire, to, 0, 50)), [50, 0]);
    // Nobody has looked since it began to listen.
    let exact = [Worker::start(&wire, to, Some(1))];
    assert_eq!(served(&exact, || connect(&wire, to, 0, 50)), [50]);
    // And once somebody has, it is still its own.
    tick(&mut accept);
    assert_eq!(served(&exact, || connect(&wire, to, 0, 50)), [50]);
}

#[test]
fn the_option_of_the_sockets_steers_and_is_put_back() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("acceptcpu", 1), at(9016));
    let workers = pair(&wire, to);
    let dir = tempfile::tempdir().expect("a directory");
    let mut accept = start_by(&wire, 9016, Some(Mechanism::IncomingCpu), dir.path());
    learn(&wire, &mut accept, to, 2);
    tick(&mut accept);
    for cpu in 0..2 {
        let served = served(&workers, || connect(&wire, to, cpu, 200));
        // One in 64 goes on to be tried, half of them elsewhere.
        assert!(served[cpu] >= 185, "CPU {cpu}: {served:?}");
    }
    // Killed: the option stays with its socket, harmless, and the journal knows it.
    let sockets = LiveSockets::new(Root::default());
    let listening: Vec<_> = accept.sockets().cloned().collect();
    let options = || -> BTreeSet<Option<u32>> {
        let option = |socket: &ListeningSocket| {
            // A child that was just forked has it too, until it starts its program.
            let holders = sockets.holders(socket);
            let told = |holder| sockets.incoming_cpu(holder, socket.cookie).ok();
            holders.iter().find_map(told).expect("told")
        };
        listening.iter().map(option).collect()
    };
    drop(accept);
    assert_eq!(options(), BTreeSet::from([Some(0), Some(1)]));
    let journal = ListenerJournal::open(dir.path(), "nic0", "this boot", sockets.netns());
    let outcome = journal.expect("opened").restore(&sockets, None, Trust::OwnOnly).expect("done");
    assert_eq!((outcome.restored, outcome.open.len()), (2, 0));
    assert_eq!(options(), BTreeSet::from([None]));
}

/// Whose program each listener's group has, by the listener's cookie.
fn programs(wire: &Wire) -> BTreeMap<u64, u32> {
    wire.enter_here();
    let mut side = AcceptSide::start(Chooser::Lookup).expect("loads");
    side.group_programs().expect("this kernel tells")
}

/// What `steer restore` does about sockets.
fn restore(wire: &Wire, dir: &Path) -> ListenerRestoration {
    let programs = programs(wire);
    let sockets = LiveSockets::new(Root::default());
    let journal = ListenerJournal::open(dir, "nic0", "this boot", sockets.netns());
    journal.expect("opened").restore(&sockets, Some(&programs), Trust::OwnOnly).expect("done")
}

/// Somebody's own program in the group of these sockets.
fn attach_another(wire: &Wire, port: u16) -> AcceptSide {
    wire.enter_here();
    let other = AcceptSide::start(Chooser::Group).expect("loads");
    let sockets = LiveSockets::new(Root::default());
    let listening = sockets.listening().expect("told");
    let socket = listening.iter().find(|one| one.endpoint.port == port).expect("listens");
    let holders: Vec<Holder> = sockets.holders(socket);
    with_socket(&holders[0], socket.cookie, |fd| other.attach_to_group(fd))
        .expect("duplicated")
        .expect("attached");
    other
}

const BY_GROUP: Option<Mechanism> = Some(Mechanism::Reuseport);

#[test]
fn a_program_in_the_group_steers_and_is_taken_out() {
    if !may_run() {
        return;
    }
    for (port, here) in [(9017, HERE_V4), (9018, HERE_V6)] {
        let wire = Wire::new(&format!("group{port}"), 1);
        let to = SocketAddr::new(here.parse::<IpAddr>().expect("an address"), port);
        let mut workers = pair(&wire, to);
        let dir = tempfile::tempdir().expect("a directory");
        let mut accept = start_by(&wire, port, BY_GROUP, dir.path());
        learn(&wire, &mut accept, to, 2);
        for cpu in 0..2 {
            let served = served(&workers, || connect(&wire, to, cpu, 200));
            assert!(served[cpu] >= 190, "CPU {cpu}: {served:?}");
        }
        let report = accept.report().remove(0);
        assert_eq!((report.mechanism, &report.reason), (BY_GROUP, &None));
        // A member that ends leaves its CPU to the hash; one that comes is steered to after one look.
        workers.remove(0).end(&wire, 0);
        assert_eq!(served(&workers, || connect(&wire, to, 0, 50)), [50]);
        workers.insert(0, Worker::start(&wire, to, Some(0)));
        tick(&mut accept);
        learn(&wire, &mut accept, to, 2);
        let steered = served(&workers, || connect(&wire, to, 0, 100));
        assert!(steered[0] >= 95, "{steered:?}");
        // Killed: it stays, chooses nobody once the agent has not looked for a while, and refuses nobody.
        drop(accept);
        assert_eq!(programs(&wire).len(), 2);
        thread::sleep(Duration::from_nanos(ABANDONED_NS + 100_000_000));
        let by_hash = served(&workers, || connect(&wire, to, 0, 100));
        assert_eq!(by_hash.iter().sum::<u64>(), 100);
        assert!(by_hash[1] > 15, "{by_hash:?}: seven deviations from half");
        // The next one takes over: it puts its own in the place of the one that was left.
        let mut accept = start_by(&wire, port, BY_GROUP, dir.path());
        // Not every socket can be taken in before the other's is gone; each look tries again.
        let mut steered = Vec::new();
        for _ in 0..20 {
            learn(&wire, &mut accept, to, 2);
            steered = served(&workers, || connect(&wire, to, 0, 100));
            if steered[0] >= 95 {
                break;
            }
        }
        assert!(steered[0] >= 95, "{steered:?}");
        drop(accept);
        let outcome = restore(&wire, dir.path());
        assert_eq!((outcome.programs, outcome.open.len()), (1, 0), "{outcome:?}");
        assert!(programs(&wire).is_empty());
        assert!(!ListenerJournal::exists(dir.path(), "nic0"));
    }
}

#[test]
fn a_program_of_its_own_is_never_replaced() {
    if !may_run() {
        return;
    }
    for by in [None, BY_GROUP] {
        let port = if by.is_none() { 9019 } else { 9020 };
        let (wire, to) = (Wire::new(&format!("foreign{port}"), 1), at(port));
        let workers = pair(&wire, to);
        let other = attach_another(&wire, port);
        let own: BTreeSet<u32> = BTreeSet::from([other.member_program_id().expect("told")]);
        let dir = tempfile::tempdir().expect("a directory");
        let mut accept = start_by(&wire, port, by, dir.path());
        learn(&wire, &mut accept, to, 2);
        let report = accept.report().remove(0);
        assert!(report.reason.expect("left alone").contains("of its own"));
        assert_eq!(report.mechanism, None);
        let by_hash = served(&workers, || connect(&wire, to, 0, 100));
        assert!(by_hash[1] > 15, "{by_hash:?}: seven deviations from half");
        drop(accept);
        assert_eq!(
            programs(&wire).into_values().collect::<BTreeSet<_>>(),
            own,
            "it is still there"
        );
        assert!(!ListenerJournal::exists(dir.path(), "nic0"), "nothing was noted");
    }
}

#[test]
fn whoever_puts_in_a_program_later_has_the_group() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("contested", 1), at(9021));
    let workers = pair(&wire, to);
    let dir = tempfile::tempdir().expect("a directory");
    let mut accept = start_by(&wire, 9021, BY_GROUP, dir.path());
    learn(&wire, &mut accept, to, 2);
    assert_eq!(served(&workers, || connect(&wire, to, 0, 50)), [50, 0]);
    let other = attach_another(&wire, 9021);
    for _ in 0..4 {
        tick(&mut accept);
    }
    let report = accept.report().remove(0);
    assert!(report.reason.expect("left alone").contains("somebody else"));
    drop(accept);
    // It is not taken out by steer's end, either.
    let outcome = restore(&wire, dir.path());
    assert_eq!((outcome.programs, outcome.settled, outcome.open.len()), (0, 1, 0), "{outcome:?}");
    let own = other.member_program_id().expect("told");
    assert!(programs(&wire).into_values().all(|program| program == own));
    assert_eq!(served(&workers, || connect(&wire, to, 0, 50)).iter().sum::<u64>(), 50);
}

/// Somebody without rights.
const STRANGER: u32 = 61_234;

#[test]
fn another_user_gets_into_no_group_and_at_nothing_of_the_agents() {
    if !may_run() {
        return;
    }
    let (wire, to) = (Wire::new("stranger", 1), at(9022));
    let workers = pair(&wire, to);
    let mut accept = start(&wire, 9022);
    learn(&wire, &mut accept, to, 2);
    // A thread may always look at its own process, so that root's other one is taken.
    let comm = "root's".to_owned();
    let holder = Holder { pid: std::os::unix::process::parent_id(), fd: 0, comm };
    thread::scope(|scope| {
        scope.spawn(|| {
            wire.enter_here();
            let stranger = Uid::from_raw(STRANGER);
            set_thread_res_uid(stranger, stranger, stranger).expect("root may");
            // Not a socket beside the steered ones, nor one that is met in their place.
            let any = SocketAddr::new("0.0.0.0".parse().expect("an address"), 9022);
            for address in [to, any] {
                let socket = socket_with(
                    AddressFamily::INET,
                    SocketType::STREAM,
                    SocketFlags::CLOEXEC,
                    None,
                )
                .expect("a socket");
                sockopt::set_socket_reuseport(&socket, true).expect("set");
                assert_eq!(bind(&socket, &address), Err(Errno::ADDRINUSE));
            }
            // Not a descriptor of another process, nor the agent's programs and maps.
            let duplicate = with_socket(&holder, 1, |_| ());
            assert_eq!(duplicate.expect_err("not his").errno(), Some(Errno::PERM));
            assert!(aya::programs::loaded_programs().next().expect("asked").is_err());
            assert!(aya::maps::loaded_maps().next().expect("asked").is_err());
        });
    });
    // A port of his own that nobody named is not followed.
    tick(&mut accept);
    assert_eq!(accept.sockets().count(), 2);
    assert_eq!(served(&workers, || connect(&wire, to, 0, 50)), [50, 0]);
}

#[test]
fn listeners_on_any_address_of_both_families_are_steered_for_either() {
    if !may_run() {
        return;
    }
    let wire = Wire::new("acceptdual", 1);
    let any = SocketAddr::new("::".parse().expect("an address"), 9023);
    let workers = pair(&wire, any);
    for by in [None, BY_GROUP] {
        for here in [HERE_V4, HERE_V6] {
            let to = SocketAddr::new(here.parse::<IpAddr>().expect("an address"), 9023);
            let dir = tempfile::tempdir().expect("a directory");
            let mut accept = start_by(&wire, 9023, by, dir.path());
            learn(&wire, &mut accept, to, 2);
            for cpu in 0..2 {
                let served = served(&workers, || connect(&wire, to, cpu, 100));
                assert!(served[cpu] >= 95, "{by:?}, {here}, CPU {cpu}: {served:?}");
            }
            drop(accept);
            assert!(restore(&wire, dir.path()).open.is_empty());
        }
    }
}
