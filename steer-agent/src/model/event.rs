//! What happened to a NIC between two looks, told from the two.
//!
//! Looking each period is the way that works on every kernel and driver: there are notifications for
//! links and, since 6.17, for RSS settings, but none when a driver writes its own table again after a
//! reset (ixgbe, vmxnet3, mana). A link that was down and up again between two looks is told by
//! `carrier_changes`.

use std::fmt;

use super::{CpuId, Nic, Topology};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was set down (`IFF_UP` went).
    Down,
    /// It was set up.
    Up,
    /// The carrier came or went so many times.
    Carrier(u64),
    /// Its MTU was changed, for which most drivers reset the device.
    Mtu(u32, u32),
    /// It has another number of RX queues (`ethtool -L`), so that its table is another too.
    Channels(usize, usize),
    /// Its rings were resized (`ethtool -G`), for which drivers close and open the device.
    Rings,
    /// Its queues have other interrupts: the driver set them up anew.
    Interrupts,
    /// An XDP program came or went, for which most drivers reset the device.
    Xdp,
    /// It has another name.
    Renamed(String, String),
    /// These CPUs went offline.
    Offline(Vec<CpuId>),
    /// These CPUs came online.
    Online(Vec<CpuId>),
}

impl Event {
    /// Whether a driver or the kernel may have set table or affinities anew because of it.
    #[must_use]
    pub fn may_lose_settings(&self) -> bool {
        !matches!(self, Self::Renamed(..))
    }

    /// Whether what was set before has lost its meaning.
    #[must_use]
    pub fn changes_queues(&self) -> bool {
        matches!(self, Self::Channels(..))
    }
}

/// What happened to a NIC, and to the CPUs of its machine.
#[must_use]
pub fn events(before: (&Nic, &Topology), now: (&Nic, &Topology)) -> Vec<Event> {
    let mut events = Vec::new();
    let ((old, old_cpus), (new, new_cpus)) = (before, now);
    if old.name != new.name {
        events.push(Event::Renamed(old.name.clone(), new.name.clone()));
    }
    match (old.up, new.up) {
        (true, false) => events.push(Event::Down),
        (false, true) => events.push(Event::Up),
        _ => {}
    }
    if let (Some(then), Some(now)) = (old.carrier_changes, new.carrier_changes)
        && now > then
    {
        events.push(Event::Carrier(now - then));
    }
    if let (Some(then), Some(now)) = (old.mtu, new.mtu)
        && then != now
    {
        events.push(Event::Mtu(then, now));
    }
    if old.queues.len() != new.queues.len() {
        events.push(Event::Channels(old.queues.len(), new.queues.len()));
    } else if old.queues.iter().zip(&new.queues).any(|(then, now)| then.irq != now.irq) {
        events.push(Event::Interrupts);
    }
    if old.ring_size != new.ring_size {
        events.push(Event::Rings);
    }
    if old.xdp_program != new.xdp_program {
        events.push(Event::Xdp);
    }
    let missing = |from: &Topology, of: &Topology| -> Vec<CpuId> {
        of.cpus.iter().map(|cpu| cpu.id).filter(|id| from.cpu(*id).is_none()).collect()
    };
    // A topology that could not be read says nothing.
    if !old_cpus.cpus.is_empty() && !new_cpus.cpus.is_empty() {
        let (gone, come) = (missing(new_cpus, old_cpus), missing(old_cpus, new_cpus));
        events.extend((!gone.is_empty()).then_some(Event::Offline(gone)));
        events.extend((!come.is_empty()).then_some(Event::Online(come)));
    }
    events
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("the interface was set down"),
            Self::Up => f.write_str("the interface was set up"),
            Self::Carrier(times) => write!(f, "the carrier changed {times} times"),
            Self::Mtu(from, to) => write!(f, "the MTU was changed from {from} to {to}"),
            Self::Channels(from, to) => write!(f, "it has {to} RX queues instead of {from}"),
            Self::Rings => f.write_str("its rings were resized"),
            Self::Interrupts => f.write_str("its queues have other interrupts"),
            Self::Xdp => f.write_str("an XDP program came or went"),
            Self::Renamed(from, to) => write!(f, "{from} is called {to} now"),
            Self::Offline(cpus) => write!(f, "CPUs {cpus:?} went offline"),
            Self::Online(cpus) => write!(f, "CPUs {cpus:?} came online"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Queue;

    fn nic() -> Nic {
        Nic {
            name: "eth0".to_owned(),
            up: true,
            carrier_changes: Some(2),
            mtu: Some(1500),
            queues: (0..4).map(|id| Queue { id, irq: Some(30 + id), ..Queue::default() }).collect(),
            ..Nic::default()
        }
    }

    fn happened(change: impl FnOnce(&mut Nic)) -> Vec<Event> {
        let topology = Topology::regular(1, 4, 1);
        let mut now = nic();
        change(&mut now);
        events((&nic(), &topology), (&now, &topology))
    }

    #[test]
    fn nothing_happened_to_what_is_the_same() {
        assert_eq!(happened(|_| {}), []);
    }

    #[test]
    fn each_event_is_told_from_what_it_leaves() {
        assert_eq!(happened(|nic| nic.up = false), [Event::Down]);
        assert_eq!(happened(|nic| nic.carrier_changes = Some(4)), [Event::Carrier(2)]);
        assert_eq!(happened(|nic| nic.mtu = Some(9000)), [Event::Mtu(1500, 9000)]);
        assert_eq!(happened(|nic| nic.queues.truncate(2)), [Event::Channels(4, 2)]);
        assert_eq!(happened(|nic| nic.queues[1].irq = Some(77)), [Event::Interrupts]);
        assert_eq!(happened(|nic| nic.xdp_program = Some(5)), [Event::Xdp]);
        assert_eq!(happened(|nic| nic.ring_size = Some(512)), [Event::Rings]);
        let renamed = happened(|nic| "lan0".clone_into(&mut nic.name));
        assert_eq!(renamed[0].to_string(), "eth0 is called lan0 now");
        assert!(!renamed[0].may_lose_settings());
    }

    #[test]
    fn cpus_come_and_go() {
        let (four, two) = (Topology::regular(1, 4, 1), Topology::regular(1, 2, 1));
        assert_eq!(events((&nic(), &four), (&nic(), &two)), [Event::Offline(vec![2, 3])]);
        assert_eq!(events((&nic(), &two), (&nic(), &four)), [Event::Online(vec![2, 3])]);
        assert_eq!(events((&nic(), &Topology::default()), (&nic(), &four)), []);
    }
}
