//! A real Prometheus scrapes a real daemon that sees real traffic, and is asked every query of the
//! dashboard and of the alert rules.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use steer_agent::run::metrics::Audience;
use steer_agent::run::{Ended, Options, run};
use steer_agent::sys::Machine;

use super::support::{in_namespace, options, signal};

/// Tries, a tenth of a second apart, before what does not come is taken not to.
const TRIES: u32 = 900;
/// This host's end of the pair, and a port of Prometheus' own.
const HERE: &str = "192.0.2.1:9000";
const PROMETHEUS: &str = "127.0.0.1:9390";

/// Metrics that a pair of virtual interfaces cannot have, for want of an indirection table. The lab has
/// them on real drivers.
const WITHOUT_TABLE: [&str; 2] =
    ["steer_nic_achievable_ratio", "steer_nic_mapping_agreement_ratio"];

/// A process that is ended with the value.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_command(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let status = Command::new(program).args(words).status().expect("it is installed");
    assert!(status.success(), "{line}: {status}");
}

/// Moves v1 into a namespace of its own, which lasts as long as the process that is returned.
fn peer() -> Ending {
    let holder = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().expect("started");
    let holder = Ending(holder);
    let pid = holder.0.id();
    let own = std::fs::read_link("/proc/self/ns/net").expect("there");
    let of_holder = || std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    while of_holder().is_none_or(|namespace| namespace == own) {
        std::thread::sleep(Duration::from_millis(5));
    }
    run_command("ip address add 192.0.2.1/24 dev v0");
    run_command("ethtool -K v0 gro on tso off");
    run_command(&format!("ip link set v1 netns {pid}"));
    let there = format!("nsenter --net=/proc/{pid}/ns/net");
    run_command(&format!("{there} ip address add 192.0.2.2/24 dev v1"));
    run_command(&format!("{there} ethtool -K v1 gro on tso off"));
    run_command(&format!("{there} ip link set v1 up"));
    holder
}

/// Requests from the other namespace, answered here, until `stop`.
fn traffic<'s>(scope: &'s std::thread::Scope<'s, '_>, peer: u32, stop: &'s AtomicBool) {
    let listener = TcpListener::bind(HERE).expect("bound");
    scope.spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        let mut request = [0; 64];
        while stream.read_exact(&mut request).is_ok() && stream.write_all(&request).is_ok() {}
    });
    scope.spawn(move || {
        let namespace = std::fs::File::open(format!("/proc/{peer}/ns/net")).expect("there");
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network).expect("entered");
        let mut stream = TcpStream::connect(HERE).expect("the server listens");
        let mut answer = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            stream.write_all(&[7; 64]).expect("a request");
            stream.read_exact(&mut answer).expect("an answer");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// The answer to `request`, head and body.
fn http(address: SocketAddr, request: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

fn get(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.0\r\nHost: steer\r\nAccept: {accept}\r\n\r\n");
    (0..TRIES)
        .find_map(|_| {
            let answer = http(address, &request);
            let is_there = |answer: &(String, String)| !answer.0.contains(" 503 ");
            let answer = answer.filter(is_there);
            if answer.is_none() {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer
        })
        .unwrap_or_else(|| panic!("{address}{path} does not answer"))
}

/// What Prometheus has for `query`; `None` while it has nothing.
fn query(query: &str) -> Option<usize> {
    let safe = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    let encoded: String = query.bytes().map(safe).collect();
    let address = PROMETHEUS.parse().expect("an address");
    let (_, body) = get(address, &format!("/api/v1/query?query={encoded}"), "*/*");
    let answer: Value =
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let series = answer["data"]["result"].as_array().map_or(0, Vec::len);
    (series > 0).then_some(series)
}

fn wait_for(what: &str) {
    for _ in 0..TRIES {
        if query(what).is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (_, page) = get(PROMETHEUS.parse().expect("an address"), "/api/v1/targets", "*/*");
    panic!("nothing answers {what}; targets: {page}");
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// Every query of the dashboard, with its variables filled in.
fn dashboard() -> Vec<String> {
    let text = std::fs::read_to_string(deploy("grafana-dashboard.json")).expect("there");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let queries = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    let fill = |query: String| {
        query.replace("$nic", ".*").replace("$instance", ".*").replace("$__rate_interval", "10s")
    };
    queries.map(fill).collect()
}

fn prometheus(dir: &Path, target: SocketAddr) -> Ending {
    let config = dir.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n  - {{job_name: steer, static_configs: [{{targets: ['{target}']}}]}}\n",
        deploy("alerts.yml").display()
    );
    std::fs::write(&config, text).expect("written");
    let log = std::fs::File::create(dir.join("prometheus.log")).expect("made");
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
        .arg(format!("--web.listen-address={PROMETHEUS}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Ending(child.expect("prometheus is installed by `cargo xtask setup`"))
}

/// What the daemon answers by itself.
fn look_at_page(address: SocketAddr) {
    let (head, page) = get(address, "/metrics", "application/openmetrics-text; version=1.0.0");
    assert!(head.contains("200 OK") && head.contains("openmetrics-text"), "{head}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    for (metric, wanted) in WITHOUT_TABLE.map(|metric| (metric, false)).into_iter().chain([
        ("steer_nic_state", true),
        ("steer_queue_packets_total", true),
        ("steer_process_resident_bytes", true),
        ("steer_bpf_runs_total", true),
    ]) {
        let has = page.lines().any(|line| line.starts_with(metric));
        assert_eq!(has, wanted, "{metric}: {page}");
    }
    let (head, page) = get(address, "/metrics", "text/plain");
    assert!(head.contains("text/plain; version=0.0.4") && !page.contains("# EOF"), "{head}");
    assert!(get(address, "/", "*/*").0.contains("404"));
    let post = "POST /metrics HTTP/1.0\r\nHost: steer\r\nContent-Length: 0\r\n\r\n";
    let (head, _) = http(address, post).expect("answered");
    assert!(head.contains("405") && head.to_lowercase().contains("allow: get"), "{head}");
    // Whoever says nothing, or too much, takes places for a while and no more.
    let idle: Vec<_> = (0..50).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let _ = http(address, &format!("GET /metrics HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)));
    drop(idle);
    get(address, "/metrics", "*/*");
}

fn look_at_all(dir: &Path, address: SocketAddr) {
    look_at_page(address);
    let textfile = dir.join("steer.prom");
    let text = std::fs::read_to_string(&textfile).expect("written");
    assert!(text.contains("# TYPE steer_queue_packets_total counter\n"), "{text}");

    let _prometheus = prometheus(dir, address);
    wait_for("up{job=\"steer\"} == 1");
    let queries = dashboard();
    assert!(queries.len() > 20, "{queries:?}");
    for one in &queries {
        if !WITHOUT_TABLE.iter().any(|metric| one.contains(metric)) {
            wait_for(one);
        }
    }
    let address = PROMETHEUS.parse().expect("an address");
    let healthy = |rules: &Value| {
        let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
        assert!(rules.len() >= 10, "{rules:?}");
        for rule in &rules {
            assert_ne!(rule["health"], "err", "{rule}");
            // Parsed again as it stands, and asked.
            query(rule["query"].as_str().expect("a query"));
        }
        rules.iter().all(|rule| rule["health"] == "ok")
    };
    let all_ok = (0..TRIES).any(|_| {
        let (_, body) = get(address, "/api/v1/rules", "*/*");
        let ok = healthy(&serde_json::from_str(&body).expect("JSON"));
        if !ok {
            std::thread::sleep(Duration::from_millis(100));
        }
        ok
    });
    assert!(all_ok, "every alert rule is evaluated");
    assert!(query("ALERTS{alertstate=\"firing\",severity=\"critical\"}").is_none());
}

#[test]
fn prometheus_gets_an_answer_to_every_query() {
    in_namespace("prometheus::prometheus_gets_an_answer_to_every_query", || {
        if Command::new("prometheus").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "it must be installed");
            println!("skipped: `cargo xtask setup` installs prometheus");
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let peer = peer();
        let stop = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let (stop, place) = (&stop, dir.path());
            traffic(scope, peer.0.id(), stop);
            let looking = scope.spawn(move || {
                // Whatever fails, the daemon is to end.
                struct Stop<'a>(&'a AtomicBool);
                impl Drop for Stop<'_> {
                    fn drop(&mut self) {
                        self.0.store(true, Ordering::Relaxed);
                        signal(Signal::TERM);
                    }
                }
                let _stop = Stop(stop);
                look_at_all(place, told.recv().expect("the daemon says where"));
            });
            let machine = Machine::open().expect("sockets");
            let audience = Audience {
                listen: Some(([127, 0, 0, 1], 0).into()),
                textfile: Some(dir.path().join("steer.prom")),
                bpf_run_time: true,
            };
            let options = Options { metrics: audience, ..options(dir.path(), &machine) };
            let say = |line: &str| {
                println!("{line}");
                let address = line.strip_prefix("metrics at http://");
                if let Some(address) = address.and_then(|rest| rest.strip_suffix("/metrics")) {
                    tell.send(address.parse().expect("an address")).expect("awaited");
                }
            };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("built");
            let ended = runtime.block_on(run(options, &machine, &say, &|| None));
            assert_eq!(ended.expect("ended"), Ended::AsAsked);
            looking.join().expect("everything was answered");
        });
        assert!(!dir.path().join("steer.prom").exists(), "it goes with the daemon");
    });
}
