//! Which candidates fit: at most so many, and no CPU that rules bring packets to above its cap.
//!
//! It starts from the rules in force and changes them only for the better: what no longer fits goes,
//! what is worth most comes as long as there is room, and takes a place from something that is worth
//! less by a factor of [`KEEP`]. Every exchange raises the sum of worth, so it comes to an end; and
//! from where it ends there is nothing more to gain, so that the next time nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use super::KEEP;
use super::choice::{Candidate, Chooser, Wish};
use crate::model::{CpuId, QueueId};

/// Passes over all candidates in one period. Two do as a rule: whoever gets a rule leaves room where
/// the table had it, which others may take.
const PASSES: usize = 16;
/// Room for what sums of floats lose.
const SLACK: f64 = 1.0 + 1e-9;

/// Rules while they are chosen.
pub(super) struct Packing<'a> {
    chooser: &'a Chooser<'a>,
    candidates: &'a [Candidate],
    room: usize,
    /// By candidate.
    wishes: Vec<Option<Wish>>,
    count: usize,
    /// Packets per second by CPU, with all rules as wished.
    carried: BTreeMap<CpuId, f64>,
    /// Candidates with a rule by CPU, the least worthy first. The worth is above zero, so that its bits
    /// are in its order.
    on: BTreeMap<CpuId, BTreeSet<(u64, usize)>>,
    rules_on: BTreeMap<QueueId, usize>,
}

impl<'a> Packing<'a> {
    /// Nothing has a rule yet; `by_table` is what each CPU carries then.
    pub(super) fn new(
        chooser: &'a Chooser<'a>,
        candidates: &'a [Candidate],
        room: usize,
        by_table: BTreeMap<CpuId, f64>,
    ) -> Self {
        Self {
            chooser,
            candidates,
            room,
            wishes: vec![None; candidates.len()],
            count: 0,
            carried: by_table,
            on: BTreeMap::new(),
            rules_on: BTreeMap::new(),
        }
    }

    /// The wishes, in the order of candidates; `held` are the rules in force.
    pub(super) fn pack(mut self, held: &[Wish]) -> Vec<Wish> {
        for wish in held {
            if self.near(wish.candidate).contains(&wish.cpu) {
                self.add(*wish);
            }
        }
        self.drop_excess();
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&self.candidates[*a], &self.candidates[*b]);
            b.value.total_cmp(&a.value).then_with(|| a.flow.cmp(&b.flow))
        });
        for _ in 0..PASSES {
            let mut changed = false;
            for at in &order {
                changed |= self.wishes[*at].is_none() && self.try_place(*at);
            }
            if !changed {
                break;
            }
        }
        self.wishes.into_iter().flatten().collect()
    }

    /// What is too much, least worthy first: more rules than wanted, and more than a CPU may carry.
    fn drop_excess(&mut self) {
        while self.count > self.room {
            let Some(at) = self.least_worthy() else { return };
            self.remove(at);
        }
        // A rule that goes brings its load back to where the table has it, so all are looked at again.
        while let Some(cpu) = self.on.keys().copied().find(|cpu| self.is_over(*cpu)) {
            let Some((_, at)) = self.on.get(&cpu).and_then(|on| on.first().copied()) else {
                return;
            };
            self.remove(at);
        }
    }

    /// Gives the candidate a rule if there is room, or if something less worthy makes some.
    fn try_place(&mut self, at: usize) -> bool {
        if self.count < self.room {
            if let Some(wish) = self.place(at) {
                self.add(wish);
                return true;
            }
            let near = self.near(at).to_vec();
            return near.into_iter().any(|cpu| {
                let least = self.on.get(&cpu).and_then(|on| on.first().copied());
                least.is_some_and(|(_, least)| self.try_exchange(least, at))
            });
        }
        self.least_worthy().is_some_and(|least| self.try_exchange(least, at))
    }

    /// Takes the rule from `least` for `at`, if that is worth it and overloads nobody.
    fn try_exchange(&mut self, least: usize, at: usize) -> bool {
        if self.candidates[at].value <= KEEP * self.candidates[least].value {
            return false;
        }
        let Some(before) = self.wishes[least] else { return false };
        self.remove(least);
        // The other way round `at` may relieve the CPU that `least` comes back to.
        if let Some(wish) = self.place(at) {
            self.add(wish);
            if !self.is_over(self.candidates[least].by_table) {
                return true;
            }
            self.remove(at);
        }
        self.add(before);
        false
    }

    /// The least loaded of the nearest CPUs that have room.
    fn place(&self, at: usize) -> Option<Wish> {
        let candidate = &self.candidates[at];
        let load = |cpu: CpuId| self.carried.get(&cpu).copied().unwrap_or(0.0);
        let near = self.near(at).iter().copied();
        let cpu = near
            .filter(|cpu| load(*cpu) + candidate.load <= (self.chooser.cap)(*cpu) * SLACK)
            .min_by(|a, b| load(*a).total_cmp(&load(*b)))?;
        let queue = self.queue_on(cpu)?;
        Some(Wish { candidate: at, cpu, queue })
    }

    /// Of several queues on a CPU the one with the fewest rules, then the lowest.
    fn queue_on(&self, cpu: CpuId) -> Option<QueueId> {
        let queues = self.chooser.setting.world.queues.iter().zip(&self.chooser.to.cpus);
        queues
            .filter(|(_, at)| **at == Some(cpu))
            .map(|(queue, _)| queue.queue)
            .min_by_key(|queue| (self.rules_on.get(queue).copied().unwrap_or(0), *queue))
    }

    /// Whether a CPU to which rules bring packets carries too many.
    fn is_over(&self, cpu: CpuId) -> bool {
        let has_rules = self.on.get(&cpu).is_some_and(|on| !on.is_empty());
        let carried = self.carried.get(&cpu).copied().unwrap_or(0.0);
        has_rules && carried > (self.chooser.cap)(cpu) * SLACK
    }

    fn least_worthy(&self) -> Option<usize> {
        self.on.values().filter_map(|on| on.first()).min().map(|(_, at)| *at)
    }

    fn near(&self, at: usize) -> &[CpuId] {
        let nearest = self.chooser.nearest.get(&self.candidates[at].consumer);
        nearest.map_or(&[], |(_, near)| near)
    }

    fn add(&mut self, wish: Wish) {
        let candidate = &self.candidates[wish.candidate];
        *self.carried.entry(candidate.by_table).or_default() -= candidate.load;
        *self.carried.entry(wish.cpu).or_default() += candidate.load;
        let on = self.on.entry(wish.cpu).or_default();
        on.insert((candidate.value.to_bits(), wish.candidate));
        *self.rules_on.entry(wish.queue).or_default() += 1;
        self.wishes[wish.candidate] = Some(wish);
        self.count += 1;
    }

    fn remove(&mut self, at: usize) {
        let Some(wish) = self.wishes[at].take() else { return };
        let candidate = &self.candidates[at];
        *self.carried.entry(candidate.by_table).or_default() += candidate.load;
        *self.carried.entry(wish.cpu).or_default() -= candidate.load;
        if let Some(on) = self.on.get_mut(&wish.cpu) {
            on.remove(&(candidate.value.to_bits(), at));
        }
        if let Some(rules) = self.rules_on.get_mut(&wish.queue) {
            *rules = rules.saturating_sub(1);
        }
        self.count -= 1;
    }
}
