//! `steer status`: from the running daemon, else observed here.

use std::time::{Duration, Instant};

use super::args::StatusArgs;
use super::output::{note, print, print_json};
use super::select::{Selected, for_reading, steerable};
use super::{Exit, Settings, rights};
use crate::model::{MappingVerdict, Nic, NicWorld, Sample, World};
use crate::observe::Watch;
use crate::plan::{self, Experience, Host, Shared};
use crate::policy::Policy;
use crate::report::socket::{Request, ask};
use crate::report::{NicState, NicStatus, Source, Status, text};
use crate::sys::Machine;

/// Observations longer than this say so first.
const SILENCE: Duration = Duration::from_millis(500);

pub(super) fn status(args: &StatusArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let machine = Machine::open()?;
    let selected = for_reading(&machine, &args.interfaces)?;
    if selected.is_empty() {
        note(&steerable(&machine)?);
        return Ok(Exit::NotMet);
    }
    let (able, unable): (Vec<Selected>, Vec<Selected>) =
        selected.into_iter().partition(|selected| selected.why_not.is_none());
    let able: Vec<Nic> = able.into_iter().map(|selected| selected.nic).collect();
    for why in unable.iter().filter_map(|selected| selected.why_not.as_ref()) {
        note(why);
    }
    let mut source =
        Observation { settings, args, machine: &machine, nics: able, watch: None, last: None };
    loop {
        let mut document = source.next()?;
        document.nics.extend(unable.iter().map(unsteerable));
        if args.json {
            print_json(&document)?;
        } else {
            if args.watch {
                // Home and clear, so that each window overwrites the last.
                print("\x1b[H\x1b[2J")?;
            }
            print(&text::status(&document))?;
        }
        if !args.watch {
            return Ok(if unable.is_empty() { Exit::Done } else { Exit::NotMet });
        }
    }
}

/// Where the documents come from.
struct Observation<'a> {
    settings: &'a Settings,
    args: &'a StatusArgs,
    machine: &'a Machine,
    nics: Vec<Nic>,
    watch: Option<Watch<'a>>,
    last: Option<Sample>,
}

impl Observation<'_> {
    /// The next document: the daemon's for the NICs that it has, one's own for the others.
    fn next(&mut self) -> anyhow::Result<Status> {
        if self.watch.is_none() && self.args.observer.is_none() {
            let asked = Instant::now();
            if let Some(status) = self.ask_daemon()? {
                // The daemon answers at once; a watcher wants the next window.
                if self.args.watch {
                    let window = Duration::from_secs_f64(status.window_s.clamp(0.1, 60.0));
                    if self.last.replace(Sample::default()).is_some() {
                        std::thread::sleep(window.saturating_sub(asked.elapsed()));
                    }
                }
                return Ok(status);
            }
        }
        self.observe()
    }

    fn ask_daemon(&self) -> anyhow::Result<Option<Status>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let request = Request::Status { flows: self.args.flows };
        let answers =
            runtime.block_on(ask(&self.settings.runtime_dir, request)).unwrap_or_default();
        let mut nics = Vec::new();
        let mut window_s = 0.0;
        let mut missing = Vec::new();
        for answer in answers {
            window_s = answer.window_s;
            missing.extend(answer.missing);
            nics.extend(answer.nics);
        }
        nics.retain(|status| self.nics.iter().any(|nic| nic.name == status.name));
        let all = self.nics.iter().all(|nic| nics.iter().any(|status| status.name == nic.name));
        if nics.is_empty() || !all {
            return Ok(None);
        }
        let source = Source::Daemon;
        Ok(Some(Status { schema: Status::SCHEMA, source, window_s, nics, missing }))
    }

    fn observe(&mut self) -> anyhow::Result<Status> {
        if self.nics.is_empty() {
            let world = World::default();
            return Ok(Status::new(Source::Own, &world, Vec::new()));
        }
        let mut watch = match self.watch.take() {
            Some(watch) => watch,
            None => {
                let observer =
                    self.args.observer.unwrap_or(super::args::ObserverArg::Auto).resolve();
                rights::to_observe(self.machine, observer)?;
                Watch::start(self.machine, &self.nics, observer)?
            }
        };
        let first = match self.last.take() {
            Some(sample) => sample,
            None => {
                watch.warm_up()?;
                watch.sample()?
            }
        };
        if !self.args.watch && self.args.window > SILENCE {
            note(&format!("no daemon runs here; observing for {:?}", self.args.window));
        }
        std::thread::sleep(self.args.window);
        let second = watch.sample()?;
        let world = World::between(&first, &second, first.at_ns);
        let shared = Shared::new(&world);
        let nics = world
            .nics
            .iter()
            .map(|nic| {
                let mut status = observed(&world, nic, &shared.around(nic), &self.settings.policy);
                if self.args.flows {
                    status.add_flows(&second.flows, nic.nic.ifindex, first.at_ns);
                }
                status
            })
            .collect();
        let document = Status::new(Source::Own, &world, nics);
        self.watch = Some(watch);
        self.last = Some(second);
        Ok(document)
    }
}

/// The status of a NIC that is only looked at.
fn observed(world: &World, nic: &NicWorld, host: &Host<'_>, policy: &Policy) -> NicStatus {
    let plan = plan::plan(nic, host, policy, &Experience::default());
    let (state, reason) = match nic.mapping.verdict() {
        MappingVerdict::Verified => (NicState::Observing, None),
        MappingVerdict::Unverified => {
            (NicState::Unverified, Some(format!("mapping unverified: {}", nic.mapping.evidence())))
        }
        MappingVerdict::TooFewFlows => (NicState::Observing, plan.reasons.first().cloned()),
    };
    NicStatus::new(world, nic, &plan, state, reason)
}

/// The status of a NIC that cannot be steered, from its settings alone.
fn unsteerable(selected: &Selected) -> NicStatus {
    let world = World::default();
    let nic = NicWorld { nic: selected.nic.clone(), ..NicWorld::default() };
    NicStatus::new(
        &world,
        &nic,
        &plan::Plan::default(),
        NicState::Unsteerable,
        selected.why_not.clone(),
    )
}
