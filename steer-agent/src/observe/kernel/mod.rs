//! The kernel side, from outside: load it, attach it, read what it counted.
//!
//! ```text
//! fields    type information of the running kernel -> offsets, and what is missing
//! layout    NICs and CPUs -> sizes of the maps
//! programs  which program hooks where, and what became of it
//! read      maps -> plain values
//! verifier  what each program costs the kernel's verifier
//! ```
//!
//! [`KernelSide::start`] does all of it; dropping the value detaches every program. Nothing is
//! pinned: if the agent is killed, the kernel removes programs and maps with its descriptors.

pub mod accept;
mod btf;
mod connect_fields;
mod fields;
mod layout;
mod nics;
mod programs;
mod read;
pub mod verifier;

use std::{
    fmt, fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap as KernelHashMap, MapData},
};
use aya_log::EbpfLogger;
use rustix::process::{Resource, Rlimit, setrlimit};
use steer_common::{
    abi,
    knobs::{Config, Knobs},
    nic::{NicConfig, NicKey, NicRef},
    toeplitz::Table,
};

pub use connect_fields::connect_fields;
pub use fields::names as field_names;
pub use nics::{HashSource, WatchedNic};
pub use programs::{ProgramStatus, can_run};
pub use read::ReceivedFlow;

use crate::model::{Flow, NicCounters};
use btf::Types;
use layout::Layout;

/// The object that the build script made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer-ebpf"));

/// The calling thread's network namespace; its inode number is what the kernel knows it by.
const NETNS: &str = "/proc/thread-self/ns/net";
/// A flow that was not consumed from for so long has most likely ended; one that was only silent is
/// noted anew with its next consumption.
const FLOW_IDLE_NS: u64 = 30_000_000_000;

/// Any bytes as the kernel's type information.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_types(bytes: &[u8]) {
    btf::any_bytes(bytes);
}

/// What counts packets by queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observer {
    /// Tracepoints on the softirq side. Costs nothing to attach.
    #[default]
    Tracing,
    /// An XDP program on each NIC. Attaching it resets most NICs.
    Xdp,
}

/// How to start.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// What counts packets.
    pub observer: Observer,
    /// What to watch. Readings have the same order.
    pub nics: Vec<WatchedNic>,
    /// Names of kernel fields to take for absent ([`field_names`]); for tests.
    pub absent: Vec<String>,
    /// Log what the programs see. Costs one message for each consumption.
    pub debug: bool,
}

/// Everything that the kernel side counted, in one go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelReading {
    /// Counters since the start, in the order of the NICs.
    pub counters: Vec<NicCounters>,
    /// Flows that were consumed recently.
    pub flows: Vec<Flow>,
    /// Failures by name.
    pub health: Vec<(String, u64)>,
    /// Sentences about what is not observed here.
    pub missing: Vec<String>,
}

/// The kernel side, attached.
pub struct KernelSide {
    ebpf: Ebpf,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    nics: Vec<WatchedNic>,
    layout: Layout,
    netns: u32,
    programs: Vec<ProgramStatus>,
    missing: Vec<String>,
    flow_idle_ns: u64,
}

impl fmt::Debug for KernelSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelSide")
            .field("nics", &self.nics)
            .field("layout", &self.layout)
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}

/// Has the kernel measure the run time of all BPF programs until the result is dropped (since 5.8,
/// `BPF_ENABLE_STATS`, kernel/bpf/syscall.c); it needs `CAP_SYS_ADMIN`.
pub fn measure() -> Result<OwnedFd> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime).context(
        "the kernel does not measure BPF programs (`metrics.bpf_run_time`); that takes Linux 5.8 and \
         CAP_SYS_ADMIN",
    )
}

impl KernelSide {
    /// Loads the programs, tells them about the NICs and attaches them.
    pub fn start(options: &StartOptions) -> Result<Self> {
        let Loaded { mut ebpf, btf, layout, netns, mut missing } =
            Loaded::new(options, VerifierLogLevel::default())?;
        let logger = options.debug.then(|| EbpfLogger::init(&mut ebpf)).transpose()?;

        let mut side = Self {
            ebpf,
            logger,
            nics: Vec::new(),
            layout,
            netns,
            programs: Vec::new(),
            missing: Vec::new(),
            flow_idle_ns: FLOW_IDLE_NS,
        };
        for (index, nic) in options.nics.iter().enumerate() {
            side.tell(u32::try_from(index)?, nic)?;
            side.nics.push(nic.clone());
        }
        side.programs = programs::attach(&mut side.ebpf, &btf, options.observer, &side.nics)
            .map_err(explain_refusal)?;
        missing.extend(programs::missing(&side.programs));
        side.missing = missing;
        Ok(side)
    }

    /// Reads everything.
    pub fn read(&mut self) -> Result<KernelReading> {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        read::remove_stale_napis(&mut self.ebpf, &self.layout)?;
        let counters = (0..)
            .zip(&self.nics)
            .map(|(slot, nic)| read::nic_counters(&self.ebpf, &self.layout, slot, nic))
            .collect::<Result<_>>()?;
        Ok(KernelReading {
            counters,
            flows: read::flows(&mut self.ebpf, &self.nics, self.flow_idle_ns)?,
            health: read::health(&self.ebpf)?,
            missing: self.missing.clone(),
        })
    }

    /// What the XDP observer saw; empty with the other one.
    pub fn received_flows(&self) -> Result<Vec<ReceivedFlow>> {
        read::received(&self.ebpf, &self.nics)
    }

    /// CPU time of each loaded program in seconds, and how often it ran, while the kernel measures
    /// ([`measure`]); programs that cannot be asked are left out.
    #[must_use]
    pub fn run_times(&self) -> Vec<(String, f64, u64)> {
        let programs = self.ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some((name.to_owned(), info.run_time().as_secs_f64(), info.run_count()))
        });
        let mut times: Vec<_> = programs.collect();
        times.sort_by(|a, b| a.0.cmp(&b.0));
        times
    }

    /// The observer's programs and what became of each.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.programs.clone()
    }

    /// Tells the programs that a NIC has changed: other uppers, another table, another key. When the
    /// meaning of its buckets changes, its counters by bucket begin again. Fails where the NIC has
    /// outgrown the maps; then the kernel side must be started anew.
    pub fn update_nic(&mut self, index: usize, nic: &WatchedNic) -> Result<()> {
        let before = self.nics.get(index).context("no such NIC is watched")?.clone();
        if before == *nic {
            return Ok(());
        }
        ensure!(
            self.layout.fits(nic),
            "{} has outgrown the tables that were made for it ({} buckets, {} queues, {} uppers); \
             observation must start anew",
            nic.name,
            nic.buckets,
            nic.queues,
            nic.upper_ifindexes.len()
        );
        let slot = u32::try_from(index)?;
        let now = nic.interfaces(slot, self.netns);
        let known = before.interfaces(slot, self.netns);
        let mut table = self.nics_map()?;
        for (key, _) in known {
            if !now.iter().any(|(kept, _)| *kept == key) {
                // The interface may have been removed already.
                let _ = table.remove(&key);
            }
        }
        self.tell(slot, nic)?;
        if before.buckets != nic.buckets || before.hash != nic.hash {
            read::clear_buckets(&mut self.ebpf, &self.layout, slot)?;
            read::forget_flows(&mut self.ebpf, slot)?;
        }
        if let Some(known) = self.nics.get_mut(index) {
            *known = nic.clone();
        }
        Ok(())
    }

    /// Forgets a flow once nobody has consumed from it for so long; 30 s if never called.
    pub fn set_flow_idle(&mut self, idle_ns: u64) {
        self.flow_idle_ns = idle_ns;
    }

    /// Takes one consumption in `2^shift` for the table of flows; 0 takes all. Counts are scaled up
    /// by the programs, and counters by bucket, queue and CPU are always exact.
    pub fn set_flow_sampling(&mut self, shift: u32) -> Result<()> {
        ensure!(shift < 32, "one consumption in 2^{shift} is never");
        let mut config: Array<&mut MapData, Config> =
            Array::try_from(read::map_mut(&mut self.ebpf, "CONFIG")?)?;
        config.set(0, Config { sample_mask: (1 << shift) - 1 }, 0).context("writing map CONFIG")
    }

    fn nics_map(&mut self) -> Result<KernelHashMap<&mut MapData, NicKey, NicRef>> {
        KernelHashMap::try_from(read::map_mut(&mut self.ebpf, "NICS")?).context("map NICS")
    }

    /// Writes a NIC's settings and interfaces.
    fn tell(&mut self, slot: u32, nic: &WatchedNic) -> Result<()> {
        if let Some(table) = nic.hash_table() {
            let mut tables: Array<&mut MapData, Table> =
                Array::try_from(read::map_mut(&mut self.ebpf, "HASH_TABLES")?)?;
            tables.set(slot, table, 0).context("writing map HASH_TABLES")?;
        }
        let mut configs: Array<&mut MapData, NicConfig> =
            Array::try_from(read::map_mut(&mut self.ebpf, "NIC_CONFIG")?)?;
        configs.set(slot, nic.config(), 0).context("writing map NIC_CONFIG")?;
        let interfaces = nic.interfaces(slot, self.netns);
        let mut table = self.nics_map()?;
        for (key, to) in interfaces {
            table.insert(key, to, 0).with_context(|| {
                format!("{}: cannot watch the interface with index {}", nic.name, key.ifindex)
            })?;
        }
        Ok(())
    }
}

/// The kernel's type information.
fn kernel_types() -> Result<Vec<u8>> {
    match fs::read(btf::VMLINUX) {
        Ok(types) => Ok(types),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "this kernel has no type information at {} (CONFIG_DEBUG_INFO_BTF); steer needs it to \
             find the fields of sockets and packets",
            btf::VMLINUX
        ),
        Err(error) => Err(error).context(btf::VMLINUX),
    }
}

/// Maps and programs, the programs not yet in the kernel.
struct Loaded {
    ebpf: Ebpf,
    btf: Btf,
    layout: Layout,
    netns: u32,
    /// Sentences about kernel fields that are missing.
    missing: Vec<String>,
}

impl Loaded {
    /// With `log` for how much the verifier says where it refuses a program.
    fn new(options: &StartOptions, log: VerifierLogLevel) -> Result<Self> {
        ensure!(
            !OBJECT.is_empty(),
            "this steer was built without its kernel side (STEER_SKIP_EBPF); it cannot observe"
        );
        let types = kernel_types()?;
        let parsed = Types::parse(&types).with_context(|| btf::VMLINUX.to_owned())?;
        let (offsets, missing) = fields::find(&parsed, &options.absent)?;
        let btf = Btf::parse(&types, aya::Endianness::default()).context(btf::VMLINUX)?;

        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?;
        let xdp = options.observer == Observer::Xdp;
        let layout = Layout::new(&options.nics, u32::try_from(cpus)?, xdp);
        let netns = netns();
        let knobs = Knobs {
            debug: u32::from(options.debug),
            xdp: u32::from(xdp),
            netns,
            bucket_stride: layout.bucket_stride,
            queue_stride: layout.queue_stride,
            cpu_stride: layout.cpu_stride,
            offsets,
        };
        let ebpf = load(&knobs, &layout, &btf, log)?;
        Ok(Self { ebpf, btf, layout, netns, missing })
    }
}

/// Lifts the limit that maps and programs count against before 5.11: its usual 64 KiB hold none of the maps.
/// Where it may not be raised, making one fails and says so.
pub(super) fn lift_memlock() {
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        log::debug!("RLIMIT_MEMLOCK stays as it is: {error}");
    }
}

fn load(knobs: &Knobs, layout: &Layout, btf: &Btf, log: VerifierLogLevel) -> Result<Ebpf> {
    lift_memlock();
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global("KNOBS", knobs, true).verifier_log_level(log);
    for (map, entries) in layout.map_sizes() {
        loader.map_max_entries(map, entries);
    }
    let ebpf = loader
        .load(OBJECT)
        .map_err(anyhow::Error::from)
        .context("the kernel side cannot be loaded")
        .map_err(explain_refusal)?;
    let version: Array<&MapData, u32> = Array::try_from(read::map(&ebpf, abi::SECTION)?)?;
    let version = version.get(&0, 0).context("reading the object's version")?;
    ensure!(
        version == abi::VERSION,
        "the kernel side is of version {version}, this agent needs {}; they were not built together",
        abi::VERSION
    );
    Ok(ebpf)
}

/// Whether something failed because it is not permitted.
#[must_use]
pub fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied)
    })
}

/// Says what may be missing where the kernel only says "not permitted".
fn explain_refusal(error: anyhow::Error) -> anyhow::Error {
    if is_refusal(&error) {
        error.context(
            "loading BPF programs needs CAP_BPF and CAP_PERFMON (and CAP_NET_ADMIN for the XDP \
             observer); before Linux 5.11 a raised memlock limit too (CAP_SYS_RESOURCE)",
        )
    } else {
        error
    }
}

/// Inode number of this thread's network namespace; 0 where the kernel has none.
fn netns() -> u32 {
    fs::metadata(NETNS).ok().and_then(|file| u32::try_from(file.ino()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod xdp_tests;
