//! The main job: a mismatched load is aligned, no request is lost, and everything comes back.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    guest::{Guest, NIC},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

const WINDOW: Duration = Duration::from_secs(3);
const ENOUGH: f64 = 0.90;
/// Less than this is aligned of a load that is worth correcting.
const MISMATCHED: f64 = 0.40;
/// And so much may be looked at again: what is by chance varies a little from window to window.
const STILL_MISMATCHED: f64 = 0.50;
/// What tables can align where all flows can be, but for what the kernel's own connections consume.
pub(super) const NEARLY_ALL: f64 = 0.98;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    guest.expect_within("aligned share before", &load.window(WINDOW)?.share(), ..0.40)?;

    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    guest.expect_within("aligned share after", &load.window(WINDOW)?.share(), ENOUGH..)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;

    let daemon = Daemon::start(guest, &[NIC, "--on-exit", "keep"])?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run --on-exit keep", &ended.code, &exit::DONE)?;
    guest.expect_within("aligned share that is kept", &load.window(WINDOW)?.share(), ENOUGH..)?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    guest.expect_state("after restore", &original)?;
    guest.steer_expecting(exit::NOT_MET, &["restore", NIC])?;

    guest.expect_nothing_lost(load)
}

/// A mismatched load that a table can align: each flow has a bucket of its own.
///
/// Where two of the 16 flows fall into one of 128 buckets and have different workers, as they do in
/// every other load of random ports, no table can align both, and what the other would gain may not be
/// worth an overloaded CPU.
pub(super) fn correctable_load(guest: &Guest) -> Result<Load> {
    correctable(guest, &Spec::default())
}

/// A mismatched load of this kind that a table can align.
pub(super) fn correctable(guest: &Guest, spec: &Spec) -> Result<Load> {
    let spec = Spec { apart: true, ..spec.clone() };
    Load::start_until(guest, &spec, |load| {
        let share = load.window(Duration::from_secs(1))?.share();
        if share < MISMATCHED {
            Ok(Ok(()))
        } else {
            Ok(Err(format!("{share:.2} of it is aligned")))
        }
    })
}

/// A mismatched load of which tables can align at least `enough` by steer's own word: of flows that come in
/// through several NICs, or that are uneven, a bucket each is not all that it takes, for the CPUs have to
/// bear it too.
pub(super) fn correctable_on(
    guest: &Guest,
    nics: &[&str],
    spec: &Spec,
    enough: f64,
) -> Result<Load> {
    let spec = Spec { apart: true, ..spec.clone() };
    Load::start_until(guest, &spec, |load| {
        for nic in nics {
            let (status, counted) = load.window_of(|| guest.status(nic, &["--for", "1s"]))?;
            if counted.share() >= MISMATCHED {
                return Ok(Err(format!("{:.2} of it is aligned", counted.share())));
            }
            // Of three flows steer does not conclude that the table decides their queue.
            if status["mapping"]["verdict"] == "too-few-flows" {
                return Ok(Err(format!("{nic} has too few of its flows")));
            }
            // A NIC whose mapping is unknown has no such figure, and the scenario will tell why.
            if let Some(share) = status["alignment"]["achievable"].as_f64()
                && share <= enough
            {
                return Ok(Err(format!("tables can align {share:.2} of it")));
            }
        }
        Ok(Ok(()))
    })
}

/// A load that a table can align, while a daemon is at it already: it is mismatched only until then.
pub(super) fn alignable_load(guest: &Guest) -> Result<Load> {
    Load::start(guest, &Spec { apart: true, ..Spec::default() })
}

/// A daemon on `nics` aligns every load, loses nothing, and leaves every NIC as it was.
pub(super) fn corrects(guest: &Guest, nics: &[&str], loads: Vec<Load>) -> Result<()> {
    corrects_as(guest, nics, nics, loads)
}

/// The same where the daemon is given other names for `nics`.
pub(super) fn corrects_as(
    guest: &Guest,
    names: &[&str],
    nics: &[&str],
    loads: Vec<Load>,
) -> Result<()> {
    let original: Vec<State> = nics.iter().map(|nic| State::read(nic)).collect::<Result<_>>()?;
    for load in &loads {
        let share = load.window(WINDOW)?.share();
        guest.expect_within("aligned share before", &share, ..STILL_MISMATCHED)?;
    }
    let daemon = Daemon::start(guest, names)?;
    for load in &loads {
        until_aligned(guest, load, &daemon)?;
    }
    for load in &loads {
        guest.expect_within("aligned share after", &load.window(WINDOW)?.share(), ENOUGH..)?;
    }
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    for (nic, original) in nics.iter().zip(&original) {
        let difference = original.difference(&State::read(nic)?);
        let what = format!("{nic}: table, affinities and XPS are as before");
        guest.expect(&what, difference.is_empty(), difference)?;
    }
    for load in loads {
        guest.expect_nothing_lost(load)?;
    }
    Ok(())
}

/// Waits for a second that is aligned, for as long as steer may take.
pub(super) fn until_aligned(guest: &Guest, load: &Load, daemon: &Daemon) -> Result<()> {
    let mut shares = Vec::new();
    for second in 1..=40 {
        let share = load.window(Duration::from_secs(1))?.share();
        shares.push(format!("{share:.2}"));
        if share >= ENOUGH {
            guest.say(format_args!("ok: aligned after {second} s: {}", shares.join(" ")));
            return Ok(());
        }
    }
    for line in daemon.said() {
        guest.say(format_args!("steer: {line}"));
    }
    bail!("not aligned within 40 s: {}", shares.join(" "))
}

impl Guest {
    /// The NIC is set as it was, to the byte.
    pub(super) fn expect_state(&self, when: &str, original: &State) -> Result<()> {
        let difference = original.difference(&State::read(NIC)?);
        let what = format!("{when}, table, affinities and XPS are as before");
        self.expect(&what, difference.is_empty(), difference)
    }

    /// Every request that was sent has had its answer.
    pub(super) fn expect_nothing_lost(&self, load: Load) -> Result<()> {
        let client = load.stop()?;
        self.say(format_args!("{} requests were sent", client.sent));
        self.expect_equal("requests failed or lost", &client.failed, &0)?;
        self.expect_equal("requests without answer", &(client.sent - client.answered), &0)?;
        self.expect_equal("connections made anew", &client.reconnects, &0)
    }
}
