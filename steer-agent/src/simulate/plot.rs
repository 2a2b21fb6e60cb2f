//! Alignment and moved load over time as a picture: one line for each policy, as SVG text.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::results::{Results, Rows};

const SIZE: (u32, u32) = (1000, 640);
/// Policies differ by colour; after so many they begin again.
const COLOURS: [RGBColor; 11] = [
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(214, 39, 40),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(31, 119, 180),
    RGBColor(23, 190, 207),
    RGBColor(80, 80, 80),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// Why a picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw: {0}")]
pub struct PlotError(String);

/// A policy and its figure second by second.
struct Line {
    name: &'static str,
    values: Vec<f64>,
}

/// The picture of `results`, of their first seed.
pub fn svg(results: &Results) -> Result<String, PlotError> {
    let (aligned, moved, moved_name) = match &results.rows {
        Rows::Traffic(rows) => (
            rows.iter()
                .map(|row| line(row.policy.name(), &row.timeline, |second| second.aligned))
                .collect::<Vec<_>>(),
            rows.iter()
                .map(|row| line(row.policy.name(), &row.timeline, |s| s.moved_load_percent))
                .collect::<Vec<_>>(),
            "moved load, % per second",
        ),
        Rows::Scheduler(rows) => (
            rows.iter()
                .map(|row| line(row.policy.name(), &row.timeline, |second| second.aligned))
                .collect(),
            rows.iter()
                .map(|row| line(row.policy.name(), &row.timeline, |second| second.moves_per_s))
                .collect(),
            "table entries moved per second",
        ),
    };
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(error)?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        let title = format!("{}: aligned share", results.scenario);
        panel(&upper, &title, &aligned, 1.0, true)?;
        // The first plan may move everything; it must not flatten what follows.
        let mut heights: Vec<f64> = moved.iter().flat_map(|line| line.values.clone()).collect();
        heights.sort_by(f64::total_cmp);
        let usual = heights.get(heights.len() * 995 / 1000).copied().unwrap_or(0.0);
        panel(&lower, moved_name, &moved, (usual * 1.1).max(1.0), false)?;
        root.present().map_err(error)?;
    }
    Ok(text)
}

fn line<S>(name: &'static str, timeline: &[S], value: impl Fn(&S) -> f64) -> Line {
    Line { name, values: timeline.iter().map(value).collect() }
}

fn error(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    lines: &[Line],
    height: f64,
    legend: bool,
) -> Result<(), PlotError> {
    let seconds = lines.iter().map(|line| line.values.len()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..seconds as f64, 0.0..height)
        .map_err(error)?;
    chart.configure_mesh().x_desc("s").light_line_style(TRANSPARENT).draw().map_err(error)?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points =
            (1u32..).zip(&line.values).map(|(at, value)| (f64::from(at), value.min(height)));
        let drawn = chart.draw_series(LineSeries::new(points, colour)).map_err(error)?;
        let colour = *colour;
        if legend {
            drawn.label(line.name).legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
            });
        }
    }
    if legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .draw()
            .map_err(error)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::simulate::{Selection, catalogue, run};

    #[test]
    fn both_kinds_are_drawn_with_every_policy_named() {
        for (name, policies) in
            [("long16", ["static", "RSS++-like"]), ("sched8", ["static", "steer"])]
        {
            let mut scenario = catalogue::find(name).expect("built in");
            scenario.set_seconds(40);
            let names = policies.map(str::to_owned);
            let selection = Selection::new(&scenario, &names).expect("known");
            let results = run(name, &scenario, &selection, &Policy::default(), &[1], &mut |_| {});
            let svg = svg(&results).expect("drawn");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("polyline"));
            for policy in policies {
                assert!(svg.contains(policy), "{policy}");
            }
        }
    }
}
