//! What becomes of a change by what is seen after it.

use super::{Hand, REST, Steered};
use crate::apply::verify::{Promise, Verdict};
use crate::apply::{self, Receipt};
use crate::model::NicWorld;
use crate::plan::{Change, Host};
use crate::report::NicState;

/// Windows to wait for a queue to follow its interrupt before that is taken as the state of things.
const PATIENCE: u32 = 10;
/// Windows in a row in which something is worse than before until that is taken for harm: once may be
/// chance, and a change that fills a CPU or loses packets goes on doing so.
pub const LASTING: u32 = 3;

/// A change whose effect is still to be judged.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) promise: Promise,
    pub(super) windows: u32,
    /// Windows in a row in which something was worse than before.
    pub(super) suspect: u32,
}

impl Steered {
    /// Judges the change that waits, if any; harm is taken back.
    pub fn judge(&mut self, nic: &NicWorld, host: &Host<'_>, hand: &Hand<'_>) {
        let Some(mut waiting) = self.waiting.take() else { return };
        waiting.windows += 1;
        let suspect = std::mem::take(&mut waiting.suspect) + 1;
        match waiting.promise.judge(nic, host) {
            Verdict::Keep { share } => {
                let text =
                    share.map_or("unknown".to_owned(), |share| format!("{:.1} %", share * 100.0));
                self.remember(&format!("verified: aligned {text}"), hand);
                self.harms = 0;
            }
            Verdict::Pending(why) if waiting.windows < PATIENCE => {
                self.reason = Some(format!("pending: {why}"));
                self.waiting = Some(waiting);
            }
            Verdict::Pending(why) => {
                self.remember(&format!("still pending after {PATIENCE} windows: {why}"), hand);
            }
            Verdict::Suspect(why) if suspect < LASTING => {
                self.reason = Some(format!("pending: {why}; harm if that lasts"));
                self.waiting = Some(Waiting { suspect, ..waiting });
            }
            Verdict::Suspect(why) => {
                self.take_back(
                    &waiting.promise.changes,
                    &format!("{why}, for {LASTING} windows"),
                    hand,
                );
            }
            Verdict::Overtaken(why) => {
                let text = format!("not judged, the load is another by now: {why}");
                self.remember(&text, hand);
            }
            Verdict::TakeBack(why) => self.take_back(&waiting.promise.changes, &why, hand),
        }
    }

    /// Takes back what did harm, and rests.
    fn take_back(&mut self, changes: &[Change], why: &str, hand: &Hand<'_>) {
        let mut receipt = Receipt::default();
        apply::take_back(&self.name, changes, &self.journal, hand.port, &mut receipt);
        let undone: Vec<Change> = receipt.taken_back.iter().map(Change::inverse).collect();
        apply::forget_rules(&mut self.journal, &undone);
        self.holding.took_back(&receipt.taken_back);
        self.experience.taken_back();
        self.tally.taken_back += 1;
        self.just_written = true;
        self.settling = true;
        self.rest = REST << self.harms.min(6);
        self.harms += 1;
        let text = match self.left_by(&receipt) {
            None => format!("taken back: {why}"),
            Some(left) => format!("not all taken back, as it should have been: {why}{left}"),
        };
        self.set(NicState::Observing, &text, hand);
    }
}
