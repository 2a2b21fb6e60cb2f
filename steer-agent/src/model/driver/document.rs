//! `docs/drivers.md`, made from the rows. Tests only: `STEER_ACCEPT=1 cargo test -p steer-agent`
//! renews the file.

use std::fmt::Write as _;

use super::{Affinity, Atr, Cause, Driver, Evidence, Hash, Key, Loss, TableWrite};

/// What stands around the results that runs of the lab put into the file.
pub(super) const LAB_BEGIN: &str = "<!-- lab matrix: begin; replaced by the lab, not by hand -->";
/// See [`LAB_BEGIN`].
pub(super) const LAB_END: &str = "<!-- lab matrix: end -->";

const HEAD: &str = "\
# Drivers

Made from the table in `steer-agent/src/model/driver/` by its test; after a change there,
`STEER_ACCEPT=1 cargo test -p steer-agent drivers_md` renews this file.

A claim is in the table because a kernel file says so; each driver's section names the files. \"Read\"
means that the source of that release was read for the row, \"in part\" that the rest is as documented and
not verified. Nothing here was tried on a physical NIC. Whatever the table says, a table is steered
only where live traffic confirms it, and every write is read back.

## What is automatic

- *free*, *brief*: `run` and `apply` write the table.
- *link reset*: they do not, for the write takes the link or the port down. Interrupts and XPS are still
  moved. `allow_link_reset = true` in the section `[policy]` of the configuration permits the write.
- *unknown*, and every driver that is not listed: the same, since nobody knows what a write does.
- *none*: there is nothing to write.

A table that is *lost* after something was written anew by the driver. The daemon compares in every
period, whatever this table says; after such an event it sets its own again, unless somebody else has.
";

/// The whole file, with `lab` between the marks.
pub(super) fn document(lab: &str) -> String {
    let mut text = HEAD.to_owned();
    text += "\n## All drivers\n\n";
    text += "| driver | table | key | table write | table lost after | affinity set by | busy queue \
             follows its interrupt | decides the queue beside the table | hash in packets | known |\n";
    text += &"|---".repeat(10);
    text += "|\n";
    let mut all: Vec<&Driver> = Driver::all().collect();
    all.sort_by_key(|driver| driver.names.first());
    for driver in all.iter().copied().chain([Driver::unknown()]) {
        row(&mut text, driver);
    }
    text += "\n## Lab\n\nKernels and emulated NICs, as the runs of the lab found them.\n\n";
    let _ = writeln!(text, "{LAB_BEGIN}\n{lab}{LAB_END}");
    text += "\n## One by one\n";
    for driver in all {
        section(&mut text, driver);
    }
    text
}

fn row(text: &mut String, driver: &Driver) {
    let follows = match driver.follows_busy {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {follows} | {} | {} | {} |",
        driver.names.join(", "),
        driver.table,
        key(driver.key),
        write_cost(driver.write),
        lost(driver.lost),
        affinity(driver.affinity),
        beside(driver),
        hash(driver.hash),
        evidence(driver.evidence),
    );
}

fn section(text: &mut String, driver: &Driver) {
    let _ = writeln!(text, "\n### {}\n", driver.names.join(", "));
    let _ = writeln!(text, "- table write: {}", driver.write_note);
    if !driver.irq_names.is_empty() {
        let names: Vec<String> = driver
            .irq_names
            .iter()
            .map(|name| {
                let named = name.pattern.replace("%i", "IF").replace("%d", "DEVICE");
                format!(
                    "`{}{}`",
                    named.replace("%n", "N"),
                    if named.ends_with('@') { "…" } else { "" }
                )
            })
            .collect();
        let _ = writeln!(text, "- interrupts: {}", names.join(", "));
    }
    for note in driver.notes {
        let _ = writeln!(text, "- {note}");
    }
    let sources: Vec<String> = driver.sources.iter().map(|source| format!("`{source}`")).collect();
    let _ = writeln!(text, "- {}: {}", evidence(driver.evidence), sources.join("; "));
}

fn key(key: Key) -> &'static str {
    match key {
        Key::Readable => "readable",
        Key::IfOffered => "if the device offers it",
        Key::System => "hidden; the kernel's common one",
        Key::Absent => "none",
        Key::Unknown => "unknown",
    }
}

fn write_cost(write: TableWrite) -> &'static str {
    match write {
        TableWrite::Free => "free",
        TableWrite::Brief => "brief",
        TableWrite::LinkReset => "**link reset**",
        TableWrite::Impossible => "none",
        TableWrite::Unknown => "unknown",
    }
}

fn lost(loss: Loss) -> String {
    match loss {
        Loss::Kept => "never".to_owned(),
        Loss::NoTable => "-".to_owned(),
        Loss::Unknown => "unknown".to_owned(),
        Loss::After(causes) => {
            let name = |cause: &Cause| match cause {
                Cause::Reopen => "reopen (MTU, rings, XDP)",
                Cause::Channels => "channel change",
                Cause::Reset => "reset",
            };
            causes.iter().map(name).collect::<Vec<_>>().join(", ")
        }
    }
}

fn affinity(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Left => "the user",
        Affinity::Hinted => "the user; the driver hints",
        Affinity::AtStart => "the driver, at start and after a reset",
        Affinity::AtOpen => "the driver, at each open",
        Affinity::Respread => "the driver, when queues or CPUs change",
        Affinity::Managed => "the kernel, which refuses others",
        Affinity::Channel => "the hypervisor's channel",
        Affinity::Unknown => "unknown",
    }
}

fn beside(driver: &Driver) -> String {
    let mut parts = Vec::new();
    match driver.atr {
        Some(Atr::UnlessNtuple) => parts.push("ATR while `ntuple` is off".to_owned()),
        Some(Atr::PrivateFlag(flag)) => parts.push(format!("ATR (private flag `{flag}`)")),
        None => {}
    }
    if driver.arfs {
        parts.push("aRFS".to_owned());
    }
    match driver.rules {
        Some(true) => parts.push("rules".to_owned()),
        Some(false) => {}
        None => parts.push("unknown".to_owned()),
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn hash(hash: Hash) -> &'static str {
    match hash {
        Hash::Reported => "yes",
        Hash::IfOffered => "if the device offers it",
        Hash::Never => "never",
        Hash::Unknown => "unknown",
    }
}

fn evidence(evidence: Evidence) -> String {
    match evidence {
        Evidence::Read(release) => format!("read ({release})"),
        Evidence::ReadInPart(release) => format!("read in part ({release})"),
        Evidence::Nothing => "not".to_owned(),
    }
}
