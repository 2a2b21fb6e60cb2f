//! A proxy between its servers and its clients, and the contenders' turns on it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    contender::{Contender, Settings, steers_connects},
    figures::{Figures, Results, Row},
};
use crate::{
    count::{Counter, Side, Snapshot},
    guest::{Guest, NIC, read},
    proxy::{BACKEND, Backend, Layout, PORT, Program, Proxy, Setup, TLS_PORT, Traffic, Wrk},
};

pub(super) const WINDOW: Duration = Duration::from_secs(2);
/// Time for steer to find out who reads what, and to have it follow.
const PATIENCE: Duration = Duration::from_secs(30);

/// What steer must reach: reads from clients and from servers on the CPU of the interrupt.
pub(super) const CLIENT_ENOUGH: f64 = 0.95;
pub(super) const BACKEND_ENOUGH: f64 = 0.90;

/// A proxy with its servers, and the count.
pub(super) struct Contest<'a> {
    pub(super) guest: &'a Guest,
    pub(super) layout: Layout,
    pub(super) settings: Settings,
    pub(super) proxy: Proxy,
    /// Whether steer has the side of the servers in hand.
    pub(super) connects: bool,
    setup: Setup,
    counter: Counter,
    _backend: Backend,
}

/// A point in time: counts, requests served.
struct Mark {
    snapshot: Snapshot,
    requests: u64,
    at: Instant,
}

impl<'a> Contest<'a> {
    /// Divides the CPUs, and starts the proxy and what is behind it.
    pub(super) fn prepare(
        guest: &'a Guest,
        program: Program,
        backend_keepalive: bool,
    ) -> Result<Self> {
        let layout = Layout::divide(guest)?;
        layout.step_aside()?;
        guest.spread()?;
        let counter = Counter::install(&[PORT, TLS_PORT], BACKEND.1)?;
        let counter =
            counter.context("this kernel cannot count by itself: no histogram triggers")?;
        let backend = Backend::start(guest, &layout)?;
        let setup = Setup { program, workers: layout.workers.clone(), backend_keepalive };
        let proxy = Proxy::start(guest, &setup)?;
        guest.say(format_args!("{} has workers on CPUs {}", program.name(), layout.workers()));
        let settings = Settings::save()?;
        let connects = steers_connects(guest)?;
        Ok(Self { guest, layout, settings, proxy, connects, setup, counter, _backend: backend })
    }

    /// Lets every contender do its work on the same load, one after the other.
    pub(super) fn hold(
        &self,
        scenario: &'static str,
        traffic: &Traffic,
        windows: usize,
    ) -> Result<Results> {
        let mut rows = Vec::new();
        for contender in Contender::ALL {
            rows.push(self.measure(contender, traffic, windows)?);
        }
        let Setup { program, workers, backend_keepalive } = &self.setup;
        let workers = workers.len();
        let servers = if *backend_keepalive { "keep-alive" } else { "one request per connection" };
        let results = Results {
            scenario,
            load: format!(
                "{}, {workers} workers; clients: {}; servers: {servers}",
                program.name(),
                traffic.title()
            ),
            machine: format!(
                "{}, kernel {}, {workers} CPUs and one for the far end",
                self.guest.nic,
                read("/proc/sys/kernel/osrelease")?,
            ),
            window_s: WINDOW.as_secs_f64(),
            rows,
        };
        results.print(self.guest)?;
        Ok(results)
    }

    fn measure(&self, contender: Contender, traffic: &Traffic, windows: usize) -> Result<Row> {
        let failed_before = self.proxy.served()?.failed;
        let wrk = self.load(traffic)?;
        let active = contender.start(self.guest, &self.layout)?;
        if contender == Contender::Steer {
            self.await_alignment()?;
        }
        let windows = (0..windows).map(|_| self.window(WINDOW)).collect::<Result<Vec<_>>>()?;
        let clients = wrk.stop()?;
        active.stop(self.guest)?;
        self.settings.restore(self.guest)?;
        let failed = self.proxy.served()?.failed - failed_before;
        ensure!(clients.answered > 0, "no request was answered");
        Ok(Row::new(contender.name(), windows, clients, failed))
    }

    /// Puts a load on, and returns once it is under way.
    pub(super) fn load(&self, traffic: &Traffic) -> Result<Wrk> {
        let wrk = Wrk::start(self.guest, &self.layout, traffic)?;
        self.window(Duration::from_secs(1))?;
        Ok(wrk)
    }

    /// Waits for a window in which both sides are as aligned as they must be, at most
    /// [`PATIENCE`]; what is measured then is what counts.
    pub(super) fn await_alignment(&self) -> Result<bool> {
        let start = Instant::now();
        let mut shares = Vec::new();
        let mut enough = false;
        while !enough && start.elapsed() < PATIENCE {
            let it = self.window(Duration::from_secs(1))?;
            shares.push(format!("{:.2}/{:.2}", it.client_hard, it.backend_hard));
            enough = self.is_aligned(&it);
        }
        let seconds = start.elapsed().as_secs_f64();
        self.guest.say(format_args!("client/backend within {seconds:.1} s: {}", shares.join(" ")));
        if !enough {
            self.guest.say(self.guest.steer(&["status", NIC])?.stdout);
        }
        Ok(enough)
    }

    /// Whether both sides are as aligned as steer must have them, as far as it steers them.
    pub(super) fn is_aligned(&self, figures: &Figures) -> bool {
        let backend = figures.backend_hard >= BACKEND_ENOUGH || !self.connects;
        figures.client_hard >= CLIENT_ENOUGH && backend
    }

    /// What happens from now on for as long as given, and longer where an emulated machine on a
    /// busy host comes to nothing in that time.
    pub(super) fn window(&self, length: Duration) -> Result<Figures> {
        let before = self.mark()?;
        for _ in 0..10 {
            thread::sleep(length);
            if let Some(figures) = self.figures(&before)? {
                return Ok(figures);
            }
        }
        bail!("nothing was read from clients in {:.1} s", before.at.elapsed().as_secs_f64())
    }

    /// Where a window may begin.
    fn mark(&self) -> Result<Mark> {
        let requests = self.proxy.served()?.requests;
        Ok(Mark { snapshot: self.counter.snapshot()?, requests, at: Instant::now() })
    }

    /// What happened since then, if anything.
    fn figures(&self, before: &Mark) -> Result<Option<Figures>> {
        let after = self.mark()?;
        let window = after.snapshot.since(&before.snapshot);
        let seconds = (after.at - before.at).as_secs_f64();
        let requests = after.requests.saturating_sub(before.requests);
        let any = window.reads(Side::Client).count > 0;
        Ok(any.then(|| Figures::of(&window, requests, seconds, &self.layout.workers)))
    }
}
