//! `cargo xtask demo`: steer at work, for somebody who has never seen it.
//!
//! The story itself is a scenario of the guest program; here the machine for it is made and its
//! output is shown as it is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{lab, run::Run, setup};

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Show it beside a real load balancer instead of the lab's own server.
    #[arg(long, value_name = "PROGRAM")]
    lb: Option<Balancer>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Balancer {
    Haproxy,
    Nginx,
}

const INTRODUCTION: &str = "\
steer makes a connection's packets and the thread that reads them meet on one CPU.

This demonstration builds it, boots a small emulated machine with a four-queue network card, puts
a load on it whose packets arrive on the wrong CPUs, and lets steer correct that. Nothing outside
the emulated machine is changed.
";

/// The command.
pub(crate) fn demo(options: &Options) -> Result<()> {
    let scenario = match options.lb {
        None => "demo",
        Some(Balancer::Haproxy) => "demo-haproxy",
        Some(Balancer::Nginx) => "demo-nginx",
    };
    println!("{INTRODUCTION}");
    setup::setup()?;
    println!("\nbuild (some minutes the first time)");
    lab::build()?;
    let machine = lab::machines_of(scenario)?.into_iter().next();
    let machine = machine.with_context(|| format!("{scenario} is meant for no machine"))?;
    println!("\nmachine: {machine}; the network card is emulated with four queues (up in 10 s)\n");
    let start = Instant::now();
    match Run::new(scenario, machine, Duration::from_mins(5)).boot()?.verdict {
        Ok(()) => {
            println!("\nThe machine is off again ({:.0} s).", start.elapsed().as_secs_f64());
            Ok(())
        }
        Err(reason) => bail!("the demonstration failed: {reason}"),
    }
}
