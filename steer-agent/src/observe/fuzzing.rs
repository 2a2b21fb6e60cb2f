//! What this module reads, as functions of bytes: they come back whatever the bytes are.

use std::path::{Component, Path};

use super::fixture::Fixture;
use super::irq_names::{self, Device};
use super::{host, kernel, neighbours, nic};
use crate::model::Driver;
use crate::sys::queues::{self, Direction};

/// More lines than any tree that says something.
const MOST_LINES: usize = 200;

/// A file of /proc.
pub(crate) fn proc(text: &str) {
    host::any_text(text);
    let _ = nic::key(text.trim());
}

/// The names of a device's interrupts: driver (by name, or by its place in the table), interface and own
/// name, then an interrupt a line.
pub(crate) fn irq_names(text: &str) {
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or_default();
    let device = Device { driver: line(), nic: line(), own_name: line() };
    let irqs: Vec<(u32, String)> = (0..).zip(lines.map(str::to_owned)).collect();
    let by_place = || Driver::all().nth(device.driver.parse().ok()?)?.names.first().copied();
    let driver = by_place().unwrap_or(device.driver);
    for (irq, name) in irq_names::by_queue(Device { driver, ..device }, &irqs).into_values() {
        let known = irqs.iter().find(|(number, _)| *number == irq);
        assert!(known.is_some_and(|(_, names)| names.split(',').any(|one| one == name)));
    }
}

/// The kernel's type information.
pub(crate) fn types(bytes: &[u8]) {
    kernel::any_types(bytes);
}

/// A tree of /proc and /sys, as fixtures are written, read by everything that reads them.
pub(crate) fn tree(text: &str) {
    let fixture = Fixture::empty();
    let entries = || text.lines().take(MOST_LINES).filter(|line| stays_inside(line));
    let (links, files): (Vec<&str>, Vec<&str>) = entries().partition(|line| line.contains(" -> "));
    // Links last, each in a directory that was made before the first of them: nothing is ever written
    // through one. Entries that cannot be are left out.
    let places = links.iter().filter_map(|line| line.split_once(" -> "));
    let places: Vec<String> = places.map(|(path, _)| format!("{path}~ =")).collect();
    for line in places.iter().map(String::as_str).chain(files).chain(links) {
        let _ = fixture.add_line(line);
    }
    let (machine, root) = (fixture.machine(), fixture.root());
    if let Ok(topology) = host::topology(&root) {
        let online = topology.online();
        for (a, b) in online.iter().zip(online.iter().skip(1)) {
            let _ = topology.distance(a, b);
        }
    }
    let _ = (host::softirq_ns(&root), host::tcp_segments(&root));
    let _ = neighbours::find(&root, Path::new("/nowhere"));
    for name in nic::list(&machine).unwrap_or_default() {
        let _ = (nic::members(&machine, &name), queues::numbers(&root, &name, Direction::Tx));
        if let Ok(nic) = nic::read(&machine, &name) {
            let _ = nic::why_not_steerable(&nic);
        }
    }
}

/// Whether an entry, and what it points to, lies in the tree: its path has plain parts only, and a
/// link climbs first, no higher than the tree's root, and then goes down.
fn stays_inside(line: &str) -> bool {
    let line = line.trim();
    let (path, target) = match line.split_once(" -> ") {
        Some((path, target)) => (path, target),
        None => (line.split_once(" =").map_or("", |(path, _)| path), ""),
    };
    let plain = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let is_inside = path.starts_with("proc/") || path.starts_with("sys/");
    let depth = Path::new(path).components().count();
    let mut parts = Path::new(target).components().peekable();
    let mut climbed = 0;
    while parts.next_if_eq(&Component::ParentDir).is_some() {
        climbed += 1;
    }
    is_inside
        && !line.contains('\0')
        && Path::new(path).components().all(|part| plain(&part))
        && climbed < depth
        && parts.all(|part| plain(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_leaves_the_tree() {
        for line in [
            "proc/stat = cpu0 1",
            "sys/class/net/eth0 -> ../../devices/eth0",
            "sys/class/net/eth0/device -> ../../../../proc",
        ] {
            assert!(stays_inside(line), "{line}");
        }
        for line in [
            "/etc/passwd = x",
            "proc/../../x = 1",
            "sys/../../x = 1",
            "other/x = 1",
            "proc/x -> /etc/passwd",
            "proc/x -> ../../etc",
            "proc/x -> a/../../../etc",
            "nonsense",
        ] {
            assert!(!stays_inside(line), "{line}");
        }
    }
}
