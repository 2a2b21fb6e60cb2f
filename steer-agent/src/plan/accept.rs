//! Who is given which connections: for each CPU the members of a group that live there, and how many
//! of the connections that arrive there they are given.
//!
//! # Shares
//! A member that lives on a busy CPU is not to drown. With `n` members, of which `k` live on CPU `c`
//! where a share `a` of all connections arrives, each of them has
//!
//! ```text
//! tried + a * s / k + left / n        s: share that is given, left: what nobody was given
//! ```
//!
//! of all connections, for what is left is spread over all `n` by the kernel's hash. `s` is the most
//! that keeps this within `CAP` of `1 / n`, for every CPU at once; lowering one raises what is left, so
//! that the greatest such shares are found from above.
//!
//! # Trials
//! Members of whom too little is known are given their even share at random, whatever CPU a connection
//! arrives on, which is what the hash would give them; so where they consume is learned without
//! anybody being favoured. Members without a home (roaming, or handing over to others) get a quarter of
//! that, so that it is noticed when they settle.
//!
//! Pure.

mod book;
pub(super) mod queues;

use std::collections::BTreeMap;

use steer_common::accept::{TRIED, WAYS};

use crate::model::CpuId;
use crate::model::accept::Given;
use crate::model::listener::Life;

pub use book::{Book, Booked, Changes, GroupState};

/// Most that a member is given, as a multiple of its even share.
pub const CAP: f64 = 1.3;
/// Weight of a trial of a member that is known to have no home.
const RETRIAL: f64 = 0.25;
/// Connections per member below which shares of CPUs are mostly chance, and nobody is capped.
const ENOUGH_PER_MEMBER: f64 = 16.0;
/// Rounds in which shares are lowered; each brings them at least a quarter nearer to the end.
const ROUNDS: usize = 64;

/// What one group's connections are given by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupPlan {
    /// By CPU.
    pub choices: BTreeMap<CpuId, Given>,
    /// To learn.
    pub trial: Given,
    /// The greatest share that a member is expected to have, as a multiple of the even one; `None`
    /// without traffic.
    pub expected_skew: Option<f64>,
    /// Share of connections that is expected to be consumed where it arrives; `None` without traffic.
    pub achievable: Option<f64>,
    /// The same by the kernel's hash alone.
    pub by_hash: Option<f64>,
}

/// Plans for the members with these lives, of `sockets` that the group has, under connections that arrive on CPUs at these rates (any
/// unit; only what they are relative to each other and to [`ENOUGH_PER_MEMBER`] counts).
#[must_use]
pub fn plan(
    members: &BTreeMap<u16, Life>,
    sockets: usize,
    arrivals: &BTreeMap<CpuId, f64>,
) -> GroupPlan {
    let mut plan = GroupPlan::default();
    // With one socket there is nothing to choose.
    if sockets < 2 {
        return plan;
    }
    let count = sockets.max(members.len()) as f64;
    let even = 1.0 / count;
    let mut weight = 0.0;
    let mut homes: BTreeMap<CpuId, Vec<u16>> = BTreeMap::new();
    for (member, life) in members {
        match life.home() {
            Some(cpu) => homes.entry(cpu).or_default().push(*member),
            None => {
                weight += if *life == Life::Unknown { 1.0 } else { RETRIAL };
                plan.trial.members.push(*member);
            }
        }
    }
    plan.trial.members.truncate(TRIED as usize);
    for residents in homes.values_mut() {
        residents.truncate(WAYS as usize);
    }
    plan.trial.share = weight / count;
    let total: f64 = arrivals.values().sum();
    let share_of = |cpu: &CpuId| {
        if total > 0.0 { arrivals.get(cpu).copied().unwrap_or(0.0) / total } else { 0.0 }
    };
    let rest = 1.0 - plan.trial.share;
    let mut shares: BTreeMap<CpuId, f64> = homes.keys().map(|cpu| (*cpu, 1.0)).collect();
    let left = |shares: &BTreeMap<CpuId, f64>| {
        let given: f64 = shares.iter().map(|(cpu, share)| share * share_of(cpu)).sum();
        (rest * (1.0 - given)).max(0.0)
    };
    if total >= ENOUGH_PER_MEMBER * count {
        for _ in 0..ROUNDS {
            let by_hash = left(&shares) * even;
            for (cpu, share) in &mut shares {
                let residents = homes.get(cpu).map_or(1, Vec::len) as f64;
                let arriving = rest * share_of(cpu) / residents;
                if arriving > 0.0 {
                    let room = (CAP * even - by_hash).max(0.0);
                    *share = share.min(room / arriving);
                }
            }
        }
    }
    if total > 0.0 {
        let by_hash = left(&shares) * even;
        // What nobody chose for falls on a CPU's own members by chance.
        let chance = |cpu: &CpuId| homes.get(cpu).map_or(0, Vec::len) as f64 * even;
        let arriving = || homes.keys().map(|cpu| (cpu, share_of(cpu)));
        let hashed: f64 = arriving().map(|(cpu, arriving)| arriving * chance(cpu)).sum();
        let given: f64 = arriving()
            .map(|(cpu, arriving)| {
                let share = rest * shares.get(cpu).copied().unwrap_or(0.0);
                arriving * (share + (1.0 - share) * chance(cpu))
            })
            .sum();
        // The sum of nothing is -0.
        plan.by_hash = Some(hashed + 0.0);
        plan.achievable = Some(given + 0.0);
        let most = shares.iter().map(|(cpu, share)| {
            let residents = homes.get(cpu).map_or(1, Vec::len) as f64;
            (rest * share_of(cpu) * share / residents + by_hash) * count
        });
        plan.expected_skew = Some(most.fold(0.0, f64::max));
    }
    plan.choices = homes
        .into_iter()
        .map(|(cpu, members)| {
            let share = shares.get(&cpu).copied().unwrap_or(0.0);
            // A thousandth more or less is no reason to write anew.
            (cpu, Given { share: (share * 1024.0).round() / 1024.0, members })
        })
        .collect();
    plan
}

#[cfg(test)]
mod tests;
