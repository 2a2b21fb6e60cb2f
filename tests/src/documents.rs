//! The documents, as a test sees them: README.md and docs/*.md with their commands, examples and links.
//!
//! Every command in a code block is run by a test, or stands in [`EXCEPTIONS`] with the reason why not. What
//! needs no NIC is run by `steer-agent/tests/documents.rs`, what needs one by the scenario `manual`. Whether
//! it may be called so at all is asked of the program's own definition of its arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A command that no test runs as it stands.
#[derive(Debug)]
pub struct Exception {
    /// The document that has it; empty for all.
    pub document: &'static str,
    /// How it begins.
    pub begins: &'static str,
    /// Why not.
    pub reason: &'static str,
}

const fn exception(
    document: &'static str,
    begins: &'static str,
    reason: &'static str,
) -> Exception {
    Exception { document, begins, reason }
}

const NO_SYSTEMD: &str = "most of the lab's machines have no systemd; what the unit and the package do has \
                          tests of its own";

/// The commands that no test runs as they stand. One that its document has no more is an error too.
pub static EXCEPTIONS: &[Exception] = &[
    exception("", "cargo build", "the program under test was built by it"),
    exception(
        "",
        "cargo xtask",
        "takes minutes to an hour; xtask's own tests hold it against its definition",
    ),
    exception("docs/guide.md", "systemctl reload steer", NO_SYSTEMD),
    exception("README.md", "apt install", NO_SYSTEMD),
    exception("docs/packages.md", "apt install", NO_SYSTEMD),
    exception("docs/packages.md", "systemctl", NO_SYSTEMD),
    exception("docs/packages.md", "podman", "needs an image that is built first"),
    exception("docs/packages.md", "kubectl", "needs a cluster"),
];

/// One document.
#[derive(Debug)]
pub struct Document {
    /// Its path from the root of the repository on.
    pub name: String,
    /// Its code blocks.
    pub blocks: Vec<Block>,
    /// Code in its sentences, with the line.
    pub spans: Vec<(usize, String)>,
    /// Where its links lead, with the line.
    pub links: Vec<(usize, String)>,
    /// The names by which its headings are linked to.
    pub anchors: BTreeSet<String>,
}

/// A code block.
#[derive(Debug)]
pub struct Block {
    /// The line that it begins at.
    pub line: usize,
    /// What is in it.
    pub kind: Kind,
    /// The text.
    pub text: String,
}

/// What is in a code block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands, one a line: an indented block.
    Commands,
    /// What a program prints.
    Output,
    /// In a language: `json`, `toml`, `haproxy`; empty where a fenced block does not name it.
    Language(String),
}

/// A command in a document.
#[derive(Clone, Debug)]
pub struct Command {
    /// Where it stands: document and line.
    pub place: String,
    /// As it is written, without its comment.
    pub text: String,
    /// Its words, up to the first `&&`, `|` or the like.
    pub words: Vec<String>,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// What a command of steer needs to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but its files.
    Nothing,
    /// An interface to look at, or a screen.
    Look,
    /// A NIC that can be steered.
    Nic,
}

impl Command {
    /// The arguments, if it is a command of steer.
    #[must_use]
    pub fn steer(&self) -> Option<Vec<&str>> {
        let (first, rest) = self.words.split_first()?;
        (first == "steer").then(|| rest.iter().map(String::as_str).collect())
    }

    /// What it needs, if it is a command of steer.
    #[must_use]
    pub fn needs(&self) -> Option<Needs> {
        let arguments = self.steer()?;
        let has = |option: &str| arguments.contains(&option);
        Some(match *arguments.first()? {
            "top" => Needs::Look,
            _ if has("--help") || has("--from") || has("--problem") => Needs::Nothing,
            "config" | "simulate" | "replay" | "--version" => Needs::Nothing,
            "doctor" | "status" | "plan" => Needs::Look,
            // Those that write, and what is not known yet.
            _ => Needs::Nic,
        })
    }

    /// Why no test runs it, if so.
    #[must_use]
    pub fn exception(&self) -> Option<&'static Exception> {
        EXCEPTIONS
            .iter()
            .find(|it| self.place.starts_with(it.document) && self.text.starts_with(it.begins))
    }

    /// The file that follows an option.
    #[must_use]
    pub fn value_of(&self, option: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == option)?;
        self.words.get(at + 1).map(String::as_str)
    }
}

/// Directories of the repository, by which a path is known.
const TREES: [&str; 8] = [
    "deploy/",
    "docs/",
    "fuzz/",
    "steer-agent/",
    "steer-common/",
    "steer-ebpf/",
    "tests/",
    "xtask/",
];

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README.md and docs/*.md, in the order of their names.
pub fn all() -> Result<Vec<Document>> {
    let root = root();
    let mut names = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root.join("docs")).context("cannot list docs")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_document = Path::new(&name).extension().is_some_and(|extension| extension == "md");
        names.extend(is_document.then(|| format!("docs/{name}")));
    }
    names.sort();
    let read = |name: &String| {
        let text = fs::read_to_string(root.join(name)).with_context(|| name.clone())?;
        Ok(Document::parse(name, &text))
    };
    names.iter().map(read).collect()
}

/// The commands of all documents, in their order.
pub fn commands() -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    for document in all()? {
        commands.extend(document.commands()?);
    }
    Ok(commands)
}

impl Document {
    /// Reads a document.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let (blocks, spans, links) = (Vec::new(), Vec::new(), Vec::new());
        let anchors = BTreeSet::new();
        let mut document = Self { name: name.to_owned(), blocks, spans, links, anchors };
        let mut block: Option<Block> = None;
        let mut heading: Option<String> = None;
        let mut headings: BTreeMap<String, usize> = BTreeMap::new();
        let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = line_of(range.start);
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let kind = match kind {
                        CodeBlockKind::Fenced(language) => Kind::Language(language.into_string()),
                        CodeBlockKind::Indented => Kind::Commands,
                    };
                    block = Some(Block { line, kind, text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => {
                    document.blocks.extend(block.take().map(Block::recognised));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap_or_default());
                    let count = headings.entry(slug.clone()).or_insert(0);
                    let anchor = if *count == 0 { slug } else { format!("{slug}-{count}") };
                    *count += 1;
                    document.anchors.insert(anchor);
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push((line, dest_url.into_string()));
                }
                Event::Code(code) => {
                    if let Some(heading) = &mut heading {
                        *heading += &code;
                    }
                    document.spans.push((line, code.into_string()));
                }
                Event::Text(words) => {
                    if let Some(block) = &mut block {
                        block.text += &words;
                    } else if let Some(heading) = &mut heading {
                        *heading += &words;
                    }
                }
                _ => {}
            }
        }
        document
    }

    /// Its commands.
    pub fn commands(&self) -> Result<Vec<Command>> {
        let mut commands = Vec::new();
        for block in self.blocks.iter().filter(|block| block.kind == Kind::Commands) {
            let mut before = String::new();
            for (at, line) in block.text.lines().enumerate() {
                if let Some(part) = line.trim_end().strip_suffix('\\') {
                    before += part;
                    continue;
                }
                let line = std::mem::take(&mut before) + line;
                let place = format!("{}:{}", self.name, block.line + at);
                let words = words(&line);
                let words = words.with_context(|| format!("{place}: open quotes: {line}"))?;
                if words.is_empty() {
                    continue;
                }
                let text = line.split(" #").next().unwrap_or_default().trim().to_owned();
                let is_end = |word: &String| ["&&", "||", "|", ";", "&", ">"].contains(&&**word);
                let end = words.iter().position(is_end).unwrap_or(words.len());
                commands.push(Command { place, text, words: words[..end].to_vec() });
            }
            ensure!(before.is_empty(), "{}:{}: nothing after a `\\`", self.name, block.line);
        }
        Ok(commands)
    }

    /// The files that its links and its words name, relative to the root, each with the line and, behind
    /// `#`, a heading.
    #[must_use]
    pub fn files(&self) -> Vec<(usize, String)> {
        let here = Path::new(&self.name).parent().unwrap_or(Path::new(""));
        let links = self.links.iter().filter(|(_, link)| !link.contains("://"));
        let links = links.map(|(line, link)| {
            let target = if link.starts_with('#') {
                format!("{}{link}", self.name)
            } else {
                plain(&here.join(link))
            };
            (*line, target)
        });
        let is_path = |span: &str| {
            TREES.iter().any(|tree| span.starts_with(tree)) && !span.contains([' ', '*', '<', '{'])
        };
        let spans = self.spans.iter().filter(|(_, span)| is_path(span)).cloned();
        links.chain(spans).collect()
    }
}

impl Block {
    /// An indented block has no language: what it is shows its first line.
    fn recognised(mut self) -> Self {
        if self.kind == Kind::Commands {
            let first = self.text.lines().next().unwrap_or_default();
            let command = first.split(" #").next().unwrap_or_default().trim_end();
            let word = first.split_whitespace().next().unwrap_or_default();
            self.kind = match first.chars().next() {
                Some('{') => Kind::Language("json".to_owned()),
                Some('[') => Kind::Language("toml".to_owned()),
                // Columns, or a sentence that begins with a name.
                _ if command.contains("  ") || word.ends_with(':') => Kind::Output,
                _ => Kind::Commands,
            };
        }
        self
    }
}

/// The words of a line of the shell, without its comment; what a command is to put in (`$(pidof it)`) is
/// part of its word.
fn words(line: &str) -> Option<Vec<String>> {
    const BLANK: &str = "\u{a0}";
    let mut parts = line.split("$(");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, rest) = part.split_once(')')?;
        whole += &format!("$({}){rest}", inside.replace(' ', BLANK));
    }
    Some(shlex::split(&whole)?.iter().map(|word| word.replace(BLANK, " ")).collect())
}

/// Without `.` and `..`.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part.as_os_str().to_string_lossy().as_ref() {
            "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name.to_owned()),
        }
    }
    parts.join("/")
}

/// The name that GitHub gives to a heading.
fn slug(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        Document::parse("docs/it.md", text)
    }

    #[test]
    fn commands_are_found_with_their_place() {
        let document = read(
            "# It\n\nSay:\n\n    steer doctor     # looks\n    # alone\n    mkdir a && cd a\n\n1. so\n\n       \
             steer plan \\\n           eth0\n",
        );
        let commands: Vec<String> =
            document.commands().expect("read").iter().map(ToString::to_string).collect();
        assert_eq!(
            commands,
            [
                "docs/it.md:5: steer doctor",
                "docs/it.md:7: mkdir a && cd a",
                "docs/it.md:12: steer plan     eth0",
            ]
        );
        assert_eq!(document.commands().expect("read")[1].words, ["mkdir", "a"]);
    }

    #[test]
    fn other_blocks_are_no_commands() {
        let kinds = |text: &str| -> Vec<Kind> {
            read(text).blocks.into_iter().map(|block| block.kind).collect()
        };
        let language = |name: &str| vec![Kind::Language(name.to_owned())];
        assert_eq!(kinds("    { \"format\": 1 }\n"), language("json"));
        assert_eq!(kinds("    [run]\n    period = \"1s\"\n"), language("toml"));
        assert_eq!(kinds("```toml\n[run]\n```\n"), language("toml"));
        assert_eq!(kinds("```\nsteer doctor\n```\n"), language(""));
        assert_eq!(kinds("    queue  IRQ  set to\n"), [Kind::Output]);
        assert_eq!(kinds("    eth0: steering\n"), [Kind::Output]);
        assert_eq!(kinds("    frob eth0\n"), [Kind::Commands]);
    }

    #[test]
    fn what_a_command_needs_is_told_by_its_words() {
        let needs = |text: &str| {
            let document = read(&format!("    {text}\n"));
            document.commands().expect("read")[0].needs()
        };
        assert_eq!(needs("steer plan --from now.steer"), Some(Needs::Nothing));
        assert_eq!(needs("steer status eth0 --json"), Some(Needs::Look));
        assert_eq!(needs("steer top --from now.steer"), Some(Needs::Look));
        assert_eq!(needs("steer restore eth0"), Some(Needs::Nic));
        assert_eq!(needs("steer frob"), Some(Needs::Nic));
        assert_eq!(needs("ethtool -x eth0"), None);
        assert_eq!(words("steer $(a b) c # d").expect("closed"), ["steer", "$(a b)", "c"]);
    }

    #[test]
    fn links_are_resolved() {
        let document = read(
            "# One `two`: three\n\n## Over\n\n## Over\n\n[a](../deploy/b.yml) [c](#over-1) \
             [d](https://e.f) `docs/g.md`, `docs/*.md`\n",
        );
        let anchors: Vec<&str> = document.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["one-two-three", "over", "over-1"]);
        let files: Vec<String> = document.files().into_iter().map(|(_, file)| file).collect();
        assert_eq!(files, ["deploy/b.yml", "docs/it.md#over-1", "docs/g.md"]);
    }
}
