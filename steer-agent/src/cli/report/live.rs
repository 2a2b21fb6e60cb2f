//! A report of what happens here from now on, and of what a correction does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind};

use super::super::apply::DRAINED;
use super::super::args::ReportArgs;
use super::super::correction::Correction;
use super::super::output::note;
use super::super::record::{header, of_daemon};
use super::super::select::{Selected, for_reading, steerable};
use super::super::{Exit, Settings, rights};
use super::Teller;
use crate::config::keys::OnExit;
use crate::model::{Nic, World};
use crate::observe::Watch;
use crate::report::page::Page;
use crate::report::recording::Record;
use crate::report::text;
use crate::run::signals::hear;
use crate::run::steered::LASTING;

/// Where the command says nothing of it.
const DEFAULT_LENGTH: Duration = Duration::from_secs(30);
/// A sentence of progress so often.
const NEWS: Duration = Duration::from_secs(10);
/// A correction is judged by windows of this length.
const JUDGED: Duration = Duration::from_secs(3);
/// A phase of less shows nothing.
const LEAST: Duration = Duration::from_secs(2);

/// Looks on, and corrects if asked.
pub(super) fn live(args: &ReportArgs, settings: &Settings) -> anyhow::Result<(Page, Exit)> {
    let length = args.live.unwrap_or(DEFAULT_LENGTH);
    if args.apply {
        return correct(args, settings, length);
    }
    let machine = settings.machine()?;
    let selected = for_reading(&machine, &args.interfaces)?;
    if selected.is_empty() {
        bail!("{}; there is nothing to report", steerable(&machine)?);
    }
    let mut nics: Vec<Nic> = Vec::new();
    for Selected { nic, why_not } in selected {
        match why_not {
            None => nics.push(nic),
            Some(why) => bail!("{why}; there is nothing to report"),
        }
    }
    let observer = settings.observer(&args.planning);
    rights::to_observe(&machine, observer)?;
    let mut look =
        Look::begin(args, settings, Watch::start(&machine, &nics, observer)?, &nics, &machine)?;
    note(&format!("observing {} for {length:?}; nothing is written", names(&nics)));
    look.on(length)?;
    let page = look.page("Observed here")?;
    Ok((page, Exit::Done))
}

fn names(nics: &[Nic]) -> String {
    nics.iter().map(|nic| nic.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Half of the time before, half of it after.
fn correct(
    args: &ReportArgs,
    settings: &Settings,
    length: Duration,
) -> anyhow::Result<(Page, Exit)> {
    let half = length / 2;
    if half < LEAST {
        bail!(
            "--live {length:?} is too short for --apply: half of it is observed before and half after the \
             change, expected at least {:?}; nothing was changed",
            LEAST * 2
        );
    }
    let machine = settings.machine()?;
    let heard = std::cell::RefCell::new(Vec::new());
    let say = |line: &str| {
        note(line);
        heard.borrow_mut().push(line.to_owned());
    };
    let mut correction =
        Correction::begin(&machine, settings, &args.interfaces, &args.planning, &say)?;
    let nics = correction.nics.clone();
    let watch = Watch::start(&machine, &nics, settings.observer(&args.planning))?;
    correction.speak_to_irqbalance(half);
    let mut look = Look::begin(args, settings, watch, &nics, &machine)?;
    let back = args.on_exit == OnExit::Restore;
    let afterwards = if back { ", then everything is put back" } else { "" };
    note(&format!(
        "observing {} for {half:?}, then writing, then observing for {half:?} more{afterwards}",
        names(&nics)
    ));
    let result = look.through(&mut correction, half, &heard);
    let mut exit = correction.exit();
    if back {
        let all = correction.put_back();
        if !all {
            exit = Exit::NotRestored;
        }
        look.tell(&heard);
        // The sample that shows it.
        if result.is_ok() {
            look.take()?;
        }
    } else if exit == Exit::Done {
        note("left as corrected; `steer restore` puts everything back");
    }
    result?;
    Ok((look.page("Observed here, with a correction in between")?, exit))
}

/// Looking on.
struct Look<'a> {
    settings: &'a Settings,
    watch: Watch<'a>,
    every: Duration,
    teller: Teller,
    runtime: Runtime,
    stop: Stop,
    last: Option<crate::model::Sample>,
}

/// What ends the looking early.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    told: bool,
}

impl<'a> Look<'a> {
    fn begin(
        args: &ReportArgs,
        settings: &'a Settings,
        mut watch: Watch<'a>,
        nics: &[Nic],
        machine: &crate::sys::Machine,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = {
            let _inside = runtime.enter();
            Stop {
                interrupt: hear(SignalKind::interrupt(), "SIGINT")?,
                terminate: hear(SignalKind::terminate(), "SIGTERM")?,
                told: false,
            }
        };
        watch.warm_up()?;
        let watch = watch.with_interrupts();
        let policy_of = |nic: &str| settings.policy_of(nic, &args.planning);
        let observer = settings.observer(&args.planning);
        let header = header(machine, nics, observer, args.every, &policy_of);
        let teller = Teller::new(&[], header, args);
        let (every, last) = (args.every, None);
        let mut look = Self { settings, watch, every, teller, runtime, stop, last };
        look.take()?;
        Ok(look)
    }

    /// One sample, and what a daemon says.
    fn take(&mut self) -> anyhow::Result<()> {
        let sample = self.watch.sample()?;
        self.last = Some(sample.clone());
        self.teller.add(Record::Sample(Box::new(sample)));
        if let Some(status) = self.runtime.block_on(of_daemon(self.settings)) {
            self.teller.add(Record::Daemon(Box::new(status)));
        }
        Ok(())
    }

    /// Waits. False if told to end.
    fn wait(&mut self, time: Duration) -> bool {
        let Stop { interrupt, terminate, told } = &mut self.stop;
        if !*told {
            *told = self.runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => true,
                    _ = terminate.recv() => true,
                    () = tokio::time::sleep(time) => false,
                }
            });
            if *told {
                note("told to end: the report is of what was seen so far");
            }
        }
        !*told
    }

    /// Looks on for `length`, or until told to end.
    fn on(&mut self, length: Duration) -> anyhow::Result<()> {
        let (began, mut news, mut due) = (Instant::now(), NEWS, Duration::ZERO);
        while due < length {
            due = (due + self.every).min(length);
            let goes_on = self.wait(due.saturating_sub(began.elapsed()));
            self.take()?;
            if !goes_on {
                break;
            }
            if began.elapsed() >= news && due < length {
                news += NEWS;
                note(&format!("{:?} to go", length.saturating_sub(due)));
            }
        }
        Ok(())
    }

    /// Before, the correction, and after.
    fn through(
        &mut self,
        correction: &mut Correction<'_>,
        half: Duration,
        heard: &std::cell::RefCell<Vec<String>>,
    ) -> anyhow::Result<()> {
        let first = self.last.clone().unwrap_or_default();
        self.on(half)?;
        if self.stop.told {
            note("nothing was changed");
            return Ok(());
        }
        let world = World::between(&first, &self.last.clone().unwrap_or_default(), first.at_ns);
        let mut plans = Vec::new();
        correction.write(&world, |plan| plans.push(plan.clone()));
        for plan in &plans {
            note(text::plan(plan).trim_end());
            self.teller.planned(plan);
        }
        self.tell(heard);
        self.wait(DRAINED);
        self.take()?;
        let mut left = half;
        // What looks like harm is looked at until it is known, for a few windows longer than was asked for.
        let mut further = LASTING;
        while !self.stop.told {
            if left.is_zero() {
                if further == 0 || !correction.is_suspect() {
                    break;
                }
                further -= 1;
            }
            let part = match (correction.is_suspect(), correction.is_waiting()) {
                (true, _) => JUDGED,
                (false, true) => JUDGED.min(left),
                (false, false) => left,
            };
            let first = self.last.clone().unwrap_or_default();
            self.on(part)?;
            left = left.saturating_sub(part);
            if correction.is_waiting() {
                let last = self.last.clone().unwrap_or_default();
                correction.judge(&World::between(&first, &last, first.at_ns));
                self.tell(heard);
            }
        }
        correction.tell_late();
        Ok(())
    }

    /// Lines for the operator are part of the story.
    fn tell(&mut self, heard: &std::cell::RefCell<Vec<String>>) {
        for line in heard.borrow_mut().drain(..) {
            self.teller.done(&line);
        }
    }

    fn page(self, source: &str) -> anyhow::Result<Page> {
        let page = self.teller.page(source.to_owned());
        page.context(
            "no whole window was seen, as where a NIC goes away; there is nothing to report",
        )
    }
}
