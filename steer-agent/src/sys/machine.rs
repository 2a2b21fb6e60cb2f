//! The running machine: files, ioctl and netlink behind one handle.
//!
//! For each setting it knows which path to take: netlink where kernel and driver offer it, the
//! ioctl else, so that callers see one answer. It is `Send` and `Sync` and holds no state but an
//! open socket. A captured tree has files only; whatever needs a socket is absent there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::thread;

use super::ethnl::{Ethnl, NapiQueue};
use super::ethtool::{Ethtool, RssConfig};
use super::root::{self, Root};
use super::{DeviceId, Port, SysError, irq, irqbalance, queues};
use crate::model::{CpuSet, Driver, Process, QueueId, Rule, RuleContent, RuleTable};

/// A machine whose kernel is asked.
#[derive(Debug)]
pub struct Machine {
    root: Root,
    sockets: Option<Sockets>,
}

#[derive(Debug)]
struct Sockets {
    ethtool: Ethtool,
    ethnl: Ethnl,
}

impl Machine {
    /// The machine that this runs on, in the present network namespace.
    pub fn open() -> Result<Self, SysError> {
        Self::with_root(Root::default())
    }

    /// The machine that this runs on, with /proc and /sys mounted elsewhere (in a container).
    pub fn with_root(root: Root) -> Result<Self, SysError> {
        let sockets = Sockets { ethtool: Ethtool::open()?, ethnl: Ethnl::default() };
        Ok(Self { root, sockets: Some(sockets) })
    }

    /// Files captured on another machine; nothing is asked of the kernel that runs here.
    #[must_use]
    pub fn captured(root: Root) -> Self {
        Self { root, sockets: None }
    }

    /// Where its files are.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The ioctl path; `None` for a captured tree.
    #[must_use]
    pub fn ethtool(&self) -> Option<&Ethtool> {
        self.sockets.as_ref().map(|sockets| &sockets.ethtool)
    }

    /// The netlink path; `None` for a captured tree.
    #[must_use]
    pub fn ethnl(&self) -> Option<&Ethnl> {
        self.sockets.as_ref().map(|sockets| &sockets.ethnl)
    }

    /// RSS settings of the main context; `None` where the driver has no table.
    pub fn rss(&self, nic: &str) -> Result<Option<RssConfig>, SysError> {
        let Some(sockets) = &self.sockets else {
            return Ok(None);
        };
        match sockets.ethnl.rss(nic) {
            Ok(Some(config)) => Ok(Some(config)),
            Err(error) if error.is_gone() => Err(error),
            // No such operation, no such family, or a netlink that is filtered away (seccomp).
            Ok(None) | Err(_) => sockets.ethtool.rss(nic),
        }
    }

    /// NAPI instance and interrupt by RX queue, as far as netlink tells; empty where it does not.
    pub fn napi_queues(&self, nic: &str, ifindex: u32) -> BTreeMap<QueueId, NapiQueue> {
        let asked = self.ethnl().map(|ethnl| ethnl.rx_queues(nic, ifindex));
        asked.and_then(Result::ok).flatten().unwrap_or_default()
    }

    /// The name of the driver behind `nic`; none for a virtual interface.
    #[must_use]
    pub fn driver(&self, nic: &str) -> Option<String> {
        root::link_name(&self.root.nic(nic).join("device/driver"))
    }

    /// The bus address of the device behind `nic`. A virtio device is an address only on its own
    /// bus, in order of discovery; the PCI device above it is what stays.
    #[must_use]
    pub fn bus(&self, nic: &str) -> Option<String> {
        let mut device = fs::canonicalize(self.root.nic(nic).join("device")).ok()?;
        let bus = |device: &PathBuf| root::link_name(&device.join("subsystem"));
        if bus(&device).as_deref() == Some("virtio") {
            device.pop();
        }
        Some(device.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether the device at this place of its bus, say `0000:00:03.0`, has a driver
    /// (Documentation/ABI/testing/sysfs-bus-*: `/sys/bus/BUS/devices/DEVICE/driver`). Its network
    /// interface may be in a namespace that is not ours.
    #[must_use]
    pub fn is_driven(&self, bus: &str) -> bool {
        let Ok(buses) = fs::read_dir(self.root.sys("bus")) else { return false };
        buses.flatten().any(|entry| entry.path().join("devices").join(bus).join("driver").exists())
    }

    /// Whether the table of `nic` goes through netlink. Some drivers must be given it by ioctl even
    /// where netlink could ([`Driver::misreads_no_change`]).
    fn sets_by_netlink(&self, nic: &str) -> bool {
        self.driver(nic).is_none_or(|driver| !Driver::of(&driver).misreads_no_change)
    }

    fn write_table(
        &self,
        nic: &str,
        by_netlink: impl FnOnce(&Ethnl) -> Result<Option<()>, SysError>,
        by_ioctl: impl FnOnce(&Ethtool) -> Result<(), SysError>,
    ) -> Result<(), SysError> {
        let Some(sockets) = &self.sockets else {
            return Err(unsupported("write table", nic));
        };
        // No operation, no family, no netlink at all (seccomp): the ioctl. But a refusal by netlink
        // is final: asking again by ioctl would write what was refused.
        let offered = sockets.ethnl.offers_rss_set().unwrap_or(false);
        if offered && self.sets_by_netlink(nic) && by_netlink(&sockets.ethnl)?.is_some() {
            return Ok(());
        }
        by_ioctl(&sockets.ethtool)
    }
}

fn unsupported(call: &'static str, nic: &str) -> SysError {
    SysError::new(call, nic, rustix::io::Errno::OPNOTSUPP)
}

impl Port for Machine {
    fn identity(&self, nic: &str) -> Result<DeviceId, SysError> {
        let ifindex = queues::attribute(&self.root, nic, "ifindex")?;
        let address: Option<String> = queues::attribute(&self.root, nic, "address")?;
        Ok(DeviceId {
            ifindex: ifindex.ok_or_else(|| SysError::no_such_interface(nic))?,
            bus: self.bus(nic),
            address: address.filter(|address| !address.is_empty()),
            driver: self.driver(nic),
        })
    }

    fn called(&self, ifindex: u32) -> Option<String> {
        let is = |name: &String| {
            let found: Option<u32> = queues::attribute(&self.root, name, "ifindex").ok().flatten();
            found == Some(ifindex)
        };
        root::list(&self.root.sys("class/net")).ok()?.into_iter().find(is)
    }

    fn rss_table(&self, nic: &str) -> Result<Option<Vec<QueueId>>, SysError> {
        Ok(self.rss(nic)?.map(|config| config.table))
    }

    fn rss_key(&self, nic: &str) -> Result<Option<Vec<u8>>, SysError> {
        let config = self.rss(nic)?;
        Ok(config.and_then(|config| config.shown_key().map(<[u8]>::to_vec)))
    }

    fn rx_rings(&self, nic: &str) -> Result<Option<u32>, SysError> {
        self.ethtool().map_or(Ok(None), |ethtool| ethtool.rx_rings(nic))
    }

    fn set_rss_table(&self, nic: &str, table: &[QueueId]) -> Result<(), SysError> {
        let by_netlink = |ethnl: &Ethnl| ethnl.set_table(nic, table);
        self.write_table(nic, by_netlink, |ethtool| ethtool.set_table(nic, table))
    }

    fn reset_rss_table(&self, nic: &str) -> Result<(), SysError> {
        let by_netlink = |ethnl: &Ethnl| ethnl.reset_table(nic);
        self.write_table(nic, by_netlink, |ethtool| ethtool.reset_table(nic))
    }

    fn irq_affinity(&self, irq: u32) -> Result<CpuSet, SysError> {
        irq::affinity(&self.root, irq)
    }

    fn await_interrupts(&self) {
        thread::sleep(irq::ON_ITS_WAY);
    }

    fn irq_effective(&self, irq: u32) -> Result<Option<CpuSet>, SysError> {
        irq::effective(&self.root, irq)
    }

    fn set_irq_affinity(&self, irq: u32, cpus: &CpuSet) -> Result<(), SysError> {
        irq::set_affinity(&self.root, irq, cpus)
    }

    fn irq_name(&self, irq: u32) -> Option<String> {
        irq::name(&self.root, irq)
    }

    fn xps(&self, nic: &str, queue: QueueId) -> Result<Option<CpuSet>, SysError> {
        queues::xps(&self.root, nic, queue)
    }

    fn set_xps(&self, nic: &str, queue: QueueId, cpus: &CpuSet) -> Result<(), SysError> {
        queues::set_xps(&self.root, nic, queue, cpus)
    }

    fn process(&self, pid: u32) -> Option<Process> {
        irqbalance::process(&self.root, pid)
    }

    fn irqbalance_bans(&self, pid: u32) -> Result<BTreeSet<u32>, SysError> {
        Ok(irqbalance::ask(pid)?.wait(irqbalance::PATIENCE)?.banned)
    }

    fn set_irqbalance_bans(&self, pid: u32, irqs: &BTreeSet<u32>) -> Result<(), SysError> {
        irqbalance::ban(pid, irqs)
    }

    fn rules(&self, nic: &str) -> Result<Option<RuleTable>, SysError> {
        self.ethtool().map_or(Ok(None), |ethtool| ethtool.rules(nic))
    }

    fn rule(&self, nic: &str, location: u32) -> Result<RuleContent, SysError> {
        let empty = Ok(RuleContent::Empty);
        self.ethtool().map_or(empty, |ethtool| ethtool.rule(nic, location))
    }

    fn set_rule(&self, nic: &str, location: Option<u32>, rule: &Rule) -> Result<u32, SysError> {
        let ethtool = self.ethtool().ok_or_else(|| unsupported("write rule", nic))?;
        ethtool.set_rule(nic, location, rule)
    }

    fn delete_rule(&self, nic: &str, location: u32) -> Result<(), SysError> {
        let ethtool = self.ethtool().ok_or_else(|| unsupported("delete rule", nic))?;
        ethtool.delete_rule(nic, location)
    }

    fn boot_id(&self) -> Result<String, SysError> {
        root::read(&self.root.proc("sys/kernel/random/boot_id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared<T: Send + Sync>(_: &T) {}

    #[test]
    fn the_loopback_of_this_machine() {
        let machine = Machine::open().expect("sockets");
        shared(&machine);
        let id = machine.identity("lo").expect("always there");
        assert_eq!((id.ifindex, id.bus, id.driver), (1, None, None));
        assert_eq!(machine.called(1).as_deref(), Some("lo"));
        assert_eq!(machine.called(0), None);
        assert_eq!(machine.rss_table("lo"), Ok(None));
        assert_eq!(machine.rss_key("lo"), Ok(None));
        assert!(machine.set_rss_table("lo", &[0]).expect_err("no table").is_unsupported());
        assert!(machine.reset_rss_table("lo").expect_err("no table").is_unsupported());
        assert_eq!(machine.boot_id().expect("readable").len(), 36);
    }

    #[test]
    fn an_interface_that_is_not_there_is_gone_for_every_question() {
        let machine = Machine::open().expect("sockets");
        assert!(machine.identity("nosuchnic0").expect_err("none").is_gone());
        assert!(machine.rss_table("nosuchnic0").expect_err("none").is_gone());
        assert!(machine.rx_rings("nosuchnic0").expect_err("none").is_gone());
        assert!(machine.set_rss_table("nosuchnic0", &[0]).expect_err("none").is_gone());
        assert!(machine.xps("nosuchnic0", 0).expect_err("none").is_gone());
        let error = machine.set_xps("nosuchnic0", 0, &CpuSet::single(0)).expect_err("none");
        assert!(error.is_gone());
    }

    #[test]
    fn a_captured_tree_asks_no_kernel() {
        let machine = Machine::captured(Root::new("/nowhere/proc", "/nowhere/sys"));
        assert_eq!(machine.rss_table("lo"), Ok(None));
        assert!(machine.set_rss_table("lo", &[0]).expect_err("no kernel").is_unsupported());
        assert!(machine.identity("lo").expect_err("not captured").is_gone());
    }
}
