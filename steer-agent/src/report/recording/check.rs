//! What must hold of a sample that somebody else may have made. What is read on a machine holds it by
//! itself, and everything behind relies on it.

use crate::model::{CpuId, Matrix, NicSample, QueueId, Sample};

/// `CONFIG_NR_CPUS` ends at 8192.
const MOST_CPUS: usize = 8192;
/// Far above every NIC there is.
const MOST_QUEUES: usize = 1 << 16;
/// As many buckets as a table that fits into a netlink message may have.
const MOST_BUCKETS: usize = 1 << 16;
/// As many NICs as anybody watches at once.
const MOST_NICS: usize = 1024;
/// Sums stay clear of the end of 64 bits.
const MOST_COUNT: u128 = 1 << 60;

/// What is wrong with `sample`, which follows one of `last_ns`.
pub(super) fn check(sample: &Sample, last_ns: Option<u64>) -> Result<(), String> {
    let small = |what: &str, count: usize, most: usize| {
        if count <= most { Ok(()) } else { Err(format!("{count} {what}, expected at most {most}")) }
    };
    if last_ns.is_some_and(|last| sample.at_ns <= last) {
        return Err(format!("its time, {} ns, is not after the one before", sample.at_ns));
    }
    count("its time in ns", [sample.at_ns])?;
    small("CPUs", sample.topology.cpus.len(), MOST_CPUS)?;
    cpus(sample.topology.cpus.iter().map(|cpu| cpu.id))?;
    let softirq = sample.softirq_ns.iter().flatten();
    cpus(softirq.clone().map(|(cpu, _)| *cpu))?;
    count("the softirq time in ns", softirq.map(|(_, time)| *time))?;
    let segments = sample.tcp.iter().flat_map(|tcp| [tcp.sent, tcp.retransmitted]);
    count("TCP segments", segments)?;
    count("in-kernel failures", sample.health.iter().map(|(_, count)| *count))?;
    if let Some(interrupts) = &sample.interrupts {
        small("CPUs", interrupts.cpus.len(), MOST_CPUS)?;
        cpus(interrupts.cpus.iter().copied())?;
        small("interrupts", interrupts.rows.len(), MOST_QUEUES)?;
        for row in &interrupts.rows {
            small("CPUs", row.counts.len(), MOST_CPUS)?;
            count("interrupts", row.counts.iter().copied())?;
        }
    }
    if sample.flow_sampling.is_some_and(|shift| shift > 63) {
        return Err("flows are sampled one in 2 to the power of more than 63".to_owned());
    }
    small("NICs", sample.nics.len(), MOST_NICS)?;
    for nic in &sample.nics {
        check_nic(nic).map_err(|what| format!("{:?}: {what}", nic.nic.name))?;
    }
    for flow in &sample.flows {
        let on = [flow.softirq_cpu, flow.protocol_cpu, Some(flow.consumer_cpu)];
        cpus(on.into_iter().flatten())?;
        queues(flow.queue)?;
        count("the times of a flow in ns", [flow.first_ns, flow.last_ns])?;
    }
    count("what flows consumed", sample.flows.iter().map(|flow| flow.consumed))?;
    count("mismatches of flows", sample.flows.iter().map(|flow| flow.mismatched))?;
    count("moves of consumers", sample.flows.iter().map(|flow| flow.consumer_moves))
}

fn check_nic(sample: &NicSample) -> Result<(), String> {
    let NicSample { nic, counters } = sample;
    if nic.queues.len() > MOST_QUEUES {
        return Err(format!("{} queues, expected at most {MOST_QUEUES}", nic.queues.len()));
    }
    queues(nic.queues.iter().map(|queue| queue.id))?;
    let table = nic.rss.iter().flat_map(|rss| &rss.table);
    if table.clone().count() > MOST_BUCKETS {
        return Err(format!("more than {MOST_BUCKETS} buckets"));
    }
    queues(table.copied())?;
    if !nic.queues.is_sorted_by_key(|queue| queue.id) {
        return Err("its queues are not in order".to_owned());
    }
    let drops = &nic.drops;
    let drops = [drops.rx_dropped, drops.rx_missed, drops.rx_fifo, drops.tx_dropped];
    count("drops", drops.into_iter().flatten())?;
    count("changes of the carrier", nic.carrier_changes)?;
    count("consumption of unknown queue", [counters.unattributed])?;
    let tables = [
        &counters.queue_packets,
        &counters.queue_consumed,
        &counters.consumed_by_napi,
        &counters.consumed_by_protocol,
    ];
    let tables = tables.into_iter().chain(&counters.load).chain(&counters.demand);
    tables.into_iter().try_for_each(matrix)
}

fn matrix(matrix: &Matrix) -> Result<(), String> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    if !matrix.is_whole() || columns > MOST_CPUS || rows > MOST_QUEUES.max(MOST_BUCKETS) {
        return Err(format!("a table of {rows} rows and {columns} columns"));
    }
    count("the sum of a table", matrix.cells())
}

fn cpus(ids: impl IntoIterator<Item = CpuId>) -> Result<(), String> {
    let too_large = |id: &CpuId| usize::try_from(*id).is_ok_and(|id| id >= MOST_CPUS);
    match ids.into_iter().find(too_large) {
        Some(id) => Err(format!("CPU {id}, expected less than {MOST_CPUS}")),
        None => Ok(()),
    }
}

fn queues(ids: impl IntoIterator<Item = QueueId>) -> Result<(), String> {
    let too_large = |id: &QueueId| usize::try_from(*id).is_ok_and(|id| id >= MOST_QUEUES);
    match ids.into_iter().find(too_large) {
        Some(id) => Err(format!("queue {id}, expected less than {MOST_QUEUES}")),
        None => Ok(()),
    }
}

fn count(what: &str, counts: impl IntoIterator<Item = u64>) -> Result<(), String> {
    let sum: u128 = counts.into_iter().map(u128::from).sum();
    if sum < MOST_COUNT { Ok(()) } else { Err(format!("{what}: {sum}, which cannot be")) }
}
