//! The queues: where each leads, and how much comes through it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{Chapter, Phase};
use crate::model::{CpuId, QueueId};
use crate::report::number::{count, or_dash, percent};
use crate::report::status::QueueReport;

/// Queues that are drawn, and listed; of more, the busiest.
const DRAWN: usize = 16;
const LISTED: usize = 64;
/// Height of a row of the drawing, its width, and how wide its boxes are.
const ROW: f64 = 30.0;
const WIDE: f64 = 340.0;
const BOX: f64 = 120.0;

/// Map and table.
pub(super) fn queues(chapter: &Chapter) -> Markup {
    let before = &chapter.before;
    let after = chapter.after.as_ref();
    html! {
        div.pair {
            (map(if after.is_some() { "Before" } else { "" }, before))
            @if let Some(after) = after { (map("After", after)) }
        }
        (table(before, after))
    }
}

/// The busiest queues in the order of their numbers, and how many are left out.
fn busiest(phase: &Phase, most: usize) -> (Vec<&QueueReport>, usize) {
    let mut queues: Vec<&QueueReport> = phase.status.queues.iter().collect();
    queues.sort_by(|one, other| other.packets_per_s.total_cmp(&one.packets_per_s));
    let rest = queues.split_off(queues.len().min(most));
    queues.sort_by_key(|queue| queue.queue);
    (queues, rest.len())
}

fn total(phase: &Phase) -> f64 {
    phase.status.queues.iter().map(|queue| queue.packets_per_s).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// Where packets of a queue are processed: as seen, else as set.
fn cpu_of(queue: &QueueReport) -> Option<CpuId> {
    queue.softirq_cpu.or(queue.effective_cpu).or(queue.cpu)
}

fn map(name: &str, phase: &Phase) -> Markup {
    let (queues, left_out) = busiest(phase, DRAWN);
    let mut cpus: Vec<CpuId> = queues.iter().filter_map(|queue| cpu_of(queue)).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let rows = queues.len().max(cpus.len()).max(1);
    let high = rows as f64 * ROW;
    // The shorter column stands in the middle of the longer.
    let y = |index: usize, of: usize| (index as f64 + 0.5) * ROW + (rows - of) as f64 * ROW / 2.0;
    let total = total(phase);
    let softirq: BTreeMap<CpuId, f64> = phase.softirq.iter().copied().collect();
    html! {
        figure.map {
            figcaption {
                @if !name.is_empty() { b { (name) } ", " }
                "RX queue and IRQ to CPU; lines as thick as their share of packets"
            }
            svg viewBox=(format!("0 0 {WIDE} {high}")) role="img" aria-label=(described(&queues)) {
                @for (index, queue) in queues.iter().enumerate() {
                    @if let Some(at) = cpu_of(queue).and_then(|cpu| cpus.iter().position(|id| *id == cpu)) {
                        (wire(y(index, queues.len()), y(at, cpus.len()), queue.packets_per_s / total))
                    }
                }
                @for (index, queue) in queues.iter().enumerate() {
                    (node(0.0, y(index, queues.len()), &queue_label(queue)))
                }
                @for (index, cpu) in cpus.iter().enumerate() {
                    (node(WIDE - BOX, y(index, cpus.len()), &cpu_label(*cpu, &softirq)))
                }
            }
            @if left_out > 0 { p.note { "and " (left_out) " queues with fewer packets" } }
        }
    }
}

fn queue_label(queue: &QueueReport) -> String {
    match queue.irq {
        Some(irq) => format!("queue {} \u{b7} IRQ {irq}", queue.queue),
        None => format!("queue {}", queue.queue),
    }
}

fn cpu_label(cpu: CpuId, softirq: &BTreeMap<CpuId, f64>) -> String {
    match softirq.get(&cpu) {
        Some(share) => format!("CPU {cpu} \u{b7} {:.0} % softirq", share * 100.0),
        None => format!("CPU {cpu}"),
    }
}

fn described(queues: &[&QueueReport]) -> String {
    let ways: Vec<String> = queues
        .iter()
        .map(|queue| match cpu_of(queue) {
            Some(cpu) => format!("queue {} to CPU {cpu}", queue.queue),
            None => format!("queue {} to no CPU that is known", queue.queue),
        })
        .collect();
    format!("Which CPU polls which queue: {}.", ways.join(", "))
}

fn wire(from: f64, to: f64, share: f64) -> Markup {
    let (left, right) = (BOX, WIDE - BOX);
    let middle = f64::midpoint(left, right);
    html! {
        path.wire style=(format!("stroke-width:{:.1}", 1.0 + 9.0 * share.clamp(0.0, 1.0)))
            d=(format!("M{left} {from:.1}C{middle} {from:.1} {middle} {to:.1} {right} {to:.1}")) {}
    }
}

fn node(x: f64, y: f64, label: &str) -> Markup {
    html! {
        rect.node x=(format!("{:.1}", x + 0.5)) y=(format!("{:.1}", y - 11.0)) rx="4" height="22"
            width=(BOX - 1.0) {}
        text x=(format!("{:.1}", x + BOX / 2.0)) y=(format!("{:.1}", y + 4.0)) text-anchor="middle" {
            (label)
        }
    }
}

fn table(before: &Phase, after: Option<&Phase>) -> Markup {
    let (queues, left_out) = busiest(after.unwrap_or(before), LISTED);
    let find = |phase: &'_ Phase, id: QueueId| {
        phase.status.queues.iter().find(|queue| queue.queue == id).cloned()
    };
    let (total_before, total_after) = (total(before), after.map_or(1.0, total));
    html! {
        div.scroll tabindex="0" role="region" aria-label="Queues" {
            table {
                caption { "Queues" @if after.is_some() { ", before \u{2192} after" } }
                thead {
                    tr {
                        th.number scope="col" { "queue" }
                        th.number scope="col" { "IRQ" }
                        th scope="col" { "set to" }
                        th scope="col" { "polled on" }
                        th.number scope="col" { "packets/s" }
                        th scope="col" { "share of packets" }
                        th.number scope="col" { "reads/s" }
                    }
                }
                tbody {
                    @for queue in &queues {
                        @let old = find(before, queue.queue);
                        @let new = after.and_then(|after| find(after, queue.queue));
                        @let pair = |of: &dyn Fn(&QueueReport) -> String| {
                            both(old.as_ref().map(of), new.as_ref().map(of))
                        };
                        tr {
                            th.number scope="row" { (queue.queue) }
                            td.number { (or_dash(queue.irq)) }
                            td { (pair(&|queue| set_to(queue))) }
                            td { (pair(&|queue| cpu(queue.softirq_cpu))) }
                            td.number { (pair(&|queue| count(queue.packets_per_s))) }
                            td.bars {
                                @if let Some(old) = &old { (bar("old", old.packets_per_s / total_before)) }
                                @if let Some(new) = &new { (bar("new", new.packets_per_s / total_after)) }
                            }
                            td.number { (pair(&|queue| count(queue.consumed_per_s))) }
                        }
                    }
                }
            }
        }
        @if left_out > 0 { p.note { "and " (left_out) " queues with fewer packets" } }
    }
}

fn bar(kind: &str, share: f64) -> Markup {
    html! {
        span.bar {
            span.fill.(kind) style=(format!("width:{:.1}%", share.clamp(0.0, 1.0) * 100.0)) {}
            span.value { (percent(Some(share))) }
        }
    }
}

fn set_to(queue: &QueueReport) -> String {
    queue.cpu.map_or_else(|| "several".to_owned(), |cpu| format!("CPU {cpu}"))
}

fn cpu(cpu: Option<CpuId>) -> String {
    cpu.map_or_else(|| "-".to_owned(), |cpu| format!("CPU {cpu}"))
}

/// The value, or both where there are two that differ.
pub(super) fn both(before: Option<String>, after: Option<String>) -> Markup {
    match (before, after) {
        (Some(before), Some(after)) if before != after => html! {
            (before) " " span.arrow aria-label="then" { "\u{2192}" } " " b { (after) }
        },
        (Some(only), _) | (None, Some(only)) => html! { (only) },
        (None, None) => html! { "-" },
    }
}
