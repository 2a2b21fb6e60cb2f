//! Two NICs: one daemon steers both, on the same CPUs, and no second daemon gets either of them.

use anyhow::{Result, ensure};

use super::align::{NEARLY_ALL, correctable_on, corrects};
use crate::{
    guest::{Guest, spread},
    load::Spec,
    nic::State,
    steer::{Daemon, exit},
};

pub(super) const NICS: [&str; 2] = ["eth0", "eth1"];

pub(super) fn run(guest: &Guest) -> Result<()> {
    for nic in NICS {
        spread(nic)?;
    }
    let original = State::read(NICS[1])?;
    let daemon = Daemon::start(guest, &NICS[..1])?;
    for names in [&NICS[..1], &NICS[..]] {
        let mut arguments = vec!["run"];
        arguments.extend(names);
        arguments.extend(["--state-dir", "/tmp/other", "--runtime-dir", "/tmp/other"]);
        let refused = guest.steer(&arguments)?;
        let said = refused.stderr.trim();
        guest.say(format_args!("run {names:?} beside it: exit code {}: {said}", refused.code));
        ensure!(refused.code == exit::FAILED && said.contains("eth0"), "no refusal for eth0");
    }
    let difference = original.difference(&State::read(NICS[1])?);
    guest.expect("eth1 was not touched on the way", difference.is_empty(), difference)?;
    // The other NIC is free, also of whoever was refused.
    let second = Daemon::start(
        guest,
        &["eth1", "--dry-run", "--state-dir", "/tmp/other", "--runtime-dir", "/tmp/other"],
    )?;
    guest.expect_equal("exit code of the second", &second.terminate()?.code, &exit::DONE)?;
    guest.expect_equal("exit code of the first", &daemon.terminate()?.code, &exit::DONE)?;

    let spec = |wire: usize| Spec {
        addresses: vec![format!("10.{}.0.1", 9 + wire)],
        client_in: if wire == 0 { "peer".to_owned() } else { format!("peer{wire}") },
        name: format!("lab{wire}"),
        // Half for each, so that both together are what one load is elsewhere.
        rate: 1000,
        ..Spec::default()
    };
    let mut loads = Vec::new();
    for (wire, nic) in NICS.iter().enumerate() {
        loads.push(correctable_on(guest, &[nic], &spec(wire), NEARLY_ALL)?);
    }
    corrects(guest, &NICS, loads)
}
