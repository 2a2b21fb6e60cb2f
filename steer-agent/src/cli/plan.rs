//! `steer plan`: what would be written, and why. Writes nothing.

use std::path::Path;

use super::args::PlanArgs;
use super::output::{note, print, print_json};
use super::problem::problem;
use super::recorded::{Recorded, Window};
use super::select::{Selected, for_reading, steerable};
use super::{Exit, Settings, rights};
use crate::model::{NicWorld, Sample, World};
use crate::observe::Watch;
use crate::plan::{self, Experience, Plan, Shared};
use crate::policy::Policy;
use crate::report::text;

pub(super) fn plan(args: &PlanArgs, settings: &Settings) -> anyhow::Result<Exit> {
    if let Some(file) = &args.problem {
        return problem(file, args.seed, args.budget_us, args.json);
    }
    if let Some(file) = &args.recording.from {
        return recorded(file, args);
    }
    let machine = settings.machine()?;
    let selected = for_reading(&machine, &args.interfaces)?;
    if selected.is_empty() {
        note(&steerable(&machine)?);
        return Ok(Exit::NotMet);
    }
    let mut plans = Vec::new();
    let mut nics = Vec::new();
    for Selected { nic, why_not } in selected {
        match why_not {
            None => nics.push(nic),
            Some(why) => plans.push(Plan { nic: nic.name, reasons: vec![why], ..Plan::default() }),
        }
    }
    if !nics.is_empty() {
        let observer = settings.observer(&args.planning);
        rights::to_observe(&machine, observer)?;
        let mut watch = Watch::start(&machine, &nics, observer)?;
        watch.warm_up()?;
        let first = watch.sample()?;
        note(&format!("observing for {:?}; nothing is written", args.window));
        std::thread::sleep(args.window);
        let policy_of = |nic: &str| settings.policy_of(nic, &args.planning);
        plans.extend(plans_for(&first, &watch.sample()?, &policy_of));
    }
    show(&plans, args.json)
}

/// The plans for a moment of a recording, under what the command line says.
fn recorded(file: &Path, args: &PlanArgs) -> anyhow::Result<Exit> {
    let mut recorded = Recorded::open(file)?;
    let Window { first, mut second, .. } = recorded.window_at(args.recording.at)?;
    recorded.demand(&args.interfaces, &second)?;
    second.nics.retain(|nic| args.interfaces.is_empty() || args.interfaces.contains(&nic.nic.name));
    let policy_of = |nic: &str| args.planning.over(&recorded.policy_of(nic));
    show(&plans_for(&first, &second, &policy_of), args.json)
}

/// What two samples give reason to do.
pub(super) fn plans_for(
    first: &Sample,
    second: &Sample,
    policy_of: &dyn Fn(&str) -> Policy,
) -> Vec<Plan> {
    let world = World::between(first, second, first.at_ns);
    let mut shared = Shared::new(&world);
    let plan = |nic: &NicWorld| {
        let host = shared.around(nic);
        let policy = policy_of(&nic.nic.name);
        let plan = plan::plan(nic, &host, &policy, &Experience::default());
        shared.follow(nic, &plan);
        plan
    };
    world.nics.iter().map(plan).collect()
}

fn show(plans: &[Plan], json: bool) -> anyhow::Result<Exit> {
    if json {
        print_json(&plans)?;
    } else {
        for plan in plans {
            print(&text::plan(plan))?;
        }
    }
    let nothing = plans.iter().all(Plan::is_empty);
    Ok(if nothing { Exit::NotMet } else { Exit::Done })
}
