//! What the unit in deploy/ asks of the program, with the exit codes that it goes by.

#![allow(clippy::expect_used, reason = "in tests a failure is a panic")]

use std::path::Path;
use std::process::Command;

fn steer(dir: &Path, arguments: &[&str], config: &str) -> (i32, String) {
    let file = dir.join("steer.toml");
    std::fs::write(&file, config).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_steer"))
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .arg("--state-dir")
        .arg(dir.join("state"))
        .arg("--runtime-dir")
        .arg(dir.join("run"))
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).replace(&dir.display().to_string(), "DIR");
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn the_unit_starts_only_where_there_is_something_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let ready = |config| steer(dir.path(), &["config", "ready"], config);
    let (code, said) = ready("");
    assert_eq!(code, 1);
    assert_eq!(
        said,
        "nothing to do: `interfaces` in section [run] of DIR/steer.toml names no interface that may be \
         written to (and `dry_run` is not set, which looks at all); `steer status` looks without\n"
    );
    let named = (0, "`run` has something to do: eth0, eth1\n".to_owned());
    assert_eq!(ready("[run]\ninterfaces = [\"eth0\", \"eth1\"]\n"), named);
    assert_eq!(ready("[run]\ndry_run = true\n").0, 0);
    // Not 1: the unit goes on, so that `run` fails where everybody sees it.
    let (code, said) = ready("[run]\ninterface = [\"eth0\"]\n");
    assert_eq!(code, 2, "{said}");
}

#[test]
fn nothing_is_put_back_where_nothing_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let restore = |arguments: &[&str], config| {
        let all = [&["restore", "--all"], arguments].concat();
        steer(dir.path(), &all, config)
    };
    let none = (0, "there is no journal in DIR/state: nothing to restore\n".to_owned());
    assert_eq!(restore(&[], ""), none);
    // One of a NIC that is not here: in the words of the file, and of the end of a run.
    std::fs::create_dir(dir.path().join("state")).expect("made");
    std::fs::write(dir.path().join("state/journal-nowhere0"), "torn").expect("written");
    let (code, said) = restore(&["--as-on-exit"], "[run]\non_exit = \"keep\"\n");
    assert_eq!(code, 0, "{said}");
    assert_eq!(said, "nowhere0: left as corrected, for `run.on_exit` is \"keep\"\n");
    let (code, said) = restore(&["--as-on-exit"], "");
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("steer: nowhere0: "), "{said}");
}

#[test]
fn whoever_asks_a_daemon_only_is_told_that_there_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, said) = steer(dir.path(), &["status", "--daemon"], "");
    assert_eq!(code, 1, "{said}");
}
