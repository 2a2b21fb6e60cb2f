//! One NIC as it is now: files, ioctl and netlink put together into a [`Nic`].
//!
//! Guaranteed: nothing is written; what a kernel or driver does not tell is absent, never zero; an
//! interface that vanishes while it is read is an error for which [`SysError::is_gone`] holds. A
//! source that fails in another way blanks its own field and leaves a sentence. Whether the table
//! is *true* (`queue = table[bucket]`) is not known here: samples decide that.

use std::collections::BTreeMap;
use std::path::Path;

use super::irq_names::{self, Device};
use crate::model::{
    Driver, DropCounters, HashFields, IrqSource, KeyVariant, Nic, Queue, QueueId, Rss, RssKey,
};
use crate::sys::queues::{self, Direction, attribute};
use crate::sys::root::{self, Root};
use crate::sys::{Machine, Port as _, SysError, irq};

/// The offloads that matter to steering, by the kernel's names (`netdev_features_strings`):
/// whether packets carry the NIC's hash, whether flow rules may overrule the table, and what makes
/// many packets one before they are counted.
const FEATURES: [&str; 6] =
    ["rx-hashing", "rx-ntuple-filter", "rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro"];

/// Kinds of stacked interfaces (`DEVTYPE`) that get all their packets from the one below.
const FED_BY_ONE: [&str; 3] = ["vlan", "macvlan", "ipvlan"];

/// `IFF_UP`, netdevice(7).
const IFF_UP: u32 = 1;

/// The names of all interfaces of this network namespace, sorted.
pub fn list(machine: &Machine) -> Result<Vec<String>, SysError> {
    let dir = machine.root().sys("class/net");
    let mut names = root::list(&dir)?;
    // Beside the interfaces there are files, such as `bonding_masters`.
    names.retain(|name| dir.join(name).is_dir());
    Ok(names)
}

/// The interfaces that a bond sends through (`bonding/slaves`); `None` for one that is no bond.
#[must_use]
pub fn members(machine: &Machine, name: &str) -> Option<Vec<String>> {
    let slaves = root::read(&machine.root().nic(name).join("bonding/slaves")).ok()?;
    Some(slaves.split_whitespace().map(str::to_owned).collect())
}

/// The NICs that the packets of a virtual interface come through, over any number of layers (VLANs,
/// bonds, bridges): those below it with a device of their own. Empty where the kernel tells of none.
#[must_use]
pub fn carriers(machine: &Machine, name: &str) -> Vec<String> {
    let root = machine.root();
    let (mut found, mut seen) = (Vec::new(), vec![name.to_owned()]);
    let mut layer = seen.clone();
    while let Some(above) = layer.pop() {
        for entry in root::list(&root.nic(&above)).unwrap_or_default() {
            let Some(lower) = entry.strip_prefix("lower_").map(str::to_owned) else { continue };
            if seen.contains(&lower) {
                continue;
            }
            seen.push(lower.clone());
            if root.nic(&lower).join("device").exists() {
                found.push(lower);
            } else {
                layer.push(lower);
            }
        }
    }
    found.sort();
    found
}

/// Reads everything that is known of `name`.
pub fn read(machine: &Machine, name: &str) -> Result<Nic, SysError> {
    read_noting(machine, name, &mut Vec::new())
}

/// The same; a sentence for each source that failed is added to `missing`.
pub fn read_noting(
    machine: &Machine,
    name: &str,
    missing: &mut Vec<String>,
) -> Result<Nic, SysError> {
    let root = machine.root();
    let id = machine.identity(name)?;
    let mut notes = Notes { missing };
    let flags: Option<String> = attribute(root, name, "flags")?;
    let flags = flags.and_then(|text| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    let node: Option<i64> = attribute(root, name, "device/numa_node")?;
    let (mut channels, mut rx_rings, mut features, mut coalesce) = (None, None, None, None);
    let mut ring_size = None;
    if let Some(ethtool) = machine.ethtool() {
        channels = notes.optional(ethtool.channels(name))?;
        rx_rings = notes.optional(ethtool.rx_rings(name))?;
        features = notes.optional(ethtool.features(name))?;
        coalesce = notes.optional(ethtool.coalesce(name))?;
        ring_size = notes.optional(ethtool.rx_ring_size(name))?;
    }
    let mut features: BTreeMap<String, bool> = features.unwrap_or_default();
    features.retain(|feature, _| FEATURES.contains(&feature.as_str()));
    let (private_flags, rule_count) =
        flags_and_rules(machine, name, id.driver.as_deref(), &mut notes)?;
    // Switched off, there is nothing to list, and some drivers answer nonsense.
    let rules = match features.get("rx-ntuple-filter") {
        Some(true) => notes.optional(machine.rules(name))?,
        _ => None,
    };
    let xdp_program = match machine.ethnl() {
        Some(ethnl) => notes.optional(ethnl.xdp_program(name, id.ifindex))?,
        None => None,
    };
    Ok(Nic {
        name: name.to_owned(),
        ifindex: id.ifindex,
        upper_ifindexes: uppers(root, name),
        // -1 is "no node" (Documentation/ABI/testing/sysfs-bus-pci).
        node: node.and_then(|node| u32::try_from(node).ok()),
        up: flags.is_some_and(|flags| flags & IFF_UP != 0),
        carrier: attribute::<u32>(root, name, "carrier")?.map(|carrier| carrier != 0),
        carrier_changes: attribute(root, name, "carrier_changes")?,
        mtu: attribute(root, name, "mtu")?,
        ring_size,
        channels,
        rx_rings,
        rss: rss(machine, name, &mut notes)?,
        queues: queues(machine, name, id.ifindex, id.driver.as_deref(), &mut notes)?,
        features,
        private_flags,
        rule_count,
        virtual_functions: attribute(root, name, "device/sriov_numvfs")?,
        is_virtual_function: root.nic(name).join("device/physfn").exists(),
        rules,
        threaded_napi: queues::threaded(root, name)?,
        xdp_program,
        coalesce,
        drops: drops(root, name)?,
        driver: id.driver,
        bus: id.bus,
        address: id.address,
    })
}

/// Why the table of `nic` cannot be steered, as a sentence; `None` if it can. Whether it *should*
/// be is not asked.
#[must_use]
pub fn why_not_steerable(nic: &Nic) -> Option<String> {
    let name = &nic.name;
    let Some(driver) = &nic.driver else {
        return Some(format!(
            "{name} is a virtual interface: name the NIC that carries its packets"
        ));
    };
    let Some(rss) = &nic.rss else {
        return Some(format!(
            "{name} cannot be steered: its driver {driver} offers no indirection table"
        ));
    };
    if !nic.up {
        return Some(format!("{name} is down: bring it up first (`ip link set {name} up`)"));
    }
    if rss.table.is_empty() {
        let why = match driver.as_str() {
            "virtio_net" => " (the host does not offer VIRTIO_NET_F_RSS)",
            _ => "",
        };
        return Some(format!("{name} cannot be steered: its indirection table has size 0{why}"));
    }
    if nic.rx_rings.is_some_and(|rings| rings < 2) || nic.queues.len() < 2 {
        return Some(format!(
            "{name} has one RX queue, so there is nothing to choose from: \
             more queues may help (`ethtool -L {name} combined N`)"
        ));
    }
    None
}

/// Where sentences about failed sources go.
struct Notes<'a> {
    missing: &'a mut Vec<String>,
}

impl Notes<'_> {
    /// A failure becomes a note, unless the interface is gone.
    fn optional<T>(&mut self, result: Result<Option<T>, SysError>) -> Result<Option<T>, SysError> {
        match result {
            Err(error) if error.is_gone() => Err(error),
            Err(error) => {
                self.missing.push(error.to_string());
                Ok(None)
            }
            answered => answered,
        }
    }
}

/// The private flags that matter for this driver, and the number of exact-match rules.
fn flags_and_rules(
    machine: &Machine,
    nic: &str,
    driver: Option<&str>,
    notes: &mut Notes<'_>,
) -> Result<(BTreeMap<String, bool>, Option<u32>), SysError> {
    let Some(ethtool) = machine.ethtool() else {
        return Ok((BTreeMap::new(), None));
    };
    let wanted = Driver::of(driver.unwrap_or_default()).flags;
    let flags = match wanted {
        [] => None,
        _ => notes.optional(ethtool.private_flags(nic))?,
    };
    let mut flags = flags.unwrap_or_default();
    flags.retain(|flag, _| wanted.contains(&flag.as_str()));
    Ok((flags, notes.optional(ethtool.rule_count(nic))?))
}

fn rss(machine: &Machine, nic: &str, notes: &mut Notes<'_>) -> Result<Option<Rss>, SysError> {
    let Some(config) = notes.optional(machine.rss(nic))? else {
        return Ok(None);
    };
    let from_driver =
        config.shown_key().map(|key| RssKey { bytes: key.to_vec(), from_driver: true });
    let hash_fields = match machine.ethtool() {
        Some(ethtool) => notes.optional(ethtool.hash_fields(nic).map(Some))?.unwrap_or_default(),
        None => HashFields::default(),
    };
    let contexts = match machine.ethnl() {
        Some(ethnl) => notes.optional(ethnl.extra_contexts(nic))?,
        None => None,
    };
    Ok(Some(Rss {
        key_variant: KeyVariant::default(),
        key: from_driver.or_else(|| system_key(machine.root())),
        table: config.table,
        hash_function: config.hash_function,
        input_xfrm: config.input_xfrm,
        extra_contexts: contexts,
        hash_fields,
    }))
}

/// The kernel's own key, which drivers that show none program (`netdev_rss_key_fill`): igb up to
/// 6.12, vmxnet3, tg3. It is drawn when a driver first asks, and zeros before.
fn system_key(root: &Root) -> Option<RssKey> {
    key(&root::read(&root.proc("sys/net/core/netdev_rss_key")).ok()?)
}

/// `6d:5a:…`, as `net/core/sysctl_net_core.c` prints it.
pub(super) fn key(text: &str) -> Option<RssKey> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    let drawn = bytes.iter().any(|byte| *byte != 0);
    drawn.then_some(RssKey { bytes, from_driver: false })
}

fn queues(
    machine: &Machine,
    nic: &str,
    ifindex: u32,
    driver: Option<&str>,
    notes: &mut Notes<'_>,
) -> Result<Vec<Queue>, SysError> {
    let root = machine.root();
    let linked = machine.napi_queues(nic, ifindex);
    let own_name = root::link_name(&root.nic(nic).join("device")).unwrap_or_default();
    let named = driver.map_or_else(BTreeMap::new, |driver| {
        irq_names::by_queue(Device { driver, nic, own_name: &own_name }, &irq::of_nic(root, nic))
    });
    let read_one = |id: QueueId| -> Result<Queue, SysError> {
        let napi = linked.get(&id);
        let by_name = named.get(&id).map(|(irq, _)| (*irq, IrqSource::Name));
        let irq = napi.and_then(|napi| Some((napi.irq?, IrqSource::Netlink))).or(by_name);
        let mut queue = Queue {
            id,
            irq: irq.map(|(irq, _)| irq),
            irq_source: irq.map(|(_, source)| source),
            napi_id: napi.map(|napi| napi.napi_id),
            napi_pid: napi.and_then(|napi| napi.pid),
            xps: notes.optional(queues::xps(root, nic, id))?,
            rps: notes.optional(queues::rps(root, nic, id))?,
            rps_flows: notes.optional(queues::rps_flows(root, nic, id))?,
            ..Queue::default()
        };
        if let Some(irq) = queue.irq {
            queue.irq_name = irq::name(root, irq);
            queue.affinity = notes.optional(irq::affinity(root, irq).map(Some))?;
            queue.effective = notes.optional(irq::effective(root, irq))?;
            queue.managed = irq::is_managed(root, irq);
        }
        Ok(queue)
    };
    queues::numbers(root, nic, Direction::Rx)?.into_iter().map(read_one).collect()
}

/// The interfaces stacked on `nic` that get all their packets from it, over any number of layers.
fn uppers(root: &Root, nic: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut layer = vec![nic.to_owned()];
    while let Some(below) = layer.pop() {
        for entry in root::list(&root.nic(&below)).unwrap_or_default() {
            let Some(upper) = entry.strip_prefix("upper_") else {
                continue;
            };
            let index = root::value::<u32>(&root.nic(upper).join("ifindex"));
            if let Some(index) = index
                && is_fed_by_one(&root.nic(upper))
                && !found.contains(&index)
            {
                found.push(index);
                layer.push(upper.to_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

fn is_fed_by_one(nic: &Path) -> bool {
    let event = root::read(&nic.join("uevent")).unwrap_or_default();
    let kind = event.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    kind.is_some_and(|kind| FED_BY_ONE.contains(&kind))
}

/// Documentation/ABI/testing/sysfs-class-net-statistics.
fn drops(root: &Root, nic: &str) -> Result<DropCounters, SysError> {
    Ok(DropCounters {
        rx_dropped: attribute(root, nic, "statistics/rx_dropped")?,
        rx_missed: attribute(root, nic, "statistics/rx_missed_errors")?,
        rx_fifo: attribute(root, nic, "statistics/rx_fifo_errors")?,
        tx_dropped: attribute(root, nic, "statistics/tx_dropped")?,
    })
}

#[cfg(test)]
#[path = "nic_tests.rs"]
mod tests;
