//! The straight line as a loop: observe, model, plan, apply, verify, report, once a period.
//!
//! The only file that sees all stages. It parses nothing, formats no tables and computes nothing of
//! its own; what becomes of one NIC is in [`steered`].

pub mod steered;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::model::{Nic, Sample, World};
use crate::observe::{Observer, Watch};
use crate::plan::Shared;
use crate::policy::Policy;
use crate::report::socket::Server;
use crate::report::{Source, Status};
use crate::sys::{Machine, Port as _};
use steered::{Hand, Steered};

/// After a write, packets that are still in the old ring drain before what is seen counts as the
/// effect: interrupt coalescing plus a poll are below a tenth of a second on every driver.
const SETTLE: Duration = Duration::from_millis(100);

/// What to run, and how.
#[derive(Debug)]
pub struct Options {
    /// The NICs, each able and consented to be written.
    pub nics: Vec<Nic>,
    /// Time between two looks.
    pub period: Duration,
    /// Put everything back at the end.
    pub restore_on_exit: bool,
    /// How packets are seen to arrive.
    pub observer: Observer,
    /// Thresholds of the planner.
    pub policy: Policy,
    /// Directory of journals.
    pub state_dir: PathBuf,
    /// Directory of the status socket.
    pub runtime_dir: PathBuf,
    /// Write nothing.
    pub dry_run: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Told to stop, and everything is as it was to be left.
    AsAsked,
    /// Every NIC disappeared.
    NicsGone,
    /// Something could not be put back.
    NotRestored,
}

/// Runs until told to stop. `say` is given each line for the operator.
pub async fn run(options: Options, machine: &Machine, say: &dyn Fn(&str)) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;

    let mut steered = Vec::new();
    for nic in &options.nics {
        steered.push(Steered::begin(nic, machine, &options.state_dir, options.dry_run, say)?);
    }
    let server = Server::bind(&options.runtime_dir).with_context(|| {
        format!(
            "cannot make the status socket in {} (--runtime-dir names another place)",
            options.runtime_dir.display()
        )
    })?;
    let mut watch = Watch::start(machine, &options.nics, options.observer)?;
    let mut earlier = watch.sample()?;
    let (publish, published) = watch::channel(None);
    let serving = server.serve(published);
    tokio::pin!(serving);

    let mut line = Line { options: &options, machine, say, settled_ns: earlier.at_ns };
    let mut ticks = interval(options.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let ended = loop {
        tokio::select! {
            _ = ticks.tick() => {
                match line.tick(&mut watch, &mut earlier, &mut steered) {
                    Ok(status) => { publish.send_replace(Some(Arc::new(status))); }
                    // What cannot be observed is not steered: put everything back and say so.
                    Err(error) => {
                        let ended = line.finish(steered, true);
                        let left = if ended == Ended::NotRestored { ", not all restored" } else { "" };
                        return Err(error.context(format!("stopped observing{left}")));
                    }
                }
                if steered.is_empty() {
                    break Ended::NicsGone;
                }
            }
            _ = terminate.recv() => break Ended::AsAsked,
            _ = interrupt.recv() => break Ended::AsAsked,
            () = &mut serving => {}
        }
    };
    if ended == Ended::NicsGone {
        return Ok(ended);
    }
    Ok(line.finish(steered, options.restore_on_exit))
}

/// What stays the same from tick to tick, and since when what is seen counts.
struct Line<'a> {
    options: &'a Options,
    machine: &'a Machine,
    say: &'a dyn Fn(&str),
    settled_ns: u64,
}

impl Line<'_> {
    fn tick(
        &mut self,
        watch: &mut Watch<'_>,
        earlier: &mut Sample,
        steered: &mut Vec<Steered>,
    ) -> anyhow::Result<Status> {
        let sample = watch.sample()?;
        let world = World::between(earlier, &sample, self.settled_ns);
        self.drop_vanished(&world, steered);
        let hand = Hand { port: self.machine, policy: &self.options.policy, say: self.say };
        let mut wrote = false;
        let mut nics = Vec::new();
        let mut shared = Shared::new(&world);
        for one in steered.iter_mut() {
            let Some(nic) = world.nics.iter().find(|nic| nic.nic.name == one.name()) else {
                continue;
            };
            let plan = one.tick(nic, &shared.around(nic), &hand);
            if one.has_just_written() {
                wrote = true;
                shared.follow(nic, &plan);
            }
            let mut status = one.status(&world, nic, &plan);
            status.add_flows(&sample.flows, nic.nic.ifindex, earlier.at_ns);
            nics.push(status);
        }
        let status = Status::new(Source::Daemon, &world, nics);
        *earlier = sample;
        if wrote {
            // The window that begins now is the first with the new settings.
            *earlier = watch.sample()?;
            let settle_ns = u64::try_from(SETTLE.as_nanos()).unwrap_or(u64::MAX);
            self.settled_ns = earlier.at_ns.saturating_add(settle_ns);
        }
        Ok(status)
    }

    fn drop_vanished(&self, world: &World, steered: &mut Vec<Steered>) {
        steered.retain(|one| {
            let name = one.name();
            let seen = world.nics.iter().any(|nic| nic.nic.name == name);
            let gone = !seen && self.machine.identity(name).is_err_and(|error| error.is_gone());
            if gone {
                (self.say)(&format!(
                    "{name} is gone, and its settings with it; nothing is left to restore"
                ));
            }
            !gone
        });
    }

    fn finish(&self, steered: Vec<Steered>, restore: bool) -> Ended {
        let mut ended = Ended::AsAsked;
        for one in steered {
            if !one.finish(self.machine, restore, self.say) {
                ended = Ended::NotRestored;
            }
        }
        ended
    }
}
