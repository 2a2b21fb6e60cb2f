//! nginx as a load balancer: a pinned process per worker, each with listeners of its own.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{ADDRESS, BACKEND, PORT, Served, Setup, TLS_PORT, files, programs};
use crate::guest::Guest;

/// The directives that alignment depends on are `worker_cpu_affinity` and `reuseport`.
pub(super) fn configuration(setup: &Setup) -> String {
    let (host, port) = BACKEND;
    let keepalive = if setup.backend_keepalive { "keepalive 64;" } else { "" };
    let connection = if setup.backend_keepalive { "" } else { "close" };
    let [socket, certificate, key] = ["nginx.sock", "own.crt", "own.key"].map(files::path);
    // A mask for each worker, with CPU 0 on the right.
    let mask = |cpu: &usize| format!(" 1{}", "0".repeat(*cpu));
    let masks: String = setup.workers.iter().map(mask).collect();
    let head = head("proxy", setup.workers.len(), &format!("worker_cpu_affinity{masks};"));
    format!(
        "\
{head}
    upstream servers {{
        server {host}:{port};
        {keepalive}
    }}
    server {{
        listen {ADDRESS}:{PORT} reuseport backlog=4096;
        listen {ADDRESS}:{TLS_PORT} reuseport backlog=4096 ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection \"{connection}\";
        }}
    }}
    server {{
        listen unix:{socket};
        location / {{ stub_status; }}
    }}
}}
"
    )
}

/// What nginx needs in any role: workers, and nothing outside of its directory.
pub(super) fn head(role: &str, workers: usize, more: &str) -> String {
    let file = |name: &str| files::path(&format!("{role}-{name}"));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("    {kind}_temp_path {};\n", file(kind)));
    format!(
        "\
daemon off;
user root;
pid {};
error_log {} error;
worker_processes {workers};
worker_rlimit_nofile 40000;
{more}
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 300;
{}",
        file("pid"),
        file("error.log"),
        temporary.concat()
    )
}

/// In the foreground.
pub(super) fn command(guest: &Guest, configuration: &str) -> Command {
    let mut command = programs::command(guest, "nginx");
    // Before it has read its configuration it writes errors to stderr.
    command.args(["-e", "stderr", "-c", configuration]).stdin(Stdio::null());
    command
}

/// Requests by `stub_status`; an error by what a worker has written to the log.
pub(super) fn served() -> Result<Served> {
    let mut stream = UnixStream::connect(files::path("nginx.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let log = std::fs::read_to_string(files::path("proxy-error.log")).unwrap_or_default();
    Ok(Served { requests: requests(&text)?, failed: log.lines().count() as u64 })
}

/// The third number after the words "server accepts handled requests".
fn requests(text: &str) -> Result<u64> {
    let numbers = text.split("requests").nth(1).context("nginx shows no status")?;
    let number = numbers.split_whitespace().nth(2).context("nginx counts no requests")?;
    Ok(number.parse()?)
}

#[cfg(test)]
mod tests {
    use super::requests;

    #[test]
    fn the_status_is_read() {
        let text = "\
HTTP/1.1 200 OK

Active connections: 2
server accepts handled requests
 16 16 31
Reading: 0 Writing: 1 Waiting: 1
";
        assert_eq!(requests(text).expect("well-formed"), 31);
        assert!(requests("HTTP/1.1 502 Bad Gateway").is_err());
    }
}
