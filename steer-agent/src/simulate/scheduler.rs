//! Long flows, and threads that the kernel's wake-up rules move: does steering chase them in circles?
//!
//! Each thread has flows that stay. In a tick each thread may have something to do; then the softirq
//! of one of its flows, drawn by rate, wakes it on a CPU that [`wakeup`] chooses. Where softirq takes
//! much of a CPU, ksoftirqd may be running there, and to a thread that wakes the CPU is not idle.

mod figures;
mod wakeup;

#[cfg(test)]
mod tests;

use crate::model::{Topology, expected_residency};
use crate::policy::Policy;

use super::draw::{Draw, Stream, pareto_scale};
use super::scenario::Scheduler;
use super::seen::{Changes, Demand, Nic, Seen};
use super::steer::Steer;
use wakeup::Cpus;

use figures::Tally;
pub use figures::{SchedulerFigures, SchedulerPolicy, SchedulerRun};

/// Largest flow, as a share of the average of a CPU.
const LARGEST_FLOW: f64 = 0.8;
/// Packets per second that take all of the softirq time; only ratios matter.
const PACKETS_PER_S: f64 = 1e6;

/// Runs `policies` with the flows and first places that `seed` gives; steer's policy is `base`.
/// `progress` is told each second that is over.
#[must_use]
pub fn run(
    scheduler: &Scheduler,
    policies: &[SchedulerPolicy],
    base: &Policy,
    seed: u64,
    progress: &mut dyn FnMut(u32),
) -> Vec<SchedulerRun> {
    let mut lanes: Vec<Lane<'_>> =
        policies.iter().map(|policy| Lane::new(scheduler, *policy, base, seed)).collect();
    for second in 0..scheduler.seconds {
        for lane in &mut lanes {
            lane.second();
        }
        progress(second + 1);
    }
    lanes.into_iter().map(|lane| lane.tally.finish(lane.policy)).collect()
}

struct Flow {
    bucket: usize,
    rate: f64,
}

struct Thread {
    flows: Vec<Flow>,
    rate: f64,
    cpu: usize,
    moves: u64,
}

struct Lane<'a> {
    scheduler: &'a Scheduler,
    policy: SchedulerPolicy,
    topology: Topology,
    distances: Vec<f64>,
    caches: Vec<usize>,
    nic: Nic,
    threads: Vec<Thread>,
    load: Vec<f64>,
    time_per_packet: f64,
    demand: Demand,
    steer: Option<Steer>,
    wakeups: Draw,
    tally: Tally,
}

impl<'a> Lane<'a> {
    fn new(scheduler: &'a Scheduler, policy: SchedulerPolicy, base: &Policy, seed: u64) -> Self {
        let cpus = scheduler.machine.cpus();
        let threads = threads(scheduler, seed);
        let mut load = vec![0.0; scheduler.buckets];
        for flow in threads.iter().flat_map(|thread| &thread.flows) {
            load[flow.bucket] += flow.rate;
        }
        let per_llc = usize::try_from(scheduler.machine.cpus_per_llc).unwrap_or(usize::MAX);
        Self {
            scheduler,
            policy,
            topology: scheduler.machine.topology(),
            distances: scheduler.machine.distances(),
            caches: (0..cpus).map(|cpu| cpu / per_llc).collect(),
            nic: Nic::new(scheduler.buckets, cpus, cpus),
            threads,
            time_per_packet: scheduler.mean_softirq * cpus as f64 / load.iter().sum::<f64>(),
            load,
            demand: Demand::new(scheduler.buckets, cpus),
            steer: (policy == SchedulerPolicy::Steer).then(|| Steer::new(base.clone())),
            wakeups: Draw::new(seed, Stream::Wakeups),
            tally: Tally::new(scheduler),
        }
    }

    fn second(&mut self) {
        self.demand.clear();
        for thread in &mut self.threads {
            thread.moves = 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a scenario's tick is a second divided by a whole number, 1000 at most"
        )]
        let ticks = (1.0 / self.scheduler.tick_s).round() as u32;
        let softirq = self.softirq();
        for _ in 0..ticks.max(1) {
            self.wake_threads(&softirq);
            self.consume();
        }
        let migrations = self.threads.iter().map(|thread| thread.moves).sum();
        let changes = self.steer();
        self.tally.second(changes, migrations);
    }

    /// Softirq time of each CPU, as a share of it.
    fn softirq(&self) -> Vec<f64> {
        let mut softirq = vec![0.0; self.topology.cpus.len()];
        for (bucket, load) in self.load.iter().enumerate() {
            softirq[self.nic.host(bucket)] += load * self.time_per_packet;
        }
        softirq
    }

    fn wake_threads(&mut self, softirq: &[f64]) {
        let Scheduler { ksoftirqd_from, ksoftirqd_always, thread_busy, .. } = *self.scheduler;
        let draw = &mut self.wakeups;
        let range = (ksoftirqd_always - ksoftirqd_from).max(1e-9);
        let busy: Vec<bool> = softirq
            .iter()
            .map(|time| draw.share() < ((time - ksoftirqd_from) / range).clamp(0.0, 1.0))
            .collect();
        let mut cpus = Cpus::new(&self.caches, busy);
        let mut order: Vec<usize> = (0..self.threads.len()).collect();
        draw.shuffle(&mut order);
        for index in order {
            if draw.share() >= thread_busy {
                continue;
            }
            let thread = &mut self.threads[index];
            let mut left = draw.share() * thread.rate;
            let waker = thread.flows.iter().find(|flow| {
                left -= flow.rate;
                left < 0.0
            });
            let Some(waker) = waker.or(thread.flows.last()) else { continue };
            let to = cpus.wake(self.nic.host(waker.bucket), thread.cpu);
            if to != thread.cpu {
                thread.cpu = to;
                thread.moves += 1;
            }
        }
    }

    fn consume(&mut self) {
        let cpus = self.topology.cpus.len();
        for thread in &self.threads {
            for flow in &thread.flows {
                let packets = flow.rate * self.scheduler.tick_s;
                let host = self.nic.host(flow.bucket);
                self.demand.add(flow.bucket, thread.cpu, packets);
                let distance = self.distances[host * cpus + thread.cpu];
                self.tally.consume(packets, host == thread.cpu, distance);
            }
        }
    }

    fn steer(&mut self) -> Changes {
        let Some(steer) = &mut self.steer else { return Changes::default() };
        let rate: f64 = self.threads.iter().map(|thread| thread.rate).sum();
        let stayed: f64 =
            self.threads.iter().map(|thread| thread.rate * expected_residency(thread.moves)).sum();
        let next = steer.period(&Seen {
            topology: &self.topology,
            nic: &self.nic,
            load: &self.load,
            lasting: &self.demand,
            residency: Some(stayed / rate),
            time_per_packet: self.time_per_packet,
        });
        self.nic.become_like(next, &self.load)
    }
}

/// Threads on CPUs of their own as far as there are enough, and their flows.
fn threads(scheduler: &Scheduler, seed: u64) -> Vec<Thread> {
    let mut rates = Draw::new(seed, Stream::Rates);
    let mut places = Draw::new(seed, Stream::Arrivals);
    let mut cpus: Vec<usize> = (0..scheduler.machine.cpus()).collect();
    places.shuffle(&mut cpus);
    let largest = LARGEST_FLOW * PACKETS_PER_S / cpus.len() as f64;
    let flows = scheduler.threads * scheduler.flows_per_thread;
    let mean = (PACKETS_PER_S / flows as f64).min(largest);
    let scale = pareto_scale(scheduler.rate_exponent, largest, mean).unwrap_or(mean);
    let mut flow = || Flow {
        bucket: places.below(scheduler.buckets),
        rate: (scale * rates.pareto(scheduler.rate_exponent)).min(largest),
    };
    (0..scheduler.threads)
        .map(|thread| {
            let flows: Vec<Flow> = (0..scheduler.flows_per_thread).map(|_| flow()).collect();
            let rate = flows.iter().map(|flow| flow.rate).sum();
            Thread { flows, rate, cpu: cpus[thread % cpus.len()], moves: 0 }
        })
        .collect()
}
