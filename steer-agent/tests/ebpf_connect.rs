//! The connect program on real connections over a pair of virtual interfaces.
//!
//! veth has no RSS: what is checked is that the port which a connection got makes its reply hash into
//! a bucket of the wanted CPU, by the plain Toeplitz hash. That a NIC follows it is for the lab.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

#[path = "ebpf/support.rs"]
mod support;

#[path = "ebpf/cgroup.rs"]
mod cgroup;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use steer_agent::{
    apply::connect::{Connect, Tables},
    model::{
        CpuSet, Distance, Flow, FlowAddr, HashFields, Nic, NicSample, NicWorld, Queue, Rss, RssKey,
        Sample, Topology, World,
        connect::{HashModel, Near, Pool},
        flow_hash,
    },
    observe::kernel::{HashSource, connect_fields},
    report::{ConnectState, ConnectStatus, NicState},
    run::connect::{Connects, Now},
    sys::{Machine, netns},
};
use steer_common::{
    connect::{Outcome, ROUTE_LEAVE, ROUTE_STEER, ROUTE_UNKNOWN, Route},
    toeplitz,
};

use cgroup::Group;
use support::{HERE_V4, HERE_V6, THERE_V4, THERE_V6, Wire};

const BUCKETS: u32 = 128;
/// So few that each leads to some of a range of 64 ports.
const FEW_BUCKETS: u32 = 8;
/// Connections that are open to one destination at once.
const CONNECTIONS: u64 = 300;
const SECRET: u64 = 0x0123_4567_89ab_cdef;
/// As a NIC with a hash of its own might begin.
const INITIAL: u32 = 0x35;

fn key() -> Vec<u8> {
    (0..40u8).map(|byte| byte.wrapping_mul(151).wrapping_add(29)).collect()
}

/// Everything that a test of connections needs.
struct Lab {
    wire: Wire,
    group: Group,
    connect: Connect,
    cpus: u32,
}

impl Lab {
    /// Loads and attaches the program in a namespace of its own, switched off; the calling thread goes
    /// there.
    fn new(name: &str) -> Self {
        let wire = Wire::new(name, 1);
        let group = Group::join();
        wire.enter_here();
        let cpus = u32::try_from(aya::util::nr_cpus().expect("told")).expect("few");
        let (knobs, _) = connect_fields().expect("readable");
        let cookie = netns::cookie().expect("told");
        let mut connect = Connect::load(knobs, 1, cpus, BUCKETS, cookie, SECRET).expect("loads");
        println!("verified instructions: {:?}", connect.verified_instructions());
        connect.attach(group.open().directory()).expect("attaches");
        Self { wire, group, connect, cpus }
    }

    /// Tells the program of a NIC with as many queues as there are CPUs, one each.
    fn tell(&mut self, pool: &Pool, buckets: u32) -> Near {
        let table: Vec<u32> = (0..buckets).map(|bucket| bucket % self.cpus).collect();
        let polled: BTreeMap<u32, u32> = (0..self.cpus).map(|cpu| (cpu, cpu)).collect();
        let topology = Topology::regular(1, self.cpus, 1);
        let near = Near::new(&table, &polled, &topology, Distance::SameCore);
        let model = HashModel { key: key(), initial: INITIAL };
        let ports = pool.steerable();
        let tables = Tables::new(&model, buckets, [true; 2], near.clone(), &ports, SECRET);
        self.connect.tell(0, &tables.expect("a good key")).expect("written");
        self.connect.switch(true, false).expect("written");
        near
    }

    /// Answers the program's question, which a first connection put, as the agent would.
    fn answer(&mut self, local: IpAddr, verdict: u32) {
        let open: Vec<_> = self
            .connect
            .routes()
            .expect("readable")
            .into_iter()
            .filter(|(_, route)| route.verdict == ROUTE_UNKNOWN)
            .collect();
        assert!(!open.is_empty(), "the program has asked");
        for (key, _) in open {
            let local = mapped(local).octets();
            let route = Route { verdict, slot: 0, local };
            self.connect.set_route(&key, route).expect("written");
        }
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.connect.counts().expect("readable").total(outcome)
    }

    /// The first connection to a destination is left alone, and the program asks for the way.
    fn introduce(&mut self, remote: SocketAddr, local: &str) {
        let before = self.count(Outcome::Unknown);
        TcpStream::connect(remote).expect("connects");
        assert_eq!(self.count(Outcome::Unknown), before + 1);
        self.answer(local.parse().expect("an address"), ROUTE_STEER);
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A listener on the peer's side that never accepts, which connecting does not need.
fn listener(wire: &Wire, address: &str) -> (TcpListener, SocketAddr) {
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| {
            wire.enter_there();
            TcpListener::bind((address, 0)).expect("an address of that side")
        });
        let listener = listener.join().expect("listens");
        // All of a test's connections wait in it.
        rustix::net::listen(&listener, 4096).expect("listens");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    })
}

/// The bucket that a reply hashes into, by the hash of the bytes as they stand in it.
fn bucket(local: SocketAddr, remote: SocketAddr) -> u32 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => {
            v6.to_ipv4_mapped().map_or(v6.octets().to_vec(), |v4| v4.octets().to_vec())
        }
    };
    let input = [
        octets(remote.ip()),
        octets(local.ip()),
        remote.port().to_be_bytes().to_vec(),
        local.port().to_be_bytes().to_vec(),
    ];
    (toeplitz::hash(&key(), &input.concat()).expect("a hash") ^ INITIAL) & (BUCKETS - 1)
}

fn pool() -> Pool {
    Pool::parse("32768 60999", "33001-33999").expect("valid")
}

#[test]
fn replies_hash_to_the_cpu_that_connects() {
    if !support::may_load() {
        return;
    }
    let mut lab = Lab::new("cn");
    let near = lab.tell(&pool(), BUCKETS);
    for (there, here) in [(THERE_V4, HERE_V4), (THERE_V6, HERE_V6)] {
        let (_listener, remote) = listener(&lab.wire, there);
        lab.introduce(remote, here);
        for cpu in 0..lab.cpus {
            support::pin(cpu as usize);
            let before = lab.count(Outcome::Steered);
            let streams: Vec<TcpStream> =
                (0..CONNECTIONS).map(|_| TcpStream::connect(remote).expect("connects")).collect();
            let mut ports = BTreeSet::new();
            for stream in &streams {
                let local = stream.local_addr().expect("connected");
                let span = near.spans[cpu as usize];
                let wanted = &near.buckets[span.start as usize..][..span.length as usize];
                let bucket = bucket(local, remote);
                assert!(wanted.contains(&bucket), "{local}: bucket {bucket} is not CPU {cpu}'s");
                assert_eq!(local.ip().to_string(), here);
                assert!(pool().steerable().contains(&local.port()), "{local}");
                ports.insert(local.port());
            }
            assert_eq!(ports.len() as u64, CONNECTIONS, "no port twice to one destination");
            assert_eq!(lab.count(Outcome::Steered) - before, CONNECTIONS);
            let recent = lab.connect.recent().expect("readable");
            let last = recent.iter().max_by_key(|steered| steered.at_ns).expect("remembered");
            let local = streams.last().expect("some").local_addr().expect("connected");
            assert_eq!(
                (last.cpu, last.local_port, last.remote_port),
                (cpu, local.port(), remote.port())
            );
            assert_eq!(last.bucket, bucket(local, remote));
        }
    }
    assert_eq!(lab.count(Outcome::InUse) + lab.count(Outcome::Held) + lab.count(Outcome::Torn), 0);
}

#[test]
fn an_ipv4_destination_of_an_ipv6_socket_is_an_ipv4_connection() {
    if !support::may_load() {
        return;
    }
    let mut lab = Lab::new("map");
    let near = lab.tell(&pool(), BUCKETS);
    let (_listener, remote) = listener(&lab.wire, THERE_V4);
    let as_v6 = SocketAddr::new(mapped(remote.ip()).into(), remote.port());
    support::pin(0);
    lab.introduce(as_v6, HERE_V4);
    for _ in 0..50 {
        let stream = TcpStream::connect(as_v6).expect("connects");
        let local = stream.local_addr().expect("connected");
        let wanted = &near.buckets[near.spans[0].start as usize..][..near.spans[0].length as usize];
        assert!(wanted.contains(&bucket(local, remote)), "{local}");
    }
    assert_eq!(lab.count(Outcome::Steered), 50);
}

/// Connects a socket that was prepared before.
fn connect_prepared(
    remote: SocketAddr,
    prepare: impl FnOnce(&rustix::fd::OwnedFd),
) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    prepare(&socket);
    connect(&socket, &remote)?;
    Ok(TcpStream::from(socket))
}

/// Connects with options that no library here knows, by number: level, option, value. `bound` is an
/// address to bind to first, with port 0. Perl is part of every Debian.
fn connect_by_perl(
    remote: SocketAddr,
    bound: &str,
    options: &[(u32, u32, &str)],
) -> Result<SocketAddr, String> {
    const SCRIPT: &str = r#"
        my ($host, $port, $bound, @options) = @ARGV;
        socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
        while (my ($level, $option, $value) = splice(@options, 0, 3)) {
            my $bytes = $value =~ /^\d+$/ ? pack("L", $value) : "$value\0";
            setsockopt($s, $level, $option, $bytes) or die "setsockopt $option: $!";
        }
        if ($bound) { bind($s, pack_sockaddr_in(0, inet_aton($bound))) or die "bind: $!"; }
        connect($s, pack_sockaddr_in($port, inet_aton($host))) or die "connect: $!";
        my ($own, $address) = unpack_sockaddr_in(getsockname($s));
        print inet_ntoa($address), ":", $own;
    "#;
    let mut perl = std::process::Command::new("perl");
    perl.args(["-MSocket", "-e", SCRIPT]);
    perl.args([remote.ip().to_string(), remote.port().to_string(), bound.to_owned()]);
    for (level, option, value) in options {
        perl.args([level.to_string(), option.to_string(), (*value).to_owned()]);
    }
    let output = perl.output().expect("perl");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() {
        Ok(text(output.stdout).parse().expect("an address"))
    } else {
        Err(text(output.stderr))
    }
}

const SOL_IP: u32 = 0;
const SOL_SOCKET: u32 = 1;
const IP_BIND_ADDRESS_NO_PORT: u32 = 24;
const IP_LOCAL_PORT_RANGE: u32 = 51;
const SO_BINDTODEVICE: u32 = 25;

#[test]
fn what_the_program_has_chosen_stays() {
    if !support::may_load() {
        return;
    }
    let mut lab = Lab::new("own");
    let (_listener, remote) = listener(&lab.wire, THERE_V4);
    lab.introduce(remote, HERE_V4);
    // Off until it is told of a NIC.
    TcpStream::connect(remote).expect("connects");
    assert_eq!(lab.count(Outcome::Off), 1);
    lab.tell(&pool(), BUCKETS);

    let here: IpAddr = HERE_V4.parse().expect("an address");
    let bound = connect_prepared(remote, |socket| {
        bind(socket, &SocketAddr::new(here, 45_678)).expect("a free port");
    });
    assert_eq!(bound.expect("connects").local_addr().expect("connected").port(), 45_678);
    assert_eq!((lab.count(Outcome::Bound), lab.count(Outcome::Steered)), (1, 0));

    connect_by_perl(remote, "", &[(SOL_SOCKET, SO_BINDTODEVICE, support::NIC)]).expect("connects");
    assert_eq!(lab.count(Outcome::Device), 1);

    // A range of its own (6.3): 50000 to 50009.
    let range = ((50_009u32 << 16) + 50_000).to_string();
    match connect_by_perl(remote, "", &[(SOL_IP, IP_LOCAL_PORT_RANGE, &range)]) {
        Ok(local) => {
            assert!((50_000..=50_009).contains(&local.port()), "{local}");
            assert_eq!(lab.count(Outcome::OwnRange), 1);
        }
        Err(why) => assert!(why.contains("not available"), "{why}"),
    }
    assert_eq!(lab.count(Outcome::Steered), 0);

    // Datagrams, and this host.
    let datagrams = std::net::UdpSocket::bind((HERE_V4, 0)).expect("a port");
    datagrams.connect(remote).expect("connects");
    assert_eq!(lab.count(Outcome::NotTcp), 1);
    let own = TcpListener::bind("127.0.0.1:0").expect("a port");
    TcpStream::connect(own.local_addr().expect("bound")).expect("connects");
    lab.answer(here, ROUTE_LEAVE);
    TcpStream::connect(own.local_addr().expect("bound")).expect("connects");
    assert_eq!(lab.count(Outcome::Elsewhere), 1);

    // Detached, connections are made as ever.
    let before = lab.count(Outcome::Steered);
    TcpStream::connect(remote).expect("connects");
    assert_eq!(lab.count(Outcome::Steered), before + 1);
    lab.connect.detach();
    TcpStream::connect(remote).expect("connects");
    assert_eq!(lab.count(Outcome::Steered), before + 1);
    let again = lab.group.open();
    lab.connect.attach(again.directory()).expect("attaches");
    TcpStream::connect(remote).expect("connects");
    assert_eq!(lab.count(Outcome::Steered), before + 2);
}

#[test]
fn a_bound_address_stays_and_gets_a_port() {
    if !support::may_load() {
        return;
    }
    let mut lab = Lab::new("src");
    let near = lab.tell(&pool(), BUCKETS);
    let second = "192.0.2.77";
    lab.wire.here(&format!("ip address add {second}/24 dev {}", support::NIC));
    let (_listener, remote) = listener(&lab.wire, THERE_V4);
    support::pin(0);
    let no_port = [(SOL_IP, IP_BIND_ADDRESS_NO_PORT, "1")];
    connect_by_perl(remote, second, &no_port).expect("connects");
    lab.answer(second.parse().expect("an address"), ROUTE_STEER);
    for _ in 0..20 {
        let local = connect_by_perl(remote, second, &no_port).expect("connects");
        assert_eq!(local.ip().to_string(), second);
        let wanted = &near.buckets[near.spans[0].start as usize..][..near.spans[0].length as usize];
        assert!(wanted.contains(&bucket(local, remote)), "{local}");
    }
    assert_eq!(lab.count(Outcome::Steered), 20);
    // Where the steerable ports are all held by others, the address is still there.
    let tiny = Pool { range: (40_000, 40_007), ..Pool::default() };
    lab.tell(&tiny, FEW_BUCKETS);
    let held: Vec<TcpListener> = tiny
        .steerable()
        .into_iter()
        .map(|port| TcpListener::bind((second, port)).expect("a free port"))
        .collect();
    let local = connect_by_perl(remote, second, &no_port).expect("connects");
    assert_eq!(local.ip().to_string(), second);
    assert!(held.iter().all(|held| held.local_addr().expect("bound").port() != local.port()));
    assert_eq!(lab.count(Outcome::Steered), 20);
    assert_eq!(lab.count(Outcome::Crowded) + lab.count(Outcome::NoPort), 1);
}

/// Sets one for the namespace that the calling thread is in.
fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect("written");
}

/// How many connections to each of these can be open at once.
fn fill(remotes: &[SocketAddr]) -> (Vec<usize>, Vec<TcpStream>) {
    let mut all = Vec::new();
    let counts = remotes
        .iter()
        .map(|remote| {
            let streams: Vec<TcpStream> = std::iter::from_fn(|| match TcpStream::connect(remote) {
                Ok(stream) => Some(stream),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
                    None
                }
            })
            .collect();
            let count = streams.len();
            all.extend(streams);
            count
        })
        .collect();
    (counts, all)
}

#[test]
fn a_range_that_is_used_up_keeps_half_for_plain_connects() {
    if !support::may_load() {
        return;
    }
    let mut lab = Lab::new("tiny");
    sysctl("ip_local_port_range", "40000 40063");
    sysctl("tcp_tw_reuse", "0");
    let tiny = Pool { range: (40_000, 40_063), reserved: BTreeSet::new() };
    let listeners: Vec<_> = (0..3).map(|_| listener(&lab.wire, THERE_V4)).collect();
    let remotes: Vec<SocketAddr> = listeners.iter().map(|(_, remote)| *remote).collect();
    support::pin(0);
    let (plain, streams) = fill(&remotes);
    assert_eq!(plain, [64, 64, 64], "plain connect shares each port between destinations");
    reset(streams);

    lab.tell(&tiny, FEW_BUCKETS);
    lab.answer(HERE_V4.parse().expect("an address"), ROUTE_STEER);
    let (steered, streams) = fill(&remotes);
    println!("connections by destination: {steered:?}, plain: {plain:?}");
    assert_eq!(steered[0], plain[0], "to one destination nothing is lost");
    // A steered port serves other destinations too, but only those connections that are steered.
    assert!(steered[1..].iter().all(|count| *count >= 48), "{steered:?}");
    assert!(lab.count(Outcome::Steered) > 0);
    assert!(lab.count(Outcome::Crowded) > 0);
    reset(streams);
}

/// Closes without TIME-WAIT.
fn reset(streams: Vec<TcpStream>) {
    for stream in streams {
        let now = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&stream, now).expect("set");
    }
}

#[test]
fn connections_in_time_wait_are_passed_over_until_the_kernel_would_reuse_them() {
    if !support::may_load() {
        return;
    }
    let mut lab = Lab::new("tw");
    sysctl("ip_local_port_range", "40000 40063");
    sysctl("tcp_tw_reuse", "0");
    let tiny = Pool { range: (40_000, 40_063), reserved: BTreeSet::new() };
    lab.tell(&tiny, FEW_BUCKETS);
    let (listener, remote) = listener(&lab.wire, THERE_V4);
    support::pin(0);
    lab.introduce(remote, HERE_V4);
    drop(listener.accept().expect("there"));
    // This end closes first, and keeps the TIME-WAIT. False where no port is left.
    let spend = || match TcpStream::connect(remote) {
        Ok(stream) => {
            stream.shutdown(std::net::Shutdown::Both).expect("closes");
            drop(listener.accept().expect("there"));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
            false
        }
    };
    // As many as plain connect has ports, one of which the first connection took.
    assert_eq!((0..64).filter(|_| spend()).count(), 63);
    let steered = lab.count(Outcome::Steered);
    assert!(steered > 0 && lab.count(Outcome::InUse) > 0, "{steered}");
    assert_eq!(lab.count(Outcome::TimeWait), 0);
    // `tcp_tw_reuse=1`: over a second later they are taken over, like by plain connects.
    sysctl("tcp_tw_reuse", "1");
    lab.connect.switch(true, true).expect("written");
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while lab.count(Outcome::TimeWait) == 0 {
        assert!(std::time::Instant::now() < give_up, "no TIME-WAIT is taken over");
        std::thread::sleep(std::time::Duration::from_millis(200));
        spend();
    }
    assert!(lab.count(Outcome::Steered) > steered);
}

/// A NIC with as many queues as there are CPUs, as it would be read.
fn nic(ifindex: u32, cpus: u32) -> Nic {
    let queue = |id| Queue {
        id,
        irq: Some(40 + id),
        affinity: Some(CpuSet::from_iter([id])),
        effective: Some(CpuSet::from_iter([id])),
        ..Queue::default()
    };
    Nic {
        name: support::NIC.to_owned(),
        ifindex,
        up: true,
        rss: Some(Rss {
            table: (0..BUCKETS).map(|bucket| bucket % cpus).collect(),
            key: Some(RssKey { bytes: key(), from_driver: true }),
            ..Rss::default()
        }),
        queues: (0..cpus).map(queue).collect(),
        ..Nic::default()
    }
}

/// A flow as a NIC that hashes so would show it; `shift` moves its hash.
fn flow(nic: &Nic, local: SocketAddr, remote: SocketAddr, at_ns: u64, shift: u32) -> Flow {
    let bucket = bucket(local, remote) ^ shift;
    let queue = nic.rss.as_ref().expect("has").table[bucket as usize];
    // All of the hash but the bucket is as computed without an initial value of more bits.
    let addr = FlowAddr { protocol: 6, local, remote };
    let plain = flow_hash(&key(), &addr, HashFields::default()).expect("a hash");
    Flow {
        addr,
        ifindex: Some(nic.ifindex),
        queue: Some(queue),
        hash: Some(plain ^ INITIAL ^ shift),
        hash_computed: false,
        softirq_cpu: Some(queue),
        protocol_cpu: Some(queue),
        consumer_cpu: queue,
        consumed: 1,
        mismatched: 0,
        consumer_moves: 0,
        first_ns: at_ns,
        last_ns: at_ns,
        pid: None,
        comm: String::new(),
    }
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).expect("positive") * 1_000_000_000
        + u64::try_from(now.tv_nsec).expect("positive")
}

/// What the daemon does once a period, with flows made by hand where a NIC would show them.
struct Ticks {
    connects: Connects,
    nic: Nic,
    topology: Topology,
}

impl Ticks {
    fn tick(&mut self, flows: Vec<Flow>) -> ConnectStatus {
        let sample = Sample {
            at_ns: now_ns(),
            topology: self.topology.clone(),
            nics: vec![NicSample { nic: self.nic.clone(), ..NicSample::default() }],
            flows,
            ..Sample::default()
        };
        let nic = NicWorld { nic: self.nic.clone(), ..NicWorld::default() };
        let world = World { nics: vec![nic], ..World::default() };
        let of_nics = [(support::NIC.to_owned(), NicState::Steering)];
        let say = |line: &str| println!("{line}");
        let now = Now { world: &world, sample: &sample, states: &of_nics, wrote: false, say: &say };
        self.connects.tick(&now);
        let status = self.connects.status().pop().expect("one cgroup");
        println!("{}", status.text());
        status
    }
}

#[test]
fn the_hash_is_learned_then_steered_by_then_watched() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("day", 1);
    let group = Group::join();
    let (_listener, remote) = listener(&wire, THERE_V4);
    wire.enter_here();
    let cpus = u32::try_from(aya::util::nr_cpus().expect("told")).expect("few");
    if cpus < 2 {
        println!("skipped: with one CPU there is nothing to choose");
        return;
    }
    let ifindex = wire.nic(1, HashSource::Unknown).ifindex;
    let nic = nic(ifindex, cpus);
    let machine = Machine::open().expect("open");
    let say = |line: &str| println!("{line}");
    let cgroup = group.open().path().display().to_string();
    let nowhere = Connects::begin(&machine, &["steer-nowhere".to_owned()], &[], &say);
    let error = format!("{:#}", nowhere.expect_err("there is none"));
    assert!(error.contains("steer-nowhere"), "{error}");
    let connects =
        Connects::begin(&machine, &[cgroup], std::slice::from_ref(&nic), &say).expect("begins");
    let mut ticks = Ticks { connects, nic, topology: Topology::regular(1, cpus, 1) };

    // Nothing was seen yet.
    assert_eq!(ticks.tick(Vec::new()).state, ConnectState::Calibrating);
    support::pin(1);
    TcpStream::connect(remote).expect("connects");
    // Sixteen flows show the hash, and the first destination is found.
    let here: IpAddr = HERE_V4.parse().expect("an address");
    let some: Vec<Flow> = (0..16)
        .map(|n| flow(&ticks.nic, SocketAddr::new(here, 9000 + n), remote, now_ns(), 0))
        .collect();
    let status = ticks.tick(some);
    assert_eq!(status.state, ConnectState::Steering);
    assert_eq!(status.destinations.len(), 1);
    assert_eq!(status.destinations[0].local, Some(here));

    let connect = |count: usize| -> Vec<SocketAddr> {
        let make = |_| TcpStream::connect(remote).and_then(|stream| stream.local_addr());
        (0..count).map(|n| make(n).expect("connects")).collect()
    };
    let steered = connect(40);
    assert!(steered.iter().all(|local| bucket(*local, remote) % cpus == 1), "{steered:?}");
    let shown: Vec<Flow> =
        steered.iter().map(|local| flow(&ticks.nic, *local, remote, now_ns(), 0)).collect();
    let status = ticks.tick(shown);
    assert_eq!((status.steered, status.predicted, status.missed), (40, 40, 0));
    assert_eq!(status.hit_rate, Some(1.0));

    // An interrupt moves: the next connection goes by that.
    let swapped = |cpu: u32| Some(CpuSet::from_iter([cpu]));
    ticks.nic.queues[0].affinity = swapped(1);
    ticks.nic.queues[1].affinity = swapped(0);
    ticks.tick(Vec::new());
    let steered = connect(10);
    assert!(steered.iter().all(|local| bucket(*local, remote).is_multiple_of(cpus)), "{steered:?}");

    // The NIC begins to hash by something else: steering stops.
    let steered = connect(40);
    let shown: Vec<Flow> =
        steered.iter().map(|local| flow(&ticks.nic, *local, remote, now_ns(), 1)).collect();
    let status = ticks.tick(shown);
    assert_eq!(status.state, ConnectState::Resting, "{status:?}");
    assert!(status.missed >= 32, "{status:?}");
    let before = status.steered;
    connect(5);
    let status = ticks.tick(Vec::new());
    assert_eq!((status.steered, status.left_alone["off"]), (before, 5));
}
