//! Standard output and the exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// How a command ended; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: nothing to do, or what was asked about is not so.
    NotMet,
    /// 2: failed, and nothing is left changed.
    Failed,
    /// 3: failed, and something could not be put back.
    NotRestored,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::NotMet => 1,
            Exit::Failed => 2,
            Exit::NotRestored => 3,
        })
    }
}

/// Writes `text` to standard output. A reader that has gone away (`steer status | head`) is no
/// error: nobody is left to be told.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The same with a line end.
pub(super) fn print_line(text: &str) -> io::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints `value` as one JSON document on one line, as scripts and logs like it.
pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(print_line(&serde_json::to_string(value)?)?)
}

/// A sentence on standard error, as anything that is not the answer itself.
pub(super) fn note(text: &str) {
    // Standard error that cannot be written leaves nobody to tell.
    let _ = writeln!(io::stderr().lock(), "steer: {text}");
}
