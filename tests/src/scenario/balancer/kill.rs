//! steer is killed while a load balancer works with its help.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use super::{ONE_REQUEST, contender::start_steer, contest::Contest};
use crate::{
    guest::{Guest, NIC},
    proxy::Program,
    steer::exit,
};

pub(crate) fn run(guest: &Guest) -> Result<()> {
    for program in [Program::Haproxy, Program::Nginx] {
        killed(guest, program)?;
    }
    Ok(())
}

fn killed(guest: &Guest, program: Program) -> Result<()> {
    let contest = Contest::prepare(guest, program, false)?;
    let wrk = contest.load(&ONE_REQUEST)?;
    let daemon = start_steer(guest, &contest.layout)?;
    ensure!(contest.await_alignment()?, "not aligned before the kill");
    daemon.kill()?;
    let after = contest.window(Duration::from_secs(3))?;
    guest.say(format_args!(
        "killed: client side {:.2}, backend side {:.2}",
        after.client_hard, after.backend_hard
    ));
    let pinned = fs::read_dir("/sys/fs/bpf")?.flatten().count();
    guest.expect_equal("programs pinned for good", &pinned, &0)?;

    // A second life finds its way without a restart of the proxy.
    let daemon = start_steer(guest, &contest.layout)?;
    guest.expect("aligned again by the next", contest.await_alignment()?, "it is not")?;
    daemon.kill()?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    contest.settings.restore(guest)?;
    contest.window(Duration::from_secs(1))?;
    let clients = wrk.stop()?;
    guest.say(format_args!("{} requests were answered", clients.answered));
    guest.expect_equal("requests refused or lost", &clients.failed, &0)
}
