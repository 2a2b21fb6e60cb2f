//! Standard output and the exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::report::text::Screen;

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
    show(text).map(drop)
}

/// The same, and whether somebody still reads: who prints again and again ends when nobody does.
pub(super) fn show(text: &str) -> io::Result<bool> {
    // Colours only where somebody looks: a terminal, and no `NO_COLOR` (no-color.org).
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether colours are unwanted on standard output.
pub(super) fn is_plain() -> bool {
    anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never
}

/// The terminal, but for the line of the prompt; where the output goes elsewhere there is room for
/// everything.
pub(super) fn screen() -> Screen {
    match terminal_size::terminal_size_of(io::stdout()) {
        // Some terminals do not know their own size.
        Some((terminal_size::Width(columns), terminal_size::Height(lines)))
            if columns > 0 && lines > 1 =>
        {
            Screen { width: usize::from(columns), height: Some(usize::from(lines - 1)) }
        }
        _ => Screen { width: usize::MAX, height: None },
    }
}

/// The same with a line end.
pub(super) fn print_line(text: &str) -> io::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints `value` as one JSON document on one line, as scripts and logs like it.
pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    show_json(value).map(drop)
}

/// The same, and whether somebody still reads.
pub(super) fn show_json(value: &impl serde::Serialize) -> anyhow::Result<bool> {
    Ok(show(&format!("{}\n", serde_json::to_string(value)?))?)
}

/// A sentence on standard error, as anything that is not the answer itself.
pub(super) fn note(text: &str) {
    // Standard error that cannot be written leaves nobody to tell.
    let _ = writeln!(io::stderr().lock(), "steer: {text}");
}
