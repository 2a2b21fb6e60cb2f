//! One run: a scenario on a machine, from power on to the verdict.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ChildStdout, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    initramfs,
    kernel::Kernel,
    machine::{Machine, Topology},
    process, servers, workspace,
};

/// Time in which a machine comes up, of which it takes 3 to 8 s. Now and then, on a busy host, it
/// never does: a CPU of the emulated machine loses its first timer interrupt and the kernel
/// waits for it ([`LOST_TIMER`]), or QEMU aborts. QEMU 10.0 with several TCG threads; seen three
/// times at least in several hundred starts. The guest program, if it is reached at all, looks for the
/// former before its first word ([`NO_TIMER`]).
const COMING_UP: Duration = Duration::from_secs(45);
/// The guest program's first word on a machine with such a CPU; `steer_tests::init` says it.
const NO_TIMER: &str = "timer: lost";
/// What the kernel says of a CPU that has been without timer interrupts for 21 s.
const LOST_TIMER: &str = "kthread timer wakeup didn't happen";
/// How the kernel ends when a CPU comes to a breakpoint that nobody has set, and nothing went wrong before.
/// See [`ran_stale_code`].
const BREAKPOINT: &str = "int3: 0000 [#1]";
/// How often a machine that does not come up is started before that counts as a failure.
const STARTS: u32 = 3;

/// The line by which a guest program asks for its power to be cut; `steer_tests::guest` says it.
const POWER_CUT: &str = "power: cut";
/// Size of the disk, which takes up only what is written to it.
const DISK_BYTES: u64 = 64 << 20;

/// A scenario on a machine.
pub(crate) struct Run {
    scenario: String,
    machine: Machine,
    timeout: Duration,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// What the guest program measured, if it said so: lines of JSON.
    pub(crate) figures: Option<String>,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// Where the output of runs is kept.
pub(crate) fn logs() -> PathBuf {
    workspace::lab().join("logs")
}

/// The program inside a machine.
pub(crate) fn guest_program() -> PathBuf {
    workspace::target().join("release/steer-lab")
}

impl Run {
    /// One scenario on the machine given.
    pub(crate) fn new(scenario: &str, machine: Machine, timeout: Duration) -> Self {
        Self { scenario: scenario.to_owned(), machine, timeout }
    }

    /// What is run, and on what.
    pub(crate) fn title(&self) -> String {
        format!("{} on {}", self.scenario, self.machine)
    }

    /// Boots the machine, shows what it says and prints the verdict.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let title = self.title();
        println!("-- {title}");
        let start = Instant::now();
        let said = self.boot()?;
        let took = start.elapsed();
        let seconds = took.as_secs_f64();
        match &said.verdict {
            Ok(()) => println!("pass: {title} ({seconds:.1} s)"),
            Err(reason) => println!("FAIL: {title} ({seconds:.1} s): {reason}"),
        }
        Ok(Outcome { took, figures: said.figures, failure: said.verdict.err() })
    }

    /// Boots the machine and shows what it says.
    pub(crate) fn boot(&self) -> Result<Said> {
        let kernel = Kernel::ensure(&self.machine.kernel)?;
        servers::ensure()?;
        let _alone = alone()?;
        let logs = Logs::new(self)?;
        let initramfs = workspace::lab().join("initramfs");
        let Machine { nic, nics, .. } = &self.machine;
        let nics = nics.to_string();
        let arguments = ["init", "--nic", nic.name(), "--nics", &nics, &self.scenario];
        let arguments = arguments.map(str::to_owned);
        fs::write(&initramfs, initramfs::build(&kernel, &guest_program(), &arguments)?)?;

        // Empty for each scenario, and kept while its power is cut.
        let disk = workspace::lab().join("disk");
        let empty = || File::create(&disk).and_then(|file| file.set_len(DISK_BYTES));
        empty()?;
        let mut starts = 1;
        loop {
            let failed = |why: String| Said { figures: None, verdict: Err(why) };
            match self.power_on(&kernel, &initramfs, &disk, &logs)? {
                End::PowerCut => println!("-- the power was cut, and is back"),
                End::Closed(Some(said)) => return Ok(said),
                End::Closed(None) if ran_stale_code(&logs.kernel_said()) && starts < STARTS => {
                    println!("a CPU ran code that was gone (start {starts} of {STARTS})");
                    println!("{}", logs.end());
                    empty()?;
                    starts += 1;
                }
                End::Closed(None) => {
                    return Ok(failed(format!("the machine ended early\n{}", logs.end())));
                }
                End::TimedOut if logs.kernel_said().contains(LOST_TIMER) && starts < STARTS => {
                    println!("a CPU got no timer interrupts (start {starts} of {STARTS})");
                    println!("{}", logs.end());
                    empty()?;
                    starts += 1;
                }
                End::TimedOut => {
                    let seconds = self.timeout.as_secs();
                    return Ok(failed(format!("not done within {seconds} s\n{}", logs.end())));
                }
                End::Aborted(how) if starts < STARTS => {
                    println!("QEMU ended by itself ({how}; start {starts} of {STARTS})");
                    println!("{}", logs.end());
                    empty()?;
                    starts += 1;
                }
                End::Aborted(how) => {
                    return Ok(failed(format!("QEMU ended by itself: {how}\n{}", logs.end())));
                }
                End::NeverUp if starts < STARTS => {
                    println!("the machine did not come up (start {starts} of {STARTS})");
                    println!("{}", logs.end());
                    starts += 1;
                }
                End::NeverUp => {
                    return Ok(failed(format!(
                        "the machine did not come up in {STARTS} starts\n{}",
                        logs.end()
                    )));
                }
            }
        }
    }

    /// One life of the machine, from power on to its last word.
    fn power_on(&self, kernel: &Kernel, initramfs: &Path, disk: &Path, logs: &Logs) -> Result<End> {
        let mut qemu = self.machine.qemu(kernel, initramfs, disk, &logs.console)?;
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&logs.qemu)?);
        let mut qemu = qemu.spawn().context("cannot start QEMU")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        let log = File::options().append(true).open(&logs.guest)?;
        let result = follow(output, log, self.timeout);
        // A machine that has said its last word powers off; one that is late or silent is ended.
        if !matches!(result, Ok(End::Closed(_))) {
            qemu.kill().context("cannot end QEMU")?;
        }
        let ended = qemu.wait()?;
        match result {
            Ok(End::Closed(None)) if ended.signal().is_some() => Ok(End::Aborted(ended)),
            result => result,
        }
    }
}

/// Waits until no other machine runs: they would share the CPUs, and neither would be on time.
fn alone() -> Result<File> {
    let lock = File::create(workspace::lab().join("lock"))?;
    if lock.try_lock().is_err() {
        println!("another lab machine is running: waiting for it");
        lock.lock()?;
    }
    Ok(lock)
}

/// What the guest program came to.
pub(crate) struct Said {
    /// What it measured, if it said so: lines of JSON.
    pub(crate) figures: Option<String>,
    /// Why it failed, if it did.
    pub(crate) verdict: Result<(), String>,
}

/// Picks the lines out of a guest program's output that are for xtask to read.
#[derive(Default)]
pub(crate) struct Reader {
    figures: Option<String>,
    verdict: Option<Result<(), String>>,
}

impl Reader {
    /// Takes a line; false if it is for people.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        if let Some(figures) = line.strip_prefix("figures: ") {
            let earlier = self.figures.take().map(|lines| lines + "\n").unwrap_or_default();
            self.figures = Some(earlier + figures);
        } else if let Some(verdict) = line.strip_prefix("verdict: ") {
            let passed = verdict == "pass";
            self.verdict = Some(if passed { Ok(()) } else { Err(verdict.to_owned()) });
        } else {
            return false;
        }
        true
    }

    /// What it came to, if to anything.
    pub(crate) fn said(self) -> Option<Said> {
        let Self { figures, verdict } = self;
        verdict.map(|verdict| Said { figures, verdict })
    }
}

/// How the output of a machine ended.
enum End {
    /// The machine is off; what it came to, if it did.
    Closed(Option<Said>),
    /// The emulator was at an end, not the machine in it: as [`COMING_UP`], and later too.
    Aborted(ExitStatus),
    /// The guest program had begun and was not done in time.
    TimedOut,
    /// The guest program never said a word, or that the machine is none: nothing was tested.
    NeverUp,
    /// The guest program wants its power cut at this moment, and then to be started again.
    PowerCut,
}

/// Shows and logs what the guest program says until it ends or, after its first word, `patience`
/// is over.
fn follow(output: ChildStdout, mut log: File, patience: Duration) -> Result<End> {
    let (lines, said) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let mut reader = Reader::default();
    let mut give_up = Instant::now() + COMING_UP;
    let mut up = false;
    loop {
        match said.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
            Ok(line) if !up && line == NO_TIMER => return Ok(End::NeverUp),
            Ok(_) if !up => {
                up = true;
                give_up = Instant::now() + patience;
            }
            Ok(line) if line == POWER_CUT => return Ok(End::PowerCut),
            Ok(line) => {
                writeln!(log, "{line}")?;
                if !reader.take(&line) {
                    println!("{line}");
                }
            }
            Err(_) if !up => return Ok(End::NeverUp),
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Closed(reader.said())),
            Err(RecvTimeoutError::Timeout) => return Ok(End::TimedOut),
        }
    }
}

/// Where a run's output is kept.
struct Logs {
    /// What the guest program says.
    guest: PathBuf,
    /// What the kernel says.
    console: PathBuf,
    /// What QEMU says.
    qemu: PathBuf,
}

impl Logs {
    fn new(run: &Run) -> Result<Self> {
        let directory = logs();
        fs::create_dir_all(&directory)?;
        let Machine { kernel, nic, nics, topology } = &run.machine;
        let mut name = format!("{}-{}-{kernel}", run.scenario, nic.name());
        if *nics > 1 {
            name += &format!("-{nics}");
        }
        if *topology != Topology::flat(Machine::CPUS) {
            name += &format!("-{topology}");
        }
        let path = |kind: &str| directory.join(format!("{name}.{kind}"));
        let logs = Self { guest: path("log"), console: path("console"), qemu: path("qemu") };
        // Appended to from here on: a machine may have several lives.
        File::create(&logs.guest)?;
        Ok(logs)
    }

    /// What the kernel has said.
    fn kernel_said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// The last lines of the kernel's console and of QEMU.
    fn end(&self) -> String {
        let tail = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            process::tail(&String::from_utf8_lossy(&bytes), 25)
        };
        format!("{}\n{}", tail(&self.console), tail(&self.qemu))
    }
}

/// Whether the kernel ended because the emulator ran code that was not there any more.
///
/// Linux patches its code under way (static keys, whenever a tracepoint is taken or left): a breakpoint on
/// the first byte, then the rest, then the first byte, and after each all CPUs are made to look anew.
/// QEMU with several TCG threads may keep a translation of the byte in between: all CPUs then stop at a
/// breakpoint that is not in the memory any more, as the dump of it shows. QEMU 8.1 mended most of that
/// (deba78709ae8, "always lock pages before translation"); with 10.0 it was seen once. A
/// breakpoint that is there is no fault of the emulator.
fn ran_stale_code(console: &str) -> bool {
    let stops_elsewhere = |code: &str| {
        let bytes: Vec<&str> = code.split_whitespace().collect();
        bytes.windows(2).any(|pair| pair[1].starts_with('<') && pair[0] != "cc")
    };
    let Some((_, after)) = console.split_once(BREAKPOINT) else { return false };
    let mut dumps = after.lines().filter_map(|line| line.split_once(" Code: "));
    dumps.next().is_some_and(|(_, code)| stops_elsewhere(code))
}

#[cfg(test)]
mod tests {
    use super::ran_stale_code;

    #[test]
    fn a_breakpoint_that_is_not_in_the_memory_is_the_emulators() {
        let console = |code: &str| {
            format!(
                "[   58.047723] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n\
                 [   58.047801] RIP: 0010:napi_gro_receive+0x30/0x220\n\
                 [   58.047818] Code: 00 00 89 86 a0 00 00 00 {code} 01 00 00 31 c0\n"
            )
        };
        assert!(ran_stale_code(&console("e9 <64>")));
        assert!(!ran_stale_code(&console("cc <64>")), "it is there");
        let other = console("e9 <64>").replace("int3", "general protection fault");
        assert!(!ran_stale_code(&other));
        assert!(!ran_stale_code("Oops: int3: 0000 [#1] PREEMPT"), "no dump, no proof");
        // What came first is what counts, and of several dumps the breakpoint's own.
        let second = other.clone() + &console("e9 <64>").replace("[#1]", "[#2]");
        assert!(!ran_stale_code(&second));
        assert!(!ran_stale_code(
            &(console("cc <64>") + &console("e9 <64>").replace("[#1]", "[#2]"))
        ));
    }
}
