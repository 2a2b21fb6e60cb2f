//! irqbalance: interrupts on the device's node only, and no CPU with several while another has less.

use crate::model::Topology;
use crate::simulate::seen::Nic;

/// Seconds between two looks of irqbalance.
pub(super) const PERIOD_S: u32 = 10;

/// The NIC as irqbalance would have it; `load` is each bucket's. The device is on node 0.
pub(super) fn rebalance(nic: &Nic, load: &[f64], topology: &Topology) -> Nic {
    let mut next = nic.clone();
    let near: Vec<bool> = topology.cpus.iter().map(|cpu| cpu.node == Some(0)).collect();
    let home: Vec<usize> = (0..near.len()).filter(|cpu| near[*cpu]).collect();
    let mut queue_load = vec![0.0; nic.affinity.len()];
    for (queue, load) in nic.table.iter().zip(load) {
        queue_load[*queue] += load;
    }
    let mut busy = vec![0.0; near.len()];
    let mut count = vec![0usize; near.len()];
    for (queue, cpu) in nic.affinity.iter().enumerate() {
        busy[*cpu] += queue_load[queue];
        count[*cpu] += 1;
    }
    let mut heaviest: Vec<usize> = (0..queue_load.len()).collect();
    heaviest.sort_by(|a, b| queue_load[*b].total_cmp(&queue_load[*a]).then(a.cmp(b)));
    for queue in heaviest {
        let from = next.affinity[queue];
        let least = home.iter().copied().min_by(|a, b| {
            busy[*a].total_cmp(&busy[*b]).then(count[*a].cmp(&count[*b])).then(a.cmp(b))
        });
        let Some(to) = least else { return next };
        let size = queue_load[queue];
        // Its only interrupt stays with a CPU; a move must not turn the imbalance round.
        let helps = to != from && count[from] > 1 && busy[from] - size >= busy[to] + size;
        if !near[from] || helps {
            next.affinity[queue] = to;
            busy[from] -= size;
            busy[to] += size;
            count[from] -= 1;
            count[to] += 1;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interrupt_per_cpu_of_one_node_stays() {
        let nic = Nic { table: vec![0, 1, 2, 3], affinity: vec![0, 1, 2, 3] };
        let next = rebalance(&nic, &[9.0, 1.0, 0.0, 3.0], &Topology::regular(1, 4, 1));
        assert_eq!(next, nic);
    }

    #[test]
    fn interrupts_come_to_the_node_of_the_device() {
        // CPUs 0 and 1 are near. The two far interrupts go to the less busy CPU each time.
        let nic = Nic { table: vec![0, 1, 2, 3], affinity: vec![0, 1, 2, 3] };
        let next = rebalance(&nic, &[1.0, 2.0, 3.0, 4.0], &Topology::regular(2, 2, 1));
        assert_eq!(next.affinity, [0, 1, 1, 0]);
    }
}
