//! `steer top`: the screen of [`crate::report::top`] on a terminal, fed by the daemon or by observing
//! here.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::time::{Duration, Instant};
use std::{panic, thread};

use anyhow::{Context as _, bail};
use ratatui::backend::Backend;
use ratatui::crossterm::event::{
    self, DisableMouseCapture, EnableMouseCapture, Event, KeyEventKind, MouseButton, MouseEvent,
    MouseEventKind,
};
use ratatui::crossterm::execute;
use ratatui::{DefaultTerminal, Terminal};
use tokio::signal::unix::{SignalKind, signal};

use super::args::TopArgs;
use super::playback::Playback;
use super::recorded::{Recorded, Window};
use super::select::{Selected, for_reading, steerable};
use super::status::{Observation, window_document};
use super::{Exit, Settings, output::note};
use crate::report::Status;
use crate::report::top::Top;
use crate::sys::Machine;
use crate::sys::own::Meter;

/// Longest that a key, a new window or a signal waits.
const RESPONSE: Duration = Duration::from_millis(100);
/// Longest that the screen takes to end once it is told to.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is said of a terminal that breaks.
const UNUSABLE: &str = "cannot use this terminal, `steer status --watch` needs none";
/// Lines that a notch of the mouse wheel goes.
const WHEEL: isize = 3;

/// What the screen is told by the other threads.
enum Told {
    Window(Box<Status>),
    Failed(String),
    End,
    ObservationEnded,
}

pub(super) fn top(args: &TopArgs, settings: &Settings) -> anyhow::Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("`steer top` needs a terminal; `steer status --watch` prints into a pipe or a file");
    }
    let mouse = !args.no_mouse;
    if let Some(file) = &args.from {
        // What is no recording is said on a terminal that is still as it was.
        let mut recorded = Recorded::open(file)?;
        let window = recorded.window_at(None)?;
        recorded.demand(&args.interfaces, &window.second)?;
        let playback = Playback::new(args.speed);
        return screen(Some(&playback), mouse, |told, _| {
            play(file, &args.interfaces, &playback, told);
        });
    }
    let machine = settings.machine()?;
    let selected = for_reading(&machine, &args.interfaces)?;
    if selected.is_empty() {
        note(&steerable(&machine)?);
        return Ok(Exit::NotMet);
    }
    screen(None, mouse, |told, nobody_waits| {
        observe(args, settings, &machine, selected, told, &nobody_waits);
    })
}

/// Shows what `source` tells until somebody ends it.
fn screen(
    playback: Option<&Playback>,
    mouse: bool,
    source: impl FnOnce(&SyncSender<Told>, Arc<AtomicBool>) + Send,
) -> anyhow::Result<Exit> {
    // A recording that is played fast waits for the screen.
    let (tell, told) = mpsc::sync_channel(2);
    let ended = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let (windows, nobody_waits) = (tell.clone(), Arc::clone(&ended));
        scope.spawn(move || source(&windows, nobody_waits));
        // It ends with the process: a signal that never comes is waited for without end.
        thread::spawn(move || await_signal(&tell));
        let shown = Screen::open(mouse).and_then(|mut screen| show(&mut screen.0, &told, playback));
        // The observing thread notices soon that nobody listens any more.
        ended.store(true, Ordering::Relaxed);
        drop(told);
        if let Some(playback) = playback {
            playback.close();
        }
        shown.map(|()| Exit::Done)
    })
}

/// The terminal, set up until dropped or until a panic is told.
struct Screen(DefaultTerminal);

impl Screen {
    fn open(mouse: bool) -> anyhow::Result<Self> {
        // Sets a hook that restores the terminal before a panic is told.
        let terminal = ratatui::try_init().context(UNUSABLE)?;
        let screen = Self(terminal);
        if mouse {
            execute!(io::stdout(), EnableMouseCapture).context(UNUSABLE)?;
        }
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _ = execute!(io::stdout(), DisableMouseCapture);
            before(info);
        }));
        // Whatever is logged from now on would be written across the screen.
        log::set_max_level(log::LevelFilter::Off);
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone away has nothing to restore.
        let _ = execute!(io::stdout(), DisableMouseCapture);
        let _ = ratatui::try_restore();
    }
}

/// Says that observation has ended, however it did.
struct Farewell<'a>(&'a SyncSender<Told>);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(Told::ObservationEnded);
    }
}

/// Observes until nobody listens any more. A window that cannot be had is tried again.
fn observe(
    args: &TopArgs,
    settings: &Settings,
    machine: &Machine,
    selected: Vec<Selected>,
    windows: &SyncSender<Told>,
    nobody_waits: &Arc<AtomicBool>,
) {
    let _farewell = Farewell(windows);
    let status = args.as_status();
    let say = |text: &str| drop(windows.send(Told::Failed(text.to_owned())));
    let mut source = Observation::new(settings, &status, machine, selected, &say)
        .until(Arc::clone(nobody_waits));
    while !nobody_waits.load(Ordering::Relaxed) {
        let told = match source.next() {
            Ok(status) => Told::Window(Box::new(status)),
            Err(error) => {
                source.sleep(args.window);
                Told::Failed(format!("{error:#}"))
            }
        };
        if windows.send(told).is_err() {
            return;
        }
    }
}

/// Plays a recording to its end, which stays on the screen.
fn play(file: &Path, interfaces: &[String], playback: &Playback, told: &SyncSender<Told>) {
    let shown = |recorded: &Recorded, mut window: Window| {
        window
            .second
            .nics
            .retain(|nic| interfaces.is_empty() || interfaces.contains(&nic.nic.name));
        let mut status = window_document(recorded, &window, true);
        for nic in &mut status.nics {
            let of_daemon = window.daemon.iter().flat_map(|daemon| &daemon.nics);
            if let Some(said) = of_daemon.into_iter().find(|said| said.name == nic.name) {
                nic.history.clone_from(&said.history);
            }
        }
        told.send(Told::Window(Box::new(status))).is_ok()
    };
    if let Err(error) = playback.play(file, shown) {
        // Nobody listens any more: the screen has ended by itself.
        let _ = told.send(Told::Failed(format!("{error:#}")));
    }
}

/// SIGTERM, SIGHUP and SIGINT end the screen as `q` does, so that the terminal is left as it was.
fn await_signal(tell: &SyncSender<Told>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let heard = runtime.block_on(async {
        let (Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
            signal(SignalKind::interrupt()),
        ) else {
            return false;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
        true
    });
    if !heard {
        return;
    }
    // The screen takes it at its next look, and with that the process ends.
    let begun = Instant::now();
    while matches!(tell.try_send(Told::End), Err(TrySendError::Full(_)))
        && begun.elapsed() < FAREWELL
    {
        thread::sleep(RESPONSE);
    }
    thread::sleep(FAREWELL);
    // Still here: from a terminal that was closed crossterm 0.29 reads for ever, and there is nothing left
    // to restore.
    std::process::exit(Exit::Done as i32);
}

fn show<B>(
    terminal: &mut Terminal<B>,
    told: &Receiver<Told>,
    playback: Option<&Playback>,
) -> anyhow::Result<()>
where
    B: Backend<Error: Send + Sync + 'static>,
{
    let mut top = Top::default();
    let mut meter = Meter::start();
    loop {
        if let Some(playback) = playback {
            top.note(playback.describe());
        }
        terminal.draw(|frame| top.draw(frame)).context(UNUSABLE)?;
        let mut changed = false;
        while !changed {
            match told.try_recv() {
                Ok(Told::Window(status)) => {
                    top.window(*status, meter.take().0);
                    changed = true;
                }
                Ok(Told::Failed(why)) => {
                    top.failed(why);
                    changed = true;
                }
                Ok(Told::End) => return Ok(()),
                Ok(Told::ObservationEnded) | Err(TryRecvError::Disconnected) => {
                    bail!("observation has ended by itself; `steer status` says why")
                }
                Err(TryRecvError::Empty) => {}
            }
            if event::poll(RESPONSE).context(UNUSABLE)? {
                match event::read().context(UNUSABLE)? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let plays = playback.filter(|_| !top.is_typing());
                        let played = plays.is_some_and(|playback| playback.key(key.code));
                        if !played && top.key(key.code, key.modifiers) {
                            return Ok(());
                        }
                        changed = true;
                    }
                    Event::Mouse(mouse) => changed = point(&mut top, mouse),
                    Event::Resize(..) => changed = true,
                    _ => {}
                }
            }
        }
    }
}

/// True if there is something else to be shown.
fn point(top: &mut Top, mouse: MouseEvent) -> bool {
    match mouse.kind {
        MouseEventKind::ScrollDown => top.wheel(WHEEL),
        MouseEventKind::ScrollUp => top.wheel(-WHEEL),
        MouseEventKind::Down(MouseButton::Left) => top.click(mouse.column, mouse.row),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use ratatui::backend::TestBackend;

    use super::*;
    use crate::golden::golden;

    #[test]
    fn a_screen_that_nobody_feeds_any_more_ends_and_says_so() {
        let (tell, told) = mpsc::sync_channel(1);
        // As when its thread has panicked.
        drop(Farewell(&tell));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal in memory");
        let error = show(&mut terminal, &told, None).expect_err("it ends");
        golden("top-errors.txt", &format!("steer: {error:#}\n"));
    }

    /// What draws panics, for the test below.
    #[test]
    #[ignore = "takes the terminal that it runs on, and panics"]
    fn panics_on_the_screen() {
        let mut screen = Screen::open(true).expect("a terminal");
        screen.0.draw(|_| panic!("told on a terminal that is as it was")).expect("not come to");
    }

    #[test]
    fn the_terminal_is_restored_before_a_panic_is_told() {
        let me = std::env::current_exe().expect("this program");
        let dir = tempfile::tempdir().expect("a directory");
        let settings = |name: &str| dir.path().join(name).display().to_string();
        let line = format!(
            "stty -g >{}; {} --ignored --exact cli::top::tests::panics_on_the_screen --nocapture; \
             stty -g >{}",
            settings("before"),
            me.display(),
            settings("after")
        );
        // script(1), of util-linux, gives it a terminal and tells what was written there.
        let seen = settings("seen");
        let script = Command::new("script").args(["--quiet", "--command", &line, &seen]).output();
        script.expect("script(1)");
        let read = |name: &str| std::fs::read_to_string(Path::new(name)).expect("written");
        let seen = read(&seen);
        let place = |what: &str| seen.find(what).unwrap_or_else(|| panic!("no {what:?}: {seen:?}"));
        let told = place("told on a terminal that is as it was");
        let taken = place("\u{1b}[?1049h");
        let given_back = [place("\u{1b}[?1049l"), place("\u{1b}[?1000l")];
        assert!(given_back.iter().all(|at| (taken..told).contains(at)), "{seen:?}");
        assert_eq!(read(&settings("after")), read(&settings("before")));
    }
}
