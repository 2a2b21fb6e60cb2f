//! What each program costs the kernel's verifier: instructions that it walks through, on all paths.
//!
//! Since 5.16 the kernel tells it of a program that is loaded; the verifier's own last line, "processed
//! N insns (limit 1000000)", tells it on every kernel, and also where it ends for lack of what comes
//! after. That is how it is asked here: while no descriptor may be opened, a program goes through the
//! verifier in full and then fails for want of one (`bpf_prog_load`, kernel/bpf/syscall.c), and the log
//! is what is left of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, bail};
use aya::programs::ProgramError;
use aya::{Btf, Ebpf, VerifierLogLevel};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Loaded, Observer, StartOptions, programs};

/// `BPF_COMPLEXITY_LIMIT_INSNS` (include/linux/bpf.h): the kernel refuses a program beyond it.
pub const LIMIT: u32 = 1_000_000;

/// Instructions by program, with either observer whichever costs more; a sentence for a program that
/// the kernel does not take.
///
/// For a moment the whole process can open no file: for programs with one thread.
pub fn instructions() -> Result<BTreeMap<&'static str, Result<u32, String>>> {
    let mut all: BTreeMap<&'static str, Result<u32, String>> = BTreeMap::new();
    for observer in [Observer::Tracing, Observer::Xdp] {
        let options = StartOptions { observer, ..StartOptions::default() };
        let mut loaded = Loaded::new(&options, VerifierLogLevel::STATS)?;
        for spec in programs::of(observer) {
            let found = measure(&mut loaded.ebpf, &loaded.btf, spec);
            let found = found.map_err(|error| format!("{error:#}"));
            match (all.get(spec.name), &found) {
                (Some(Ok(before)), Ok(now)) if now <= before => {}
                (Some(Ok(_)), Err(_)) => {}
                _ => drop(all.insert(spec.name, found)),
            }
        }
    }
    Ok(all)
}

fn measure(ebpf: &mut Ebpf, btf: &Btf, spec: &programs::Spec) -> Result<u32> {
    let outcome = {
        let _closed = NoDescriptors::new()?;
        programs::load_one(ebpf, btf, spec)
    };
    match outcome {
        Ok(()) => bail!("the kernel had a descriptor left, and no log"),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            processed(&log).with_context(|| format!("not verified: {io_error}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// N of `processed N insns (limit 1000000) max_states_per_insn …` (`print_verification_stats`).
fn processed(log: &str) -> Option<u32> {
    let (_, rest) = log.rsplit_once("processed ")?;
    rest.split_once(" insns")?.0.parse().ok()
}

/// While it lives, this process can open nothing.
struct NoDescriptors {
    before: Rlimit,
}

impl NoDescriptors {
    fn new() -> Result<Self> {
        let before = getrlimit(Resource::Nofile);
        // The lowest number that is free: all below are in use.
        let next = File::open("/dev/null").context("/dev/null")?.as_raw_fd();
        let none = Rlimit { current: Some(u64::try_from(next)?), ..before };
        setrlimit(Resource::Nofile, none).context("RLIMIT_NOFILE")?;
        Ok(Self { before })
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        if let Err(error) = setrlimit(Resource::Nofile, self.before) {
            log::warn!("this process can open no more files: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_log_is_read() {
        let log = "verification time 101 usec\nstack depth 48\nprocessed 13637 insns (limit 1000000) \
            max_states_per_insn 4 total_states 900 peak_states 300 mark_read 40\n";
        assert_eq!(processed(log), Some(13_637));
        assert_eq!(processed("invalid access to packet"), None);
        assert_eq!(processed(""), None);
    }
}
