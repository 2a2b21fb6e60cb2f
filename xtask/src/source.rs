//! Reads Rust source far enough to see which paths it names.
//!
//! Comments, strings and test modules are left out; `use` trees are spread out, and paths that
//! start at an imported name, at `self` or at `super` are completed. This is not a Rust parser:
//! it does not look into macros, which is enough for code that does not hide its imports in them.

use std::collections::HashMap;

/// What the rules look at in a file.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Complete paths, `std::fs::write` or `crate::sys::irq`, with the line each stands on.
    pub(crate) paths: Vec<(usize, String)>,
    /// Identifiers and keywords, with their lines.
    pub(crate) words: Vec<(usize, String)>,
    /// Number of lines without test modules.
    pub(crate) lines: usize,
}

impl Source {
    /// Reads the text of the module at `module`, its path below the crate's root.
    pub(crate) fn read(text: &str, module: &[&str]) -> Self {
        let tokens = tokens(&without_tests(&without_comments(text)));
        let lines = lines_of_code(text);
        let mut reader = Reader { tokens: &tokens, at: 0, module, aliases: HashMap::new() };
        let paths = reader.paths();
        let is_word = |token: &&Token| token.text.starts_with(is_word_start);
        let words = tokens.iter().filter(is_word);
        let words = words.map(|token| (token.line, token.text.clone())).collect();
        Self { paths, words, lines }
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// The text with comments and the contents of strings blanked out, line by line as before.
fn without_comments(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_blank(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment, string or character that starts at `at` ends; `at` if none does.
fn end_of_blank(chars: &[char], at: usize) -> usize {
    let here = |offset: usize| chars.get(at + offset).copied();
    let after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (here(0), here(1)) {
        (Some('/'), Some('/')) => at + chars[at..].iter().take_while(|&&c| c != '\n').count(),
        (Some('/'), Some('*')) => end_of_block_comment(chars, at),
        (Some('"'), _) => end_of_string(chars, at),
        (Some('r'), Some('"' | '#')) if !after_word => end_of_raw_string(chars, at),
        (Some('b'), Some('r')) if !after_word => {
            let end = end_of_raw_string(chars, at + 1);
            if end > at + 1 { end } else { at }
        }
        // A character, but not a lifetime.
        (Some('\''), Some('\\')) => {
            let close = chars[at + 3..].iter().position(|&c| c == '\'');
            close.map_or(chars.len(), |close| at + 3 + close + 1)
        }
        (Some('\''), Some(_)) if here(2) == Some('\'') => at + 3,
        _ => at,
    }
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `start` is at the `r`; where no string follows, as in `r#type`, that is the end too.
fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return start;
    }
    let mut at = open + 1;
    while at < chars.len() {
        let closed = chars[at] == '"'
            && chars[at + 1..].iter().take_while(|&&c| c == '#').take(hashes).count() == hashes;
        at += 1;
        if closed {
            return at + hashes;
        }
    }
    at
}

/// Blanks out each `#[cfg(test)] mod NAME { ... }`; the text must be without comments already.
fn without_tests(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, tests) = rest.split_at(start);
        out.push_str(before);
        let end = end_of_module(tests);
        out.extend(tests[..end].chars().filter(|&c| c == '\n'));
        rest = &tests[end..];
    }
    out + rest
}

/// Where the item behind an attribute ends: at its closing brace, or at a semicolon before any.
fn end_of_module(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Lines before the test module at the end of a file.
fn lines_of_code(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// Words, `::`, and single other characters.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word_start(first) {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: index + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    module: &'a [&'a str],
    /// Imported names and the paths they stand for.
    aliases: HashMap<String, String>,
}

impl Reader<'_> {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| &token.text)
    }

    fn paths(&mut self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        // Imports may stand below their use, so they are read first.
        for pass in [Self::imports, Self::inline] {
            self.at = 0;
            pass(self, &mut paths);
        }
        paths
    }

    fn imports(&mut self, paths: &mut Vec<(usize, String)>) {
        while self.at < self.tokens.len() {
            let import = self.peek() == "use";
            self.at += 1;
            if import {
                self.tree("", paths);
            }
        }
    }

    /// One branch of a `use` tree, below `prefix`.
    fn tree(&mut self, prefix: &str, paths: &mut Vec<(usize, String)>) {
        let mut path = prefix.to_owned();
        loop {
            let Some(token) = self.tokens.get(self.at) else { return };
            self.at += 1;
            match token.text.as_str() {
                "::" => {}
                "{" => {
                    while !matches!(self.peek(), "}" | "") {
                        self.tree(&path, paths);
                        if self.peek() == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                // `use a::{self}` imports `a`.
                "self" if !path.is_empty() => {}
                word if word.starts_with(is_word_start) => {
                    path =
                        if path.is_empty() { word.to_owned() } else { format!("{path}::{word}") };
                }
                // `*` ends a branch as well as what closes it.
                _ => {}
            }
            if matches!(self.peek(), "," | ";" | "}" | "as" | "") {
                let mut name = path.rsplit("::").next().unwrap_or_default().to_owned();
                if self.peek() == "as" {
                    name = self.tokens.get(self.at + 1).map_or(name, |token| token.text.clone());
                    self.at += 2;
                }
                let path = self.complete(&path);
                paths.push((token.line, path.clone()));
                self.aliases.insert(name, path);
                return;
            }
        }
    }

    /// Paths of two or more parts outside of `use`.
    fn inline(&mut self, paths: &mut Vec<(usize, String)>) {
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            if token.text == "use" {
                while !matches!(self.peek(), ";" | "") {
                    self.at += 1;
                }
                continue;
            }
            if !token.text.starts_with(is_word_start) || self.peek() != "::" {
                continue;
            }
            let mut path = token.text.clone();
            while self.peek() == "::" {
                let Some(next) = self.tokens.get(self.at + 1) else { break };
                if !next.text.starts_with(is_word_start) {
                    break;
                }
                path = format!("{path}::{}", next.text);
                self.at += 2;
            }
            paths.push((token.line, self.complete(&path)));
        }
    }

    /// The path from the crate's root or from the name of a crate.
    fn complete(&self, path: &str) -> String {
        let mut parts: Vec<&str> = path.split("::").collect();
        let mut base = self.module.to_vec();
        if !matches!(parts[0], "self" | "super") {
            if let Some(alias) = self.aliases.get(parts[0]) {
                return [alias.as_str()]
                    .into_iter()
                    .chain(parts.drain(1..))
                    .collect::<Vec<_>>()
                    .join("::");
            }
            return path.to_owned();
        }
        while matches!(parts.first(), Some(&"self" | &"super")) {
            if parts.remove(0) == "super" {
                base.pop();
            }
        }
        ["crate"].into_iter().chain(base).chain(parts).collect::<Vec<_>>().join("::")
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::read(text, &["plan", "table"]);
        source.paths.into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let text = "use std::{fs, io::{self, Read as _}};\nuse crate::model::*;";
        assert_eq!(paths(text), ["std::fs", "std::io", "std::io::Read", "crate::model"]);
    }

    #[test]
    fn imported_names_stand_for_their_paths() {
        let text = "fn f() { clock::Instant::now(); }\nuse std::time as clock;";
        assert_eq!(paths(text), ["std::time", "std::time::Instant::now"]);
    }

    #[test]
    fn relative_paths_are_completed() {
        let text =
            "use super::step::Step;\nfn f() { super::super::sys::irq::write(); self::g::h() }";
        let expected =
            ["crate::plan::step::Step", "crate::sys::irq::write", "crate::plan::table::g::h"];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn comments_strings_and_tests_are_not_code() {
        let text = r##"
            // std::fs::read
            /* std::fs /* std::net */ std::env */
            const A: &str = "std::fs::write \" std::fs";
            const B: &str = r#"std::fs " ::"#;
            const C: (char, &'static u8) = ('"', b"std::net");
            fn f<'a>(x: &'a str) -> usize { usize::from(x == "'") }
#[cfg(test)]
mod tests { fn g() { std::fs::read("}") } }
        "##;
        assert_eq!(paths(text), ["usize::from"]);
    }

    #[test]
    fn lines_are_counted_up_to_the_tests() {
        let source = Source::read("fn f() {}\n\n#[cfg(test)]\nmod tests {\n}\n", &[]);
        assert_eq!(source.lines, 2);
    }
}
