//! `steer simulate`: the planner beside other policies on synthetic traffic.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::args::SimulateArgs;
use super::output::{note, print, print_json, print_line};
use super::{Exit, Settings};
use crate::config::keys::nearest;
use crate::report::simulation::simulation;
use crate::simulate::scenario::Scenario;
use crate::simulate::{self, Selection, catalogue, plot};

/// Time between two words on how far it is; whoever waits for less needs none.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn simulate(args: &SimulateArgs, settings: &Settings) -> anyhow::Result<Exit> {
    if args.list {
        list(args.json)?;
        return Ok(Exit::Done);
    }
    if args.plot.is_some() && args.scenarios.len() > 1 {
        bail!("--plot draws one scenario, and {} are named", args.scenarios.len());
    }
    let seeds: Vec<u64> = match (args.seeds, args.seed.as_slice()) {
        (Some(count), _) => (1..=count).collect(),
        (None, []) => vec![1],
        (None, seeds) => seeds.to_vec(),
    };
    // All of them are read before the first is run: a mistake shows at once.
    let mut scenarios = Vec::new();
    for name in &args.scenarios {
        let mut scenario = read(name)?;
        if let Some(seconds) = args.seconds {
            scenario.set_seconds(seconds);
            scenario.check().with_context(|| name.clone())?;
        }
        let selection = Selection::new(&scenario, &args.policy).with_context(|| name.clone())?;
        scenarios.push((name, scenario, selection));
    }
    // So does a place that nothing can be written to.
    if let Some(file) = &args.plot {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        opened.with_context(|| cannot_draw(file))?;
    }
    let mut all = Vec::new();
    for (name, scenario, selection) in &scenarios {
        let mut said = Instant::now();
        let mut progress = |done: f64| {
            if said.elapsed() >= PATIENCE {
                note(&format!("{name}: {:.0} %", done * 100.0));
                said = Instant::now();
            }
        };
        let results =
            simulate::run(name, scenario, selection, &settings.policy, &seeds, &mut progress);
        if let Some(file) = &args.plot {
            let svg = plot::svg(&results)?;
            std::fs::write(file, svg).with_context(|| cannot_draw(file))?;
            note(&format!("drawn: {}", file.display()));
        }
        if !args.json {
            print(&simulation(&results))?;
        }
        all.push(results);
    }
    if args.json {
        print_json(&all)?;
    }
    Ok(Exit::Done)
}

fn cannot_draw(file: &Path) -> String {
    format!(
        "cannot write the drawing into {}, expected a file in a directory that is there",
        file.display()
    )
}

fn list(json: bool) -> anyhow::Result<()> {
    let all = catalogue::all();
    if json {
        let all: serde_json::Map<String, serde_json::Value> = all
            .iter()
            .map(|named| Ok((named.name.to_owned(), serde_json::to_value(&named.scenario)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        return print_json(&all);
    }
    for named in all {
        print_line(&format!("{:<14} {}", named.name, named.about))?;
    }
    Ok(())
}

/// The built-in scenario of this name, or the one in the file of this name.
fn read(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = catalogue::find(name) {
        return Ok(scenario);
    }
    if !Path::new(name).exists() {
        let known: Vec<&str> = catalogue::all().iter().map(|named| named.name).collect();
        let meant = nearest(name, known.iter().copied());
        let meant = meant.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        bail!(
            "`{name}` is neither a built-in scenario nor a file; {meant}expected one of: {}",
            known.join(", ")
        );
    }
    let text = std::fs::read_to_string(name)
        .with_context(|| format!("cannot read the scenario {name}"))?;
    Scenario::parse(&text).with_context(|| {
        format!("{name} is no scenario (docs/simulator.md has its form, `--list --json` examples)")
    })
}
