//! How many consumptions are looked at one by one.
//!
//! Demand by bucket is counted exactly, always; only what is remembered of single flows is sampled.
//! A touch of that table is a hash look-up and a few cache lines, which at a million consumptions a
//! second is worth saving.

/// Samples of a bucket in a window below which noise looks like change.
const PER_BUCKET: f64 = 30.0;
/// Consumptions per second up to which all are taken: the cost cannot be measured there.
const CHEAP_PER_S: f64 = 20_000.0;
/// Never fewer than one in 2^6: short flows would not be seen at all.
const MOST: u32 = 6;

/// One in `2^shift` consumptions is enough, at this rate over tables of so many buckets in all.
#[must_use]
pub(super) fn shift(consumed_per_s: f64, buckets: usize, window_s: f64) -> u32 {
    let needed_per_s = (PER_BUCKET * buckets as f64 / window_s.max(1e-3)).max(CHEAP_PER_S);
    (0..MOST).find(|shift| consumed_per_s / f64::from(2u32 << shift) < needed_per_s).unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::shift;

    #[test]
    fn a_bucket_keeps_thirty_samples() {
        // 512 buckets at one second need 15,360, below what is cheap; of 100,000 a quarter are 25,000.
        assert_eq!(shift(0.0, 512, 1.0), 0);
        assert_eq!(shift(19_000.0, 512, 1.0), 0);
        assert_eq!(shift(39_999.0, 512, 1.0), 0);
        assert_eq!(shift(40_000.0, 512, 1.0), 1);
        assert_eq!(shift(100_000.0, 512, 1.0), 2);
        // 2048 buckets need 61,440 a second; a million is sixteen times that and a bit.
        assert_eq!(shift(1e6, 2048, 1.0), 4);
        assert_eq!(shift(1e9, 2048, 1.0), 6);
    }
}
