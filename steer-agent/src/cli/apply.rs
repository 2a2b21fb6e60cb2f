//! `steer apply`: observe, plan, write once, check.

use super::args::ApplyArgs;
use super::output::{note, print, print_line};
use super::select::for_writing;
use super::{Exit, Settings, rights};
use crate::model::{Nic, World};
use crate::observe::Watch;
use crate::plan::Shared;
use crate::report::{NicState, text};
use crate::run::irqbalance::Irqbalance;
use crate::run::steered::{Hand, Steered};
use crate::sys::Machine;

pub(super) fn apply(args: &ApplyArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let policy = args.planning.over(&settings.policy);
    let machine = Machine::open()?;
    let nics = for_writing(&machine, &args.interfaces, &policy)?;
    for nic in &nics {
        if let Some(refusal) = policy.table_refusal(nic) {
            note(&format!("{}: {refusal}", nic.name));
        }
    }
    rights::to_write(&machine, args.planning.observer.resolve())?;
    let say = |line: &str| {
        if let Err(error) = print_line(line) {
            log::warn!("cannot write to standard output: {error}");
        }
    };
    let mut steered = Vec::new();
    for nic in &nics {
        steered.push(Steered::begin(nic, &machine, &settings.state_dir, false, &say)?);
    }
    let mut watch = Watch::start(&machine, &nics, args.planning.observer.resolve())?;
    let mut irqbalance = Irqbalance::find(&machine, settings.irqbalance);
    let of: Vec<&Nic> = nics.iter().collect();
    irqbalance.speak(&machine, &of, &mut steered, &say, args.window);
    let policy = irqbalance.limit(&policy);
    let neighbours = irqbalance.neighbours();
    let hand = Hand { port: &machine, policy: &policy, neighbours, say: &say };

    note(&format!("observing for {:?}", args.window));
    watch.warm_up()?;
    let first = watch.sample()?;
    std::thread::sleep(args.window);
    let world = World::between(&first, &watch.sample()?, first.at_ns);
    let (mut wrote, mut refused) = (false, false);
    let mut shared = Shared::new(&world);
    for one in &mut steered {
        let Some(nic) = world.nics.iter().find(|nic| nic.nic.name == one.name()) else { continue };
        let host = shared.around(nic);
        let plan = one.plan(nic, &host, &policy);
        shared.follow(nic, &plan);
        print(&text::plan(&plan))?;
        if !plan.is_empty() {
            one.correct(nic, &host, &plan, &hand);
            wrote |= one.is_waiting();
            refused |= !one.is_waiting();
        }
    }
    if !wrote {
        return Ok(if refused { Exit::Failed } else { Exit::NotMet });
    }

    // What is in flight drains, then a whole window shows the effect.
    std::thread::sleep(std::time::Duration::from_millis(500));
    note(&format!("written; checking for {:?}", args.window));
    let first = watch.sample()?;
    std::thread::sleep(args.window);
    let world = World::between(&first, &watch.sample()?, first.at_ns);
    let mut exit = if refused { Exit::Failed } else { Exit::Done };
    for one in &mut steered {
        let Some(nic) = world.nics.iter().find(|nic| nic.nic.name == one.name()) else { continue };
        // Where nothing was written there is nothing to judge.
        if !one.is_waiting() {
            continue;
        }
        one.judge(nic, &Shared::new(&world).around(nic), &hand);
        if let (NicState::Observing | NicState::Contested, Some(why)) = one.state() {
            note(&format!("{}: {why}", one.name()));
            exit = Exit::Failed;
        } else if let (true, (_, Some(why))) = (one.is_waiting(), one.state()) {
            note(&format!("{}: written, but not yet in effect: {why}", one.name()));
        }
    }
    if exit == Exit::Done {
        print_line("`steer restore` puts everything back")?;
    }
    Ok(exit)
}
