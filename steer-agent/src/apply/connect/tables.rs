//! What the connect program is told of one NIC.

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use steer_common::connect::{
    FAMILIES, PORTS_MAX, PORTS_PER_BLOCK, PortBlock, Settings, Slot, Span,
};
use steer_common::toeplitz::Table;

use super::map_mut;
use crate::model::connect::{Classes, Family, HashModel, Near};

/// By what connections through one NIC are steered.
#[derive(Clone)]
pub struct Tables {
    slot: Slot,
    hash: Table,
    near: Near,
    classes: [Classes; FAMILIES as usize],
}

impl Tables {
    /// `families` says which are hashed with their ports. `None` for a key that is too short or a
    /// table whose length is no power of two.
    #[must_use]
    pub fn new(
        model: &HashModel,
        buckets: u32,
        families: [bool; FAMILIES as usize],
        near: Near,
        ports: &[u16],
        secret: u64,
    ) -> Option<Self> {
        let hash = Table::new(&model.key)?;
        if !buckets.is_power_of_two() {
            return None;
        }
        let mask = buckets - 1;
        let classes = Family::ALL.map(|family| Classes::new(&hash, family, mask, ports, secret));
        let slot = Slot { mask, initial: model.initial, families: families.map(u32::from) };
        Some(Self { slot, hash, near, classes })
    }

    /// Where the buckets come to.
    #[must_use]
    pub fn near(&self) -> &Near {
        &self.near
    }

    /// Takes all queues away from the CPUs in the maps of `slot`.
    pub(super) fn silence(ebpf: &mut Ebpf, slot: u32, settings: &Settings) -> Result<()> {
        let none = (0..settings.cpus).map(|_| Span::default());
        put(ebpf, "CPUS", slot * settings.cpus, none)
    }

    /// Writes them to the maps of `slot`.
    pub(super) fn write(&self, ebpf: &mut Ebpf, slot: u32, settings: &Settings) -> Result<()> {
        ensure!(
            self.slot.mask < settings.buckets,
            "the indirection table has outgrown the maps ({} entries, room for {}): start steer anew",
            self.slot.mask + 1,
            settings.buckets
        );
        // A CPU that is not listed any more is offline, and has no queue near it.
        let cpus = (0..settings.cpus as usize)
            .map(|cpu| self.near.spans.get(cpu).copied().unwrap_or_default());
        put(ebpf, "CPUS", slot * settings.cpus, cpus)?;
        put(ebpf, "BUCKETS", slot * settings.buckets, self.near.buckets.iter().copied())?;
        for (family, classes) in Family::ALL.iter().zip(&self.classes) {
            let place = slot * FAMILIES + family.index();
            put::<Span>(ebpf, "CLASSES", place * settings.buckets, classes.spans.iter().copied())?;
            let blocks = classes.ports.chunks(PORTS_PER_BLOCK as usize).map(|chunk| {
                let mut block = PortBlock { ports: [0; PORTS_PER_BLOCK as usize] };
                for (place, port) in block.ports.iter_mut().zip(chunk) {
                    *place = *port;
                }
                block
            });
            put(ebpf, "PORTS", place * (PORTS_MAX / PORTS_PER_BLOCK), blocks)?;
        }
        put(ebpf, "HASHES", slot, [self.hash])?;
        put(ebpf, "SLOTS", slot, [self.slot])
    }
}

fn put<T: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &str,
    start: u32,
    values: impl IntoIterator<Item = T>,
) -> Result<()> {
    let mut map: Array<&mut MapData, T> = Array::try_from(map_mut(ebpf, name)?)?;
    for (place, value) in (start..).zip(values) {
        map.set(place, value, 0).with_context(|| format!("writing map {name}"))?;
    }
    Ok(())
}
