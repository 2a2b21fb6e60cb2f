use super::*;

fn endpoint(text: &str, v6_only: Option<bool>) -> Endpoint {
    let address: SocketAddr = text.parse().expect("an address");
    Endpoint { port: address.port(), address: address.ip(), v6_only, device: 0 }
}

fn key(address: Option<&str>, port: u16, v4: bool) -> TargetAddress {
    TargetAddress { address: address.map(|text| text.parse().expect("an address")), port, v4 }
}

/// Numbers groups by their order.
fn table(endpoints: &[Endpoint]) -> BTreeMap<TargetAddress, Option<u16>> {
    targets(endpoints, |endpoint| {
        let at = endpoints.iter().position(|one| one == endpoint)?;
        u16::try_from(at).ok()
    })
}

#[test]
fn sockets_of_one_endpoint_are_a_group() {
    let socket = |cookie, endpoint: &Endpoint| ListeningSocket {
        cookie,
        inode: cookie,
        endpoint: endpoint.clone(),
        uid: 0,
        queued: 0,
    };
    let (http, other) = (endpoint("0.0.0.0:80", None), endpoint("10.0.0.1:80", None));
    let found = groups(&[socket(9, &http), socket(3, &other), socket(4, &http)]);
    let cookies = |group: &Group| group.sockets.iter().map(|socket| socket.cookie).collect();
    let found: Vec<(&Endpoint, Vec<u64>)> =
        found.iter().map(|group| (&group.endpoint, cookies(group))).collect();
    assert_eq!(found, [(&http, vec![4, 9]), (&other, vec![3])]);
}

#[test]
fn a_socket_for_both_versions_takes_ipv4_unless_somebody_is_closer() {
    let both = endpoint("[::]:80", Some(false));
    let v4_any = endpoint("0.0.0.0:80", None);
    assert_eq!(
        table(std::slice::from_ref(&both)),
        BTreeMap::from([(key(None, 80, false), Some(0)), (key(None, 80, true), Some(0))])
    );
    assert_eq!(
        table(&[both.clone(), v4_any]),
        BTreeMap::from([(key(None, 80, false), Some(0)), (key(None, 80, true), Some(1))])
    );
    let only = endpoint("[::]:80", Some(true));
    assert_eq!(table(&[only]), BTreeMap::from([(key(None, 80, false), Some(0))]));
    // Where it is not told, IPv4 connections are the kernel's.
    let unknown = endpoint("[::]:80", None);
    assert_eq!(table(&[unknown])[&key(None, 80, true)], None);
    // A mapped address is one of IPv4.
    let mapped = Endpoint { address: "10.0.0.1".parse().expect("valid"), ..both };
    assert_eq!(table(&[mapped]), BTreeMap::from([(key(Some("10.0.0.1"), 80, true), Some(0))]));
}

#[test]
fn a_port_with_a_socket_that_is_bound_to_an_interface_is_left_alone() {
    let plain = endpoint("0.0.0.0:80", None);
    let bound = Endpoint { device: 3, ..plain.clone() };
    let elsewhere = endpoint("0.0.0.0:81", None);
    let table = table(&[plain, bound, elsewhere]);
    assert_eq!(table[&key(None, 80, true)], None);
    assert_eq!(table[&key(None, 81, true)], Some(2));
}

#[test]
fn two_groups_with_one_key_are_nobodys() {
    // A socket for IPv6 only and one for both can share a port only if something else tells them apart.
    let table = table(&[endpoint("[::]:80", Some(true)), endpoint("[::]:80", Some(false))]);
    assert_eq!(table[&key(None, 80, false)], None);
}

/// What is remembered after connections by (CPU, how many, thread).
fn memory(connections: &[(CpuId, u64, u32)]) -> Memory {
    let mut memory = Memory::default();
    for (cpu, count, tid) in connections {
        memory.add(*cpu, *count, 0, (7, *tid));
    }
    memory
}

#[test]
fn a_few_connections_tell_nothing() {
    assert_eq!(memory(&[(1, 7, 1)]).life(), Life::Unknown);
    assert_eq!(memory(&[(1, 8, 1)]).life(), Life::Settled { cpu: 1 });
    assert_eq!(Memory::default().life().home(), None);
}

#[test]
fn pinned_is_who_is_seen_there_and_may_be_nowhere_else() {
    let mut memory = memory(&[(1, 20, 1)]);
    memory.set_mask(Some(CpuSet::single(1)));
    assert_eq!(memory.life(), Life::Pinned { cpu: 1 });
    // A mask alone proves nothing: what is seen counts.
    memory.set_mask(Some(CpuSet::single(2)));
    assert_eq!(memory.life(), Life::Settled { cpu: 1 });
    memory.set_mask("0-3".parse().ok());
    assert_eq!(memory.life(), Life::Settled { cpu: 1 });
}

#[test]
fn one_thread_on_many_cpus_roams_and_many_threads_share() {
    let roaming = memory(&[(0, 10, 1), (1, 10, 1), (2, 10, 1)]);
    assert_eq!(roaming.life(), Life::Roaming { cpus: "0-2".parse().expect("valid") });
    let shared = memory(&[(0, 10, 1), (1, 10, 2), (2, 10, 3)]);
    assert_eq!(shared.life(), Life::Shared { cpus: "0-2".parse().expect("valid") });
    assert_eq!((roaming.life().home(), shared.life().home()), (None, None));
}

#[test]
fn a_worker_that_moves_is_followed_within_its_memory() {
    let mut memory = memory(&[(0, 1000, 1)]);
    assert_eq!(memory.life().home(), Some(0));
    // 48 are remembered. After five on another CPU 0.9 of them are still here, after ten not.
    memory.add(3, 10, 0, (7, 1));
    assert_eq!(memory.life().home(), None);
    for _ in 0..12 {
        memory.add(3, 10, 0, (7, 1));
    }
    assert_eq!(memory.life(), Life::Settled { cpu: 3 });
}

#[test]
fn lives_are_told_in_words() {
    for (life, text) in [
        (Life::Unknown, "not seen yet"),
        (Life::Pinned { cpu: 2 }, "pinned to CPU 2"),
        (Life::Settled { cpu: 2 }, "on CPU 2, not pinned"),
        (Life::Roaming { cpus: "0-3".parse().expect("valid") }, "roaming over CPUs 0-3"),
        (Life::Shared { cpus: "0,2".parse().expect("valid") }, "shared by threads on CPUs 0,2"),
    ] {
        assert_eq!(life.to_string(), text);
    }
}
