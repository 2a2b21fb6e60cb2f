//! Connect steering, tick by tick: what became of connections, which destinations can be steered,
//! whether replies come where they are to, and what the programs are told.
//!
//! Everything here errs towards leaving connections alone. A failure of connect steering stops connect
//! steering and is said; the NIC's own steering goes on.

mod destinations;
mod group;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use steer_common::connect::ConnectKnobs;

use crate::model::connect::Pool;
use crate::model::{CpuSet, MappingVerdict, Nic, NicWorld, Sample, World};
use crate::observe::kernel::connect_fields;
use crate::report::{ConnectStatus, NicState};
use crate::sys::{Machine, Root, cgroup, diag, netns, root};
use group::Group;

/// Ticks between two counts of the ports in use: the kernel walks all its connections for that.
const COUNT_EVERY: u64 = 8;

/// What there is to know for connect steering in one tick.
pub struct Now<'a> {
    /// The window.
    pub world: &'a World,
    /// The latest sample: settings as they are after this tick's writes.
    pub sample: &'a Sample,
    /// Each NIC with what steer does with it.
    pub states: &'a [(String, NicState)],
    /// Whether something was written, so that flows may have been seen under older settings.
    pub wrote: bool,
    /// Tells the operator.
    pub say: &'a dyn Fn(&str),
}

/// Connect steering in all cgroups that it was asked for.
#[derive(Debug)]
pub struct Connects {
    machine_root: Root,
    groups: Vec<Group>,
    /// NICs by slot.
    slots: Vec<String>,
    pool: Pool,
    reuse_time_wait: bool,
    ports_in_use: Option<usize>,
    ticks: u64,
    said: Option<String>,
}

impl Connects {
    /// Loads and attaches the program in each cgroup; without any, does nothing. Must be called with
    /// the rights that loading takes.
    pub fn begin(
        machine: &Machine,
        cgroups: &[String],
        nics: &[Nic],
        say: &dyn Fn(&str),
    ) -> Result<Self> {
        let mut this = Self {
            machine_root: machine.root().clone(),
            groups: Vec::new(),
            slots: nics.iter().map(|nic| nic.name.clone()).collect(),
            pool: Pool::default(),
            reuse_time_wait: false,
            ports_in_use: None,
            ticks: 0,
            said: None,
        };
        if cgroups.is_empty() {
            return Ok(this);
        }
        let (knobs, missing) = connect_fields()?;
        for sentence in &missing {
            say(sentence);
        }
        let cookie = match netns::cookie() {
            Ok(cookie) => cookie,
            // What else steer does here it does on such a kernel too.
            Err(error) => {
                say(&format!(
                    "connects are left alone: program and agent must know their network namespace by \
                     the cookie that kernels have since 5.14 ({error})"
                ));
                return Ok(this);
            }
        };
        this.read_ports().context(
            "connects cannot be steered without knowing which ports the kernel chooses from",
        )?;
        let buckets = nics.iter().filter_map(|nic| nic.rss.as_ref()).map(|rss| rss.table.len());
        let buckets = u32::try_from(buckets.max().unwrap_or(0))?;
        for name in cgroups {
            let unusable = || {
                format!(
                    "connects of `{name}` cannot be steered, expected a cgroup by its path below the root of \
                     the hierarchy, or pid:PID"
                )
            };
            let path = cgroup::path_of(machine.root(), name).with_context(unusable)?;
            if name.starts_with("pid:")
                && let Some(count) = cgroup::processes(&path)
            {
                let place = path.display();
                say(&format!("{name} is in {place}: connects of all {count} processes there"));
            }
            let group =
                begin_group(path, knobs, nics.len(), buckets, cookie).with_context(unusable)?;
            say(&format!(
                "{}: connects are hooked; steered once a NIC's hash is confirmed",
                group.name()
            ));
            this.groups.push(group);
        }
        Ok(this)
    }

    /// Acts on one tick. A failure is said once and tried again with the next.
    pub fn tick(&mut self, now: &Now<'_>) {
        if self.groups.is_empty() {
            return;
        }
        self.ticks += 1;
        let said = match self.act(now) {
            Ok(()) => None,
            Err(error) => Some(format!("connect steering: {error:#}")),
        };
        if let Some(line) = said.as_ref().filter(|line| self.said.as_ref() != Some(line)) {
            (now.say)(line);
        }
        self.said = said;
    }

    fn act(&mut self, now: &Now<'_>) -> Result<()> {
        self.read_ports()?;
        let steerable = self.pool.steerable();
        if self.ticks % COUNT_EVERY == 1 {
            let (low, high) = self.pool.range;
            let held = diag::local_ports(low, high)?;
            let ours = held.iter().filter(|port| steerable.binary_search(port).is_ok());
            self.ports_in_use = Some(ours.count());
        }
        for group in &mut self.groups {
            group.follow(now.say)?;
            for (slot, name) in (0..).zip(&self.slots) {
                let nic = now.world.nics.iter().find(|nic| nic.nic.name == *name);
                let settings = now.sample.nics.iter().find(|nic| nic.nic.name == *name);
                let state = now.states.iter().find(|(of, _)| of == name).map(|(_, state)| *state);
                let trusted = nic.is_some_and(is_trusted) && state.is_some_and(is_steady);
                group.learn(slot, nic, settings.map(|nic| &nic.nic), trusted, now, &steerable)?;
            }
            group.judge(now)?;
            group.resolve()?;
            group.switch(self.ports_in_use, steerable.len(), self.reuse_time_wait, now)?;
        }
        Ok(())
    }

    /// CPUs on which connections are made; `None` without connect steering, or before there were any.
    #[must_use]
    pub fn workers(&self) -> Option<CpuSet> {
        let workers: CpuSet = self.groups.iter().flat_map(Group::workers).collect();
        (!workers.is_empty()).then_some(workers)
    }

    /// What to show.
    #[must_use]
    pub fn status(&self) -> Vec<ConnectStatus> {
        let steerable = self.pool.steerable().len();
        self.groups.iter().map(|group| group.status(self.ports_in_use, steerable)).collect()
    }

    fn read_ports(&mut self) -> Result<()> {
        let place = |name: &str| self.machine_root.proc(format!("sys/net/ipv4/{name}"));
        let of = |name: &str| root::read(&place(name));
        let reserved = of("ip_local_reserved_ports").unwrap_or_default();
        let range = place("ip_local_port_range");
        self.pool = Pool::parse(&root::read(&range)?, &reserved)
            .with_context(|| range.display().to_string())?;
        self.reuse_time_wait = of("tcp_tw_reuse").is_ok_and(|value| value.trim() == "1");
        Ok(())
    }
}

fn begin_group(
    path: PathBuf,
    knobs: ConnectKnobs,
    slots: usize,
    buckets: u32,
    cookie: u64,
) -> Result<Group> {
    Group::begin(path, knobs, u32::try_from(slots)?, buckets, cookie)
}

/// Whether the table decides the queue, as far as is known. Too few flows to tell say nothing new.
fn is_trusted(nic: &NicWorld) -> bool {
    nic.mapping.verdict() != MappingVerdict::Unverified
}

/// Whether the NIC's settings are what they seem. A contested NIC's are: they are read anew each tick.
fn is_steady(state: NicState) -> bool {
    !matches!(state, NicState::Unverified | NicState::Unsteerable)
}
