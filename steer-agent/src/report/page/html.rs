//! The page: what stands where.

use std::time::{Duration, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::settings::machine_kind;
use super::{Chapter, Page, Phase, Said, chart, heat, interrupts, queues, settings, verdict};
use crate::model::MappingVerdict;
use crate::report::number::{count, or_dash, percent, printable};

/// The page's own style; there is nothing else to load.
const STYLE: &str = include_str!("style.css");
/// What a browser may load: nothing, but for styles that are in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Flows and moves that are listed.
const FLOWS: usize = 20;
const MOVES: usize = 60;

pub(super) fn document(page: &Page) -> Markup {
    let names: Vec<&str> = page.chapters.iter().map(|chapter| chapter.nic.name.as_str()).collect();
    let title = format!("steer report: {}", names.join(", "));
    let several = page.chapters.len() > 1;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(format!("steer {}", page.header.version));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "steer report" span.quiet { ": " (names.join(", ")) } }
                    p.quiet { (about(page)) }
                }
                main {
                    @for chapter in &page.chapters { (summary(chapter, several)) }
                    @for chapter in &page.chapters { (of_nic(page, chapter, several)) }
                    (notes(page))
                }
                footer.quiet {
                    p {
                        "Alignment is the share of what is read that is read on the CPU which polled the "
                        "connection's RX queue. Where the two differ, the connection's state crosses between "
                        "caches for every packet."
                    }
                }
            }
        }
    }
}

fn about(page: &Page) -> String {
    let header = &page.header;
    let began = UNIX_EPOCH.checked_add(Duration::from_secs(header.began_unix_s));
    let began = began.map(|at| humantime::format_rfc3339_seconds(at).to_string().replace('T', " "));
    format!(
        "{}; {}, {:.1} s in {} windows; Linux {}, {}; steer {}",
        page.source,
        began.unwrap_or_else(|| "at an unknown time".to_owned()),
        page.length_s,
        page.windows,
        header.facts.kernel_release,
        Page::cpus(&page.topology),
        header.version
    )
}

/// Verdict and headline figure.
fn summary(chapter: &Chapter, several: bool) -> Markup {
    let verdict = verdict::of(chapter);
    let figure = |share: Option<f64>| {
        share
            .map_or_else(|| "\u{2013}".to_owned(), |share| format!("{:.0}\u{202f}%", share * 100.0))
    };
    html! {
        section.verdict {
            @if several { h2 { (chapter.nic.name) } }
            p.headline {
                span.sr { "Aligned: " }
                @match verdict.after {
                    None => b { (figure(verdict.before)) },
                    Some(after) => {
                        span.was { (figure(verdict.before)) }
                        " " span.arrow aria-label="then" { "\u{2192}" } " "
                        b { (figure(after)) }
                    },
                }
                span.what { "aligned" }
            }
            p.sentences { (verdict.sentences.join(" ")) }
        }
    }
}

fn of_nic(page: &Page, chapter: &Chapter, several: bool) -> Markup {
    let name = &chapter.nic.name;
    let title = |text: &str| if several { format!("{name}: {text}") } else { text.to_owned() };
    let compared = chapter.after.is_some();
    html! {
        section {
            h2 { (title("Alignment over time")) }
            (chart::course(chapter, page.length_s))
            (figures(chapter))
        }
        section {
            h2 { (title("Who reads what was polled where")) }
            (heat::maps(chapter))
        }
        section {
            h2 { (title("Queues, interrupts and CPUs")) }
            (queues::queues(chapter))
        }
        section {
            h2 { (title("/proc/interrupts")) @if compared { ", before and after" } }
            (interrupts::tables(chapter))
        }
        section {
            h2 { (title("What was changed, and why")) }
            (moves(page, chapter))
        }
        section {
            h2 { (title("Flows that cross")) }
            (flows(if compared { "Before" } else { "" }, &chapter.before))
            @if let Some(after) = &chapter.after { (flows("After", after)) }
        }
        section {
            h2 { (title("Configuration in force")) }
            (settings::tables(page, chapter))
        }
    }
}

/// The figures of each phase side by side.
fn figures(chapter: &Chapter) -> Markup {
    let phases: Vec<&Phase> = std::iter::once(&chapter.before).chain(&chapter.after).collect();
    let row = |name: &'static str, of: &dyn Fn(&Phase) -> String| {
        html! {
            tr {
                th scope="row" { (name) }
                @for phase in &phases { td.number { (of(phase)) } }
            }
        }
    };
    let packets =
        |phase: &Phase| phase.status.queues.iter().map(|queue| queue.packets_per_s).sum::<f64>();
    let busiest = |phase: &Phase| {
        let shares = phase.softirq.iter().map(|(_, share)| *share);
        percent(shares.reduce(f64::max))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Figures" {
            table.figures {
                caption { "Figures" @if phases.len() > 1 { " of both phases" } }
                thead {
                    tr {
                        td {}
                        @if phases.len() > 1 {
                            th.number scope="col" { "before" }
                            th.number scope="col" { "after" }
                        } @else {
                            th.number scope="col" { "seen" }
                        }
                    }
                }
                tbody {
                    (row("from, to", &|phase| format!("{:.1} to {:.1} s", phase.span.from_s, phase.span.to_s)))
                    (row("aligned", &|phase| percent(phase.status.alignment.share)))
                    (row("on the CPU of the protocol work", &|phase| percent(phase.status.alignment.protocol_share)))
                    (row("achievable with table and IRQs", &|phase| percent(phase.status.alignment.achievable)))
                    (row("reads/s", &|phase| count(phase.status.alignment.consumed_per_s)))
                    (row("packets/s", &|phase| count(packets(phase))))
                    (row("flows", &|phase| phase.status.active_flows.to_string()))
                    (row("modelled cost of crossing, \u{b5}s/s", &|phase| count(phase.status.alignment.cost_ns_per_s / 1000.0)))
                    (row("busiest CPU in softirq", &busiest))
                }
            }
        }
    }
}

fn moves(page: &Page, chapter: &Chapter) -> Markup {
    let by = if !page.done.is_empty() {
        "They were made by the command that made this report."
    } else if page.daemon {
        "A steer daemon was running; what it said of itself is below."
    } else {
        "No steer daemon answered, so who made them is not known; the reasons tell what was seen before."
    };
    let hidden = chapter.moves.len().saturating_sub(MOVES) + chapter.further_moves;
    html! {
        @if chapter.moves.is_empty() {
            p { "No setting was changed in this time." }
        } @else {
            p { (by) }
            div.scroll tabindex="0" role="region" aria-label="Changes" {
                table.moves {
                    caption { "Changes" }
                    thead {
                        tr {
                            th.number scope="col" { "at" }
                            th scope="col" { "what" }
                            th scope="col" { "from" }
                            th scope="col" { "to" }
                            th scope="col" { "why" }
                        }
                    }
                    tbody {
                        @for change in chapter.moves.iter().take(MOVES) {
                            tr {
                                td.number { (format!("{:.1} s", change.at_s)) }
                                th scope="row" { (change.target) }
                                td { (change.from) }
                                td { (change.to) }
                                td { (change.why) }
                            }
                        }
                    }
                }
            }
            @if hidden > 0 { p.note { "and " (hidden) " more changes" } }
        }
        @if let Some(at_s) = chapter.put_back_s {
            p { (format!("At {at_s:.1} s everything was found as it had been at first.")) }
        }
        (said("What the daemon said", &chapter.said))
        @if let Some((state, reason)) = &chapter.state {
            p {
                "Its last state: " b { (state.name()) }
                @if let Some(reason) = reason { ", " (printable(reason)) }
            }
        }
        (said("What this command did", &page.done))
    }
}

fn said(title: &str, lines: &[Said]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h3 { (title) }
            ul.said {
                @for line in lines {
                    li {
                        span.at {
                            @match line.at_s {
                                Some(at_s) => (format!("{at_s:.1} s")),
                                None => "earlier",
                            }
                        }
                        " " (printable(&line.text))
                    }
                }
            }
        }
    }
}

fn flows(name: &str, phase: &Phase) -> Markup {
    let status = &phase.status;
    let more = status.mismatches.len().saturating_sub(FLOWS);
    html! {
        @if status.mismatches.is_empty() {
            p {
                @if !name.is_empty() { b { (name) } ": " }
                @if status.alignment.share.is_some() { "no flow is read away from the CPU that polls its queue." }
                @else { "nothing was read." }
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label=(format!("Flows {name}")) {
                table.flows {
                    caption {
                        @if !name.is_empty() { b { (name) } ": " }
                        (status.mismatches.len()) " of " (status.active_flows)
                        " flows are read away from the CPU that polls their queue, dearest first"
                    }
                    thead {
                        tr {
                            th scope="col" { "flow" }
                            th.number scope="col" { "bucket" }
                            th.number scope="col" { "queue" }
                            th scope="col" { "polled on" }
                            th scope="col" { "read on" }
                            th scope="col" { "distance" }
                            th.number scope="col" { "reads/s" }
                            th scope="col" { "process" }
                        }
                    }
                    tbody {
                        @for flow in status.mismatches.iter().take(FLOWS) {
                            tr {
                                th scope="row" { (flow.proto) " " (flow.local) " \u{2190} " (flow.remote) }
                                td.number { (or_dash(flow.bucket)) }
                                td.number { (or_dash(flow.queue)) }
                                td { "CPU " (flow.softirq_cpu) }
                                td { "CPU " (flow.consumer_cpu) }
                                td { (flow.distance.name()) }
                                td.number { (count(flow.per_s)) }
                                td {
                                    (printable(&flow.comm))
                                    @if let Some(pid) = flow.pid { " (" (pid) ")" }
                                }
                            }
                        }
                    }
                }
            }
            @if more > 0 { p.note { "and " (more) " more" } }
        }
    }
}

/// What this page does not know, and what its figures are.
fn notes(page: &Page) -> Markup {
    let mut notes: Vec<String> = Vec::new();
    let host = page.header.host.clone();
    notes.push(match host {
        Some(host) => {
            let what = format!("The machine: {}.", machine_kind(&host));
            if host.virtual_machine == Some(true) {
                format!("{what} In a virtual machine the NIC may be emulated and caches may be unlike real \
                         ones: shares hold, times need not.")
            } else {
                what
            }
        }
        None => "Whether the machine is physical, virtual or emulated was not recorded.".to_owned(),
    });
    notes.push(
        "Shares are counted, each read once, by eBPF programs in the kernel. The cost of crossing is a model: one \
         cache line for each read, over the distance of the two CPUs."
            .to_owned(),
    );
    notes.push(match page.flow_sampling {
        Some(0) => "Every read was put down to its flow; nothing was sampled.".to_owned(),
        Some(shift) => format!(
            "Under load only one read in {} was put down to its flow, at most: figures of single flows are \
             samples, all others are not.",
            1_u64.checked_shl(shift).unwrap_or(u64::MAX)
        ),
        None => "Whether flows were sampled was not recorded.".to_owned(),
    });
    for chapter in &page.chapters {
        let name = &chapter.nic.name;
        let status = &chapter.after.as_ref().unwrap_or(&chapter.before).status;
        notes.push(match status.mapping.verdict {
            MappingVerdict::Verified => {
                format!("{name}: the table decides the queue; {}.", status.mapping.evidence)
            }
            MappingVerdict::Unverified => format!(
                "{name}: that the table decides the queue is not so; {}.",
                status.mapping.evidence
            ),
            MappingVerdict::TooFewFlows => format!(
                "{name}: whether the table decides the queue is open; {}.",
                status.mapping.evidence
            ),
        });
        if status.alignment.unattributed_per_s > 0.0 {
            notes.push(format!(
                "{name}: of {} reads per second the queue is not known; they are in none of the shares.",
                count(status.alignment.unattributed_per_s)
            ));
        }
        if let Some(after) = &chapter.after {
            notes.push(format!(
                "{name}: \u{201c}before\u{201d} is {:.1} to {:.1} s, \u{201c}after\u{201d} {:.1} to {:.1} s. \
                 Windows in which settings were changed are in neither. The two follow one another, so a load that \
                 changed meanwhile would change the figures too.",
                chapter.before.span.from_s, chapter.before.span.to_s, after.span.from_s, after.span.to_s
            ));
        }
        let failures: Vec<String> = status
            .health
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !failures.is_empty() {
            notes
                .push(format!("{name}: failures in the kernel programs: {}.", failures.join(", ")));
        }
    }
    if page.header.anonymised {
        notes.push(
            "Addresses and names of processes were replaced, the same by the same.".to_owned(),
        );
    }
    html! {
        section {
            h2 { "What to know about these figures" }
            ul {
                @for note in &notes { li { (printable(note)) } }
                @for sentence in &page.neighbours { li { "Neighbour: " (printable(sentence)) } }
                @for sentence in &page.missing { li { "Missing: " (printable(sentence)) } }
            }
        }
    }
}
