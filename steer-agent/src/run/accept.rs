//! Accept steering under way: follows listeners at a cadence of its own, faster than windows, and keeps
//! the kernel side told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;

mod members;
mod options;
mod taking;
mod way;

pub use way::JournalPlace;

use super::Options;
use super::rights::Rights;
use crate::model::accept::AcceptTable;
use crate::model::listener::{Endpoint, ListeningSocket, groups};
use crate::model::{CpuSet, Fact, Nic};
use crate::observe::host;
use crate::observe::kernel::accept::{AcceptSide, Chooser};
use crate::observe::kernel::is_refusal;
use crate::plan::accept::Book;
use crate::report::accept::{Counted, ListenerReport, Mechanism};
use crate::sys::{Machine, Port as _, Root, SysError, diag, listener};
use way::Way;

/// Time between two looks at the listeners. A worker that was reloaded is given connections of its CPU
/// after one look and the few connections that it takes to learn where it lives.
pub const CADENCE: Duration = Duration::from_millis(250);
/// Looks between two at what changes seldom: where threads may run, and addresses.
const SLOWER: u32 = 4;
/// Looks that may fail in a row.
const MOST_FAILURES: u32 = 8;
/// A listener that is being set up is told by the hook a moment before it can be found.
const SETTLE_NS: u64 = 5_000_000;

/// The sockets that listen on these ports in the present network namespace.
fn listening_on(ports: &BTreeSet<u16>) -> Result<Vec<ListeningSocket>, SysError> {
    let mut sockets = diag::listeners()?;
    sockets.retain(|socket| ports.contains(&socket.endpoint.port));
    Ok(sockets)
}

/// What is to be steered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptOptions {
    /// Ports of the listeners.
    pub ports: BTreeSet<u16>,
    /// How, where it was asked for by name.
    pub by: Option<Mechanism>,
}

/// Accept steering under way.
#[derive(Debug)]
pub struct Accept {
    side: AcceptSide,
    way: Way,
    root: Root,
    ports: BTreeSet<u16>,
    book: Book,
    interfaces: BTreeSet<u32>,
    own_addresses: BTreeSet<IpAddr>,
    counted: BTreeMap<Endpoint, Counted>,
    reported_ns: u64,
    looks: u32,
    begun: Instant,
    failures: u32,
    workers: Option<CpuSet>,
    said: BTreeSet<String>,
}

/// Time within which workers make themselves known, if they have any new connections: with lasting ones
/// only they do not, and table and interrupts are all there is. On a loaded emulated machine they took 7 s.
const LEARNING: Duration = Duration::from_secs(10);

impl Accept {
    /// Loads the kernel side, takes in the listeners that are there, and begins to steer.
    pub fn start(
        options: &AcceptOptions,
        root: &Root,
        interfaces: BTreeSet<u32>,
        journal: JournalPlace<'_>,
        say: &dyn Fn(&str),
    ) -> anyhow::Result<Self> {
        let mechanism = options.by.unwrap_or(Mechanism::SkLookup);
        let mut side = AcceptSide::start(Way::chooser(mechanism))?;
        side.follow(&options.ports)?;
        if let Fact::No(why) | Fact::Unknown(why) = side.chooses() {
            let name = mechanism.name();
            anyhow::bail!("connections cannot be steered by {name} here: {why}");
        }
        let way = Way::open(mechanism, journal, root, &side)?;
        let mut accept = Self {
            side,
            way,
            root: root.clone(),
            ports: options.ports.clone(),
            book: Book::default(),
            interfaces,
            own_addresses: BTreeSet::new(),
            counted: BTreeMap::new(),
            reported_ns: host::monotonic_ns(),
            looks: 0,
            begun: Instant::now(),
            failures: 0,
            workers: None,
            said: BTreeSet::new(),
        };
        accept.tick(None, say)?;
        if Way::chooser(mechanism) == Chooser::Lookup {
            accept.side.attach_lookup()?;
        }
        Ok(accept)
    }

    /// What `options` ask for. Where this kernel cannot, that is said, and all else goes on; a dry run
    /// says whom it would follow.
    pub fn wanted(
        options: &Options,
        machine: &Machine,
        say: &dyn Fn(&str),
    ) -> anyhow::Result<Option<Self>> {
        if options.accept.ports.is_empty() {
            return Ok(None);
        }
        if options.dry_run {
            for group in groups(&listening_on(&options.accept.ports)?) {
                let count = group.sockets.len();
                say(&format!("accept {}: {count} sockets would be followed", group.endpoint));
            }
            return Ok(None);
        }
        let boot_id = machine.boot_id()?;
        let nic = options.nics.first().map_or("", |nic| nic.name.as_str());
        let journal = JournalPlace { state_dir: &options.state_dir, nic, boot_id: &boot_id };
        let interfaces = Self::interfaces_of(&options.nics);
        match Self::start(&options.accept, machine.root(), interfaces, journal, say) {
            Ok(accept) => Ok(Some(accept)),
            Err(error) if is_refusal(&error) => Err(error.context(
                "accept steering takes CAP_NET_ADMIN for its map of sockets, beside CAP_BPF and \
                 CAP_PERFMON",
            )),
            Err(error) => {
                say(&format!("no accept steering: {error:#}"));
                Ok(None)
            }
        }
    }

    /// Reads and writes the maps once, as every later look does, to see that it may.
    pub fn try_maps(&mut self) -> anyhow::Result<()> {
        let read = self.side.read()?;
        self.book.learn(&read);
        for port in &self.ports {
            // As of the first look: nothing is known better now.
            let known_ns = self.side.known_ns(*port)?;
            self.side.know(*port, known_ns)?;
        }
        Ok(())
    }

    /// The interfaces by which steered connections come: those of `nics` and what is stacked on them.
    #[must_use]
    pub fn interfaces_of(nics: &[Nic]) -> BTreeSet<u32> {
        let of = |nic: &Nic| [nic.ifindex].into_iter().chain(nic.upper_ifindexes.clone());
        nics.iter().flat_map(of).collect()
    }

    /// They have changed.
    pub fn set_interfaces(&mut self, interfaces: BTreeSet<u32>) {
        self.interfaces = interfaces;
    }

    /// One look: who listens, what was seen, what follows. `rights` are raised where there are sockets
    /// that were not there before.
    pub fn tick(&mut self, rights: Option<&Rights>, say: &dyn Fn(&str)) -> anyhow::Result<()> {
        let at_ns = host::monotonic_ns();
        let sockets = listening_on(&self.ports)?;
        let slowly = self.looks.is_multiple_of(SLOWER);
        let mut changes = self.book.notice(&sockets);
        if slowly {
            changes.added.extend(self.book.retries());
        }
        let privileged = |act: &mut dyn FnMut() -> anyhow::Result<()>| match rights {
            Some(rights) => rights.with_reserve(act)?,
            None => act(),
        };
        if !changes.is_empty() {
            privileged(&mut || self.take_in(&changes, say))?;
        }
        if slowly {
            self.look_at_masks();
            self.own_addresses = diag::own_addresses()?;
        }
        self.looks = self.looks.wrapping_add(1);
        self.book.learn(&self.side.read().context("reading the maps of accept steering")?);
        if self.way.wishes(&self.book, slowly || !changes.is_empty()) {
            let Self { way, book, side, .. } = self;
            privileged(&mut || {
                way.grant(book, side, say);
                Ok(())
            })?;
        }
        let places = AcceptTable {
            interfaces: self.interfaces.clone(),
            own_addresses: self.own_addresses.clone(),
            ..AcceptTable::default()
        };
        let mut table = self.book.table(&places);
        self.way.leave(&self.book, &mut table);
        self.side.tell(&table)?;
        for port in &self.ports {
            self.side.know(*port, at_ns.saturating_sub(SETTLE_NS))?;
        }
        if let Some(workers) = self.book.workers() {
            self.workers = Some(workers);
        }
        Ok(())
    }

    /// One look that may fail: a few in a row are borne, for what was told last still holds, and a port
    /// whose listeners change meanwhile is the kernel's. False where it is to end.
    pub fn look(&mut self, rights: &Rights, say: &dyn Fn(&str)) -> bool {
        match self.tick(Some(rights), say) {
            Ok(()) => {
                self.failures = 0;
                true
            }
            Err(error) => {
                self.failures += 1;
                if self.failures == 1 {
                    say(&format!("accept: listeners cannot be followed: {error:#}"));
                }
                self.failures < MOST_FAILURES
            }
        }
    }

    /// CPUs of the workers, once each worker's is known; those known last while they are learned anew.
    #[must_use]
    pub fn workers(&self) -> Option<&CpuSet> {
        self.workers.as_ref()
    }

    /// Why queues are better left alone for now: where the workers are is about to be known, and decides
    /// where queues go. A listener without traffic must not make that last.
    #[must_use]
    pub fn why_wait(&self) -> Option<&'static str> {
        (self.workers.is_none() && self.begun.elapsed() < LEARNING)
            .then_some("accept steering is learning where the workers are")
    }

    fn look_at_masks(&mut self) {
        let numbers: Vec<u16> = self.book.groups().filter_map(|(_, group)| group.number).collect();
        for number in numbers {
            let Some(group) = self.book.group_mut(number) else { continue };
            for booked in group.members.values_mut() {
                if let Some((pid, tid)) = booked.memory.thread() {
                    booked.memory.set_mask(listener::thread_mask(&self.root, pid, tid));
                }
            }
        }
    }

    /// What became of connections since the last report.
    pub fn report(&mut self) -> Vec<ListenerReport> {
        let now_ns = host::monotonic_ns();
        let window_s = now_ns.saturating_sub(self.reported_ns) as f64 / 1e9;
        self.reported_ns = now_ns;
        let mut reports = Vec::new();
        let mut counted = BTreeMap::new();
        for (endpoint, group) in self.book.groups() {
            let earlier = self.counted.get(endpoint).cloned().unwrap_or_default();
            let mechanism = self.way.mechanism();
            reports.push(ListenerReport::new(endpoint, group, &earlier, window_s, mechanism));
            counted.insert(endpoint.clone(), Counted::of(group));
        }
        self.counted = counted;
        reports
    }

    /// Ends it: with the value the lookup is gone, programs are taken out of groups, and options of
    /// sockets are put back if `restore`. False where one could not be.
    #[must_use]
    pub fn finish(mut self, rights: &Rights, restore: bool, say: &dyn Fn(&str)) -> bool {
        let programs = self.way.programs_to_tell(&mut self.side);
        let Self { way, side, .. } = self;
        // A program that is taken out has its sockets by then, which the map would keep from others.
        let complete = rights.with_reserve(|| way.end(restore, programs.as_ref(), say));
        drop(side);
        complete.unwrap_or(false)
    }

    /// The sockets that are followed.
    pub fn sockets(&self) -> impl Iterator<Item = &ListeningSocket> {
        self.book
            .groups()
            .flat_map(|(_, group)| group.members.values())
            .map(|booked| &booked.socket)
    }
}
