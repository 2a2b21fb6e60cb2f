//! The programs of accept steering, from outside: load and attach them, tell them what to do, read
//! what they saw.
//!
//! What they are told is an [`AcceptTable`], which `plan` makes; only differences are written. The
//! lookup is attached by a link: with the last descriptor of it, however the process ends, the kernel
//! is back at its own choice. Nothing is pinned. A program in a reuseport group is held by the group; it
//! chooses only while the agent looks, and is taken out at the end.

mod reading;
mod tables;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{HashMap as KernelHashMap, MapData, ReusePortSockArray, SockMap};
use aya::programs::{BtfTracePoint, Iter, SkLookup, SkReuseport};
use aya::{Btf, Ebpf, EbpfLoader};
use steer_common::accept::{AcceptKnobs, GROUPS, MEMBERS, Seen, SeenKey, socket};
use steer_common::knobs::{ABSENT, Knobs};

use super::btf::{self, Types};
use super::{NETNS, explain_refusal, fields, kernel_types, netns, read};
use crate::model::Fact;
use crate::model::accept::AcceptTable;

/// The object that the build script made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer-accept"));

/// Where the kernel asks which listener a connection is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// At its socket lookup.
    Lookup,
    /// In each reuseport group.
    Group,
}

/// The programs, attached.
pub struct AcceptSide {
    ebpf: Ebpf,
    cpus: u32,
    chooser: Chooser,
    /// The kernel tells by which interface a connection comes.
    tells_interface: bool,
    /// It tells the program of a reuseport group.
    tells_programs: bool,
    chooses: Fact,
    written: AcceptTable,
}

/// What this kernel was found to tell.
#[derive(Clone, Copy)]
struct Tells {
    interface: bool,
    programs: bool,
}

impl std::fmt::Debug for AcceptSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcceptSide").field("chooses", &self.chooses).finish_non_exhaustive()
    }
}

impl AcceptSide {
    /// Loads the programs and attaches those that watch. Nothing is steered yet.
    pub fn start(chooser: Chooser) -> Result<Self> {
        ensure!(
            !OBJECT.is_empty(),
            "this steer was built without its kernel side (STEER_SKIP_EBPF); it cannot steer accepts"
        );
        super::lift_memlock();
        let types = kernel_types()?;
        let parsed = Types::parse(&types).with_context(|| btf::VMLINUX.to_owned())?;
        let btf = Btf::parse(&types, aya::Endianness::default()).context(btf::VMLINUX)?;
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?;
        let cpus = u32::try_from(cpus)?;
        let offsets = Offsets::find(&parsed);
        let tells = Tells { interface: true, programs: offsets.tell_programs() };
        let load = |tells: Tells| -> Result<(Ebpf, Fact)> {
            let mut ebpf = load(&parsed, &btf, cpus, tells, chooser, &offsets)?;
            let taken = match load_chooser(&mut ebpf, chooser)? {
                Ok(()) => Fact::Yes,
                Err(why) => Fact::No(format!("the kernel does not take it: {why}")),
            };
            Ok((ebpf, taken))
        };
        let (ebpf, mut taken) = load(tells)?;
        if chooser == Chooser::Group && !offsets.tell_numbers() {
            let why = "the kernel does not tell whose program a group has, so that it could not be \
                       taken out again";
            taken = Fact::No(why.to_owned());
            return Self::attach(ebpf, &btf, cpus, tells, (chooser, taken));
        }
        let Fact::No(why) = &taken else {
            return Self::attach(ebpf, &btf, cpus, tells, (chooser, taken));
        };
        // The interface came after the hook (5.17): whether this kernel tells it is seen by trying.
        log::debug!("the interface of a connection is not told: {why}");
        let tells = Tells { interface: false, ..tells };
        let (ebpf, taken) = load(tells)?;
        Self::attach(ebpf, &btf, cpus, tells, (chooser, taken))
    }

    fn attach(
        mut ebpf: Ebpf,
        btf: &Btf,
        cpus: u32,
        tells: Tells,
        (chooser, taken): (Chooser, Fact),
    ) -> Result<Self> {
        for (name, hook) in
            [("accept_state", "inet_sock_set_state"), ("accept_consumed", "tcp_rcv_space_adjust")]
        {
            let mut attach = || -> Result<()> {
                let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("not in the object"))?;
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(hook, btf)?;
                program.attach()?;
                Ok(())
            };
            attach()
                .with_context(|| format!("program {name} (tp_btf/{hook})"))
                .map_err(explain_refusal)?;
        }
        if let Some(program) = ebpf.program_mut("list_groups") {
            let program: &mut Iter = program.try_into()?;
            if let Err(error) = program.load("tcp", btf) {
                log::debug!("reuseport groups cannot be listed: {error}");
            }
        }
        Ok(Self {
            ebpf,
            cpus,
            chooser,
            tells_interface: tells.interface,
            tells_programs: tells.programs,
            chooses: taken,
            written: AcceptTable::default(),
        })
    }

    /// Whether connections can be steered this way.
    #[must_use]
    pub fn chooses(&self) -> &Fact {
        &self.chooses
    }

    /// Whether the kernel tells by which interface a connection comes; else connections of this host
    /// are known by their address.
    #[must_use]
    pub fn tells_interface(&self) -> bool {
        self.tells_interface
    }

    /// Lets the lookup choose from now on, in the present network namespace.
    pub fn attach_lookup(&mut self) -> Result<()> {
        let namespace = File::open(NETNS).context(NETNS)?;
        let program: &mut SkLookup = self
            .ebpf
            .program_mut("steer_accept")
            .ok_or_else(|| anyhow!("steer_accept is not in the object"))?
            .try_into()?;
        program.attach(namespace).context("attaching steer_accept to the network namespace")?;
        Ok(())
    }

    /// Lets the program choose from now on among the sockets that share their port with this one.
    pub fn attach_to_group(&self, socket: &impl AsFd) -> Result<()> {
        self.member_program()?.attach(socket).context("SO_ATTACH_REUSEPORT_EBPF")
    }

    /// The number by which the kernel tells that program from others.
    pub fn member_program_id(&self) -> Result<u32> {
        Ok(self.member_program()?.info().context("steer_member")?.id())
    }

    fn member_program(&self) -> Result<&SkReuseport> {
        let program = self.ebpf.program("steer_member");
        Ok(program.ok_or_else(|| anyhow!("steer_member is not in the object"))?.try_into()?)
    }

    /// Begins to follow listeners of `ports`.
    pub fn follow(&mut self, ports: &BTreeSet<u16>) -> Result<()> {
        let mut changed = self.hash::<u16, u64>("CHANGED_NS")?;
        for port in ports {
            changed.insert(port, 0, 0).context("writing map CHANGED_NS")?;
        }
        Ok(())
    }

    /// All listeners of `port` are known as of `at_ns` (`CLOCK_MONOTONIC`).
    pub fn know(&mut self, port: u16, at_ns: u64) -> Result<()> {
        self.hash::<u16, u64>("KNOWN_NS")?.insert(port, at_ns, 0).context("writing map KNOWN_NS")
    }

    /// Until when they were known last.
    pub fn known_ns(&mut self, port: u16) -> Result<u64> {
        self.hash::<u16, u64>("KNOWN_NS")?.get(&port, 0).context("reading map KNOWN_NS")
    }

    /// When the listeners of `port` last changed, as the kernel side saw it.
    pub fn changed_ns(&mut self, port: u16) -> Result<u64> {
        self.hash::<u16, u64>("CHANGED_NS")?.get(&port, 0).context("reading map CHANGED_NS")
    }

    /// Puts a listening socket where the program finds it. The descriptor can be closed after that:
    /// it must be, for a socket that is held open is never closed.
    pub fn put_listener(&mut self, group: u16, member: u16, fd: &impl AsRawFd) -> Result<()> {
        let index = socket(u32::from(group), u32::from(member));
        match self.chooser {
            Chooser::Lookup => {
                let mut sockets = SockMap::try_from(read::map_mut(&mut self.ebpf, "LISTENERS")?)?;
                sockets.set(index, fd, 0).context("writing map LISTENERS")
            }
            Chooser::Group => {
                let map = read::map_mut(&mut self.ebpf, "GROUP_LISTENERS")?;
                let mut sockets = ReusePortSockArray::try_from(map)?;
                sockets.set(index, fd, 0).context("writing map GROUP_LISTENERS")
            }
        }
    }

    /// Takes it away again, if it is there.
    pub fn drop_listener(&mut self, group: u16, member: u16) -> Result<()> {
        let index = socket(u32::from(group), u32::from(member));
        // A socket that was closed has left by itself.
        let _ = match self.chooser {
            Chooser::Lookup => {
                let map = read::map_mut(&mut self.ebpf, "LISTENERS")?;
                SockMap::try_from(map)?.clear_index(&index)
            }
            Chooser::Group => {
                let map = read::map_mut(&mut self.ebpf, "GROUP_LISTENERS")?;
                ReusePortSockArray::try_from(map)?.clear_index(&index)
            }
        };
        let gone: Vec<SeenKey> = {
            let seen = self.hash::<SeenKey, Seen>("SEEN_MEMBERS")?;
            let keys = seen.keys().filter_map(std::result::Result::ok);
            keys.filter(|key| (key.group, key.member) == (group, member)).collect()
        };
        let mut seen = self.hash::<SeenKey, Seen>("SEEN_MEMBERS")?;
        for key in gone {
            let _ = seen.remove(&key);
        }
        Ok(())
    }

    fn hash<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &str,
    ) -> Result<KernelHashMap<&mut MapData, K, V>> {
        KernelHashMap::try_from(read::map_mut(&mut self.ebpf, name)?)
            .with_context(|| format!("map {name}"))
    }
}

/// Loads the program that chooses, or tells why the kernel does not take it.
fn load_chooser(ebpf: &mut Ebpf, chooser: Chooser) -> Result<Result<(), String>> {
    let name = match chooser {
        Chooser::Lookup => "steer_accept",
        Chooser::Group => "steer_member",
    };
    let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("{name} is not in the object"))?;
    let loaded = match chooser {
        Chooser::Lookup => <&mut SkLookup>::try_from(program)?.load(),
        Chooser::Group => <&mut SkReuseport>::try_from(program)?.load(),
    };
    Ok(loaded.map_err(|error| format!("{:#}", anyhow::Error::from(error))))
}

/// Where the kernel keeps what is read of listeners and their groups.
struct Offsets {
    sk_reuseport_cb: u32,
    reuse_prog: u32,
    skc_cookie: u32,
    prog_aux: u32,
    aux_id: u32,
}

impl Offsets {
    fn find(types: &Types<'_>) -> Self {
        let byte = |structure, path, bits| {
            types
                .member(structure, path)
                .filter(|member| member.bits == bits && member.bit_offset % 8 == 0)
                .map_or(ABSENT, |member| member.bit_offset / 8)
        };
        Self {
            sk_reuseport_cb: byte("sock", "sk_reuseport_cb", 64),
            reuse_prog: byte("sock_reuseport", "prog", 64),
            skc_cookie: byte("sock", "__sk_common.skc_cookie", 64),
            prog_aux: byte("bpf_prog", "aux", 64),
            aux_id: byte("bpf_prog_aux", "id", 32),
        }
    }

    /// Whether a group's program can be told. Where it cannot, "none" would be a guess.
    fn tell_programs(&self) -> bool {
        [self.sk_reuseport_cb, self.reuse_prog, self.skc_cookie].iter().all(|one| *one != ABSENT)
    }

    /// Whether its number can be told, too.
    fn tell_numbers(&self) -> bool {
        self.tell_programs() && self.prog_aux != ABSENT && self.aux_id != ABSENT
    }
}

fn load(
    types: &Types<'_>,
    btf: &Btf,
    cpus: u32,
    tells: Tells,
    chooser: Chooser,
    offsets: &Offsets,
) -> Result<Ebpf> {
    let (common, _) = fields::find(types, &[])?;
    let knobs = Knobs { netns: netns(), offsets: common, ..Knobs::UNSET };
    let own = AcceptKnobs {
        tells_interface: u32::from(tells.interface),
        cpu_stride: cpus,
        sk_reuseport_cb: offsets.sk_reuseport_cb,
        reuse_prog: offsets.reuse_prog,
        skc_cookie: offsets.skc_cookie,
        prog_aux: offsets.prog_aux,
        aux_id: offsets.aux_id,
    };
    // A map that is not used is as small as can be.
    let (in_lookup, in_group) = match chooser {
        Chooser::Lookup => (GROUPS * MEMBERS, 1),
        Chooser::Group => (1, GROUPS * MEMBERS),
    };
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .override_global("KNOBS", &knobs, true)
        .override_global("ACCEPT_KNOBS", &own, true)
        .map_max_entries("LISTENERS", in_lookup)
        .map_max_entries("GROUP_LISTENERS", in_group)
        .map_max_entries("CHOICES", GROUPS * cpus);
    loader
        .load(OBJECT)
        .map_err(anyhow::Error::from)
        .context("the programs of accept steering cannot be loaded")
        .map_err(explain_refusal)
}
