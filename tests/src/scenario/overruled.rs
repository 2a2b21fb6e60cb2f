//! What takes the decision from the table: virtual functions beside the NIC (SR-IOV), and kernel threads that
//! poll its queues. It is said, nothing is written meanwhile, and steer goes on when it is over.

use anyhow::Result;

use super::{
    align::{correctable_load, until_aligned},
    events::heard,
};
use crate::{
    guest::{Guest, NIC, write},
    nic::State,
    steer::{Daemon, exit},
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    until_aligned(guest, &load, &daemon)?;

    // The 82576 has two queues beside virtual functions, and as QEMU emulates it packets then come to the first,
    // whatever its table says.
    let functions = format!("/sys/class/net/{NIC}/device/sriov_numvfs");
    write(&functions, "2")?;
    heard(guest, &daemon, "it has 2 RX queues instead of 4")?;
    heard(guest, &daemon, "mapping unverified")?;
    let found = guest.steer(&["doctor", NIC])?.stdout;
    let words = "2 virtual functions (SR-IOV) share the device";
    guest.expect("doctor tells of them", found.contains(words), &found)?;
    write(&functions, "0")?;
    heard(guest, &daemon, "it has 4 RX queues instead of 2")?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;

    let threads = format!("/sys/class/net/{NIC}/threaded");
    write(&threads, "1")?;
    let original = State::read(NIC)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    let words = "its queues are polled by kernel threads";
    heard(guest, &daemon, words)?;
    guest.await_windows(5)?;
    guest.expect_state("with threaded NAPI", &original)?;
    let status = guest.status(NIC, &[])?;
    guest.expect_equal("state", &status["state"].as_str(), &Some("observing"))?;
    let reason = status["reason"].as_str().unwrap_or_default();
    guest.expect("the reason", reason.contains(words), reason)?;
    let next = status["next"].to_string();
    let way_out = format!("echo 0 > {threads}");
    guest.expect("what to do about it", next.contains(&way_out), &next)?;
    write(&threads, "0")?;
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(load)
}
