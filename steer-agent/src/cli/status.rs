//! `steer status`: from the running daemon, else observed here.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::StatusArgs;
use super::output::{note, print, print_json, screen, show_json};
use super::recorded::{Recorded, Window};
use super::select::{Selected, for_reading, steerable};
use super::watch::Picture;
use super::{Exit, Settings, rights};
use crate::model::{MappingVerdict, Neighbours, Nic, NicWorld, Sample, World};
use crate::observe::nic::why_not_steerable;
use crate::observe::{Watch, neighbours};
use crate::plan::{self, Experience, Host, Shared};
use crate::policy::Policy;
use crate::report::neighbours::sentences;
use crate::report::socket::{Request, ask};
use crate::report::{Cost, NicState, NicStatus, Pace, Source, Status, lever, next, text};
use crate::run::cost::CostMeter;
use crate::run::terms::unix_time_s;
use crate::sys::Machine;

/// Longest that the end is not noticed while waiting.
const SLICE: Duration = Duration::from_millis(50);
/// Observations longer than this say so first.
const SILENCE: Duration = Duration::from_millis(500);

pub(super) fn status(args: &StatusArgs, settings: &Settings) -> anyhow::Result<Exit> {
    if let Some(file) = &args.recording.from {
        return recorded(file, args);
    }
    let machine = settings.machine()?;
    let selected = for_reading(&machine, &args.interfaces)?;
    if selected.is_empty() {
        note(&steerable(&machine)?);
        return Ok(Exit::NotMet);
    }
    for why in selected.iter().filter_map(|selected| selected.why_not.as_ref()) {
        note(why);
    }
    let all_able = selected.iter().all(|selected| selected.why_not.is_none());
    let mut source = Observation::new(settings, args, &machine, selected, &note);
    let exit = if all_able { Exit::Done } else { Exit::NotMet };
    if !args.watch {
        let document = if args.daemon {
            let Some(document) = source.ask_daemon()? else {
                let dir = settings.runtime_dir.display();
                match source.without {
                    Without::NicOf(names) => note(&daemon_lacks(&names)),
                    Without::Any => {
                        note(&format!("no daemon answers in {dir}; `steer run` starts one"));
                    }
                    // Why not was said, and another daemon would not help.
                    Without::Answer => {}
                }
                return Ok(Exit::NotMet);
            };
            document
        } else {
            source.next()?
        };
        if args.json {
            print_json(&document)?;
        } else {
            print(&text::status_on(&document, screen()))?;
        }
        return Ok(exit);
    }
    let picture = Picture::new();
    loop {
        let document = source.next()?;
        let somebody_looks =
            if args.json { show_json(&document)? } else { picture.show(document)? };
        if !somebody_looks {
            return Ok(exit);
        }
    }
}

/// Why there is no daemon's document.
enum Without {
    /// No daemon runs.
    Any,
    /// One runs and does not answer us, which was said.
    Answer,
    /// Those that answer do not have these NICs: they never had them, or a NIC is away or has just come
    /// back, and the window with it is not over yet.
    NicOf(String),
}

fn daemon_lacks(names: &str) -> String {
    format!(
        "the daemon that runs here does not have {names} now (`steer status --daemon` shows what it has)"
    )
}

/// Where the documents come from.
pub(super) struct Observation<'a> {
    settings: &'a Settings,
    args: &'a StatusArgs,
    machine: &'a Machine,
    selected: Vec<Selected>,
    watch: Option<Watch<'a>>,
    last: Option<Sample>,
    cost: Option<CostMeter>,
    /// How long the daemon's windows are, while it is one that answers.
    window: Option<Duration>,
    without: Without,
    /// Tells the operator what is beside the answer.
    say: &'a dyn Fn(&str),
    /// What was said last: once is enough.
    said: Option<String>,
    /// Set when nobody waits for the next document any more.
    ended: Arc<AtomicBool>,
}

impl<'a> Observation<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        args: &'a StatusArgs,
        machine: &'a Machine,
        selected: Vec<Selected>,
        say: &'a dyn Fn(&str),
    ) -> Self {
        let (watch, last, cost, window, said) = (None, None, None, None, None);
        let (ended, without) = (Arc::default(), Without::Any);
        Self {
            settings,
            args,
            machine,
            selected,
            watch,
            last,
            cost,
            window,
            without,
            say,
            said,
            ended,
        }
    }

    /// Ends waits early once `ended` is set.
    pub(super) fn until(self, ended: Arc<AtomicBool>) -> Self {
        Self { ended, ..self }
    }

    fn say_once(&mut self, text: String) {
        if self.said.as_ref() != Some(&text) {
            (self.say)(&text);
            self.said = Some(text);
        }
    }

    /// Waits, but no longer than somebody waits for the next document.
    pub(super) fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.ended.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// The next document: the daemon's for the NICs that it has, one's own for the others.
    pub(super) fn next(&mut self) -> anyhow::Result<Status> {
        // One may have come in the meantime, or gone.
        if self.args.observer.is_none() {
            // The daemon answers at once; a watcher wants the next window.
            if let Some(window) = self.window.take() {
                self.sleep(window);
            }
            if let Some(status) = self.ask_daemon()? {
                if self.args.watch {
                    self.window = Some(Duration::from_secs_f64(status.window_s.clamp(0.1, 60.0)));
                }
                (self.watch, self.last, self.cost) = (None, None, None);
                return Ok(status);
            }
        }
        self.observe()
    }

    fn ask_daemon(&mut self) -> anyhow::Result<Option<Status>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let request = Request::Status { flows: self.args.flows };
        self.without = Without::Any;
        let answers = match runtime.block_on(ask(&self.settings.runtime_dir, request)) {
            Ok(answers) => answers,
            Err(error) => {
                let dir = self.settings.runtime_dir.display();
                let what_to_do = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "root may ask, and the members of `run.group` in its configuration"
                    }
                    _ => "what answers there is no daemon of this steer: start it anew",
                };
                self.say_once(format!(
                    "a daemon's answer is not to be had in {dir} ({error}); {what_to_do}"
                ));
                self.without = Without::Answer;
                Vec::new()
            }
        };
        let one_answers = !answers.is_empty();
        let mut nics = Vec::new();
        let mut window_s = 0.0;
        let mut missing = Vec::new();
        let mut neighbours: Vec<String> = Vec::new();
        let mut listeners = Vec::new();
        let mut pace: Option<Pace> = None;
        let mut connects = Vec::new();
        let (mut at_unix_s, mut cost) = (None, None);
        for answer in answers {
            window_s = answer.window_s;
            at_unix_s = answer.at_unix_s;
            // Of two daemons the dearer; their sum would be nobody's.
            let share = |cost: &Cost| cost.cpu_share.unwrap_or(0.0);
            cost = [cost, answer.cost]
                .into_iter()
                .flatten()
                .max_by(|a, b| share(a).total_cmp(&share(b)));
            missing.extend(answer.missing);
            // Two daemons have the same neighbours, and may stand differently with them.
            neighbours.extend(answer.neighbours);
            listeners.extend(answer.listeners);
            // Of two, the one that keeps up worse is the one to know of.
            pace = [pace, answer.pace].into_iter().flatten().max_by_key(|pace| pace.missed);
            nics.extend(answer.nics);
            connects.extend(answer.connects);
        }
        nics.retain(|status| self.selected.iter().any(|one| one.nic.name == status.name));
        let answered = |one: &Selected| nics.iter().any(|status| status.name == one.nic.name);
        if nics.is_empty() || !(self.args.daemon || self.able().all(answered)) {
            if one_answers {
                let lacking = self.selected.iter().filter(|one| !answered(one));
                let names: Vec<&str> = lacking.map(|one| one.nic.name.as_str()).collect();
                self.without = Without::NicOf(names.join(", "));
            }
            return Ok(None);
        }
        let unable = self.selected.iter().filter(|one| one.why_not.is_some());
        nics.extend(unable.map(|one| unsteerable(one, &World::default())));
        neighbours.sort();
        neighbours.dedup();
        let (schema, source) = (Status::SCHEMA, Source::Daemon);
        Ok(Some(Status {
            schema,
            source,
            window_s,
            at_unix_s,
            nics,
            missing,
            neighbours,
            lever_states: lever::of_host(source, &listeners, &connects),
            listeners,
            pace,
            connects,
            cost,
        }))
    }

    /// Those that can be steered.
    fn able(&self) -> impl Iterator<Item = &Selected> {
        self.selected.iter().filter(|one| one.why_not.is_none())
    }

    /// Begins to observe what was selected, whether it can be steered or not.
    fn start(&self) -> anyhow::Result<Watch<'a>> {
        let observer = self.args.observer.map(super::args::ObserverArg::resolve);
        let observer = observer.unwrap_or(self.settings.observer);
        rights::to_observe(self.machine, observer)?;
        let nics: Vec<Nic> = self.selected.iter().map(|one| one.nic.clone()).collect();
        Watch::start(self.machine, &nics, observer)
    }

    fn observe(&mut self) -> anyhow::Result<Status> {
        let mut watch = match self.watch.take() {
            Some(watch) => watch,
            None => match self.start() {
                Ok(watch) => watch,
                // Of what cannot be steered, the settings alone are an answer too.
                Err(error) if self.able().next().is_none() => {
                    self.say_once(format!("{error:#}"));
                    if self.args.watch {
                        self.sleep(self.args.window);
                    }
                    let world = World::default();
                    let settings = self.selected.iter().map(|one| unsteerable(one, &world));
                    return Ok(Status::new(Source::Own, &world, settings.collect()));
                }
                Err(error) => return Err(error),
            },
        };
        let first = match self.last.take() {
            Some(sample) => sample,
            None => {
                watch.warm_up()?;
                watch.sample()?
            }
        };
        // Starting up is not what looking takes.
        if self.cost.is_none() {
            self.cost = Some(CostMeter::start(&watch, false));
        }
        if !self.args.watch {
            let shown = self.args.window > SILENCE;
            let observing = format!("observing for {:?}", self.args.window);
            match &self.without {
                Without::Any if shown => self.say_once(format!("no daemon runs here; {observing}")),
                Without::Answer if shown => self.say_once(observing),
                Without::NicOf(names) => {
                    self.say_once(format!("{}; {observing}", daemon_lacks(names)));
                }
                Without::Any | Without::Answer => {}
            }
        }
        self.sleep(self.args.window);
        let second = watch.sample()?;
        let found = neighbours::find(self.machine.root(), Path::new("/"));
        let policy_of = |nic: &str| self.settings.config.values(Some(nic)).policy;
        let mut document = document(&first, &second, self.args.flows, &found, &policy_of);
        document.at_unix_s = Some(unix_time_s());
        document.cost = self.cost.as_mut().map(|meter| meter.take(&watch));
        self.watch = Some(watch);
        self.last = Some(second);
        Ok(document)
    }
}

/// The document for a moment of a recording.
fn recorded(file: &Path, args: &StatusArgs) -> anyhow::Result<Exit> {
    let mut recorded = Recorded::open(file)?;
    let mut window = recorded.window_at(args.recording.at)?;
    recorded.demand(&args.interfaces, &window.second)?;
    let names = &args.interfaces;
    window.second.nics.retain(|nic| names.is_empty() || names.contains(&nic.nic.name));
    let document = window_document(&recorded, &window, args.flows);
    if args.json {
        print_json(&document)?;
    } else {
        print(&text::status_on(&document, screen()))?;
    }
    Ok(Exit::Done)
}

/// What `steer status` would have said then.
pub(super) fn window_document(recorded: &Recorded, window: &Window, flows: bool) -> Status {
    let policy_of = |nic: &str| recorded.policy_of(nic);
    let found = &recorded.header().facts.neighbours;
    document(&window.first, &window.second, flows, found, &policy_of)
}

/// What two samples come to.
pub(super) fn document(
    first: &Sample,
    second: &Sample,
    flows: bool,
    found: &Neighbours,
    policy_of: &dyn Fn(&str) -> Policy,
) -> Status {
    let world = World::between(first, second, first.at_ns);
    let shared = Shared::new(&world);
    let nics = world.nics.iter().map(|nic| {
        let why_not = why_not_steerable(&nic.nic);
        let mut status = if why_not.is_some() {
            unsteerable(&Selected { nic: nic.nic.clone(), why_not }, &world)
        } else {
            observed(&world, nic, &shared.around(nic), &policy_of(&nic.nic.name))
        };
        if flows {
            status.add_flows(&second.flows, nic.nic.ifindex, first.at_ns);
        }
        status
    });
    let mut document = Status::new(Source::Own, &world, nics.collect());
    document.neighbours = sentences(found, "runs and moves interrupts");
    document
}

/// The status of a NIC that is only looked at.
fn observed(world: &World, nic: &NicWorld, host: &Host<'_>, policy: &Policy) -> NicStatus {
    let plan = plan::plan(nic, host, policy, &Experience::default());
    let (state, reason) = match nic.mapping.verdict() {
        MappingVerdict::Verified => (NicState::Observing, None),
        MappingVerdict::Unverified => (NicState::Unverified, Some(nic.unverified())),
        MappingVerdict::TooFewFlows => (NicState::Observing, plan.reasons.first().cloned()),
    };
    let mut status = NicStatus::new(world, nic, &plan, state, reason);
    status.lever_states = lever::of_nic(&nic.nic, policy, state);
    status.next = next(nic, &plan, &status, Source::Own);
    status
}

/// The status of a NIC that cannot be steered: what is seen of it in `world`, else its settings alone.
fn unsteerable(selected: &Selected, world: &World) -> NicStatus {
    let seen = world.nics.iter().find(|nic| nic.nic.ifindex == selected.nic.ifindex);
    let settings = || NicWorld { nic: selected.nic.clone(), ..NicWorld::default() };
    let nic = seen.cloned().unwrap_or_else(settings);
    let (plan, state) = (plan::Plan::default(), NicState::Unsteerable);
    let mut status = NicStatus::new(world, &nic, &plan, state, selected.why_not.clone());
    status.next = next(&nic, &plan, &status, Source::Own);
    status
}
