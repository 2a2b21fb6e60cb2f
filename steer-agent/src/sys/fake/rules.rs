//! What the fake machine knows: its state, the rules of drivers and kernel, and what shall go wrong.
//!
//! A rule stands here only because a kernel or a driver has it, and names where. Faults are counted
//! by writes.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::{FakeIrq, FakeNic, Write};
use crate::model::{CpuSet, Process, Rule, RuleTable};
use crate::sys::SysError;

/// What shall go wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Writes from the first to the second number fail.
    Fail(u64, u64, Errno),
    /// This write claims success and does nothing.
    Ignore(u64),
    /// Just before this write the NIC disappears.
    Vanish(u64, String),
    /// Just before this write somebody else writes.
    Foreign(u64, Write),
}

/// An irqbalance.
#[derive(Debug)]
pub(super) struct FakeIrqbalance {
    pub(super) process: Process,
    pub(super) banned: BTreeSet<u32>,
    pub(super) deaf: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) online: CpuSet,
    pub(super) boot_id: String,
    pub(super) nics: BTreeMap<String, FakeNic>,
    pub(super) irqs: BTreeMap<u32, FakeIrq>,
    pub(super) irqbalance: Option<FakeIrqbalance>,
    pub(super) faults: Vec<Fault>,
    pub(super) attempts: u64,
    pub(super) log: Vec<Write>,
}

impl State {
    pub(super) fn nic(&self, name: &str) -> Result<&FakeNic, SysError> {
        self.nics.get(name).ok_or_else(|| SysError::no_such_interface(name))
    }

    pub(super) fn nic_mut(&mut self, name: &str) -> Result<&mut FakeNic, SysError> {
        self.nics.get_mut(name).ok_or_else(|| SysError::no_such_interface(name))
    }

    pub(super) fn irq(&self, irq: u32) -> Result<&FakeIrq, SysError> {
        let missing = || SysError::new("read", affinity_path(irq), Errno::NOENT);
        self.irqs.get(&irq).ok_or_else(missing)
    }

    pub(super) fn irqbalance(&mut self, pid: u32) -> Result<&mut FakeIrqbalance, SysError> {
        let fail = |errno| SysError::new("read answer", format!("irqbalance{pid}.sock"), errno);
        let running = self.irqbalance.as_mut().filter(|it| it.process.pid == pid);
        let irqbalance = running.ok_or_else(|| fail(Errno::CONNREFUSED))?;
        if irqbalance.deaf { Err(fail(Errno::TIMEDOUT)) } else { Ok(irqbalance) }
    }

    pub(super) fn vanish(&mut self, nic: &str) {
        self.nics.remove(nic);
        let prefix = format!("{nic}-");
        self.irqs.retain(|_, irq| !irq.name.starts_with(&prefix));
    }

    /// x86 delivers to one CPU of the set: the present one if it may (`assign_vector_locked`,
    /// arch/x86/kernel/apic/vector.c), else, on the real one, that with the most free vectors.
    pub(super) fn fire(&mut self, irq: u32) {
        if let Some(irq) = self.irqs.get_mut(&irq) {
            let allowed = irq.affinity.intersection(&self.online);
            if irq.effective.first().is_some_and(|present| allowed.contains(present)) {
                return;
            }
            let target = allowed.first();
            irq.effective = target.map_or_else(|| irq.effective.clone(), CpuSet::single);
        }
    }

    /// A write that comes through [`Port`](crate::sys::Port): counted, subject to faults, logged.
    pub(super) fn write(&mut self, write: Write) -> Result<(), SysError> {
        self.attempts += 1;
        let turn = self.attempts;
        let mut ignored = false;
        for fault in self.faults.clone() {
            match fault {
                Fault::Fail(from, to, errno) if (from..=to).contains(&turn) => {
                    return Err(refusal(&write, errno));
                }
                Fault::Ignore(n) if n == turn => ignored = true,
                Fault::Vanish(n, nic) if n == turn => self.vanish(&nic),
                Fault::Foreign(n, theirs) if n == turn => self.perform(&theirs)?,
                _ => {}
            }
        }
        if !ignored {
            self.perform(&write)?;
        }
        self.log.push(write);
        Ok(())
    }

    pub(super) fn perform(&mut self, write: &Write) -> Result<(), SysError> {
        let refuse = |errno| Err(refusal(write, errno));
        match write {
            Write::Table(nic, table) => {
                let device = self.nic_mut(nic)?;
                let Some(present) = &device.table else {
                    return refuse(Errno::OPNOTSUPP);
                };
                // Another length, or a ring that does not exist: `ethtool_set_rxfh` and
                // `ethtool_copy_validate_indir`, net/ethtool/ioctl.c.
                let in_range = table.iter().all(|queue| *queue < device.rings);
                if table.len() != present.len() || !in_range {
                    return refuse(Errno::INVAL);
                }
                device.configured = true;
                if !device.ignores_table {
                    device.table = Some(table.clone());
                }
            }
            Write::ResetTable(nic) => {
                let device = self.nic_mut(nic)?;
                let Some(present) = device.table.as_ref().map(Vec::len) else {
                    return refuse(Errno::OPNOTSUPP);
                };
                // `ethtool_rxfh_indir_default`, include/linux/ethtool.h: not igb's own blocks.
                let rings = device.rings.max(1);
                let default = (0..rings).cycle().take(present).collect();
                device.configured = false;
                if !device.ignores_table {
                    device.table = Some(default);
                }
            }
            Write::Affinity(number, cpus) => {
                // No CPU of the set online: -EINVAL (kernel/irq/proc.c `write_irq_affinity`).
                // Managed: -EPERM there since 6.12, -EIO before.
                if cpus.intersection(&self.online).is_empty() {
                    return refuse(Errno::INVAL);
                }
                let Some(irq) = self.irqs.get_mut(number) else {
                    return refuse(Errno::NOENT);
                };
                if irq.managed {
                    return refuse(Errno::IO);
                }
                irq.coming_from = (std::mem::replace(&mut irq.affinity, cpus.clone()), irq.lag);
                if !irq.idle {
                    self.fire(*number);
                }
            }
            Write::Xps(nic, queue, cpus) => {
                let online = self.online.clone();
                let device = self.nic_mut(nic)?;
                // One queue: -ENOENT (net/core/net-sysfs.c `xps_cpus_store`).
                let maps = device.xps.as_mut();
                let map = maps.and_then(|maps| maps.get_mut(usize::try_from(*queue).ok()?));
                let Some(map) = map else {
                    return refuse(Errno::NOENT);
                };
                // Offline CPUs drop out (net/core/dev.c `__netif_set_xps_queue`).
                *map = cpus.intersection(&online);
            }
            Write::Rule(nic, location, rule) => {
                let device = self.nic_mut(nic)?;
                let rings = device.rings;
                let Some(table) = &mut device.rules else {
                    return refuse(Errno::OPNOTSUPP);
                };
                match place(table, rings, *location, rule) {
                    Ok(at) => drop(table.rules.insert(at, Some(*rule))),
                    Err(errno) => return refuse(errno),
                }
            }
            Write::NoRule(nic, location) => {
                let Some(table) = &mut self.nic_mut(nic)?.rules else {
                    return refuse(Errno::OPNOTSUPP);
                };
                // `mlx5e_ethtool_flow_remove`, `bnxt_srxclsrldel`, `i40e_del_fdir_entry`.
                if table.rules.remove(location).is_none() {
                    return refuse(Errno::NOENT);
                }
            }
        }
        Ok(())
    }
}

/// Where a new rule goes.
fn place(table: &RuleTable, rings: u32, location: Option<u32>, rule: &Rule) -> Result<u32, Errno> {
    // A ring that does not exist: `bnxt_srxclsrlins`, `i40e_add_fdir_ethtool`, `validate_flow` of mlx5.
    if rule.queue >= rings {
        return Err(Errno::INVAL);
    }
    // The same flow elsewhere in the table: `bnxt_add_ntuple_cls_rule`; ice and i40e say EINVAL.
    if table.of(&rule.flow).is_some_and(|(at, _)| Some(at) != location) {
        return Err(Errno::EXIST);
    }
    match (table.driver_numbers, location) {
        // A number where the driver chooses, or none where it does not: `bnxt_srxclsrlins`;
        // `RX_CLS_LOC_ANY` is a number beyond every table (`validate_flow` of mlx5).
        (true, Some(_)) | (false, None) => Err(Errno::INVAL),
        // Full: `ice_add_fdir_ethtool`; bnxt says ENOMEM.
        (true, None) => {
            (0..table.size).find(|at| !table.rules.contains_key(at)).ok_or(Errno::NOSPC)
        }
        // Beyond the table: `ice_add_fdir_ethtool`. A rule that is there is replaced: ice, i40e
        // (`i40e_update_ethtool_fdir_entry`), ixgbe, mlx5 (`get_ethtool_rule`).
        (false, Some(at)) if at < table.size => Ok(at),
        (false, Some(_)) => Err(Errno::NOSPC),
    }
}

fn affinity_path(irq: u32) -> String {
    format!("/proc/irq/{irq}/smp_affinity_list")
}

fn refusal(write: &Write, errno: Errno) -> SysError {
    match write {
        Write::Table(nic, _) | Write::ResetTable(nic) => {
            SysError::new("ETHTOOL_SRSSH", nic.as_str(), errno)
        }
        Write::Affinity(irq, cpus) => {
            SysError::new("write", affinity_path(*irq), errno).with_value(cpus.to_string())
        }
        Write::Xps(nic, queue, cpus) => {
            let path = format!("/sys/class/net/{nic}/queues/tx-{queue}/xps_cpus");
            SysError::new("write", path, errno).with_value(cpus.to_mask())
        }
        Write::Rule(nic, _, rule) => {
            SysError::new("ETHTOOL_SRXCLSRLINS", nic.as_str(), errno).with_value(rule.to_string())
        }
        Write::NoRule(nic, location) => SysError::new("ETHTOOL_SRXCLSRLDEL", nic.as_str(), errno)
            .with_value(format!("rule {location}")),
    }
}
