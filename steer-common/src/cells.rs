//! Counters in blocks.
//!
//! A table of counters (packets by bucket, consumption by queue ...) is a per-CPU array map whose
//! values are blocks of 64 counters rather than single ones. Reading a map costs the agent one
//! system call for each value, whatever its size: 2048 buckets are 32 calls instead of 2048, on
//! kernels that know no batched reading of per-CPU arrays too (before 5.13).

/// Counters in one block. A power of two: the kernel side finds a counter with a shift and a mask,
/// which shows the verifier that the access is in bounds.
pub const CELLS: u32 = 64;

const SHIFT: u32 = CELLS.trailing_zeros();

/// 64 counters: one value of a per-CPU array map.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block {
    /// The counters.
    pub cells: [u64; CELLS as usize],
}

const _: () = assert!(size_of::<Block>() == 512);
crate::plain!(Block);

/// Index of the block that holds a counter.
#[inline(always)]
#[must_use]
pub const fn block_of(counter: u32) -> u32 {
    counter >> SHIFT
}

/// Position of a counter in its block.
#[inline(always)]
#[must_use]
pub const fn cell_of(counter: u32) -> usize {
    (counter & (CELLS - 1)) as usize
}

/// How many blocks hold `counters` counters.
#[must_use]
pub const fn blocks(counters: u32) -> u32 {
    counters.div_ceil(CELLS)
}

/// `counters` rounded up so that the next table begins with a block of its own.
#[must_use]
pub const fn stride(counters: u32) -> u32 {
    blocks(counters) * CELLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_cell() {
        for counter in 0..1000 {
            let back =
                block_of(counter) * CELLS + u32::try_from(cell_of(counter)).expect("below 64");
            assert_eq!(back, counter);
        }
    }

    #[test]
    fn strides_are_whole_blocks() {
        assert_eq!([stride(0), stride(1), stride(64), stride(65)], [0, 64, 64, 128]);
        assert_eq!([blocks(0), blocks(1), blocks(64), blocks(65)], [0, 1, 1, 2]);
    }
}
