//! A NIC that takes a table and does not follow it is found out and left alone.

use anyhow::Result;

use crate::{
    guest::{Guest, NIC},
    load::{Load, Spec},
    nic::State,
    steer::{Daemon, exit},
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = Load::start(guest, &Spec::default())?;

    let status = guest.status(NIC, &["--for", "3s"])?;
    expect_unverified(guest, &status)?;

    let daemon = Daemon::start(guest, &[NIC])?;
    guest.await_windows(4)?;
    let status = guest.status(NIC, &[])?;
    expect_unverified(guest, &status)?;
    guest.expect_state("while run looks on", &original)?;
    daemon.terminate()?;
    guest.expect_state("after run", &original)?;

    let applied = guest.steer(&["apply", NIC])?;
    let what = "apply declines with exit code 1";
    guest.expect(what, applied.code == exit::NOT_MET, format_args!("{applied:?}"))?;
    guest.expect_state("after apply", &original)?;
    guest.expect_nothing_lost(load)
}

fn expect_unverified(guest: &Guest, status: &serde_json::Value) -> Result<()> {
    guest.say(format_args!("mapping: {}", status["mapping"]));
    let state = status["state"].as_str().unwrap_or_default();
    guest.expect_equal("state", state, "unverified")?;
    let reason = status["reason"].as_str().unwrap_or_default();
    // The evidence is a figure, whatever the words around it.
    let evidence = reason.chars().any(|c| c.is_ascii_digit());
    guest.expect(&format!("the reason gives evidence: {reason}"), evidence, reason)
}
