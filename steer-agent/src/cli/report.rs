//! `steer report`: one HTML file with what was before, what was done and what came of it, from a recording
//! or from looking on here.

mod live;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::args::ReportArgs;
use super::output::{note, print, print_line};
use super::recorded::Recorded;
use super::status::document;
use super::{Exit, Settings};
use crate::model::Sample;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::report::page::{Page, Story};
use crate::report::recording::{Anonymiser, Header, Record};

/// Where the page goes where no file is named.
const DEFAULT_OUTPUT: &str = "steer-report.html";
/// A sentence of progress so often.
const NEWS: Duration = Duration::from_secs(2);

pub(super) fn report(args: &ReportArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let mut output = Output::open(args)?;
    let made = match &args.from {
        Some(file) => recorded(file, args).map(|page| (page, Exit::Done)),
        None => live::live(args, settings),
    };
    let (page, exit) = made.inspect_err(|_| output.abandon())?;
    for sentence in page.verdict() {
        note(&sentence);
    }
    output.write(&page.html())?;
    Ok(exit)
}

/// The page of a recording.
fn recorded(file: &Path, args: &ReportArgs) -> anyhow::Result<Page> {
    let mut recorded = Recorded::open(file)?;
    let mut teller = Teller::new(&args.interfaces, recorded.header().clone(), args);
    let (mut news, mut first) = (Instant::now(), true);
    while let Some(record) = recorded.next_record()? {
        if let (Record::Sample(sample), true) = (&record, std::mem::take(&mut first)) {
            recorded.demand(&args.interfaces, sample)?;
        }
        teller.add(record);
        if news.elapsed() >= NEWS {
            news = Instant::now();
            note(&format!("{}: {} windows read", file.display(), teller.story.windows()));
        }
    }
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    teller.page(format!("From the recording {name}")).with_context(|| {
        format!(
            "the recording {} has no whole window: it takes two samples, expected a recording of at \
             least --every",
            file.display()
        )
    })
}

/// A story with the header that goes with it, with other names if so asked.
struct Teller {
    story: Story,
    header: Header,
    anonymiser: Option<Anonymiser>,
}

impl Teller {
    fn new(interfaces: &[String], header: Header, args: &ReportArgs) -> Self {
        let mut anonymiser = args.anonymise.map(Anonymiser::new);
        let (header, names) = match &mut anonymiser {
            // The policies name the interfaces, which are known by other names from here on.
            Some(anonymiser) => {
                let names = interfaces.iter().map(|name| anonymiser.interface(name)).collect();
                (anonymiser.header(header), names)
            }
            None => (header, interfaces.to_vec()),
        };
        Self { story: Story::new(&names), header, anonymiser }
    }

    fn add(&mut self, record: Record) {
        let record = match &mut self.anonymiser {
            Some(anonymiser) => anonymiser.record(record),
            None => record,
        };
        match record {
            Record::Sample(sample) => self.story.sample(*sample),
            Record::Daemon(status) => self.story.daemon(*status),
        }
    }

    /// A plan is about to be carried out.
    fn planned(&mut self, plan: &Plan) {
        let mut plan = plan.clone();
        if let Some(anonymiser) = &mut self.anonymiser {
            plan.nic = anonymiser.interface(&plan.nic);
        }
        self.story.planned(&plan);
    }

    /// Something was done.
    fn done(&mut self, line: &str) {
        let line = self
            .anonymiser
            .as_ref()
            .map_or_else(|| line.to_owned(), |anonymiser| anonymiser.sentence(line));
        self.story.done(line);
    }

    fn page(self, source: String) -> Option<Page> {
        let policies = self.header.policies.clone();
        let neighbours = self.header.facts.neighbours.clone();
        let policy_of = |nic: &str| -> Policy { policies.get(nic).cloned().unwrap_or_default() };
        let status_of = |first: &Sample, second: &Sample| {
            document(first, second, false, &neighbours, &policy_of)
        };
        self.story.page(source, self.header, &status_of)
    }
}

/// Where the page goes.
enum Output {
    Stdout,
    File { path: PathBuf, file: std::fs::File, is_new: bool },
}

impl Output {
    /// Opens it before anything is observed or changed: a report that has no place is not begun.
    fn open(args: &ReportArgs) -> anyhow::Result<Self> {
        let path = args.output.clone().unwrap_or_else(|| DEFAULT_OUTPUT.into());
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let there = path.exists();
        // Who talks to whom is for its owner to show around.
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if args.force {
            // What was there is lost only when there is something in its place.
            options.create(true);
        } else {
            options.create_new(true);
        }
        match options.open(&path) {
            Ok(file) => Ok(Self::File { path, file, is_new: !there }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "{} is there already, expected the name of a new file, or --force to overwrite it; \
                 nothing was done",
                path.display()
            ),
            Err(error) => Err(error).with_context(|| {
                format!("cannot make the report {}; nothing was done", path.display())
            }),
        }
    }

    /// Nothing comes: a file that was made for it goes again.
    fn abandon(&self) {
        if let Self::File { path, is_new: true, .. } = self
            && let Err(error) = std::fs::remove_file(path)
        {
            log::warn!("{} is empty and stays: {error}", path.display());
        }
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Stdout => Ok(print(text)?),
            Self::File { path, file, .. } => {
                let failed = || format!("cannot write the report {}", path.display());
                file.set_len(0).with_context(failed)?;
                file.write_all(text.as_bytes()).with_context(failed)?;
                Ok(print_line(&format!("{}: {} kB", path.display(), text.len().div_ceil(1000)))?)
            }
        }
    }
}
