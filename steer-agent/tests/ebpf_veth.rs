//! The kernel side on real traffic over a pair of virtual interfaces: TCP and UDP consumption by
//! pinned readers, and the XDP observer.
//!
//! Nothing waits for time to pass: each test sends, receives what was sent, and then reads counters
//! that were raised before the receiver got it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

#[path = "ebpf/support.rs"]
mod support;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
};

use steer_agent::{
    model::{Flow, Matrix},
    observe::kernel::{HashSource, KernelReading, KernelSide, Observer, StartOptions, WatchedNic},
};
use steer_common::toeplitz;

use support::{HERE_V4, HERE_V6, HERE_VLAN, THERE_V4, THERE_V6, Wire};

/// One, because veth records no RX queue: what stands in its place is the sender's TX queue. How
/// several queues are told apart is for the lab's NICs to show.
const QUEUES: u32 = 1;
const ROUNDS: usize = 50;

fn key() -> Vec<u8> {
    (1..=40).collect()
}

fn computed() -> HashSource {
    HashSource::Computed { key: key(), fields: support::ports() }
}

/// Starts to observe the wire's interface; the calling thread goes to its side.
fn start(wire: &Wire, observer: Observer, upper_ifindexes: Vec<u32>) -> (KernelSide, WatchedNic) {
    wire.enter_here();
    let nic = WatchedNic { upper_ifindexes, ..wire.nic(QUEUES, computed()) };
    let options = StartOptions { observer, nics: vec![nic.clone()], ..StartOptions::default() };
    (KernelSide::start(&options).expect("attaches"), nic)
}

/// A request and its answer, again and again; the reader in question runs on `cpu`, on the
/// observed side. Returns the ends of the connection as that side sees them.
fn exchange(wire: &Wire, here: &str, cpu: usize) -> (SocketAddr, SocketAddr) {
    exchange_in(wire, || wire.enter_here(), here, cpu)
}

/// The same with a server that goes elsewhere.
fn exchange_in(
    wire: &Wire,
    enter: impl Fn() + Send + Copy,
    here: &str,
    cpu: usize,
) -> (SocketAddr, SocketAddr) {
    thread::scope(|scope| {
        let (port, listening) = mpsc::channel();
        let server = scope.spawn(move || {
            enter();
            support::pin(cpu);
            let listener = TcpListener::bind((here, 0)).expect("an address of this side");
            port.send(listener.local_addr().expect("bound").port()).expect("the client waits");
            let (mut stream, remote) = listener.accept().expect("the client comes");
            let mut request = [0; 64];
            for _ in 0..ROUNDS {
                stream.read_exact(&mut request).expect("a request");
                stream.write_all(&request).expect("an answer");
            }
            (stream.local_addr().expect("connected"), remote)
        });
        let client = scope.spawn(move || {
            wire.enter_there();
            let port = listening.recv().expect("the server tells");
            let mut stream = TcpStream::connect((here, port)).expect("the server listens");
            let mut answer = [0; 64];
            for _ in 0..ROUNDS {
                stream.write_all(&[7; 64]).expect("a request");
                stream.read_exact(&mut answer).expect("an answer");
            }
        });
        client.join().expect("the client ends");
        server.join().expect("the server ends")
    })
}

fn find<'a>(reading: &'a KernelReading, ends: &(SocketAddr, SocketAddr)) -> &'a Flow {
    let found = reading
        .flows
        .iter()
        .find(|flow| (flow.addr.local, flow.addr.remote) == *ends && flow.addr.protocol == 6);
    found.unwrap_or_else(|| panic!("{ends:?} is not in {reading:#?}"))
}

fn column(matrix: &Matrix, cpu: usize) -> u64 {
    (0..matrix.rows()).map(|row| matrix.get(row, cpu)).sum()
}

/// What the NIC would have hashed: from the far end to this one.
fn expected_hash(local: SocketAddr, remote: SocketAddr) -> u32 {
    let octets = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => v4.ip().octets().to_vec(),
        SocketAddr::V6(v6) => v6.ip().octets().to_vec(),
    };
    let input = [
        octets(remote),
        octets(local),
        remote.port().to_be_bytes().to_vec(),
        local.port().to_be_bytes().to_vec(),
    ]
    .concat();
    toeplitz::hash(&key(), &input).expect("the key is long enough")
}

#[test]
fn tcp_consumption_is_counted_where_it_happens() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("tcp", QUEUES);
    let (mut side, nic) = start(&wire, Observer::Tracing, Vec::new());
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    for here in [HERE_V4, HERE_V6] {
        for cpu in 0..cpus.min(2) {
            let before = side.read().expect("reads");
            let ends = exchange(&wire, here, cpu);
            let after = side.read().expect("reads");

            let flow = find(&after, &ends);
            println!("{flow:?}");
            assert_eq!(flow.ifindex, Some(nic.ifindex));
            assert_eq!(flow.consumer_cpu as usize, cpu);
            assert!(flow.consumed >= ROUNDS as u64);
            assert_eq!(flow.consumer_moves, 0);
            assert_eq!(flow.pid, Some(std::process::id()));
            assert!(flow.softirq_cpu.is_some() && flow.protocol_cpu.is_some());
            assert!(flow.queue.is_some_and(|queue| queue < QUEUES));
            assert_eq!(
                (flow.hash, flow.hash_computed),
                (Some(expected_hash(ends.0, ends.1)), true)
            );
            assert!(flow.first_ns <= flow.last_ns);

            let (old, new) = (&before.counters[0], &after.counters[0]);
            let consumed = new.queue_consumed.since(&old.queue_consumed);
            assert_eq!(consumed.total(), flow.consumed);
            assert_eq!(column(&consumed, cpu), flow.consumed, "all on the reader's CPU");
            let packets = new.queue_packets.since(&old.queue_packets);
            assert!(packets.total() >= ROUNDS as u64, "{packets:?}");
            let (old_demand, new_demand) = (old.demand.as_ref(), new.demand.as_ref());
            let demand = new_demand.expect("computed").since(old_demand.expect("computed"));
            let bucket = expected_hash(ends.0, ends.1) as usize & 127;
            assert_eq!(demand.get(bucket, cpu), flow.consumed, "in the flow's bucket");
            let by_napi = new.consumed_by_napi.since(&old.consumed_by_napi);
            assert_eq!(by_napi.total(), flow.consumed);
            let aligned: u64 = (0..by_napi.rows()).map(|row| by_napi.get(row, row)).sum();
            assert_eq!(by_napi.total() - aligned, flow.mismatched);
            assert_eq!(new.unattributed, old.unattributed);
        }
    }
}

#[test]
fn loopback_and_other_namespaces_are_not_counted() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("lo", QUEUES);
    let (mut side, _) = start(&wire, Observer::Tracing, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (mut server, _) = listener.accept().expect("the client");
    client.write_all(b"hello").expect("sent");
    server.read_exact(&mut [0; 5]).expect("received");
    // The peer's interface has the same index in its namespace if both were made alike; what it
    // reads must not count as ours.
    let reading = side.read().expect("reads");
    assert!(reading.flows.is_empty(), "{:?}", reading.flows);
    assert_eq!(reading.counters[0].queue_consumed.total(), 0);
    assert_eq!(reading.counters[0].unattributed, 0);
}

#[test]
fn both_observers_agree() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("both", QUEUES);
    let mut addresses = vec![HERE_V4, HERE_V6];
    let vlan = wire.add_vlan();
    match vlan {
        Some(_) => addresses.push(HERE_VLAN),
        None => println!("VLANs are left to the lab: this kernel has none"),
    }
    for here in addresses {
        for observer in [Observer::Tracing, Observer::Xdp] {
            let (mut side, nic) = start(&wire, observer, vlan.into_iter().collect());
            let ends = exchange(&wire, here, 0);
            let reading = side.read().expect("reads");
            let flow = find(&reading, &ends);
            println!("{observer:?}: {flow:?}");
            // The pair has one queue, so that both must name that, and the NIC behind the VLAN.
            assert_eq!((flow.ifindex, flow.queue), (Some(nic.ifindex), Some(0)));
            assert_eq!(flow.consumer_cpu, 0);
            assert!(flow.softirq_cpu.is_some());
            assert_eq!(flow.hash, Some(expected_hash(ends.0, ends.1)));
            let packets = reading.counters[0].queue_packets.total();
            assert!(packets >= ROUNDS as u64, "{packets}");
            if observer == Observer::Xdp {
                let received = side.received_flows().expect("reads");
                let same = received.iter().find(|received| received.addr == flow.addr);
                let same = same.unwrap_or_else(|| panic!("not in {received:#?}"));
                assert!(same.packets >= ROUNDS as u64 && same.packets <= packets);
                assert_eq!(Some(same.queue), flow.queue);
            }
        }
    }
}

#[test]
fn a_packet_is_counted_once_although_it_passes_a_bridge() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("bridge", QUEUES);
    wire.here("ip link add br0 type bridge");
    wire.here(&format!("ip address del {HERE_V4}/24 dev {}", support::NIC));
    wire.here(&format!("ip address add {HERE_V4}/24 dev br0"));
    wire.here(&format!("ip link set {} master br0", support::NIC));
    wire.here("ip link set br0 up");
    let index = wire.here("cat /sys/class/net/br0/ifindex");
    let bridge = index.trim().parse().expect("an interface index");
    let sent_before = sent(&wire);
    let (mut side, nic) = start(&wire, Observer::Tracing, vec![bridge]);
    let ends = exchange(&wire, HERE_V4, 0);
    let reading = side.read().expect("reads");
    assert_eq!(find(&reading, &ends).ifindex, Some(nic.ifindex));
    let counted = reading.counters[0].queue_packets.total();
    assert!(counted >= ROUNDS as u64 && counted <= sent(&wire) - sent_before, "{counted}");
}

/// The NIC's hash stands in for what a packet loses on its way into a container: veth packets carry
/// one, which their sender gave them (`skb_set_hash_from_sk`).
#[test]
fn what_a_container_consumes_is_the_nics() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("box", QUEUES);
    let container = wire.add_container("192.0.2.3");
    for hash in [HashSource::Reported, computed()] {
        wire.enter_here();
        let nic = wire.nic(QUEUES, hash.clone());
        let options = StartOptions { nics: vec![nic.clone()], ..StartOptions::default() };
        let mut side = KernelSide::start(&options).expect("attaches");
        let ends = exchange_in(&wire, || container.enter(), "192.0.2.3", 1);
        let reading = side.read().expect("reads");
        let consumed = reading.counters[0].queue_consumed.total();
        if hash == HashSource::Reported {
            let flow = find(&reading, &ends);
            println!("{flow:?}");
            assert_eq!((flow.ifindex, flow.queue), (Some(nic.ifindex), Some(0)));
            assert_eq!(flow.consumer_cpu, 1);
            assert!(flow.softirq_cpu.is_some() && flow.hash.is_some() && !flow.hash_computed);
            assert!(consumed >= ROUNDS as u64 && consumed == flow.consumed, "{consumed}");
        } else {
            // Packets whose hash nobody reports leave no trace of their queue, and none is invented.
            assert_eq!((reading.flows.len(), consumed), (0, 0));
        }
        assert_eq!(reading.counters[0].unattributed, 0);
    }
}

/// Packets that the peer has sent.
fn sent(wire: &Wire) -> u64 {
    let packets =
        wire.there(&format!("cat /sys/class/net/{}/statistics/tx_packets", support::PEER));
    packets.trim().parse().expect("a number")
}

#[test]
fn datagrams_are_counted_by_their_own_addresses() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("udp", QUEUES);
    let (mut side, nic) = start(&wire, Observer::Tracing, Vec::new());
    if !side
        .programs()
        .iter()
        .any(|program| program.name == "consume_udp" && program.attached.yes())
    {
        println!("left to the lab: this kernel lets no program hook a function");
        return;
    }
    for (here, there) in [(HERE_V4, THERE_V4), (HERE_V6, THERE_V6)] {
        support::pin(0);
        let server = UdpSocket::bind((here, 0)).expect("an address of this side");
        let to = server.local_addr().expect("bound");
        // One socket that reads, two that send: two flows.
        let senders: Vec<SocketAddr> = thread::scope(|scope| {
            let sending = scope.spawn(|| {
                wire.enter_there();
                let sockets = [(); 2].map(|()| UdpSocket::bind((there, 0)).expect("the far side"));
                for _ in 0..ROUNDS {
                    for socket in &sockets {
                        socket.send_to(&[7; 64], to).expect("sent");
                    }
                }
                sockets.map(|socket| socket.local_addr().expect("bound")).to_vec()
            });
            for _ in 0..2 * ROUNDS {
                server.peek_from(&mut [0; 64]).expect("a look");
                server.recv_from(&mut [0; 64]).expect("received");
            }
            sending.join().expect("sent")
        });
        let reading = side.read().expect("reads");
        for sender in senders {
            let flow = reading
                .flows
                .iter()
                .find(|flow| flow.addr.protocol == 17 && flow.addr.remote == sender)
                .unwrap_or_else(|| panic!("{sender} is not in {reading:#?}"));
            println!("{flow:?}");
            assert_eq!((flow.addr.local, flow.ifindex), (to, Some(nic.ifindex)));
            assert_eq!(flow.consumed, ROUNDS as u64, "looking at a datagram takes none");
            assert_eq!(flow.hash, Some(expected_hash(to, sender)));
            assert_eq!((flow.consumer_cpu, flow.protocol_cpu), (0, None), "not connected");
            assert!(flow.softirq_cpu.is_some());
        }
    }
}

#[test]
fn a_nic_that_changes_begins_its_buckets_anew() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("change", QUEUES);
    let (mut side, nic) = start(&wire, Observer::Tracing, Vec::new());
    exchange(&wire, HERE_V4, 0);
    let demand = |side: &mut KernelSide| {
        let counters = side.read().expect("reads").counters.remove(0);
        counters.demand.map(|demand| (demand.rows(), demand.total()))
    };
    let counted = demand(&mut side).expect("computed").1;
    assert!(counted >= ROUNDS as u64);

    let larger = WatchedNic { buckets: 256, ..nic.clone() };
    side.update_nic(0, &larger).expect("there is room");
    assert_eq!(demand(&mut side), Some((256, 0)));
    let ends = exchange(&wire, HERE_V4, 0);
    assert!(demand(&mut side).expect("computed").1 >= ROUNDS as u64);

    // One that moves to another index (a driver that was loaded anew) is found there, and no more
    // where it was.
    let elsewhere = WatchedNic { ifindex: nic.ifindex + 1000, ..larger.clone() };
    side.update_nic(0, &elsewhere).expect("there is room");
    let packets = side.read().expect("reads").counters[0].queue_packets.total();
    exchange(&wire, HERE_V4, 0);
    let reading = side.read().expect("reads");
    assert_eq!(reading.counters[0].queue_packets.total(), packets);
    assert_eq!(find(&reading, &ends).ifindex, Some(elsewhere.ifindex));

    let huge = WatchedNic { buckets: 1 << 20, ..larger };
    let refusal = side.update_nic(0, &huge).expect_err("no room");
    assert!(refusal.to_string().contains("must start anew"), "{refusal}");
}

#[test]
fn sampled_flows_are_scaled_and_counters_stay_exact() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("sample", QUEUES);
    let (mut side, _) = start(&wire, Observer::Tracing, Vec::new());
    side.set_flow_sampling(1).expect("one in two");
    for _ in 0..10 {
        exchange(&wire, HERE_V4, 0);
    }
    let reading = side.read().expect("reads");
    let exact = reading.counters[0].queue_consumed.total();
    assert!(exact >= 10 * ROUNDS as u64);
    let scaled: u64 = reading.flows.iter().map(|flow| flow.consumed).sum();
    assert_eq!(scaled % 2, 0, "every sample stands for two");
    // 500 throws of a coin: a third to two thirds of it is 7.5 standard deviations.
    assert!(scaled > exact * 2 / 3 && scaled < exact * 4 / 3, "{scaled} of {exact}");
}

#[test]
fn flows_that_ended_are_forgotten() {
    if !support::may_load() {
        return;
    }
    let wire = Wire::new("idle", QUEUES);
    let (mut side, _) = start(&wire, Observer::Tracing, Vec::new());
    let first = exchange(&wire, HERE_V4, 0);
    let second = exchange(&wire, HERE_V4, 0);
    let reading = side.read().expect("reads");
    find(&reading, &first);
    find(&reading, &second);
    // Older than the latest by any time at all.
    side.set_flow_idle(0);
    for _ in 0..2 {
        let reading = side.read().expect("reads");
        assert_eq!(reading.flows.len(), 1);
        find(&reading, &second);
    }
    let again = exchange(&wire, HERE_V4, 0);
    find(&side.read().expect("reads"), &again);
}
