//! Reports in a headless Chromium: the example of docs/ and one of a large machine with long names, in the
//! window of a desk and of a phone, light, dark and printed.
//!
//! With `STEER_ACCEPT=1` in the environment the example and its picture are made again; with
//! `STEER_SHOTS=DIR` a picture of every look is left in that directory.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "browser/chromium.rs"]
mod chromium;
#[path = "browser/wide.rs"]
mod wide;

use std::path::{Path, PathBuf};

use chromium::Chromium;
use clap::Parser as _;
use serde_json::{Value, json};
use steer_agent::cli::{Exit, args::Args, execute};

/// Looks at the page: width, dark, medium.
const LOOKS: [(u32, bool, &str); 6] = [
    (1280, false, "screen"),
    (1280, true, "screen"),
    (400, false, "screen"),
    (400, true, "screen"),
    (320, false, "screen"),
    (760, false, "print"),
];

fn report(recording: &Path, page: &Path) {
    let line = format!("steer --config /dev/null report -o {}", page.display());
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    words.extend(["--from".to_owned(), recording.display().to_string()]);
    let args = Args::try_parse_from(words).expect("a command");
    assert_eq!(execute(&args).expect("a report"), Exit::Done);
}

/// Elements that stick out of the page without being in a box of their own that scrolls.
const STICKING_OUT: &str = r"
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return box.right > document.documentElement.clientWidth + 1
    && !element.closest('.scroll') && !element.closest('svg') && !element.matches('.sr');
}).map(element => element.outerHTML.slice(0, 200))";

/// Texts whose colour is too near to what is behind them (WCAG 2.1, 1.4.3: 4.5, or 3 where it is large).
const TOO_PALE: &str = r"
(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  canvas.canvas.width = canvas.canvas.height = 1;
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba(matchMedia('(prefers-color-scheme: dark)').matches ? 'black' : 'white');
  };
  const pale = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    if (!own || size === 0 || element.closest('svg') || element.matches('.sr')) continue;
    const [one, other] = [light(rgba(style.color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < (size >= 24 ? 3 : 4.5)) pale.push(`${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 160)}`);
  }
  return pale;
})()";

/// What somebody who does not see the page would miss.
const WITHOUT_WORDS: &str = r"
[
  ...[...document.querySelectorAll('svg')].filter(svg => !svg.getAttribute('aria-label')),
  ...[...document.querySelectorAll('table')].filter(table => !table.caption || !table.querySelector('th[scope]')),
  ...[...document.querySelectorAll('.scroll[tabindex]')].filter(box => !box.getAttribute('aria-label')),
].map(element => element.outerHTML.slice(0, 160))";

fn none(what: &str, found: &Value) {
    assert_eq!(found.as_array().map(Vec::len), Some(0), "{what}: {found:#}");
}

fn look_at(page: &Path, name: &str) {
    let mut browser = Chromium::start();
    let shots = std::env::var_os("STEER_SHOTS").map(PathBuf::from);
    for (width, dark, media) in LOOKS {
        browser.look(width, dark, media);
        browser.open(page);
        let look = format!("{name}-{width}-{}-{media}", if dark { "dark" } else { "light" });
        if let Some(dir) = &shots {
            std::fs::write(dir.join(format!("{look}.png")), picture(&mut browser, width, None))
                .expect("written");
        }
        assert_eq!(browser.complaints(page), Vec::<String>::new(), "{look}");
        let overhang =
            "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.evaluate(overhang), 0, "{look}: the page is wider than the window");
        none(&format!("{look}: sticks out"), &browser.evaluate(STICKING_OUT));
        none(&format!("{look}: too pale"), &browser.evaluate(TOO_PALE));
        none(&format!("{look}: without words"), &browser.evaluate(WITHOUT_WORDS));
    }
    browser.look(1280, true, "");
    browser.open(page);
    let pdf = browser
        .call("Page.printToPDF", &json!({ "preferCSSPageSize": true, "printBackground": false }));
    let pdf = bytes_of(&pdf["data"]);
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 10_000, "{} bytes", pdf.len());
    if let Some(dir) = &shots {
        std::fs::write(dir.join(format!("{name}.pdf")), pdf).expect("written");
    }
}

/// A picture of the whole page, or of its first `height` pixels.
fn picture(browser: &mut Chromium, width: u32, height: Option<u32>) -> Vec<u8> {
    let all = browser.evaluate("document.documentElement.scrollHeight");
    let height = height.map_or(all, |height| json!(height));
    let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
    let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
    bytes_of(&browser.call("Page.captureScreenshot", &params)["data"])
}

/// The protocol sends bytes as base64 (RFC 4648).
fn bytes_of(text: &Value) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.as_str().expect("base64").trim_end_matches('=').as_bytes();
    let mut bytes = Vec::new();
    for four in text.chunks(4) {
        let bits = four.iter().fold(0, |bits, letter| bits << 6 | value(*letter))
            << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

fn of_this_package(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_example_looks_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let page = dir.path().join("page.html");
    report(&of_this_package("tests/fixtures/example.steer"), &page);
    look_at(&page, "example");

    let html = std::fs::read_to_string(&page).expect("there");
    let kept = of_this_package("../docs/report-example.html");
    if std::env::var_os("STEER_ACCEPT").is_some() {
        std::fs::write(&kept, &html).expect("written");
        let mut browser = Chromium::start();
        browser.look(1100, false, "screen");
        browser.open(&page);
        let png = picture(&mut browser, 1100, Some(1180));
        std::fs::write(of_this_package("../docs/report.png"), png).expect("written");
    }
    assert!(
        std::fs::read_to_string(&kept).unwrap_or_default() == html,
        "docs/report-example.html is not what its recording comes to: run with STEER_ACCEPT=1"
    );
    assert!(html.len() < 300_000, "{} bytes", html.len());
}

#[test]
fn a_large_machine_with_long_names_looks_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let (recording, page) = (dir.path().join("wide.steer"), dir.path().join("page.html"));
    wide::write(&recording);
    report(&recording, &page);
    look_at(&page, "wide");
}
