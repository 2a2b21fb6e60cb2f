//! Who is who: groups and members with their numbers, and what is remembered of each.
//!
//! A member keeps its number for as long as its socket lives, and a number that was given up is the
//! last to be given out again, so that what the kernel side still knows of the old one is forgotten
//! meanwhile. A worker that was reloaded comes with new sockets, and is learned anew.

use std::collections::{BTreeMap, BTreeSet};

use steer_common::accept::{GROUPS, MEMBERS};

use super::{GroupPlan, plan};
use crate::model::accept::{AcceptReading, AcceptTable, CpuOutcomes, Given};
use crate::model::listener::{Endpoint, Holder, Life, ListeningSocket, Memory, groups, targets};
use crate::model::{CpuId, CpuSet};

/// Connections for each member by which it is remembered where they arrive: what is older weighs less
/// and less. With a hundred for each a CPU that has its even share looks as if it had 1.3 times that
/// once in a thousand looks; and who becomes hot is known after one or two seconds of a slow service.
const MEMORY: f64 = 100.0;
/// How often it is tried to take in a socket: who holds one may not be seen at once, and one that is in
/// another map cannot be put into a second until the kernel has done away with that.
const MOST_TRIES: u8 = 8;

/// All groups on the ports that are steered.
#[derive(Debug, Default)]
pub struct Book {
    groups: BTreeMap<Endpoint, GroupState>,
    next_group: u16,
}

/// One group.
#[derive(Debug, Default)]
pub struct GroupState {
    /// Its number, where there was one left.
    pub number: Option<u16>,
    /// Its members.
    pub members: BTreeMap<u16, Booked>,
    /// Why its connections are left to the kernel, if so.
    pub refusal: Option<String>,
    /// The last plan.
    pub plan: GroupPlan,
    /// Since the start.
    pub outcomes: CpuOutcomes,
    /// Connections that were consumed for the first time, since the start.
    pub consumed: u64,
    /// Of those, such that arrived on the consumer's CPU.
    pub aligned: u64,
    /// Consumed connections by CPU, since the start.
    pub by_cpu: BTreeMap<CpuId, u64>,
    arrivals: BTreeMap<CpuId, f64>,
    last_outcomes: Vec<CpuOutcomes>,
    last_hashed: BTreeMap<CpuId, (u64, u64)>,
    next_member: u16,
}

/// One member.
#[derive(Debug)]
pub struct Booked {
    /// Its socket.
    pub socket: ListeningSocket,
    /// Who has it open.
    pub holders: Vec<Holder>,
    /// Why it cannot be given connections, if so.
    pub refusal: Option<String>,
    /// Where its connections are consumed.
    pub memory: Memory,
    last: BTreeMap<CpuId, (u64, u64, u64)>,
    tries: u8,
}

/// What has become of sockets since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Group, member and socket that are new.
    pub added: Vec<(u16, u16, ListeningSocket)>,
    /// Group and member that are gone.
    pub removed: Vec<(u16, u16)>,
}

impl Changes {
    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl Book {
    /// The groups.
    pub fn groups(&self) -> impl Iterator<Item = (&Endpoint, &GroupState)> {
        self.groups.iter()
    }

    /// The group of this number.
    pub fn group_mut(&mut self, number: u16) -> Option<&mut GroupState> {
        self.groups.values_mut().find(|group| group.number == Some(number))
    }

    /// Takes note of the sockets that listen on the steered ports now.
    pub fn notice(&mut self, sockets: &[ListeningSocket]) -> Changes {
        let mut changes = Changes::default();
        let now = groups(sockets);
        let present: BTreeMap<&Endpoint, BTreeSet<u64>> = now
            .iter()
            .map(|group| {
                let cookies = group.sockets.iter().map(|socket| socket.cookie).collect();
                (&group.endpoint, cookies)
            })
            .collect();
        self.groups.retain(|endpoint, state| {
            let cookies = present.get(endpoint);
            let number = state.number;
            state.members.retain(|member, booked| {
                let stays = cookies.is_some_and(|some| some.contains(&booked.socket.cookie));
                if let (false, Some(number)) = (stays, number) {
                    changes.removed.push((number, *member));
                }
                stays
            });
            cookies.is_some()
        });
        for group in &now {
            if !self.groups.contains_key(&group.endpoint) {
                let number = self.free_number();
                let refusal = number.is_none().then(|| {
                    format!("there are {GROUPS} other groups, as many as are steered at a time")
                });
                let state = GroupState { number, refusal, ..GroupState::default() };
                self.groups.insert(group.endpoint.clone(), state);
            }
            let Some(state) = self.groups.get_mut(&group.endpoint) else { continue };
            let Some(number) = state.number else { continue };
            for socket in &group.sockets {
                let cookie = socket.cookie;
                if state.members.values().any(|booked| booked.socket.cookie == cookie) {
                    continue;
                }
                let Some(member) = state.free_member() else {
                    state.refusal = Some(format!("it has more than {MEMBERS} sockets"));
                    break;
                };
                state.members.insert(
                    member,
                    Booked {
                        socket: socket.clone(),
                        holders: Vec::new(),
                        refusal: None,
                        memory: Memory::default(),
                        last: BTreeMap::new(),
                        tries: 0,
                    },
                );
                changes.added.push((number, member, socket.clone()));
            }
        }
        changes
    }

    /// Members that could not be taken in so far, and may be now.
    pub fn retries(&mut self) -> Vec<(u16, u16, ListeningSocket)> {
        let mut again = Vec::new();
        for group in self.groups.values_mut() {
            let Some(number) = group.number else { continue };
            for (member, booked) in &mut group.members {
                let may = booked.refusal.is_some() && booked.socket.inode > 0;
                if may && booked.tries < MOST_TRIES {
                    booked.tries += 1;
                    again.push((number, *member, booked.socket.clone()));
                }
            }
        }
        again
    }

    fn free_number(&mut self) -> Option<u16> {
        let limit = u16::try_from(GROUPS).unwrap_or(u16::MAX);
        let taken: BTreeSet<u16> = self.groups.values().filter_map(|group| group.number).collect();
        let number = next_free(&taken, self.next_group, limit)?;
        self.next_group = (number + 1) % limit;
        Some(number)
    }

    /// Takes in what the kernel side saw.
    pub fn learn(&mut self, reading: &AcceptReading) {
        for seen in &reading.seen {
            let Some(group) = self.group_mut(seen.group) else { continue };
            let now = (seen.connections, seen.aligned, seen.thread_changes);
            let (fresh, aligned) = match seen.member {
                None => {
                    let last = group.last_hashed.insert(seen.cpu, (now.0, now.1));
                    let (old, old_aligned) = last.unwrap_or_default();
                    (now.0.saturating_sub(old), now.1.saturating_sub(old_aligned))
                }
                Some(member) => {
                    let Some(booked) = group.members.get_mut(&member) else { continue };
                    let last = booked.last.insert(seen.cpu, now);
                    let (old, old_aligned, old_changes) = last.unwrap_or_default();
                    let fresh = now.0.saturating_sub(old);
                    let changes = now.2.saturating_sub(old_changes);
                    booked.memory.add(seen.cpu, fresh, changes, (seen.pid, seen.tid));
                    (fresh, now.1.saturating_sub(old_aligned))
                }
            };
            group.consumed += fresh;
            group.aligned += aligned;
            *group.by_cpu.entry(seen.cpu).or_default() += fresh;
        }
        for (number, by_cpu) in &reading.outcomes {
            if let Some(group) = self.group_mut(*number) {
                group.count(by_cpu);
            }
        }
        for group in self.groups.values_mut() {
            let lives: BTreeMap<u16, Life> = group
                .members
                .iter()
                .filter(|(_, booked)| booked.refusal.is_none())
                .map(|(member, booked)| (*member, booked.memory.life()))
                .collect();
            group.plan = match group.refusal {
                None => plan(&lives, group.members.len(), &group.arrivals),
                Some(_) => GroupPlan::default(),
            };
        }
    }

    /// CPUs that workers are at home on; `None` as long as some worker has not been seen enough, and
    /// where none has a home. A group that nobody connects to, as a port for TLS beside a busy one
    /// without, says nothing.
    #[must_use]
    pub fn workers(&self) -> Option<CpuSet> {
        let mut homes = Vec::new();
        let groups = self.groups.values();
        for group in groups.filter(|group| group.refusal.is_none() && group.members.len() > 1) {
            let members = group.members.values().filter(|booked| booked.refusal.is_none());
            let lives: Vec<Life> = members.map(|booked| booked.memory.life()).collect();
            if lives.iter().all(|life| *life == Life::Unknown) {
                continue;
            }
            for life in lives {
                match life {
                    Life::Unknown => return None,
                    life => homes.extend(life.home()),
                }
            }
        }
        let homes: CpuSet = homes.into_iter().collect();
        (!homes.is_empty()).then_some(homes)
    }

    /// What the kernel side is to go by.
    #[must_use]
    pub fn table(&self, places: &AcceptTable) -> AcceptTable {
        let endpoints: Vec<Endpoint> = self.groups.keys().cloned().collect();
        let number = |endpoint: &Endpoint| {
            let group = self.groups.get(endpoint)?;
            group.number.filter(|_| group.refusal.is_none())
        };
        let mut table = AcceptTable { targets: targets(&endpoints, number), ..places.clone() };
        for group in self.groups.values().filter(|group| group.refusal.is_none()) {
            let Some(number) = group.number else { continue };
            for (cpu, given) in &group.plan.choices {
                table.choices.insert((number, *cpu), given.clone());
            }
            if group.plan.trial != Given::default() {
                table.trials.insert(number, group.plan.trial.clone());
            }
        }
        table
    }
}

impl GroupState {
    fn free_member(&mut self) -> Option<u16> {
        let limit = u16::try_from(MEMBERS).unwrap_or(u16::MAX);
        let taken: BTreeSet<u16> = self.members.keys().copied().collect();
        let member = next_free(&taken, self.next_member, limit)?;
        self.next_member = (member + 1) % limit;
        Some(member)
    }

    /// CPUs that members are at home on.
    #[must_use]
    pub fn homes(&self) -> CpuSet {
        self.members.values().filter_map(|booked| booked.memory.life().home()).collect()
    }

    fn count(&mut self, by_cpu: &[CpuOutcomes]) {
        let mut fresh = 0;
        let mut arrived = Vec::new();
        for (cpu, now) in (0..).zip(by_cpu) {
            let last = self.last_outcomes.get(usize::try_from(cpu).unwrap_or(0));
            let since = now.since(&last.copied().unwrap_or_default());
            fresh += since.total();
            arrived.push((cpu, since.total()));
            self.outcomes = self.outcomes.and(&since);
        }
        self.last_outcomes = by_cpu.to_vec();
        let memory = MEMORY * self.members.len().max(1) as f64;
        let kept = (1.0 - fresh as f64 / memory).max(0.0);
        for count in self.arrivals.values_mut() {
            *count *= kept;
        }
        for (cpu, count) in arrived.into_iter().filter(|(_, count)| *count > 0) {
            *self.arrivals.entry(cpu).or_default() += count as f64;
        }
    }
}

/// The first number from `from` on, round `limit`, that is not taken.
fn next_free(taken: &BTreeSet<u16>, from: u16, limit: u16) -> Option<u16> {
    (from..limit).chain(0..from.min(limit)).find(|number| !taken.contains(number))
}

#[cfg(test)]
mod tests;
