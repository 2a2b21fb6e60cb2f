//! The results of a simulation as a table.

use comfy_table::{CellAlignment, Table, presets};

use crate::simulate::scheduler::SchedulerFigures;
use crate::simulate::traffic::TrafficFigures;
use crate::simulate::{Results, Rows};

/// The results as text.
#[must_use]
pub fn simulation(results: &Results) -> String {
    let Results { scenario, seconds, seeds, rows } = results;
    let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    let mut text = format!("{scenario}: {seconds} s, means over seeds {}\n", seeds.join(", "));
    let (table, notes) = match rows {
        Rows::Traffic(rows) => {
            let mut table = sheet(&[
                "policy",
                "aligned",
                "+-",
                "distance/pkt",
                "max/avg",
                "p99 max/avg",
                "consumer max/avg",
                "moves/s",
                "moved load %/s",
                "IRQ moves/min",
                "rule ops/s",
            ]);
            let mut notes = String::new();
            for row in rows {
                table.add_row(traffic(row.policy.name(), row.aligned_deviation, &row.mean));
                if let Some(handed) = row.mean.hand_off {
                    notes += &format!(
                        "  {}: aligned after handing over {:.2} of the packets over a distance of \
                         {:.2}, with {:.2} IPIs per packet at most\n",
                        row.policy, handed.share, handed.distance_per_packet, handed.ipi_per_packet
                    );
                }
            }
            (table, notes)
        }
        Rows::Scheduler(rows) => {
            let mut table = sheet(&[
                "policy",
                "when",
                "aligned",
                "distance/pkt",
                "table moves/s",
                "IRQ moves/min",
                "migrations/s",
            ]);
            for row in rows {
                table.add_row(scheduler(row.policy.name(), "all", &row.mean));
                if let Some(last) = &row.last {
                    table.add_row(scheduler("", "last 30 s", last));
                }
            }
            (table, String::new())
        }
    };
    text += &format!("{}\n{notes}", table.trim_fmt());
    text
}

fn traffic(name: &str, deviation: f64, figures: &TrafficFigures) -> Vec<String> {
    vec![
        name.to_owned(),
        format!("{:.3}", figures.aligned),
        format!("{deviation:.3}"),
        format!("{:.2}", figures.distance_per_packet),
        format!("{:.2}", figures.max_over_avg),
        format!("{:.2}", figures.p99_max_over_avg),
        format!("{:.2}", figures.consumer_max_over_avg),
        format!("{:.1}", figures.moves_per_s),
        format!("{:.1}", figures.moved_load_percent_per_s),
        format!("{:.0}", figures.irq_moves_per_min),
        format!("{:.0}", figures.rule_ops_per_s),
    ]
}

fn scheduler(name: &str, when: &str, figures: &SchedulerFigures) -> Vec<String> {
    vec![
        name.to_owned(),
        when.to_owned(),
        format!("{:.2}", figures.aligned),
        format!("{:.2}", figures.distance_per_packet),
        format!("{:.1}", figures.moves_per_s),
        format!("{:.0}", figures.irq_moves_per_min),
        format!("{:.0}", figures.migrations_per_s),
    ]
}

/// A table without rules: names to the left, figures to the right.
fn sheet(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for (index, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((2, 0));
            if !matches!(*name, "policy" | "when") {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::simulate::{Selection, catalogue, run};

    fn text(name: &str, policy: &str) -> String {
        let mut scenario = catalogue::find(name).expect("built in");
        scenario.set_seconds(31);
        let selection = Selection::new(&scenario, &[policy.to_owned()]).expect("known");
        simulation(&run(name, &scenario, &selection, &Policy::default(), &[1, 2], &mut |_| {}))
    }

    #[test]
    fn each_policy_has_a_row() {
        let static_row = text("long16", "static");
        assert!(static_row.starts_with("long16: 31 s, means over seeds 1, 2\n"), "{static_row}");
        assert!(static_row.contains("moved load %/s"), "{static_row}");
        assert!(static_row.lines().any(|line| line.trim_start().starts_with("static ")));
        assert!(text("long16", "RFS ideal").contains("IPIs per packet"));
    }

    #[test]
    fn the_end_of_a_scheduler_run_is_told_apart() {
        assert!(text("sched8", "steer").contains("last 30 s"));
    }
}
