//! HAProxy, 2.6 and newer: a pinned thread per worker, each with listeners of its own.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{ADDRESS, BACKEND, PORT, Served, Setup, TLS_PORT, files, programs};
use crate::guest::Guest;

/// Every directive that alignment depends on is in the part `global` and in the lines `bind`.
pub(super) fn configuration(setup: &Setup) -> String {
    let workers = setup.workers.len();
    let cpus = setup.workers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let (host, port) = BACKEND;
    let [socket, certificate] = ["haproxy.sock", "own.pem"].map(files::path);
    let backend = if setup.backend_keepalive {
        "    http-reuse always\n"
    } else {
        "    http-reuse never\n    option http-server-close\n"
    };
    format!(
        "\
global
    nbthread {workers}
    cpu-map auto:1/1-{workers} {cpus}
    # A connection stays with the thread whose listener got it.
    tune.listener.multi-queue off
    # A thread uses no idle connection of another thread.
    tune.idle-pool.shared off
    stats socket {socket} mode 600 level admin expose-fd listeners
    maxconn 20000
defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s
frontend clients
    bind {ADDRESS}:{PORT} shards by-thread
    bind {ADDRESS}:{TLS_PORT} shards by-thread ssl crt {certificate}
    default_backend servers
backend servers
{backend}    server one {host}:{port}
"
    )
}

/// In the foreground, with a master process that reloads.
pub(super) fn command(guest: &Guest, configuration: &str) -> Command {
    let mut command = programs::command(guest, "haproxy");
    command.args(["-W", "-q", "-f", configuration]).stdin(Stdio::null());
    command
}

/// From the statistics, management.txt 9.1: requests of the frontend, and what went wrong beside
/// the clients' own mistakes.
pub(super) fn served() -> Result<Served> {
    let mut stream = UnixStream::connect(files::path("haproxy.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"show stat -1 3 -1\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text)
}

fn parse(text: &str) -> Result<Served> {
    let mut lines = text.lines();
    let heading = lines.next().and_then(|line| line.strip_prefix("# "));
    let heading: Vec<&str> = heading.context("haproxy shows no statistics")?.split(',').collect();
    let mut served = Served::default();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |name: &str| {
            let column = heading.iter().position(|heading| *heading == name)?;
            cells.get(column)?.parse::<u64>().ok()
        };
        match cells.get(1) {
            Some(&"FRONTEND") => {
                served.requests += number("req_tot").context("haproxy counts no requests")?;
            }
            Some(&"BACKEND") => {
                served.failed +=
                    ["econ", "eresp", "hrsp_5xx"].into_iter().filter_map(number).max().unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(served)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::proxy::Served;

    #[test]
    fn statistics_are_read() {
        let text = "\
# pxname,svname,econ,eresp,hrsp_5xx,req_tot,
clients,FRONTEND,,,3,1200,
servers,BACKEND,2,0,3,,

";
        // A failed connection is answered by a 503: the same failure, counted once.
        let served = parse(text).expect("well-formed");
        assert_eq!(served, Served { requests: 1200, failed: 3 });
        assert!(parse("").is_err());
    }
}
