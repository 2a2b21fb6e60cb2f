//! `steer plan`: what would be written, and why. Writes nothing.

use super::args::PlanArgs;
use super::output::{note, print, print_json};
use super::problem::problem;
use super::select::{Selected, for_reading, steerable};
use super::{Exit, Settings, rights};
use crate::model::World;
use crate::observe::Watch;
use crate::plan::{self, Experience, Plan, Shared};
use crate::report::text;
use crate::sys::Machine;

pub(super) fn plan(args: &PlanArgs, settings: &Settings) -> anyhow::Result<Exit> {
    if let Some(file) = &args.problem {
        return problem(file, args.seed, args.budget_us, args.json);
    }
    let policy = args.planning.over(&settings.policy);
    let machine = Machine::open()?;
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
        rights::to_observe(&machine, args.planning.observer.resolve())?;
        let mut watch = Watch::start(&machine, &nics, args.planning.observer.resolve())?;
        watch.warm_up()?;
        let first = watch.sample()?;
        note(&format!("observing for {:?}; nothing is written", args.window));
        std::thread::sleep(args.window);
        let world = World::between(&first, &watch.sample()?, first.at_ns);
        let mut shared = Shared::new(&world);
        plans.extend(world.nics.iter().map(|nic| {
            let host = shared.around(nic);
            let plan = plan::plan(nic, &host, &policy, &Experience::default());
            shared.follow(nic, &plan);
            plan
        }));
    }
    if args.json {
        print_json(&plans)?;
    } else {
        for plan in &plans {
            print(&text::plan(plan))?;
        }
    }
    let nothing = plans.iter().all(Plan::is_empty);
    Ok(if nothing { Exit::NotMet } else { Exit::Done })
}
