//! The import rules of steer-agent, checked on its source.
//!
//! `model` and `plan` are pure: what they decide can be replayed from a recording, so they reach
//! no file, no socket, no clock and nothing that does. So is `simulate`, which runs them: the same
//! seed gives the same figures. Only `sys` writes to the kernel, so only `sys` needs to be read to
//! know what steer can change. The other rules keep the stages in a line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{source::Source, workspace};

/// A module and the paths it must not name.
struct Layer {
    module: &'static str,
    forbidden: &'static [&'static [&'static str]],
}

/// What lets a function see or change the world outside its arguments.
const OUTSIDE_WORLD: &[&str] = &[
    "aya",
    "libc",
    "netlink_bindings",
    "netlink_socket2",
    "procfs",
    "rustix",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

const LAYERS: [Layer; 7] = [
    Layer {
        module: "model",
        forbidden: &[
            OUTSIDE_WORLD,
            &["crate::apply", "crate::cli", "crate::observe", "crate::plan"],
            &["crate::report", "crate::run", "crate::simulate", "crate::sys"],
        ],
    },
    Layer {
        module: "plan",
        forbidden: &[
            OUTSIDE_WORLD,
            &["crate::apply", "crate::cli", "crate::observe"],
            &["crate::report", "crate::run", "crate::simulate", "crate::sys"],
        ],
    },
    Layer {
        module: "simulate",
        forbidden: &[
            OUTSIDE_WORLD,
            &["crate::apply", "crate::cli", "crate::observe"],
            &["crate::report", "crate::run", "crate::sys"],
        ],
    },
    Layer {
        module: "observe",
        forbidden: &[&["crate::apply", "crate::cli", "crate::plan", "crate::report", "crate::run"]],
    },
    Layer {
        module: "apply",
        forbidden: &[&["crate::cli", "crate::observe", "crate::report", "crate::run"]],
    },
    Layer {
        module: "sys",
        forbidden: &[
            &["crate::apply", "crate::cli", "crate::observe", "crate::plan"],
            &["crate::policy", "crate::report", "crate::run"],
        ],
    },
    Layer {
        module: "report",
        forbidden: &[&["crate::cli", "crate::observe", "crate::run", "crate::sys"]],
    },
];

/// The one door to the hardware.
const DOOR: &str = "sys";

/// Calls that open a file for writing.
const WRITES: [&str; 8] = [
    "std::fs::File::create",
    "std::fs::File::create_new",
    "std::fs::File::options",
    "std::fs::OpenOptions",
    "std::fs::write",
    "tokio::fs::File::create",
    "tokio::fs::OpenOptions",
    "tokio::fs::write",
];

/// Files beside `sys` that may write, and what.
const WRITERS: [(&str, &str); 4] = [
    ("apply/journal.rs", "the state before the first change, on disk before it is changed"),
    ("observe/fixture.rs", "trees for tests and the fuzzer, below a temporary directory"),
    ("cli/", "the lock of a run and other files of the program's own"),
    ("report/", "recordings"),
];

/// Lines of a file without its tests. Where a stage outgrows it, it becomes a directory.
const LONGEST_FILE: usize = 600;

/// Checks every file of steer-agent.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root().join("steer-agent/src");
    let mut violations = Vec::new();
    let mut files = Vec::new();
    for path in rust_files(&root)? {
        let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        files.push((name, fs::read_to_string(&path)?));
    }
    files.sort();
    let tests: Vec<String> =
        files.iter().flat_map(|(name, text)| test_modules(&module_of(name), text)).collect();
    for (name, text) in &files {
        let module = module_of(name).join("::");
        if !tests.iter().any(|test| is_below(&module, test)) {
            violations.extend(violations_of(name, text));
        }
    }
    for violation in &violations {
        println!("    steer-agent/src/{violation}");
    }
    ensure!(violations.is_empty(), "{} breaches of the import rules", violations.len());
    Ok(())
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory);
    let mut files = Vec::new();
    for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The modules in files of their own that a file declares for its tests. Where the file is named
/// by a `path` attribute, it lies beside the declaring one.
fn test_modules(module: &[&str], text: &str) -> Vec<String> {
    let declared = text.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let (before, after) = rest.split_once("mod ")?;
        let (name, _) = after.split_once(';')?;
        let before = before.trim();
        let path = before.strip_prefix("#[path = \"").and_then(|path| path.strip_suffix(".rs\"]"));
        let is_declaration = before.is_empty() || before.starts_with("pub") || path.is_some();
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_declaration || !is_name {
            return None;
        }
        let parent = &module[..module.len() - usize::from(path.is_some() && !module.is_empty())];
        Some([parent, &[path.unwrap_or(name)]].concat().join("::"))
    });
    declared.collect()
}

/// The breaches in one file, each as `FILE:LINE: what and why`.
fn violations_of(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let source = Source::read(text, &module);
    let top = module.first().copied().unwrap_or_default();
    let mut found = Vec::new();
    let layer = LAYERS.iter().find(|layer| layer.module == top);
    for (line, path) in &source.paths {
        let forbidden = layer.iter().flat_map(|layer| layer.forbidden.iter().copied().flatten());
        if let Some(prefix) = forbidden.into_iter().find(|prefix| is_below(path, prefix)) {
            found.push(format!("{file}:{line}: {path}: `{top}` must not use {prefix}"));
        }
        if top != DOOR
            && WRITES.iter().any(|write| is_below(path, write))
            && !WRITERS.iter().any(|(writer, _)| file.starts_with(writer))
        {
            found.push(format!("{file}:{line}: {path}: only `{DOOR}` writes"));
        }
    }
    for (line, word) in &source.words {
        if top != DOOR && (word == "unsafe" || word == "ioctl") {
            found.push(format!("{file}:{line}: {word}: belongs in `{DOOR}`"));
        }
    }
    if source.lines > LONGEST_FILE {
        let lines = source.lines;
        found.push(format!("{file}: {lines} lines without its tests, over {LONGEST_FILE}"));
    }
    found
}

/// `plan/table.rs` is `plan::table`, `plan/mod.rs` is `plan`.
fn module_of(file: &str) -> Vec<&str> {
    let file = file.strip_suffix(".rs").unwrap_or(file);
    let mut module: Vec<&str> = file.split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib" | &"main")) {
        module.pop();
    }
    module
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::{test_modules, violations_of};

    #[test]
    fn clean_files_pass() {
        let clean = [
            ("model/cpu.rs", "use std::{collections::BTreeMap, time::Duration};"),
            ("model/flow.rs", "use std::net::IpAddr;"),
            ("plan/mod.rs", "use crate::{model::World, policy::Policy};"),
            ("simulate/steer.rs", "use crate::{model, plan::Plan, policy::Policy};"),
            ("plan/table.rs", "use super::Step;"),
            ("observe/mod.rs", "use crate::{model::Sample, sys};\nuse aya::Ebpf;"),
            ("apply/journal.rs", "fn f() { std::fs::File::create(\"journal\"); }"),
            ("sys/irq.rs", "use crate::model::Cpu;\nfn f() { unsafe { libc::ioctl(0, 0) }; }"),
            ("report/text.rs", "use crate::model::World; // crate::sys is elsewhere"),
            ("run.rs", "use crate::{apply, model, observe, plan, report, sys};"),
            ("model/test.rs", "#[cfg(test)]\nmod tests { use std::fs; }"),
        ];
        for (file, text) in clean {
            assert_eq!(violations_of(file, text), [""; 0], "{file}");
        }
    }

    #[test]
    fn each_breach_is_found() {
        let breaches = [
            ("model/cpu.rs", "use std::{collections::BTreeMap, fs};"),
            ("model/mod.rs", "use crate::plan::Plan;"),
            ("model/deep/er.rs", "fn f() { super::super::super::sys::read() }"),
            ("plan/mod.rs", "fn now() { std::time::Instant::now(); }"),
            ("plan/mod.rs", "use std::time;\nfn now() { time::SystemTime::now(); }"),
            ("plan/mod.rs", "use crate::{model, observe::Observer};"),
            ("plan/mod.rs", "use tokio;"),
            ("plan/mod.rs", "use crate::simulate;"),
            ("simulate/mod.rs", "fn now() { std::time::Instant::now(); }"),
            ("simulate/steer.rs", "use crate::report::text;"),
            ("observe/bpf.rs", "use crate::plan;"),
            ("apply/mod.rs", "use super::report;"),
            ("sys/irq.rs", "use crate::policy::Policy;"),
            ("report/text.rs", "fn f() { crate::sys::read() }"),
            ("run.rs", "fn f() { unsafe {} }"),
            ("observe/nic.rs", "fn f() { std::fs::write(\"/proc/irq/1\", \"1\") }"),
            ("observe/nic.rs", "use std::fs::File;\nfn f() { File::create(\"x\") }"),
            ("apply/mod.rs", "use std::fs::OpenOptions;"),
        ];
        for (file, text) in breaches {
            assert_eq!(violations_of(file, text).len(), 1, "{file}: {text}");
        }
    }

    #[test]
    fn modules_for_tests_are_known() {
        let text = "mod a;\n#[cfg(test)]\nmod fixture;\n#[cfg(test)]\npub(super) mod b;\n\
            #[cfg(test)]\nmod tests {\n    mod c;\n}\n#[cfg(test)]\nuse mod_d;\nmod e;\n";
        assert_eq!(test_modules(&["observe"], text), ["observe::fixture", "observe::b"]);
        let text = "#[cfg(test)]\n#[path = \"nic_tests.rs\"]\nmod tests;\n";
        assert_eq!(test_modules(&["observe", "nic"], text), ["observe::nic_tests"]);
    }

    #[test]
    fn long_files_are_found() {
        let code = "fn f() {}\n".repeat(600);
        assert!(violations_of("model/cpu.rs", &code).is_empty());
        assert_eq!(violations_of("model/cpu.rs", &format!("{code}fn g() {{}}\n")).len(), 1);
        let tests = "#[cfg(test)]\nmod tests {\n}\n".to_owned();
        assert!(violations_of("model/cpu.rs", &(code + &tests)).is_empty());
    }
}
