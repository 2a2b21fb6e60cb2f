//! What is known of drivers, as data: what a table write costs, when the table is lost, what else
//! decides the queue, how interrupts are named and who sets them.
//!
//! One row per family, in `driver/rows_*.rs`; a claim stands there because a kernel file says so, and
//! the row names the file. A driver without a row is unknown, and what is unknown is taken for the
//! worse: its table is not written unasked and may be lost after anything. What can be asked of
//! the running NIC (table size, offloads, rules) is asked there and only described here.
//! `docs/drivers.md` is made from these rows.

#[cfg(test)]
mod document;
mod rows_cloud;
mod rows_fabric;
mod rows_intel;
#[cfg(test)]
mod tests;

use std::fmt;

/// A family of NICs that one driver serves.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// Names in `/sys/class/net/IF/device/driver`, the usual one first.
    pub names: &'static [&'static str],
    /// Sizes of the indirection table, in words.
    pub table: &'static str,
    /// Whether the hash key can be read.
    pub key: Key,
    /// What writing the table costs.
    pub write: TableWrite,
    /// What the driver does then, in words.
    pub write_note: &'static str,
    /// When a table that was written is gone.
    pub lost: Loss,
    /// Who sets the affinity of its interrupts.
    pub affinity: Affinity,
    /// A NAPI that keeps polling sees that its interrupt was moved, and follows. Else a busy queue
    /// stays where it was until it once runs dry (seen in no loop that tests the affinity).
    pub follows_busy: Option<bool>,
    /// Flow Director that the driver fills by itself from what is sent (ATR).
    pub atr: Option<Atr>,
    /// Private flags that matter to steering (`ethtool --show-priv-flags`).
    pub flags: &'static [&'static str],
    /// aRFS: the stack puts flows where they are consumed (`ndo_rx_flow_steer`).
    pub arfs: bool,
    /// Takes exact-match rules (`ETHTOOL_SRXCLSRLINS`).
    pub rules: Option<bool>,
    /// Whether packets carry the NIC's hash.
    pub hash: Hash,
    /// It takes the "no change" of the input transformation (0xff) for "symmetric", since it tests a
    /// bit of it: its table must go by ioctl, with the value in force.
    pub misreads_no_change: bool,
    /// How it names the interrupts of RX queues; empty where names do not tell.
    pub irq_names: &'static [IrqName],
    /// What else an operator should know.
    pub notes: &'static [&'static str],
    /// How the row is known.
    pub evidence: Evidence,
    /// Where it says so, below `drivers/net/ethernet` unless it says otherwise.
    pub sources: &'static [&'static str],
}

/// Whether the hash key can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// By ethtool.
    Readable,
    /// By ethtool if the device offers it.
    IfOffered,
    /// Not by ethtool; it is the kernel's common one (`/proc/sys/net/core/netdev_rss_key`).
    System,
    /// There is none.
    Absent,
    /// Not known.
    Unknown,
}

/// What writing the indirection table costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableWrite {
    /// Registers or a command to firmware; traffic goes on.
    Free,
    /// Packets may be dropped or reach one queue for a moment.
    Brief,
    /// The driver closes the NIC, with the carrier or the port down: never done unasked.
    LinkReset,
    /// There is no table that could be written, or only some tables can.
    Impossible,
    /// Not known: treated as [`TableWrite::LinkReset`].
    Unknown,
}

/// Something after which a table may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The interface was taken down and up, by a user or by the driver itself: MTU, ring sizes, an
    /// XDP program, a TX timeout.
    Reopen,
    /// The number of queues changed.
    Channels,
    /// The device was reset.
    Reset,
}

/// When a table that was written is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Kept while its entries name queues that exist.
    Kept,
    /// After one of these.
    After(&'static [Cause]),
    /// There is no table.
    NoTable,
    /// Not known: after anything.
    Unknown,
}

/// Who sets the affinity of its interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Nobody but the user.
    Left,
    /// The driver publishes a hint that nothing obeys by itself.
    Hinted,
    /// The driver sets it when it allocates vectors: at start, and after a reset.
    AtStart,
    /// The driver sets it whenever the interface is opened: what a user set is overwritten.
    AtOpen,
    /// The driver sets it again, and XPS too, when queues or CPUs change.
    Respread,
    /// The kernel owns it and refuses writes (`IRQD_AFFINITY_MANAGED`).
    Managed,
    /// There are no interrupts in /proc/irq; a hypervisor's channel has a CPU instead.
    Channel,
    /// Not known.
    Unknown,
}

/// How Flow Director that the driver fills by itself is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atr {
    /// On while exact-match filters (`rx-ntuple-filter`) are off.
    UnlessNtuple,
    /// By a private flag of this name.
    PrivateFlag(&'static str),
}

/// Whether packets carry the NIC's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Yes, while `rx-hashing` is on.
    Reported,
    /// If the device offers it.
    IfOffered,
    /// Never.
    Never,
    /// Not known.
    Unknown,
}

/// How a row is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The kernel's source was read for it, in this release.
    Read(&'static str),
    /// Only part of it was; the rest is as documented, not verified.
    ReadInPart(&'static str),
    /// Nothing is known.
    Nothing,
}

/// One way to name an interrupt that serves an RX queue: `%i` is the interface, `%d` the device, `%n`
/// the number; a name may go on after a `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqName {
    /// The name.
    pub pattern: &'static str,
    /// How the number counts.
    pub count: Count,
}

/// How the number in an interrupt's name counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// It is the queue.
    Queue,
    /// It is the queue plus one.
    QueueFromOne,
    /// It is the vector: the lowest of this row is queue 0.
    Vector,
    /// It is a block; the first half of all blocks is TX, the second RX.
    SecondHalf,
}

/// Why a table is not written unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The write takes the link or the port down.
    LinkReset {
        /// The driver.
        driver: String,
        /// What it does.
        how: &'static str,
    },
    /// There is nothing to write.
    Impossible {
        /// The driver.
        driver: String,
        /// Why.
        how: &'static str,
    },
    /// What a write does is not known.
    Unknown {
        /// The driver.
        driver: String,
    },
}

impl Refusal {
    /// Whether `policy.allow_link_reset` lifts it.
    #[must_use]
    pub fn can_be_lifted(&self) -> bool {
        !matches!(self, Self::Impossible { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkReset { driver, how } => write!(
                f,
                "the table is not written: {driver} {how} (`policy.allow_link_reset = true` permits it)"
            ),
            Self::Impossible { driver, how } => {
                write!(f, "the table is not written: {driver} {how}")
            }
            Self::Unknown { driver } => write!(
                f,
                "the table is not written: {driver} is a driver that steer does not know, and a write \
                 may take its link down (`policy.allow_link_reset = true` permits it)"
            ),
        }
    }
}

/// What is taken of a driver without a row, and what a row that is silent about something says.
const UNKNOWN: Driver = Driver {
    names: &["unknown"],
    table: "unknown",
    key: Key::Unknown,
    write: TableWrite::Unknown,
    write_note: "may do anything",
    lost: Loss::Unknown,
    affinity: Affinity::Unknown,
    follows_busy: None,
    atr: None,
    flags: &[],
    arfs: false,
    rules: None,
    hash: Hash::Unknown,
    misreads_no_change: false,
    irq_names: &[],
    notes: &[],
    evidence: Evidence::Nothing,
    sources: &[],
};

/// The release whose source was read for the rows: Debian's 6.12.117.
const READ: Evidence = Evidence::Read("6.12");
/// The same, in part.
const IN_PART: Evidence = Evidence::ReadInPart("6.12");

const fn named(pattern: &'static str, count: Count) -> IrqName {
    IrqName { pattern, count }
}

impl Driver {
    /// The driver of this name; [`Driver::unknown`] where it has no row.
    #[must_use]
    pub fn of(name: &str) -> &'static Self {
        Self::all().find(|driver| driver.names.contains(&name)).unwrap_or(&UNKNOWN)
    }

    /// The cautious defaults.
    #[must_use]
    pub fn unknown() -> &'static Self {
        &UNKNOWN
    }

    /// Every row.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        rows_intel::ROWS.iter().chain(&rows_fabric::ROWS).chain(&rows_cloud::ROWS)
    }

    /// Whether there is a row.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.evidence != Evidence::Nothing
    }

    /// Whether `run` and `apply` may write its table without being asked for the consequences, else
    /// why not. `name` is the driver's name as the NIC gives it.
    pub fn automatic(&self, name: &str) -> Result<(), Refusal> {
        let driver = name.to_owned();
        let how = self.write_note;
        match self.write {
            TableWrite::Free | TableWrite::Brief => Ok(()),
            TableWrite::LinkReset => Err(Refusal::LinkReset { driver, how }),
            TableWrite::Impossible => Err(Refusal::Impossible { driver, how }),
            TableWrite::Unknown => Err(Refusal::Unknown { driver }),
        }
    }

    /// Whether a table may be gone after `cause`. Where that is not known, it may.
    #[must_use]
    pub fn loses_table_on(&self, cause: Cause) -> bool {
        match self.lost {
            Loss::Kept | Loss::NoTable => false,
            Loss::After(causes) => causes.contains(&cause),
            Loss::Unknown => true,
        }
    }

    /// Whether an affinity that was set may be overwritten by the driver or the kernel.
    #[must_use]
    pub fn overwrites_affinity(&self) -> bool {
        matches!(self.affinity, Affinity::AtOpen | Affinity::Respread)
    }
}
