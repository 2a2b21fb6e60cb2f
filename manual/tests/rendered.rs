//! What is generated is complete, and what reads it has nothing to complain about: mandoc and groff of
//! the pages, each shell of its completions.

#![allow(clippy::expect_used, clippy::panic, reason = "in tests a failure is a panic")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use steer_agent::cli::args::Args;
use steer_agent::config::keys::KEYS;
use steer_manual::{completions, pages};

fn run(program: &str, arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).output().unwrap_or_else(|error| {
        panic!("cannot run {program}, which `cargo xtask setup` installs: {error}")
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bold is a letter, a step back and the letter again, where nobody says that it is a terminal.
fn without_overstrikes(shown: &str) -> String {
    let mut plain = String::new();
    for letter in shown.chars() {
        if letter == '\u{8}' {
            plain.pop();
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// Names of all commands, as their pages are called.
fn commands() -> BTreeSet<String> {
    fn walk(command: &clap::Command, name: &str, names: &mut BTreeSet<String>) {
        names.insert(format!("{name}.8"));
        for below in command.get_subcommands() {
            walk(below, &format!("{name}-{}", below.get_name()), names);
        }
    }
    let mut names = BTreeSet::new();
    walk(&Args::command(), "steer", &mut names);
    names
}

#[test]
fn every_command_has_a_page_with_all_its_options() {
    let pages = pages("2026-11-29").expect("rendered");
    let mut expected = commands();
    expected.insert("steer.toml.5".to_owned());
    let names: BTreeSet<String> = pages.iter().map(|page| page.name.clone()).collect();
    assert_eq!(names, expected);
    let mut command = Args::command();
    command.build();
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let name = format!("steer-{}.8", below.get_name());
        let page = pages.iter().find(|page| page.name == name).expect("there");
        let page = text(&page.text).replace("\\-", "-");
        for long in below.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{long}")), "{name} lacks --{long}");
        }
        for section in ["NAME", "SYNOPSIS", "EXIT STATUS", "SEE ALSO"] {
            assert!(page.contains(section), "{name} lacks {section}");
        }
    }
}

#[test]
fn every_key_is_in_its_page() {
    let pages = pages("2026-11-29").expect("rendered");
    let page = pages.iter().find(|page| page.name == "steer.toml.5").expect("there");
    let page = text(&page.text);
    for key in KEYS {
        assert!(page.contains(&format!("\\fB{}\\fR = ", key.name)), "{key:?}");
        assert!(page.contains(&key.variable()), "{key:?}");
    }
}

#[test]
fn mandoc_and_groff_have_nothing_to_complain_about() {
    let dir = tempfile::tempdir().expect("a directory");
    for page in pages("2026-11-29").expect("rendered") {
        let file = dir.path().join(&page.name);
        std::fs::write(&file, &page.text).expect("written");
        // Style is left out, it is about sources that people write; so is space that is left out.
        let lint = run("mandoc", &["-T", "lint", "-W", "warning"], &file);
        let lint = text(&lint.stdout);
        let harmless = |line: &&str| line.contains("skipping paragraph macro");
        let complaints: Vec<&str> = lint.lines().filter(|line| !harmless(line)).collect();
        assert!(complaints.is_empty(), "{}: {complaints:?}", page.name);
        let groff = run("groff", &["-man", "-ww", "-T", "utf8", "-z"], &file);
        assert!(groff.status.success() && groff.stderr.is_empty(), "{}", text(&groff.stderr));
        let shown = run("mandoc", &["-T", "utf8"], &file);
        let shown = without_overstrikes(&text(&shown.stdout));
        assert!(shown.contains("NAME"), "{}: {shown}", page.name);
        for line in shown.lines() {
            assert!(!line.trim_start().starts_with("\\f"), "{}: raw roff: {line}", page.name);
        }
    }
}

#[test]
fn each_shell_reads_its_completions() {
    let dir = tempfile::tempdir().expect("a directory");
    let names: Vec<String> = completions().iter().map(|file| file.name.clone()).collect();
    assert_eq!(names, ["steer", "_steer", "steer.fish"]);
    for (shell, file) in ["bash", "zsh", "fish"].into_iter().zip(completions()) {
        let path = dir.path().join(&file.name);
        std::fs::write(&path, &file.text).expect("written");
        let read = run(shell, &["-n"], &path);
        assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {}", text(&read.stderr));
    }
    // And bash is asked, as when somebody presses the tabulator.
    let ask = |words: &str, at: usize| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={at}; _steer steer \
             \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            dir.path().join("steer").display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
        text(&output.stdout)
    };
    assert_eq!(ask("steer st", 1), "status\n");
    assert_eq!(ask("steer run --on-exit ''", 3), "restore\nkeep\n");
    assert_eq!(ask("steer config sh", 2), "show\n");
}
