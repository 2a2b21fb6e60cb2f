//! Real load balancers under a real load: the default, irqbalance, RFS and steer side by side,
//! and steer through what happens to a load balancer.

mod contender;
mod contest;
mod demo;
mod figures;
mod hot;
mod kill;
mod reload;

use anyhow::{Context, Result};

use self::{
    contender::Contender,
    contest::{BACKEND_ENOUGH, CLIENT_ENOUGH, Contest},
    figures::Results,
};
pub(super) use self::{
    demo::{haproxy as demo_haproxy, nginx as demo_nginx},
    hot::run as hot_client,
    kill::run as killed,
    reload::{few as few_reloads, haproxy as haproxy_reloads, nginx as nginx_reloads},
};
use crate::{
    guest::Guest,
    proxy::{Connections, Program, Traffic},
};

/// A connection for each request, as many at a time as keep four workers busy.
const ONE_REQUEST: Traffic =
    Traffic { connections: Connections::OneRequest, tls: false, width: 16 };

/// HAProxy, a request per connection on both sides.
pub(super) fn haproxy(guest: &Guest) -> Result<()> {
    side_by_side(guest, "haproxy", Program::Haproxy, 3)
}

/// nginx, the same.
pub(super) fn nginx(guest: &Guest) -> Result<()> {
    side_by_side(guest, "nginx", Program::Nginx, 3)
}

/// HAProxy with workers on two sockets.
pub(super) fn haproxy_sockets(guest: &Guest) -> Result<()> {
    side_by_side(guest, "haproxy-sockets", Program::Haproxy, 5)
}

/// nginx, the same.
pub(super) fn nginx_sockets(guest: &Guest) -> Result<()> {
    side_by_side(guest, "nginx-sockets", Program::Nginx, 5)
}

fn side_by_side(
    guest: &Guest,
    scenario: &'static str,
    program: Program,
    windows: usize,
) -> Result<()> {
    let contest = Contest::prepare(guest, program, false)?;
    let results = contest.hold(scenario, &ONE_REQUEST, windows)?;
    expect_won(&contest, &results)
}

/// HAProxy under everything that clients do.
pub(super) fn haproxy_mixes(guest: &Guest) -> Result<()> {
    mixes(guest, "haproxy-mixes", Program::Haproxy)
}

/// nginx, the same.
pub(super) fn nginx_mixes(guest: &Guest) -> Result<()> {
    mixes(guest, "nginx-mixes", Program::Nginx)
}

fn mixes(guest: &Guest, scenario: &'static str, program: Program) -> Result<()> {
    let loads = [
        (Connections::OneRequest, false),
        (Connections::OneRequest, true),
        (Connections::KeepAlive, false),
        (Connections::Mixed, false),
    ];
    for backend_keepalive in [false, true] {
        let contest = Contest::prepare(guest, program, backend_keepalive)?;
        for (connections, tls) in loads {
            let traffic = Traffic { connections, tls, ..ONE_REQUEST };
            let results = contest.hold(scenario, &traffic, 5)?;
            for row in &results.rows {
                guest.expect_equal(&format!("failed: {}", row.contender), &row.failed, &0)?;
            }
        }
    }
    Ok(())
}

/// What steer promises, held against the others.
fn expect_won(contest: &Contest, results: &Results) -> Result<()> {
    let guest = contest.guest;
    let row = |contender: Contender| {
        let row = results.row(contender.name());
        row.with_context(|| format!("{} did not take part", contender.name()))
    };
    let (default, rfs, steer) =
        (row(Contender::Default)?, row(Contender::Rfs)?, row(Contender::Steer)?);
    let figures = &steer.figures;
    guest.expect_equal("failed requests", &steer.failed, &0)?;
    guest.expect_within("client side aligned", &figures.client_hard, CLIENT_ENOUGH..)?;
    let ipis = &figures.ipis_per_request;
    guest.expect_within("IPIs per request", ipis, ..default.figures.ipis_per_request)?;
    if !contest.connects {
        guest.say("the side of the servers is left to the hash: this steer has no --connect");
        return Ok(());
    }
    guest.expect_within("backend side aligned", &figures.backend_hard, BACKEND_ENOUGH..)?;
    guest.expect_within("IPIs beside RFS", ipis, ..=rfs.figures.ipis_per_request / 3.0)
}
