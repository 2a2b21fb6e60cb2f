//! A machine that is not there, for the tests of everything above `sys`.
//!
//! It keeps NICs, interrupts and XPS maps in memory, and knows a rule only where real kernels or
//! drivers have it; each rule names its source. On top it can be told to fail: the n-th write with
//! an errno, writes that claim success and do nothing, a device that vanishes, somebody else who
//! writes in between. It counts time by writes and nothing else, so tests are repeatable.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use self::rules::{FakeIrqbalance, Fault, State};
use super::{DeviceId, Port, SysError};
use crate::model::{CpuSet, Process, QueueId, Rule, RuleContent, RuleTable};

/// One write, by whoever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The whole indirection table of a NIC.
    Table(String, Vec<QueueId>),
    /// The table of a NIC back to the driver's.
    ResetTable(String),
    /// The affinity of an interrupt.
    Affinity(u32, CpuSet),
    /// The CPUs of a TX queue.
    Xps(String, QueueId, CpuSet),
    /// An exact-match rule of a NIC, at this number or where the driver likes.
    Rule(String, Option<u32>, Rule),
    /// No rule at this number of a NIC.
    NoRule(String, u32),
}

/// One NIC of the fake machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeNic {
    /// What [`Port::identity`] answers.
    pub id: DeviceId,
    /// RX rings.
    pub rings: u32,
    /// The indirection table; `None` for a NIC without one.
    pub table: Option<Vec<QueueId>>,
    /// The table was set by a user (`IFF_RXFH_CONFIGURED`).
    pub configured: bool,
    /// XPS by TX queue; `None` for a NIC with one queue.
    pub xps: Option<Vec<CpuSet>>,
    /// Exact-match rules; `None` for a NIC without, or with `ntuple` switched off.
    pub rules: Option<RuleTable>,
    /// Table writes return success and change nothing (virtio-net: `virtnet_set_rxfh` ignores the
    /// result of `virtnet_commit_rss_command`; 6.12 and 7.3).
    pub ignores_table: bool,
}

/// One interrupt of the fake machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeIrq {
    /// Its action name.
    pub name: String,
    /// Where it may go.
    pub affinity: CpuSet,
    /// Where it goes.
    pub effective: CpuSet,
    /// It does not fire, so that a new affinity stays pending until [`FakeMachine::fire`]. Without
    /// interrupt remapping x86 moves an MSI from its own handler (`irq_move_irq`,
    /// kernel/irq/migration.c; seen in the lab on 6.1 and 6.12); with traffic that is at once.
    pub idle: bool,
    /// The kernel keeps its affinity to itself.
    pub managed: bool,
    /// After a write it is on its way for so many looks at its affinity, which show the old one.
    pub lag: u32,
    /// The old one, and the looks that are left to show it.
    pub coming_from: (CpuSet, u32),
}

/// The machine. Its methods take `&self`, as those of the real one do.
#[derive(Debug)]
pub struct FakeMachine {
    state: Mutex<State>,
}

impl FakeNic {
    /// An igb with `rings` queues: 128 buckets in blocks, as `igb_setup_mrqc` leaves them
    /// (`i * rings / 128`), one CPU per TX queue.
    #[must_use]
    pub fn igb(ifindex: u32, rings: u32) -> Self {
        Self {
            id: DeviceId {
                ifindex,
                bus: Some(format!("0000:00:{ifindex:02x}.0")),
                address: Some(format!("52:54:00:00:00:{ifindex:02x}")),
                driver: Some("igb".to_owned()),
            },
            rings,
            table: Some(igb_table(rings)),
            configured: false,
            xps: Some((0..rings).map(CpuSet::single).collect()),
            // igb's rules match Ethernet headers only (`igb_add_ethtool_nfc_entry`): no flow.
            rules: None,
            ignores_table: false,
        }
    }

    /// The same with room for `size` exact-match rules, as an mlx5 has it: whoever writes chooses the
    /// number, or, as a bnxt has it, the driver does.
    #[must_use]
    pub fn with_rules(mut self, size: u32, driver_numbers: bool) -> Self {
        self.rules = Some(RuleTable { size, driver_numbers, ..RuleTable::default() });
        self
    }

    /// A NIC with one queue and no table, like an e1000e.
    #[must_use]
    pub fn without_rss(ifindex: u32) -> Self {
        let mut nic = Self::igb(ifindex, 1);
        nic.id.driver = Some("e1000e".to_owned());
        nic.table = None;
        nic.xps = None;
        nic
    }
}

fn igb_table(rings: u32) -> Vec<QueueId> {
    (0..128).map(|bucket| bucket * rings / 128).collect()
}

impl FakeMachine {
    /// A machine with these CPUs online and nothing else.
    #[must_use]
    pub fn new(online: CpuSet) -> Self {
        let boot_id = "6f1b7b0e-0000-4000-8000-000000000001".to_owned();
        Self { state: Mutex::new(State { online, boot_id, ..State::default() }) }
    }

    /// Four CPUs and an igb `eth0` with four queues; interrupts 24 to 27 (`eth0-rx-0`…), each
    /// allowed everywhere and going to CPU 0.
    #[must_use]
    pub fn igb4() -> Self {
        let online: CpuSet = (0..4).collect();
        let machine = Self::new(online.clone()).with_nic("eth0", FakeNic::igb(2, 4));
        (0..4).fold(machine, |machine, queue| {
            machine.with_irq(24 + queue, &format!("eth0-rx-{queue}"), online.clone())
        })
    }

    /// Adds a NIC.
    #[must_use]
    pub fn with_nic(self, name: &str, nic: FakeNic) -> Self {
        self.state().nics.insert(name.to_owned(), nic);
        self
    }

    /// Adds an interrupt with this action name that may go to `affinity`.
    #[must_use]
    pub fn with_irq(self, irq: u32, name: &str, affinity: CpuSet) -> Self {
        let effective = affinity.first().map(CpuSet::single).unwrap_or_default();
        let name = name.to_owned();
        let coming_from = (affinity.clone(), 0);
        let (idle, managed, lag) = (false, false, 0);
        let fake = FakeIrq { name, affinity, effective, idle, managed, lag, coming_from };
        self.state().irqs.insert(irq, fake);
        self
    }

    /// An irqbalance runs that leaves `banned` alone.
    #[must_use]
    pub fn with_irqbalance(self, process: Process, banned: &[u32]) -> Self {
        let banned = banned.iter().copied().collect();
        self.state().irqbalance = Some(FakeIrqbalance { process, banned, deaf: false });
        self
    }

    /// It does not answer, or does again.
    pub fn deafen_irqbalance(&self, deaf: bool) {
        if let Some(irqbalance) = &mut self.state().irqbalance {
            irqbalance.deaf = deaf;
        }
    }

    /// The `n`-th write from the start of the machine (1 is the first) fails with `errno`.
    pub fn fail_write(&self, n: u64, errno: Errno) {
        self.state().faults.push(Fault::Fail(n, n, errno));
    }

    /// The `n`-th write and all after it fail with `errno`.
    pub fn fail_writes_from(&self, n: u64, errno: Errno) {
        self.state().faults.push(Fault::Fail(n, u64::MAX, errno));
    }

    /// The `n`-th write claims success and does nothing.
    pub fn ignore_write(&self, n: u64) {
        self.state().faults.push(Fault::Ignore(n));
    }

    /// The NIC disappears just before the `n`-th write.
    pub fn vanish_before_write(&self, n: u64, nic: &str) {
        self.state().faults.push(Fault::Vanish(n, nic.to_owned()));
    }

    /// Somebody else does `write` just before the `n`-th write. It is neither counted nor logged.
    pub fn foreign_before_write(&self, n: u64, write: Write) {
        self.state().faults.push(Fault::Foreign(n, write));
    }

    /// Somebody else does `write` now.
    pub fn foreign(&self, write: &Write) -> Result<(), SysError> {
        self.state().perform(write)
    }

    /// The NIC disappears now, with its interrupts if their names start with its own.
    pub fn vanish(&self, nic: &str) {
        self.state().vanish(nic);
    }

    /// Changes a NIC in any way, such as another device taking its name.
    pub fn alter_nic(&self, nic: &str, change: impl FnOnce(&mut FakeNic)) {
        if let Some(nic) = self.state().nics.get_mut(nic) {
            change(nic);
        }
    }

    /// A NIC comes, by hotplug or with a driver.
    pub fn add_nic(&self, name: &str, nic: FakeNic) {
        self.state().nics.insert(name.to_owned(), nic);
    }

    /// Gives a NIC another name; one that has it already loses it.
    pub fn rename(&self, nic: &str, name: &str) {
        let mut state = self.state();
        if let Some(fake) = state.nics.remove(nic) {
            state.nics.insert(name.to_owned(), fake);
        }
    }

    /// Changes an interrupt in any way, such as making it managed.
    pub fn alter_irq(&self, irq: u32, change: impl FnOnce(&mut FakeIrq)) {
        if let Some(irq) = self.state().irqs.get_mut(&irq) {
            change(irq);
        }
    }

    /// An interrupt fires: a pending affinity takes effect.
    pub fn fire(&self, irq: u32) {
        self.state().fire(irq);
    }

    /// The machine starts again: another boot id.
    pub fn reboot(&self) {
        "6f1b7b0e-0000-4000-8000-000000000002".clone_into(&mut self.state().boot_id);
    }

    /// `ethtool -L` on an igb: refused while the table is a user's and names a ring that would go
    /// (`ethtool_check_max_channel`, net/ethtool/common.c); else the driver writes its own table,
    /// over a user's as well (`igb_init_queue_configuration`, `igb_main.c`).
    pub fn set_rings(&self, nic: &str, rings: u32) -> Result<(), SysError> {
        let mut state = self.state();
        let device = state.nic_mut(nic)?;
        let highest = device.table.iter().flatten().max().copied();
        if device.configured && highest.is_some_and(|queue| queue >= rings) {
            return Err(SysError::new("ETHTOOL_SCHANNELS", nic, Errno::INVAL));
        }
        device.rings = rings;
        device.table = device.table.as_ref().map(|_| igb_table(rings));
        Ok(())
    }

    /// The NIC forgets its rules, as after `ethtool -K IF ntuple off` and on again on an i40e
    /// (`i40e_set_ntuple` clears the list), or a reset whose driver does not replay them.
    pub fn lose_rules(&self, nic: &str) {
        self.alter_nic(nic, |nic| {
            if let Some(table) = &mut nic.rules {
                table.rules.clear();
            }
        });
    }

    /// Every write that was answered with success, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Write> {
        self.state().log.clone()
    }

    /// How many writes were tried.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.state().attempts
    }

    /// All NICs and interrupts, to compare before with after.
    #[must_use]
    pub fn snapshot(&self) -> (BTreeMap<String, FakeNic>, BTreeMap<u32, FakeIrq>) {
        let state = self.state();
        (state.nics.clone(), state.irqs.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port for FakeMachine {
    fn identity(&self, nic: &str) -> Result<DeviceId, SysError> {
        Ok(self.state().nic(nic)?.id.clone())
    }

    fn called(&self, ifindex: u32) -> Option<String> {
        let state = self.state();
        let found = state.nics.iter().find(|(_, nic)| nic.id.ifindex == ifindex);
        found.map(|(name, _)| name.clone())
    }

    fn rss_table(&self, nic: &str) -> Result<Option<Vec<QueueId>>, SysError> {
        Ok(self.state().nic(nic)?.table.clone())
    }

    fn rss_key(&self, nic: &str) -> Result<Option<Vec<u8>>, SysError> {
        // igb hides its key up to 6.12 (`igb_get_rxfh`).
        self.state().nic(nic).map(|_| None)
    }

    fn rx_rings(&self, nic: &str) -> Result<Option<u32>, SysError> {
        Ok(Some(self.state().nic(nic)?.rings))
    }

    fn set_rss_table(&self, nic: &str, table: &[QueueId]) -> Result<(), SysError> {
        self.state().write(Write::Table(nic.to_owned(), table.to_vec()))
    }

    fn reset_rss_table(&self, nic: &str) -> Result<(), SysError> {
        self.state().write(Write::ResetTable(nic.to_owned()))
    }

    fn irq_affinity(&self, irq: u32) -> Result<CpuSet, SysError> {
        let mut state = self.state();
        let affinity = state.irq(irq)?.affinity.clone();
        let Some(FakeIrq { coming_from: (old, looks), .. }) = state.irqs.get_mut(&irq) else {
            return Ok(affinity);
        };
        if *looks == 0 {
            return Ok(affinity);
        }
        *looks -= 1;
        Ok(old.clone())
    }

    fn await_interrupts(&self) {}

    fn irq_effective(&self, irq: u32) -> Result<Option<CpuSet>, SysError> {
        let effective = self.state().irq(irq)?.effective.clone();
        Ok(Some(effective).filter(|cpus| !cpus.is_empty()))
    }

    fn set_irq_affinity(&self, irq: u32, cpus: &CpuSet) -> Result<(), SysError> {
        self.state().write(Write::Affinity(irq, cpus.clone()))
    }

    fn irq_name(&self, irq: u32) -> Option<String> {
        self.state().irqs.get(&irq).map(|irq| irq.name.clone())
    }

    fn xps(&self, nic: &str, queue: QueueId) -> Result<Option<CpuSet>, SysError> {
        let state = self.state();
        let maps = state.nic(nic)?.xps.as_ref();
        Ok(maps.and_then(|maps| maps.get(usize::try_from(queue).ok()?)).cloned())
    }

    fn set_xps(&self, nic: &str, queue: QueueId, cpus: &CpuSet) -> Result<(), SysError> {
        self.state().write(Write::Xps(nic.to_owned(), queue, cpus.clone()))
    }

    fn process(&self, pid: u32) -> Option<Process> {
        let running = self.state().irqbalance.as_ref().map(|it| it.process);
        running.filter(|process| process.pid == pid)
    }

    fn irqbalance_bans(&self, pid: u32) -> Result<BTreeSet<u32>, SysError> {
        self.state().irqbalance(pid).map(|it| it.banned.clone())
    }

    fn set_irqbalance_bans(&self, pid: u32, irqs: &BTreeSet<u32>) -> Result<(), SysError> {
        self.state().irqbalance(pid)?.banned.clone_from(irqs);
        Ok(())
    }

    fn rules(&self, nic: &str) -> Result<Option<RuleTable>, SysError> {
        Ok(self.state().nic(nic)?.rules.clone())
    }

    fn rule(&self, nic: &str, location: u32) -> Result<RuleContent, SysError> {
        let state = self.state();
        let table = state.nic(nic)?.rules.as_ref();
        Ok(table.map_or(RuleContent::Empty, |table| table.at(location)))
    }

    fn set_rule(&self, nic: &str, location: Option<u32>, rule: &Rule) -> Result<u32, SysError> {
        let mut state = self.state();
        state.write(Write::Rule(nic.to_owned(), location, *rule))?;
        let table = state.nic(nic)?.rules.as_ref();
        let chosen = || table.and_then(|table| Some(table.of(&rule.flow)?.0));
        Ok(location.or_else(chosen).unwrap_or_default())
    }

    fn delete_rule(&self, nic: &str, location: u32) -> Result<(), SysError> {
        self.state().write(Write::NoRule(nic.to_owned(), location))
    }

    fn boot_id(&self) -> Result<String, SysError> {
        Ok(self.state().boot_id.clone())
    }
}

#[cfg(test)]
#[path = "fake/tests.rs"]
mod tests;
