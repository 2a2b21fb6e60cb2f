//! The operations that lead from the rules in force to those that are wanted.

use std::collections::HashSet;

use super::choice::{Candidate, Choice, Chooser, Wish};
use super::{MOST_OPERATIONS, PATIENCE};
use crate::model::{Location, Rule, RuleContent};
use crate::plan::{Change, Step, Target, Value};

impl Chooser<'_> {
    /// From the rules in force to the wishes, most worthy first, as far as a period allows.
    pub(super) fn operations(
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
                let writes = self.change(pin.location, pin.rule, candidate, wish);
                if left < writes.len() {
                    waiting += 1;
                    continue;
                }
                left -= writes.len();
                choice.gain_per_s += gain(candidate, wish);
                changes.extend(writes);
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
