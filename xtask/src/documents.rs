//! `cargo xtask ...` in the documents is what `cargo xtask` takes. That each of them also works is for those
//! who run it: they take from minutes to an hour.

use clap::{CommandFactory as _, error::ErrorKind};
use steer_tests::documents::{Command, all, commands};

use crate::Arguments;

/// Why the words are not taken, if so.
fn refusal(words: &[String]) -> Option<String> {
    let words = words.get(1..)?;
    let error = Arguments::command().try_get_matches_from(words).err()?;
    let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!is_asked_for).then(|| error.to_string())
}

fn is_task(words: &[String]) -> bool {
    words.len() > 1 && words[0] == "cargo" && words[1] == "xtask"
}

#[test]
fn every_task_is_one_that_there_is() {
    let commands: Vec<Command> =
        commands().expect("readable").into_iter().filter(|it| is_task(&it.words)).collect();
    assert!(commands.len() > 10, "the documents have tasks: {}", commands.len());
    let mut wrong: Vec<String> = commands
        .iter()
        .filter_map(|command| Some(format!("{command}: {}", refusal(&command.words)?)))
        .collect();
    for document in all().expect("readable") {
        for (line, span) in &document.spans {
            let words: Vec<String> = span.split_whitespace().map(str::to_owned).collect();
            // `cargo xtask` alone is a name.
            if is_task(&words) && words.len() > 2 {
                let refused = refusal(&words);
                wrong.extend(refused.map(|why| format!("{}:{line}: {span}: {why}", document.name)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
