//! What it all comes to: a figure, and two sentences.

use super::{Chapter, Phase};
use crate::model::MappingVerdict;
use crate::plan::Target;
use crate::report::NicState;
use crate::report::number::{count, percent};

/// Change of the share below which things are as before.
const SAME: f64 = 0.02;
/// Share that must be to be gained for advice to be worth a sentence.
const WORTH_IT: f64 = 0.05;
/// Change of what is read per second above which two phases are of different loads.
const OTHER_LOAD: f64 = 0.15;

/// A figure and what it says.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The share before, or the only one.
    pub(super) before: Option<f64>,
    /// The share after, where settings were changed; nothing consumed leaves none.
    #[allow(clippy::option_option, reason = "no change and an unknown share are not the same")]
    pub(super) after: Option<Option<f64>>,
    /// Two sentences.
    pub(super) sentences: [String; 2],
}

/// The verdict on one NIC.
pub(super) fn of(chapter: &Chapter) -> Verdict {
    let before = chapter.before.status.alignment.share;
    let after = chapter.after.as_ref().map(|phase| phase.status.alignment.share);
    let sentences = match &chapter.after {
        Some(phase) => changed(chapter, &chapter.before, phase),
        None if chapter.moves.is_empty() => looked_at(&chapter.before),
        None => {
            let [what, then] = looked_at(&chapter.before);
            let late = "Settings were changed, but no whole window was seen with both sides of it: there \
                        is nothing to compare";
            [what, format!("{late}. {then}")]
        }
    };
    Verdict { before, after, sentences }
}

/// Whole percent are enough for a sentence; the table of figures has more.
fn whole(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn read_where(share: f64) -> String {
    format!("{} of all reads happen on the CPU where the packets arrive", whole(share))
}

fn looked_at(phase: &Phase) -> [String; 2] {
    let status = &phase.status;
    let reason = || status.reason.clone().unwrap_or_default();
    if status.state == NicState::Unsteerable {
        return [format!("{}.", reason()), "Nothing of it was changed.".to_owned()];
    }
    let Some(share) = status.alignment.share else {
        return [
            "Nothing was read of what arrived here.".to_owned(),
            "There is nothing to align, or it is read where it cannot be followed.".to_owned(),
        ];
    };
    let first = format!("{}.", read_where(share));
    let name = &status.name;
    let second = if status.mapping.verdict == MappingVerdict::Unverified {
        format!("The table is not to be trusted, so nothing would be written: {}.", reason())
    } else {
        match status.alignment.achievable {
            Some(most) if most > share + WORTH_IT => format!(
                "Table and interrupts could bring it to {}: \u{201c}steer apply {name}\u{201d} writes once, \
                 \u{201c}steer run {name}\u{201d} keeps it so.",
                percent(Some(most))
            ),
            Some(most) => {
                let advice = status.levers.as_ref().and_then(|levers| levers.advice.clone());
                let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
                format!(
                    "Table and interrupts could reach {}, hardly more{advice}.",
                    percent(Some(most))
                )
            }
            None => format!("What could be reached cannot be told: {}.", status.mapping.evidence),
        }
    };
    [first, second]
}

fn changed(chapter: &Chapter, before: &Phase, after: &Phase) -> [String; 2] {
    let (then, now) = (&before.status.alignment, &after.status.alignment);
    let what = what_moved(chapter);
    let first = match (then.share, now.share) {
        (Some(then), Some(now)) => {
            let how = if now > then + SAME {
                format!("instead of {}", whole(then))
            } else if now + SAME < then {
                format!("which is less than the {} of before", whole(then))
            } else {
                format!("as before ({})", whole(then))
            };
            format!("After {what}, {}, {how}.", read_where(now))
        }
        (None, Some(now)) => {
            format!("After {what}, {}; nothing was read before.", read_where(now))
        }
        (_, None) => format!("After {what}, nothing was read, so there is nothing to judge by."),
    };
    let mut second = format!(
        "The modelled cost of crossing between caches went from {} to {} \u{b5}s per second",
        count(then.cost_ns_per_s / 1000.0),
        count(now.cost_ns_per_s / 1000.0)
    );
    if let Some(most) = now.achievable.or(then.achievable) {
        second += &format!(", and table and interrupts could reach {}", percent(Some(most)));
    }
    let (slower, faster) = (then.consumed_per_s, now.consumed_per_s);
    if (slower - faster).abs() > OTHER_LOAD * slower.max(1.0) {
        second += &format!(
            "; the load was another one ({} reads per second before, {} after)",
            count(slower),
            count(faster)
        );
    }
    if chapter.put_back_s.is_some() {
        second += "; everything was put back afterwards";
    }
    [first, format!("{second}.")]
}

/// "39 buckets and 4 interrupts were moved".
fn what_moved(chapter: &Chapter) -> String {
    let until = chapter.after.as_ref().map_or(f64::INFINITY, |phase| phase.span.to_s);
    let moves = || chapter.moves.iter().filter(move |change| change.at_s <= until);
    let buckets: usize = moves().map(|change| change.buckets).sum();
    let of = |is: fn(&Target) -> bool| moves().filter(|change| is(&change.target)).count();
    let counts = [
        (buckets, "bucket", "buckets"),
        (of(|target| matches!(target, Target::IrqAffinity { .. })), "interrupt", "interrupts"),
        (of(Target::is_rule), "exact-match rule", "exact-match rules"),
    ];
    let xps = of(|target| matches!(target, Target::Xps { .. }));
    // Transmit queues follow the interrupts; alone they are worth a word.
    let counts = if counts.iter().all(|(number, ..)| *number == 0) {
        [(xps, "transmit queue", "transmit queues"), counts[1], counts[2]]
    } else {
        counts
    };
    let words: Vec<String> = counts
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| format!("{number} {}", if *number == 1 { one } else { many }))
        .collect();
    let total: usize = counts.iter().map(|(number, ..)| number).sum();
    let were = if total == 1 { "was" } else { "were" };
    match words.split_last() {
        None => "settings were changed".to_owned(),
        Some((only, [])) => format!("{only} {were} moved"),
        Some((last, others)) => format!("{} and {last} {were} moved", others.join(", ")),
    }
}
