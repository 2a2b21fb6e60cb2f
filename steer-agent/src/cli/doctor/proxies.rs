//! What doctor says to whole configurations of HAProxy and nginx, as somebody may have them.
//!
//! The files are written for Debian's HAProxy 2.6 and nginx 1.22. What the program makes of each (threads,
//! where they may run, sockets) is laid out here in a /proc as that program shows it; the programs
//! themselves run in the lab.

use crate::model::Topology;
use crate::model::listener::{Endpoint, ListeningSocket};
use crate::observe::fixture::Fixture;
use crate::observe::services;
use crate::report::doctor::{self, Level};

const ROAMING: [&str; 4] = ["0-3"; 4];
const PINNED: [&str; 4] = ["0", "1", "2", "3"];

/// Sockets 1.. on port 80.
fn sockets(count: u64) -> Vec<ListeningSocket> {
    let address = "0.0.0.0".parse().expect("an address");
    let endpoint = Endpoint { port: 80, address, v6_only: None, device: 0 };
    let socket = |inode| ListeningSocket {
        cookie: inode,
        inode,
        endpoint: endpoint.clone(),
        uid: 0,
        queued: 0,
    };
    (1..=count).map(socket).collect()
}

fn process(tree: &Fixture, pid: u32, parent: u32, program: &str, command: &str) {
    tree.add(&format!(
        "proc/{pid}/exe -> /usr/sbin/{program}\n\
         proc/{pid}/comm = {program}\n\
         proc/{pid}/cmdline = {command}\n\
         proc/{pid}/status = Name:\\t{program}\\nPPid:\\t{parent}\n"
    ));
}

fn thread(tree: &Fixture, pid: u32, tid: u32, mask: &str) {
    tree.add(&format!(
        "proc/{pid}/task/{tid}/comm = worker\n\
         proc/{pid}/task/{tid}/status = Name:\\tworker\\nCpus_allowed_list:\\t{mask}\n"
    ));
}

fn holds(tree: &Fixture, pid: u32, count: u64) {
    for inode in 1..=count {
        tree.add(&format!("proc/{pid}/fd/{} -> socket:[{inode}]\n", inode + 4));
    }
}

fn file(tree: &Fixture, path: &str, text: &str) {
    let text = text.replace('\t', " ").replace('\n', "\\n");
    tree.add_line(&format!("{path} = {text}")).expect("a file");
}

/// HAProxy's worker, shut in its own empty directory, under a master that holds no listener.
fn haproxy(text: &str, count: u64, masks: [&str; 4]) -> Vec<String> {
    let tree = Fixture::empty();
    let command = "haproxy\\0-Ws\\0-f\\0/etc/haproxy/haproxy.cfg";
    process(&tree, 800, 1, "haproxy", command);
    thread(&tree, 800, 800, "0-3");
    file(&tree, "proc/800/root/etc/haproxy/haproxy.cfg", text);
    process(&tree, 801, 800, "haproxy", command);
    tree.add("proc/801/root/dev/log = \n");
    for (tid, mask) in (801..).zip(masks) {
        thread(&tree, 801, tid, mask);
    }
    holds(&tree, 801, count);
    said(&tree, count)
}

/// nginx's master and its four workers, who all hold all sockets.
fn nginx(text: &str, count: u64, masks: [&str; 4]) -> Vec<String> {
    let tree = Fixture::empty();
    process(&tree, 700, 1, "nginx", "nginx: master process /usr/sbin/nginx -g daemon on;");
    thread(&tree, 700, 700, "0-3");
    holds(&tree, 700, count);
    file(&tree, "proc/700/root/etc/nginx/nginx.conf", text);
    for (pid, mask) in (701..).zip(masks) {
        process(&tree, pid, 700, "nginx", "nginx: worker process");
        thread(&tree, pid, pid, mask);
        holds(&tree, pid, count);
    }
    said(&tree, count)
}

/// The directives, without what surrounds them; "ok" where nothing is to be changed.
fn said(tree: &Fixture, count: u64) -> Vec<String> {
    let services = services::find(&tree.root(), &sockets(count));
    assert_eq!(services.len(), 1, "{services:#?}");
    assert!(services[0].settings.is_some(), "its files are found");
    let directive = |finding: doctor::Finding| match finding.level {
        Level::Ok => "ok".to_owned(),
        _ => finding.consequence.split('`').nth(1).unwrap_or_default().to_owned(),
    };
    doctor::listeners(&services, &Topology::regular(1, 4, 1)).into_iter().map(directive).collect()
}

macro_rules! settings {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/proxies/", $name))
    };
}

#[test]
fn haproxy_is_told_the_directives_that_defeat_alignment() {
    let (queue, shards) = ("tune.listener.multi-queue off", "shards by-thread");
    let map = "cpu-map auto:1/1-N 0-(N-1)";
    assert_eq!(haproxy(settings!("haproxy-packaged.cfg"), 1, ROAMING), [queue, shards, map]);
    assert_eq!(haproxy(settings!("haproxy-pinned.cfg"), 1, PINNED), [queue, shards]);
    assert_eq!(haproxy(settings!("haproxy-sharded.cfg"), 4, ROAMING), [map]);
    assert_eq!(haproxy(settings!("haproxy-noreuseport.cfg"), 1, PINNED), ["noreuseport", shards]);
    assert_eq!(haproxy(settings!("haproxy-steerable.cfg"), 4, PINNED), ["ok"]);
}

#[test]
fn nginx_is_told_the_directives_that_defeat_alignment() {
    let (listen, affinity) = ("listen PORT reuseport;", "worker_cpu_affinity auto;");
    assert_eq!(nginx(settings!("nginx-packaged.conf"), 1, ROAMING), [listen, affinity]);
    assert_eq!(nginx(settings!("nginx-unpinned.conf"), 4, ROAMING), [affinity]);
    assert_eq!(nginx(settings!("nginx-steerable.conf"), 4, PINNED), ["ok"]);
}
