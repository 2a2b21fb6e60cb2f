//! A configuration file to entries. All that is wrong with it is found at once.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{self, KEYS, Key, SECTIONS};
use super::{Entry, Origin, Problem};

/// The section with one table for each interface.
pub(super) const INTERFACE: &str = "interface";
/// Longest piece of a file that is quoted back.
const MOST_QUOTED: usize = 60;

/// Reads the text of `file`. What is right is returned even where something else is wrong.
pub(super) fn read(text: &str, file: &str) -> (Vec<Entry>, Vec<Problem>) {
    let mut reader = Reader { text, file, entries: Vec::new(), problems: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reader.sections(table.get_ref()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.problem(at, format!("this is not TOML: {}", error.message()));
        }
    }
    (reader.entries, reader.problems)
}

/// As it stands in the file: what is wrong is told from top to bottom.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn sections(&mut self, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let (at, name) = (name.span().start, name.get_ref());
            let Some(content) = value.get_ref().as_table() else {
                let place = "; keys stand in sections such as [run]";
                self.unknown(at, name, KEYS.iter().map(Key::path), place);
                continue;
            };
            if name == INTERFACE {
                self.interfaces(content);
            } else if SECTIONS.iter().any(|(section, _)| section == name) {
                for (key, value) in in_order(content) {
                    self.entry(keys::find(name, key.get_ref()), None, name, key, value);
                }
            } else {
                let known = SECTIONS.iter().map(|(section, _)| *section).chain([INTERFACE]);
                let nearest = keys::nearest(name, known);
                let nearest =
                    nearest.map_or(String::new(), |near| format!("; the nearest is [{near}]"));
                self.problem(at, format!("unknown section [{name}]{nearest}"));
            }
        }
    }

    fn interfaces(&mut self, table: &DeTable<'_>) {
        for (interface, value) in in_order(table) {
            let name: &str = interface.get_ref();
            let Some(content) = value.get_ref().as_table() else {
                let what = format!(
                    "`{INTERFACE}.{name}` is {}, expected a section [{INTERFACE}.{name}] with keys of \
                     that interface",
                    self.quote(value)
                );
                self.problem(interface.span().start, what);
                continue;
            };
            for (key, value) in in_order(content) {
                let section = format!("{INTERFACE}.{name}");
                let found = keys::find_for_interface(key.get_ref());
                self.entry(found, Some(name), &section, key, value);
            }
        }
    }

    fn entry(
        &mut self,
        found: Option<&'static Key>,
        interface: Option<&str>,
        section: &str,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = name.span().start;
        let path = format!("{section}.{}", name.get_ref());
        let Some(key) = found else {
            let global = KEYS.iter().find(|key| key.name == name.get_ref().replace('-', "_"));
            if let Some(global) = global.filter(|_| interface.is_some()) {
                let section = global.section;
                let what = format!(
                    "`{path}`: `{}` is the same for all interfaces; it stands in [{section}]",
                    global.name
                );
                return self.problem(at, what);
            }
            let known =
                KEYS.iter().filter(|key| interface.is_none() || key.per_interface).map(|key| {
                    match interface {
                        Some(_) => format!("{section}.{}", key.name),
                        None => key.path(),
                    }
                });
            return self.unknown(at, &path, known, "");
        };
        let twice = |entry: &&Entry| {
            std::ptr::eq(entry.key, key) && entry.interface.as_deref() == interface
        };
        if let Some(Origin::File { line, .. }) =
            self.entries.iter().find(twice).map(|entry| &entry.origin)
        {
            let what = format!("`{path}` is in line {line} already, expected each key once");
            return self.problem(at, what);
        }
        match key.form.read(value.get_ref()) {
            Ok(value) => {
                let origin = Origin::File { file: self.file.to_owned(), line: self.line(at) };
                let interface = interface.map(str::to_owned);
                self.entries.push(Entry { key, interface, value, origin });
            }
            Err(why) => {
                let why = if why.is_empty() { why } else { format!(" ({why})") };
                let what = format!("`{path}` is {}, expected {}{why}", self.quote(value), key.form);
                self.problem(at, what);
            }
        }
    }

    fn unknown(&mut self, at: usize, path: &str, known: impl Iterator<Item = String>, place: &str) {
        let known: Vec<String> = known.collect();
        let nearest = keys::nearest(path, known.iter().map(String::as_str));
        let nearest = nearest
            .map_or("; `steer config show` lists all there are".to_owned(), |near| {
                format!("; the nearest known one is `{near}`")
            });
        self.problem(at, format!("unknown key `{path}`{nearest}{place}"));
    }

    fn problem(&mut self, at: usize, what: String) {
        self.problems.push(Problem { place: format!("{}:{}", self.file, self.line(at)), what });
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }

    /// A value as it stands in the file.
    fn quote(&self, value: &Spanned<DeValue<'_>>) -> String {
        let text = self.text.get(value.span()).unwrap_or("something else");
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(MOST_QUOTED).collect();
        if short.len() < text.len() { format!("{short}...") } else { short }
    }
}
