//! What the programs cost the verifier of this kernel, as `doctor` says it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::guest::{Guest, NIC};

/// A tenth of what the kernel allows (`BPF_COMPLEXITY_LIMIT_INSNS`).
const MOST: u64 = 100_000;
/// What doctor's sentence begins with.
const WORDS: &str = "instructions that the verifier walks through: ";
/// Programs that every kernel here takes.
const PROGRAMS: [&str; 7] = [
    "consume_tcp",
    "consume_udp",
    "observe_xdp",
    "receive_frags",
    "receive_gro",
    "receive_list",
    "receive_skb",
];

pub(super) fn run(guest: &Guest) -> Result<()> {
    // Where doctor has something else to complain of, it has told this all the same.
    let finished = guest.steer(&["doctor", NIC, "--json"])?;
    let findings: Value = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("doctor: no JSON; stderr: {}", finished.stderr.trim()))?;
    let findings = findings.as_array().context("a list of findings")?;
    let mut found = findings.iter().filter_map(|finding| finding["found"].as_str());
    let list = found.find_map(|found| found.strip_prefix(WORDS));
    let list = list.with_context(|| format!("doctor does not tell: {findings:?}"))?;
    for program in PROGRAMS {
        let count = list.split(", ").find_map(|entry| {
            let (name, count) = entry.split_once(' ')?;
            (name == program).then(|| count.parse::<u64>().ok())?
        });
        let count = count.with_context(|| format!("{program} is not among them: {list}"))?;
        guest.expect_within(&format!("instructions of {program}"), &count, 1..=MOST)?;
    }
    Ok(())
}
