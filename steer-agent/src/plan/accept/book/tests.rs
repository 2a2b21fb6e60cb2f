use std::net::SocketAddr;

use super::*;
use crate::model::accept::{SeenOn, TargetAddress};

fn socket(cookie: u64, address: &str) -> ListeningSocket {
    let address: SocketAddr = address.parse().expect("an address");
    ListeningSocket {
        cookie,
        inode: 1000 + cookie,
        endpoint: Endpoint {
            port: address.port(),
            address: address.ip(),
            v6_only: None,
            device: 0,
        },
        uid: 0,
        queued: 0,
    }
}

fn sockets(cookies: std::ops::Range<u64>) -> Vec<ListeningSocket> {
    cookies.map(|cookie| socket(cookie, "10.0.0.1:80")).collect()
}

/// So many connections of each member, all on the CPU of its number.
fn seen(members: &[u16], connections: u64) -> AcceptReading {
    let seen = members.iter().map(|member| SeenOn {
        group: 0,
        member: Some(*member),
        cpu: CpuId::from(*member) % 4,
        connections,
        aligned: connections,
        thread_changes: 0,
        pid: 1,
        tid: u32::from(*member),
    });
    let arrived = CpuOutcomes { steered: connections, ..CpuOutcomes::default() };
    AcceptReading { seen: seen.collect(), outcomes: BTreeMap::from([(0, vec![arrived; 4])]) }
}

#[test]
fn a_reload_takes_new_numbers_and_is_learned_anew() {
    let mut book = Book::default();
    let changes = book.notice(&sockets(1..5));
    assert_eq!(changes.added.len(), 4);
    assert!(changes.removed.is_empty());
    assert!(book.notice(&sockets(1..5)).is_empty(), "nothing is new");
    book.learn(&seen(&[0, 1, 2, 3], 20));
    assert_eq!(book.workers(), "0-3".parse().ok());
    let table = book.table(&AcceptTable::default());
    assert_eq!(table.choices.len(), 4);
    assert!(table.trials.is_empty());

    // The old workers go and the new ones are there: no number is given out again at once.
    let changes = book.notice(&sockets(5..9));
    assert_eq!(changes.removed, [(0, 0), (0, 1), (0, 2), (0, 3)]);
    let added: Vec<u16> = changes.added.iter().map(|(_, member, _)| *member).collect();
    assert_eq!(added, [4, 5, 6, 7]);
    book.learn(&AcceptReading::default());
    assert_eq!(book.workers(), None, "not before each was seen");
    let table = book.table(&AcceptTable::default());
    assert!(table.choices.is_empty());
    assert_eq!(table.trials[&0].members, [4, 5, 6, 7]);
    assert!((table.trials[&0].share - 1.0).abs() < 1e-9);
    book.learn(&seen(&[4, 5, 6, 7], 10));
    assert_eq!(book.workers(), "0-3".parse().ok());
}

#[test]
fn a_worker_that_dies_leaves_its_cpu_to_the_hash() {
    let mut book = Book::default();
    book.notice(&sockets(1..4));
    book.learn(&seen(&[0, 1, 2], 20));
    let changes = book.notice(&sockets(2..4));
    assert_eq!(changes.removed, [(0, 0)]);
    book.learn(&seen(&[1, 2], 20));
    let table = book.table(&AcceptTable::default());
    let cpus: Vec<CpuId> = table.choices.keys().map(|(_, cpu)| *cpu).collect();
    assert_eq!(cpus, [1, 2]);
}

#[test]
fn what_is_counted_is_counted_once() {
    let mut book = Book::default();
    book.notice(&sockets(1..3));
    book.learn(&seen(&[0, 1], 20));
    book.learn(&seen(&[0, 1], 20));
    book.learn(&seen(&[0, 1], 25));
    let (_, group) = book.groups().next().expect("one");
    assert_eq!((group.consumed, group.aligned), (50, 50));
    assert_eq!(group.outcomes.steered, 4 * 25);
    assert_eq!(group.by_cpu, BTreeMap::from([(0, 25), (1, 25)]));
}

#[test]
fn a_group_that_is_left_alone_stands_before_a_less_exact_one() {
    let mut book = Book::default();
    let exact = socket(1, "10.0.0.1:80");
    let any = [socket(2, "0.0.0.0:80"), socket(3, "0.0.0.0:80")];
    book.notice(&[&[exact], &any[..]].concat());
    let number = book
        .groups()
        .find(|(endpoint, _)| !endpoint.address.is_unspecified())
        .and_then(|(_, group)| group.number)
        .expect("numbered");
    book.group_mut(number).expect("there").refusal = Some("its own program".to_owned());
    book.learn(&AcceptReading::default());
    let table = book.table(&AcceptTable::default());
    let at = |address: Option<&str>| {
        let address = address.map(|text| text.parse().expect("an address"));
        table.targets[&TargetAddress { address, port: 80, v4: true }]
    };
    assert_eq!(at(Some("10.0.0.1")), None, "the kernel's, and not the other group's");
    assert!(at(None).is_some());
}

#[test]
fn more_groups_and_sockets_than_there_is_room_for_are_left_alone() {
    let mut book = Book::default();
    let many: Vec<ListeningSocket> =
        (1..=70u64).map(|cookie| socket(cookie, &format!("10.0.0.{cookie}:80"))).collect();
    book.notice(&many);
    let refused = book.groups().filter(|(_, group)| group.refusal.is_some()).count();
    assert_eq!(refused, 70 - 64);
    let mut book = Book::default();
    assert_eq!(book.notice(&sockets(1..301)).added.len(), 256);
    let (_, group) = book.groups().next().expect("one");
    assert!(group.refusal.as_ref().is_some_and(|why| why.contains("more than 256 sockets")));
}
