//! The straight line as a loop: observe, model, plan, apply, verify, report, once a period.
//!
//! The only file that sees all stages. It parses nothing, formats no tables and computes nothing of
//! its own; what becomes of one NIC is in [`steered`], who is answered in [`serve`], and what the
//! process may still do by then in [`rights`].

mod absent;
pub mod accept;
pub mod connect;
pub mod cost;
mod holding;
pub mod irqbalance;
mod manager;
pub mod metrics;
mod pace;
pub mod rights;
pub mod serve;
pub mod signals;
pub mod steered;
pub mod terms;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::thread::CapabilitySet;
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;
use tokio::time::{self, Interval, MissedTickBehavior, interval_at};

use crate::model::{Nic, Sample, World};
use crate::observe::{Observer, Watch, nic};
use crate::plan::Shared;
use crate::policy::Policy;
use crate::report::{Source, Status, lever};
use crate::sys::{Machine, Port as _};
use absent::Absent;
use accept::{Accept, AcceptOptions};
use connect::{Connects, Now};
use cost::CostMeter;
use irqbalance::{Consent, Irqbalance};
use manager::Manager;
use metrics::{Audience, Metrics};
use pace::Pacer;
use rights::Rights;
use serve::{Limits, Server, Serving, Window};
use signals::hear;
use steered::{Hand, Steered};
use terms::{Conduct, unix_time_s, wall_time};

/// The line that says that programs are loaded and the first window has begun.
const READY: &str = "ready";
/// After a write, packets that are still in the old ring drain before what is seen counts as the
/// effect: interrupt coalescing plus a poll are below a tenth of a second on every driver.
const SETTLE: Duration = Duration::from_millis(100);
/// Most that irqbalance is listened to in one period.
const HEARING: Duration = Duration::from_millis(20);

/// What to run, and how.
#[derive(Debug)]
pub struct Options {
    /// What to say first, once signals are heard.
    pub greeting: Vec<String>,
    /// The NICs, each able and consented to be written.
    pub nics: Vec<Nic>,
    /// What may change under way.
    pub conduct: Conduct,
    /// How packets are seen to arrive.
    pub observer: Observer,
    /// Directory of journals.
    pub state_dir: PathBuf,
    /// Directory of the status socket.
    pub runtime_dir: PathBuf,
    /// Group whose members may ask on it, beside root.
    pub group: Option<u32>,
    /// Listeners whose connections are steered to the worker of the CPU where they arrive.
    pub accept: AcceptOptions,
    /// Cgroups whose connects are steered.
    pub connect: Vec<String>,
    /// Who gets metrics.
    pub metrics: Audience,
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

/// Runs until told to stop. `say` is given each line for the operator. `reload` is asked on SIGHUP for
/// what to go by from now on; where it has nothing, it has said why, and everything stays.
pub async fn run(
    options: Options,
    machine: &Machine,
    say: &dyn Fn(&str),
    reload: &dyn Fn() -> Option<Conduct>,
) -> anyhow::Result<Ended> {
    // First of all: before there is a listener a SIGHUP ends the process.
    let mut hangup = hear(SignalKind::hangup(), "SIGHUP")?;
    let mut terminate = hear(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = hear(SignalKind::interrupt(), "SIGINT")?;
    // Who reads that may end it.
    options.greeting.iter().for_each(|line| say(line));

    let (mut metrics, metrics_server) = Metrics::open(options.metrics.clone())?;
    if let Some(address) = metrics_server.as_ref().and_then(metrics::Server::address) {
        let open = if address.ip().is_loopback() { "" } else { ", to everybody who reaches it" };
        say(&format!("metrics at http://{address}/metrics{open}"));
    }

    let mut steered = Vec::new();
    for nic in &options.nics {
        steered.push(Steered::begin(nic, machine, &options.state_dir, options.dry_run, say)?);
    }
    let mut irqbalance = Irqbalance::find(machine);
    let conduct = options.conduct.clone();
    let nics = consenting(&options.nics, &conduct);
    irqbalance.speak(machine, &nics, &mut steered, say, conduct.period);
    let server = status_socket(&options)?;
    let mut watch = Watch::start(machine, &options.nics, options.observer)?;
    let mut accept = Accept::wanted(&options, machine, say)?;
    let asked = if options.dry_run { &[][..] } else { &options.connect };
    let connects = Connects::begin(machine, asked, &options.nics, say)?;
    let keep = rights::needed(!options.dry_run, options.observer == Observer::Xdp);
    let reserve = accept.as_ref().map_or(CapabilitySet::empty(), |_| rights::FOR_SOCKETS);
    let rights = Rights::give_up_beside(keep, reserve, || {
        watch.try_maps()?;
        accept.as_mut().map_or(Ok(()), Accept::try_maps)
    })?;
    say(&rights.describe());
    let mut earlier = Arc::new(watch.sample()?);
    let mut cost = CostMeter::start(&watch, options.metrics.bpf_run_time);
    // Loading takes a moment, and with an old kernel's verifier on a busy CPU many seconds: who waits for
    // steer, waits for this line.
    say(READY);
    let mut manager = Manager::find();
    manager.ready(conduct.period);
    let (publish, published) = watch::channel(None);
    // To the end of the run.
    let _serving = Serving::begin(server, published).context("cannot answer `steer status`")?;
    let serving_metrics = metrics::serve(metrics_server.as_ref());
    tokio::pin!(serving_metrics);

    let settled_ns = earlier.at_ns;
    let absent = Vec::new();
    let options = &options;
    let mut line = Line {
        options,
        conduct,
        machine,
        rights,
        say,
        irqbalance,
        accept,
        connects,
        settled_ns,
        absent,
    };
    let mut looks = clock(accept::CADENCE);
    let mut ticks = clock(line.conduct.period);
    let mut pacer = Pacer::new(line.conduct.period, Instant::now());
    loop {
        tokio::select! {
            // In this order: a flood of clients is always ready, and must not come before the tick.
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                Manager::reloading();
                if let Some(conduct) = reload() {
                    if conduct.period != line.conduct.period {
                        ticks = clock(conduct.period);
                        pacer.change(conduct.period, Instant::now());
                    }
                    line.conduct = conduct;
                }
                manager.ready(line.conduct.period);
            }
            _ = ticks.tick() => {
                pacer.begin(Instant::now());
                match line.tick(&mut watch, &mut earlier, &mut steered) {
                    Ok(Seen { mut status, sample, since_ns }) => {
                        status.pace = Some(pacer.end(Instant::now()));
                        status.cost = Some(cost.take(&watch));
                        manager.alive(&status, Instant::now());
                        metrics.publish(&status, &earlier, &watch, say);
                        let window = Window::new(status).with_flows_of(sample, since_ns);
                        publish.send_replace(Some(Arc::new(window)));
                    }
                    // What cannot be observed is not steered: put everything back and say so.
                    Err(error) => {
                        Manager::stopping();
                        let ended = line.finish(steered, true);
                        let left = if ended == Ended::NotRestored { ", not all restored" } else { "" };
                        return Err(error.context(format!("stopped observing{left}")));
                    }
                }
            }
            _ = looks.tick(), if line.accept.is_some() => line.look_at_listeners(),
            () = &mut serving_metrics => {}
        }
    }
    Manager::stopping();
    let restore = line.conduct.restore_on_exit;
    Ok(line.finish(steered, restore))
}

/// Where `steer status` asks.
fn status_socket(options: &Options) -> anyhow::Result<Server> {
    Server::bind(&options.runtime_dir, options.group, Limits::default()).with_context(|| {
        format!(
            "cannot make the status socket in {} (--runtime-dir names another place)",
            options.runtime_dir.display()
        )
    })
}

/// Ticks every `period`, the first time after one.
fn clock(period: Duration) -> Interval {
    let mut ticks = interval_at(time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The NICs with what irqbalance may be told about each: nothing while nothing may be written.
fn consenting<'n>(
    nics: impl IntoIterator<Item = &'n Nic>,
    conduct: &Conduct,
) -> Vec<(&'n Nic, Consent)> {
    let now = wall_time();
    let consent = |nic: &Nic| {
        let terms = conduct.of(&nic.name);
        match terms.irqbalance {
            Consent::Ban if !terms.maintenance_window.is_open(now) => {
                Consent::Report("it is outside `maintenance_window`")
            }
            consent => consent,
        }
    };
    nics.into_iter().map(|nic| (nic, consent(nic))).collect()
}

/// What a window came to, and what it is to be asked about: the flows of `sample` that were consumed
/// after `since_ns`.
struct Seen {
    status: Status,
    sample: Arc<Sample>,
    since_ns: u64,
}

/// What stays the same from tick to tick, and since when what is seen counts.
struct Line<'a> {
    options: &'a Options,
    conduct: Conduct,
    machine: &'a Machine,
    rights: Rights,
    say: &'a dyn Fn(&str),
    irqbalance: Irqbalance,
    accept: Option<Accept>,
    connects: Connects,
    settled_ns: u64,
    /// NICs that disappeared and may come back.
    absent: Vec<Absent>,
}

impl<'a> Line<'a> {
    fn tick(
        &mut self,
        watch: &mut Watch<'a>,
        earlier: &mut Arc<Sample>,
        steered: &mut Vec<Steered>,
    ) -> anyhow::Result<Seen> {
        // Where windows take longer to look at than they last, no other look comes between two of them;
        // and what is reported is as of now.
        self.look_at_listeners();
        let returned = self.welcome_back(steered);
        let sample = match watch.sample() {
            Ok(sample) if !returned => sample,
            outcome => {
                // A device that is back takes the place that it had; its first window begins now.
                let sample = match outcome {
                    Ok(sample) => sample,
                    // One that has outgrown the maps needs others, which takes the right to make them.
                    Err(error) => {
                        (self.say)(&format!("observation starts anew: {error:#}"));
                        *watch = self.observe(steered)?;
                        watch.sample()?
                    }
                };
                *earlier = Arc::new(sample);
                self.settled_ns = earlier.at_ns;
                let status = Status::new(Source::Daemon, &World::default(), Vec::new());
                return Ok(Seen { status, sample: Arc::clone(earlier), since_ns: earlier.at_ns });
            }
        };
        let world = World::between(earlier, &sample, self.settled_ns);
        self.drop_vanished(&world, steered);
        let nics = consenting(world.nics.iter().map(|nic| &nic.nic), &self.conduct);
        self.irqbalance.speak(self.machine, &nics, steered, self.say, HEARING);
        // Queues go one to one to the CPUs that accept or connect.
        let accepting = self.accept.as_ref().and_then(Accept::workers).cloned();
        let sets = accepting.into_iter().chain(self.connects.workers());
        let workers = sets.reduce(|one, other| one.iter().chain(other.iter()).collect());
        let wait = self.accept.as_ref().and_then(Accept::why_wait);
        let neighbours = self.irqbalance.neighbours();
        let now = wall_time();
        let mut wrote = false;
        let mut nics = Vec::new();
        let mut shared = Shared::new(&world);
        for one in steered.iter_mut() {
            let Some(nic) = world.nics.iter().find(|nic| nic.nic.ifindex == one.ifindex()) else {
                continue;
            };
            let terms = self.conduct.of(&nic.nic.name);
            let limited = self.irqbalance.limit(&terms.policy, &nic.nic);
            let policy = &Policy { workers: workers.clone(), ..limited };
            let shut = terms.maintenance_window.why_shut(now);
            let shut = shut.as_deref().or(wait);
            let hand = Hand { port: self.machine, policy, neighbours, shut, say: self.say };
            one.plan_within(self.conduct.period);
            let plan = one.tick(nic, &shared.around(nic), &hand);
            if one.has_just_written() {
                wrote = true;
                shared.follow(nic, &plan);
            }
            nics.push(one.status(&world, nic, &plan, policy));
        }
        let mut status = Status::new(Source::Daemon, &world, nics);
        status.neighbours = self.irqbalance.sentences();
        if let Some(accept) = &mut self.accept {
            let nics: Vec<Nic> = world.nics.iter().map(|nic| nic.nic.clone()).collect();
            accept.set_interfaces(Accept::interfaces_of(&nics));
            status.listeners = accept.report();
        }
        let since_ns = earlier.at_ns;
        let sample = Arc::new(sample);
        *earlier = Arc::clone(&sample);
        if wrote {
            // The window that begins now is the first with the new settings.
            *earlier = Arc::new(watch.sample()?);
            let settle_ns = u64::try_from(SETTLE.as_nanos()).unwrap_or(u64::MAX);
            self.settled_ns = earlier.at_ns.saturating_add(settle_ns);
        }
        let of_nics: Vec<_> =
            steered.iter().map(|one| (one.name().to_owned(), one.state().0)).collect();
        let now = Now { world: &world, sample: earlier, states: &of_nics, wrote, say: self.say };
        self.connects.tick(&now);
        status.connects = self.connects.status();
        status.lever_states = lever::of_host(Source::Daemon, &status.listeners, &status.connects);
        status.at_unix_s = Some(unix_time_s());
        Ok(Seen { status, sample, since_ns })
    }

    fn look_at_listeners(&mut self) {
        let goes_on = self.accept.as_mut().is_none_or(|accept| accept.look(&self.rights, self.say));
        if !goes_on && let Some(accept) = self.accept.take() {
            (self.say)("accept steering ends: connections are spread by the kernel again");
            let _ = accept.finish(&self.rights, true, self.say);
        }
    }

    /// Observes what is steered, from the settings of now.
    fn observe(&self, steered: &[Steered]) -> anyhow::Result<Watch<'a>> {
        let nics = steered.iter().filter_map(|one| nic::read(self.machine, one.name()).ok());
        let nics: Vec<Nic> = nics.collect();
        self.rights.with_reserve(|| Watch::start(self.machine, &nics, self.options.observer))?
    }

    fn drop_vanished(&mut self, world: &World, steered: &mut Vec<Steered>) {
        steered.retain_mut(|one| {
            let name = one.name();
            let seen = world.nics.iter().any(|nic| nic.nic.ifindex == one.ifindex());
            let gone = !seen && self.machine.identity(name).is_err_and(|error| error.is_gone());
            if gone {
                let absent = Absent::new(name, one.device());
                (self.say)(&absent.farewell(self.machine));
                self.absent.push(absent);
                one.lift_ban(self.machine, self.say);
            }
            !gone
        });
    }

    /// Takes back what disappeared and is there again. True if there is any.
    fn welcome_back(&mut self, steered: &mut Vec<Steered>) -> bool {
        let before = steered.len();
        let Options { state_dir, dry_run, .. } = self.options;
        self.absent.retain_mut(|absent| {
            let found = absent.look(self.machine, |nic| {
                Steered::begin(nic, self.machine, state_dir, *dry_run, self.say)
            });
            match found {
                Ok(Some(one)) => {
                    (self.say)(&format!("{} is back", absent.name()));
                    steered.push(one);
                    return false;
                }
                Ok(None) => {}
                Err(why) => (self.say)(&why),
            }
            true
        });
        steered.len() > before
    }

    fn finish(&mut self, steered: Vec<Steered>, restore: bool) -> Ended {
        let mut ended = Ended::AsAsked;
        // First, so that nobody is brought to a queue that is on its way home.
        if let Some(accept) = self.accept.take()
            && !accept.finish(&self.rights, restore, self.say)
        {
            ended = Ended::NotRestored;
        }
        for one in steered {
            if !one.finish(self.machine, restore, self.say) {
                ended = Ended::NotRestored;
            }
        }
        for why in self
            .absent
            .iter()
            .filter(|_| restore)
            .filter_map(|absent| absent.unrestored(self.machine, &self.options.state_dir))
        {
            (self.say)(&why);
            ended = Ended::NotRestored;
        }
        ended
    }
}
