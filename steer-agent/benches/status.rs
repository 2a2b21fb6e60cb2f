//! How long `steer status` waits for a daemon with 128 queues and many flows, and what a window costs
//! that daemon: `cargo xtask bench status`, or `cargo bench -p steer-agent --features testkit --bench
//! status`.
//!
//! The daemon's state is made up, the socket, the server and the command are the real ones. The command
//! is run in a network namespace with a pair of virtual interfaces, which takes root; without it that
//! line is left out, and it is said.

#![allow(clippy::expect_used, reason = "a benchmark that cannot be set up has failed")]
#![expect(clippy::print_stdout, reason = "a benchmark's output is its result")]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use steer_agent::model::{
    CpuSet, Flow, FlowAddr, Matrix, Nic, NicCounters, NicSample, Queue, Rss, Sample, Topology,
    World,
};
use steer_agent::plan::{Experience, Plan, Shared, plan};
use steer_agent::policy::Policy;
use steer_agent::report::socket::{Request, ask};
use steer_agent::report::{NicState, NicStatus, Source, Status, text};
use steer_agent::run::serve::{Limits, Server, Serving, Window};
use steer_agent::sys::own::usage;

const QUEUES: u32 = 128;
const BUCKETS: u32 = 512;
/// What the kernel side remembers at most, and what was promised for.
const FLOWS: [u32; 2] = [16_384, 100_000];
const RUNS: usize = 15;
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "STEER_BENCH_INSIDE";
/// The made-up NIC has the name of a real interface, so that the command finds it.
const NIC: &str = "v0";

fn main() {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && std::env::var_os(INSIDE).is_none() {
        return in_namespace();
    }
    println!("| flows | what | least, ms | median, ms | size |");
    println!("|---:|---|---:|---:|---:|");
    for flows in FLOWS {
        measure(flows, is_root);
    }
    if !is_root {
        println!("\nwithout root: the command itself was not run");
    }
}

/// This very program again, in a network namespace of its own.
fn in_namespace() {
    let me = std::env::current_exe().expect("this program");
    let script = format!(
        "mount -t sysfs sysfs /sys && ip link add {NIC} type veth peer name v1 && ip link set {NIC} up \
         && exec {}",
        me.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", &script]).env(INSIDE, "1");
    let status = command.status().expect("unshare(1) of util-linux");
    assert!(status.success(), "inside the namespace: {status}");
}

fn measure(flows: u32, is_root: bool) {
    let row = |what: &str, (least, median): (f64, f64), size: &str| {
        println!("| {flows} | {what} | {least:.1} | {median:.1} | {size} |");
    };
    let (first, second) = (sample(flows, 1), sample(flows, 2));
    row("window: two samples compared", times(|| World::between(&first, &second, 0)), "");
    let world = World::between(&first, &second, 0);
    row("window: status without the plan", times(|| document(&world, &Plan::default())), "");
    let (policy, experience) = (Policy::default(), Experience::default());
    let shared = Shared::new(&world);
    let plan = plan(&world.nics[0], &shared.around(&world.nics[0]), &policy, &experience);
    let status = document(&world, &plan);

    let second = Arc::new(second);
    let window = || Window::new(status.clone()).with_flows_of(Arc::clone(&second), first.at_ns);
    row("window: published", times(&window), "");

    let dir = tempfile::tempdir().expect("a directory");
    let serving = Daemon::begin(dir.path(), window());
    let runtime = runtime();
    let get = |flows| {
        let answers =
            runtime.block_on(ask(dir.path(), Request::Status { flows })).expect("answered");
        answers.into_iter().next().expect("one daemon")
    };
    for (with, label) in [(false, "asked and read"), (true, "asked and read, --flows")] {
        // Each time a window that nobody has asked about yet.
        let fresh = times(|| {
            serving.publish.send_replace(Some(Arc::new(window())));
            get(with)
        });
        let size = serde_json::to_vec(&get(with)).expect("serialised").len();
        row(label, fresh, &format!("{} KiB", size.div_ceil(1024)));
    }
    let answer = get(false);
    row("put into text", times(|| text::status(&answer, 80)), "");
    if is_root {
        for (label, words) in [
            ("`steer status`", &["status", NIC][..]),
            ("`steer status --json`", &["status", NIC, "--json"]),
            ("`steer status --json --flows`", &["status", NIC, "--json", "--flows"]),
        ] {
            let run = || {
                serving.publish.send_replace(Some(Arc::new(window())));
                steer(dir.path(), words);
            };
            row(label, times(run), "");
        }
    }
    let resident = usage().map_or(0, |usage| usage.resident_bytes >> 20);
    println!("| {flows} | this process with daemon, asker and both samples | | | {resident} MiB |");
}

/// Least and median time of a call in milliseconds.
fn times<T>(mut call: impl FnMut() -> T) -> (f64, f64) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            black_box(call());
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[RUNS / 2])
}

fn steer(runtime_dir: &Path, words: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command.args(words).arg("--runtime-dir").arg(runtime_dir).args(["--config", "/dev/null"]);
    // A virtual interface cannot be steered, which is exit code 1; that the daemon answered is
    // what counts, and then nothing is observed.
    let output = command.stderr(Stdio::null()).output().expect("started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("daemon") && text.contains(NIC), "{text}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A daemon's answering end.
struct Daemon {
    publish: tokio::sync::watch::Sender<Option<Arc<Window>>>,
    _serving: Serving,
}

impl Daemon {
    fn begin(dir: &Path, window: Window) -> Self {
        let (publish, published) = tokio::sync::watch::channel(Some(Arc::new(window)));
        let server = Server::bind(dir, None, Limits::default()).expect("bound");
        Self { publish, _serving: Serving::begin(server, published).expect("begun") }
    }
}

fn document(world: &World, plan: &Plan) -> Status {
    let nic = NicStatus::new(world, &world.nics[0], plan, NicState::Steering, None);
    Status::new(Source::Daemon, world, vec![nic])
}

/// What was read after so many seconds: flows hashed over all queues, each consumed 20 times a second
/// on a CPU that is not the one that polls its queue, except one in sixteen.
fn sample(flows: u32, seconds: u64) -> Sample {
    let at = |number: u32| usize::try_from(number).expect("small");
    let (queues, buckets) = (at(QUEUES), at(BUCKETS));
    let nic = Nic {
        name: NIC.to_owned(),
        driver: Some("mlx5_core".to_owned()),
        ifindex: 2,
        up: true,
        rss: Some(Rss { table: (0..QUEUES).cycle().take(buckets).collect(), ..Rss::default() }),
        queues: (0..QUEUES)
            .map(|id| Queue {
                id,
                irq: Some(100 + id),
                affinity: Some(CpuSet::single(id)),
                effective: Some(CpuSet::single(id)),
                xps: Some(CpuSet::single(id)),
                ..Queue::default()
            })
            .collect(),
        ..Nic::default()
    };
    let mut counters = NicCounters {
        load: Some(Matrix::new(buckets, queues)),
        demand: Some(Matrix::new(buckets, queues)),
        queue_packets: Matrix::new(queues, queues),
        queue_consumed: Matrix::new(queues, queues),
        consumed_by_napi: Matrix::new(queues, queues),
        consumed_by_protocol: Matrix::new(queues, queues),
        unattributed: 0,
    };
    let count = 20 * seconds;
    let mut list = Vec::with_capacity(at(flows));
    for number in 0..flows {
        let hash = number.wrapping_mul(2_654_435_761);
        let (bucket, queue) = (hash % BUCKETS, hash % QUEUES);
        let consumer = if number % 16 == 0 { queue } else { (queue + 1 + number % 7) % QUEUES };
        let (queue_at, consumer_at) = (at(queue), at(consumer));
        if let (Some(load), Some(demand)) = (&mut counters.load, &mut counters.demand) {
            load.add(at(bucket), queue_at, 2 * count);
            demand.add(at(bucket), consumer_at, count);
        }
        counters.queue_packets.add(queue_at, queue_at, 2 * count);
        counters.queue_consumed.add(queue_at, consumer_at, count);
        counters.consumed_by_napi.add(queue_at, consumer_at, count);
        counters.consumed_by_protocol.add(queue_at, consumer_at, count);
        let [_, a, b, c] = number.to_be_bytes();
        list.push(Flow {
            addr: FlowAddr {
                protocol: 6,
                local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 443)),
                remote: SocketAddr::from((Ipv4Addr::new(10, a, b, c), 40_000)),
            },
            ifindex: Some(2),
            queue: Some(queue),
            hash: Some(hash),
            hash_computed: false,
            softirq_cpu: Some(queue),
            protocol_cpu: Some(queue),
            consumer_cpu: consumer,
            consumed: count,
            mismatched: if consumer == queue { 0 } else { count },
            consumer_moves: 0,
            first_ns: 0,
            last_ns: seconds * 1_000_000_000,
            pid: Some(1000 + consumer),
            comm: "haproxy".to_owned(),
        });
    }
    Sample {
        at_ns: seconds * 1_000_000_000,
        topology: Topology::regular(2, 64, 1),
        nics: vec![NicSample { nic, counters }],
        flows: list,
        ..Sample::default()
    }
}
