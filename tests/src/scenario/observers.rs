//! The two observers tell the same story: queue and softirq CPU of each flow, over IPv4, IPv6 and
//! a VLAN.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    guest::{Guest, NIC},
    load::{Load, Spec, server::Flow},
};

const ADDRESSES: [&str; 3] = ["10.9.0.1", "fd09::1", "10.9.7.1"];

/// Where a flow comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrival {
    queue: u64,
    softirq_cpu: u64,
}

type Arrivals = BTreeMap<(SocketAddr, SocketAddr), Arrival>;

pub(super) fn run(guest: &Guest) -> Result<()> {
    guest.add_vlan()?;
    guest.spread()?;
    let addresses = ADDRESSES.map(str::to_owned).to_vec();
    let spec = Spec { flows: 24, addresses, ..Spec::default() };
    let load = Load::start(guest, &spec)?;

    let tracing = arrivals(guest, "tracing")?;
    let flows = load.flows()?;
    expect_complete(guest, "tracing", &tracing, &flows)?;
    let confirmed = |flow: &&Flow| {
        let arrival = tracing.get(&(flow.local, flow.remote));
        arrival.is_some_and(|arrival| arrival.softirq_cpu == u64::from(flow.incoming_cpu))
    };
    let seen = flows.iter().filter(confirmed).count();
    guest.expect_equal("flows whose softirq CPU the server confirms", &seen, &flows.len())?;

    // Attaching to the driver resets the NIC, and its link comes back in its own time.
    let xdp = arrivals(guest, "xdp")?;
    expect_complete(guest, "xdp", &xdp, &flows)?;
    for (flow, arrival) in &tracing {
        let (local, remote) = flow;
        let same = xdp.get(flow) == Some(arrival);
        let seen = format!("tracing {arrival:?}, xdp {:?}", xdp.get(flow));
        guest.expect(&format!("{remote} -> {local}: {arrival:?} to both"), same, seen)?;
    }
    thread::sleep(Duration::from_secs(1));
    guest.expect_equal("requests failed or lost", &load.stop()?.failed, &0)
}

fn arrivals(guest: &Guest, observer: &str) -> Result<Arrivals> {
    let arguments = ["--observer", observer, "--flows", "--for", "5s"];
    let status = guest.status(NIC, &arguments)?;
    let flows = status["flows"].as_array().context("status lists no flows")?;
    let arrival = |flow: &Value| {
        let end = |name: &str| -> Option<SocketAddr> { flow[name].as_str()?.parse().ok() };
        let ends = (end("local")?, end("remote")?);
        let [queue, softirq_cpu] =
            ["queue", "softirq_cpu"].map(|name| flow[name].as_u64().unwrap_or(u64::MAX));
        Some((ends, Arrival { queue, softirq_cpu }))
    };
    Ok(flows.iter().filter_map(arrival).collect())
}

fn expect_complete(guest: &Guest, observer: &str, seen: &Arrivals, flows: &[Flow]) -> Result<()> {
    let missing: BTreeSet<String> = flows
        .iter()
        .filter(|flow| !seen.contains_key(&(flow.local, flow.remote)))
        .map(|flow| format!("{} -> {}", flow.remote, flow.local))
        .collect();
    for address in ADDRESSES {
        let address: IpAddr = address.parse()?;
        let there = seen.keys().filter(|(local, _)| local.ip() == address).count();
        guest.say(format_args!("{observer}: {there} flows to {address}"));
    }
    let what = format!("{observer} lists every flow of the server");
    guest.expect(&what, missing.is_empty(), format_args!("none of {missing:?}"))
}
