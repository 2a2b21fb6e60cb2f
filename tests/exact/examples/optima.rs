//! Makes `steer-agent/src/plan/solve/optima.txt`: `cargo run --release -p steer-exact --example optima
//! SECONDS > FILE`, where SECONDS is what one problem may take. Takes about half an hour with 15.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{self, Write as _};

use steer_agent::plan::solve::families::{Family, Recipe};
use steer_agent::plan::solve::{Budget, Workspace};

/// Buckets, CPUs, and how many seeds of each family.
const SIZES: [(usize, usize, u64); 5] =
    [(16, 4, 3), (24, 6, 3), (32, 8, 2), (64, 8, 2), (128, 16, 1)];

fn main() -> io::Result<()> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(15.0);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "# family buckets cpus lambda_move limited seed optimum (proven by HiGHS to a gap of 1e-5)"
    )?;
    let mut workspace = Workspace::default();
    for (buckets, cpus, seeds) in SIZES {
        for seed in 1..=seeds {
            for family in Family::ALL {
                for (lambda_move, limited) in [(0.0, false), (0.3, false), (0.3, true)] {
                    // Limited problems take longest to prove.
                    if limited && seed % 2 == 0 {
                        continue;
                    }
                    let recipe = Recipe { family, buckets, cpus, lambda_move, limited, seed };
                    let problem = recipe.problem();
                    let hint = workspace.solve(&problem, &Budget::THOROUGH, 1, &mut || true);
                    let optimum = support::solve(&problem, &hint, seconds);
                    if optimum.proven {
                        writeln!(
                            out,
                            "{family:?} {buckets} {cpus} {lambda_move} {limited} {seed} {:.9e}",
                            optimum.objective
                        )?;
                        out.flush()?;
                    }
                }
            }
        }
    }
    Ok(())
}
