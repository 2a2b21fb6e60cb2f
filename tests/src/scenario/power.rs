//! The power is cut while steer writes. The boot that follows sets the NIC and its interrupts anew, so
//! what the journal of the earlier boot holds must not be written, and is not in the way either.

use std::{fs, thread, time::Duration};

use anyhow::Result;

use super::{
    align::{correctable_load, until_aligned},
    kill9::await_journal,
};
use crate::{
    guest::{Guest, NIC},
    nic::State,
    steer::{Daemon, exit},
};

const STATE_DIR: &str = "/var/lib/steer";
/// How many milliseconds after its journal appears the power is cut: among the first writes, and when
/// all is written and at work.
const CUTS: [u64; 3] = [0, 3, 3000];

pub(super) fn run(guest: &Guest) -> Result<()> {
    let cuts = guest.disk(STATE_DIR)?;
    guest.spread()?;
    let original = State::read(NIC)?;
    if cuts > 0 {
        // Not a torn one: that would be exit code 2 and the word "damaged".
        let restored = guest.steer(&["restore", NIC])?;
        let said = format!("{}{}", restored.stdout, restored.stderr);
        let known = match restored.code {
            exit::DONE => said.contains("it is of an earlier boot"),
            // The cut came before the journal was on the disk, and so before the first write.
            exit::NOT_MET => said.contains("there is no journal"),
            _ => false,
        };
        guest.expect(&format!("cut {cuts}: restore knows the other boot"), known, said.trim())?;
        guest.expect_state("after that restore", &original)?;
        guest.steer_expecting(exit::NOT_MET, &["restore", NIC])?;
        let files = fs::read_dir(STATE_DIR)?.flatten().map(|entry| entry.file_name());
        let files: Vec<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        let half = files.iter().any(|name| name.ends_with("~new"));
        guest.expect("no half-written journal is left", !half, files.join(" "))?;
    }
    let load = correctable_load(guest)?;
    let daemon = Daemon::start(guest, &[NIC])?;
    if let Some(delay) = CUTS.get(usize::try_from(cuts)?) {
        await_journal()?;
        thread::sleep(Duration::from_millis(*delay));
        guest.say(format_args!("the power is cut {delay} ms after the journal"));
        guest.cut_power();
    }
    until_aligned(guest, &load, &daemon)?;
    let ended = daemon.terminate()?;
    guest.expect_equal("exit code of run after SIGTERM", &ended.code, &exit::DONE)?;
    guest.expect_state("after SIGTERM", &original)?;
    guest.expect_nothing_lost(load)
}
