//! The documents tell the truth: commands are ones that this program takes, and those that need no NIC are
//! run; configurations and examples are read by what reads them; links lead somewhere.
//!
//! What needs a NIC is run by the lab's scenario `manual`. Commands that look at an interface are run here
//! too, over a pair of virtual ones in a network namespace; that takes root, is skipped without it, and
//! fails where it must run (`CI=true`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a failure is a panic, and what is skipped is said on standard output"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command as Program, Output, Stdio};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use steer_agent::cli::args::Args;
use steer_agent::plan::problem::ProblemFile;
use steer_agent::report::Status;
use steer_agent::simulate::scenario::Scenario;
use steer_tests::documents::{self, Command, Document, EXCEPTIONS, Exception, Kind, Needs};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "STEER_TEST_INSIDE";
/// A recording of the lab: igb, Linux 6.12, four CPUs, sixteen flows.
const RECORDING: &str = "tests/fixtures/igb-6.12.steer";

fn all() -> Vec<Document> {
    documents::all().expect("readable")
}

fn commands() -> Vec<Command> {
    documents::commands().expect("readable")
}

/// Why this program does not take the words, if so.
fn refusal(words: &[String]) -> Option<String> {
    match Args::try_parse_from(words) {
        Ok(_) => None,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            None
        }
        Err(error) => error.to_string().lines().next().map(str::to_owned),
    }
}

fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn every_command_is_one_that_steer_takes() {
    let commands: Vec<Command> =
        commands().into_iter().filter(|command| command.steer().is_some()).collect();
    assert!(commands.len() > 20, "the documents have commands: {}", commands.len());
    let wrong: Vec<String> = commands
        .iter()
        .filter_map(|command| Some(format!("{command}: {}", refusal(&command.words)?)))
        .collect();
    assert_none("commands that steer does not take", &wrong);
}

/// In sentences commands are abridged (`steer record --for TIME [--anonymise]`) and named without what they
/// need: then what is there must be.
#[test]
fn every_command_in_a_sentence_has_options_that_are_there() {
    let mut wrong = Vec::new();
    for document in all() {
        for (line, span) in &document.spans {
            let words: Vec<String> = span.split_whitespace().map(str::to_owned).collect();
            if words.first().is_none_or(|word| word != "steer") || words.len() < 2 {
                continue;
            }
            let is_name = |word: &String| word.len() > 1 && *word == word.to_uppercase();
            let stands_for_others = words.iter().any(is_name) || span.contains("...");
            let why = unknown(&words).or_else(|| match Args::try_parse_from(&words) {
                // An option may be named without its value.
                Err(error)
                    if error.kind() == ErrorKind::InvalidValue
                        && !stands_for_others
                        && !words.last().is_some_and(|word| word.starts_with("--")) =>
                {
                    error.to_string().lines().next().map(str::to_owned)
                }
                _ => None,
            });
            wrong.extend(why.map(|why| format!("{}:{line}: {span}: {why}", document.name)));
        }
    }
    assert_none("commands that there are not", &wrong);
}

/// What in the words is neither a command nor an option of it.
fn unknown(words: &[String]) -> Option<String> {
    let root = Args::command();
    let mut command = &root;
    let mut options: BTreeSet<String> = longs(&root);
    for word in &words[1..] {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-');
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or_default();
            if !options.contains(name) && name != "help" && name != "version" {
                return Some(format!("no option --{name}"));
            }
        } else if let Some(subcommand) = command.find_subcommand(word) {
            command = subcommand;
            options.extend(longs(command));
        }
    }
    (command.get_name() == "steer").then(|| "no such command".to_owned())
}

fn longs(command: &clap::Command) -> BTreeSet<String> {
    command.get_arguments().filter_map(|argument| Some(argument.get_long()?.to_owned())).collect()
}

#[test]
fn every_block_says_what_it_is() {
    let mut wrong = Vec::new();
    for document in all() {
        for block in &document.blocks {
            let known = ["haproxy", "ini", "json", "nginx", "text", "toml", "yaml"];
            if let Kind::Language(language) = &block.kind
                && !known.contains(&language.as_str())
            {
                wrong.push(format!(
                    "{}:{}: a fenced block in {language:?}; commands are indented, and of others {known:?} \
                     are known",
                    document.name, block.line
                ));
            }
        }
    }
    assert_none("blocks that no test understands", &wrong);
}

#[test]
fn every_exception_is_still_one() {
    let commands = commands();
    let is_used = |exception: &Exception| {
        let mut those = commands.iter().filter_map(Command::exception);
        those.any(|it| std::ptr::eq(it, exception))
    };
    let is_there = |exception: &Exception| documents::root().join(exception.document).exists();
    let stale: Vec<String> = EXCEPTIONS
        .iter()
        .filter(|exception| is_there(exception) && !is_used(exception))
        .map(|exception| format!("{} in {:?}", exception.begins, exception.document))
        .collect();
    assert_none("exceptions that no document needs", &stale);
    for exception in EXCEPTIONS {
        assert!(!exception.begins.starts_with("steer"), "steer's own commands are all run");
    }
}

#[test]
fn configurations_and_examples_are_read() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for document in all() {
        for block in &document.blocks {
            let Kind::Language(language) = &block.kind else { continue };
            let text = &block.text;
            let result = match language.as_str() {
                "toml" if text.contains("[traffic]") || text.contains("[scheduler]") => {
                    Scenario::parse(text).map(drop).map_err(|error| error.to_string())
                }
                "toml" => checked(text),
                "json" if text.contains("\"buckets\"") => ProblemFile::parse(text)
                    .and_then(|file| file.problem().map(drop))
                    .map_err(|error| error.to_string()),
                "json" => serde_json::from_str::<Status>(text)
                    .map(drop)
                    .map_err(|error| error.to_string()),
                _ => continue,
            };
            read += 1;
            if let Err(why) = result {
                wrong.push(format!("{}:{}: {why}", document.name, block.line));
            }
        }
    }
    assert!(read >= 5, "the documents have examples: {read}");
    assert_none("examples that are wrong", &wrong);
}

/// What `steer config check` says of a configuration.
fn checked(text: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("steer.toml"), text).expect("written");
    let output = steer(dir.path(), &["config", "check", "steer.toml"]);
    if output.status.success() { Ok(()) } else { Err(both(&output)) }
}

fn steer(directory: &Path, arguments: &[&str]) -> Output {
    Program::new(env!("CARGO_BIN_EXE_steer"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("started")
}

fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{} {}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Runs a command in `directory`, and says what is wrong with how it went.
fn run(directory: &Path, command: &Command) -> Option<String> {
    let arguments = command.steer()?;
    if let Some(file) = command.value_of("-o") {
        // The same name may be written to in two places of a document.
        let _ = std::fs::remove_file(directory.join(file));
    }
    // A minute's recording is one of seconds here, and is replayed at once.
    let replay = arguments.first() == Some(&"replay");
    let shorter = |word: &&str| {
        match *word {
            "60s" => "1s",
            "20s" => "2s",
            "10" if replay => "0",
            word => word,
        }
        .to_owned()
    };
    let arguments: Vec<String> = arguments.iter().map(shorter).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = steer(directory, &arguments);
    // 1 is an answer too: there is nothing to do, no configuration, no NIC that could be steered.
    let answered = matches!(output.status.code(), Some(0 | 1));
    let silent = output.stdout.is_empty() && output.stderr.is_empty();
    let is_quiet = command.value_of("-o").is_some();
    (!answered || silent && !is_quiet).then(|| format!("{command}: {}", both(&output)))
}

/// Different commands that need as much as that.
fn needing(needs: Needs) -> Vec<Command> {
    let mut seen = BTreeSet::new();
    let wanted = |command: &Command| {
        command.needs() == Some(needs)
            && command.exception().is_none()
            && seen.insert(command.text.clone())
    };
    commands().into_iter().filter(wanted).collect()
}

#[test]
fn what_needs_no_nic_is_run() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDING);
    let commands = needing(Needs::Nothing);
    assert!(commands.len() >= 5, "the documents have such commands");
    let mut wrong = Vec::new();
    for command in &commands {
        let dir = tempfile::tempdir().expect("a directory");
        let replayed = command.words.get(2).filter(|_| command.words[1] == "replay");
        let file = command.value_of("--from").or(replayed.map(String::as_str));
        if let Some(file) = file {
            std::fs::copy(&recording, dir.path().join(file)).expect("copied");
        }
        if let Some(file) = command.value_of("--config").filter(|file| !file.starts_with('/')) {
            std::fs::write(dir.path().join(file), "").expect("written");
        }
        if command.text.contains("/etc/steer/steer.toml") {
            // The lab has a machine of its own to put that file on.
            continue;
        }
        wrong.extend(run(dir.path(), command));
    }
    assert_none("commands that fail", &wrong);
}

#[test]
fn what_looks_at_an_interface_is_run() {
    in_namespace("what_looks_at_an_interface_is_run", || {
        let dir = tempfile::tempdir().expect("a directory");
        let mut wrong = Vec::new();
        for command in needing(Needs::Look) {
            // A screen and what goes on for ever are for the lab.
            if command.words[1] == "top" || command.words.iter().any(|word| word == "--watch") {
                continue;
            }
            wrong.extend(run(dir.path(), &command));
        }
        assert_none("commands that fail", &wrong);
    });
}

/// Runs `body` in a fresh network namespace with a pair of virtual interfaces, of which one has the name
/// that the documents use.
fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "this test needs root");
        println!("skipped: only root can load programs");
        return;
    }
    let me = std::env::current_exe().expect("this program");
    let script = format!(
        "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && ip link set lo up && \
         ip link add eth0 type veth peer name far && ip link set eth0 up && ip link set far up && \
         exec {} --exact {test} --nocapture",
        me.display()
    );
    let status = Program::new("unshare")
        .args(["--net", "--mount", "sh", "-c", &script])
        .env(INSIDE, "1")
        .status()
        .expect("unshare(1) of util-linux");
    assert!(status.success(), "inside the namespace: {status}");
}

#[test]
fn links_and_paths_lead_somewhere() {
    let documents = all();
    let root = documents::root();
    let mut wrong = Vec::new();
    for document in &documents {
        for (line, target) in document.files() {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            // Tests are named behind their file.
            let file = file.split("::").next().unwrap_or_default();
            let is_there = root.join(file).exists();
            let has_anchor = anchor.is_empty()
                || documents.iter().any(|it| it.name == file && it.anchors.contains(anchor));
            if !is_there || !has_anchor {
                wrong.push(format!("{}:{line}: {target}", document.name));
            }
        }
    }
    assert_none("links to nowhere", &wrong);
}

#[test]
fn the_readme_names_every_document() {
    let documents = all();
    let readme = documents.iter().find(|document| document.name == "README.md").expect("there");
    let linked: BTreeSet<String> = readme.files().into_iter().map(|(_, file)| file).collect();
    let missing: Vec<String> = documents
        .iter()
        .map(|document| document.name.clone())
        .filter(|name| name != "README.md" && !linked.contains(name))
        .collect();
    assert_none("documents that the README does not name", &missing);
}

#[test]
fn made_documents_say_so() {
    for name in ["docs/drivers.md", "docs/metrics.md"] {
        let text = std::fs::read_to_string(documents::root().join(name)).expect("readable");
        let head: String = text.lines().take(4).collect();
        assert!(head.contains("Made from the table in"), "{name}: {head}");
        assert!(head.contains("STEER_ACCEPT=1"), "{name}: {head}");
    }
}
