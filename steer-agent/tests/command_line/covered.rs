//! No error without an example: the source is searched for the words of its errors, and each must stand
//! in a golden file.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules whose errors people see in answer to what they typed. What a NIC takes to be brought about is in
/// lab-errors.txt, which the lab's scenario `messages` is held against; what the kernel refuses has its
/// examples in the tests of `sys::error`.
const SEARCHED: [&str; 15] = [
    "cli",
    "config",
    "plan/problem.rs",
    "policy",
    "apply/journal.rs",
    "apply/release.rs",
    "run/connect.rs",
    "run/serve.rs",
    "run/metrics.rs",
    "run/signals.rs",
    "run/steered/ends.rs",
    "report/recording",
    "report/socket.rs",
    "model/cpuset.rs",
    "simulate/scenario.rs",
];

/// What is at least so long tells a message from others.
const TELLING: usize = 12;

#[test]
fn no_error_is_without_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut golden = String::new();
    for entry in fs::read_dir(root.join("tests/golden")).expect("readable") {
        golden += &fs::read_to_string(entry.expect("an entry").path()).expect("text");
    }
    let mut missing = Vec::new();
    for place in SEARCHED {
        for file in files(&root.join("src").join(place)) {
            let source = fs::read_to_string(&file).expect("readable");
            let texts = texts(&source);
            let name = file.strip_prefix(root).expect("within").display().to_string();
            missing.extend(texts.into_iter().filter_map(|text| {
                let fragments = fragments(&text);
                let shown = |fragments: &[String]| {
                    fragments.iter().any(|words| golden.contains(words.as_str()))
                };
                (!fragments.is_empty() && !shown(&fragments)).then(|| format!("{name}: {text}"))
            }));
        }
    }
    assert!(
        missing.is_empty(),
        "no golden file has these errors; add a case to tests/command_line.rs:\n{}",
        missing.join("\n")
    );
}

#[test]
fn an_error_is_found_in_the_source() {
    let source = r#"
        fn f() {
            bail!("one \
                   {} two", x);
            ensure!(a, "three"); y.with_context(|| format!("four {z}"))?;
            z.with_context(what)?; println!("seven"); z.context(EIGHT)?;
        }
        const EIGHT: &str = "eight";
#[error("five {0}")] struct E;
#[cfg(test)]
mod tests { fn g() { bail!("six") } }
    "#;
    assert_eq!(texts(source), ["one {} two", "three", "four {z}", "eight", "five {0}"]);
    assert_eq!(fragments("a {x} which is longer; {{and}} {}"), ["which is longer; and"]);
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("readable") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let is_test = stem.is_some_and(|stem| stem.ends_with("tests"));
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What errors are made with.
const MAKERS: [&str; 6] =
    ["bail!(", "anyhow!(", "ensure!(", ".context(", "with_context(", "#[error("];

/// The first text of each error in the order of the source, without tests, which stand at its end.
fn texts(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut texts = Vec::new();
    for maker in MAKERS {
        for (at, _) in source.match_indices(maker) {
            let rest = &source[at + maker.len()..];
            texts.extend(first_text(rest).or_else(|| constant(source, rest)));
        }
    }
    texts.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    texts.into_iter().map(|(_, text)| text).collect()
}

/// The first text before the bracket that closes, and how much of the source is left behind it.
fn first_text(rest: &str) -> Option<(usize, String)> {
    let mut depth = 1;
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => return None,
            ')' => depth -= 1,
            '"' => {
                let text = unescaped(&mut letters)?;
                return Some((letters.as_str().len(), text));
            }
            _ => {}
        }
    }
    None
}

/// The same where the text stands in a constant of the file.
fn constant(source: &str, rest: &str) -> Option<(usize, String)> {
    let (name, _) = rest.split_once(')')?;
    let (_, value) = source.split_once(&format!("const {name}: &str ="))?;
    first_text(value).map(|(_, text)| (rest.len(), text))
}

/// A text up to the quote that ends it.
fn unescaped(letters: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => match letters.next()? {
                // A line that goes on: its end and the space before the next do not count.
                '\n' => *letters = letters.as_str().trim_start().chars(),
                'n' => text.push('\n'),
                letter => text.push(letter),
            },
            letter => text.push(letter),
        }
    }
}

/// What stands between the places of values.
fn fragments(text: &str) -> Vec<String> {
    let text = text.replace("{{", "").replace("}}", "");
    let parts = text.split('{').enumerate().map(|(index, part)| match part.split_once('}') {
        Some((_, rest)) if index > 0 => rest,
        _ => part,
    });
    parts.map(str::trim).filter(|part| part.len() >= TELLING).map(str::to_owned).collect()
}
