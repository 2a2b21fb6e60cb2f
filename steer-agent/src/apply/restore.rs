//! Puts back what the journal holds.
//!
//! Every undo is tried and every failure reported. A value that is neither steer's nor the original
//! is somebody else's: it stays, is named, and only [`Trust::Force`] overrides it. A table that was
//! the kernel's own default goes back as "default", so that the mark "set by a user" goes with it
//! (`IFF_RXFH_CONFIGURED`; while it is set `ethtool -L` refuses to drop queues that the table names).

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use super::ban::{self, Lifted};
use super::device::Device;
use super::home::{self, Home};
use super::journal::Entry;
use super::{Contest, Failure, Journal, JournalError};
use crate::model::{CpuId, QueueId};
use crate::plan::{Change, Target, Value};
use crate::sys::{Port, SysError};

/// Whose values may be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only steer's own.
    OwnOnly,
    /// Everybody's: the operator said `--force`.
    Force,
}

/// What became of a restoration.
#[derive(Debug, Default)]
pub struct Restoration {
    /// Put back.
    pub restored: Vec<Target>,
    /// Found at the original value already.
    pub already: Vec<Target>,
    /// Set by somebody else since and left so.
    pub foreign: Vec<Contest>,
    /// Not put back.
    pub failed: Vec<Failure>,
    /// What became of the request to irqbalance, if there was one.
    pub ban: Option<Lifted>,
    /// The journal was of no use any more; this is why, and where it was moved.
    pub stale: Option<(String, PathBuf)>,
    /// The journal could not be shortened: it still names what is back already. That is harmless, for
    /// another restoration finds it so.
    pub unkept: Option<JournalError>,
    /// Interrupts that may go where they could before and are still served by another CPU than then,
    /// with that CPU: they have not fired since. The kernel leaves them there.
    pub away: Vec<(u32, CpuId)>,
    /// The table is back, and the kernel counts it as set by a user (`IFF_RXFH_CONFIGURED`), which cannot
    /// be read and so not put back: "default" would move so many buckets, and until then no fewer than so
    /// many queues are allowed.
    pub marked: Option<(usize, QueueId)>,
}

impl Restoration {
    /// Whether everything is as it was before steer.
    #[must_use]
    pub fn complete(&self) -> bool {
        let banned = matches!(self.ban, Some(Lifted::Failed(_)));
        self.foreign.is_empty() && self.failed.is_empty() && !banned
    }

    /// What was done to `nic`, in one line.
    #[must_use]
    pub fn describe(&self, nic: &str) -> String {
        let mut text = if let Some((why, aside)) = &self.stale {
            format!("{nic}: the journal does not apply: {why}; moved to {}", aside.display())
        } else {
            format!("{nic}: restored {}", counted(&self.restored))
        };
        if !self.already.is_empty() {
            text += &format!("; already as before: {}", counted(&self.already));
        }
        match &self.ban {
            Some(Lifted::Off(irqs)) => {
                text += &format!("; irqbalance may move {} IRQs again", irqs.len());
            }
            Some(Lifted::Gone) => text += "; the irqbalance that was asked is gone",
            Some(Lifted::Failed(_)) | None => {}
        }
        let open = self.foreign.len() + self.failed.len();
        if open > 0 {
            text += &format!("; {open} not restored, the journal keeps them");
        }
        text
    }
}

fn counted(targets: &[Target]) -> String {
    let (mut tables, mut irqs, mut xps, mut rules) = (0, 0, 0, 0);
    for target in targets {
        match target {
            Target::Table => tables += 1,
            Target::IrqAffinity { .. } => irqs += 1,
            Target::Xps { .. } => xps += 1,
            Target::Rule { .. } => rules += 1,
        }
    }
    let mut parts = Vec::new();
    if tables > 0 {
        parts.push("the indirection table".to_owned());
    }
    if irqs > 0 {
        parts.push(format!("{irqs} IRQ affinities"));
    }
    if xps > 0 {
        parts.push(format!("{xps} XPS maps"));
    }
    if rules > 0 {
        parts.push(format!("{rules} exact-match rules"));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// Why nothing was restored at all.
#[derive(Debug)]
pub enum RestoreError {
    /// The journal could not be kept in step.
    Journal(JournalError),
    /// The device could not be asked.
    Device(SysError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Device(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<JournalError> for RestoreError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// Puts back what `journal` holds. What is back is forgotten there; what is not stays noted, so that
/// another try finds it.
///
/// `nic` is what the device is called now, which may not be the name in the journal.
pub fn restore(
    mut journal: Journal,
    nic: &str,
    port: &dyn Port,
    trust: Trust,
) -> Result<Restoration, RestoreError> {
    let mut outcome = Restoration::default();
    if let Some(why) = stale(&journal, nic, port)? {
        // The device is another, or there was a boot between; irqbalance may still be the same.
        outcome.ban = ban::lift(&mut journal, port)?;
        let aside = journal.set_aside()?;
        outcome.stale = Some((why, aside));
        return Ok(outcome);
    }
    let mut device = Device::new(nic, port);
    // Table and rules first: they have the traffic, and must not point at queues on their way home.
    let mut entries = journal.record().entries.clone();
    entries.sort_by(|a, b| a.target.cmp(&b.target));
    let mut homes = None;
    for entry in &entries {
        let target = &entry.target;
        if matches!(target, Target::IrqAffinity { .. }) && homes.is_none() {
            let led = homes_of(&entries, &journal, nic, trust, &mut device, port);
            home::lead(&led, port);
            homes = Some(led);
        }
        if let Target::IrqAffinity { irq, .. } = target
            && !is_same_irq(entry.irq_name.as_deref(), &journal.record().nic, nic, *irq, port)
        {
            outcome.failed.push(Failure {
                target: target.clone(),
                why: format!(
                    "IRQ {irq} was `{}` and is now `{}`: the device was set up anew and its \
                     affinity is the driver's again",
                    entry.irq_name.as_deref().unwrap_or("unknown"),
                    port.irq_name(*irq).as_deref().unwrap_or("gone")
                ),
                gone: true,
            });
            continue;
        }
        match device.read_settled(target, &entry.original) {
            Err(failure) => outcome.failed.push(failure),
            Ok(found) if found == entry.original => outcome.already.push(target.clone()),
            Ok(found) if trust == Trust::OwnOnly && !entry.is_ours(&found) => {
                let expected = entry.ours.last().unwrap_or(&entry.original).clone();
                outcome.foreign.push(Contest { target: target.clone(), expected, found });
            }
            Ok(found) => {
                let undo =
                    Change { target: target.clone(), from: found, to: entry.original.clone() };
                match put_back(nic, &undo, port, &mut device) {
                    Ok(()) => outcome.restored.push(target.clone()),
                    Err(failure) => outcome.failed.push(failure),
                }
            }
        }
    }
    outcome.away = home::away(&homes.unwrap_or_default(), port);
    outcome.marked = marked(&outcome, &entries, nic, port);
    let settled: HashSet<Target> =
        outcome.restored.iter().chain(&outcome.already).cloned().collect();
    // What was put back is put back, whatever becomes of the journal.
    outcome.unkept = journal.forget(&settled).err();
    // Last, so that nobody moves an interrupt before it is home.
    match ban::lift(&mut journal, port) {
        Ok(lifted) => outcome.ban = lifted,
        Err(error) => outcome.unkept = Some(error),
    }
    Ok(outcome)
}

/// Where the interrupts are to be led before they may go to several CPUs again.
fn homes_of(
    entries: &[Entry],
    journal: &Journal,
    nic: &str,
    trust: Trust,
    device: &mut Device<'_>,
    port: &dyn Port,
) -> Vec<Home> {
    let home = |entry: &Entry| {
        let Target::IrqAffinity { irq, .. } = entry.target else { return None };
        let home = home::of(irq, &entry.original, entry.served_by)?;
        let name = entry.irq_name.as_deref();
        let found = device.read_settled(&entry.target, &entry.original).ok()?;
        let is_left = found != entry.original && (trust == Trust::Force || entry.is_ours(&found));
        (is_left && is_same_irq(name, &journal.record().nic, nic, irq, port)).then_some(home)
    };
    entries.iter().filter_map(home).collect()
}

/// Whether the interrupt still has the name that it had then. Drivers build it from the interface's, and
/// take the new one when the interface is set up after it was renamed; its affinity outlasts that
/// (`irq_setup_affinity`, kernel/irq/manage.c).
fn is_same_irq(then: Option<&str>, nic_then: &str, nic: &str, irq: u32, port: &dyn Port) -> bool {
    let now = port.irq_name(irq);
    now.as_deref() == then || now == then.map(|name| name.replace(nic_then, nic))
}

/// What is left to say of a table that is back and is not the kernel's default.
fn marked(
    outcome: &Restoration,
    entries: &[Entry],
    nic: &str,
    port: &dyn Port,
) -> Option<(usize, QueueId)> {
    let is_back =
        outcome.restored.contains(&Target::Table) || outcome.already.contains(&Target::Table);
    let entry = entries.iter().find(|entry| entry.target == Target::Table).filter(|_| is_back)?;
    let Value::Table(table) = &entry.original else { return None };
    let rings = port.rx_rings(nic).ok().flatten().filter(|rings| *rings > 0)?;
    let moves = table.iter().zip((0..rings).cycle()).filter(|(now, then)| **now != *then).count();
    (moves > 0).then(|| (moves, table.iter().max().map_or(0, |highest| highest + 1)))
}

/// Why this journal no longer speaks of what is there, if so.
fn stale(journal: &Journal, nic: &str, port: &dyn Port) -> Result<Option<String>, RestoreError> {
    let record = journal.record();
    let boot_id = port.boot_id().map_err(RestoreError::Device)?;
    if boot_id != record.boot_id {
        return Ok(Some(
            "it is of an earlier boot, and a boot sets NICs and interrupts anew".to_owned(),
        ));
    }
    let device = port.identity(nic).map_err(RestoreError::Device)?;
    if device.is_same(&record.device) {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} is another device now, or its driver was loaded anew: it was {}, it is {}",
        nic,
        describe(&record.device),
        describe(&device)
    )))
}

fn describe(device: &crate::sys::DeviceId) -> String {
    format!(
        "{} at {} (index {})",
        device.driver.as_deref().unwrap_or("without driver"),
        device.bus.as_deref().unwrap_or("no bus"),
        device.ifindex
    )
}

fn put_back(
    nic: &str,
    undo: &Change,
    port: &dyn Port,
    device: &mut Device<'_>,
) -> Result<(), Failure> {
    if let (Target::Table, Value::Table(original)) = (&undo.target, &undo.to)
        && let Ok(Some(rings)) = port.rx_rings(nic)
        && is_default(original, rings)
        && port.reset_rss_table(nic).is_ok()
        && device.read(&undo.target).is_ok_and(|found| found == undo.to)
    {
        return Ok(());
    }
    device.write(undo)
}

/// Whether `table` is what the kernel writes for "default"
/// (`ethtool_rxfh_indir_default`, include/linux/ethtool.h).
pub(super) fn is_default(table: &[QueueId], rings: u32) -> bool {
    rings > 0 && table.iter().zip((0..rings).cycle()).all(|(queue, default)| *queue == default)
}
