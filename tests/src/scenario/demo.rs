//! steer shown to somebody who has never seen it; the output is for people.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use super::align::correctable_load;
use crate::{
    guest::{Guest, NIC},
    nic::State,
    steer::{Daemon, exit},
};

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.spread()?;
    let original = State::read(NIC)?;
    chapter(
        1,
        "A load arrives on the wrong CPUs",
        "A server with one worker on each of four CPUs answers requests on 16 connections. The\n\
         network card spreads the packets by a hash, which knows nothing of the workers.",
    );
    println!("(starting the load, some seconds)");
    let load = correctable_load(guest)?;
    show(guest, &["status", NIC])?;
    let before = load.window(Duration::from_secs(2))?.share();

    chapter(
        2,
        "steer corrects it",
        "`steer run eth0` sees where each connection's packets arrive and where it is read. It\n\
         rewrites the card's table and the CPUs of its interrupts, and checks that it helped.",
    );
    println!("$ steer run {NIC} --on-exit keep &");
    let daemon = Daemon::start(guest, &[NIC, "--on-exit", "keep"])?;
    for second in 1..=15 {
        let share = load.window(Duration::from_secs(1))?.share();
        for line in daemon.said() {
            println!("  {line}");
        }
        println!("  after {second:2} s  {:3.0} %  {}", share * 100.0, bar(share));
        if share >= 0.9 {
            break;
        }
    }
    println!("  (share of reads on the CPU of the packet, counted by the server, not by steer)");

    chapter(3, "What that looks like", "The same view as before, now from the running steer.");
    thread::sleep(Duration::from_secs(2));
    show(guest, &["status", NIC])?;
    let after = load.window(Duration::from_secs(2))?.share();

    chapter(
        4,
        "Everything is put back",
        "steer wrote down what it found before its first change. It ends here and leaves its\n\
         settings; `steer restore` undoes them, as it would after a crash.",
    );
    let ended = daemon.terminate()?;
    ensure!(ended.code == exit::DONE, "steer run ended with {}: {}", ended.code, ended.stderr);
    show(guest, &["restore", NIC])?;
    let difference = original.difference(&State::read(NIC)?);
    ensure!(difference.is_empty(), "not restored: {difference}");
    let client = load.stop()?;
    ensure!(client.failed == 0, "{} requests failed", client.failed);

    println!("\nResult: aligned {:.0} % before, {:.0} % after;", before * 100.0, after * 100.0);
    println!("{} requests sent meanwhile, none failed or lost;", client.sent);
    println!("table, interrupts and transmit settings are byte for byte as they were.");
    ensure!(after >= 0.9, "steer did not reach 90 %");
    Ok(())
}

pub(super) fn chapter(number: u32, title: &str, text: &str) {
    println!("\n{number}. {title}\n{text}\n");
}

/// Shows a command with its output, as in a terminal.
pub(super) fn show(guest: &Guest, arguments: &[&str]) -> Result<()> {
    println!("$ steer {}", arguments.join(" "));
    let finished = guest.steer(arguments)?;
    print!("{}", finished.stdout);
    ensure!(finished.code == exit::DONE, "exit code {}: {}", finished.code, finished.stderr);
    Ok(())
}

pub(super) fn bar(share: f64) -> String {
    let full = (1..=40).filter(|step| f64::from(*step) <= share * 40.0).count();
    format!("{}{}", "#".repeat(full), ".".repeat(40 - full))
}
