//! The trace: which flows there are, how fast each is, and where the workers run. The same for every
//! policy; only which worker takes an accept-steered flow is a policy's own.

use crate::simulate::draw::{Draw, Stream, Weighted, pareto_scale};
use crate::simulate::scenario::{FlowKind, Traffic};

/// A flow that is, or the free place of one that was.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) bucket: usize,
    /// Whether accept steering chooses its worker.
    pub(super) client: bool,
    /// The worker that has it without accept steering.
    pub(super) worker: usize,
    /// Uniform in [0, 1): which of the CPUs around the receiving one takes it.
    pub(super) place: f64,
    /// Moment from which it counts as lasting.
    pub(super) lasting_s: f64,
    group: usize,
    rate: f64,
    ends_s: f64,
}

/// The trace at one tick.
pub(super) struct Trace<'a> {
    traffic: &'a Traffic,
    /// Flows by place; a place is used again when its flow is over.
    pub(super) flows: Vec<Flow>,
    /// Packets per second of each place in this tick; zero where it is free.
    pub(super) rates: Vec<f64>,
    /// Packets per second by bucket.
    pub(super) load: Vec<f64>,
    /// Places that were filled in this tick.
    pub(super) born: Vec<usize>,
    /// CPU of each worker.
    pub(super) cpu_of: Vec<usize>,
    /// Worker on each CPU.
    pub(super) worker_on: Vec<usize>,
    /// Start of the tick.
    pub(super) now_s: f64,
    tick: u32,
    free: Vec<usize>,
    scales: Vec<f64>,
    popularity: Weighted,
    phase: Option<u32>,
    groups: Vec<f64>,
    arrivals: Draw,
    noise: Draw,
    phases: Draw,
    migrations: Draw,
}

/// A flow counts as lasting when it is as old as the planner wants flows to be.
const YOUNG_S: f64 = 0.5;

impl<'a> Trace<'a> {
    /// The trace before its first tick, with as many flows as there are on average.
    pub(super) fn new(traffic: &'a Traffic, seed: u64) -> Self {
        let cpus = traffic.machine.cpus();
        let scale = |kind: &FlowKind| match kind.rate_exponent {
            Some(exponent) => {
                pareto_scale(exponent, traffic.largest_rate(), traffic.mean_rate(kind))
            }
            None => Some(traffic.mean_rate(kind)),
        };
        let mut trace = Self {
            traffic,
            flows: Vec::new(),
            rates: Vec::new(),
            load: vec![0.0; traffic.buckets],
            born: Vec::new(),
            cpu_of: (0..cpus).collect(),
            worker_on: (0..cpus).collect(),
            now_s: 0.0,
            tick: 0,
            free: Vec::new(),
            scales: traffic.flows.iter().map(|kind| scale(kind).unwrap_or(0.0)).collect(),
            popularity: Weighted::default(),
            phase: None,
            groups: Vec::new(),
            arrivals: Draw::new(seed, Stream::Arrivals),
            noise: Draw::new(seed, Stream::Rates),
            phases: Draw::new(seed, Stream::Phases),
            migrations: Draw::new(seed, Stream::Migrations),
        };
        trace.begin_phase();
        for (index, kind) in traffic.flows.iter().enumerate() {
            for _ in 0..kind.active {
                let left_s = residual_life(kind, &mut trace.arrivals);
                trace.add(index, left_s, f64::NEG_INFINITY);
            }
        }
        trace
    }

    /// Goes on by one tick. The first call enters the first.
    pub(super) fn next(&mut self) {
        if self.tick > 0 {
            self.born.clear();
            self.now_s = f64::from(self.tick) * self.traffic.tick_s;
            self.begin_phase();
            self.migrate();
            self.end_flows();
            self.arrive();
        }
        self.tick += 1;
        self.set_rates();
    }

    fn begin_phase(&mut self) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and at most the number of ticks"
        )]
        let phase = (self.now_s / self.traffic.phase_s) as u32;
        if self.phase == Some(phase) {
            return;
        }
        self.phase = Some(phase);
        let Traffic { phase_groups, phase_sigma, popularity_exponent, .. } = *self.traffic;
        self.groups = (0..phase_groups).map(|_| self.phases.lognormal(phase_sigma)).collect();
        let mut ranks: Vec<usize> = (1..=self.cpu_of.len()).collect();
        self.phases.shuffle(&mut ranks);
        self.popularity =
            Weighted::new(ranks.iter().map(|rank| (*rank as f64).powf(-popularity_exponent)));
    }

    /// Swaps workers in pairs.
    fn migrate(&mut self) {
        let workers = self.cpu_of.len();
        let moves = self.traffic.worker_moves_per_min / 60.0 * workers as f64 * self.traffic.tick_s;
        for _ in 0..self.migrations.count(moves / 2.0) {
            let one = self.migrations.below(workers);
            let other = (one + 1 + self.migrations.below(workers - 1)) % workers;
            self.cpu_of.swap(one, other);
            self.worker_on[self.cpu_of[one]] = one;
            self.worker_on[self.cpu_of[other]] = other;
        }
    }

    /// Flows end at the border of ticks that is nearest: lives are as long as drawn on average.
    fn end_flows(&mut self) {
        let border_s = self.now_s + self.traffic.tick_s / 2.0;
        for (place, flow) in self.flows.iter_mut().enumerate() {
            if flow.rate > 0.0 && flow.ends_s <= border_s {
                flow.rate = 0.0;
                self.free.push(place);
            }
        }
    }

    fn arrive(&mut self) {
        for (index, kind) in self.traffic.flows.iter().enumerate() {
            let mean = kind.active as f64 / kind.life_s * self.traffic.tick_s;
            for _ in 0..self.arrivals.count(mean) {
                let life_s = life(kind, &mut self.arrivals);
                self.add(index, life_s, self.now_s + YOUNG_S);
            }
        }
    }

    fn add(&mut self, kind: usize, life_s: f64, lasting_s: f64) {
        let draw = &mut self.arrivals;
        let scale = self.scales[kind];
        let kind = &self.traffic.flows[kind];
        let rate = match kind.rate_exponent {
            Some(exponent) => (scale * draw.pareto(exponent)).min(self.traffic.largest_rate()),
            None => scale,
        };
        let flow = Flow {
            bucket: draw.below(self.traffic.buckets),
            client: kind.clients,
            worker: self.popularity.at(draw.share()),
            place: draw.share(),
            lasting_s,
            group: draw.below(self.traffic.phase_groups),
            rate,
            ends_s: self.now_s + life_s,
        };
        let place = self.free.pop().unwrap_or(self.flows.len());
        if place == self.flows.len() {
            self.flows.push(flow);
            self.rates.push(0.0);
        } else {
            self.flows[place] = flow;
        }
        self.born.push(place);
    }

    fn set_rates(&mut self) {
        self.load.fill(0.0);
        for (flow, rate) in self.flows.iter().zip(&mut self.rates) {
            if flow.rate <= 0.0 {
                *rate = 0.0;
                continue;
            }
            *rate =
                flow.rate * self.groups[flow.group] * self.noise.lognormal(self.traffic.tick_sigma);
            self.load[flow.bucket] += *rate;
        }
        let total: f64 = self.load.iter().sum();
        if self.traffic.steady_total && total > 0.0 {
            let factor = self.traffic.packets_per_s / total;
            self.load.iter_mut().chain(&mut self.rates).for_each(|rate| *rate *= factor);
        }
    }
}

/// Life of a flow that begins.
fn life(kind: &FlowKind, draw: &mut Draw) -> f64 {
    match kind.life_exponent {
        Some(exponent) => shortest_life(kind, exponent) * draw.pareto(exponent),
        None => draw.exponential(kind.life_s),
    }
}

/// What is left of the life of a flow that is met at a random moment: longer lives are met more often.
fn residual_life(kind: &FlowKind, draw: &mut Draw) -> f64 {
    let Some(exponent) = kind.life_exponent else { return draw.exponential(kind.life_s) };
    let shortest = shortest_life(kind, exponent);
    // Density P(life > t) / mean: flat up to the shortest life, then falling by the exponent less one.
    if draw.share() < shortest / kind.life_s {
        shortest * draw.share()
    } else {
        shortest * draw.pareto(exponent - 1.0)
    }
}

fn shortest_life(kind: &FlowKind, exponent: f64) -> f64 {
    kind.life_s * (exponent - 1.0) / exponent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::catalogue;
    use crate::simulate::scenario::Scenario;

    fn traffic(name: &str) -> Traffic {
        match catalogue::find(name).expect("built in") {
            Scenario::Traffic(traffic) => traffic,
            Scenario::Scheduler(_) => panic!("{name} is of the other kind"),
        }
    }

    #[test]
    fn rate_and_number_of_flows_are_those_asked_for() {
        for name in ["long16", "web16", "lb16", "numa64"] {
            let traffic = traffic(name);
            let asked: usize = traffic.flows.iter().map(|kind| kind.active).sum();
            let (mut rate, mut active, mut ticks) = (0.0, 0, 0);
            for seed in 1..=3 {
                let mut trace = Trace::new(&traffic, seed);
                for _ in 0..480 {
                    trace.next();
                    rate += trace.load.iter().sum::<f64>();
                    active += trace.rates.iter().filter(|rate| **rate > 0.0).count();
                    ticks += 1;
                }
            }
            let (rate, active) = (rate / f64::from(ticks), active as f64 / f64::from(ticks));
            assert!((rate / traffic.packets_per_s - 1.0).abs() < 0.15, "{name}: {rate}");
            assert!((active / asked as f64 - 1.0).abs() < 0.05, "{name}: {active}");
        }
    }

    #[test]
    fn workers_stay_one_per_cpu_and_move_as_often_as_asked() {
        let traffic = Traffic { worker_moves_per_min: 60.0, ..traffic("long16") };
        let mut trace = Trace::new(&traffic, 1);
        let mut before = trace.cpu_of.clone();
        let mut moves = 0;
        for _ in 0..400 {
            trace.next();
            moves += before.iter().zip(&trace.cpu_of).filter(|(was, is)| was != is).count();
            before.clone_from(&trace.cpu_of);
            for (worker, cpu) in trace.cpu_of.iter().enumerate() {
                assert_eq!(trace.worker_on[*cpu], worker);
            }
        }
        // 16 workers, one move a second each, 100 seconds; some swap twice within a tick.
        assert!((1300..1700).contains(&moves), "{moves}");
    }

    #[test]
    fn the_same_seed_is_the_same_trace() {
        let traffic = traffic("eleph16");
        let load = |seed| {
            let mut trace = Trace::new(&traffic, seed);
            (0..40).for_each(|_| trace.next());
            trace.load.clone()
        };
        assert_eq!(load(5), load(5));
        assert_ne!(load(5), load(6));
    }
}
