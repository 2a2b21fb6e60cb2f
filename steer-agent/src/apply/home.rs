//! Back to the CPU that served an interrupt before steer.
//!
//! An affinity of several CPUs does not say which of them is served: the kernel chose one, and while the
//! present one is among those allowed it has no reason to move (`assign_vector_locked`,
//! arch/x86/kernel/apic/vector.c). So an interrupt that steer has sent to CPU 2 stays there when it may go
//! to CPUs 0-3 again, and traffic would arrive elsewhere than before steer although every file reads as
//! before. To be back it is first sent to that one CPU, and allowed the others when it is there.

use crate::model::{CpuId, CpuSet};
use crate::plan::Value;
use crate::sys::Port;

/// Looks at interrupts on their way, [`Port::await_interrupts`] apart: a quarter of a second in all. One
/// that does not fire meanwhile moves later or not at all, and serves nobody.
const LOOKS: u32 = 50;

/// An interrupt and the CPU that it is to go back to.
pub(super) type Home = (u32, CpuId);

/// The home of an interrupt that may go to `affinity` again and was `served_by` a CPU then; none where
/// the affinity says it all.
pub(super) fn of(irq: u32, affinity: &Value, served_by: Option<CpuId>) -> Option<Home> {
    let Value::Cpus(cpus) = affinity else { return None };
    let cpu = served_by.filter(|cpu| cpus.len() > 1 && cpus.contains(*cpu))?;
    Some((irq, cpu))
}

/// The one CPU that serves `irq`, where the kernel tells.
pub(super) fn served_by(irq: u32, port: &dyn Port) -> Option<CpuId> {
    let cpus = port.irq_effective(irq).ok().flatten()?;
    cpus.first().filter(|_| cpus.len() == 1)
}

/// Sends each interrupt home and waits until all have arrived. What is allowed then is for the caller to
/// write; that an interrupt could not be sent shows in [`away`].
pub(super) fn lead(homes: &[Home], port: &dyn Port) {
    let sent: Vec<Home> = homes
        .iter()
        .copied()
        .filter(|&(irq, cpu)| is_away(irq, cpu, port))
        .filter(|&(irq, cpu)| port.set_irq_affinity(irq, &CpuSet::single(cpu)).is_ok())
        .collect();
    for _ in 0..LOOKS {
        if away(&sent, port).is_empty() {
            break;
        }
        port.await_interrupts();
    }
}

/// Those that are not at home, with the CPU that serves them.
pub(super) fn away(homes: &[Home], port: &dyn Port) -> Vec<Home> {
    let away = homes.iter().filter(|&&(irq, cpu)| is_away(irq, cpu, port));
    away.filter_map(|&(irq, _)| Some((irq, served_by(irq, port)?))).collect()
}

fn is_away(irq: u32, home: CpuId, port: &dyn Port) -> bool {
    served_by(irq, port).is_some_and(|cpu| cpu != home)
}
