//! The screen, compared cell by cell, and what keys do to it.

use std::path::PathBuf;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use super::*;
use crate::golden::golden;
use crate::report::Status;

/// Four queues, sixteen flows that all cross, with their flows listed.
fn document(consumed: u64) -> Status {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/status-crossed.json");
    let text = std::fs::read_to_string(path).expect("a golden file");
    let mut status: Status = serde_json::from_str(&text).expect("a status document");
    let nic = &mut status.nics[0];
    nic.flows = Some(
        (0..16u16)
            .map(|number| {
                serde_json::from_value(serde_json::json!({
                    "proto": "tcp",
                    "local": "10.0.0.1:9000",
                    "remote": format!("10.0.0.2:{}", 40000 + number),
                    "hash": null, "hash_computed": false, "bucket": number,
                    "queue": number % 4, "softirq_cpu": number % 4,
                    "consumer_cpu": if number < 12 { (number + 2) % 4 } else { number % 4 },
                    "consumed": consumed * u64::from(number + 1),
                    "pid": 100 + number % 4, "comm": format!("worker{}", number % 4),
                }))
                .expect("a flow")
            })
            .collect(),
    );
    status
}

fn top() -> Top {
    let mut top = Top::default();
    top.window(document(10), Some(0.004));
    top.window(document(20), Some(0.004));
    top
}

fn press(top: &mut Top, keys: &[KeyCode]) {
    for key in keys {
        assert!(!top.key(*key, KeyModifiers::NONE), "{key:?} ends it");
    }
}

fn screen(top: &Top, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| top.draw(frame)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for line in buffer.content().chunks(usize::from(width)) {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[test]
fn each_view_is_as_it_was() {
    let mut top = top();
    let views =
        [('1', "overview"), ('2', "flows"), ('3', "queues"), ('4', "events"), ('?', "help")];
    for (key, name) in views {
        press(&mut top, &[KeyCode::Char(key)]);
        golden(&format!("top-{name}.txt"), &screen(&top, 80, 24));
    }
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut top = top();
    for key in ['1', '2', '3', '4', '?'] {
        press(&mut top, &[KeyCode::Char(key), KeyCode::PageDown]);
        for (width, height) in [(1, 1), (7, 3), (20, 5), (40, 10), (300, 100)] {
            screen(&top, width, height);
        }
    }
    screen(&Top::default(), 80, 24);
}

#[test]
fn flows_are_ordered_and_filtered() {
    let mut top = top();
    press(&mut top, &[KeyCode::Char('2')]);
    let lines = |top: &Top| -> Vec<String> {
        screen(top, 100, 24).lines().skip(4).map(str::to_owned).collect()
    };
    // The sixteenth consumes 16 x 10 in the window of a second, and is aligned.
    assert!(lines(&top)[0].contains("160") && lines(&top)[0].contains(":40015"));
    press(&mut top, &[KeyCode::Char('s')]);
    assert!(lines(&top)[0].contains("120") && lines(&top)[0].contains(":40011"));
    press(&mut top, &[KeyCode::Char('s')]);
    assert!(lines(&top)[0].contains("worker0"));
    press(&mut top, &[KeyCode::Char('s')]);
    assert!(lines(&top)[0].contains(":40000"));
    let keys: Vec<KeyCode> = "/WORKER3".chars().map(KeyCode::Char).collect();
    press(&mut top, &keys);
    press(&mut top, &[KeyCode::Enter]);
    assert!(screen(&top, 100, 24).contains("4 flows that match, 3 cross"));
    press(&mut top, &[KeyCode::Esc]);
    assert!(!screen(&top, 100, 24).contains("filter:"));
}

#[test]
fn while_it_is_typed_no_letter_is_a_command() {
    let mut top = top();
    press(&mut top, &[KeyCode::Char('/'), KeyCode::Char('q')]);
    assert!(screen(&top, 100, 24).contains("filter: q_"));
    assert!(top.key(KeyCode::Char('c'), KeyModifiers::CONTROL));
    press(&mut top, &[KeyCode::Esc]);
    assert!(top.key(KeyCode::Char('q'), KeyModifiers::NONE));
}

#[test]
fn frozen_it_stays_and_the_history_goes_on() {
    let mut top = top();
    press(&mut top, &[KeyCode::Char('3'), KeyCode::Char(' ')]);
    let before = screen(&top, 100, 24);
    let mut later = document(30);
    later.nics[0].queues[0].packets_per_s = 12345.0;
    let what = "verified: aligned 99.0 %".to_owned();
    let event = EventReport { at_unix_s: 1_790_000_013.0, what, why: None, wrote: false };
    later.nics[0].events.push(event);
    top.window(later.clone(), Some(0.004));
    top.window(later, Some(0.004));
    assert_eq!(screen(&top, 100, 24), before);
    assert_eq!(top.alignment["eth0"].len(), 4);
    press(&mut top, &[KeyCode::Char('4')]);
    assert_eq!(screen(&top, 100, 24).matches("verified").count(), 1);
}

#[test]
fn a_window_that_cannot_be_had_is_said_and_the_last_stays() {
    let mut top = top();
    top.failed("the daemon does not answer".to_owned());
    let text = screen(&top, 120, 24);
    assert!(text.contains("the daemon does not answer") && text.contains("eth0"), "{text}");
}

#[test]
fn on_a_small_terminal_what_counts_most_is_there() {
    let mut top = top();
    let mut text = String::new();
    for (width, height) in [(20, 5), (40, 12), (60, 16), (120, 36)] {
        for key in ['1', '2'] {
            press(&mut top, &[KeyCode::Char(key)]);
            text += &format!("# {width} x {height}\n{}", screen(&top, width, height));
        }
    }
    golden("top-sizes.txt", &text);
}

#[test]
fn a_daemon_comes_and_goes_under_way() {
    let mut top = top();
    let mut own = document(30);
    own.source = Source::Own;
    own.nics[0].events.clear();
    own.nics[0].history.clear();
    top.window(own, Some(0.02));
    assert!(!screen(&top, 100, 24).contains("daemon 0.4 %"), "what it took is history");
    top.window(document(40), Some(0.004));
    press(&mut top, &[KeyCode::Char('4')]);
    let text = screen(&top, 100, 24);
    let (gone, back) = (text.find("the daemon has ended"), text.find("a daemon runs now"));
    assert!(gone.is_some() && gone < back, "{text}");
    assert_eq!(
        text.matches("wrote 9 settings").count(),
        2,
        "what the new one did is news:\n{text}"
    );
}

#[test]
fn each_nic_has_its_own_history() {
    let mut two = document(30);
    let mut second = two.nics[0].clone();
    "eth1".clone_into(&mut second.name);
    second.alignment.share = Some(1.0);
    two.nics.push(second);
    let mut top = top();
    top.window(two.clone(), None);
    top.window(two, None);
    assert!(screen(&top, 100, 24).contains("eth0 (igb) 1 of 2"));
    press(&mut top, &[KeyCode::Right]);
    golden("top-second.txt", &screen(&top, 80, 30));
    press(&mut top, &[KeyCode::Right]);
    assert!(screen(&top, 100, 24).contains("eth0 (igb) 1 of 2"), "round and round");
}

#[test]
fn the_mouse_scrolls_and_chooses_a_view() {
    let mut top = top();
    let place = |name: &str| {
        let screen = screen(&self::top(), 80, 24);
        u16::try_from(screen.lines().nth(1).and_then(|line| line.find(name)).expect("a view"))
    };
    top.click(place("2 Flows").expect("near"), 1);
    assert_eq!(top.view, View::Flows);
    top.wheel(3);
    assert_eq!(top.scroll, 3);
    top.wheel(-5);
    assert_eq!(top.scroll, 0);
    top.click(0, 5);
    top.click(79, 1);
    assert_eq!(top.view, View::Flows, "there is nothing to choose");
    top.click(place("? Help").expect("near"), 1);
    assert_eq!(top.view, View::Help);
}
