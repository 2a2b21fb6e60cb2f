//! Did the replies of steered connections come where they were to?

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::{CpuId, Flow, QueueId, bucket_of};

/// A connection that was steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// This end, with the address that was expected.
    pub local: SocketAddr,
    /// The far end.
    pub remote: SocketAddr,
    /// The bucket that its replies were to come to.
    pub bucket: u32,
    /// The CPU that connected.
    pub cpu: CpuId,
    /// When, on the clock of [`Flow::last_ns`].
    pub at_ns: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its replies came to that bucket.
    Hit {
        /// And were consumed on the CPU that polls their queue.
        aligned: bool,
    },
    /// They came elsewhere, or the kernel chose another address than expected.
    Miss,
}

/// Compares steered connections with the flows that were seen; one that was not seen (yet) has no
/// entry. `table` is the queue by bucket.
#[must_use]
pub fn see(steered: &[Seen], flows: &[Flow], table: &[QueueId]) -> Vec<(Seen, Verdict)> {
    // By far end and port: the address of this end is part of what is checked.
    let mut wanted: HashMap<(SocketAddr, u16), &Seen> =
        steered.iter().map(|seen| ((seen.remote, seen.local.port()), seen)).collect();
    let mut verdicts = Vec::new();
    for flow in flows.iter().filter(|flow| flow.addr.protocol == 6) {
        let ends = (flow.addr.remote, flow.addr.local.port());
        // A flow that was last read before the connection was made is an earlier one.
        let Some(seen) = wanted.get(&ends).filter(|seen| flow.last_ns > seen.at_ns) else {
            continue;
        };
        let Some(queue) = flow.queue else { continue };
        let came = match flow.hash.filter(|_| !flow.hash_computed) {
            Some(hash) => bucket_of(hash, table.len()) == usize::try_from(seen.bucket).ok(),
            None => table.get(seen.bucket as usize) == Some(&queue),
        };
        let verdict = if came && flow.addr.local == seen.local {
            Verdict::Hit { aligned: flow.softirq_cpu == Some(flow.consumer_cpu) }
        } else {
            Verdict::Miss
        };
        verdicts.push((**seen, verdict));
        wanted.remove(&ends);
    }
    verdicts
}

/// Hits and misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Replies that came where they were to.
    pub hits: u64,
    /// Of those, consumed on the CPU that polls their queue.
    pub aligned: u64,
    /// Replies that came elsewhere.
    pub misses: u64,
}

impl Tally {
    /// Share of hits from which steering goes on.
    pub const ENOUGH: f64 = 0.99;
    /// Fewer than this prove nothing, and one miss never does.
    pub const FEWEST: u64 = 32;

    /// Adds one.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Hit { aligned } => {
                self.hits += 1;
                self.aligned += u64::from(aligned);
            }
            Verdict::Miss => self.misses += 1,
        }
    }

    /// Replies that were seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.hits + self.misses
    }

    /// Share of hits; `None` where nothing was seen.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.seen() > 0).then(|| self.hits as f64 / self.seen() as f64)
    }

    /// Whether too many came elsewhere.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.seen() >= Self::FEWEST
            && self.misses >= 2
            && self.share().is_some_and(|share| share < Self::ENOUGH)
    }

    /// Forgets half, so that what happened long ago weighs less.
    fn fade(&mut self) {
        let half = |count: u64| count - count / 2;
        *self =
            Self { hits: half(self.hits), aligned: half(self.aligned), misses: self.misses / 2 };
    }
}

/// Keeps count, in all and by far end.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// Since the start, for the reader.
    pub total: Tally,
    recent: Tally,
    by_remote: HashMap<IpAddr, Tally>,
}

impl Judge {
    /// Replies after which old ones weigh half.
    const MEMORY: u64 = 2048;
    /// Far ends that are told apart. Where there are more, those with the fewest replies are forgotten.
    const REMOTES: usize = 4096;

    /// Adds what was seen.
    pub fn add(&mut self, verdicts: &[(Seen, Verdict)]) {
        for (seen, verdict) in verdicts {
            let remote = self.by_remote.entry(seen.remote.ip()).or_default();
            for tally in [&mut self.total, &mut self.recent, remote] {
                tally.add(*verdict);
            }
        }
        if self.recent.seen() > Self::MEMORY {
            self.recent.fade();
            self.by_remote.values_mut().for_each(Tally::fade);
        }
        if self.by_remote.len() > Self::REMOTES {
            self.by_remote.retain(|_, tally| tally.seen() >= Tally::FEWEST);
        }
    }

    /// Far ends whose replies do not come where they are to (their addresses are translated on the
    /// way, or their route is not what it seems), with what was seen. They are counted out of the rest
    /// and begin anew.
    pub fn take_unpredictable(&mut self) -> Vec<(IpAddr, Tally)> {
        let bad: Vec<(IpAddr, Tally)> = self
            .by_remote
            .iter()
            .filter(|(_, tally)| tally.is_bad())
            .map(|(remote, tally)| (*remote, *tally))
            .collect();
        // Where most are bad it is not they that are to blame.
        if bad.len() * 2 > self.by_remote.len() {
            return Vec::new();
        }
        for (remote, tally) in &bad {
            self.by_remote.remove(remote);
            self.recent.hits = self.recent.hits.saturating_sub(tally.hits);
            self.recent.misses = self.recent.misses.saturating_sub(tally.misses);
        }
        bad
    }

    /// What is seen now, where that is too little to go on with.
    #[must_use]
    pub fn objection(&self) -> Option<Tally> {
        self.recent.is_bad().then_some(self.recent)
    }

    /// Begins anew, but for the totals.
    pub fn forget(&mut self) {
        self.recent = Tally::default();
        self.by_remote.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testkit::flow;

    const TABLE: [QueueId; 4] = [0, 1, 2, 3];

    fn seen(flow: &Flow, bucket: u32) -> Seen {
        Seen { local: flow.addr.local, remote: flow.addr.remote, bucket, cpu: 1, at_ns: 5 }
    }

    #[test]
    fn a_reported_hash_or_else_the_queue_decides() {
        let mut reported = flow(5, 1, 1); // its hash is 5: bucket 1 of 4
        assert_eq!(
            see(&[seen(&reported, 1)], &[reported.clone()], &TABLE),
            [(seen(&reported, 1), Verdict::Hit { aligned: true })]
        );
        assert_eq!(see(&[seen(&reported, 2)], &[reported.clone()], &TABLE)[0].1, Verdict::Miss);
        reported.hash_computed = true;
        assert_eq!(
            see(&[seen(&reported, 1)], &[reported.clone()], &TABLE)[0].1,
            Verdict::Hit { aligned: true }
        );
        reported.queue = Some(2);
        assert_eq!(see(&[seen(&reported, 1)], &[reported.clone()], &TABLE)[0].1, Verdict::Miss);
        reported.queue = None;
        assert_eq!(see(&[seen(&reported, 1)], &[reported], &TABLE), []);
    }

    #[test]
    fn another_address_is_a_miss_and_an_old_flow_is_none() {
        let mut elsewhere = flow(1, 1, 1);
        let expected = seen(&elsewhere, 1);
        elsewhere.addr.local.set_ip("10.9.9.9".parse().expect("an address"));
        assert_eq!(see(&[expected], &[elsewhere.clone()], &TABLE)[0].1, Verdict::Miss);
        elsewhere.last_ns = 4;
        assert_eq!(see(&[expected], &[elsewhere], &TABLE), []);
    }

    fn many(judge: &mut Judge, remote: &str, hits: u64, misses: u64) {
        let mut one = seen(&flow(1, 1, 1), 1);
        one.remote.set_ip(remote.parse().expect("an address"));
        let verdicts = (0..hits).map(|_| Verdict::Hit { aligned: true });
        let verdicts = verdicts.chain((0..misses).map(|_| Verdict::Miss));
        judge.add(&verdicts.map(|verdict| (one, verdict)).collect::<Vec<_>>());
    }

    #[test]
    fn below_99_in_100_it_objects() {
        let mut judge = Judge::default();
        many(&mut judge, "10.0.0.2", 30, 1);
        assert_eq!(judge.objection(), None, "31 prove nothing");
        many(&mut judge, "10.0.0.2", 1, 0);
        assert_eq!(judge.objection(), None, "one miss does not either");
        many(&mut judge, "10.0.0.2", 166, 1);
        assert_eq!(judge.objection().map(|tally| (tally.hits, tally.misses)), Some((197, 2)));
        assert!(judge.take_unpredictable().is_empty(), "the only far end is not to blame");
        many(&mut judge, "10.0.0.2", 1, 0);
        assert_eq!(judge.objection(), None, "198 of 200 are 99 %");
    }

    #[test]
    fn a_far_end_of_its_own_kind_is_counted_out() {
        let mut judge = Judge::default();
        many(&mut judge, "10.0.0.2", 300, 0);
        many(&mut judge, "10.0.0.3", 300, 0);
        many(&mut judge, "10.0.0.4", 10, 30);
        assert!(judge.objection().is_some());
        let bad = judge.take_unpredictable();
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].0.to_string(), "10.0.0.4");
        assert_eq!(judge.objection(), None);
        assert_eq!(judge.total.seen(), 640);
    }

    #[test]
    fn the_past_fades_and_memory_is_bounded() {
        let mut judge = Judge::default();
        many(&mut judge, "10.0.0.2", 100_000, 0);
        for _ in 0..8 {
            many(&mut judge, "10.0.0.2", 400, 10);
        }
        assert!(judge.objection().is_some(), "a hundred thousand old hits do not hide it");
        for remote in 0..5000u32 {
            many(&mut judge, &std::net::Ipv4Addr::from(remote).to_string(), 1, 0);
        }
        assert!(judge.by_remote.len() <= Judge::REMOTES);
    }
}
