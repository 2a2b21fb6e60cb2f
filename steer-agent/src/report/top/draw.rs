//! The screen, drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Gauge, Paragraph, Row, Sparkline, Table, Wrap};

use super::{Event, Top, View, flows};
use crate::model::Distance;
use crate::report::change::ago;
use crate::report::heat::{self, HeatCell, HeatMap};
use crate::report::number::{count, elide, or_dash, percent};
use crate::report::{NicStatus, Source};

impl Top {
    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [title, tabs, body, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.title(), title);
        frame.render_widget(self.tabs(), tabs);
        frame.render_widget(self.keys(), keys);
        let Some(nic) = self.current() else {
            let why = self.error.as_deref().unwrap_or("the first window is not over yet");
            frame.render_widget(Paragraph::new(why).wrap(Wrap { trim: false }), body);
            return;
        };
        match self.view {
            View::Overview => self.overview(nic, frame, body),
            View::Flows => self.flows(nic, frame, body),
            View::Queues => self.queues(nic, frame, body),
            View::Events => self.events(frame, body),
            View::Help => frame.render_widget(Paragraph::new(HELP), body),
        }
    }

    fn title(&self) -> Line<'_> {
        let mut spans = vec![Span::from("steer top").bold(), Span::from("  ")];
        if let (Some(nic), Some(status)) = (self.current(), &self.status) {
            let driver = nic.driver.as_deref().unwrap_or("no driver");
            spans.push(Span::from(format!("{} ({driver})", nic.name)).bold());
            if self.nics() > 1 {
                spans.push(Span::from(format!(" {} of {}", self.nic + 1, self.nics())));
            }
            let who = match status.source {
                Source::Daemon => "daemon",
                Source::Own => "observed here",
            };
            spans.push(Span::from(format!("  {}  {who}", nic.state.name())));
        }
        if let Some(cpu) = self.own_cpu {
            spans.push(Span::from(format!("  own CPU {:.1} %", cpu * 100.0)));
        }
        let by_daemon = self.status.as_ref().filter(|status| status.source == Source::Daemon);
        if let Some(cpu) = by_daemon.and_then(|status| status.cost?.cpu_share) {
            spans.push(Span::from(format!(", daemon {:.1} %", cpu * 100.0)));
        }
        if self.frozen {
            spans.push(Span::from("  FROZEN").yellow().bold());
        }
        if let Some(note) = &self.note {
            spans.push(Span::from(format!("  {note}")).cyan());
        }
        if let (Some(error), Some(_)) = (&self.error, &self.status) {
            spans.push(Span::from(format!("  {error}")).red());
        }
        Line::from(spans)
    }

    fn tabs(&self) -> Line<'_> {
        let mut spans = Vec::new();
        for view in View::ALL {
            let name = Span::from(format!(" {} ", view.name()));
            spans.push(if view == self.view { name.reversed() } else { name });
        }
        Line::from(spans)
    }

    fn keys(&self) -> Line<'_> {
        if self.typing {
            return Line::from(format!("filter: {}_   Enter keeps it, Esc clears it", self.filter));
        }
        let mut line =
            String::from("q quit  Tab view  <- -> NIC  s sort  / filter  space freeze  ? help");
        if !self.filter.is_empty() {
            line = format!("filter: {}  (Esc clears)  {line}", self.filter);
        }
        Line::from(line).dim()
    }

    fn overview(&self, nic: &NicStatus, frame: &mut Frame<'_>, area: Rect) {
        let words = self.words(nic);
        let lines = u16::try_from(words.len()).unwrap_or(u16::MAX);
        let [gauge, text, past, below] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(lines),
            Constraint::Length(4),
            Constraint::Fill(1),
        ])
        .areas(area);
        let share = nic.alignment.share;
        frame.render_widget(
            Gauge::default()
                .ratio(share.unwrap_or(0.0).clamp(0.0, 1.0))
                .label(format!("aligned {}", percent(share)))
                .gauge_style(Style::new().fg(Color::Green).bg(Color::DarkGray)),
            gauge,
        );
        frame.render_widget(Paragraph::new(words), text);
        // The latest at the right end, the oldest falls off at the left.
        let known = self.alignment.get(&nic.name);
        let surplus = known.map_or(0, |shares| shares.len().saturating_sub(past.width.into()));
        let shares: Vec<Option<u64>> = known
            .into_iter()
            .flatten()
            .skip(surplus)
            .map(|share| share.map(whole_percent))
            .collect();
        frame.render_widget(Sparkline::default().data(shares).max(100).fg(Color::Green), past);
        // A line each for its title and its columns.
        let rows = usize::from(below.height).saturating_sub(2);
        let map = HeatMap::new(&nic.alignment.by_cpu, usize::from(area.width), rows);
        if let Some(map) = map.filter(|_| rows > 0) {
            frame.render_widget(Paragraph::new(heat_lines(&map)), below);
        }
    }

    fn flows(&self, nic: &NicStatus, frame: &mut Frame<'_>, area: Rect) {
        let window_s = self.status.as_ref().map_or(1.0, |status| status.window_s);
        let rows = flows::rows(nic, self.earlier(), window_s, self.order, &self.filter);
        let [head, list] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let crossing = rows.iter().filter(|row| row.crosses()).count();
        let filter = if self.filter.is_empty() { "" } else { " that match" };
        frame.render_widget(
            Line::from(format!(
                "{} flows{filter}, {crossing} cross; by {}",
                rows.len(),
                self.order.name()
            )),
            head,
        );
        let first = self.scroll.min(rows.len().saturating_sub(1));
        let shown = rows.iter().skip(first).take(usize::from(list.height)).map(|row| {
            let style = if row.crosses() { Style::new().yellow() } else { Style::new() };
            Row::new([
                Cell::from(count(row.per_s)),
                Cell::from(row.softirq_cpu.map_or("-".to_owned(), |cpu| format!("CPU {cpu}"))),
                Cell::from(format!("CPU {}", row.consumer_cpu)),
                Cell::from(or_dash(row.queue)),
                // Columns and spaces beside it take 50.
                Cell::from(elide(&row.flow, usize::from(list.width).saturating_sub(50).max(12))),
                Cell::from(elide(&row.process, 18)),
            ])
            .style(style)
        });
        let widths = [
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(8),
            Constraint::Length(5),
            Constraint::Fill(1),
            Constraint::Length(18),
        ];
        let header = ["per s", "polled", "consumed", "queue", "flow", "process"];
        let header = Row::new(header).style(Modifier::BOLD);
        frame.render_widget(Table::new(shown, widths).header(header), list);
    }

    fn queues(&self, nic: &NicStatus, frame: &mut Frame<'_>, area: Rect) {
        let first = self.scroll.min(nic.queues.len().saturating_sub(1));
        let cpu = |cpu: Option<u32>| cpu.map_or("-".to_owned(), |cpu| format!("CPU {cpu}"));
        let rows = nic.queues.iter().skip(first).map(|queue| {
            Row::new([
                queue.queue.to_string(),
                or_dash(queue.irq),
                queue.cpu.map_or("several".to_owned(), |cpu| format!("CPU {cpu}")),
                cpu(queue.effective_cpu),
                cpu(queue.softirq_cpu),
                queue.load.map_or("-".to_owned(), |load| format!("{:.0} %", load * 100.0)),
                count(queue.packets_per_s),
                count(queue.consumed_per_s),
            ])
        });
        let widths = [6, 6, 9, 10, 10, 6, 12, 12].map(Constraint::Length);
        let header =
            ["queue", "IRQ", "set to", "delivered", "polled on", "load", "packets/s", "consumed/s"];
        let header = Row::new(header).style(Modifier::BOLD);
        frame.render_widget(Table::new(rows, widths).header(header), area);
    }

    /// The latest last; scrolling goes back.
    fn events(&self, frame: &mut Frame<'_>, area: Rect) {
        if self.events.is_empty() {
            frame.render_widget("nothing was changed since this screen was opened", area);
            return;
        }
        let height = usize::from(area.height);
        let end = self.events.len().saturating_sub(self.scroll).max(height.min(self.events.len()));
        let lines = self.events.iter().take(end).skip(end.saturating_sub(height));
        let now = self.status.as_ref().and_then(|status| status.at_unix_s);
        let lines: Vec<Line<'_>> = lines
            .map(|Event { nic, event }| {
                let when = now.map_or_else(String::new, |now| ago(now - event.at_unix_s));
                let text = Span::from(format!("{when:>10}  {nic}: {}", event.text()));
                Line::from(if event.wrote { text.bold() } else { text })
            })
            .collect();
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// What is to be said of the NIC in words.
    fn words<'a>(&self, nic: &'a NicStatus) -> Vec<Line<'a>> {
        let mut lines = words(nic);
        if let Some(change) = &nic.last_change {
            let now = self.status.as_ref().and_then(|status| status.at_unix_s);
            let when = now.map_or_else(String::new, |now| ago(now - change.at_unix_s) + ": ");
            lines.push(Line::from(format!("changed  {when}{}", change.text())));
        }
        let next = nic.next.iter().map(|next| Line::from(format!("next     {next}")).bold());
        lines.extend(next);
        let cost = self.status.as_ref().and_then(|status| status.cost?.text());
        lines.extend(cost.map(|cost| Line::from(format!("cost     steer takes {cost}"))));
        lines
    }
}

fn words(nic: &NicStatus) -> Vec<Line<'_>> {
    let alignment = &nic.alignment;
    let mut lines = vec![Line::from(format!(
        "achievable with table and IRQs {}; consumed {} /s by {} flows",
        percent(alignment.achievable),
        count(alignment.consumed_per_s),
        nic.active_flows
    ))];
    let far: Vec<String> = alignment
        .by_distance
        .iter()
        .filter(|(_, share)| **share > 0.0)
        .map(|(distance, share)| format!("{} {:.0} %", distance.name(), share * 100.0))
        .collect();
    lines.push(Line::from(format!("distance {}", far.join("  "))));
    if let Some(levers) = &nic.levers {
        lines.push(Line::from(format!("could be {levers}")));
        lines.extend(levers.advice.iter().map(|advice| Line::from(format!("         {advice}"))));
    }
    lines.extend(nic.reason.iter().map(|reason| Line::from(reason.as_str()).yellow()));
    let levers = nic.lever_states.iter();
    let levers: Vec<String> =
        levers.map(|one| format!("{} {}", one.lever.name(), one.state.name())).collect();
    if !levers.is_empty() {
        lines.push(Line::from(format!("used     {}", levers.join("  "))));
    }
    lines
}

fn heat_lines(map: &HeatMap) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(format!("  {}", heat::TITLE)).dim()];
    let mut header = vec![Span::from(" ".repeat(9))];
    header.extend(map.columns.iter().map(|column| Span::from(format!("{column:>4}"))));
    lines.push(Line::from(header));
    for row in &map.rows {
        let mut spans = vec![Span::from(format!("{:>9}", row.heading))];
        spans.extend(row.cells.iter().map(heat_span));
        lines.push(Line::from(spans));
    }
    lines
}

fn heat_span(cell: &HeatCell) -> Span<'static> {
    let span = Span::from(format!("{:>4}", cell.text()));
    let span = match cell.distance {
        None => span.dim(),
        Some(Distance::SameCore) => span.green(),
        Some(Distance::SmtSibling | Distance::SameL2 | Distance::SameLlc) => span.yellow(),
        Some(Distance::SameNode | Distance::Remote) => span.red(),
    };
    if cell.is_much() { span.bold() } else { span }
}

fn whole_percent(share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is between 0 and 1"
    )]
    let percent = (share.clamp(0.0, 1.0) * 100.0).round() as u64;
    percent
}

const HELP: &str = "\
1 2 3 4 ?     overview, flows, queues, events, this page; Tab goes on to the next
left, right   the next NIC
up, down      scroll; also k and j, page up and page down, Home
s             order of flows: rate, crossing first, process, far end
/             show only flows whose addresses or process contain what is typed
space, f      freeze the screen; the history goes on
Esc           clear the filter, back to the overview
mouse         the wheel scrolls, a click chooses a view (--no-mouse leaves it alone)
q, Ctrl-C     quit

aligned       share of consumption on the CPU that polls the flow's RX queue
polled on     the CPU whose softirq takes the packets from the queue
load          share of its time that this CPU spends in softirqs
consumed on   the CPU on which the application reads them
A flow that crosses costs its CPUs a transfer of its state for every packet.";
