//! steer(8), and a page for each command: steer-status(8), steer-config-check(8) and so on.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use roff::{Roff, bold, roman};
use steer_agent::cli::args::Args;

use crate::{File, PROGRAM};

const SECTION: &str = "8";
const MANUAL: &str = "System Administration";

/// Exit codes, which scripts rely on.
const EXIT_CODES: [(&str, &str); 4] = [
    ("0", "Done."),
    ("1", "There was nothing to do, or what was asked about is not so."),
    ("2", "It failed, and nothing is left changed."),
    ("3", "It failed, and something could not be put back; the error says what."),
];

/// Files and directories.
const FILES: [(&str, &str); 4] = [
    ("/etc/steer/steer.toml", "Configuration, see steer.toml(5); may be absent."),
    (
        "/var/lib/steer",
        "Journals: what was set before steer changed it. `steer restore` works from them. They are \
         there while something is changed, and no longer.",
    ),
    ("/run/steer/daemon-PID.sock", "Socket that `steer status` and `steer top` ask a daemon on."),
    ("/sys/kernel/btf/vmlinux", "Type information of the running kernel, which observing needs."),
];

/// Variables of the environment, beside those of the keys.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("STEER_CONFIG", "The configuration file; it must exist then."),
    (
        "STEER_SECTION_KEY",
        "A key of the configuration, say STEER_RUN_PERIOD; counts for more than the file and less than \
         the command line.",
    ),
    ("STEER_ROOT", "A directory with the host's proc and sys, for containers."),
    ("STEER_LOG", "What is logged on standard error: error, warn (the default), info, debug."),
    ("NO_COLOR", "If set, no colours."),
];

/// All pages.
pub(crate) fn pages(date: &str) -> io::Result<Vec<File>> {
    let mut command = Args::command().disable_help_subcommand(true);
    // Gives the subcommands their full names and the options that all of them take.
    command.build();
    let mut pages = Vec::new();
    add(&command, date, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, date: &str, pages: &mut Vec<File>) -> io::Result<()> {
    if command.is_hide_set() {
        return Ok(());
    }
    let man = Man::new(command.clone())
        .section(SECTION)
        .date(date)
        .manual(MANUAL)
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let below = command.get_subcommands().any(|command| !command.is_hide_set());
    if below {
        man.render_subcommands_section(&mut text)?;
    }
    list(&mut text, "EXIT STATUS", &EXIT_CODES)?;
    if command.get_name() == PROGRAM {
        list(&mut text, "FILES", &FILES)?;
        list(&mut text, "ENVIRONMENT", &ENVIRONMENT)?;
    }
    see_also(&mut text, command)?;
    pages.push(File { name: man.get_filename(), text });
    command.get_subcommands().try_for_each(|command| add(command, date, pages))
}

/// A section of words and what they mean.
fn list(text: &mut impl Write, title: &str, entries: &[(&str, &str)]) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", [title]);
    for (word, meaning) in entries {
        section.control("TP", []).text([bold(*word)]).text([roman(*meaning)]);
    }
    section.to_writer(text)
}

fn see_also(text: &mut impl Write, command: &Command) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", ["SEE ALSO"]);
    let mut pages = vec!["ethtool(8)", "irqbalance(1)"];
    if command.get_name() != PROGRAM {
        pages.insert(0, "steer(8)");
    }
    pages.insert(0, "steer.toml(5)");
    section.text([roman(pages.join(", "))]);
    section.to_writer(text)
}
