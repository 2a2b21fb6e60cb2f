//! The host as it is now: its online CPUs and how they are built, and time spent in softirqs.
//!
//! Read from sysfs (Documentation/ABI/testing/sysfs-devices-system-cpu) and `/proc/stat`
//! (`proc_stat(5)`). CPU numbers may have gaps; CPUs that are offline do not appear. What sysfs does
//! not tell is absent. No rates are computed here.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use crate::model::{CpuId, CpuInfo, CpuSet, HostFacts, TcpSegments, Topology};
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
    topology_after(root, Topology::default())
}

/// The same where it was `known` before: what online CPUs share does not change, and to read it takes some
/// fifteen files of each.
pub(super) fn topology_after(root: &Root, known: Topology) -> Result<Topology, SysError> {
    let dir = root.sys("devices/system/cpu");
    let online: CpuSet = root::read_value(&dir.join("online"))?;
    if !online.is_empty() && known.cpus.iter().map(|cpu| cpu.id).eq(online.iter()) {
        return Ok(known);
    }
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
    segments(&text).map_err(|why| SysError::unexpected("read", path.display().to_string(), why))
}

/// Two lines for each protocol, the first with names, the second with numbers (net/ipv4/proc.c). Read by
/// hand: procfs takes fields by their place, and refuses the whole file of Linux 7.2.
fn segments(text: &str) -> Result<TcpSegments, String> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return Err("it has no two lines that begin with `Tcp:`".to_owned());
    };
    let fields = || names.split_whitespace().zip(numbers.split_whitespace());
    let field = |name: &str| {
        let found = fields().find(|(found, _)| *found == name);
        let number = found.and_then(|(_, number)| number.parse().ok());
        number.ok_or_else(|| format!("it has no number `{name}` of TCP"))
    };
    Ok(TcpSegments { sent: field("OutSegs")?, retransmitted: field("RetransSegs")? })
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

/// What kind of machine this is, as far as it tells.
#[must_use]
pub fn host_facts(root: &Root) -> HostFacts {
    let dmi = |name: &str| root::read(&root.sys("class/dmi/id").join(name)).ok();
    let words: Vec<String> =
        [dmi("sys_vendor"), dmi("product_name")].into_iter().flatten().collect();
    let product = words.join(" ");
    let (cpu_model, virtual_machine) =
        cpu_facts(&root::read(&root.proc("cpuinfo")).unwrap_or_default());
    HostFacts {
        cpu_model,
        product: Some(product).filter(|product| !product.is_empty()),
        virtual_machine,
    }
}

/// Model of the first CPU, and whether it has the bit that hypervisors set (`hypervisor` among the flags,
/// arch/x86/include/asm/cpufeatures.h `X86_FEATURE_HYPERVISOR`). Other architectures have none.
fn cpu_facts(cpuinfo: &str) -> (Option<String>, Option<bool>) {
    let field = |name: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let flags = field("flags");
    let virtual_machine =
        flags.map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    (field("model name").filter(|model| !model.is_empty()), virtual_machine)
}

/// The `nodeN` link of the CPU's directory (drivers/base/node.c `register_cpu_under_node`).
fn node(dir: &Path) -> Option<u32> {
    root::list(dir).ok()?.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// Any text as a file of /proc.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_text(text: &str) {
    let _ = (softirq_ticks(text), segments(text), cpu_facts(text));
    super::interrupts::any_text(text);
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
