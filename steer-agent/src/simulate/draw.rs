//! Random numbers: one seed, several streams that do not disturb each other.

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, Poisson, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

/// What is drawn. Each has a stream of its own, so that one more migration changes no arrival.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Arrivals,
    Rates,
    Phases,
    Migrations,
    Wakeups,
}

/// A stream of random numbers; the generator's algorithm is part of its crate's promise, so a seed
/// means the same trace on every machine and in every release.
pub(super) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        let number = stream as u64;
        Self(Xoshiro256PlusPlus::seed_from_u64(
            seed.wrapping_mul(0x1000_0000_01b3) ^ (number << 56),
        ))
    }

    /// Uniform in [0, 1).
    pub(super) fn share(&mut self) -> f64 {
        self.0.random()
    }

    /// Uniform in 0..`bound`; 0 where `bound` is.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    pub(super) fn shuffle<T>(&mut self, slice: &mut [T]) {
        slice.shuffle(&mut self.0);
    }

    /// A factor with mean one whose logarithm is normal.
    pub(super) fn lognormal(&mut self, sigma: f64) -> f64 {
        let normal: f64 = StandardNormal.sample(&mut self.0);
        (sigma * normal - sigma * sigma / 2.0).exp()
    }

    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        let unit: f64 = Exp1.sample(&mut self.0);
        unit * mean
    }

    /// At least one, with P(X > x) = x to the power of -`exponent`.
    pub(super) fn pareto(&mut self, exponent: f64) -> f64 {
        (1.0 - self.share()).powf(-1.0 / exponent)
    }

    /// How many of something that happens `mean` times on average.
    pub(super) fn count(&mut self, mean: f64) -> usize {
        let Ok(poisson) = Poisson::new(mean) else { return 0 };
        let count: f64 = poisson.sample(&mut self.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of arrivals in a tick; casts saturate"
        )]
        let count = count as usize;
        count
    }
}

/// Chooses an index by weight.
#[derive(Clone, Debug, Default)]
pub(super) struct Weighted(Vec<f64>);

impl Weighted {
    pub(super) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self(sums.collect())
    }

    /// The index that `share` of all weight falls on.
    pub(super) fn at(&self, share: f64) -> usize {
        let Some(total) = self.0.last() else { return 0 };
        let found = self.0.partition_point(|sum| *sum <= share * total);
        found.min(self.0.len() - 1)
    }
}

/// The `scale` for which the mean of `scale` x Pareto, cut at `largest`, is `mean`. `None` where no
/// scale reaches it.
pub(super) fn pareto_scale(exponent: f64, largest: f64, mean: f64) -> Option<f64> {
    if mean <= 0.0 || mean > largest || exponent <= 1.0 {
        return None;
    }
    let mean_of =
        |scale: f64| scale * (exponent - (scale / largest).powf(exponent - 1.0)) / (exponent - 1.0);
    let (mut low, mut high) = (0.0, largest);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if mean_of(middle) < mean {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_rates_have_the_mean_that_was_asked_for() {
        let scale = pareto_scale(1.2, 50.0, 1.0).expect("reachable");
        let mut draw = Draw::new(1, Stream::Rates);
        let count = 200_000;
        let sum: f64 = (0..count).map(|_| (scale * draw.pareto(1.2)).min(50.0)).sum();
        assert!((sum / f64::from(count) - 1.0).abs() < 0.03, "{sum}");
        assert_eq!(pareto_scale(1.2, 50.0, 51.0), None);
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let first = |stream| Draw::new(7, stream).share();
        assert!((first(Stream::Rates) - first(Stream::Rates)).abs() < 1e-12);
        assert!((first(Stream::Rates) - first(Stream::Arrivals)).abs() > 1e-12);
    }

    #[test]
    fn weights_are_chances() {
        let weighted = Weighted::new([1.0, 0.0, 3.0]);
        assert_eq!([0.0, 0.2, 0.25, 0.99].map(|share| weighted.at(share)), [0, 0, 2, 2]);
    }
}
