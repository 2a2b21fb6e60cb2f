//! A daemon is killed, and then the NIC is renamed, gets another hardware address, or its driver is
//! loaded anew: `restore` finds the device, or says why there is nothing to put back.

use anyhow::Result;

use super::align::{correctable_load, until_aligned};
use crate::{
    guest::{Guest, NIC, ip, read},
    load::Load,
    nic::State,
    steer::{Daemon, exit},
};

const LATER: &str = "lan0";

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;

    killed(guest, &load)?;
    rename(NIC, LATER)?;
    ip(&format!("link add {NIC} type veth peer name other0"))?;
    let refused = guest.steer(&["restore", NIC])?;
    guest.expect_equal(
        "exit code of restore by a name of another",
        &refused.code,
        &exit::FAILED,
    )?;
    let told = refused.stderr.contains("`steer restore lan0` puts that back");
    guest.expect("it says what to do", told, &refused.stderr)?;
    ip(&format!("link del {NIC}"))?;
    let found = guest.steer(&["restore", NIC])?;
    guest.expect_equal("exit code of restore by the old name", &found.code, &exit::DONE)?;
    let told = found.stderr.contains("eth0 is called lan0 now");
    guest.expect("it says which device that is", told, &found.stderr)?;
    rename(LATER, NIC)?;
    guest.expect_state("restored by the old name", &original)?;

    killed(guest, &load)?;
    rename(NIC, LATER)?;
    guest.steer_expecting(exit::DONE, &["restore", LATER])?;
    rename(LATER, NIC)?;
    guest.expect_state("restored by the new name", &original)?;

    killed(guest, &load)?;
    let address = read(&format!("/sys/class/net/{NIC}/address"))?;
    ip(&format!("link set {NIC} address 52:54:00:00:00:77"))?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    ip(&format!("link set {NIC} address {address}"))?;
    guest.expect_state("restored with another hardware address", &original)?;

    killed(guest, &load)?;
    // The clients would wait for a host that has lost its address.
    guest.expect_nothing_lost(load)?;
    guest.load_driver_anew()?;
    let fresh = State::read(NIC)?;
    let stale = guest.steer(&["restore", NIC])?;
    guest.say(format_args!("restore ({}): {}", stale.code, stale.stdout.trim()));
    guest.expect_equal("exit code after a driver loaded anew", &stale.code, &exit::DONE)?;
    let told = stale.stdout.contains("its driver was loaded anew");
    guest.expect("it says why nothing is put back", told, &stale.stdout)?;
    let difference = fresh.difference(&State::read(NIC)?);
    guest.expect("nothing is written blindly", difference.is_empty(), difference)?;
    guest.steer_expecting(exit::NOT_MET, &["restore", NIC])?;

    // And it can be steered as ever.
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(load)
}

/// steer aligns and is killed.
fn killed(guest: &Guest, load: &Load) -> Result<()> {
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, load, &daemon)?;
    daemon.kill()
}

fn rename(from: &str, to: &str) -> Result<()> {
    ip(&format!("link set {from} down"))?;
    ip(&format!("link set {from} name {to}"))?;
    ip(&format!("link set {to} up"))
}
