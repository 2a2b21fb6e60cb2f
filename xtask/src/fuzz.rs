//! `cargo xtask fuzz`: libFuzzer over every target of `fuzz/`, and the XDP program over random frames.
//!
//! Built as cargo-fuzz builds, but with the stable compiler: coverage counters and `AddressSanitizer` are
//! options that it has and does not offer, hence `RUSTC_BOOTSTRAP`. What a run finds goes to
//! `target/fuzz`; the stored corpus changes only with `--minimise`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{process, workspace};

/// What to run, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Executions in all. Each target has its share, slow ones a small one; of a single target it is
    /// all of them.
    #[arg(long, default_value_t = 1_000_000)]
    executions: u64,
    /// Run what was built last.
    #[arg(long)]
    no_build: bool,
    /// Put a minimised corpus of what is known by now in place of the stored one. Inputs that were
    /// named by hand stay.
    #[arg(long)]
    minimise: bool,
    /// Compare the XDP program with a packet library on so many random frames, and do nothing else
    /// (needs root).
    #[arg(long, value_name = "COUNT")]
    frames: Option<u64>,
    /// Targets; all of them if none is named.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// The only machine that the fuzzer is built for; a target must be named to keep the flags away from
/// build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Coverage counters for libFuzzer, `AddressSanitizer`, and every check of a debug build.
const FLAGS: [&str; 10] = [
    "--cfg",
    "fuzzing",
    "-Zsanitizer=address",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Share of a target in the executions, where it is not [`USUAL_SHARE`]: the slower the less, so that
/// none takes most of the time.
const SHARES: [(&str, u64); 11] = [
    ("answer", 10),
    ("cpu_sets", 300),
    ("irq_names", 300),
    ("journal", 150),
    ("netlink", 300),
    ("problem", 50),
    ("proc", 75),
    ("request", 300),
    ("scenario", 50),
    ("tree", 1),
    ("types", 200),
];
const USUAL_SHARE: u64 = 500;

/// Longest input, in bytes: more than any of these says is said in less.
const LONGEST: usize = 2048;
/// A stored input of this length or more is left out of a minimised corpus, unless named by hand.
const LONGEST_STORED: usize = 2000;
/// Most bytes of a target's corpus after it was minimised, and most inputs that the fuzzer put there.
const MOST_STORED: u64 = 20 << 10;
const MOST_INPUTS: usize = 60;

/// What a run of a target came to.
struct Run {
    executions: u64,
    coverage: u64,
    corpus: u64,
    crashed: bool,
    seconds: f64,
}

/// The command.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    if let Some(count) = options.frames {
        return frames(count);
    }
    let known = targets()?;
    let unknown = options.targets.iter().find(|name| !known.contains(name));
    if let Some(name) = unknown {
        bail!("no target {name}; there are: {}", known.join(", "));
    }
    let wanted: Vec<&String> = if options.targets.is_empty() {
        known.iter().collect()
    } else {
        known.iter().filter(|name| options.targets.contains(name)).collect()
    };
    if !options.no_build {
        process::step("build", || process::capture(&mut build(&wanted)))?;
    }
    if options.minimise {
        for name in wanted {
            process::step(&format!("minimise {name}"), || minimise(name))?;
        }
        return Ok(());
    }
    let parts: u64 = wanted.iter().map(|name| share(name)).sum();
    println!("\n| target     | executions | per s  | coverage | inputs | crashes |");
    println!("|------------|-----------:|-------:|---------:|-------:|--------:|");
    let (mut executions, mut crashes) = (0, 0);
    for name in wanted {
        let run = run(name, (options.executions * share(name)).div_ceil(parts))?;
        let Run { executions: done, coverage, corpus, crashed, seconds } = run;
        let per_s = done as f64 / seconds.max(0.001);
        let crash = u64::from(crashed);
        println!("| {name:10} | {done:10} | {per_s:6.0} | {coverage:8} | {corpus:6} | {crash:7} |");
        executions += done;
        crashes += crash;
    }
    println!("\n{executions} executions, {crashes} crashes");
    ensure!(crashes == 0, "the inputs are {}", artifacts("*").display());
    Ok(())
}

fn share(name: &str) -> u64 {
    SHARES.iter().find(|(slow, _)| *slow == name).map_or(USUAL_SHARE, |(_, share)| *share)
}

fn project() -> PathBuf {
    workspace::root().join("fuzz")
}

fn output() -> PathBuf {
    workspace::target().join("fuzz")
}

fn artifacts(name: &str) -> PathBuf {
    output().join(format!("crashes/{name}-"))
}

/// The names of all targets: the files of `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let directory = project().join("fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn build(targets: &[&String]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package=steer-fuzz", "--target", TRIPLE, "--target-dir"]);
    cargo.arg(output()).current_dir(workspace::root());
    for target in targets {
        cargo.args(["--bin", target]);
    }
    // What is fuzzed needs no kernel side.
    cargo.env("STEER_SKIP_EBPF", "1").env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    // Half the time to build for a tenth more time to run.
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2");
    cargo
}

/// The target's program, not to get in anybody's way.
fn program(name: &str) -> Command {
    let program = output().join(TRIPLE).join("release").join(name);
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(program).args(["-rss_limit_mb=2048", "-detect_leaks=0"]);
    nice.arg(format!("-max_len={LONGEST}"));
    // Trees are made on disk: where there is one in memory, there.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        nice.env("TMPDIR", memory);
    }
    nice.current_dir(workspace::root()).stdin(Stdio::null());
    nice
}

fn run(name: &str, executions: u64) -> Result<Run> {
    let found = output().join("corpus").join(name);
    fs::create_dir_all(&found)?;
    let prefix = artifacts(name);
    fs::create_dir_all(prefix.parent().context("a directory")?)?;
    let mut command = program(name);
    command.arg(format!("-runs={executions}")).args(["-timeout=20", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}", prefix.display()));
    command.arg(&found).arg(project().join("corpus").join(name));
    let start = Instant::now();
    let run =
        command.output().with_context(|| format!("cannot run {}", process::name(&command)))?;
    let text = String::from_utf8_lossy(&run.stderr);
    let crashed = !run.status.success();
    if crashed {
        println!("{}", process::tail(&text, 40));
    }
    Ok(Run {
        executions: number_after(&text, "stat::number_of_executed_units:").unwrap_or(0),
        coverage: number_after(&text, " cov: ").unwrap_or(0),
        corpus: number_after(&text, " corp: ").unwrap_or(0),
        crashed,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The number behind the last `word` of a text.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(word)?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Puts the fewest inputs that reach all that is known to be reached in place of the stored ones.
fn minimise(name: &str) -> Result<()> {
    let stored = project().join("corpus").join(name);
    let chosen = output().join("minimised").join(name);
    if chosen.exists() {
        fs::remove_dir_all(&chosen)?;
    }
    fs::create_dir_all(&chosen)?;
    let found = output().join("corpus").join(name);
    fs::create_dir_all(&found)?;
    let mut merge = program(name);
    merge.arg("-set_cover_merge=1").arg(&chosen).arg(&found).arg(&stored);
    process::capture(&mut merge)?;
    for path in files(&stored)?.into_iter().filter(|path| !is_named_by_hand(path)) {
        fs::remove_file(path)?;
    }
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let mut bytes: u64 = files(&stored)?.iter().map(|path| size(path)).sum();
    let mut inputs = files(&chosen)?;
    inputs.retain(|path| !is_named_by_hand(path));
    inputs.sort_by_key(|path| size(path));
    // Of too many, some of every size.
    let step = inputs.len().div_ceil(MOST_INPUTS).max(1);
    for path in inputs.iter().step_by(step) {
        bytes += size(path);
        if bytes > MOST_STORED || size(path) >= LONGEST_STORED as u64 {
            break;
        }
        let file_name = path.file_name().context("a name")?;
        fs::copy(path, stored.join(file_name))?;
    }
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// libFuzzer names inputs by their SHA-1.
fn is_named_by_hand(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.len() != 40 || !name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The comparison is a test of steer-agent, which takes the number of frames from a variable.
fn frames(count: u64) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--package=steer-agent", "--lib", "--", "--nocapture", "--exact"]);
    cargo
        .arg("observe::kernel::xdp_tests::library::the_program_and_the_library_agree_on_any_frame");
    // Where it cannot be run, that is a failure.
    cargo.env("STEER_FRAMES", count.to_string()).env("CI", "true");
    process::run(cargo.current_dir(workspace::root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_figures_are_found() {
        let text = "#2\tINITED cov: 87 ft: 91 corp: 1/1b exec/s: 0 rss: 45Mb\n\
            #900\tDONE   cov: 125 ft: 301 corp: 17/560b lim: 4 exec/s: 9 rss: 50Mb\n\
            stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     9\n";
        assert_eq!(number_after(text, " cov: "), Some(125));
        assert_eq!(number_after(text, " corp: "), Some(17));
        assert_eq!(number_after(text, "stat::number_of_executed_units:"), Some(900));
        assert_eq!(number_after("", " cov: "), None);
    }

    #[test]
    fn inputs_are_the_fuzzers_or_named_by_hand() {
        assert!(!is_named_by_hand(Path::new("c/0a4d55a8d778e5022fab701977c5d840bbc486d0")));
        assert!(is_named_by_hand(Path::new("c/status-crossed")));
        assert!(is_named_by_hand(Path::new("c/union-of-itself")));
    }
}
