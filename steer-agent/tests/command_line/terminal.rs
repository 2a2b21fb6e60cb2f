//! `steer top` and `steer status --watch` on a real terminal: tmux has one, and tells what is on it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::in_namespace;

/// So long something may take before it has failed.
const FOREVER: Duration = Duration::from_mins(2);
/// What the shell of the terminal says when it waits.
const PROMPT: &str = "ready>";

/// A terminal with a shell in it.
struct Terminal {
    dir: tempfile::TempDir,
    socket: PathBuf,
}

impl Terminal {
    fn open(columns: u16, lines: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("tmux");
        let terminal = Self { dir, socket };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = format!("env -u TMUX PS1='{PROMPT} ' ENV= sh");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
            &shell,
        ]);
        terminal.until(PROMPT);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        let output = command.arg("-S").arg(&self.socket).args(words).output();
        let output = output.expect("tmux(1), which `cargo xtask setup` installs");
        assert!(output.status.success(), "tmux {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
    }

    fn enter(&self, line: &str) {
        self.types(line);
        self.key("Enter");
    }

    fn key(&self, name: &str) {
        self.tmux(&["send-keys", name]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Whether a program has taken the whole screen.
    fn is_alternate(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Waits until `text` is on the screen, which it will be.
    fn until(&self, text: &str) -> String {
        self.until_that(text, |screen| screen.contains(text))
    }

    fn until_that(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < FOREVER, "no {what} on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts `steer` with the words of `line`, after noting the terminal's settings.
    fn steer(&self, line: &str) {
        let dir = self.dir.path().display();
        let steer = env!("CARGO_BIN_EXE_steer");
        let script = format!(
            "clear\nstty -g >{dir}/before\nenv {steer} {line} --runtime-dir {dir}/run --config /dev/null\n\
             echo ended=$?\nstty -g >{dir}/after\n"
        );
        fs::write(self.dir.path().join("script"), script).expect("written");
        self.enter(&format!("sh {dir}/script"));
    }

    /// The running `steer` gets a signal, from outside.
    fn signal(&self, name: &str) {
        let mut command = Command::new("pkill");
        // Only what runs on this terminal.
        let terminal = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let terminal = terminal.trim().trim_start_matches("/dev/").to_owned();
        let status = command.args(["--signal", name, "--exact", "--terminal", &terminal, "steer"]);
        assert!(status.status().expect("pkill(1)").success(), "no steer on {terminal}");
    }

    /// It has ended with `code`, and the terminal is as it was.
    fn ended(&self, code: u8) -> String {
        let screen = self.until(&format!("ended={code}"));
        self.until_that("settings", |_| self.dir.path().join("after").exists());
        assert!(!self.is_alternate(), "the whole screen is still taken:\n{screen}");
        let settings = |name: &str| {
            self.until_that("settings", |_| {
                fs::read_to_string(self.dir.path().join(name))
                    .is_ok_and(|text| text.ends_with('\n'))
            });
            fs::read_to_string(self.dir.path().join(name)).expect("noted")
        };
        assert_eq!(settings("after"), settings("before"), "settings of the terminal");
        let cursor = self.tmux(&["display-message", "-p", "#{cursor_flag} #{mouse_any_flag}"]);
        assert_eq!(cursor.trim(), "1 0", "the cursor is seen, and the mouse is the terminal's");
        fs::remove_file(self.dir.path().join("after")).expect("removed");
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// Answers as a daemon does, until dropped.
struct Daemon {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    socket: PathBuf,
}

impl Daemon {
    fn begin(runtime_dir: &Path) -> Self {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/status-crossed.json");
        let answer =
            fs::read_to_string(golden).expect("a golden file").replace("\"eth0\"", "\"v0\"");
        fs::create_dir_all(runtime_dir).expect("made");
        let socket = runtime_dir.join("daemon-1.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        listener.set_nonblocking(true).expect("set");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        stream.set_nonblocking(false).expect("set");
                        let mut request = [0; 256];
                        let _ = stream.read(&mut request);
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { stop, thread: Some(thread), socket }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it answered to the end");
        }
        let _ = fs::remove_file(&self.socket);
    }
}

#[test]
fn top_shows_what_keys_ask_for_and_leaves_the_terminal_as_it_was() {
    in_namespace("terminal::top_shows_what_keys_ask_for_and_leaves_the_terminal_as_it_was", || {
        let terminal = Terminal::open(100, 30);
        let daemon = Daemon::begin(&terminal.runtime_dir());
        terminal.steer("top v0 --for 200ms");
        let screen = terminal.until("polled on CPU (down)");
        assert!(terminal.is_alternate() && screen.contains("own CPU"), "{screen}");
        terminal.key("2");
        terminal.until("flows");
        terminal.key("3");
        terminal.until("packets/s");
        terminal.key("4");
        terminal.until("wrote 9 settings");
        terminal.key("?");
        terminal.until("freeze the screen");
        terminal.types("/q");
        terminal.until("filter: q_");
        terminal.key("Escape");
        terminal.key("Space");
        terminal.until("FROZEN");
        terminal.key("Space");
        // A terminal that shrinks and grows.
        terminal.tmux(&["resize-window", "-x", "20", "-y", "5"]);
        terminal.until_that("small screen", |screen| screen.lines().count() <= 5);
        terminal.tmux(&["resize-window", "-x", "100", "-y", "30"]);
        terminal.key("1");
        terminal.until("polled on CPU (down)");
        // The daemon ends and begins under way.
        drop(daemon);
        terminal.until("observed here");
        let daemon = Daemon::begin(&terminal.runtime_dir());
        terminal.until_that("daemon", |screen| {
            screen.contains("daemon") && !screen.contains("observed")
        });
        terminal.key("4");
        let events = terminal.until("a daemon runs now");
        assert!(events.contains("the daemon has ended"), "{events}");
        terminal.key("q");
        terminal.ended(0);
        for signal in ["TERM", "HUP", "INT"] {
            terminal.steer("top v0 --for 200ms");
            terminal.until("own CPU");
            terminal.signal(signal);
            terminal.ended(0);
        }
        drop(daemon);
    });
}

#[test]
fn top_ends_with_its_terminal() {
    in_namespace("terminal::top_ends_with_its_terminal", || {
        let terminal = Terminal::open(80, 24);
        terminal.steer("top v0 --for 200ms");
        terminal.until("own CPU");
        // Its runtime directory is in its command line, and in nobody else's.
        let runtime_dir = terminal.runtime_dir().display().to_string();
        let runs = || {
            let command = Command::new("pgrep").args(["--full", "--", &runtime_dir]).output();
            command.expect("pgrep(1)").status.success()
        };
        assert!(runs());
        terminal.tmux(&["kill-server"]);
        let begun = Instant::now();
        while runs() {
            assert!(begun.elapsed() < FOREVER, "it goes on without a terminal");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    in_namespace("terminal::colours_are_for_terminals_that_want_them", || {
        let terminal = Terminal::open(80, 60);
        let daemon = Daemon::begin(&terminal.runtime_dir());
        let run = terminal.runtime_dir().display().to_string();
        let steer = env!("CARGO_BIN_EXE_steer");
        let status = format!("{steer} status v0 --runtime-dir {run} --config /dev/null");
        let with_escapes = || terminal.tmux(&["capture-pane", "-p", "-e"]);
        let turn = std::cell::Cell::new(0);
        let shown = |variables: &str, end: &str| {
            // Another each time: the screen shows the one before until it is cleared.
            turn.set(turn.get() + 1);
            // Where CI runs every terminal is taken for one with colours (anstyle-query `is_ci`).
            // The quotes keep what is typed, which may break anywhere, from looking like what is said.
            let line =
                format!("clear; env -u CI {variables} {status}{end}; echo ov''er{}", turn.get());
            terminal.enter(&line);
            let screen = terminal.until(&format!("\nover{}\n", turn.get()));
            let shown = screen.split("\nover").next().unwrap_or_default().to_owned();
            (shown, with_escapes().contains('\u{1b}'))
        };
        let (coloured, has_colours) = shown("", "");
        assert!(coloured.contains("v0 (igb)") && has_colours, "{coloured}");
        assert_eq!(shown("NO_COLOR=1", ""), (coloured.clone(), false));
        assert_eq!(shown("TERM=dumb", ""), (coloured, false));
        // A pipe gets all lines, of which the screen would lose the first.
        let (piped, has_colours) = shown("", " | head -9");
        assert!(piped.contains("v0 (igb)") && !has_colours, "{piped}");
        drop(daemon);
    });
}

#[test]
fn watch_follows_the_size_of_the_terminal_and_ends_with_its_reader() {
    in_namespace(
        "terminal::watch_follows_the_size_of_the_terminal_and_ends_with_its_reader",
        || {
            let terminal = Terminal::open(80, 40);
            let daemon = Daemon::begin(&terminal.runtime_dir());
            terminal.steer("status v0 --watch");
            let whole = terminal.until("steer itself takes");
            assert!(
                whole.lines().next().is_some_and(|line| line.starts_with("v0 (igb)")),
                "{whole}"
            );
            assert!(whole.contains("next "), "{whole}");
            terminal.tmux(&["resize-window", "-x", "60", "-y", "12"]);
            let small = terminal.until("more lines: make the terminal higher");
            assert!(
                small.lines().next().is_some_and(|line| line.starts_with("v0 (igb)")),
                "{small}"
            );
            terminal.tmux(&["resize-window", "-x", "80", "-y", "40"]);
            terminal.until("steer itself takes");
            terminal.key("C-c");
            terminal.until(PROMPT);
            // Who reads no more ends it.
            let dir = terminal.dir.path().display();
            let steer = env!("CARGO_BIN_EXE_steer");
            terminal.enter("clear");
            terminal.enter(&format!(
            "{steer} status v0 --watch --runtime-dir {dir}/run --config /dev/null | head -1; echo over"
        ));
            let screen = terminal
                .until_that("end", |screen| screen.lines().any(|line| line.trim() == "over"));
            assert!(!screen.contains("Broken pipe") && screen.contains("v0 (igb)"), "{screen}");
            drop(daemon);
        },
    );
}
