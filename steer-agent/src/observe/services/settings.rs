//! What a program's own files say, found by its command line.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use super::{command_line, kind, parent};
use crate::model::service::{Kind, Settings};
use crate::sys::root::{self, Root};

/// No settings are larger; what is, is not read.
const LONGEST: u64 = 4 << 20;
/// Files that are read of one program.
const MOST_FILES: usize = 256;

/// The settings; `None` where no file could be read.
pub(super) fn of(proc: &Root, kind: Kind, pid: u32) -> Option<Settings> {
    let words = command_line(proc, pid);
    let start: VecDeque<PathBuf> = match kind {
        Kind::Haproxy => after(&words, "-f").collect(),
        Kind::Nginx => {
            let named = after(&words, "-c").last();
            [named.unwrap_or_else(|| PathBuf::from("/etc/nginx/nginx.conf"))].into()
        }
        Kind::Envoy | Kind::TrafficServer | Kind::Go => return None,
    };
    views(proc, kind, pid).iter().find_map(|view| read(proc, *view, start.clone(), kind))
}

/// The words that follow each `option`.
fn after<'a>(words: &'a [String], option: &'a str) -> impl Iterator<Item = PathBuf> {
    words.windows(2).filter(move |pair| pair[0] == option).map(|pair| PathBuf::from(&pair[1]))
}

/// Processes by whose eyes files are looked for, the best first: one that has shut itself in an empty
/// directory (HAProxy's `chroot`) sees none of its own. Then it is its master, or whoever began the system,
/// if that sees the same mounts.
fn views(proc: &Root, of: Kind, pid: u32) -> Vec<u32> {
    let mut views = vec![pid];
    views.extend(parent(proc, pid).filter(|parent| kind(proc, *parent) == Some(of)));
    let mounts = |pid: u32| fs::read_link(proc.proc(format!("{pid}/ns/mnt"))).ok();
    if mounts(pid).is_some() && mounts(pid) == mounts(1) {
        views.push(1);
    }
    views
}

fn read(proc: &Root, view: u32, mut files: VecDeque<PathBuf>, kind: Kind) -> Option<Settings> {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    while let Some(file) = files.pop_front() {
        if seen.len() >= MOST_FILES || !seen.insert(file.clone()) {
            continue;
        }
        let place = match file.strip_prefix("/") {
            Ok(below) => proc.proc(format!("{view}/root")).join(below),
            Err(_) => proc.proc(format!("{view}/cwd")).join(&file),
        };
        if place.is_dir() {
            let names = root::list(&place).unwrap_or_default();
            files.extend(
                names
                    .into_iter()
                    .map(|name| file.join(name))
                    .filter(|one| !place.join(one.file_name().unwrap_or_default()).is_dir()),
            );
            continue;
        }
        let small = fs::metadata(&place).is_ok_and(|file| file.len() <= LONGEST);
        let Some(more) = small.then(|| fs::read_to_string(&place).ok()).flatten() else { continue };
        if kind == Kind::Nginx {
            files.extend(included(&more, &file));
        }
        text.push_str(&more);
        text.push('\n');
    }
    (!text.is_empty()).then(|| Settings::parse(&text))
}

/// The files that a file of nginx's includes. Of `conf.d/*.conf` the whole directory: whoever has others
/// there is rare.
fn included(text: &str, from: &Path) -> Vec<PathBuf> {
    let settings = Settings::parse(text);
    let lines = settings.lines.iter();
    let patterns = lines.filter(|line| line.first().is_some_and(|word| word == "include"));
    let path = |line: &Vec<String>| {
        let path = Path::new(line.get(1)?);
        let path =
            if path.is_absolute() { path.to_owned() } else { from.with_file_name("").join(path) };
        let whole = path.to_string_lossy().contains('*');
        Some(if whole { path.with_file_name("") } else { path })
    };
    patterns.filter_map(path).collect()
}
