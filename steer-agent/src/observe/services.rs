//! Which programs listen, who serves their sockets, and how they are set: from /proc.
//!
//! Reads only. Processes that may not be looked at, or end meanwhile, are left out.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;

use crate::model::listener::{ListeningSocket, groups};
use crate::model::service::{Kind, Service, Worker};
use crate::sys::listener::{holders, thread_mask};
use crate::sys::root::{self, Root};

/// What the Go linker leaves in the first page: the name of an ELF note.
const GO_NOTE: &[u8] = b"\x04\0\0\0Go\0\0";
/// That page.
const FIRST_PAGE: u64 = 4096;

/// The services on `sockets`.
#[must_use]
pub fn find(proc: &Root, sockets: &[ListeningSocket]) -> Vec<Service> {
    let inodes: BTreeSet<u64> =
        sockets.iter().map(|socket| socket.inode).filter(|inode| *inode > 0).collect();
    let held = holders(proc, &inodes, &BTreeSet::new());
    let mut kinds: BTreeMap<u32, Option<Kind>> = BTreeMap::new();
    let mut services = Vec::new();
    for group in groups(sockets) {
        let mut by_kind: BTreeMap<Kind, (BTreeSet<u32>, usize)> = BTreeMap::new();
        for socket in &group.sockets {
            let pids: BTreeSet<u32> =
                held.get(&socket.inode).into_iter().flatten().map(|holder| holder.pid).collect();
            let mut counted = BTreeSet::new();
            for pid in pids {
                let kind = *kinds.entry(pid).or_insert_with(|| kind(proc, pid));
                let Some(kind) = kind else { continue };
                let (all, count) = by_kind.entry(kind).or_default();
                all.insert(pid);
                *count += usize::from(counted.insert(kind));
            }
        }
        for (kind, (pids, sockets)) in by_kind {
            let Some(pid) = main_process(proc, &pids) else { continue };
            services.push(Service {
                kind,
                pid,
                endpoint: group.endpoint.clone(),
                sockets,
                workers: workers(proc, kind, &pids),
                settings: settings::of(proc, kind, pid),
            });
        }
    }
    services
}

fn kind(proc: &Root, pid: u32) -> Option<Kind> {
    let directory = proc.proc(pid.to_string());
    let program = fs::read_link(directory.join("exe")).unwrap_or_default();
    let is_go = || -> Option<bool> {
        let mut page = Vec::new();
        File::open(directory.join("exe")).ok()?.take(FIRST_PAGE).read_to_end(&mut page).ok()?;
        Some(page.windows(GO_NOTE.len()).any(|window| window == GO_NOTE))
    };
    let title = command_line(proc, pid).join(" ");
    Kind::recognise(&program.to_string_lossy(), &title, is_go().unwrap_or(false))
}

fn command_line(proc: &Root, pid: u32) -> Vec<String> {
    let bytes = fs::read(proc.proc(format!("{pid}/cmdline"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let words = text.split('\0').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// The one of them whose parent is none of them.
fn main_process(proc: &Root, pids: &BTreeSet<u32>) -> Option<u32> {
    let is_top = |pid: &&u32| parent(proc, **pid).is_none_or(|parent| !pids.contains(&parent));
    pids.iter().find(is_top).or(pids.first()).copied()
}

fn parent(proc: &Root, pid: u32) -> Option<u32> {
    let status = root::read(&proc.proc(format!("{pid}/status"))).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// The threads that serve: of nginx the workers' main ones, of Envoy and Traffic Server those with the
/// names of workers, of HAProxy all.
fn workers(proc: &Root, kind: Kind, pids: &BTreeSet<u32>) -> Vec<Worker> {
    let mut workers = Vec::new();
    for pid in pids {
        let title = command_line(proc, *pid).join(" ");
        let tasks = root::list(&proc.proc(format!("{pid}/task"))).unwrap_or_default();
        for tid in tasks.iter().filter_map(|task| task.parse::<u32>().ok()) {
            let name =
                || root::read(&proc.proc(format!("{pid}/task/{tid}/comm"))).unwrap_or_default();
            let serves = match kind {
                Kind::Nginx => tid == *pid && title.contains(": worker process"),
                // In master-worker mode the master holds the sockets too, and serves nobody.
                Kind::Haproxy => tasks.len() > 1 || pids.len() == 1,
                Kind::Envoy => name().starts_with("wrk:"),
                Kind::TrafficServer => name().starts_with("[ET_NET"),
                Kind::Go => tid == *pid,
            };
            if serves {
                workers.push(Worker { pid: *pid, tid, mask: thread_mask(proc, *pid, tid) });
            }
        }
    }
    workers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::listener::Endpoint;
    use crate::observe::fixture::Fixture;

    fn socket(inode: u64, port: u16) -> ListeningSocket {
        let address = "0.0.0.0".parse().expect("an address");
        let endpoint = Endpoint { port, address, v6_only: None, device: 0 };
        ListeningSocket { cookie: inode, inode, endpoint, uid: 0, queued: 0 }
    }

    #[test]
    fn a_master_and_its_workers_are_one_service() {
        let fixture = Fixture::new(include_str!("../../tests/fixtures/nginx.tree"));
        let services = find(&fixture.root(), &[socket(5001, 80), socket(5002, 80), socket(9, 81)]);
        assert_eq!(services.len(), 1, "{services:#?}");
        let service = &services[0];
        assert_eq!((service.kind, service.pid, service.sockets), (Kind::Nginx, 700, 2));
        let workers: Vec<u32> = service.workers.iter().map(|worker| worker.pid).collect();
        assert_eq!(workers, [701, 702]);
        assert_eq!(service.unpinned(), 2);
        let settings = service.settings.as_ref().expect("readable");
        assert_eq!(settings.value("worker_processes"), Some("2"));
        assert_eq!(settings.value("listen"), Some("80"), "from an included file");
    }

    #[test]
    fn threads_of_haproxy_are_its_workers() {
        let fixture = Fixture::new(include_str!("../../tests/fixtures/haproxy.tree"));
        let services = find(&fixture.root(), &[socket(6001, 80)]);
        let service = services.first().expect("found");
        assert_eq!((service.kind, service.pid, service.sockets), (Kind::Haproxy, 800, 1));
        let workers: Vec<u32> = service.workers.iter().map(|worker| worker.tid).collect();
        assert_eq!(workers, [801, 802, 803, 804]);
        let settings = service.settings.as_ref().expect("readable");
        assert_eq!(settings.value("nbthread"), Some("4"));
    }

    #[test]
    fn nothing_is_known_of_processes_that_are_gone() {
        let fixture = Fixture::new("");
        assert_eq!(find(&fixture.root(), &[socket(1, 80)]), []);
    }
}
