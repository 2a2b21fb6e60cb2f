//! `steer replay`: the windows of a recording, as they would have been shown then.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::Exit;
use super::args::ReplayArgs;
use super::output::{note, print, print_line, screen, show, show_json};
use super::recorded::Recorded;
use super::status::window_document;
use crate::report::text;

/// A recording whose machine was suspended must not wait as long here.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let mut recorded = Recorded::open(&args.file)?;
    let header = recorded.header();
    note(&format!(
        "{}: recorded by steer {} on Linux {}, a sample every {} s{}",
        args.file.display(),
        header.version,
        header.facts.kernel_release,
        header.every_s,
        if header.anonymised { ", anonymised" } else { "" }
    ));
    let terminal = std::io::stdout().is_terminal();
    let (mut before, mut windows) = (Duration::ZERO, 0);
    let mut said: Vec<String> = Vec::new();
    while let Some(window) = recorded.next_window()? {
        if args.speed > 0.0 {
            let wait = window.at.saturating_sub(before).div_f64(args.speed.max(1e-6));
            std::thread::sleep(wait.min(LONGEST_WAIT));
        }
        before = window.at;
        windows += 1;
        let document = window_document(&recorded, &window, false);
        if args.json {
            if !show_json(&document)? {
                return Ok(Exit::Done);
            }
            continue;
        }
        if terminal && args.speed > 0.0 {
            // Home and clear, so that each window overwrites the last.
            print("\x1b[H\x1b[2J")?;
        }
        print_line(&format!("+{:.1} s", window.at.as_secs_f64()))?;
        if !show(&text::status_on(&document, screen()))? {
            return Ok(Exit::Done);
        }
        let nics = window.daemon.iter().flat_map(|status| &status.nics);
        let history: Vec<String> = nics
            .flat_map(|nic| nic.history.iter().map(|line| format!("{}: {line}", nic.name)))
            .collect();
        for line in history.iter().filter(|line| !said.contains(line)) {
            print_line(&format!("daemon: {line}"))?;
        }
        said = history;
    }
    if windows == 0 {
        note(&format!("{} has no whole window: it takes two samples", args.file.display()));
        return Ok(Exit::NotMet);
    }
    Ok(Exit::Done)
}
