//! The stored corpus through every target, and the places that name a target agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Largest corpus that is stored, all targets together.
const MOST_BYTES: u64 = 300 << 10;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let directory = project().join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| {
        panic!("{}: {error}: a target needs a seed", directory.display());
    });
    entries.map(|entry| entry.expect("readable").path()).collect()
}

/// Inputs that once made a parser panic are among them, so that it never does again.
#[test]
fn every_stored_input_is_answered() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for path in inputs {
            let bytes = fs::read(&path).expect("readable");
            let answered = std::panic::catch_unwind(|| target.run(&bytes));
            assert!(answered.is_ok(), "{} on {}", target.name, path.display());
        }
    }
}

#[test]
fn the_corpus_is_small() {
    let size = |path: &PathBuf| fs::metadata(path).expect("readable").len();
    let bytes: u64 =
        TARGETS.iter().flat_map(|target| inputs(target.name)).map(|it| size(&it)).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes: `cargo xtask fuzz --minimise`");
}

#[test]
fn every_target_is_named_everywhere() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "two have one name");
    let listed = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(project().join(directory)).expect("listed");
        let stem = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
        entries.filter_map(|entry| stem(entry.expect("readable").path())).collect()
    };
    assert_eq!(listed("fuzz_targets"), names, "fuzz/fuzz_targets");
    assert_eq!(listed("corpus"), names, "fuzz/corpus");
    let manifest = fs::read_to_string(project().join("Cargo.toml")).expect("readable");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let bins = manifest["bin"].as_array().expect("a list").iter();
    let bins: BTreeSet<String> =
        bins.map(|bin| bin["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(bins, names, "fuzz/Cargo.toml");
}
