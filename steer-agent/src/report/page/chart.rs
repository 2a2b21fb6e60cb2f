//! Alignment over time, as a picture that stretches with the page. Lines do not grow with it, and what is
//! to be read beside it is text of the page.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::{Chapter, Point};
use crate::report::number::{count, percent};

/// Width and height of the drawing, in units that the page stretches.
const WIDE: f64 = 1000.0;
const HIGH: f64 = 100.0;
/// A window that was changed in is drawn at least so wide.
const LEAST_WIDTH: f64 = 3.0;

/// The course of alignment, and below it that of packets.
pub(super) fn course(chapter: &Chapter, length_s: f64) -> Markup {
    let share =
        |point: &Point| (point.consumed > 0).then(|| point.aligned as f64 / point.consumed as f64);
    let rate = |point: &Point| Some(point.packets as f64 / point.span.length_s().max(1e-9));
    let most = chapter.course.iter().filter_map(rate).fold(1.0, f64::max);
    let said = described(chapter, &share);
    html! {
        figure.course {
            figcaption { "Aligned share of what was read, window by window" }
            (panel(chapter, length_s, &["100 %", "50 %", "0 %"].map(str::to_owned), &said, &share))
            figcaption { "Packets per second" }
            (panel(
                chapter,
                length_s,
                &[count(most), count(most / 2.0), "0".to_owned()],
                &format!("Packets per second over the same time, at most {}.", count(most)),
                &|point| rate(point).map(|rate| rate / most),
            ))
            div.times aria-hidden="true" {
                span { "0 s" }
                span { (format!("{:.0} s", length_s / 2.0)) }
                span { (format!("{length_s:.0} s")) }
            }
            p.legend {
                span.swatch.changed {} " settings were changed in this window"
                @if chapter.put_back_s.is_some() { "; at the last of them they were put back" }
            }
        }
    }
}

/// The picture in a sentence.
fn described(chapter: &Chapter, share: &dyn Fn(&Point) -> Option<f64>) -> String {
    let shares: Vec<f64> = chapter.course.iter().filter_map(share).collect();
    let least = shares.iter().copied().reduce(f64::min);
    let most = shares.iter().copied().reduce(f64::max);
    let mut text = format!(
        "Aligned share over {} points in time: from {} at first to {} at last, between {} and {}.",
        chapter.course.len(),
        percent(shares.first().copied()),
        percent(shares.last().copied()),
        percent(least),
        percent(most)
    );
    if let Some(span) = chapter.changed.first() {
        let _ = write!(text, " Settings were first changed at {:.1} s.", span.to_s);
    }
    text
}

fn panel(
    chapter: &Chapter,
    length_s: f64,
    labels: &[String; 3],
    said: &str,
    height: &dyn Fn(&Point) -> Option<f64>,
) -> Markup {
    let x = |at_s: f64| at_s / length_s.max(1e-9) * WIDE;
    html! {
        div.panel {
            div.scale aria-hidden="true" { @for label in labels { span { (label) } } }
            svg viewBox=(format!("0 0 {WIDE} {HIGH}")) preserveAspectRatio="none" role="img"
                aria-label=(said) {
                @for line in [0.0, 50.0, 100.0] {
                    line.grid x1="0" x2=(WIDE) y1=(line) y2=(line) {}
                }
                @for span in &chapter.changed {
                    rect.changed x=(format!("{:.1}", x(span.from_s))) y="0" height=(HIGH)
                        width=(format!("{:.1}", (x(span.to_s) - x(span.from_s)).max(LEAST_WIDTH))) {}
                }
                @for (area, line) in lines(chapter, &x, height) {
                    path.area d=(area) {}
                    path.line d=(line) {}
                }
            }
        }
    }
}

/// Steps, one for each point: what is shown is of the whole window. Where nothing is known there is a
/// gap, and a new pair of area and line begins.
fn lines(
    chapter: &Chapter,
    x: &dyn Fn(f64) -> f64,
    height: &dyn Fn(&Point) -> Option<f64>,
) -> Vec<(String, String)> {
    let mut runs: Vec<Vec<(f64, f64, f64)>> = Vec::new();
    let mut going_on = false;
    for point in &chapter.course {
        let Some(share) = height(point) else {
            going_on = false;
            continue;
        };
        let step = (x(point.span.from_s), x(point.span.to_s), HIGH * (1.0 - share.clamp(0.0, 1.0)));
        match runs.last_mut().filter(|_| going_on) {
            Some(run) => run.push(step),
            None => runs.push(vec![step]),
        }
        going_on = true;
    }
    let paths = |run: &Vec<(f64, f64, f64)>| {
        let mut line = String::new();
        for (index, (from, to, y)) in run.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(line, "{letter}{from:.1} {y:.1}L{to:.1} {y:.1}");
        }
        let (first, last) =
            (run.first().map_or(0.0, |step| step.0), run.last().map_or(0.0, |step| step.1));
        (format!("{line}L{last:.1} {HIGH}L{first:.1} {HIGH}Z"), line)
    };
    runs.iter().map(paths).collect()
}
