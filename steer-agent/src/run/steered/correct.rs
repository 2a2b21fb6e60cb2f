//! How a plan is carried out, and what is said where that fails.

use super::{Hand, REST, Steered, Waiting, unix_time_s};
use crate::apply::verify::Promise;
use crate::apply::{self, Failure, Receipt};
use crate::model::NicWorld;
use crate::plan::{Change, Host, Plan, Step, Target};
use crate::report::{EventReport, NicState, text};

impl Steered {
    /// Writes what `plan` says, or says what it would write.
    pub fn correct(&mut self, nic: &NicWorld, host: &Host<'_>, plan: &Plan, hand: &Hand<'_>) {
        if self.dry_run {
            self.state = NicState::Observing;
            self.reason = Some("dry run: nothing is written".to_owned());
            if self.last_said.as_ref().is_none_or(|said| said.steps != plan.steps) {
                (hand.say)(text::plan(plan).trim_end());
                self.last_said = Some(plan.clone());
            }
            return;
        }
        if let Some(why) = hand.shut {
            self.set(NicState::Observing, why, hand);
            return;
        }
        if let Some(why) = nic.nic.polled_by_threads() {
            // From the first window on it may be so, with no change of state to say it at.
            if self.state == NicState::Observing && self.reason.as_ref() != Some(&why) {
                self.remember(&why, hand);
            }
            self.set(NicState::Observing, &why, hand);
            return;
        }
        if self.state != NicState::Steering {
            let text =
                format!("{}: steering; mapping verified: {}", self.name, nic.mapping.evidence());
            (hand.say)(&text);
            self.state = NicState::Steering;
        }
        // What waits has a reason of its own.
        if self.waiting.is_some() {
            return;
        }
        self.reason = plan.reasons.first().cloned();
        if plan.is_empty() {
            return;
        }
        // The planner heeds this too; a mistake there must not cost the link.
        let writes_table = plan.steps.iter().any(|step| step.change.target == Target::Table);
        if let Some(refusal) = hand.policy.table_refusal(&nic.nic).filter(|_| writes_table) {
            self.set(NicState::Observing, &refusal.to_string(), hand);
            return;
        }
        // What the driver thinks of rules must not cost the table.
        let (rules, settings): (Vec<Step>, Vec<Step>) =
            plan.steps.iter().cloned().partition(|step| step.change.target.is_rule());
        let receipt = match apply::apply(&self.name, &settings, hand.port, &mut self.journal) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.rest = REST;
                self.set(NicState::Observing, &error.to_string(), hand);
                return;
            }
        };
        self.holding.wrote(&receipt.done);
        self.holding.took_back(&receipt.taken_back);
        self.just_written = !receipt.done.is_empty() || receipt.failed.is_some();
        self.settling = self.just_written;
        if let Some(failure) = &receipt.failed {
            self.report_failure(failure, &receipt, hand);
            return;
        }
        if let Some(contest) = receipt.contested.first() {
            self.contested(contest, hand);
            return;
        }
        let mut done = receipt.done;
        done.append(&mut self.write_rules(&rules, hand));
        if done.is_empty() {
            return;
        }
        self.just_written = true;
        self.settling = true;
        self.experience.applied(plan);
        self.tally.count(&done, plan);
        self.expected = plan.share_planned.map(|share| (share, None));
        let share = |share: Option<f64>| share.map_or(0.0, |share| share * 100.0);
        let what = format!(
            "wrote {} settings, {} buckets moved: aligned {:.1} %, planned {:.1} %",
            done.len(),
            plan.buckets_moved(),
            share(plan.share_now),
            share(plan.share_planned)
        );
        (hand.say)(&format!("{}: {what}", self.name));
        let event =
            EventReport { at_unix_s: unix_time_s(), what, why: plan.main_reason(), wrote: true };
        self.last_change = Some(event.clone());
        self.note(event);
        let promise = Promise::new(done, nic, host, plan.share_planned);
        self.waiting = Some(Waiting { promise, windows: 0, suspect: 0 });
    }

    /// Writes exact-match rules, all or none, and returns what was written. A driver that refuses one
    /// is left in peace for a while; a place that somebody else has just taken is for the next plan.
    fn write_rules(&mut self, rules: &[Step], hand: &Hand<'_>) -> Vec<Change> {
        if rules.is_empty() {
            return Vec::new();
        }
        let receipt = match apply::apply(&self.name, rules, hand.port, &mut self.journal) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.experience.wrote_rules(false);
                self.remember(&format!("no exact-match rules: {error}"), hand);
                return Vec::new();
            }
        };
        self.holding.wrote(&receipt.done);
        self.holding.took_back(&receipt.taken_back);
        if let Some(failure) = &receipt.failed {
            self.experience.wrote_rules(false);
            let text = match self.left_by(&receipt) {
                None => format!("an exact-match rule failed, all were taken back: {failure}"),
                Some(left) => format!("an exact-match rule failed: {failure}{left}"),
            };
            self.remember(&text, hand);
        } else if !receipt.done.is_empty() {
            self.experience.wrote_rules(true);
        }
        receipt.done
    }

    /// Says of a write that failed what became of it, and rests.
    fn report_failure(&mut self, why: &Failure, receipt: &Receipt, hand: &Hand<'_>) {
        self.tally.failures += 1;
        let text = match self.left_by(receipt) {
            None => format!("a write failed and all was taken back: {why}"),
            Some(left) => format!("a write failed: {why}{left}"),
        };
        self.rest = REST << self.harms.min(6);
        self.harms += 1;
        self.set(NicState::Observing, &text, hand);
    }

    /// What was to be taken back and was not, as the end of a sentence, and the way out; `None` where
    /// all was.
    pub(super) fn left_by(&mut self, receipt: &Receipt) -> Option<String> {
        let failed = receipt.not_taken_back.iter();
        let failed = failed.map(|failure| format!("; could not take back {failure}"));
        let text: String =
            failed.chain(receipt.contested.iter().map(|contest| format!("; {contest}"))).collect();
        if text.is_empty() {
            return None;
        }
        self.left_behind += receipt.not_taken_back.len() + receipt.contested.len();
        Some(format!("{text}; the journal keeps it, `steer restore {}` tries again", self.name))
    }
}
