//! Most of the traffic from one place: first from one client's address, then through one queue.
//! Steering must not make the worker there the bottleneck.

use anyhow::Result;

use super::{
    ONE_REQUEST,
    contender::{Contender, start_steer},
    contest::{Contest, WINDOW},
    figures::Figures,
};
use crate::{
    guest::{Guest, NIC, PEER, PEER_NIC, ip, run as run_program},
    proxy::{Program, Traffic, Wrk},
    steer::exit,
};

/// The busiest worker's connections over the mean.
const FAIR: f64 = 1.5;
/// The other clients' address, and the user whose connections leave from it.
const OTHER: (&str, u32) = ("10.9.0.3", 1000);

pub(crate) fn run(guest: &Guest) -> Result<()> {
    let contest = Contest::prepare(guest, Program::Haproxy, false)?;
    let (address, user) = OTHER;
    let peer = |command: &str| ip(&format!("-n {PEER} {command}"));
    peer(&format!("address add {address}/24 dev {PEER_NIC}"))?;
    peer(&format!("route add 10.9.0.0/24 dev {PEER_NIC} src {address} table 100"))?;
    peer(&format!("rule add uidrange {user}-{user} lookup 100"))?;

    let part = |width| Traffic { width, ..ONE_REQUEST };
    let hot = Wrk::start(guest, &contest.layout, &part(13))?;
    let others = Wrk::start_as(guest, &contest.layout, &part(3), user)?;
    contest.window(WINDOW)?;
    let daemon = start_steer(guest, &contest.layout)?;
    contest.await_alignment()?;
    expect_fair(&contest, "80 % of the connections from one address")?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of steer", &ended.code, &exit::DONE)?;
    contest.settings.restore(guest)?;

    // Ten of thirteen connections come in by queue 0, whatever their address: what a NIC does that
    // hashes by addresses alone.
    let others_weights = vec!["1"; contest.layout.workers.len() - 1];
    let hot_weight = (4 * others_weights.len()).to_string();
    let mut weights = vec!["-X", NIC, "weight", hot_weight.as_str()];
    weights.extend(others_weights);
    run_program("ethtool", &weights)?;
    let daemon = start_steer(guest, &contest.layout)?;
    contest.await_alignment()?;
    expect_fair(&contest, "80 % of the table's entries with one queue")?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of steer", &ended.code, &exit::DONE)?;
    guest.spread()?;
    contest.settings.restore(guest)?;

    let failed = hot.stop()?.failed + others.stop()?.failed;
    guest.expect_equal(&format!("failed beside {}", Contender::Steer.name()), &failed, &0)
}

fn expect_fair(contest: &Contest, what: &str) -> Result<()> {
    let windows = (0..3).map(|_| contest.window(WINDOW)).collect::<Result<Vec<_>>>()?;
    let median = Figures::median(&windows);
    contest.guest.say(format_args!("{what}: client side {:.2} aligned", median.client_hard));
    let busiest = "connections of the busiest worker over its fair share";
    contest.guest.expect_within(busiest, &median.skew, ..=FAIR)
}
