//! Which flows are to have a rule, and the fewest operations that lead there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{KEEP, LEAST_AGE_S, MOST_AGE_S, MOST_OPERATIONS, PATIENCE, PinSet, ROAMING_PER_S};
use crate::model::{
    CpuId, FlowAddr, Location, QueueId, Rule, RuleContent, RuleTable, can_be_ruled, canonical,
    why_no_rules,
};
use crate::plan::setting::{Arrangement, Setting, weight};
use crate::plan::{Change, Step, Target, Value};

/// Rounds in which a choice makes room for itself before it is taken as it is.
const ROUNDS: usize = 8;

/// What is to be done about rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::plan) struct Choice {
    /// Deletions, changes and additions, in this order.
    pub(in crate::plan) steps: Vec<Step>,
    /// Why not more.
    pub(in crate::plan) reasons: Vec<String>,
    /// Consumption per second that the steps align.
    pub(in crate::plan) gain_per_s: f64,
}

/// A flow that may have a rule.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    flow: FlowAddr,
    consumer: CpuId,
    /// Where its packets arrive by the table.
    by_table: CpuId,
    per_s: f64,
    /// Packets per second.
    load: f64,
    /// What a rule saves, times its age.
    value: f64,
    /// Its rule, by place in the set.
    pin: Option<usize>,
}

/// A flow that is to have a rule, and the queue that it is to name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wish {
    candidate: usize,
    cpu: CpuId,
    queue: QueueId,
}

/// Chooses for the time when `to` holds. `cap` is how many packets per second a CPU may carry.
pub(in crate::plan) fn choose(
    setting: &Setting<'_>,
    to: &Arrangement,
    cap: &dyn Fn(CpuId) -> f64,
) -> Choice {
    let pins = setting.experience.pins();
    let most = setting.policy.pins;
    if most == 0 && pins.is_empty() {
        return Choice::default();
    }
    let mut choice = Choice::default();
    if pins.rest > 0 {
        let why = format!("no rules for {} more periods: the driver refused one", pins.rest);
        choice.reasons.push(why);
        return choice;
    }
    let none = RuleTable::default();
    let table = setting.world.nic.rules.as_ref().unwrap_or(&none);
    let room = match why_no_rules(&setting.world.nic, pins.len()) {
        Some(why) => {
            choice.reasons.push(why);
            0
        }
        None => most.min(table.free() + pins.len()),
    };
    let chooser = Chooser { setting, to, cap, pins, table, nearest: nearest(setting, to) };
    let candidates = chooser.candidates();
    let wishes = chooser.wishes(&candidates, room);
    chooser.operations(&candidates, &wishes, room, &mut choice);
    choice
}

struct Chooser<'a> {
    setting: &'a Setting<'a>,
    to: &'a Arrangement,
    cap: &'a dyn Fn(CpuId) -> f64,
    pins: &'a PinSet,
    table: &'a RuleTable,
    /// By consumer: the least distance of a CPU with a queue, and those CPUs.
    nearest: BTreeMap<CpuId, (f64, Vec<CpuId>)>,
}

fn nearest(setting: &Setting<'_>, to: &Arrangement) -> BTreeMap<CpuId, (f64, Vec<CpuId>)> {
    let hosts: BTreeSet<CpuId> = to.cpus.iter().flatten().copied().collect();
    let consumers: BTreeSet<CpuId> = setting
        .world
        .flows
        .iter()
        .map(|flow| flow.consumer_cpu)
        .chain(setting.experience.pins().pins.iter().filter_map(|pin| pin.consumer_cpu))
        .collect();
    let of = |consumer: CpuId| {
        let cost = |host: CpuId| distance(setting, host, consumer);
        let least = hosts.iter().map(|host| cost(*host)).min_by(f64::total_cmp)?;
        let near = hosts.iter().copied().filter(|host| cost(*host) <= least).collect();
        Some((consumer, (least, near)))
    };
    consumers.into_iter().filter_map(of).collect()
}

fn distance(setting: &Setting<'_>, softirq: CpuId, consumer: CpuId) -> f64 {
    weight(setting.placement(), setting.host.topology.distance(softirq, consumer))
}

impl Chooser<'_> {
    /// Flows for which a rule saves something, in the order of the world; then flows with a rule that
    /// are silent for a while.
    fn candidates(&self) -> Vec<Candidate> {
        let own: HashMap<FlowAddr, usize> =
            self.pins.pins.iter().enumerate().map(|(at, pin)| (pin.rule.flow, at)).collect();
        let ruled: HashSet<FlowAddr> =
            self.table.rules.values().flatten().map(|rule| rule.flow).collect();
        let mut candidates = Vec::new();
        for flow in &self.setting.world.flows {
            let addr = canonical(flow.addr);
            let pin = own.get(&addr).copied();
            // A rule of somebody else's for the same flow stays, and would win or be refused beside.
            let is_theirs = pin.is_none() && ruled.contains(&addr);
            if is_theirs || self.pins.astray.contains(&addr) || !can_be_ruled(&addr) {
                continue;
            }
            if flow.moves_per_s > ROAMING_PER_S {
                continue;
            }
            // What has a rule was old enough; the kernel side may have forgotten it in between.
            let age_s = if pin.is_some() { flow.age_s.max(LEAST_AGE_S) } else { flow.age_s };
            let per_s = pin.map_or(flow.per_s, |at| self.pins.pins[at].per_s);
            candidates.extend(self.candidate(
                addr,
                flow.bucket,
                flow.consumer_cpu,
                (per_s, age_s),
                pin,
            ));
        }
        for (at, pin) in self.pins.pins.iter().enumerate() {
            if (1..PATIENCE).contains(&pin.unseen)
                && let Some(consumer) = pin.consumer_cpu
            {
                let worth = (pin.per_s, LEAST_AGE_S);
                candidates.extend(self.candidate(
                    pin.rule.flow,
                    pin.bucket,
                    consumer,
                    worth,
                    Some(at),
                ));
            }
        }
        candidates
    }

    fn candidate(
        &self,
        flow: FlowAddr,
        bucket: Option<usize>,
        consumer: CpuId,
        (per_s, age_s): (f64, f64),
        pin: Option<usize>,
    ) -> Option<Candidate> {
        let bucket = bucket?;
        let by_table = self.setting.cpu_of(*self.to.table.get(bucket)?, &self.to.cpus)?;
        let (least, _) = self.nearest.get(&consumer)?;
        let saved = distance(self.setting, by_table, consumer) - least;
        if age_s < LEAST_AGE_S || saved <= 0.0 || per_s <= 0.0 {
            return None;
        }
        let value = per_s * saved * age_s.min(MOST_AGE_S);
        let load = self.setting.traffic.load_of(bucket, per_s);
        Some(Candidate { flow, consumer, by_table, per_s, load, value, pin })
    }

    /// At most `room` candidates, the most worthy for which their CPU has room. Whoever gets a rule
    /// leaves room where the table had it, which others may take: so it is done again with those in
    /// their places until nothing changes. That also makes the choice its own answer the next time.
    fn wishes(&self, candidates: &[Candidate], room: usize) -> Vec<Wish> {
        // Packets by the table as if no flow had a rule.
        let mut by_table: BTreeMap<CpuId, f64> =
            self.setting.carried_by_table(self.to).into_iter().collect();
        for pin in &self.pins.pins {
            let cpu = pin
                .bucket
                .and_then(|bucket| self.setting.cpu_of(*self.to.table.get(bucket)?, &self.to.cpus));
            if let (Some(cpu), Some(bucket)) = (cpu, pin.bucket) {
                *by_table.entry(cpu).or_default() +=
                    self.setting.traffic.load_of(bucket, pin.per_s);
            }
        }
        let owned = |at: usize| candidates[at].pin.map(|pin| self.pins.pins[pin].rule.queue);
        let mut wishes: Vec<Wish> = (0..candidates.len())
            .filter_map(|candidate| {
                let queue = owned(candidate)?;
                let cpu = self.setting.cpu_of(queue, &self.to.cpus)?;
                Some(Wish { candidate, cpu, queue })
            })
            .collect();
        for _ in 0..ROUNDS {
            let next = self.pass(candidates, room, &by_table, &wishes);
            if next == wishes {
                break;
            }
            wishes = next;
        }
        wishes
    }

    fn pass(
        &self,
        candidates: &[Candidate],
        room: usize,
        by_table: &BTreeMap<CpuId, f64>,
        before: &[Wish],
    ) -> Vec<Wish> {
        let held: HashMap<usize, Wish> =
            before.iter().map(|wish| (wish.candidate, *wish)).collect();
        let mut carried = by_table.clone();
        for wish in before {
            let candidate = &candidates[wish.candidate];
            *carried.entry(candidate.by_table).or_default() -= candidate.load;
        }
        let worth =
            |at: usize| candidates[at].value * if held.contains_key(&at) { KEEP } else { 1.0 };
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|a, b| {
            worth(*b)
                .total_cmp(&worth(*a))
                .then_with(|| candidates[*a].flow.cmp(&candidates[*b].flow))
        });
        let mut rules_on: BTreeMap<QueueId, usize> = BTreeMap::new();
        let mut wishes = Vec::new();
        for at in order {
            if wishes.len() == room {
                break;
            }
            let candidate = &candidates[at];
            let Some((_, near)) = self.nearest.get(&candidate.consumer) else { continue };
            let held = held.get(&at);
            let fits = |cpu: CpuId| {
                let carried = carried.get(&cpu).copied().unwrap_or(0.0);
                carried + candidate.load <= (self.cap)(cpu) * (1.0 + 1e-9)
            };
            let stays = held.map(|wish| wish.cpu).filter(|cpu| near.contains(cpu) && fits(*cpu));
            let least_loaded = near.iter().copied().filter(|cpu| fits(*cpu)).min_by(|a, b| {
                let load = |cpu| carried.get(cpu).copied().unwrap_or(0.0);
                load(a).total_cmp(&load(b))
            });
            let Some(cpu) = stays.or(least_loaded) else { continue };
            let here = held.filter(|wish| wish.cpu == cpu).map(|wish| wish.queue);
            let Some(queue) = here.or_else(|| self.queue_on(cpu, &rules_on)) else { continue };
            *carried.entry(cpu).or_default() += candidate.load;
            *rules_on.entry(queue).or_default() += 1;
            wishes.push(Wish { candidate: at, cpu, queue });
        }
        wishes.sort_by_key(|wish| wish.candidate);
        wishes
    }

    /// Of several queues on a CPU the one with the fewest rules, then the lowest.
    fn queue_on(&self, cpu: CpuId, rules_on: &BTreeMap<QueueId, usize>) -> Option<QueueId> {
        let queues = self.setting.world.queues.iter().zip(&self.to.cpus);
        queues
            .filter(|(_, at)| **at == Some(cpu))
            .map(|(queue, _)| queue.queue)
            .min_by_key(|queue| (rules_on.get(queue).copied().unwrap_or(0), *queue))
    }

    /// From the rules in force to the wishes, most worthy first, as far as a period allows.
    fn operations(
        &self,
        candidates: &[Candidate],
        wishes: &[Wish],
        room: usize,
        choice: &mut Choice,
    ) {
        let mut wanted: Vec<(&Candidate, &Wish)> =
            wishes.iter().map(|wish| (&candidates[wish.candidate], wish)).collect();
        wanted.sort_by(|(a, _), (b, _)| {
            b.value.total_cmp(&a.value).then_with(|| a.flow.cmp(&b.flow))
        });
        let kept: HashSet<usize> = wanted.iter().filter_map(|(one, _)| one.pin).collect();
        let mut unwanted = (0..self.pins.len()).filter(|at| !kept.contains(at));
        let mut numbers = self.table.free_numbers();
        let mut free = self.table.free();
        let mut own = self.pins.len();
        let mut left = MOST_OPERATIONS;
        let mut waiting = 0usize;
        let (mut deletions, mut changes, mut additions) = (Vec::new(), Vec::new(), Vec::new());
        // Numbers of rules that this plan deletes, to be given to new ones.
        let mut freed: Vec<u32> = Vec::new();
        for (candidate, wish) in wanted {
            let rule = Rule::new(candidate.flow, wish.queue);
            if let Some(pin) = candidate.pin.map(|at| &self.pins.pins[at]) {
                if pin.rule == rule {
                    continue;
                }
                let changed = self.change(pin.location, pin.rule, candidate, wish);
                if left < changed.len() {
                    waiting += 1;
                    continue;
                }
                left -= changed.len();
                choice.gain_per_s += gain(candidate, wish);
                changes.extend(changed);
                continue;
            }
            let is_full = free == 0 || own >= room;
            if left < 1 + usize::from(is_full) {
                waiting += 1;
                continue;
            }
            if is_full {
                let Some(at) = unwanted.next() else { continue };
                let pin = &self.pins.pins[at];
                deletions.push(self.deletion(at));
                if let Location::At(number) = pin.location {
                    freed.push(number);
                }
                (left, own, free) = (left - 1, own - 1, free + 1);
            }
            let location = if self.table.driver_numbers {
                Location::Any(candidate.flow)
            } else {
                match numbers.next().or_else(|| freed.pop()) {
                    Some(number) => Location::At(number),
                    None => continue,
                }
            };
            (left, own, free) = (left - 1, own + 1, free - 1);
            choice.gain_per_s += gain(candidate, wish);
            additions.push(addition(location, candidate, wish));
        }
        for at in unwanted {
            if left == 0 {
                waiting += 1;
                continue;
            }
            left -= 1;
            deletions.push(self.deletion(at));
        }
        choice.steps = deletions;
        choice.steps.append(&mut changes);
        choice.steps.append(&mut additions);
        if waiting > 0 {
            choice.reasons.push(format!(
                "{waiting} rules wait: at most {MOST_OPERATIONS} operations in one period"
            ));
        }
    }

    fn change(
        &self,
        location: Location,
        old: Rule,
        candidate: &Candidate,
        wish: &Wish,
    ) -> Vec<Step> {
        let new = RuleContent::Exact(Rule::new(candidate.flow, wish.queue));
        let was = self.setting.cpu_of(old.queue, &self.to.cpus);
        let was = was.map_or("an unknown CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        let reason = format!(
            "CPU {} consumes it now, and queue {} is polled on {was}",
            candidate.consumer, old.queue
        );
        let (old, gain) = (RuleContent::Exact(old), gain(candidate, wish));
        match location {
            Location::At(_) => vec![step(location, old, new, gain, reason)],
            // A driver that numbers rules refuses a second one for the same flow.
            Location::Any(_) => vec![
                step(location, old, RuleContent::Empty, 0.0, reason.clone()),
                step(location, RuleContent::Empty, new, gain, reason),
            ],
        }
    }

    fn deletion(&self, at: usize) -> Step {
        let pin = &self.pins.pins[at];
        let reason = if self.setting.policy.pins == 0 {
            "exact-match rules are not wanted (--pins)".to_owned()
        } else if pin.unseen >= PATIENCE {
            format!("nothing of it was consumed for {} periods", pin.unseen)
        } else if self.pins.astray.contains(&pin.rule.flow) {
            "its packets come by another queue all the same".to_owned()
        } else {
            "the table does as well, or others are worth more".to_owned()
        };
        step(pin.location, RuleContent::Exact(pin.rule), RuleContent::Empty, 0.0, reason)
    }
}

fn addition(location: Location, candidate: &Candidate, wish: &Wish) -> Step {
    let rule = RuleContent::Exact(Rule::new(candidate.flow, wish.queue));
    let reason = format!(
        "CPU {} consumes {:.0} /s of it, and by the table it arrives on CPU {}",
        candidate.consumer, candidate.per_s, candidate.by_table
    );
    step(location, RuleContent::Empty, rule, gain(candidate, wish), reason)
}

/// Consumption that comes to the CPU where it arrives.
fn gain(candidate: &Candidate, wish: &Wish) -> f64 {
    if wish.cpu == candidate.consumer { candidate.per_s } else { 0.0 }
}

fn step(
    location: Location,
    from: RuleContent,
    to: RuleContent,
    gain_per_s: f64,
    reason: String,
) -> Step {
    let target = Target::Rule { location };
    let change = Change { target, from: Value::Rule(from), to: Value::Rule(to) };
    Step { change, gain_per_s, reason }
}
