//! `steer-lab`: the program inside a lab machine.

#![allow(clippy::print_stdout, reason = "the table of scenarios is for xtask to read")]

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use steer_tests::{
    host, init,
    load::{Proto, client, connects, server},
    scenario,
};

/// The program inside a lab machine of steer.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Set the machine up, run a scenario, say the verdict and power off.
    Init {
        /// The emulated NIC under test.
        #[arg(long)]
        nic: String,
        /// How many of them.
        #[arg(long, default_value_t = 1)]
        nics: usize,
        /// What to run.
        scenario: String,
    },
    /// Run a scenario on the running kernel, over a pair of virtual interfaces. To be started in a
    /// network and a mount namespace of its own.
    Host {
        /// What to run.
        scenario: String,
    },
    /// Answer requests from workers that are each pinned to a CPU.
    Serve {
        /// Addresses to listen on.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        /// CPUs of the workers, one worker each.
        #[arg(long, value_delimiter = ',', required = true)]
        workers: Vec<usize>,
        /// Do not pin the workers.
        #[arg(long)]
        roam: bool,
        /// How a connection finds its worker.
        #[arg(long, value_enum, default_value_t = server::Assign::Handover)]
        assign: server::Assign,
        /// Serve UDP instead of TCP.
        #[arg(long)]
        udp: bool,
        /// Unix socket that answers `stats`, `flows` and `stop`.
        #[arg(long)]
        control: PathBuf,
    },
    /// Send requests over connections that stay open.
    Load {
        /// Addresses to connect to, in turn.
        #[arg(long, required = true)]
        target: Vec<SocketAddr>,
        /// Number of connections.
        #[arg(long, default_value_t = 16)]
        flows: usize,
        /// Requests per second over all connections.
        #[arg(long, default_value_t = 2000)]
        rate: u32,
        /// How uneven the connections are: 0 is even, 1 gives the n-th an n-th of the first's rate.
        #[arg(long, default_value_t = 0.0)]
        skew: f64,
        /// Use UDP instead of TCP.
        #[arg(long)]
        udp: bool,
        /// Make a connection for each request.
        #[arg(long, conflicts_with = "udp")]
        short: bool,
        /// Take ports by which each connection falls into a bucket of its own, of a NIC with this key in
        /// hexadecimal digits.
        #[arg(long, value_name = "KEY")]
        apart: Option<String>,
        /// Unix socket that answers `stats` and `stop`.
        #[arg(long)]
        control: PathBuf,
    },
    /// Answer short connections: one answer each, and this end closes.
    Answer {
        /// Addresses to listen on.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
    },
    /// Make short connections from a pinned worker on each CPU.
    Connect {
        /// Addresses to connect to, in turn.
        #[arg(long, required = true)]
        target: Vec<SocketAddr>,
        /// How many workers: CPUs 0 and up.
        #[arg(long)]
        cpus: usize,
        /// Directory of the cgroup to be in.
        #[arg(long)]
        cgroup: PathBuf,
        /// Unix socket that answers `stats` and `stop`.
        #[arg(long)]
        control: PathBuf,
    },
    /// Print the scenarios, one a line: name, `steer` if it needs the program, machines, purpose.
    List,
}

fn main() -> Result<()> {
    match Arguments::parse().role {
        Role::Init { nic, nics, scenario } => init::init(&nic, nics, &scenario),
        Role::Host { scenario } => host::host(&scenario),
        Role::Serve { listen, workers, roam, assign, udp, control } => {
            server::Server { listen, workers, roam, assign, proto: Proto::new(udp) }.run(&control)
        }
        Role::Load { target, flows, rate, skew, udp, short, apart, control } => {
            let proto = Proto::new(udp);
            client::Client { targets: target, flows, rate, skew, proto, short, apart }.run(&control)
        }
        Role::Answer { listen } => connects::answer(&listen),
        Role::Connect { target, cpus, cgroup, control } => {
            std::fs::write(cgroup.join("cgroup.procs"), "0")?;
            connects::connect(&target, cpus, &control)
        }
        Role::List => {
            for scenario in scenario::TABLE {
                println!("{scenario}");
            }
            Ok(())
        }
    }
}
