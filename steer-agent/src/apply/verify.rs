//! Did it help? Judged by what is observed after a change, never by what was written.
//!
//! Pure: a promise made when the plan was applied, and the worlds that followed.

use std::collections::HashMap;

use crate::model::{CpuId, Driver, MappingVerdict, NicWorld, QueueId, TableWrite, TcpSegments};
use crate::plan::{Change, Host, Target, Value};

/// Consumption below this in a window is too little to judge a share by.
const FEWEST_SAMPLES: u64 = 100;
/// Loss of alignment, as a share of consumption, that counts as harm.
const HARM: f64 = 0.1;
/// Rise of the share of TCP segments that are sent again, and how many, that count as harm.
const RETRANSMITTED: f64 = 0.01;
const FEWEST_RETRANSMITTED: u64 = 50;
/// Share of a CPU in softirq from which on, and rise of the busiest CPU's share, that count as harm:
/// ksoftirqd takes over and what runs there starves.
const SATURATED: f64 = 0.9;
const SOFTIRQ_RISE: f64 = 0.2;
/// Rise of the packets lost for each that is received, and how many a second, that count as harm.
const LOSS: f64 = 0.001;
const FEWEST_LOST_PER_S: f64 = 10.0;

/// What a change was to bring about, and how things were.
#[derive(Clone, Debug, PartialEq)]
pub struct Promise {
    /// What was written.
    pub changes: Vec<Change>,
    /// Share of consumption that was aligned before.
    pub share_before: Option<f64>,
    /// Share that the plan expected.
    pub share_planned: Option<f64>,
    /// The CPU that polled each bucket's queue before.
    polled_by: Vec<Option<CpuId>>,
    /// How often the carrier had changed; `None` also where the write itself takes the link down, as was
    /// permitted: taking it back would do so again.
    carrier_changes: Option<u64>,
    /// Packets lost for each that was received.
    loss: Option<f64>,
    tcp: Option<TcpSegments>,
    busiest: Option<f64>,
}

/// What is to be done about a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It did what it was to do, or at least no harm.
    Keep {
        /// Share that is aligned now.
        share: Option<f64>,
    },
    /// Some queue is still polled elsewhere (a NAPI that never pauses stays on its CPU), or there
    /// was too little traffic to tell.
    Pending(String),
    /// Something is worse than before that other causes have too: a network that loses packets, a virtual
    /// CPU that stood still. Where it lasts it is to be taken back.
    Suspect(String),
    /// The load has changed so much since that what follows says nothing of the change: it stays, and the next
    /// plan is for the load that is there.
    Overtaken(String),
    /// It did harm: take it back.
    TakeBack(String),
}

impl Promise {
    /// Notes how things are while `changes` are made.
    #[must_use]
    pub fn new(
        changes: Vec<Change>,
        before: &NicWorld,
        host: &Host<'_>,
        share_planned: Option<f64>,
    ) -> Self {
        let wrote_table = changes.iter().any(|change| change.target == Target::Table);
        let driver = Driver::of(before.nic.driver.as_deref().unwrap_or_default());
        let resets_link = wrote_table && driver.write == TableWrite::LinkReset;
        Self {
            changes,
            share_before: before.alignment.share,
            share_planned,
            polled_by: polled_by(before),
            carrier_changes: before.nic.carrier_changes.filter(|_| !resets_link),
            loss: loss(before),
            tcp: host.tcp,
            busiest: host.busiest().map(|(_, share)| share),
        }
    }

    /// Judges the first window that lies wholly after the change.
    #[must_use]
    pub fn judge(&self, now: &NicWorld, host: &Host<'_>) -> Verdict {
        if let (Some(before), Some(after)) = (self.carrier_changes, now.nic.carrier_changes)
            && after > before
        {
            return Verdict::TakeBack(format!(
                "the link went down and up ({} times) when the settings were written",
                after - before
            ));
        }
        if now.mapping.verdict() == MappingVerdict::Unverified {
            return Verdict::TakeBack(format!(
                "the new table does not decide the queue: {}",
                now.mapping.evidence()
            ));
        }
        let suspicion = self.suspicion(now, host);
        let or_suspect = |verdict| suspicion.clone().map_or(verdict, Verdict::Suspect);
        let late = self.late(now);
        if now.demand_samples < FEWEST_SAMPLES {
            return or_suspect(Verdict::Pending("too little traffic to judge by".to_owned()));
        }
        if !late.is_empty() {
            let text: Vec<String> = late
                .iter()
                .map(|(queue, cpu, seen)| {
                    format!("queue {queue} is polled on CPU {seen}, not {cpu}")
                })
                .collect();
            return or_suspect(Verdict::Pending(text.join("; ")));
        }
        if let (Some(before), Some(share)) = (self.share_before, now.alignment.share)
            && share + HARM < before
        {
            // A proxy that is reloaded or a worker that moves in this very window makes it fall too. What
            // the settings did to the traffic that is here now shows beside what the old ones would have.
            let shares = [&self.polled_by, &polled_by(now)].map(|cpus| share_if(cpus, now));
            let as_before = shares[0].map(|old| {
                format!(", and this traffic would be at {:.0} % as it was before", old * 100.0)
            });
            let what = format!(
                "alignment fell from {:.0} % to {:.0} %{}",
                before * 100.0,
                share * 100.0,
                as_before.unwrap_or_default()
            );
            return match shares {
                [Some(old), Some(new)] if new + HARM >= old => {
                    or_suspect(Verdict::Keep { share: Some(share) })
                }
                // With the old settings it would have fallen by more than the new ones add to that: few
                // flows in place of many are well off with some settings and not with others, by chance.
                [Some(old), Some(new)] if before - old > old - new => {
                    or_suspect(Verdict::Overtaken(what))
                }
                _ => Verdict::TakeBack(what),
            };
        }
        or_suspect(Verdict::Keep { share: now.alignment.share })
    }

    /// What is worse than before and may be the change's doing.
    fn suspicion(&self, now: &NicWorld, host: &Host<'_>) -> Option<String> {
        if let (Some(before), Some(after), Some(lost_per_s)) =
            (self.loss, loss(now), now.lost_per_s)
            && lost_per_s >= FEWEST_LOST_PER_S
            && after > before + LOSS
        {
            return Some(format!(
                "{lost_per_s:.0} packets/s are lost on receive, {:.1} in a thousand, {:.1} before",
                after * 1000.0,
                before * 1000.0
            ));
        }
        if let (Some(before), Some(after)) = (self.tcp, host.tcp)
            && after.retransmitted >= FEWEST_RETRANSMITTED
            && after.share() > before.share() + RETRANSMITTED
        {
            return Some(format!(
                "TCP sends {:.1} % of all segments again, {:.1} % before",
                after.share() * 100.0,
                before.share() * 100.0
            ));
        }
        if let (Some(before), Some((cpu, after))) = (self.busiest, host.busiest())
            && after > SATURATED
            && after > before + SOFTIRQ_RISE
        {
            return Some(format!(
                "CPU {cpu} spends {:.0} % of its time in softirq, the busiest {:.0} % before",
                after * 100.0,
                before * 100.0
            ));
        }
        None
    }

    /// Queues that were to move and are seen elsewhere: queue, CPU promised, CPU seen.
    fn late(&self, now: &NicWorld) -> Vec<(QueueId, CpuId, CpuId)> {
        self.changes
            .iter()
            .filter_map(|change| match (&change.target, &change.to) {
                (Target::IrqAffinity { queue, .. }, Value::Cpus(cpus)) => {
                    let seen = now.queues.iter().find(|world| world.queue == *queue)?.softirq_cpu?;
                    (!cpus.contains(seen)).then_some((*queue, cpus.first()?, seen))
                }
                _ => None,
            })
            .collect()
    }
}

/// The CPU that polls each bucket's queue; empty without a table.
fn polled_by(world: &NicWorld) -> Vec<Option<CpuId>> {
    let cpus: HashMap<QueueId, CpuId> =
        world.queues.iter().filter_map(|queue| Some((queue.queue, queue.napi_cpu()?))).collect();
    let table = world.nic.rss.as_ref().map_or(&[] as &[QueueId], |rss| &rss.table);
    table.iter().map(|queue| cpus.get(queue).copied()).collect()
}

/// Share of `now`'s demand that would be aligned with buckets polled by `cpus`; `None` where either is
/// unknown.
fn share_if(cpus: &[Option<CpuId>], now: &NicWorld) -> Option<f64> {
    let demand = now.demand_per_s.as_ref().filter(|demand| demand.len() == cpus.len())?;
    let each =
        || demand.iter().zip(cpus).flat_map(|(row, cpu)| row.iter().map(move |at| (cpu, at)));
    let all: f64 = each().map(|(_, (_, rate))| rate).sum();
    let aligned: f64 =
        each().filter(|(cpu, (at, _))| **cpu == Some(*at)).map(|(_, (_, rate))| rate).sum();
    (all > 0.0).then(|| aligned / all)
}

/// Packets lost for each that was received, as far as the NIC says.
fn loss(world: &NicWorld) -> Option<f64> {
    let packets: f64 = world.queues.iter().map(|queue| queue.packets_per_s).sum();
    world.lost_per_s.map(|lost| lost / packets.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Alignment, CpuSet, Mapping, Nic, QueueWorld, Rss, Topology};

    fn world(share: f64, softirq_cpu: CpuId) -> NicWorld {
        NicWorld {
            nic: Nic { carrier_changes: Some(2), ..Nic::default() },
            mapping: Mapping { checked: 100, agreeing: 100, flows: 16, ..Mapping::default() },
            queues: vec![QueueWorld {
                softirq_cpu: Some(softirq_cpu),
                packets_per_s: 1000.0,
                ..QueueWorld::default()
            }],
            alignment: Alignment { share: Some(share), ..Alignment::default() },
            demand_samples: 1000,
            ..NicWorld::default()
        }
    }

    impl Promise {
        fn judged(&self, now: &NicWorld) -> Verdict {
            self.judge(now, &Host::alone(&Topology::default(), None))
        }
    }

    fn promise() -> Promise {
        let change = Change {
            target: Target::IrqAffinity { irq: 24, queue: 0 },
            from: Value::Cpus(CpuSet::single(0)),
            to: Value::Cpus(CpuSet::single(3)),
        };
        let topology = Topology::default();
        let host = Host::alone(&topology, Some(&[(0, 0.2), (3, 0.1)]));
        let mut promise = Promise::new(vec![change], &world(0.25, 0), &host, Some(1.0));
        promise.tcp = Some(TcpSegments { sent: 10_000, retransmitted: 10 });
        promise
    }

    #[test]
    fn a_queue_that_followed_is_kept() {
        assert_eq!(promise().judged(&world(0.97, 3)), Verdict::Keep { share: Some(0.97) });
    }

    #[test]
    fn a_queue_that_stays_is_pending() {
        let verdict = promise().judged(&world(0.25, 0));
        assert_eq!(verdict, Verdict::Pending("queue 0 is polled on CPU 0, not 3".to_owned()));
    }

    #[test]
    fn harm_is_taken_back() {
        let mut flapped = world(0.97, 3);
        flapped.nic.carrier_changes = Some(4);
        let mut lying = world(0.97, 3);
        lying.mapping.agreeing = 30;
        for (now, why) in [
            (flapped, "link went down and up (2 times)"),
            (lying, "does not decide the queue: 30.0 %"),
            (world(0.1, 3), "alignment fell from 25 % to 10 %"),
        ] {
            match promise().judged(&now) {
                Verdict::TakeBack(reason) => assert!(reason.contains(why), "{reason}"),
                other => panic!("{why}: {other:?}"),
            }
        }
    }

    /// Queues with a bucket each, polled and consumed on these CPUs.
    fn consumed(consumers: &[CpuId], polled_by: &[CpuId]) -> NicWorld {
        let queues = polled_by.iter().zip(0..).map(|(&cpu, queue)| QueueWorld {
            queue,
            softirq_cpu: Some(cpu),
            packets_per_s: 1000.0,
            ..QueueWorld::default()
        });
        let aligned = consumers.iter().zip(polled_by).filter(|(a, b)| a == b).count();
        let mut world = world(aligned as f64 / consumers.len() as f64, polled_by[0]);
        world.queues = queues.collect();
        let table = world.queues.iter().map(|queue| queue.queue).collect();
        world.nic.rss = Some(Rss { table, ..Rss::default() });
        world.demand_per_s = Some(consumers.iter().map(|&cpu| vec![(cpu, 500.0)]).collect());
        world
    }

    #[test]
    fn what_the_load_did_is_not_put_down_to_the_settings() {
        let topology = Topology::default();
        let host = Host::alone(&topology, None);
        // Both buckets were consumed where they are polled, but for the write: to CPUs 3 and 1.
        let before = consumed(&[0, 1], &[0, 1]);
        let promise = Promise::new(vec![], &before, &host, Some(1.0));
        // Other workers since: 0 % with these settings, and 0 % with the old ones.
        let others = consumed(&[5, 6], &[3, 1]);
        assert_eq!(promise.judge(&others, &host), Verdict::Keep { share: Some(0.0) });
        // The same workers: the write did it.
        match promise.judge(&consumed(&[0, 1], &[3, 1]), &host) {
            Verdict::TakeBack(why) => {
                let expected =
                    "alignment fell from 100 % to 50 %, and this traffic would be at 100 %";
                assert!(why.starts_with(expected), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_load_that_is_another_proves_nothing_against_the_settings() {
        let topology = Topology::default();
        let host = Host::alone(&topology, None);
        // All aligned, with each of ten buckets consumed where it is polled: CPUs 0 to 9.
        let ten: Vec<CpuId> = (0..10).collect();
        let promise = Promise::new(vec![], &consumed(&ten, &ten), &host, Some(1.0));
        // Where the load is consumed now, by how much of it the old settings would align and the new ones do.
        let elsewhere = |old: CpuId, new: CpuId| {
            let polled: Vec<CpuId> =
                (0..10).map(|at| if at < new { at } else { 20 + at }).collect();
            let at = |at: CpuId| if at < old.max(new) { at } else { 40 + at };
            promise
                .judge(&consumed(&ten.iter().copied().map(at).collect::<Vec<_>>(), &polled), &host)
        };
        // 100 %, then 40 % with the old ones and 20 % with the new: 60 points are the load's, 20 the change's.
        match elsewhere(4, 2) {
            Verdict::Overtaken(why) => assert_eq!(
                why,
                "alignment fell from 100 % to 20 %, and this traffic would be at 40 % as it was before"
            ),
            other => panic!("{other:?}"),
        }
        // 30 and 50: most of it is the change's.
        let verdict = elsewhere(7, 2);
        assert!(matches!(verdict, Verdict::TakeBack(_)), "{verdict:?}");
        // 60 and 10, which is no harm.
        assert_eq!(elsewhere(4, 3), Verdict::Keep { share: Some(0.3) });
    }

    #[test]
    fn a_link_that_was_let_go_down_is_no_harm() {
        let topology = Topology::default();
        let host = Host::alone(&topology, None);
        let table = Change {
            target: Target::Table,
            from: Value::Table(vec![0]),
            to: Value::Table(vec![1]),
        };
        for (driver, taken_back) in [("bnxt_en", false), ("igb", true), ("nobody", true)] {
            let with_driver = |mut world: NicWorld| {
                world.nic.driver = Some(driver.to_owned());
                world
            };
            let before = with_driver(world(0.25, 0));
            let promise = Promise::new(vec![table.clone()], &before, &host, Some(1.0));
            let mut flapped = with_driver(world(0.97, 0));
            flapped.nic.carrier_changes = Some(4);
            let verdict = promise.judge(&flapped, &host);
            assert_eq!(
                matches!(verdict, Verdict::TakeBack(_)),
                taken_back,
                "{driver}: {verdict:?}"
            );
        }
    }

    #[test]
    fn silence_proves_nothing() {
        let mut quiet = world(0.0, 3);
        quiet.demand_samples = 5;
        assert!(matches!(promise().judged(&quiet), Verdict::Pending(_)));
    }

    #[test]
    fn what_may_have_other_causes_is_suspect() {
        let topology = Topology::default();
        // 1000 packets a second, of which 2 were lost before: 2 in a thousand, and 3 are no rise by more
        // than one in a thousand. Of the 12 that are lost now ten are new.
        let losing = |lost_per_s| NicWorld { lost_per_s: Some(lost_per_s), ..world(0.97, 3) };
        let mut before = promise();
        before.loss = loss(&losing(2.0));
        match before.judged(&losing(12.0)) {
            Verdict::Suspect(why) => {
                let expected = "12 packets/s are lost on receive, 12.0 in a thousand, 2.0 before";
                assert_eq!(why, expected);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(before.judged(&losing(3.0)), Verdict::Keep { .. }));
        // One that loses as many all the time has not come to harm now.
        before.loss = loss(&losing(12.0));
        assert!(matches!(before.judged(&losing(12.0)), Verdict::Keep { .. }));
        let now = world(0.97, 3);
        let mut host = Host::alone(&topology, Some(&[(0, 0.2), (3, 0.95)]));
        match promise().judge(&now, &host) {
            Verdict::Suspect(why) => assert!(why.starts_with("CPU 3 spends 95 %"), "{why}"),
            other => panic!("{other:?}"),
        }
        host.softirq_share = Some(&[(0, 0.2), (3, 0.35)]);
        host.tcp = Some(TcpSegments { sent: 10_000, retransmitted: 300 });
        match promise().judge(&now, &host) {
            Verdict::Suspect(why) => assert!(why.contains("3.0 % of all segments"), "{why}"),
            other => panic!("{other:?}"),
        }
        // What certainly is the change's doing comes first.
        let verdict = promise().judge(&world(0.1, 3), &host);
        assert!(matches!(verdict, Verdict::TakeBack(_)), "{verdict:?}");
        // A few are no evidence, however large their share.
        host.tcp = Some(TcpSegments { sent: 100, retransmitted: 30 });
        assert!(matches!(promise().judge(&now, &host), Verdict::Keep { .. }));
    }
}
