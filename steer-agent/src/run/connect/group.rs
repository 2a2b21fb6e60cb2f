//! Connect steering in one cgroup.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use steer_common::connect::{ConnectKnobs, Outcome, Steered};

use super::Now;
use super::destinations::{Destinations, address};
use crate::apply::connect::{Connect, Counts, Tables};
use crate::model::connect::{
    Evidence, HashModel, Judge, Near, Outlook, Seen, Tally, Verdict, learn, see,
};
use crate::model::{CpuId, CpuSet, Distance, Nic, NicWorld, Queue, QueueId, RssKey};
use crate::report::{ConnectState, ConnectStatus};
use crate::sys::cgroup::Cgroup;

/// Ticks without steering after too many replies came elsewhere; doubled with every further time, up
/// to 64-fold.
const REST: u32 = 60;
/// How far a CPU without a queue looks for one: a reply that comes to the same cache is worth it.
const FARTHEST: Distance = Distance::SameLlc;
/// Share of the ports that may be steered to above which no more are taken, and below which they are
/// again. A port that is taken serves no plain connection, whatever the destination.
const MOST_PORTS: f64 = 0.5;
const ENOUGH_PORTS: f64 = 0.4;
/// Connections before it is told which CPUs make them.
const WORKERS_FROM: u64 = 100;
/// Connections that the kernel refused to let share their ports before that is taken for its nature.
const REFUSALS: u64 = 8;

/// One NIC: what was learned of it, and what the program was told last.
#[derive(Debug, Default)]
struct SlotState {
    /// The key that was told when the hash was learned.
    key: Option<RssKey>,
    model: Option<HashModel>,
    evidence: Evidence,
    told: Option<Told>,
    /// Its queues by bucket, as they are now.
    table: Vec<QueueId>,
    /// Interfaces whose packets arrive through it, itself included.
    ifindexes: Vec<u32>,
}

/// Everything that the tables of a slot follow from.
#[derive(Debug, PartialEq)]
struct Told {
    model: HashModel,
    near: Near,
    families: [bool; 2],
    ports: Vec<u16>,
}

/// One cgroup.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    cgroup: Option<Cgroup>,
    connect: Connect,
    secret: u64,
    slots: Vec<SlotState>,
    destinations: Destinations,
    judge: Judge,
    /// Connections already compared: by CPU, when the last of them was made.
    compared_ns: BTreeMap<CpuId, u64>,
    /// Steered connections whose replies were not seen yet.
    open: Vec<(u32, Seen)>,
    counts: Counts,
    before: Counts,
    crowded: bool,
    rest: u32,
    harms: u32,
    state: ConnectState,
    reason: String,
}

impl Group {
    /// Loads the program and attaches it, where the cgroup is there.
    pub(super) fn begin(
        path: PathBuf,
        knobs: ConnectKnobs,
        slots: u32,
        buckets: u32,
        cookie: u64,
    ) -> Result<Self> {
        // The standard library seeds its hash maps from the kernel's random numbers.
        let secret = RandomState::new().hash_one(slots);
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?;
        let mut connect =
            Connect::load(knobs, slots, u32::try_from(cpus)?, buckets, cookie, secret)?;
        // A name that is mistyped is found out here, not waited for.
        let cgroup = Cgroup::open(&path)?;
        connect.attach(cgroup.directory())?;
        Ok(Self {
            path,
            cgroup: Some(cgroup),
            connect,
            secret,
            slots: (0..slots).map(|_| SlotState::default()).collect(),
            destinations: Destinations::default(),
            judge: Judge::default(),
            compared_ns: BTreeMap::new(),
            open: Vec::new(),
            counts: Counts::default(),
            before: Counts::default(),
            crowded: false,
            rest: 0,
            harms: 0,
            state: ConnectState::Calibrating,
            reason: "no reply was seen yet".to_owned(),
        })
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Follows the cgroup: a service that starts anew has another one of the same name.
    pub(super) fn follow(&mut self, say: &dyn Fn(&str)) -> Result<()> {
        if self.cgroup.as_ref().is_some_and(Cgroup::is_current) {
            return Ok(());
        }
        if self.cgroup.take().is_some() {
            self.connect.detach();
            say(&format!(
                "{}: the cgroup is gone; its connects are hooked when it is back",
                self.name()
            ));
        }
        match Cgroup::open(&self.path) {
            Ok(cgroup) => {
                self.connect.attach(cgroup.directory())?;
                self.cgroup = Some(cgroup);
                say(&format!("{}: the cgroup is back, and its connects are hooked", self.name()));
                Ok(())
            }
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Learns the hash of a NIC and tells the program what follows from it and from the settings.
    pub(super) fn learn(
        &mut self,
        slot: u32,
        nic: Option<&NicWorld>,
        settings: Option<&Nic>,
        trusted: bool,
        now: &Now<'_>,
        steerable: &[u16],
    ) -> Result<()> {
        let Some(state) = self.slots.get_mut(slot as usize) else { return Ok(()) };
        let (Some(nic), Some(settings), true) = (nic, settings, trusted) else {
            if state.told.take().is_some() {
                self.connect.silence(slot)?;
            }
            return Ok(());
        };
        let Some(rss) = &settings.rss else { return Ok(()) };
        state.table.clone_from(&rss.table);
        state.ifindexes = vec![settings.ifindex];
        state.ifindexes.extend(&settings.upper_ifindexes);
        if state.key != rss.key {
            state.model = None;
            state.key.clone_from(&rss.key);
        }
        if state.model.is_none() {
            match learn(&nic.nic, now.sample.flows.iter()) {
                Ok(model) => {
                    (now.say)(&format!(
                        "{}: {} hashes by the known key{}; connects through it can be steered",
                        self.path.display(),
                        nic.nic.name,
                        if model.initial == 0 { "" } else { " from an initial value of its own" }
                    ));
                    state.model = Some(model);
                }
                Err(evidence) => state.evidence = evidence,
            }
        }
        let Some(model) = state.model.clone() else { return Ok(()) };
        let near = Near::new(&rss.table, &polled_on(nic, settings), &now.sample.topology, FARTHEST);
        let fields = rss.hash_fields;
        let families = [fields.tcp4_ports.unwrap_or(true), fields.tcp6_ports.unwrap_or(true)];
        let told = Told { model, near, families, ports: steerable.to_vec() };
        if state.told.as_ref() == Some(&told) {
            return Ok(());
        }
        let buckets = u32::try_from(rss.table.len())?;
        let near = told.near.clone();
        let Some(tables) =
            Tables::new(&told.model, buckets, families, near, &told.ports, self.secret)
        else {
            return Ok(());
        };
        self.connect.tell(slot, &tables)?;
        state.told = Some(told);
        Ok(())
    }

    /// Compares the steered connections with the flows that were seen.
    pub(super) fn judge(&mut self, now: &Now<'_>) -> Result<()> {
        self.before = std::mem::replace(&mut self.counts, self.connect.counts()?);
        let fresh: Vec<Steered> = self
            .connect
            .recent()?
            .into_iter()
            .filter(|steered| {
                self.compared_ns.get(&steered.cpu).is_none_or(|before| steered.at_ns > *before)
            })
            .collect();
        for steered in fresh {
            let last = self.compared_ns.entry(steered.cpu).or_default();
            *last = steered.at_ns.max(*last);
            let remote = SocketAddr::new(address(steered.remote), steered.remote_port);
            let local = SocketAddr::new(address(steered.local), steered.local_port);
            let Steered { bucket, cpu, at_ns, .. } = steered;
            self.open.push((steered.slot, Seen { local, remote, bucket, cpu, at_ns }));
        }
        if now.wrote {
            // Their replies came under other settings than those that are compared with.
            self.open.clear();
            return Ok(());
        }
        let mut verdicts: Vec<(Seen, Verdict)> = Vec::new();
        for (slot, state) in (0..).zip(&self.slots) {
            let seen: Vec<Seen> =
                self.open.iter().filter(|(of, _)| *of == slot).map(|(_, seen)| *seen).collect();
            verdicts.extend(see(&seen, &now.sample.flows, &state.table));
        }
        let judged: HashSet<(SocketAddr, SocketAddr)> =
            verdicts.iter().map(|(seen, _)| (seen.local, seen.remote)).collect();
        // One that was not read within a few seconds is not waited for any longer.
        let oldest_ns = now.sample.at_ns.saturating_sub(5_000_000_000);
        self.open.retain(|(_, seen)| {
            seen.at_ns > oldest_ns && !judged.contains(&(seen.local, seen.remote))
        });
        self.judge.add(&verdicts);
        for (remote, tally) in self.judge.take_unpredictable() {
            let why = format!(
                "{} of {} replies came where they were to: its addresses are translated on the way, or \
                 its route is not what it seems",
                tally.hits,
                tally.seen()
            );
            (now.say)(&format!("{}: {remote} is left alone, {why}", self.name()));
            self.destinations.leave(remote, &why);
        }
        Ok(())
    }

    /// Answers the program's questions about destinations.
    pub(super) fn resolve(&mut self) -> Result<()> {
        self.destinations.resolve(&mut self.connect, &interfaces(&self.slots))
    }

    /// Switches steering on or off.
    pub(super) fn switch(
        &mut self,
        in_use: Option<usize>,
        steerable: usize,
        reuse_time_wait: bool,
        now: &Now<'_>,
    ) -> Result<()> {
        let share = in_use.map_or(0.0, |ports| ports as f64 / steerable.max(1) as f64);
        self.crowded = share > if self.crowded { ENOUGH_PORTS } else { MOST_PORTS };
        if let Some(tally) = self.judge.objection() {
            self.rest = REST << self.harms.min(6);
            self.harms += 1;
            self.judge.forget();
            self.open.clear();
            // Learned anew: another key may have been set.
            for slot in &mut self.slots {
                slot.model = None;
                slot.told = None;
            }
            self.reason = format!(
                "{} of {} replies came where they were to, 99 in 100 must",
                tally.hits,
                tally.seen()
            );
        }
        let (state, reason) = self.next_state(share);
        self.rest = self.rest.saturating_sub(1);
        self.connect.switch(state == ConnectState::Steering, reuse_time_wait)?;
        if state != self.state {
            (now.say)(&format!("{}: connects {}: {reason}", self.name(), state.name()));
        }
        (self.state, self.reason) = (state, reason);
        Ok(())
    }

    fn next_state(&self, share: f64) -> (ConnectState, String) {
        let told = self.slots.iter().any(|slot| slot.told.is_some());
        let refused = self.counts.total(Outcome::NoReuse);
        if self.cgroup.is_none() {
            (ConnectState::Absent, "there is no such cgroup".to_owned())
        } else if refused >= REFUSALS && self.counts.total(Outcome::Steered) == 0 {
            let why = "this kernel lets no program make a socket share its port (6.1 and later do); \
                       without that steering would use ports up";
            (ConnectState::Impossible, why.to_owned())
        } else if self.rest > 0 {
            (ConnectState::Resting, self.reason.clone())
        } else if !told {
            (ConnectState::Calibrating, self.calibration())
        } else if self.crowded {
            let why = format!("{:.0} % of the ports for it are in use", share * 100.0);
            (ConnectState::Crowded, why)
        } else {
            (ConnectState::Steering, "replies come to the CPU that connects".to_owned())
        }
    }

    fn calibration(&self) -> String {
        let best = self.slots.iter().map(|slot| slot.evidence).max_by_key(|best| best.checked);
        match best {
            Some(best) if best.checked > 0 => format!(
                "the known key explains {} of {} flows on {} queues; at least {} on two queues must \
                 be seen, and 99 in 100 explained",
                best.explained,
                best.checked,
                best.queues,
                Evidence::FEWEST
            ),
            _ => "no flow that shows the hash was seen yet, or the key is not known".to_owned(),
        }
    }

    /// What to show.
    pub(super) fn status(&self, in_use: Option<usize>, steerable: usize) -> ConnectStatus {
        let tally: Tally = self.judge.total;
        let connects = self.connects_by_cpu();
        let outlook: Option<Outlook> =
            self.slots.iter().find_map(|slot| slot.told.as_ref()?.near.outlook(&connects));
        ConnectStatus::new(
            self.name(),
            self.state,
            self.reason.clone(),
            |outcome| self.counts.total(outcome),
            tally,
            (in_use, steerable),
            outlook,
            self.destinations.report(),
        )
    }

    /// CPUs that make at least one in twenty of the connections since the start, once there are enough
    /// to tell. Not those of the last tick alone: queues are moved by it.
    pub(super) fn workers(&self) -> Vec<CpuId> {
        let mut made: BTreeMap<CpuId, u64> = BTreeMap::new();
        for outcome in [Outcome::Steered, Outcome::Unknown, Outcome::Off, Outcome::NoQueue] {
            for (cpu, count) in (0..).zip(self.counts.by_cpu(outcome)) {
                *made.entry(cpu).or_default() += count;
            }
        }
        let total: u64 = made.values().sum();
        if total < WORKERS_FROM {
            return Vec::new();
        }
        made.into_iter().filter(|(_, count)| count * 20 >= total).map(|(cpu, _)| cpu).collect()
    }

    /// Connections in the last tick by CPU, whatever became of them.
    fn connects_by_cpu(&self) -> Vec<(CpuId, u64)> {
        let mut connects: BTreeMap<CpuId, u64> = BTreeMap::new();
        let of_interest = Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_end() && *outcome != Outcome::NotTcp);
        for outcome in of_interest {
            let before = self.before.by_cpu(outcome);
            for ((cpu, now), index) in (0..).zip(self.counts.by_cpu(outcome)).zip(0usize..) {
                let then = before.get(index).copied().unwrap_or(0);
                *connects.entry(cpu).or_default() += now.saturating_sub(then);
            }
        }
        connects.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// Where each queue is polled: where its interrupt is set to go, which is what a change just written
/// has made of it, else where it is delivered, else where it was seen.
fn polled_on(nic: &NicWorld, settings: &Nic) -> BTreeMap<QueueId, CpuId> {
    let set = |queue: &Queue| {
        queue.affinity.as_ref().and_then(CpuSet::as_single).or_else(|| queue.irq_cpu())
    };
    let by_interrupt = settings.queues.iter().filter_map(|queue| Some((queue.id, set(queue)?)));
    let seen = nic.queues.iter().filter_map(|queue| Some((queue.queue, queue.napi_cpu()?)));
    seen.chain(by_interrupt).collect()
}

/// Interfaces through which connections are steered, with their slots; none where two NICs claim one.
fn interfaces(slots: &[SlotState]) -> BTreeMap<u32, Option<u32>> {
    let mut found: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    for (slot, state) in (0..).zip(slots).filter(|(_, state)| state.told.is_some()) {
        for ifindex in &state.ifindexes {
            found.entry(*ifindex).and_modify(|claimed| *claimed = None).or_insert(Some(slot));
        }
    }
    found
}
