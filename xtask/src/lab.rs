//! `cargo xtask lab`: boots a machine for each scenario, shows what its guest program says, and
//! ends with one verdict line each.
//!
//! The scenarios and the machines each is meant for are a table in `steer-lab`, the guest program;
//! this side asks it for them.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{
    initramfs,
    kernel::Kernel,
    machine::{Machine, Nic, Topology},
    process, workspace,
};

/// Choice of scenarios and machines.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Kernel series to boot instead of those the scenario is meant for.
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// NIC to test instead of those the scenario is meant for.
    #[arg(long)]
    nic: Option<Nic>,
    /// CPUs of the machine.
    #[arg(long, default_value_t = CPUS, value_parser = clap::value_parser!(u32).range(1..=32))]
    cpus: u32,
    /// Seconds after which a scenario is given up [default: 150, of a long one 4200].
    #[arg(long)]
    timeout: Option<u64>,
    /// Run the long scenarios too.
    #[arg(long)]
    full: bool,
    /// List the scenarios and their machines.
    #[arg(long)]
    list: bool,
    /// Scenarios to run; all of them if none is named.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// A row of the guest program's table.
struct Scenario {
    name: String,
    /// What it shows, in a sentence.
    about: String,
    needs_steer: bool,
    /// Takes many minutes: runs when it is named, or with `--full`.
    long: bool,
    /// NIC and kernel series of each machine it is meant for.
    machines: Vec<(Nic, String)>,
}

/// A scenario on a machine.
pub(crate) struct Run {
    scenario: String,
    machine: Machine,
    timeout: Duration,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// The command.
pub(crate) fn lab(options: &Options) -> Result<()> {
    cargo_build("steer-tests")?;
    let scenarios = scenarios()?;
    if options.list {
        for scenario in &scenarios {
            println!("{:12} {}", scenario.name, scenario.about);
            for (nic, kernel) in &scenario.machines {
                println!("{:12}   {}, kernel {kernel}", "", nic.name());
            }
        }
        return Ok(());
    }
    let selected = select(&scenarios, options)?;
    // A scenario of the lab alone does not wait for steer to be built.
    if selected.iter().any(|(scenario, _)| scenario.needs_steer) {
        cargo_build("steer-agent")?;
    }
    let mut failed = 0;
    for (_, run) in &selected {
        failed += usize::from(run.run()?.failure.is_some());
    }
    println!("{} passed, {failed} failed", selected.len() - failed);
    ensure!(failed == 0, "the logs are in {}", logs().display());
    Ok(())
}

/// Builds what runs in the guest.
pub(crate) fn build() -> Result<()> {
    cargo_build("steer-tests")?;
    cargo_build("steer-agent")
}

/// Builds what runs in the guest, and returns every scenario on every machine it is meant for.
pub(crate) fn matrix() -> Result<Vec<Run>> {
    build()?;
    let short = scenarios()?.into_iter().filter(|scenario| !scenario.long);
    let selected = short.flat_map(|scenario| {
        let Scenario { name, machines, .. } = scenario;
        machines.into_iter().map(move |(nic, kernel)| {
            let machine = Machine { kernel, nic, topology: Topology::flat(CPUS) };
            Run::new(&name, machine, Duration::from_secs(TIMEOUT))
        })
    });
    Ok(selected.collect())
}

/// CPUs of a machine, unless asked for otherwise.
const CPUS: u32 = 4;
/// Seconds after which a scenario is given up, unless asked for otherwise.
const TIMEOUT: u64 = 150;
/// The same for a long one: an hour, and some minutes to begin and to end.
const LONG_TIMEOUT: u64 = 4200;
/// Time in which a machine comes up, of which it takes 3 to 8 s. Now and then, on a busy host, it
/// never does: a CPU of the emulated machine loses its first timer interrupt and the kernel
/// waits for it ("`rcu_preempt` kthread timer wakeup didn't happen"), or QEMU aborts. QEMU 10.0 with
/// several TCG threads; seen twice in some five hundred starts,
/// each time before the guest's first process.
const COMING_UP: Duration = Duration::from_secs(45);
/// How often a machine that does not come up is started before that counts as a failure.
const STARTS: u32 = 3;

/// Asks the guest program for its scenarios.
fn scenarios() -> Result<Vec<Scenario>> {
    let table = process::capture(Command::new(guest_program()).arg("list"))?;
    let row = |line: &str| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().with_context(|| format!("short row in the table: {line}"));
        let (name, needs_steer) = (cell()?.to_owned(), cell()? == "steer");
        let long = cell()? == "long";
        let machines = cell()?.split(' ').map(|machine| {
            let (nic, kernel) = machine.split_once('/').context("a machine is NIC/KERNEL")?;
            let nic = Nic::from_str(nic, false).map_err(anyhow::Error::msg)?;
            Ok((nic, kernel.to_owned()))
        });
        let machines = machines.collect::<Result<_>>()?;
        Ok(Scenario { name, about: cell()?.to_owned(), needs_steer, long, machines })
    };
    table.lines().map(row).collect()
}

/// The runs that the options ask for.
fn select<'a>(scenarios: &'a [Scenario], options: &Options) -> Result<Vec<(&'a Scenario, Run)>> {
    for name in &options.scenarios {
        if !scenarios.iter().any(|scenario| scenario.name == *name) {
            bail!("no scenario {name}; `cargo xtask lab --list` shows them");
        }
    }
    let by_name = !options.scenarios.is_empty();
    let mut selected = Vec::new();
    for scenario in scenarios {
        let wanted = if by_name {
            options.scenarios.contains(&scenario.name)
        } else {
            options.full || !scenario.long
        };
        if !wanted {
            continue;
        }
        let chosen = |(nic, kernel): &&(Nic, String)| {
            options.nic.is_none_or(|it| it == *nic)
                && options.kernel.as_ref().is_none_or(|it| it == kernel)
        };
        let mut machines: Vec<_> = scenario.machines.iter().filter(chosen).cloned().collect();
        // A scenario asked for by name runs wherever one wants to see it.
        if machines.is_empty() && by_name {
            let (nic, kernel) = scenario.machines.last().context("a scenario has machines")?;
            let kernel = options.kernel.clone().unwrap_or_else(|| kernel.clone());
            machines.push((options.nic.unwrap_or(*nic), kernel));
        }
        selected.extend(machines.into_iter().map(|(nic, kernel)| {
            let machine = Machine { kernel, nic, topology: Topology::flat(options.cpus) };
            let usual = if scenario.long { LONG_TIMEOUT } else { TIMEOUT };
            let timeout = Duration::from_secs(options.timeout.unwrap_or(usual));
            (scenario, Run::new(&scenario.name, machine, timeout))
        }));
    }
    ensure!(!selected.is_empty(), "no scenario is meant for such a machine; name one to try it");
    Ok(selected)
}

fn cargo_build(package: &str) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", package]);
    process::run(cargo.current_dir(workspace::root()))
}

fn logs() -> PathBuf {
    workspace::lab().join("logs")
}

fn guest_program() -> PathBuf {
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
        let failure = self.boot()?.err();
        let took = start.elapsed();
        let seconds = took.as_secs_f64();
        match &failure {
            None => println!("pass: {title} ({seconds:.1} s)"),
            Some(reason) => println!("FAIL: {title} ({seconds:.1} s): {reason}"),
        }
        Ok(Outcome { took, failure })
    }

    /// Boots the machine and shows what it says. The inner result is the guest's verdict.
    pub(crate) fn boot(&self) -> Result<Result<(), String>> {
        let kernel = Kernel::ensure(&self.machine.kernel)?;
        let _alone = alone()?;
        let logs = Logs::new(self)?;
        let initramfs = workspace::lab().join("initramfs");
        let arguments = ["init", "--nic", self.machine.nic.name(), &self.scenario];
        let arguments = arguments.map(str::to_owned);
        fs::write(&initramfs, initramfs::build(&kernel, &guest_program(), &arguments)?)?;

        let mut starts = 1;
        loop {
            match self.power_on(&kernel, &initramfs, &logs)? {
                End::Closed(Some(verdict)) if verdict == "pass" => return Ok(Ok(())),
                End::Closed(Some(reason)) => return Ok(Err(reason)),
                End::Closed(None) => {
                    return Ok(Err(format!("the machine ended early\n{}", logs.end())));
                }
                End::TimedOut => {
                    let seconds = self.timeout.as_secs();
                    return Ok(Err(format!("not done within {seconds} s\n{}", logs.end())));
                }
                End::NeverUp if starts < STARTS => {
                    println!("the machine did not come up (start {starts} of {STARTS})");
                    println!("{}", logs.end());
                    starts += 1;
                }
                End::NeverUp => {
                    return Ok(Err(format!(
                        "the machine did not come up in {STARTS} starts\n{}",
                        logs.end()
                    )));
                }
            }
        }
    }

    /// One life of the machine, from power on to its last word.
    fn power_on(&self, kernel: &Kernel, initramfs: &Path, logs: &Logs) -> Result<End> {
        let mut qemu = self.machine.qemu(kernel, initramfs, &logs.console);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&logs.qemu)?);
        let mut qemu = qemu.spawn().context("cannot start QEMU")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        let result = follow(output, File::create(&logs.guest)?, self.timeout);
        // A machine that has said its last word powers off; one that is late or silent is ended.
        if !matches!(result, Ok(End::Closed(_))) {
            qemu.kill().context("cannot end QEMU")?;
        }
        qemu.wait()?;
        result
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

/// How the output of a machine ended.
enum End {
    /// The machine is off; its verdict, if it came to one.
    Closed(Option<String>),
    /// The guest program had begun and was not done in time.
    TimedOut,
    /// The guest program never said a word: nothing was tested.
    NeverUp,
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
    let mut verdict = None;
    let mut give_up = Instant::now() + COMING_UP;
    let mut up = false;
    loop {
        match said.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
            Ok(_) if !up => {
                up = true;
                give_up = Instant::now() + patience;
            }
            Ok(line) => {
                writeln!(log, "{line}")?;
                match line.strip_prefix("verdict: ") {
                    Some(text) => verdict = Some(text.to_owned()),
                    None => println!("{line}"),
                }
            }
            Err(_) if !up => return Ok(End::NeverUp),
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Closed(verdict)),
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
        let name = format!("{}-{}-{}", run.scenario, run.machine.nic.name(), run.machine.kernel);
        let path = |kind: &str| directory.join(format!("{name}.{kind}"));
        Ok(Self { guest: path("log"), console: path("console"), qemu: path("qemu") })
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
