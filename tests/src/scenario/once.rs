//! Looking writes nothing; `apply` corrects once, and `restore` undoes it.

use std::time::Duration;

use anyhow::Result;

use super::align::correctable_load;
use crate::{
    guest::{Guest, NIC},
    nic::State,
    steer::exit,
};

const WINDOW: Duration = Duration::from_secs(3);

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    let load = correctable_load(guest)?;
    guest.steer_expecting(exit::DONE, &["doctor", NIC])?;
    guest.steer_expecting(exit::DONE, &["plan", NIC])?;
    guest.expect_state("after looking", &original)?;

    guest.steer_expecting(exit::DONE, &["apply", NIC])?;
    guest.expect_within("aligned share after apply", &load.window(WINDOW)?.share(), 0.90..)?;
    guest.steer_expecting(exit::DONE, &["restore", NIC])?;
    guest.expect_state("after apply and restore", &original)?;
    guest.expect_nothing_lost(load)
}
