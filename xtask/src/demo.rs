//! `cargo xtask demo`: steer at work, for somebody who has never seen it.
//!
//! The story itself is a scenario of the guest program; here the machine for it is made and its
//! output is shown as it is.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    lab::{self, Run},
    machine::{Machine, Nic, Topology},
    setup,
};

const INTRODUCTION: &str = "\
steer makes a connection's packets and the thread that reads them meet on one CPU.

This demonstration builds it, boots a small emulated machine with a four-queue network card, puts
a load on it whose packets arrive on the wrong CPUs, and lets steer correct that. Nothing outside
the emulated machine is changed.
";

/// The command.
pub(crate) fn demo() -> Result<()> {
    println!("{INTRODUCTION}");
    setup::setup()?;
    println!("\nbuild (some minutes the first time)");
    lab::build()?;
    println!("\nmachine: an Intel igb with four queues, kernel 6.12, four CPUs (up in 10 s)\n");
    let machine = Machine { kernel: "6.12".to_owned(), nic: Nic::Igb, topology: Topology::flat(4) };
    let start = Instant::now();
    match Run::new("demo", machine, Duration::from_mins(3)).boot()? {
        Ok(()) => {
            println!("\nThe machine is off again ({:.0} s).", start.elapsed().as_secs_f64());
            Ok(())
        }
        Err(reason) => bail!("the demonstration failed: {reason}"),
    }
}
