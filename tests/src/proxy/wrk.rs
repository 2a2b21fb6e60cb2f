//! The load in front of a proxy: wrk in the peer's namespace, as fast as the proxy answers.

use std::{
    io::Read,
    iter::Sum,
    process::{Child, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{ADDRESS, Layout, PORT, TLS_PORT};
use crate::guest::Guest;

/// How long connections live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Each ends after one request.
    OneRequest,
    /// They stay open.
    KeepAlive,
    /// Half of them end after one request.
    Mixed,
}

/// What load to put on.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// How long connections live.
    pub connections: Connections,
    /// Encrypted.
    pub tls: bool,
    /// How many connections there are at a time.
    pub width: usize,
}

impl Traffic {
    /// In a few words.
    #[must_use]
    pub fn title(&self) -> String {
        let connections = match self.connections {
            Connections::OneRequest => "one request per connection",
            Connections::KeepAlive => "keep-alive",
            Connections::Mixed => "half keep-alive, half one request per connection",
        };
        format!("{connections}{}", if self.tls { ", TLS" } else { "" })
    }
}

/// What the clients saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests that were answered.
    pub answered: u64,
    /// Connections refused or broken, answers late by ten seconds, and answers that are errors.
    pub failed: u64,
}

/// A running load; ended when dropped.
#[derive(Debug)]
pub struct Wrk {
    children: Vec<Child>,
}

impl Wrk {
    /// Starts it.
    pub fn start(guest: &Guest, layout: &Layout, traffic: &Traffic) -> Result<Self> {
        Self::start_as(guest, layout, traffic, 0)
    }

    /// Starts it as a certain user, by whom the far end may choose routes.
    pub fn start_as(guest: &Guest, layout: &Layout, traffic: &Traffic, user: u32) -> Result<Self> {
        let (scheme, port) = if traffic.tls { ("https", TLS_PORT) } else { ("http", PORT) };
        let url = format!("{scheme}://{ADDRESS}:{port}/");
        let start = |close: bool, width: usize| -> Result<Child> {
            let mut command = layout.far_command(guest, "wrk", user);
            command.args(["--threads", "1", "--connections", &width.to_string()]);
            command.args(["--duration", "1h", "--timeout", "10s"]);
            if close {
                command.args(["--header", "Connection: close"]);
            }
            command.arg(&url).stdin(Stdio::null()).stdout(Stdio::piped());
            command.spawn().context("cannot start wrk")
        };
        let mut wrk = Self { children: Vec::new() };
        match traffic.connections {
            Connections::OneRequest => wrk.children.push(start(true, traffic.width)?),
            Connections::KeepAlive => wrk.children.push(start(false, traffic.width)?),
            Connections::Mixed => {
                wrk.children.push(start(true, traffic.width / 2)?);
                wrk.children.push(start(false, traffic.width.div_ceil(2))?);
            }
        }
        Ok(wrk)
    }

    /// Ends the load, and returns what it has seen since its start.
    pub fn stop(mut self) -> Result<Summary> {
        for child in &self.children {
            kill_process(Pid::from_child(child), Signal::INT)?;
        }
        let mut summaries = Vec::new();
        for child in &mut self.children {
            let mut text = String::new();
            child.stdout.take().context("wrk has no output")?.read_to_string(&mut text)?;
            child.wait()?;
            summaries.push(parse(&text).with_context(|| format!("wrk says {text:?}"))?);
        }
        Ok(summaries.into_iter().sum())
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Sum for Summary {
    fn sum<I: Iterator<Item = Self>>(summaries: I) -> Self {
        summaries.fold(Self::default(), |sum, one| Self {
            answered: sum.answered + one.answered,
            failed: sum.failed + one.failed,
        })
    }
}

fn parse(text: &str) -> Option<Summary> {
    let mut answered = None;
    let mut failed = 0;
    for line in text.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            answered = Some(count.parse().ok()?);
        } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
            for error in errors.split(", ") {
                failed += error.split(' ').nth(1)?.parse::<u64>().ok()?;
            }
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            failed += count.parse::<u64>().ok()?;
        }
    }
    Some(Summary { answered: answered?, failed })
}

#[cfg(test)]
mod tests {
    use super::{Summary, parse};

    #[test]
    fn a_summary_is_read() {
        let text = "\
Running 60m test @ http://10.9.0.1:80/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    12.34ms    5.67ms  89.01ms   70.00%
    Req/Sec     1.20k   100.00     1.40k    70.00%
  4321 requests in 3.60s, 1.23MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:   1200.28
Transfer/sec:    350.00KB
";
        // 1 + 2 + 3 + 4 of the sockets, and 5 answers.
        assert_eq!(parse(text), Some(Summary { answered: 4321, failed: 15 }));
        let fine = "  10 requests in 1.00s, 1KB read\n";
        assert_eq!(parse(fine), Some(Summary { answered: 10, failed: 0 }));
        assert_eq!(parse("unable to connect to 10.9.0.1:80 Connection refused\n"), None);
    }
}
