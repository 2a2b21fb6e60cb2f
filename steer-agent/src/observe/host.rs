//! The host as it is now: its online CPUs and how they are built, and time spent in softirqs.
//!
//! Read from sysfs (Documentation/ABI/testing/sysfs-devices-system-cpu) and `/proc/stat`
//! (`proc_stat(5)`). CPU numbers may have gaps; CPUs that are offline do not appear. What sysfs does
//! not tell is absent. No rates are computed here.

use std::path::Path;

use procfs::FromBufRead as _;
use procfs::net::Snmp;
use rustix::time::{ClockId, clock_gettime};

use crate::model::{CpuId, CpuInfo, CpuSet, TcpSegments, Topology};
use crate::sys::SysError;
use crate::sys::root::{self, Root};

const NS_PER_S: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns` (`clock_gettime(2)`).
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(NS_PER_S).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The online CPUs and what they share.
pub fn topology(root: &Root) -> Result<Topology, SysError> {
    let dir = root.sys("devices/system/cpu");
    let online: CpuSet = root::read_value(&dir.join("online"))?;
    let cpus = online.iter().map(|id| cpu(&dir.join(format!("cpu{id}")), id)).collect();
    Ok(Topology { cpus })
}

/// Softirq time since boot by CPU, in nanoseconds, as far as the kernel's accounting goes: a clock
/// tick unless it was built with precise accounting. Read by hand: procfs numbers the lines of
/// `/proc/stat` in sequence, which is wrong as soon as a CPU is offline.
pub fn softirq_ns(root: &Root) -> Result<Vec<(CpuId, u64)>, SysError> {
    let path = root.proc("stat");
    let text = root::read(&path)?;
    let times = softirq_ticks(&text);
    if times.is_empty() {
        let path = path.display().to_string();
        return Err(SysError::unexpected("read", path, "it has no line of a CPU"));
    }
    let tick_ns = NS_PER_S / procfs::ticks_per_second().max(1);
    Ok(times.into_iter().map(|(cpu, ticks)| (cpu, ticks.saturating_mul(tick_ns))).collect())
}

/// TCP segments sent in the present network namespace (`/proc/net/snmp`).
pub fn tcp_segments(root: &Root) -> Result<TcpSegments, SysError> {
    let path = root.proc("thread-self/net/snmp");
    let text = root::read(&path)?;
    let snmp = Snmp::from_buf_read(text.as_bytes()).map_err(|error| {
        SysError::unexpected("read", path.display().to_string(), error.to_string())
    })?;
    Ok(TcpSegments { sent: snmp.tcp_out_segs, retransmitted: snmp.tcp_retrans_segs })
}

/// `cpuN user nice system idle iowait irq softirq …`
fn softirq_ticks(stat: &str) -> Vec<(CpuId, u64)> {
    let ticks = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_whitespace();
        let cpu = fields.next()?.parse().ok()?;
        Some((cpu, fields.nth(6)?.parse().ok()?))
    };
    // The first line is the sum of all: "cpu" without a number.
    stat.lines().filter(|line| !line.starts_with("cpu ")).filter_map(ticks).collect()
}

fn cpu(dir: &Path, id: CpuId) -> CpuInfo {
    let package: Option<i64> = root::value(&dir.join("topology/physical_package_id"));
    let smt = root::value(&dir.join("topology/core_cpus_list"))
        // Its name before 5.2.
        .or_else(|| root::value(&dir.join("topology/thread_siblings_list")))
        .filter(|siblings: &CpuSet| siblings.contains(id));
    let caches = caches(dir, id);
    let at_level = |level: u32| caches.iter().find(|(found, _)| *found == level);
    let last = caches.iter().max_by_key(|(level, _)| *level);
    CpuInfo {
        id,
        package: package.and_then(|package| u32::try_from(package).ok()),
        node: node(dir),
        smt: smt.unwrap_or_else(|| CpuSet::single(id)),
        l2: at_level(2).map(|(_, shared)| shared.clone()),
        llc: last.map(|(_, shared)| shared.clone()),
        capacity: root::value(&dir.join("cpu_capacity")),
    }
}

/// Level and sharers of each cache that holds data.
fn caches(dir: &Path, id: CpuId) -> Vec<(u32, CpuSet)> {
    let dir = dir.join("cache");
    let names = root::list(&dir).unwrap_or_default();
    let cache = |name: &String| {
        let index = dir.join(name.strip_prefix("index").map(|_| name)?);
        let kind: String = root::value(&index.join("type"))?;
        let shared: CpuSet = root::value(&index.join("shared_cpu_list"))?;
        let holds_data = matches!(kind.as_str(), "Data" | "Unified");
        // A list without the CPU itself is not to be believed.
        (holds_data && shared.contains(id)).then_some(())?;
        Some((root::value(&index.join("level"))?, shared))
    };
    names.iter().filter_map(cache).collect()
}

/// The `nodeN` link of the CPU's directory (drivers/base/node.c `register_cpu_under_node`).
fn node(dir: &Path) -> Option<u32> {
    root::list(dir).ok()?.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
