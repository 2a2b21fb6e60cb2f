//! steer beside a real load balancer, shown to somebody who has never seen it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    ONE_REQUEST,
    contender::{start_steer, steer_arguments},
    contest::Contest,
    figures::Figures,
};
use crate::{
    guest::{Guest, NIC},
    proxy::Program,
    scenario::demo::{bar, chapter, show},
    steer::exit,
};

pub(crate) fn haproxy(guest: &Guest) -> Result<()> {
    demo(guest, Program::Haproxy)
}

pub(crate) fn nginx(guest: &Guest) -> Result<()> {
    demo(guest, Program::Nginx)
}

fn demo(guest: &Guest, program: Program) -> Result<()> {
    let name = program.name();
    chapter(
        1,
        &format!("{name} between clients and servers"),
        &format!(
            "{name} from Debian's package runs with a pinned worker on each CPU. Every request comes on\n\
             a connection of its own, and makes one to a server. The network card spreads both by a\n\
             hash that knows nothing of the workers."
        ),
    );
    println!("(starting {name}, its server and wrk, some seconds)");
    let contest = Contest::prepare(guest, program, false)?;
    let wrk = contest.load(&ONE_REQUEST)?;
    let before = seconds(&contest, 4, false)?;

    chapter(
        2,
        "steer brings them together",
        if contest.connects {
            "steer has each new connection accepted by the worker on the CPU where it came in, and has\n\
             each connection to a server leave from a port whose answers come back to this CPU. The\n\
             program is not changed, and not restarted."
        } else {
            "steer has each new connection accepted by the worker on the CPU where it came in. The\n\
             program is not changed, and not restarted."
        },
    );
    println!("$ steer run {} &", steer_arguments(guest)?.join(" "));
    let daemon = start_steer(guest, &contest.layout)?;
    let after = seconds(&contest, 30, true)?;
    for line in daemon.said() {
        println!("  {line}");
    }

    chapter(3, "What that looks like", "From the running steer:");
    show(guest, &["status", NIC])?;

    chapter(4, "Everything is put back", "steer ends, and takes its settings and programs along.");
    let ended = daemon.terminate()?;
    ensure!(ended.code == exit::DONE, "steer run ended with {}: {}", ended.code, ended.stderr);
    contest.settings.restore(guest)?;
    let clients = wrk.stop()?;

    println!("\nResult:                     before   after");
    let line = |what: &str, of: fn(&Figures) -> f64| {
        println!("  {what:24}  {:4.0} %   {:4.0} %", of(&before) * 100.0, of(&after) * 100.0);
    };
    line("clients' side aligned", |figures| figures.client_hard);
    line("servers' side aligned", |figures| figures.backend_hard);
    let (before_ipis, after_ipis) = (before.ipis_per_request, after.ipis_per_request);
    println!("  calls from CPU to CPU       {before_ipis:4.2}     {after_ipis:4.2}   per request");
    println!("{} requests meanwhile, {} of them failed.", clients.answered, clients.failed);
    println!("(counted by probes of the kernel's and by wrk, not by steer)");
    ensure!(clients.failed == 0, "{} requests failed", clients.failed);
    ensure!(contest.is_aligned(&after), "steer did not reach 95 % and 90 %");
    Ok(())
}

/// Shows the alignment second by second, and returns the last; with `until`, ends once it is high.
fn seconds(contest: &Contest, most: u32, until: bool) -> Result<Figures> {
    let mut second = 1;
    loop {
        let it = contest.window(Duration::from_secs(1))?;
        println!(
            "  {second:2} s  clients {:3.0} % {}  servers {:3.0} % {}",
            it.client_hard * 100.0,
            bar(it.client_hard),
            it.backend_hard * 100.0,
            bar(it.backend_hard)
        );
        if second == most || until && contest.is_aligned(&it) {
            return contest.window(Duration::from_secs(3));
        }
        second += 1;
    }
}
