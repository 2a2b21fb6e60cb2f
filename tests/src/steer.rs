//! Drives the `steer` program as anybody would: by its command line, exit codes and output.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::guest::{self, Guest, wait_for};

/// Longer than any command observes, and short enough for a scenario's time. Beside a build on the host
/// eight emulated CPUs have taken half a minute to load the programs.
const PATIENCE: Duration = Duration::from_mins(1);
/// Every program of accept and connect steering passes the verifier first, on an emulated CPU beside a
/// load balancer that is at its limit.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// The line by which `steer run` says that its first window has begun.
const READY: &str = "ready";

/// What `steer` promises to exit with.
pub mod exit {
    /// It was done.
    pub const DONE: i32 = 0;
    /// There was nothing to do, or the condition was not met.
    pub const NOT_MET: i32 = 1;
    /// It failed.
    pub const FAILED: i32 = 2;
    /// It failed, and not everything is as it was.
    pub const NOT_RESTORED: i32 = 3;
}

/// What a command left.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; negative for the signal that ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Guest {
    /// Runs `steer` to its end.
    pub fn steer(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.steer);
        finish(command.args(arguments))
    }

    /// Runs `steer`, expects it to exit with `code`, and returns what it wrote to stdout.
    pub fn steer_expecting(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let finished = self.steer(arguments)?;
        let command = arguments.join(" ");
        ensure!(
            finished.code == code,
            "steer {command}: expected exit code {code}, got {}: {}",
            finished.code,
            finished.stderr.trim()
        );
        self.say(format_args!("ok: steer {command}: exit code {code}"));
        Ok(finished.stdout)
    }

    /// What `steer status --json` says about the NIC, with further arguments.
    pub fn status(&self, nic: &str, arguments: &[&str]) -> Result<Value> {
        Ok(self.status_and_missing(nic, arguments)?.0)
    }

    /// The same, with the sentences on what could not be observed.
    pub fn status_and_missing(
        &self,
        nic: &str,
        arguments: &[&str],
    ) -> Result<(Value, Vec<String>)> {
        let mut all = vec!["status", nic, "--json"];
        all.extend(arguments);
        let finished = self.steer(&all)?;
        let document: Value = serde_json::from_str(&finished.stdout).with_context(|| {
            format!("steer {}: no JSON; stderr: {}", all.join(" "), finished.stderr.trim())
        })?;
        ensure!(document["schema"] == 1, "status has schema {}", document["schema"]);
        let nics = document["nics"].as_array().context("status has no nics")?;
        let of_nic = nics.iter().find(|entry| entry["name"] == nic);
        let of_nic = of_nic.with_context(|| format!("no {nic} in status: {document}"))?;
        let missing = document["missing"].as_array().into_iter().flatten();
        let missing = missing.filter_map(|sentence| sentence.as_str().map(str::to_owned));
        Ok((of_nic.clone(), missing.collect()))
    }
}

impl Guest {
    /// What the daemon's status says of the neighbours, a line each.
    pub fn neighbours(&self) -> Result<String> {
        let text = self.steer_expecting(exit::DONE, &["status", guest::NIC, "--json"])?;
        let document: Value = serde_json::from_str(&text)?;
        let neighbours = document["neighbours"].as_array().context("status has no neighbours")?;
        let lines: Vec<&str> = neighbours.iter().filter_map(Value::as_str).collect();
        Ok(lines.join("\n"))
    }
}

impl Guest {
    /// What the daemon says of its own pace.
    pub fn pace(&self) -> Result<Pace> {
        let finished = self.steer(&["status", guest::NIC, "--json"])?;
        let document: Value =
            serde_json::from_str(&finished.stdout).context("status is no JSON")?;
        ensure!(document["source"] == "daemon", "the daemon does not answer: {}", finished.stderr);
        let count = |name: &str| document["pace"][name].as_u64().unwrap_or_default();
        Ok(Pace {
            windows: count("windows"),
            missed: count("missed"),
            longest: Duration::from_micros(count("tick_max_us")),
        })
    }

    /// Whether a daemon answers for the NIC now.
    fn answers(&self) -> Result<bool> {
        Ok(self.steer(&["status", guest::NIC, "--daemon", "--json"])?.code == exit::DONE)
    }

    /// Waits until the daemon has had so many windows more, however long they take on this host.
    pub fn await_windows(&self, more: u64) -> Result<()> {
        // Of a NIC that has just come back it has nothing to say before the first window with it is over.
        wait_for("the daemon to have the NIC in a window", guest::PATIENCE, || self.answers())?;
        let before = self.pace()?.windows;
        wait_for("more windows of the daemon", guest::PATIENCE, || {
            Ok(self.pace()?.windows >= before + more)
        })
        .map(drop)
    }
}

/// What a daemon says of its own pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Windows so far.
    pub windows: u64,
    /// Periods in which no window began.
    pub missed: u64,
    /// Longest time that the work of a window took.
    pub longest: Duration,
}

/// Runs a command to its end, and ends it itself if that takes too long.
pub fn finish(command: &mut Command) -> Result<Finished> {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {what}"))?;
    let stdout = collect(child.stdout.take().context("no stdout")?);
    let stderr = collect(child.stderr.take().context("no stderr")?);
    let status = wait(&mut child, PATIENCE)?;
    let Some(status) = status else {
        child.kill()?;
        child.wait()?;
        bail!("{what} is not done after {} s", PATIENCE.as_secs());
    };
    let text = |receiver: Receiver<String>| receiver.recv().unwrap_or_default();
    Ok(Finished { code: code(status), stdout: text(stdout), stderr: text(stderr) })
}

/// Reads to the end in a thread of its own, so that no pipe runs full.
fn collect(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > give_up {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A `steer run` in the background.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// What it said before it was ready, as far as nobody has asked for it.
    earlier: RefCell<Vec<String>>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Daemon {
    /// Starts `steer run` and returns once its first window has begun.
    pub fn start(guest: &Guest, arguments: &[&str]) -> Result<Self> {
        let mut daemon = Self::spawn(&guest.steer, arguments)?;
        let give_up = Instant::now() + READY_WITHIN;
        loop {
            let patience = give_up.saturating_duration_since(Instant::now());
            match daemon.stdout.recv_timeout(patience) {
                Ok(line) if line == READY => return Ok(daemon),
                Ok(line) => daemon.earlier.get_mut().push(line),
                Err(_) => {
                    let status = wait(&mut daemon.child, Duration::from_secs(1))?;
                    let stderr = daemon.stderr.try_recv().unwrap_or_default();
                    let said = daemon.earlier.get_mut().join("\n");
                    bail!("steer run does not get ready ({status:?}): {said}\n{}", stderr.trim())
                }
            }
        }
    }

    fn spawn(steer: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(steer)
            .arg("run")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start steer run")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let stderr: ChildStderr = child.stderr.take().context("no stderr")?;
        let (lines, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, earlier: RefCell::default(), stdout: receiver, stderr: collect(stderr) })
    }

    /// The lines it has printed since this was last asked.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.earlier.take().into_iter().chain(self.stdout.try_iter()).collect()
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> Result<Finished> {
        let status = wait(&mut self.child, PATIENCE)?;
        let status = status.context("steer run does not end")?;
        let lines: Vec<String> =
            self.earlier.take().into_iter().chain(self.stdout.iter()).collect();
        let stderr = self.stderr.recv().unwrap_or_default();
        Ok(Finished { code: code(status), stdout: lines.join("\n"), stderr })
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(self) -> Result<Finished> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.wait()
    }

    /// Ends it without giving it a chance to do anything.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    /// A scenario that failed leaves its daemon behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
