//! What a load balancer's host is judged by, as medians over short windows.

use std::fmt;

use serde::Serialize;

use crate::{
    count::{Side, Snapshot},
    guest::Guest,
    proxy::Summary,
};

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Share of reads from clients on the CPU of the hard interrupt.
    pub(super) client_hard: f64,
    /// The same for the CPU that did the protocol's work.
    pub(super) client_softirq: f64,
    /// Share of reads from servers on the CPU of the hard interrupt.
    pub(super) backend_hard: f64,
    /// The same for the CPU that did the protocol's work.
    pub(super) backend_softirq: f64,
    /// Share of closed client connections on the CPU of the hard interrupt; zero if none closed.
    pub(super) client_connections_hard: f64,
    /// Calls from CPU to CPU (rows RES and CAL of /proc/interrupts) for each request.
    pub(super) ipis_per_request: f64,
    /// Wake-ups of another CPU for packets (RPS, RFS) for each request.
    pub(super) handovers_per_request: f64,
    /// Requests per second; in an emulated machine no measure of speed.
    pub(super) requests_per_s: f64,
    /// Connections of the busiest worker over the mean; zero if none closed.
    pub(super) skew: f64,
}

impl Figures {
    /// What a window of `seconds` comes to, in which the proxy served `requests`.
    pub(super) fn of(window: &Snapshot, requests: u64, seconds: f64, workers: &[usize]) -> Self {
        let (client, backend) = (window.reads(Side::Client), window.reads(Side::Backend));
        let each = |count: u64| count as f64 / requests.max(1) as f64;
        let closed = window.closed_on(workers);
        let all: u64 = closed.iter().sum();
        let most = closed.iter().max().copied().unwrap_or_default();
        Self {
            client_hard: client.hard,
            client_softirq: client.softirq,
            backend_hard: backend.hard,
            backend_softirq: backend.softirq,
            client_connections_hard: window.closes(Side::Client).hard,
            ipis_per_request: each(window.ipis()),
            handovers_per_request: each(window.handed_over()),
            requests_per_s: requests as f64 / seconds,
            skew: most as f64 * workers.len() as f64 / all.max(1) as f64,
        }
    }

    /// Each figure's median.
    pub(super) fn median(windows: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(windows.iter().map(figure).collect());
        Self {
            client_hard: of(|window| window.client_hard),
            client_softirq: of(|window| window.client_softirq),
            backend_hard: of(|window| window.backend_hard),
            backend_softirq: of(|window| window.backend_softirq),
            client_connections_hard: of(|window| window.client_connections_hard),
            ipis_per_request: of(|window| window.ipis_per_request),
            handovers_per_request: of(|window| window.handovers_per_request),
            requests_per_s: of(|window| window.requests_per_s),
            skew: of(|window| window.skew),
        }
    }
}

/// The middle value; of an even number of values the lower of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// What a contender came to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Who.
    pub(super) contender: &'static str,
    /// Medians.
    pub(super) figures: Figures,
    /// The windows by themselves.
    pub(super) windows: Vec<Figures>,
    /// Requests that the clients had answers to.
    pub(super) requests: u64,
    /// Requests that failed, by the clients' count or the proxy's, whichever is more.
    pub(super) failed: u64,
}

impl Row {
    pub(super) fn new(
        contender: &'static str,
        windows: Vec<Figures>,
        clients: Summary,
        failed_by_proxy: u64,
    ) -> Self {
        let figures = Figures::median(&windows);
        let failed = clients.failed.max(failed_by_proxy);
        Self { contender, figures, windows, requests: clients.answered, failed }
    }
}

/// A contest on one load.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// The scenario.
    pub(super) scenario: &'static str,
    /// The proxy, its workers, the traffic.
    pub(super) load: String,
    /// NIC, kernel and CPUs.
    pub(super) machine: String,
    /// Seconds of a window.
    pub(super) window_s: f64,
    /// The contenders.
    pub(super) rows: Vec<Row>,
}

impl Results {
    /// Prints the table for people, and a line for programs that begins with `figures: `.
    pub(super) fn print(&self, guest: &Guest) -> anyhow::Result<()> {
        guest.say(self);
        println!("figures: {}", serde_json::to_string(self)?);
        Ok(())
    }

    /// The row of that contender.
    pub(super) fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.load, self.machine)?;
        writeln!(
            f,
            "{:12} | client hard/softirq | backend hard/softirq | IPIs/req | hand-overs/req | \
             skew | req/s | failed",
            "",
        )?;
        for row in &self.rows {
            let it = &row.figures;
            writeln!(
                f,
                "{:12} |      {:.2} / {:.2}    |      {:.2} / {:.2}     |   {:4.2}   |      {:4.2}      \
                 | {:4.2} | {:5.0} | {} of {}",
                row.contender,
                it.client_hard,
                it.client_softirq,
                it.backend_hard,
                it.backend_softirq,
                it.ipis_per_request,
                it.handovers_per_request,
                it.skew,
                it.requests_per_s,
                row.failed,
                row.requests,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_a_value_that_was_seen() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.0f64.to_bits());
        assert_eq!(median(Vec::new()).to_bits(), 0.0f64.to_bits());
    }
}
