//! Adding to counters.

use aya_ebpf::maps::PerCpuArray;
use steer_common::{
    cells::{Block, block_of, cell_of},
    health::Health,
};

use crate::maps;

/// Adds one to a counter of this CPU. A counter outside the table is left alone; callers that can
/// go outside check before and count that.
#[inline(always)]
pub(crate) fn add_one(table: &PerCpuArray<Block>, counter: u32) {
    if let Some(block) = table.get_ptr_mut(block_of(counter)) {
        // SAFETY: the map's value is a block of this CPU, and the position is masked to its size.
        // A softirq on the same CPU writes other tables than the task it interrupts.
        unsafe {
            let cell = (&raw mut (*block).cells).cast::<u64>().add(cell_of(counter));
            *cell += 1;
        }
    }
}

/// Notes a failure.
#[inline(always)]
pub(crate) fn note(health: Health) {
    add_one(&maps::HEALTH, health as u32);
}
