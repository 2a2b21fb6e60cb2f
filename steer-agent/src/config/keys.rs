//! Every key of the configuration: what it means, what it takes, and where its value goes.
//!
//! From this one table come the reader of files and of the environment, `steer config show` and the
//! example in deploy/steer.toml. A key that is not here does not exist.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::form::{Form, Value};
use crate::model::CpuSet;
use crate::observe::Observer;
use crate::policy::{MaintenanceWindow, Policy};

/// What `run` leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// Everything as it was before
    #[default]
    Restore,
    /// Everything as corrected; `steer restore` undoes it later
    Keep,
}

/// What is done about a running irqbalance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnIrqbalance {
    /// Say so, and leave interrupts to it.
    #[default]
    Report,
    /// Ask it to leave the NIC's interrupts alone.
    Ban,
}

/// How packets are seen to arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObserverChoice {
    /// The least intrusive that works here: tracing.
    #[default]
    Auto,
    /// Tracing programs on the receive path.
    Tracing,
    /// An XDP program.
    Xdp,
}

impl ObserverChoice {
    /// The observer that is meant.
    #[must_use]
    pub fn resolve(self) -> Observer {
        match self {
            Self::Auto | Self::Tracing => Observer::Tracing,
            Self::Xdp => Observer::Xdp,
        }
    }
}

/// The value of every key, for one interface or for those that are not named.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Interfaces that `run` works on where none is named on the command line.
    pub interfaces: Vec<String>,
    /// Time between two looks of `run`.
    pub period: Duration,
    /// Ports of listeners whose connections are steered to the worker of the CPU where they arrive.
    pub accept: BTreeSet<u16>,
    /// Cgroups whose connects are steered.
    pub connect: Vec<String>,
    /// What `run` leaves behind.
    pub on_exit: OnExit,
    /// Observe and plan, write nothing.
    pub dry_run: bool,
    /// How packets are seen to arrive.
    pub observer: ObserverChoice,
    /// Name or number of the group that may ask a daemon, beside root.
    pub group: Option<String>,
    /// What is done about a running irqbalance.
    pub irqbalance: OnIrqbalance,
    /// When steer may write.
    pub maintenance_window: MaintenanceWindow,
    /// Thresholds and limits of the planner, and which levers it has.
    pub policy: Policy,
    /// Where metrics are asked for.
    pub metrics_listen: Option<SocketAddr>,
    /// The file that metrics are written into.
    pub metrics_textfile: Option<PathBuf>,
    /// Have the kernel measure the BPF programs.
    pub bpf_run_time: bool,
    /// Directory of journals and recordings.
    pub state_dir: PathBuf,
    /// Directory of the status socket.
    pub runtime_dir: PathBuf,
    /// Where the host's /proc is mounted.
    pub proc: PathBuf,
    /// Where the host's /sys is mounted.
    pub sys: PathBuf,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            period: Duration::from_secs(1),
            accept: BTreeSet::new(),
            connect: Vec::new(),
            on_exit: OnExit::Restore,
            dry_run: false,
            observer: ObserverChoice::Auto,
            group: None,
            irqbalance: OnIrqbalance::Report,
            maintenance_window: MaintenanceWindow::default(),
            policy: Policy::default(),
            metrics_listen: None,
            metrics_textfile: None,
            bpf_run_time: false,
            state_dir: "/var/lib/steer".into(),
            runtime_dir: "/run/steer".into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

/// When a new value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With a reload (SIGHUP).
    Reload,
    /// With the next start only.
    Start,
}

/// One key.
pub struct Key {
    /// The section that it stands in, without brackets.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Whether it may stand in `[interface.NAME]` too.
    pub per_interface: bool,
    /// When a new value takes effect.
    pub effect: Effect,
    /// What it takes.
    pub form: Form,
    /// What it means, in whole sentences.
    pub doc: &'static str,
    /// Puts a value of its form in its place; `None` for one of another form.
    pub(super) set: fn(&mut Values, &Value) -> Option<()>,
    /// Its value.
    pub(super) get: fn(&Values) -> Value,
}

impl Key {
    /// `section.name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Its default, as it would stand in a file.
    #[must_use]
    pub fn default_text(&self) -> String {
        (self.get)(&Values::default()).to_toml(self.form).to_string()
    }

    /// The variable of the environment that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("STEER_{}_{}", self.section, self.name).to_uppercase()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

/// The sections, in the order in which they are shown, each with what is in it.
pub const SECTIONS: [(&str, &str); 4] = [
    ("run", "What `steer run` does."),
    ("policy", "What plans are made by: placement, levers, limits and thresholds."),
    ("metrics", "What Prometheus can ask for (docs/metrics.md)."),
    ("paths", "Where things are. In a container the host's trees are mounted elsewhere."),
];

const fn in_run(
    name: &'static str,
    effect: Effect,
    form: Form,
    doc: &'static str,
    set: fn(&mut Values, &Value) -> Option<()>,
    get: fn(&Values) -> Value,
) -> Key {
    Key { section: "run", name, per_interface: false, effect, form, doc, set, get }
}

const fn in_policy(
    name: &'static str,
    form: Form,
    doc: &'static str,
    set: fn(&mut Values, &Value) -> Option<()>,
    get: fn(&Values) -> Value,
) -> Key {
    let effect = Effect::Reload;
    Key { section: "policy", name, per_interface: true, effect, form, doc, set, get }
}

const fn in_paths(
    name: &'static str,
    doc: &'static str,
    set: fn(&mut Values, &Value) -> Option<()>,
    get: fn(&Values) -> Value,
) -> Key {
    let (effect, form) = (Effect::Start, Form::Directory);
    Key { section: "paths", name, per_interface: false, effect, form, doc, set, get }
}

const fn in_metrics(
    name: &'static str,
    form: Form,
    doc: &'static str,
    set: fn(&mut Values, &Value) -> Option<()>,
    get: fn(&Values) -> Value,
) -> Key {
    let effect = Effect::Start;
    Key { section: "metrics", name, per_interface: false, effect, form, doc, set, get }
}

/// A share of one.
const SHARE: Form = Form::Number(0.0, 1.0);
/// A price in cache-line transfers, or a share that may exceed one.
const PRICE: Form = Form::Number(0.0, 1000.0);

/// All keys, by section.
pub static KEYS: &[Key] = &[
    in_run(
        "interfaces",
        Effect::Start,
        Form::Names("eth0"),
        "Interfaces that are steered where the command line names none. Naming one here is the consent \
         to write to it. Without any, and with dry_run, all that can be steered are looked at.",
        |to, value| value.as_names().map(|names| to.interfaces = names),
        |of| Value::Names(of.interfaces.clone()),
    ),
    in_run(
        "accept",
        Effect::Start,
        Form::Ports(steer_common::accept::PORTS as usize),
        "Ports of listeners: each new connection to them goes to the worker of the CPU on which it \
         arrives (docs/accept.md).",
        |to, value| value.as_ports().map(|ports| to.accept = ports),
        |of| Value::Ports(of.accept.clone()),
    ),
    in_run(
        "connect",
        Effect::Start,
        Form::Names("system.slice/haproxy.service"),
        "Cgroups whose connects get a source port whose answers arrive on the CPU that connects \
         (docs/connect.md).",
        |to, value| value.as_names().map(|names| to.connect = names),
        |of| Value::Names(of.connect.clone()),
    ),
    in_run(
        "period",
        Effect::Reload,
        Form::Time(Duration::from_millis(100), Duration::from_mins(1)),
        "Time between two looks.",
        |to, value| value.as_time().map(|time| to.period = time),
        |of| Value::Time(of.period),
    ),
    in_run(
        "on_exit",
        Effect::Reload,
        Form::Choice(&["restore", "keep"]),
        "What is left behind at the end: everything as it was before steer, or as corrected.",
        |to, value| value.as_choice().map(|choice| to.on_exit = choice),
        |of| Value::choice(&of.on_exit),
    ),
    in_run(
        "dry_run",
        Effect::Start,
        Form::Flag,
        "Say what would be written, and write nothing.",
        |to, value| value.as_flag().map(|flag| to.dry_run = flag),
        |of| Value::Flag(of.dry_run),
    ),
    in_run(
        "observer",
        Effect::Start,
        Form::Choice(&["auto", "tracing", "xdp"]),
        "How packets are seen to arrive. `xdp` attaches a program to the NIC, which resets most NICs for \
         a moment.",
        |to, value| value.as_choice().map(|choice| to.observer = choice),
        |of| Value::choice(&of.observer),
    ),
    in_run(
        "group",
        Effect::Start,
        Form::Text("none"),
        "Group, by name or number, whose members may ask the daemon for its status, beside root.",
        |to, value| value.take_text(|text| to.group = text),
        |of| Value::Text(of.group.clone()),
    ),
    Key {
        per_interface: true,
        ..in_run(
            "irqbalance",
            Effect::Reload,
            Form::Choice(&["report", "ban"]),
            "What is done about a running irqbalance: report it and leave interrupts to it, or ask it to \
             leave those of the NIC alone (until the end).",
            |to, value| value.as_choice().map(|choice| to.irqbalance = choice),
            |of| Value::choice(&of.irqbalance),
        )
    },
    Key {
        per_interface: true,
        ..in_run(
            "maintenance_window",
            Effect::Reload,
            Form::Window,
            "Times at which steer may write, as [\"Sat,Sun\", \"Mon-Fri 22:00-06:00\"]; outside them it \
             observes. An empty list is always. Times are those of the host's wall clock: an hour that is \
             left out in spring does not happen, one that comes twice in autumn counts twice. What turns \
             out to harm is taken back at any time.",
            |to, value| value.as_window().map(|window| to.maintenance_window = window),
            |of| Value::Window(of.maintenance_window.clone()),
        )
    },
    in_policy(
        "placement",
        Form::Choice(&["same-core", "smt-sibling", "same-llc", "same-node", "dedicated"]),
        "Where interrupts are to be, relative to consumers. `dedicated` keeps them near, but on cores that \
         consume nothing.",
        |to, value| value.as_choice().map(|choice| to.policy.placement = choice),
        |of| Value::choice(&of.policy.placement),
    ),
    in_policy(
        "allowed_cpus",
        Form::Cpus("all"),
        "CPUs that may be given interrupts.",
        |to, value| value.take_cpus(|cpus| to.policy.allowed_cpus = cpus),
        |of| Value::Cpus(of.policy.allowed_cpus.clone()),
    ),
    in_policy(
        "denied_cpus",
        Form::Cpus("none"),
        "CPUs that are never given interrupts, whatever allowed_cpus says.",
        |to, value| value.take_cpus(|cpus| to.policy.denied_cpus = cpus.unwrap_or_default()),
        |of| {
            let cpus = &of.policy.denied_cpus;
            Value::Cpus((*cpus != CpuSet::default()).then(|| cpus.clone()))
        },
    ),
    in_policy(
        "move_table",
        Form::Flag,
        "Lever: write the RSS indirection table.",
        |to, value| value.as_flag().map(|flag| to.policy.move_table = flag),
        |of| Value::Flag(of.policy.move_table),
    ),
    in_policy(
        "move_irqs",
        Form::Flag,
        "Lever: write the affinity of interrupts.",
        |to, value| value.as_flag().map(|flag| to.policy.move_irqs = flag),
        |of| Value::Flag(of.policy.move_irqs),
    ),
    in_policy(
        "set_xps",
        Form::Flag,
        "Lever: have TX queues follow RX queues (XPS).",
        |to, value| value.as_flag().map(|flag| to.policy.set_xps = flag),
        |of| Value::Flag(of.policy.set_xps),
    ),
    in_policy(
        "pins",
        Form::Whole(0, 4096),
        "Lever: at most so many exact-match (ntuple) rules for heavy flows; 0 is none. Not yet run on \
         hardware.",
        |to, value| value.as_whole().map(|whole| to.policy.pins = whole),
        |of| Value::Whole(whole(of.policy.pins)),
    ),
    in_policy(
        "allow_link_reset",
        Form::Flag,
        "Write the table even where the driver takes the link down for it (docs/drivers.md), or is not \
         known well enough to exclude that.",
        |to, value| value.as_flag().map(|flag| to.policy.allow_link_reset = flag),
        |of| Value::Flag(of.policy.allow_link_reset),
    ),
    in_policy(
        "moves_divisor",
        Form::Whole(1, 65_536),
        "Limit: after the first plan a period moves at most the table's size divided by this (but four \
         buckets).",
        |to, value| value.as_whole().map(|whole| to.policy.moves_divisor = whole),
        |of| Value::Whole(whole(of.policy.moves_divisor)),
    ),
    in_policy(
        "most_irq_moves",
        Form::Whole(0, 4096),
        "Limit: interrupts moved in a period after the first plan.",
        |to, value| value.as_whole().map(|whole| to.policy.most_irq_moves = whole),
        |of| Value::Whole(whole(of.policy.most_irq_moves)),
    ),
    in_policy(
        "softirq_cap",
        SHARE,
        "Limit: softirq time that a CPU may take before load_slack binds, as a share of the CPU.",
        |to, value| value.as_number().map(|number| to.policy.softirq_cap = number),
        |of| Value::Number(of.policy.softirq_cap),
    ),
    in_policy(
        "load_slack",
        PRICE,
        "Limit: how far a CPU's packet load may exceed the average of the CPUs in use, as a share of it, \
         where softirq_cap is exceeded too.",
        |to, value| value.as_number().map(|number| to.policy.load_slack = number),
        |of| Value::Number(of.policy.load_slack),
    ),
    in_policy(
        "least_gain",
        SHARE,
        "Threshold: share of the present cost that a plan must save, unless it cures an overload.",
        |to, value| value.as_number().map(|number| to.policy.least_gain = number),
        |of| Value::Number(of.policy.least_gain),
    ),
    in_policy(
        "least_samples",
        Form::Whole(1, 1_000_000_000),
        "Threshold: consumptions in a window before anything is decided.",
        |to, value| value.as_whole().map(|whole| to.policy.least_samples = whole),
        |of| Value::Whole(of.policy.least_samples),
    ),
    in_policy(
        "move_price",
        PRICE,
        "Price of moving a bucket to another queue, in cache-line transfers inside a last-level cache per \
         consumption.",
        |to, value| value.as_number().map(|number| to.policy.move_price = number),
        |of| Value::Number(of.policy.move_price),
    ),
    in_policy(
        "irq_move_share",
        PRICE,
        "Share of move_price where the queue's interrupt moves and the bucket stays in its queue.",
        |to, value| value.as_number().map(|number| to.policy.irq_move_share = number),
        |of| Value::Number(of.policy.irq_move_share),
    ),
    in_policy(
        "nic_distance",
        PRICE,
        "Price of a packet on a node other than the NIC's, in the unit of move_price.",
        |to, value| value.as_number().map(|number| to.policy.nic_distance = number),
        |of| Value::Number(of.policy.nic_distance),
    ),
    in_policy(
        "seed",
        // The largest that TOML has.
        Form::Whole(0, i64::MAX.unsigned_abs()),
        "Where the planner's random numbers start: the same seed gives the same plan.",
        |to, value| value.as_whole().map(|whole| to.policy.seed = whole),
        |of| Value::Whole(of.policy.seed),
    ),
    in_metrics(
        "listen",
        Form::Address("off"),
        "Address where metrics are asked for, as \"127.0.0.1:9750\". Whoever reaches it is answered.",
        |to, value| value.take_address(|address| to.metrics_listen = address),
        |of| Value::Address(of.metrics_listen),
    ),
    in_metrics(
        "textfile",
        Form::File("off"),
        "File that metrics are written into, for the textfile collector of node_exporter; its name ends in \
         .prom there.",
        |to, value| value.take_file(|path| to.metrics_textfile = path),
        |of| Value::File(of.metrics_textfile.clone()),
    ),
    in_metrics(
        "bpf_run_time",
        Form::Flag,
        "Have the kernel measure the run time of BPF programs, all there are on this host. That costs some \
         tens of nanoseconds a run, and needs CAP_SYS_ADMIN at the start.",
        |to, value| value.as_flag().map(|flag| to.bpf_run_time = flag),
        |of| Value::Flag(of.bpf_run_time),
    ),
    in_paths(
        "state_dir",
        "Directory of journals and recordings.",
        |to, value| value.as_directory().map(|path| to.state_dir = path),
        |of| Value::Directory(of.state_dir.clone()),
    ),
    in_paths(
        "runtime_dir",
        "Directory of the status socket.",
        |to, value| value.as_directory().map(|path| to.runtime_dir = path),
        |of| Value::Directory(of.runtime_dir.clone()),
    ),
    in_paths(
        "proc",
        "Where the host's /proc is mounted.",
        |to, value| value.as_directory().map(|path| to.proc = path),
        |of| Value::Directory(of.proc.clone()),
    ),
    in_paths(
        "sys",
        "Where the host's /sys is mounted.",
        |to, value| value.as_directory().map(|path| to.sys = path),
        |of| Value::Directory(of.sys.clone()),
    ),
];

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The key of this section and name; `-` stands for `_`.
#[must_use]
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    let name = name.replace('-', "_");
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The key of this name that an interface may have of its own.
#[must_use]
pub fn find_for_interface(name: &str) -> Option<&'static Key> {
    let name = name.replace('-', "_");
    KEYS.iter().find(|key| key.per_interface && key.name == name)
}

/// The nearest of `known` to `word`, where any is near enough to be what was meant. Only the part behind
/// the last dot counts.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = |path: &'a str| path.rsplit('.').next().unwrap_or(path);
    let word = word.rsplit('.').next().unwrap_or(word);
    // Hostile words are not measured: the time it takes is the product of the lengths.
    let near = known.into_iter().filter(|_| word.len() <= 100);
    let near = near.map(|path| (strsim::damerau_levenshtein(word, last(path)), path));
    let (distance, path) = near.min()?;
    (distance <= (word.len() / 3).max(1)).then_some(path)
}
