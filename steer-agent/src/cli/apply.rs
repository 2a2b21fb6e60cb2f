//! `steer apply`: observe, plan, write once, check.

use std::time::Duration;

use super::args::ApplyArgs;
use super::correction::Correction;
use super::output::{note, print, print_line};
use super::{Exit, Settings};
use crate::model::World;
use crate::observe::Watch;
use crate::report::text;
use crate::run::steered::LASTING;

/// What is in flight when settings are written drains within this.
pub(super) const DRAINED: Duration = Duration::from_millis(500);

pub(super) fn apply(args: &ApplyArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = settings.machine()?;
    let say = |line: &str| {
        if let Err(error) = print_line(line) {
            log::warn!("cannot write to standard output: {error}");
        }
    };
    let mut correction =
        Correction::begin(&machine, settings, &args.interfaces, &args.planning, &say)?;
    let mut watch = Watch::start(&machine, &correction.nics, settings.observer(&args.planning))?;
    correction.speak_to_irqbalance(args.window);

    note(&format!("observing for {:?}", args.window));
    watch.warm_up()?;
    let first = watch.sample()?;
    std::thread::sleep(args.window);
    let world = World::between(&first, &watch.sample()?, first.at_ns);
    let mut shown = Ok(());
    correction.write(&world, |plan| {
        shown = std::mem::replace(&mut shown, Ok(())).and_then(|()| print(&text::plan(plan)));
    });
    shown?;
    if !correction.is_waiting() {
        return Ok(correction.exit());
    }

    // Then a whole window shows the effect, and more of them whether what looks like harm lasts.
    // No more than that takes: a NIC that is gone is judged no more.
    std::thread::sleep(DRAINED);
    for _ in 0..LASTING {
        note(&format!("written; checking for {:?}", args.window));
        let first = watch.sample()?;
        std::thread::sleep(args.window);
        let world = World::between(&first, &watch.sample()?, first.at_ns);
        correction.judge(&world);
        correction.tell_late();
        if !correction.is_suspect() {
            break;
        }
    }
    if correction.exit() == Exit::Done {
        print_line("`steer restore` puts everything back")?;
    }
    Ok(correction.exit())
}
