//! The connect program of one cgroup, from outside: load it, attach it, tell it what to do, read what
//! it did.
//!
//! It is attached by a link, which the kernel removes with the process, however that ends; and it lets
//! every connection pass, so that there is nothing to put back and nothing for the journal. What it
//! has to know is worked out by `model::connect`.

mod tables;

use std::fmt;
use std::fs::File;
use std::io;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{Array, HashMap as KernelHashMap, MapData, PerCpuArray};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, links::FdLink};
use aya::{Ebpf, EbpfLoader};
use steer_common::abi;
use steer_common::cells::Block;
use steer_common::connect::{
    ConnectKnobs, FAMILIES, Outcome, PORTS_MAX, PORTS_PER_BLOCK, RECENT_PER_CPU, Route, RouteKey,
    Settings, Steered, VERSION,
};

pub use tables::Tables;

/// The object that the build script made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer-connect"));

/// The programs, each with what it hooks.
const PROGRAMS: [(&str, &str); 2] = [("connect4", "IPv4"), ("connect6", "IPv6")];

/// Room for buckets that each NIC has at least: a table that shows up with the link needs no reload.
const BUCKETS_MIN: u32 = 256;

/// The connect program, loaded, with maps of its own.
pub struct Connect {
    ebpf: Ebpf,
    slots: u32,
    settings: Settings,
    /// While these live it is attached.
    links: Vec<FdLink>,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("slots", &self.slots)
            .field("settings", &self.settings)
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

/// What the program counted, by outcome and CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<Vec<u64>>);

impl Counts {
    /// How often, over all CPUs.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.by_cpu(outcome).iter().sum()
    }

    /// How often on each CPU, by its number.
    #[must_use]
    pub fn by_cpu(&self, outcome: Outcome) -> &[u64] {
        self.0.get(outcome as usize).map_or(&[], Vec::as_slice)
    }
}

impl Connect {
    /// Loads the programs, switched off. `slots` NICs with at most `buckets` entries each, `cpus`
    /// possible CPUs.
    pub fn load(
        knobs: ConnectKnobs,
        slots: u32,
        cpus: u32,
        buckets: u32,
        netns_cookie: u64,
        secret: u64,
    ) -> Result<Self> {
        ensure!(
            !OBJECT.is_empty(),
            "this steer was built without its kernel side (STEER_SKIP_EBPF); it cannot steer connects"
        );
        let (slots, buckets) = (slots.max(1), buckets.max(BUCKETS_MIN).next_power_of_two());
        let mut loader = EbpfLoader::new();
        loader.override_global("CONNECT_KNOBS", &knobs, true);
        for (map, entries) in [
            ("SLOTS", slots),
            ("HASHES", slots),
            ("CPUS", slots * cpus),
            ("BUCKETS", slots * buckets),
            ("CLASSES", slots * FAMILIES * buckets),
            ("PORTS", slots * FAMILIES * (PORTS_MAX / PORTS_PER_BLOCK)),
            ("RECENT", cpus * RECENT_PER_CPU),
        ] {
            loader.map_max_entries(map, entries);
        }
        let mut ebpf = loader.load(OBJECT).context("the connect program cannot be loaded")?;
        let version: Array<&MapData, u32> = Array::try_from(map(&ebpf, abi::SECTION)?)?;
        let version = version.get(&0, 0).context("reading the object's version")?;
        ensure!(
            version == VERSION,
            "the connect program is of version {version}, this agent needs {VERSION}; they were not \
             built together"
        );
        for (name, _) in PROGRAMS {
            let taken = program(&mut ebpf, name)?.load();
            taken.with_context(|| format!("the kernel does not take the program {name}"))?;
        }
        let settings =
            Settings { netns_cookie, secret, enabled: 0, reuse_time_wait: 0, cpus, buckets };
        let mut this = Self { ebpf, slots, settings, links: Vec::new() };
        this.set(settings)?;
        Ok(this)
    }

    /// Attaches to a cgroup, in place of the one before, beside whatever else is attached there.
    pub fn attach(&mut self, cgroup: &File) -> Result<()> {
        self.links.clear();
        for (name, what) in PROGRAMS {
            let program = program(&mut self.ebpf, name)?;
            // A link always allows others beside it, and the kernel wants no flag that says so
            // (`cgroup_bpf_link_attach`).
            let id = program
                .attach(cgroup, CgroupAttachMode::Single)
                .map_err(explain)
                .with_context(|| format!("connects of {what} cannot be hooked"))?;
            let link = program.take_link(id)?;
            // Since 5.7; before, the program would stay behind a killed agent.
            let link: FdLink = link.try_into().map_err(|_| {
                anyhow!("this kernel attaches programs to cgroups without a link (before 5.7)")
            })?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Detaches; connections are made as ever.
    pub fn detach(&mut self) {
        self.links.clear();
    }

    /// Instructions that the verifier went through, by program.
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(&'static str, Option<u32>)> {
        let count = |name| {
            let info = self.ebpf.program(name).and_then(|program| program.info().ok());
            info.and_then(|info| info.verified_instruction_count())
        };
        PROGRAMS.iter().map(|(name, _)| (*name, count(name))).collect()
    }

    /// Switches steering on or off, and whether TIME-WAIT may be taken over.
    pub fn switch(&mut self, enabled: bool, reuse_time_wait: bool) -> Result<()> {
        let settings = Settings {
            enabled: u32::from(enabled),
            reuse_time_wait: u32::from(reuse_time_wait),
            ..self.settings
        };
        if settings == self.settings { Ok(()) } else { self.set(settings) }
    }

    fn set(&mut self, settings: Settings) -> Result<()> {
        let mut map: Array<&mut MapData, Settings> =
            Array::try_from(map_mut(&mut self.ebpf, "SETTINGS")?)?;
        map.set(0, settings, 0).context("writing map SETTINGS")?;
        self.settings = settings;
        Ok(())
    }

    /// Writes what a NIC's connections are steered by. Steering is off meanwhile; a connection that is
    /// just being made checks its port once more and is left alone where the tables contradict each
    /// other.
    pub fn tell(&mut self, slot: u32, tables: &Tables) -> Result<()> {
        ensure!(slot < self.slots, "there is no room for another NIC");
        let settings = self.settings;
        self.set(Settings { enabled: 0, ..settings })?;
        tables.write(&mut self.ebpf, slot, &settings)?;
        self.set(settings)
    }

    /// Leaves a NIC's connections alone until it is told of again.
    pub fn silence(&mut self, slot: u32) -> Result<()> {
        ensure!(slot < self.slots, "there is no such NIC");
        let settings = self.settings;
        Tables::silence(&mut self.ebpf, slot, &settings)
    }

    /// The destinations, as far as they are known.
    pub fn routes(&self) -> Result<Vec<(RouteKey, Route)>> {
        let routes: KernelHashMap<&MapData, RouteKey, Route> =
            KernelHashMap::try_from(map(&self.ebpf, "ROUTES")?)?;
        // One that gives way while they are read is asked for again by its next connection.
        Ok(routes.iter().filter_map(Result::ok).collect())
    }

    /// Says where a destination leads.
    pub fn set_route(&mut self, key: &RouteKey, route: Route) -> Result<()> {
        let mut routes: KernelHashMap<&mut MapData, RouteKey, Route> =
            KernelHashMap::try_from(map_mut(&mut self.ebpf, "ROUTES")?)?;
        routes.insert(key, route, 0).context("writing map ROUTES")
    }

    /// The connections that were steered last, in no order.
    pub fn recent(&self) -> Result<Vec<Steered>> {
        let recent: Array<&MapData, Steered> = Array::try_from(map(&self.ebpf, "RECENT")?)?;
        let read: Result<Vec<Steered>, _> = recent.iter().collect();
        Ok(read?.into_iter().filter(|steered| steered.at_ns != 0).collect())
    }

    /// What became of connections since it was loaded.
    pub fn counts(&self) -> Result<Counts> {
        let outcomes: PerCpuArray<&MapData, Block> =
            PerCpuArray::try_from(map(&self.ebpf, "OUTCOMES")?)?;
        let blocks = outcomes.get(&0, 0).context("reading map OUTCOMES")?;
        let of = |outcome: usize| {
            blocks.iter().map(|block| block.cells.get(outcome).copied().unwrap_or(0)).collect()
        };
        Ok(Counts((0..Outcome::ALL.len()).map(of).collect()))
    }
}

fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a aya::maps::Map> {
    ebpf.map(name).with_context(|| format!("the connect program has no map {name}"))
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name).with_context(|| format!("the connect program has no map {name}"))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr> {
    let program = ebpf.program_mut(name).with_context(|| format!("{name} is not in the object"))?;
    Ok(program.try_into()?)
}

/// The kernel's "not permitted" has one meaning here: `__cgroup_bpf_attach`.
fn explain(error: ProgramError) -> anyhow::Error {
    let refused = std::error::Error::source(&error)
        .into_iter()
        .chain(Some(&error as &dyn std::error::Error))
        .any(|cause| {
            cause
                .downcast_ref::<aya::sys::SyscallError>()
                .is_some_and(|call| call.io_error.kind() == io::ErrorKind::PermissionDenied)
        });
    let error = anyhow::Error::new(error);
    if refused {
        error.context(
            "another program has this cgroup, or one above it, to itself (it was attached without \
             BPF_F_ALLOW_MULTI; `bpftool cgroup tree` names it)",
        )
    } else {
        error
    }
}
