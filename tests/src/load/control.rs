//! A Unix socket on which server and client answer one-line commands with a line of JSON.
//!
//! Its name is in the file system, so it is reached from every network namespace.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde::{Serialize, de::DeserializeOwned};

use crate::guest::PATIENCE;

/// Answers commands until one of them is `stop`, whose answer comes from `finish`.
pub(super) fn answer(
    socket: &Path,
    mut command: impl FnMut(&str) -> Result<String>,
    finish: impl FnOnce() -> Result<String>,
) -> Result<()> {
    // Who waits for its name to appear asks at once, so it has that name only when it listens.
    let unnamed = socket.with_extension("new");
    let _ = fs::remove_file(&unnamed);
    let listener = UnixListener::bind(&unnamed)
        .and_then(|listener| fs::rename(&unnamed, socket).map(|()| listener))
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    loop {
        let (stream, _) = listener.accept()?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let line = line.trim_end();
        if line == "stop" {
            writeln!(&stream, "{}", finish()?)?;
            return Ok(());
        }
        writeln!(&stream, "{}", command(line)?)?;
    }
}

/// An answer's text.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Asks the process behind `socket`.
pub(super) fn ask<T: DeserializeOwned>(socket: &Path, command: &str) -> Result<T> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers on {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{command}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    ensure!(!line.is_empty(), "{} gave no answer to {command}", socket.display());
    serde_json::from_str(&line).with_context(|| format!("unexpected answer to {command}: {line}"))
}
