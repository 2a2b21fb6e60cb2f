//! `SO_INCOMING_CPU` of other processes' listening sockets: journalled, set, read back, put back.
//!
//! The option dies with its socket, so that what a killed steer leaves is a socket that goes on to take
//! the connections of one CPU; a journal of its own (`accept-IF`, beside those of the NICs) names each
//! with the value that it had. A value that is neither that nor steer's is somebody else's and stays.
//!
//! A program in a reuseport group is noted by its number, before it is put in, and taken out only where
//! the kernel tells that the group still has this very one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Trust;
use super::journal::{
    FORMAT, JournalError, all_called, read_document, remove_document, write_document,
};
use crate::model::CpuId;
use crate::model::listener::{Endpoint, Holder, ListeningSocket};
use crate::sys::SysError;
use crate::sys::listener::Sockets;

/// One socket that steer has set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    cookie: u64,
    endpoint: Endpoint,
    original: Option<CpuId>,
    /// Values that steer may have left in it.
    ours: Vec<Option<CpuId>>,
}

/// A reuseport group with steer's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ProgramEntry {
    endpoint: Endpoint,
    /// Number of the program; the kernel gives none out twice in a boot, or not for long.
    id: u32,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    boot_id: String,
    /// Network namespace, by its inode number.
    netns: u64,
    entries: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    programs: Vec<ProgramEntry>,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.programs.is_empty()
    }
}

/// A journal of sockets with its place on disk.
#[derive(Debug)]
pub struct ListenerJournal {
    path: PathBuf,
    record: Record,
}

/// Why a socket was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It cannot be noted, so it is not written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The kernel refused.
    #[error(transparent)]
    Socket(#[from] SysError),
    /// Its value is somebody else's.
    #[error("SO_INCOMING_CPU of the socket on {endpoint} was set to {found:?} by somebody else")]
    Foreign {
        /// What it listens on.
        endpoint: Endpoint,
        /// What was found.
        found: Option<CpuId>,
    },
    /// Nobody is known to have it open.
    #[error("nobody is known to hold the socket on {0}")]
    NobodyHolds(Endpoint),
}

/// What became of a restoration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerRestoration {
    /// Sockets put back.
    pub restored: usize,
    /// Groups out of which steer's program was taken.
    pub programs: usize,
    /// Sockets and groups that are gone, and their settings with them, or that were as before already.
    pub settled: usize,
    /// Sockets and groups that were not put back, a sentence each.
    pub open: Vec<String>,
}

impl fmt::Display for ListenerRestoration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.programs > 0 {
            write!(f, "programs taken out of {} reuseport groups; ", self.programs)?;
        }
        write!(f, "SO_INCOMING_CPU of {} sockets put back", self.restored)?;
        if self.settled > 0 {
            write!(f, ", {} were closed or as before", self.settled)?;
        }
        if !self.open.is_empty() {
            write!(f, "; {} not put back, the journal keeps them", self.open.len())?;
        }
        Ok(())
    }
}

impl ListenerJournal {
    /// The journal that goes with a run on `nic`, taken over where a killed one left it.
    pub fn open(
        state_dir: &Path,
        nic: &str,
        boot_id: &str,
        netns: u64,
    ) -> Result<Self, JournalError> {
        let path = state_dir.join(format!("accept-{nic}"));
        // Sockets do not outlive a boot; those of another namespace are noted by whoever is there.
        let known: Option<Record> = read_document(&path)?;
        let record = known.filter(|record| record.boot_id == boot_id && record.netns == netns);
        let record = record.unwrap_or_else(|| Record {
            format: FORMAT,
            boot_id: boot_id.to_owned(),
            netns,
            entries: Vec::new(),
            programs: Vec::new(),
        });
        Ok(Self { path, record })
    }

    /// The names of all NICs that have one in `state_dir`.
    pub fn all(state_dir: &Path) -> Result<Vec<String>, JournalError> {
        all_called(state_dir, "accept-")
    }

    /// Whether there is one for `nic`.
    #[must_use]
    pub fn exists(state_dir: &Path, nic: &str) -> bool {
        state_dir.join(format!("accept-{nic}")).exists()
    }

    /// Whether there is nothing to put back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }

    /// Numbers of the programs that are noted.
    pub fn programs(&self) -> impl Iterator<Item = u32> {
        self.record.programs.iter().map(|program| program.id)
    }

    /// Notes that a program is about to be put into the group on `endpoint`.
    pub fn note_program(&mut self, endpoint: &Endpoint, id: u32) -> Result<(), JournalError> {
        let program = ProgramEntry { endpoint: endpoint.clone(), id };
        if self.record.programs.contains(&program) {
            return Ok(());
        }
        let mut record = self.record.clone();
        record.programs.push(program);
        self.save(record)
    }

    /// Forgets programs of groups that are gone.
    pub fn forget_programs_but(
        &mut self,
        open: impl Fn(&Endpoint) -> bool,
    ) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        record.programs.retain(|program| open(&program.endpoint));
        if record == self.record { Ok(()) } else { self.save(record) }
    }

    /// What steer has last set the socket to, if it has.
    #[must_use]
    pub fn held(&self, cookie: u64) -> Option<Option<CpuId>> {
        let entry = self.record.entries.iter().find(|entry| entry.cookie == cookie)?;
        entry.ours.last().copied()
    }

    /// Sets a socket that `holders` have open.
    pub fn set(
        &mut self,
        socket: &ListeningSocket,
        holders: &[Holder],
        cpu: Option<CpuId>,
        sockets: &dyn Sockets,
    ) -> Result<(), SetError> {
        let endpoint = &socket.endpoint;
        let (holder, found) = first(holders, socket.cookie, sockets)
            .unwrap_or_else(|| Err(SetError::NobodyHolds(endpoint.clone())))?;
        let mut record = self.record.clone();
        match record.entries.iter_mut().find(|entry| entry.cookie == socket.cookie) {
            Some(entry) if found != entry.original && !entry.ours.contains(&found) => {
                return Err(SetError::Foreign { endpoint: endpoint.clone(), found });
            }
            Some(entry) => entry.ours = vec![found, cpu],
            None => record.entries.push(Entry {
                cookie: socket.cookie,
                endpoint: endpoint.clone(),
                original: found,
                ours: vec![cpu],
            }),
        }
        write_document(&self.path, &record)?;
        self.record = record;
        sockets.set_incoming_cpu(holder, socket.cookie, cpu)?;
        let now = sockets.incoming_cpu(holder, socket.cookie)?;
        if now == cpu {
            return Ok(());
        }
        let what = format!("it reads back as {now:?}");
        Err(SysError::unexpected("SO_INCOMING_CPU", endpoint.to_string(), what).into())
    }

    /// Forgets sockets that are closed.
    pub fn forget_all_but(&mut self, open: impl Fn(u64) -> bool) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        record.entries.retain(|entry| open(entry.cookie));
        if record == self.record { Ok(()) } else { self.save(record) }
    }

    /// Puts everything back, trying each. What could not be put back stays in the journal. `programs` is
    /// the number of the program in each listening socket's group by the socket's cookie; `None` where the
    /// kernel does not tell.
    pub fn restore(
        mut self,
        sockets: &dyn Sockets,
        programs: Option<&BTreeMap<u64, u32>>,
        trust: Trust,
    ) -> Result<ListenerRestoration, SetError> {
        let mut outcome = ListenerRestoration::default();
        let listening = sockets.listening()?;
        let mut record = self.record.clone();
        record.entries.retain(|entry| {
            let Some(socket) = listening.iter().find(|socket| socket.cookie == entry.cookie) else {
                outcome.settled += 1;
                return false;
            };
            match put_back(entry, socket, sockets, trust) {
                Ok(true) => outcome.restored += 1,
                Ok(false) => outcome.settled += 1,
                Err(error) => {
                    outcome.open.push(error.to_string());
                    return true;
                }
            }
            false
        });
        record.programs.retain(|program| {
            match take_out(program, &listening, sockets, programs, trust) {
                Ok(true) => outcome.programs += 1,
                Ok(false) => outcome.settled += 1,
                Err(sentence) => {
                    outcome.open.push(sentence);
                    return true;
                }
            }
            false
        });
        self.save(record)?;
        Ok(outcome)
    }

    fn save(&mut self, record: Record) -> Result<(), JournalError> {
        if record.is_empty() {
            remove_document(&self.path)?;
        } else {
            write_document(&self.path, &record)?;
        }
        self.record = record;
        Ok(())
    }
}

/// The first holder through whom the socket can be asked, and what it answers; the last refusal where
/// there is none.
fn first<'a>(
    holders: &'a [Holder],
    cookie: u64,
    sockets: &dyn Sockets,
) -> Option<Result<(&'a Holder, Option<CpuId>), SetError>> {
    let mut last = None;
    for holder in holders {
        match sockets.incoming_cpu(holder, cookie) {
            Ok(found) => return Some(Ok((holder, found))),
            Err(error) => last = Some(Err(error.into())),
        }
    }
    last
}

/// True where it was written, false where it was as before.
fn put_back(
    entry: &Entry,
    socket: &ListeningSocket,
    sockets: &dyn Sockets,
    trust: Trust,
) -> Result<bool, SetError> {
    let holders = sockets.holders(socket);
    let nobody = || Err(SetError::NobodyHolds(entry.endpoint.clone()));
    let (holder, found) = first(&holders, entry.cookie, sockets).unwrap_or_else(nobody)?;
    if found == entry.original {
        return Ok(false);
    }
    if trust == Trust::OwnOnly && !entry.ours.contains(&found) {
        return Err(SetError::Foreign { endpoint: entry.endpoint.clone(), found });
    }
    sockets.set_incoming_cpu(holder, entry.cookie, entry.original)?;
    Ok(true)
}

/// True where the program was taken out, false where the group has it no more.
fn take_out(
    program: &ProgramEntry,
    listening: &[ListeningSocket],
    sockets: &dyn Sockets,
    programs: Option<&BTreeMap<u64, u32>>,
    trust: Trust,
) -> Result<bool, String> {
    let ProgramEntry { endpoint, id } = program;
    let on_endpoint = || listening.iter().filter(|socket| socket.endpoint == *endpoint);
    let is_ours = |socket: &&ListeningSocket| match programs {
        Some(programs) => programs.get(&socket.cookie) == Some(id),
        None => trust == Trust::Force,
    };
    if programs.is_none() && trust == Trust::OwnOnly && on_endpoint().next().is_some() {
        return Err(format!(
            "whether the reuseport program on {endpoint} is still steer's cannot be told here; \
             --force takes out whichever it is"
        ));
    }
    let mut last = None;
    for socket in on_endpoint().filter(is_ours) {
        for holder in sockets.holders(socket) {
            match sockets.detach_program(&holder, socket.cookie) {
                Ok(()) => return Ok(true),
                Err(error) => last = Some(error.to_string()),
            }
        }
        last.get_or_insert_with(|| SetError::NobodyHolds(endpoint.clone()).to_string());
    }
    last.map_or(Ok(false), Err)
}

#[cfg(test)]
mod tests;
