//! From the maps to plain values.
//!
//! Counters are read while the kernel side goes on counting: each cell is exact, a table as a whole
//! is a few microseconds wide. Flows may be evicted while they are listed; what is gone is left out.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap as KernelHashMap, Map, MapData, PerCpuArray, PerCpuValues},
};
use steer_common::{
    abi,
    cells::{Block, CELLS, block_of, cell_of},
    flow::{FlowKey, FlowStat, HASH_COMPUTED, HASH_KNOWN, NONE, RxFlow},
    health::Health,
    nic::{Napi, QueueState},
};

use super::{layout::Layout, nics::WatchedNic};
use crate::model::{Flow, FlowAddr, Matrix, NicCounters};

/// What the XDP observer remembers of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedFlow {
    /// Addresses and ports; ports are 0 for fragments.
    pub addr: FlowAddr,
    /// Packets seen.
    pub packets: u64,
    /// Interface index of the NIC.
    pub ifindex: Option<u32>,
    /// RX queue of the last packet.
    pub queue: u32,
    /// CPU that polled it.
    pub cpu: u32,
}

/// Takes a map by its name.
pub(super) fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Map> {
    ebpf.map(name).with_context(|| format!("map {name} is not in the object"))
}

/// Takes a map by its name, to write to it.
pub(super) fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).with_context(|| format!("map {name} is not in the object"))
}

fn counters<'a>(ebpf: &'a Ebpf, name: &str) -> Result<PerCpuArray<&'a MapData, Block>> {
    PerCpuArray::try_from(map(ebpf, name)?).with_context(|| format!("map {name}"))
}

/// Rows `first..first + rows` of a table of counters, by CPU.
fn matrix(ebpf: &Ebpf, name: &str, first: u32, rows: u32, cpus: u32) -> Result<Matrix> {
    let table = counters(ebpf, name)?;
    let mut matrix = Matrix::new(rows as usize, cpus as usize);
    for start in (0..rows).step_by(CELLS as usize) {
        let block = block_of(first + start);
        let by_cpu: PerCpuValues<Block> =
            table.get(&block, 0).with_context(|| format!("reading map {name}"))?;
        for (cpu, block) in by_cpu.iter().enumerate() {
            for row in start..rows.min(start + CELLS) {
                matrix.add(row as usize, cpu, block.cells[cell_of(row)]);
            }
        }
    }
    Ok(matrix)
}

/// All counters of one NIC.
pub(super) fn nic_counters(
    ebpf: &Ebpf,
    layout: &Layout,
    slot: u32,
    nic: &WatchedNic,
) -> Result<NicCounters> {
    let Layout { cpus, bucket_stride, queue_stride, cpu_stride, .. } = *layout;
    let by_bucket = |name| matrix(ebpf, name, slot * bucket_stride, nic.buckets, cpus);
    let by_queue = |name| matrix(ebpf, name, slot * queue_stride, nic.queues, cpus);
    let by_cpu = |name| matrix(ebpf, name, slot * cpu_stride, cpus, cpus);
    Ok(NicCounters {
        load: nic.has_load().then(|| by_bucket("LOAD")).transpose()?,
        demand: nic.has_demand().then(|| by_bucket("DEMAND")).transpose()?,
        queue_packets: by_queue("QUEUE_PACKETS")?,
        queue_consumed: by_queue("CONSUMED_QUEUE")?,
        consumed_by_napi: by_cpu("BY_NAPI_CPU")?,
        consumed_by_protocol: by_cpu("BY_PROTOCOL_CPU")?,
        unattributed: one_counter(ebpf, "UNATTRIBUTED", slot)?,
    })
}

fn one_counter(ebpf: &Ebpf, name: &str, counter: u32) -> Result<u64> {
    let by_cpu = counters(ebpf, name)?
        .get(&block_of(counter), 0)
        .with_context(|| format!("reading map {name}"))?;
    Ok(by_cpu.iter().map(|block| block.cells[cell_of(counter)]).sum())
}

/// All failure counters by name.
pub(super) fn health(ebpf: &Ebpf) -> Result<Vec<(String, u64)>> {
    let by_cpu = counters(ebpf, "HEALTH")?.get(&0, 0).context("reading map HEALTH")?;
    let sum = |health: Health| by_cpu.iter().map(|block| block.cells[health as usize]).sum();
    Ok(Health::ALL.into_iter().map(|health| (health.name().to_owned(), sum(health))).collect())
}

/// Sets a NIC's counters by bucket to zero, because its buckets mean something else now.
pub(super) fn clear_buckets(ebpf: &mut Ebpf, layout: &Layout, slot: u32) -> Result<()> {
    for name in ["LOAD", "DEMAND"] {
        let mut table: PerCpuArray<&mut MapData, Block> =
            PerCpuArray::try_from(map_mut(ebpf, name)?)?;
        let first = block_of(slot * layout.bucket_stride);
        for block in first..first + block_of(layout.bucket_stride) {
            let zeros = vec![Block { cells: [0; CELLS as usize] }; layout.cpus as usize];
            table
                .set(block, PerCpuValues::try_from(zeros)?, 0)
                .with_context(|| format!("clearing map {name}"))?;
        }
    }
    Ok(())
}

/// All flows that were consumed in the last `idle_ns`. The others are forgotten: without that the
/// table would fill up with closed flows, each of which costs two system calls a window.
pub(super) fn flows(ebpf: &mut Ebpf, nics: &[WatchedNic], idle_ns: u64) -> Result<Vec<Flow>> {
    let mut flows = entries::<FlowKey, FlowStat>(ebpf, "FLOWS", abi::FLOWS)?;
    // The latest consumption is the clock: while nothing is consumed nothing needs to go.
    let latest_ns = flows.values().map(|stat| stat.last_ns).max().unwrap_or(0);
    let idle = |stat: &FlowStat| latest_ns.saturating_sub(stat.last_ns) > idle_ns;
    forget(ebpf, flows.extract_if(|_, stat| idle(stat)).map(|(key, _)| key))?;
    Ok(flows.into_iter().map(|(key, stat)| flow(&key, &stat, nics)).collect())
}

fn forget(ebpf: &mut Ebpf, keys: impl Iterator<Item = FlowKey>) -> Result<()> {
    let mut table: KernelHashMap<&mut MapData, FlowKey, FlowStat> =
        KernelHashMap::try_from(map_mut(ebpf, "FLOWS")?)?;
    for key in keys {
        // It may have been evicted meanwhile.
        let _ = table.remove(&key);
    }
    Ok(())
}

/// Forgets the flows of a NIC, whose computed hashes have lost their meaning.
pub(super) fn forget_flows(ebpf: &mut Ebpf, slot: u32) -> Result<()> {
    let flows = entries::<FlowKey, FlowStat>(ebpf, "FLOWS", abi::FLOWS)?;
    let its = flows.into_iter().filter(|(_, stat)| u32::from(stat.nic) == slot);
    forget(ebpf, its.map(|(key, _)| key))
}

/// All flows that the XDP observer saw.
pub(super) fn received(ebpf: &Ebpf, nics: &[WatchedNic]) -> Result<Vec<ReceivedFlow>> {
    let flows = entries::<FlowKey, RxFlow>(ebpf, "RX_FLOWS", abi::RX_FLOWS)?;
    Ok(flows
        .into_iter()
        .map(|(key, seen)| ReceivedFlow {
            addr: addr(&key),
            packets: seen.packets,
            ifindex: nics.get(usize::from(seen.nic)).map(|nic| nic.ifindex),
            queue: u32::from(seen.queue),
            cpu: u32::from(seen.cpu),
        })
        .collect())
}

/// Lists a hash that changes meanwhile. When the key that the walk stands on is evicted, the kernel
/// starts over, so that keys come twice: hence a map, and an end after twice the capacity.
fn entries<K, V>(ebpf: &Ebpf, name: &str, capacity: u32) -> Result<HashMap<K, V>>
where
    K: aya::Pod + Eq + std::hash::Hash,
    V: aya::Pod,
{
    let table: KernelHashMap<&MapData, K, V> =
        KernelHashMap::try_from(map(ebpf, name)?).with_context(|| format!("map {name}"))?;
    let mut found = HashMap::new();
    for key in table.keys().take(2 * capacity as usize) {
        let key = key.with_context(|| format!("listing map {name}"))?;
        // Gone between the two calls: it is left out.
        if let Ok(value) = table.get(&key, 0) {
            found.insert(key, value);
        }
    }
    Ok(found)
}

fn flow(key: &FlowKey, stat: &FlowStat, nics: &[WatchedNic]) -> Flow {
    let known = |number: u16| (number != NONE).then_some(u32::from(number));
    let comm = stat.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Flow {
        addr: addr(key),
        ifindex: nics.get(usize::from(stat.nic)).map(|nic| nic.ifindex),
        queue: known(stat.queue),
        hash: (stat.flags & HASH_KNOWN != 0).then_some(stat.hash),
        hash_computed: stat.flags & HASH_COMPUTED != 0,
        softirq_cpu: known(stat.napi_cpu),
        protocol_cpu: known(stat.protocol_cpu),
        consumer_cpu: u32::from(stat.consumer_cpu),
        consumed: stat.consumed,
        mismatched: stat.mismatched,
        consumer_moves: stat.consumer_moves,
        first_ns: stat.first_ns,
        last_ns: stat.last_ns,
        // The idle task reads no sockets: in its name a softirq did (kTLS).
        pid: (stat.pid != 0).then_some(stat.pid),
        comm: String::from_utf8_lossy(comm).into_owned(),
    }
}

fn addr(key: &FlowKey) -> FlowAddr {
    let end = |address: [u8; 16], port: [u8; 2]| {
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::from(address)).to_canonical(),
            u16::from_be_bytes(port),
        )
    };
    FlowAddr {
        protocol: key.protocol,
        local: end(key.local, key.local_port),
        remote: end(key.remote, key.remote_port),
    }
}

/// Removes NAPI ids that their queue no longer has: a NIC that was reopened has new ones.
pub(super) fn remove_stale_napis(ebpf: &mut Ebpf, layout: &Layout) -> Result<()> {
    let stale: Vec<u32> = {
        let states: Array<&MapData, QueueState> = Array::try_from(map(ebpf, "QUEUE_STATE")?)?;
        let current = |napi: &Napi| {
            let counter = u32::from(napi.nic) * layout.queue_stride + u32::from(napi.queue);
            states.get(&counter, 0).ok().map(|state| state.napi_id)
        };
        entries::<u32, Napi>(ebpf, "NAPIS", layout.napis())?
            .into_iter()
            .filter(|(id, napi)| {
                napi.queue != NONE && current(napi).is_some_and(|now| now != *id && now != 0)
            })
            .map(|(id, _)| id)
            .collect()
    };
    let mut napis: KernelHashMap<&mut MapData, u32, Napi> =
        KernelHashMap::try_from(map_mut(ebpf, "NAPIS")?)?;
    for id in stale {
        // It may have gone by itself.
        let _ = napis.remove(&id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use steer_common::flow::{TCP, mapped};

    #[test]
    fn absent_numbers_become_none() {
        let key = FlowKey {
            local: mapped([192, 0, 2, 1]),
            remote: Ipv6Addr::LOCALHOST.octets(),
            local_port: 80_u16.to_be_bytes(),
            remote_port: 4000_u16.to_be_bytes(),
            protocol: TCP,
            pad: [0; 3],
        };
        let mut stat = FlowStat {
            first_ns: 1,
            last_ns: 2,
            consumed: 3,
            mismatched: 0,
            consumer_moves: 0,
            hash: 7,
            flags: 0,
            nic: 5,
            queue: NONE,
            napi_cpu: NONE,
            protocol_cpu: 1,
            consumer_cpu: 2,
            pad: 0,
            pid: 0,
            comm: *b"worker\0old bytes",
        };
        let read = flow(&key, &stat, &[]);
        assert_eq!(
            (read.ifindex, read.queue, read.hash, read.softirq_cpu),
            (None, None, None, None)
        );
        assert_eq!((read.protocol_cpu, read.consumer_cpu, read.pid), (Some(1), 2, None));
        assert_eq!(read.comm, "worker");
        assert_eq!(read.addr.local.to_string(), "192.0.2.1:80");
        assert_eq!(read.addr.remote.to_string(), "[::1]:4000");
        stat.flags = HASH_KNOWN | HASH_COMPUTED;
        let read = flow(&key, &stat, &[]);
        assert_eq!((read.hash, read.hash_computed), (Some(7), true));
    }
}
