//! `steer status --watch` on a terminal: one picture in place of the other, also when the terminal is
//! resized in between.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

use super::output::{is_plain, screen, show};
use crate::report::{Status, text};

/// Shows documents, the latest in place of the one before.
pub(super) struct Picture {
    /// What is shown; none where pictures follow each other, as into a pipe.
    shown: Option<Arc<Mutex<Option<Status>>>>,
}

impl Picture {
    /// On standard output.
    pub(super) fn new() -> Self {
        // A terminal that cannot move its cursor gets one after the other.
        if !io::stdout().is_terminal() || is_dumb() {
            return Self { shown: None };
        }
        let shown = Arc::<Mutex<Option<Status>>>::default();
        let again = Arc::clone(&shown);
        std::thread::spawn(move || {
            on_resize(|| {
                let status = again.lock().unwrap_or_else(PoisonError::into_inner);
                status.as_ref().is_none_or(|status| matches!(paint(status), Ok(true)))
            });
        });
        Self { shown: Some(shown) }
    }

    /// Shows `status`. False where nobody looks any more.
    pub(super) fn show(&self, status: Status) -> io::Result<bool> {
        match &self.shown {
            None => show(&format!("{}\n", text::status_on(&status, screen()))),
            Some(shown) => {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                paint(shown.insert(status))
            }
        }
    }
}

/// Whether the terminal says of itself that it can do nothing.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty())
}

/// Draws over what is there and clears the rest, so that nothing flickers or scrolls.
fn paint(status: &Status) -> io::Result<bool> {
    let screen = screen();
    let text = text::status_on(status, screen);
    let mut picture = String::from("\x1b[H");
    let most = screen.height.unwrap_or(usize::MAX).max(1);
    let lines = text.lines().count();
    // The last line says how much is missing.
    let fits = if lines > most { most - 1 } else { lines };
    for line in text.lines().take(fits) {
        picture += &format!("{line}\x1b[K\n");
    }
    if lines > fits {
        picture += &format!("... {} more lines: make the terminal higher\x1b[K\n", lines - fits);
    }
    picture += "\x1b[J";
    if is_plain() {
        picture = plain(&picture);
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(picture.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Without colours, but with what places the text.
fn plain(picture: &str) -> String {
    picture.split_inclusive('\n').map(plain_line).collect()
}

fn plain_line(line: &str) -> String {
    let marks = ["\x1b[H", "\x1b[J", "\x1b[K"];
    let mut text = anstream::adapter::strip_str(line).to_string();
    if line.starts_with(marks[0]) {
        text.insert_str(0, marks[0]);
    }
    if line.starts_with(marks[1]) {
        text.insert_str(0, marks[1]);
    }
    text.replace('\n', "\x1b[K\n")
}

/// Calls `redraw` whenever the terminal has another size, until it returns false.
fn on_resize(redraw: impl Fn() -> bool) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
        while resized.recv().await.is_some() && redraw() {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_the_text_still_has_its_place() {
        let picture = "\x1b[H\x1b[1meth0\x1b[0m up\x1b[K\nx\x1b[K\n\x1b[J";
        assert_eq!(plain(picture), "\x1b[Heth0 up\x1b[K\nx\x1b[K\n\x1b[J");
    }
}
