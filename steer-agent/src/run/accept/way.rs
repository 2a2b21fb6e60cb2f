//! The three ways in which connections are brought to a worker, behind one interface.

use std::collections::BTreeMap;
use std::path::Path;

use steer_common::accept::ListenerRecord;

use super::members::GroupPrograms;
use super::options::{SocketOptions, Wish};
use crate::apply::Trust;
use crate::apply::listener::ListenerJournal;
use crate::model::Fact;
use crate::model::accept::AcceptTable;
use crate::observe::kernel::accept::{AcceptSide, Chooser};
use crate::plan::accept::Book;
use crate::report::accept::Mechanism;
use crate::sys::listener::{LiveSockets, Sockets as _};
use crate::sys::{Root, reuseport};

/// Where the journal of sockets is.
#[derive(Clone, Copy, Debug)]
pub struct JournalPlace<'a> {
    /// Directory of journals.
    pub state_dir: &'a Path,
    /// The NIC whose run this is, or the first of several.
    pub nic: &'a str,
    /// This boot.
    pub boot_id: &'a str,
}

/// How connections are brought to a worker.
#[derive(Debug)]
pub(super) enum Way {
    /// The lookup program chooses, and nothing is set anywhere.
    Lookup,
    /// The kernel chooses by the option of each socket, and the lookup program only learns.
    Options { options: SocketOptions, wishes: Vec<Wish> },
    /// A program in each group chooses.
    Programs(GroupPrograms),
}

impl Way {
    /// Where the kernel asks.
    pub(super) fn chooser(mechanism: Mechanism) -> Chooser {
        match mechanism {
            Mechanism::SkLookup | Mechanism::IncomingCpu => Chooser::Lookup,
            Mechanism::Reuseport => Chooser::Group,
        }
    }

    /// Tries whether this kernel can, and takes over what a killed steer has noted.
    pub(super) fn open(
        mechanism: Mechanism,
        place: JournalPlace<'_>,
        root: &Root,
        side: &AcceptSide,
    ) -> anyhow::Result<Self> {
        let journal = || -> anyhow::Result<(ListenerJournal, LiveSockets)> {
            let sockets = LiveSockets::new(root.clone());
            let JournalPlace { state_dir, nic, boot_id } = place;
            Ok((ListenerJournal::open(state_dir, nic, boot_id, sockets.netns())?, sockets))
        };
        Ok(match mechanism {
            Mechanism::SkLookup => Self::Lookup,
            Mechanism::IncomingCpu => {
                if let Fact::No(why) | Fact::Unknown(why) = reuseport::incoming_cpu_chooses() {
                    anyhow::bail!("connections cannot be steered by SO_INCOMING_CPU here: {why}");
                }
                let (journal, sockets) = journal()?;
                let options = SocketOptions::new(journal, sockets);
                Self::Options { options, wishes: Vec::new() }
            }
            Mechanism::Reuseport => {
                let (journal, sockets) = journal()?;
                Self::Programs(GroupPrograms::new(journal, sockets, side.member_program_id()?))
            }
        })
    }

    /// What it is called.
    pub(super) fn mechanism(&self) -> Mechanism {
        match self {
            Self::Lookup => Mechanism::SkLookup,
            Self::Options { .. } => Mechanism::IncomingCpu,
            Self::Programs(_) => Mechanism::Reuseport,
        }
    }

    /// Why a listener's group is left to the kernel, by what the kernel tells of it.
    pub(super) fn why_not(&self, record: Option<&ListenerRecord>) -> Option<String> {
        match (self, record) {
            (Self::Programs(programs), record) => programs.why_not(record),
            (_, Some(record)) if record.group == 2 => {
                Some("it has a reuseport program of its own, which is left to choose".to_owned())
            }
            _ => None,
        }
    }

    /// Whether something may have to be set outside now. `closely`: listeners have changed, or a second is
    /// over.
    pub(super) fn wishes(&mut self, book: &Book, closely: bool) -> bool {
        match self {
            Self::Lookup => false,
            Self::Options { options, wishes } => {
                *wishes = options.wishes(book);
                !wishes.is_empty()
            }
            Self::Programs(_) => closely,
        }
    }

    /// Sets it. Takes the rights to duplicate other processes' descriptors.
    pub(super) fn grant(&mut self, book: &mut Book, side: &mut AcceptSide, say: &dyn Fn(&str)) {
        match self {
            Self::Lookup => {}
            Self::Options { options, wishes } => options.set(wishes, say),
            Self::Programs(programs) => {
                if programs.look(book, side, say) {
                    programs.attach(book, side, say);
                }
            }
        }
    }

    /// Takes out of `table` what others than the programs choose.
    pub(super) fn leave(&self, book: &Book, table: &mut AcceptTable) {
        if let Self::Options { .. } = self {
            SocketOptions::only_learn(book, table);
        }
    }

    /// What is needed to end it: the program of each listener's group.
    pub(super) fn programs_to_tell(&self, side: &mut AcceptSide) -> Option<BTreeMap<u64, u32>> {
        match self {
            Self::Programs(_) => side.group_programs(),
            Self::Lookup | Self::Options { .. } => None,
        }
    }

    /// Puts back what was set. Programs are taken out also where everything is to stay as it is: without
    /// steer they choose nobody.
    pub(super) fn end(
        self,
        restore: bool,
        programs: Option<&BTreeMap<u64, u32>>,
        say: &dyn Fn(&str),
    ) -> bool {
        let (journal, sockets) = match self {
            Self::Lookup => return true,
            Self::Options { options, .. } if restore => options.into_journal(),
            Self::Options { options, .. } => {
                if !options.into_journal().0.is_empty() {
                    say(
                        "accept: SO_INCOMING_CPU stays as it was set; `steer restore` puts it back",
                    );
                }
                return true;
            }
            Self::Programs(programs) => programs.into_journal(),
        };
        if journal.is_empty() {
            return true;
        }
        match journal.restore(&sockets, programs, Trust::OwnOnly) {
            Ok(outcome) => {
                say(&format!("accept: {outcome}"));
                for sentence in &outcome.open {
                    say(&format!("accept: {sentence}"));
                }
                outcome.open.is_empty()
            }
            Err(error) => {
                say(&format!("accept: not restored: {error}"));
                false
            }
        }
    }
}
