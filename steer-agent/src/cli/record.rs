//! `steer record`: writes down what is read, window by window.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use super::args::RecordArgs;
use super::output::{note, print_line};
use super::recorded::Recorded;
use super::select::{Selected, for_reading, steerable};
use super::{Exit, Settings, rights};
use crate::model::Nic;
use crate::observe::{Observer, Watch, host, probe};
use crate::policy::Policy;
use crate::report::Status;
use crate::report::recording::{Anonymiser, Header, Record, Writer};
use crate::report::socket::{Request, ask};
use crate::sys::Machine;

/// A sentence of progress so often.
const NEWS: Duration = Duration::from_secs(10);

pub(super) fn record(args: &RecordArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let mut anonymiser = args.anonymise.map(Anonymiser::new);
    if let Some(from) = &args.from {
        return copy(from, &args.output, anonymiser.as_mut());
    }
    let machine = settings.machine()?;
    let selected = for_reading(&machine, &args.interfaces)?;
    if selected.is_empty() {
        note(&steerable(&machine)?);
        return Ok(Exit::NotMet);
    }
    let mut nics: Vec<Nic> = Vec::new();
    for Selected { nic, why_not } in selected {
        match why_not {
            None => nics.push(nic),
            Some(why) => bail!("{why}; nothing was recorded"),
        }
    }
    let observer = args.observer.map_or(settings.observer, super::args::ObserverArg::resolve);
    rights::to_observe(&machine, observer)?;
    let mut watch = Watch::start(&machine, &nics, observer)?.with_interrupts();
    watch.warm_up()?;
    let policy_of = |nic: &str| settings.config.values(Some(nic)).policy;
    let header = header(&machine, &nics, observer, args.every, &policy_of);
    let mut output = Output::begin(&args.output, header, anonymiser.as_mut())?;
    let names: Vec<&str> = nics.iter().map(|nic| nic.name.as_str()).collect();
    note(&format!(
        "recording {} for {:?} into {}; what is there when it is stopped earlier is good",
        names.join(", "),
        args.length,
        args.output.display()
    ));
    follow(&mut watch, &mut output, args, settings)?;
    output.finish()
}

/// What a recording of `nics` that begins now begins with.
pub(super) fn header(
    machine: &Machine,
    nics: &[Nic],
    observer: Observer,
    every: Duration,
    policy_of: &dyn Fn(&str) -> Policy,
) -> Header {
    let observer = match observer {
        Observer::Tracing => "tracing",
        Observer::Xdp => "xdp",
    };
    Header {
        steer_recording: Header::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        began_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs()),
        every_s: every.as_secs_f64(),
        facts: probe::facts(machine),
        policies: nics.iter().map(|nic| (nic.name.clone(), policy_of(&nic.name))).collect(),
        anonymised: false,
        host: Some(host::host_facts(machine.root())),
        observer: Some(observer.to_owned()),
    }
}

/// What a daemon that runs here says of itself; without one there is nothing to add.
pub(super) async fn of_daemon(settings: &Settings) -> Option<Status> {
    let answers = ask(&settings.runtime_dir, Request::Status { flows: false }).await;
    answers.ok().and_then(|answers| answers.into_iter().next())
}

/// Takes samples until the time is over.
fn follow(
    watch: &mut Watch<'_>,
    output: &mut Output<'_>,
    args: &RecordArgs,
    settings: &Settings,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let mut news = NEWS;
    let mut due = Duration::ZERO;
    loop {
        output.add(Record::Sample(Box::new(watch.sample()?)))?;
        if let Some(status) = runtime.block_on(of_daemon(settings)) {
            output.add(Record::Daemon(Box::new(status)))?;
        }
        if due >= args.length {
            return Ok(());
        }
        due = (due + args.every).min(args.length);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if began.elapsed() >= news && due < args.length {
            news += NEWS;
            note(&format!(
                "{} samples, {:?} to go",
                output.samples,
                args.length.saturating_sub(due)
            ));
        }
    }
}

/// Writes a recording again, anonymised or not.
fn copy(from: &Path, to: &Path, anonymiser: Option<&mut Anonymiser>) -> anyhow::Result<Exit> {
    let mut recorded = Recorded::open(from)?;
    let mut output = Output::begin(to, recorded.header().clone(), anonymiser)?;
    while let Some(record) = recorded.next_record()? {
        output.add(record)?;
    }
    output.finish()
}

/// The file that is written, and how much.
struct Output<'a> {
    path: &'a Path,
    writer: Writer<Box<dyn Write>>,
    anonymiser: Option<&'a mut Anonymiser>,
    samples: usize,
}

impl<'a> Output<'a> {
    fn begin(
        path: &'a Path,
        header: Header,
        mut anonymiser: Option<&'a mut Anonymiser>,
    ) -> anyhow::Result<Self> {
        let to: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout().lock())
        } else {
            // Who talks to whom is nobody else's business, and a recording of before is not lost.
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            Box::new(file.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => anyhow::anyhow!(
                    "{} is there already, expected the name of a new file; nothing was recorded",
                    path.display()
                ),
                _ => anyhow::Error::new(error)
                    .context(format!("cannot make the recording {}", path.display())),
            })?)
        };
        let header = match &mut anonymiser {
            Some(anonymiser) => anonymiser.header(header),
            None => header,
        };
        let writer = Writer::begin(to, &header).with_context(|| failed(path))?;
        Ok(Self { path, writer, anonymiser, samples: 0 })
    }

    fn add(&mut self, record: Record) -> anyhow::Result<()> {
        self.samples += usize::from(matches!(record, Record::Sample(_)));
        let record = match &mut self.anonymiser {
            Some(anonymiser) => anonymiser.record(record),
            None => record,
        };
        self.writer.add(&record).with_context(|| failed(self.path))
    }

    fn finish(self) -> anyhow::Result<Exit> {
        self.writer
            .finish()
            .and_then(|mut file| file.flush())
            .with_context(|| failed(self.path))?;
        let what = format!("{}: {} samples", self.path.display(), self.samples);
        if self.path == Path::new("-") {
            note(&what);
        } else {
            print_line(&what)?;
        }
        Ok(Exit::Done)
    }
}

fn failed(path: &Path) -> String {
    format!("cannot write the recording {}", path.display())
}
