//! A kprobe whose hits the kernel itself counts, by a histogram trigger in tracefs.
//!
//! Documentation/trace/kprobetrace.rst and histogram.rst in the kernel's sources.

use std::{collections::BTreeMap, fs, io::Write, path::PathBuf};

use anyhow::{Context, Result};

use crate::guest::read;

const TRACEFS: &str = "/sys/kernel/tracing";
const GROUP: &str = "lab";

/// What a hit is counted by: the CPU it happened on, then the fields of the keys.
pub(super) type Hits = BTreeMap<Vec<i64>, u64>;

/// A probe in place; removed when dropped.
#[derive(Debug)]
pub(super) struct Probe {
    name: &'static str,
}

impl Probe {
    /// Whether this kernel has histogram triggers; Debian's have since 5.11 or so.
    pub(super) fn offered() -> bool {
        fs::exists(format!("{TRACEFS}/kprobe_events")).unwrap_or_default()
            && fs::read_to_string(format!("{TRACEFS}/README"))
                .is_ok_and(|text| text.contains("hist:keys"))
    }

    /// Counts calls of `function` for which `filter` holds, by the CPU and by `keys`, which are
    /// among `fields`: each a name and where it is fetched from.
    pub(super) fn install(
        name: &'static str,
        function: &str,
        fields: &str,
        keys: &str,
        filter: &str,
    ) -> Result<Self> {
        let events = format!("{TRACEFS}/kprobe_events");
        let probe = format!("p:{GROUP}/{name} {function} {fields}");
        append(&events, &probe).with_context(|| format!("cannot probe {function}"))?;
        let probe = Self { name };
        let trigger = format!("hist:keys=common_cpu,{keys}:size=4096 if {filter}");
        append(&probe.file("trigger"), &trigger)
            .with_context(|| format!("cannot count {function}"))?;
        Ok(probe)
    }

    /// What was counted since the start.
    pub(super) fn hits(&self) -> Result<Hits> {
        parse(&read(&self.file("hist"))?)
    }

    fn file(&self, file: &str) -> String {
        format!("{TRACEFS}/events/{GROUP}/{}/{file}", self.name)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // An event with a trigger cannot be removed.
        if let Ok(text) = read(&self.file("trigger")) {
            let trigger = text.lines().find(|line| line.starts_with("hist:"));
            let trigger = trigger.and_then(|line| line.split(" [").next());
            let _ = append(&self.file("trigger"), &format!("!{}", trigger.unwrap_or_default()));
        }
        let _ = append(&format!("{TRACEFS}/kprobe_events"), &format!("-:{GROUP}/{}", self.name));
    }
}

fn append(path: &str, line: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(PathBuf::from(path))?;
    file.write_all(line.as_bytes()).with_context(|| format!("{path} does not take: {line}"))
}

/// Lines like `{ common_cpu:          1, incoming:  3, queue:   0 } hitcount:       12`.
fn parse(text: &str) -> Result<Hits> {
    let mut hits = Hits::new();
    for line in text.lines() {
        let Some((keys, count)) = line.strip_prefix('{').and_then(|line| line.split_once('}'))
        else {
            continue;
        };
        let value = |cell: &str| cell.rsplit(':').next().unwrap_or_default().trim().to_owned();
        let keys: Result<Vec<i64>, _> = keys.split(',').map(|cell| value(cell).parse()).collect();
        let keys = keys.with_context(|| format!("unexpected histogram: {line}"))?;
        let count = value(count).parse();
        hits.insert(keys, count.with_context(|| format!("unexpected histogram: {line}"))?);
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_histogram_is_read() {
        let text = "\
# event histogram
#
# trigger info: hist:keys=common_cpu,incoming,queue:vals=hitcount:sort=hitcount:size=4096 [active]
#

{ common_cpu:          2, incoming:         -1, queue:      65535 } hitcount:          4
{ common_cpu:          1, incoming:          3, queue:          0 } hitcount:        120

Totals:
    Hits: 124
    Entries: 2
    Dropped: 0
";
        let hits = parse(text).expect("well-formed");
        assert_eq!(hits[&vec![2, -1, 65535]], 4);
        assert_eq!(hits[&vec![1, 3, 0]], 120);
        assert_eq!(hits.len(), 2);
    }
}
