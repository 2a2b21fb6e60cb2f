//! The straight line as a loop: observe, model, plan, apply, verify, report, once a period.
//!
//! The only file that sees all stages. It parses nothing, formats no tables and computes nothing of
//! its own; what becomes of one NIC is in [`steered`].

mod holding;
pub mod steered;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::model::{Nic, Sample, World};
use crate::observe::{Observer, Watch, nic};
use crate::plan::Shared;
use crate::policy::Policy;
use crate::report::socket::Server;
use crate::report::{Source, Status};
use crate::sys::{DeviceId, Machine, Port as _};
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

    let mut line =
        Line { options: &options, machine, say, settled_ns: earlier.at_ns, absent: Vec::new() };
    let mut ticks = interval(options.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
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
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut serving => {}
        }
    }
    Ok(line.finish(steered, options.restore_on_exit))
}

/// What stays the same from tick to tick, and since when what is seen counts.
struct Line<'a> {
    options: &'a Options,
    machine: &'a Machine,
    say: &'a dyn Fn(&str),
    settled_ns: u64,
    /// NICs that disappeared and may come back.
    absent: Vec<Absent>,
}

/// A NIC that is not there: its driver was unbound, or it was moved to another network namespace.
struct Absent {
    name: String,
    device: DeviceId,
    /// Why it is not taken back, as far as that was said already.
    said: Option<String>,
}

impl<'a> Line<'a> {
    fn tick(
        &mut self,
        watch: &mut Watch<'a>,
        earlier: &mut Sample,
        steered: &mut Vec<Steered>,
    ) -> anyhow::Result<Status> {
        let returned = self.welcome_back(steered);
        let sample = match watch.sample() {
            Ok(sample) if !returned => sample,
            // Another set of NICs, or one that has outgrown the maps: both are known only to a new
            // observation, whose first window begins now.
            outcome => {
                if let Err(error) = outcome {
                    (self.say)(&format!("observation starts anew: {error:#}"));
                }
                *watch = self.observe(steered)?;
                *earlier = watch.sample()?;
                self.settled_ns = earlier.at_ns;
                return Ok(Status::new(Source::Daemon, &World::default(), Vec::new()));
            }
        };
        let world = World::between(earlier, &sample, self.settled_ns);
        self.drop_vanished(&world, steered);
        let hand = Hand { port: self.machine, policy: &self.options.policy, say: self.say };
        let mut wrote = false;
        let mut nics = Vec::new();
        let mut shared = Shared::new(&world);
        for one in steered.iter_mut() {
            let Some(nic) = world.nics.iter().find(|nic| nic.nic.ifindex == one.ifindex()) else {
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

    /// Observes what is steered, from the settings of now.
    fn observe(&self, steered: &[Steered]) -> anyhow::Result<Watch<'a>> {
        let nics = steered.iter().filter_map(|one| nic::read(self.machine, one.name()).ok());
        Watch::start(self.machine, &nics.collect::<Vec<_>>(), self.options.observer)
    }

    fn drop_vanished(&mut self, world: &World, steered: &mut Vec<Steered>) {
        steered.retain(|one| {
            let name = one.name();
            let seen = world.nics.iter().any(|nic| nic.nic.ifindex == one.ifindex());
            let gone = !seen && self.machine.identity(name).is_err_and(|error| error.is_gone());
            if gone {
                (self.say)(&format!(
                    "{name} is gone, and its settings with it; it is steered again when it is back"
                ));
                let device = one.device().clone();
                self.absent.push(Absent { name: name.to_owned(), device, said: None });
            }
            !gone
        });
    }

    /// Takes back what disappeared and is there again. True if there is any.
    fn welcome_back(&mut self, steered: &mut Vec<Steered>) -> bool {
        let before = steered.len();
        let Options { state_dir, dry_run, .. } = self.options;
        self.absent.retain_mut(|absent| {
            let why = match nic::read(self.machine, &absent.name) {
                Err(_) => return true,
                Ok(nic) if nic.bus != absent.device.bus => {
                    "another device has taken its name, and is left alone".to_owned()
                }
                Ok(nic) => match nic::why_not_steerable(&nic) {
                    Some(why) => why,
                    None => match Steered::begin(&nic, self.machine, state_dir, *dry_run, self.say)
                    {
                        Ok(one) => {
                            (self.say)(&format!("{} is back", absent.name));
                            steered.push(one);
                            return false;
                        }
                        Err(error) => format!("{error:#}"),
                    },
                },
            };
            if absent.said.as_ref() != Some(&why) {
                (self.say)(&format!("{}: {why}", absent.name));
                absent.said = Some(why);
            }
            true
        });
        steered.len() > before
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
