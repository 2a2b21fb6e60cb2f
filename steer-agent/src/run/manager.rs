//! What the service manager is told, `sd_notify`(3): that steer is ready, alive, reading its configuration
//! again, or about to end. Where no manager listens (no `NOTIFY_SOCKET`), nothing is sent.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::report::{NicStatus, Status};

/// A sentence that has not changed in kind is sent again after this: each one is a message on the bus.
const SENTENCE_EVERY: Duration = Duration::from_secs(10);
/// A control loop that has missed so many periods, and the manager's own time, hangs.
const PERIODS: u32 = 4;

/// The service manager, as far as there is one.
pub(super) struct Manager {
    /// Within what it wants a sign of life, if it does; as the unit says.
    watchdog: Option<Duration>,
    /// When the last sentence was sent, and what each NIC was doing then.
    told: Option<(Instant, Vec<String>)>,
}

impl Manager {
    /// The one that started this process, if any.
    pub(super) fn find() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), told: None }
    }

    /// What is to be observed is seen, or the configuration has been read again: looks follow each other
    /// after `period`, and the watchdog counts.
    pub(super) fn ready(&self, period: Duration) {
        self.widen(period);
        tell(&[NotifyState::Ready]);
    }

    /// A look every `period` must be enough to stay alive.
    fn widen(&self, period: Duration) {
        if let Some(watchdog) = self.watchdog {
            let within = watchdog.max(period * PERIODS);
            let within_us = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
            tell(&[NotifyState::WatchdogUsec(within_us)]);
        }
    }

    /// A period is over, and this is what it came to. Nothing but a look that was made says so.
    pub(super) fn alive(&mut self, status: &Status, now: Instant) {
        if self.watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        let each = status.nics.iter().map(|nic| format!("{} {}", nic.name, nic.state.name()));
        let words: Vec<String> = each.collect();
        let due = self.told.as_ref().is_none_or(|(at, earlier)| {
            *earlier != words || now.saturating_duration_since(*at) >= SENTENCE_EVERY
        });
        // The first look after an interruption has no NICs yet.
        if due && !words.is_empty() {
            tell(&[NotifyState::Status(&sentence(&status.nics))]);
            self.told = Some((now, words));
        }
    }

    /// The configuration is read again.
    pub(super) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("the service manager is not told of the reload: {error}"),
        }
    }

    /// What was changed is about to be put back.
    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }
}

/// What `systemctl status` shows.
fn sentence(nics: &[NicStatus]) -> String {
    let percent = |share: Option<f64>| share.map(|share| format!("{:.0} %", share * 100.0));
    let one = |nic: &NicStatus| {
        let aligned = match (percent(nic.alignment.share), percent(nic.alignment.achievable)) {
            (Some(share), Some(achievable)) => {
                format!(", {share} aligned, {achievable} achievable")
            }
            (Some(share), None) => format!(", {share} aligned"),
            (None, _) => ", nothing is consumed".to_owned(),
        };
        format!("{} {}{aligned}", nic.name, nic.state.name())
    };
    nics.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager is not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NicWorld;
    use crate::plan::Plan;
    use crate::report::NicState;

    fn status(name: &str, share: Option<f64>, achievable: Option<f64>) -> NicStatus {
        let (world, plan) = (crate::model::World::default(), Plan::default());
        let nic = NicWorld::default();
        let mut status = NicStatus::new(&world, &nic, &plan, NicState::Steering, None);
        name.clone_into(&mut status.name);
        status.alignment.share = share;
        status.alignment.achievable = achievable;
        status
    }

    #[test]
    fn a_sentence_for_each_nic() {
        let nics = [status("eth0", Some(0.971), Some(1.0)), status("eth1", None, None)];
        assert_eq!(
            sentence(&nics),
            "eth0 steering, 97 % aligned, 100 % achievable; eth1 steering, nothing is consumed"
        );
        assert_eq!(sentence(&[status("eth0", Some(0.25), None)]), "eth0 steering, 25 % aligned");
    }
}
