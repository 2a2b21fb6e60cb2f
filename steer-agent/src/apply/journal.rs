//! The previous state on disk, synced before the first write.
//!
//! One file per NIC, `journal-IF` in the state directory: a JSON document and a line with its CRC-32.
//! It is replaced as a whole (temporary file, fsync, rename, fsync of the directory), so a crash at
//! any point leaves the old or the new journal, never half of one. It names every object that steer
//! has written or is about to write, with its value before steer came and the values that steer may
//! have left in it.
//!
//! It does not know how to undo: that is `restore`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Ban;
use crate::model::{CpuId, CpuSet};
use crate::plan::{Change, Target, Value};
use crate::sys::{DeviceId, Port};

/// Raised when the document changes so that an older steer must not read it.
pub(super) const FORMAT: u32 = 1;
/// No journal is larger: 8192 table entries and 1024 queues stay far below.
const MOST_BYTES: u64 = 16 << 20;

/// Ending of a journal that is being written.
const TEMPORARY: &str = "~new";
/// Ending of a journal that is of no use any more and is kept for the reader.
const ASIDE: &str = "~stale";

/// What can be wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The state directory or the file cannot be used.
    #[error("cannot {action} {}: {cause}; {hint}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer. Not as a source: a chain of errors would say it twice.
        cause: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The file is there and is not a journal of steer, or not a whole one.
    #[error(
        "the journal {} is damaged ({why}); nothing was changed. It holds the settings from before \
         steer: keep it, and put the NIC back by hand or move the file away to begin anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Another version wrote it.
    #[error(
        "the journal {} has format {found}, this steer knows {FORMAT}: use the steer that wrote it",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: u32,
    },
    /// It is of a device that is there and has another name by now.
    #[error(
        "the journal {} is of the device that is called {present} now: `steer restore {present}` puts \
         that back; nothing was changed",
        path.display()
    )]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// The name of its device.
        present: String,
    },
}

/// One object that steer has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The object.
    pub target: Target,
    /// Its value before steer.
    pub original: Value,
    /// Values that steer may have left in it, the latest last.
    pub ours: Vec<Value>,
    /// For an interrupt its action name, by which a number that was given to another device since
    /// is noticed.
    pub irq_name: Option<String>,
    /// For an interrupt the CPU that served it before steer: one of those that it may go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_by: Option<CpuId>,
    /// Why it was written last, for who reads the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Entry {
    /// Whether steer may have left `found` in it.
    #[must_use]
    pub fn is_ours(&self, found: &Value) -> bool {
        let on_its_way_home = |cpu| *found == Value::Cpus(CpuSet::single(cpu));
        self.ours.contains(found) || self.served_by.is_some_and(on_its_way_home)
    }
}

/// What is noted of an interrupt before steer sends it elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Irq {
    /// The name of its action.
    pub name: Option<String>,
    /// The CPU that serves it.
    pub served_by: Option<CpuId>,
}

/// Who wrote a journal, for who reads the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The command line.
    pub command: String,
    /// The version of steer.
    pub version: String,
    /// The user.
    pub uid: u32,
}

impl Writer {
    /// This process.
    fn this() -> Self {
        let words: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Self {
            command: words.join(" "),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uid: rustix::process::getuid().as_raw(),
        }
    }
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The boot in which it was written.
    pub boot_id: String,
    /// The NIC's name then.
    pub nic: String,
    /// The device behind that name.
    pub device: DeviceId,
    /// Process that wrote it.
    pub pid: u32,
    /// What that process was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Writer>,
    /// What was written.
    pub entries: Vec<Entry>,
    /// What irqbalance was asked to leave alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<Ban>,
}

impl Record {
    /// Whether there is nothing in it to undo.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.ban.is_none()
    }
}

/// A journal with its place on disk.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    record: Record,
}

impl Journal {
    /// Where the journal of `nic` is.
    #[must_use]
    pub fn path_in(state_dir: &Path, nic: &str) -> PathBuf {
        state_dir.join(format!("journal-{nic}"))
    }

    /// The names of all NICs that have a journal in `state_dir`.
    pub fn all(state_dir: &Path) -> Result<Vec<String>, JournalError> {
        all_called(state_dir, "journal-")
    }

    /// Reads the journal of `nic`; `None` where there is none.
    pub fn load(state_dir: &Path, nic: &str) -> Result<Option<Self>, JournalError> {
        let path = Self::path_in(state_dir, nic);
        let record = read_document(&path)?;
        Ok(record.map(|record| Self { path, record }))
    }

    /// A journal with nothing in it yet; it reaches the disk with the first [`Journal::intend`].
    #[must_use]
    pub fn new(state_dir: &Path, nic: &str, device: DeviceId, boot_id: String) -> Self {
        Self {
            path: Self::path_in(state_dir, nic),
            record: Record {
                format: FORMAT,
                boot_id,
                nic: nic.to_owned(),
                device,
                pid: std::process::id(),
                by: Some(Writer::this()),
                entries: Vec::new(),
                ban: None,
            },
        }
    }

    /// The document.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entry of `target`.
    #[must_use]
    pub fn entry(&self, target: &Target) -> Option<&Entry> {
        self.record.entries.iter().find(|entry| entry.target == *target)
    }

    /// Notes that `changes` are about to be written, and syncs. Only after this has succeeded may
    /// they be. `irq_name` names the action of an interrupt.
    pub fn intend(
        &mut self,
        changes: &[Change],
        irq_name: impl Fn(u32) -> Option<String>,
    ) -> Result<(), JournalError> {
        self.intend_because(changes, |_| None, |irq| Irq { name: irq_name(irq), served_by: None })
    }

    /// The same, with the reason for each change and with what is known of its interrupt.
    pub fn intend_because(
        &mut self,
        changes: &[Change],
        why: impl Fn(&Change) -> Option<String>,
        irq: impl Fn(u32) -> Irq,
    ) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        record.pid = std::process::id();
        record.by = Some(Writer::this());
        let mut noted: HashSet<&Target> = HashSet::new();
        for change in changes {
            let again = !noted.insert(&change.target);
            let known = record.entries.iter_mut().find(|entry| entry.target == change.target);
            match known {
                // Set twice by one plan, which may be killed in between.
                Some(entry) if again => entry.ours.push(change.to.clone()),
                // `from` was read back from the device just before: what steer left earlier and is
                // no longer there need not be remembered.
                Some(entry) => {
                    entry.ours = vec![change.from.clone(), change.to.clone()];
                    entry.why = why(change);
                }
                None => {
                    let Irq { name, served_by } = match change.target {
                        Target::IrqAffinity { irq: number, .. } => irq(number),
                        _ => Irq::default(),
                    };
                    record.entries.push(Entry {
                        target: change.target.clone(),
                        original: change.from.clone(),
                        ours: vec![change.to.clone()],
                        irq_name: name,
                        served_by,
                        why: why(change),
                    });
                }
            }
        }
        self.save(record)
    }

    /// Writes as much as a journal takes beside it, syncs, and takes that away again: a full or
    /// read-only place is noticed before the first plan, not at it.
    pub fn prove_writable(&mut self) -> Result<(), JournalError> {
        const TRIAL_BYTES: usize = 64 << 10;
        let trial = beside(&self.path, TEMPORARY);
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(|source| unwritable(parent, source))?;
        }
        let outcome = File::create(&trial).and_then(|mut file| {
            file.write_all(&vec![0; TRIAL_BYTES]).and_then(|()| file.sync_all())
        });
        // It is removed whatever came of it; that this fails too is no news.
        let _ = fs::remove_file(&trial);
        outcome.map_err(|source| unwritable(&self.path, source))
    }

    /// Notes that `target` is at `value` without anybody's doing: a driver or the kernel set it anew
    /// after a reset. It may be overwritten like steer's own.
    pub fn concede(&mut self, target: &Target, value: &Value) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        for entry in record.entries.iter_mut().filter(|entry| entry.target == *target) {
            if entry.original != *value && !entry.ours.contains(value) {
                entry.ours.push(value.clone());
            }
        }
        if record == self.record { Ok(()) } else { self.save(record) }
    }

    /// Notes that what was there before steer has lost its meaning, since the NIC's queues are others
    /// now: `found` is what they came with. Objects that are not in it are gone.
    pub fn begin_anew(&mut self, found: &[(Target, Value)]) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        record.entries.retain_mut(|entry| {
            // Queues do not come with rules: those are steer's still, to be deleted in the end.
            if entry.target.is_rule() {
                return true;
            }
            let now = found.iter().find(|(target, _)| *target == entry.target);
            if let Some((_, value)) = now {
                entry.original = value.clone();
                entry.ours = vec![value.clone()];
                entry.served_by = None;
            }
            now.is_some()
        });
        if record == self.record { Ok(()) } else { self.save(record) }
    }

    /// Reads the journal of the device that is called `nic` now: under that name, or under the name
    /// that it had when steer began. One under that name whose device is not there any more is returned
    /// too; one whose device has another name now is an error, for it is in use or still needed.
    pub fn of_device(
        state_dir: &Path,
        nic: &str,
        device: &DeviceId,
        port: &dyn Port,
    ) -> Result<Option<Self>, JournalError> {
        let by_name = Self::load(state_dir, nic)?;
        if by_name.as_ref().is_some_and(|journal| journal.record.device.is_same(device)) {
            return Ok(by_name);
        }
        for name in Self::all(state_dir)?.iter().filter(|name| *name != nic) {
            // One that is damaged is another NIC's trouble.
            if let Ok(Some(journal)) = Self::load(state_dir, name)
                && journal.record.device.is_same(device)
            {
                return Ok(Some(journal));
            }
        }
        if let Some(journal) = &by_name
            && let Some(present) = journal.device_elsewhere(port)
        {
            return Err(JournalError::Elsewhere { path: journal.path.clone(), present });
        }
        Ok(by_name)
    }

    /// What the device of this journal is called now, if it is there and was since this boot.
    #[must_use]
    pub fn device_elsewhere(&self, port: &dyn Port) -> Option<String> {
        let Record { boot_id, device, .. } = &self.record;
        let present = port.called(device.ifindex)?;
        let is_there = port.identity(&present).is_ok_and(|found| found.is_same(device));
        (is_there && port.boot_id().is_ok_and(|now| now == *boot_id)).then_some(present)
    }

    /// Forgets `targets`, which are back at their original values. With none left the file goes.
    pub fn forget(&mut self, targets: &HashSet<Target>) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        record.entries.retain(|entry| !targets.contains(&entry.target));
        self.save_or_remove(record)
    }

    /// Notes what irqbalance is about to be asked to leave alone, or that it no longer is, and syncs.
    pub fn note_ban(&mut self, ban: Option<Ban>) -> Result<(), JournalError> {
        self.save_or_remove(Record { ban, ..self.record.clone() })
    }

    fn save_or_remove(&mut self, record: Record) -> Result<(), JournalError> {
        if !record.is_empty() {
            return self.save(record);
        }
        self.record = record;
        remove_document(&self.path)
    }

    /// Takes away what a write that was cut off by a power loss may have left beside the journal of
    /// `nic`. Only for who owns the NIC: a running steer may be about to rename it.
    pub fn sweep(state_dir: &Path, nic: &str) {
        // It says nothing that the journal does not, and the next write would replace it.
        let _ = fs::remove_file(beside(&Self::path_in(state_dir, nic), TEMPORARY));
    }

    /// Moves the file out of the way and returns its new name.
    pub fn set_aside(self) -> Result<PathBuf, JournalError> {
        let aside = beside(&self.path, ASIDE);
        fs::rename(&self.path, &aside).map_err(|source| unwritable(&self.path, source))?;
        sync_dir(&aside)?;
        Ok(aside)
    }

    fn save(&mut self, record: Record) -> Result<(), JournalError> {
        write_document(&self.path, &record)?;
        self.record = record;
        Ok(())
    }
}

/// Replaces the document at `path` as a whole, and syncs.
pub(super) fn write_document(path: &Path, record: &impl Serialize) -> Result<(), JournalError> {
    let temporary = beside(path, TEMPORARY);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| unwritable(parent, source))?;
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&encode(record)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // A file system without room: leave no debris behind. That this fails too is no news.
        let _ = fs::remove_file(&temporary);
        unwritable(path, source)
    })?;
    sync_dir(path)
}

/// What follows `prefix` in the names of journals in `state_dir`: names of NICs.
pub(super) fn all_called(state_dir: &Path, prefix: &str) -> Result<Vec<String>, JournalError> {
    let entries = match fs::read_dir(state_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(state_dir, source)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix(prefix).map(str::to_owned))
        .filter(|name| ![TEMPORARY, ASIDE].iter().any(|suffix| name.ends_with(suffix)))
        .collect();
    names.sort();
    Ok(names)
}

/// The document at `path`; `None` where there is none.
pub(super) fn read_document<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, JournalError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(path, source)),
    };
    if size > MOST_BYTES {
        let why = format!("{size} bytes are more than any journal has");
        return Err(JournalError::Damaged { path: path.to_owned(), why });
    }
    let bytes = fs::read(path).map_err(|source| unreadable(path, source))?;
    decode(&bytes, path).map(Some)
}

/// Removes the document at `path`, and syncs; it may be gone already.
pub(super) fn remove_document(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(path, error)),
        _ => sync_dir(path),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_dir(path: &Path) -> Result<(), JournalError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|source| unwritable(parent, source))
}

fn unreadable(path: &Path, cause: io::Error) -> JournalError {
    let hint = "nothing was changed; run as root, grant CAP_DAC_OVERRIDE, or name another place with \
                --state-dir";
    JournalError::Io { action: "read", path: path.to_owned(), cause, hint }
}

fn unwritable(path: &Path, cause: io::Error) -> JournalError {
    let hint = "without a journal nothing may be written to the NIC; free space or name another \
                place with --state-dir";
    JournalError::Io { action: "write", path: path.to_owned(), cause, hint }
}

fn encode(record: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    let sum = crc32fast::hash(&bytes);
    writeln!(bytes, "\ncrc32 {sum:08x}")?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, JournalError> {
    let damaged = |why: &str| JournalError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (document, sum) = text
        .trim_end()
        .rsplit_once("\ncrc32 ")
        .ok_or_else(|| damaged("it has no checksum line"))?;
    let sum = u32::from_str_radix(sum, 16).map_err(|_| damaged("its checksum is unreadable"))?;
    if crc32fast::hash(document.as_bytes()) != sum {
        return Err(damaged("its checksum does not match"));
    }
    let probe: serde_json::Value =
        serde_json::from_str(document).map_err(|error| damaged(&error.to_string()))?;
    let found = probe.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if found != u64::from(FORMAT) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(JournalError::Format { path: path.to_owned(), found });
    }
    serde_json::from_value(probe).map_err(|error| damaged(&error.to_string()))
}

/// Any bytes as a journal, as they are and with the checksum that they would need. What is read is
/// read again as the same.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn any_bytes(bytes: &[u8]) {
    let path = Path::new("journal-eth0");
    let sealed = [bytes, format!("\ncrc32 {:08x}\n", crc32fast::hash(bytes)).as_bytes()].concat();
    for bytes in [bytes, &sealed] {
        if let Ok(record) = decode::<Record>(bytes, path) {
            let again = encode(&record).map(|bytes| decode(&bytes, path).ok());
            assert_eq!(again.ok().flatten(), Some(record));
        }
    }
}

#[cfg(test)]
mod tests;
