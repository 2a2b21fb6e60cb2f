//! A router: packets come in through one NIC and leave through the other, and no process reads them.
//! There is nobody to align with; steer says so and writes nothing.

use anyhow::{Context, Result};

use super::pair::NICS;
use crate::{
    guest::{Guest, ip, spread, write},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    for nic in NICS {
        spread(nic)?;
    }
    write("/proc/sys/net/ipv4/ip_forward", "1")?;
    ip("-n peer route add 10.10.0.0/24 via 10.9.0.1")?;
    ip("-n peer1 route add 10.9.0.0/24 via 10.10.0.1")?;
    let spec = Spec {
        addresses: vec!["10.10.0.2".to_owned()],
        server_in: Some("peer1".to_owned()),
        ..Spec::default()
    };
    let load = Load::start(guest, &spec)?;
    let original: Vec<State> = NICS.iter().map(|nic| State::read(nic)).collect::<Result<_>>()?;

    let plan = guest.steer_expecting(exit::NOT_MET, &["plan", "eth0"])?;
    guest.expect("plan says that nobody reads", plan.contains("no process"), &plan)?;
    let daemon = Daemon::start(guest, &NICS)?;
    guest.await_windows(6)?;
    for nic in NICS {
        let status = guest.status(nic, &[])?;
        let reason = status["reason"].as_str().unwrap_or_default();
        guest.expect_equal("state", &status["state"], &"observing".into())?;
        let what = format!("{nic}: the reason is that nobody reads: {reason}");
        guest.expect(&what, reason.contains("no process"), reason)?;
        let queues = status["queues"].as_array().context("status has no queues")?;
        let packets: f64 = queues.iter().filter_map(|it| it["packets_per_s"].as_f64()).sum();
        guest.expect_within("packets per second all the same", &packets, 500.0..)?;
        let consumed = status["alignment"]["consumed_per_s"].as_f64().unwrap_or(-1.0);
        guest.expect_within("consumption per second", &consumed, 0.0..1.0)?;
        guest.expect_equal("plans", &status["planner"]["plans"], &0.into())?;
    }
    guest.expect_equal("exit code of run", &daemon.terminate()?.code, &exit::DONE)?;
    for (nic, original) in NICS.iter().zip(&original) {
        let difference = original.difference(&State::read(nic)?);
        guest.expect(&format!("{nic} was not written"), difference.is_empty(), difference)?;
    }
    guest.expect_nothing_lost(load)
}
