//! Policies side by side on one trace: the same arrivals, rates, buckets and migrations for all.

mod irqbalance;
mod lane;
mod metrics;
mod policy;
mod rsspp;
#[cfg(test)]
mod tests;
mod trace;

use crate::policy::Policy;

use super::scenario::Traffic;
use lane::Lane;
use trace::Trace;

pub use metrics::{HandOff, Second, TrafficFigures};
pub use policy::TrafficPolicy;

/// One policy on one trace.
#[derive(Clone, Debug)]
pub struct TrafficRun {
    /// The policy.
    pub policy: TrafficPolicy,
    /// Its figures.
    pub figures: TrafficFigures,
    /// Second by second, the warm-up included.
    pub timeline: Vec<Second>,
}

/// Runs `policies` on the trace that `seed` gives; `base` is what steer's are made from. `progress`
/// is told each second that is over.
#[must_use]
pub fn run(
    traffic: &Traffic,
    policies: &[TrafficPolicy],
    base: &Policy,
    seed: u64,
    progress: &mut dyn FnMut(u32),
) -> Vec<TrafficRun> {
    let mut trace = Trace::new(traffic, seed);
    let mut lanes: Vec<Lane<'_>> =
        policies.iter().map(|policy| Lane::new(*policy, traffic, base)).collect();
    let ticks = ticks_per_second(traffic);
    let mut load = vec![0.0; traffic.buckets];
    for second in 0..traffic.seconds {
        load.fill(0.0);
        for _ in 0..ticks {
            trace.next();
            for (sum, rate) in load.iter_mut().zip(&trace.load) {
                *sum += rate * traffic.tick_s;
            }
            for lane in &mut lanes {
                lane.tick(&trace, traffic.tick_s);
            }
        }
        for lane in &mut lanes {
            lane.second(second, &load);
        }
        progress(second + 1);
    }
    lanes.into_iter().map(Lane::finish).collect()
}

fn ticks_per_second(traffic: &Traffic) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a scenario's tick is a second divided by a whole number, 1000 at most"
    )]
    let ticks = (1.0 / traffic.tick_s).round() as u32;
    ticks.max(1)
}
