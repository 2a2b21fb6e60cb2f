//! Whatever steer reads from others, as functions of bytes: what the fuzzer in `fuzz/` runs, and what
//! the tests run over its corpus.
//!
//! A target must come back for any bytes. Beside that, where something is understood, it must mean the
//! same when it is written and read again; a target that finds otherwise panics.
//!
//! To add one: a row in [`TARGETS`], a file in `fuzz/fuzz_targets` with its `[[bin]]` in
//! `fuzz/Cargo.toml`, and a seed or two in `fuzz/corpus/NAME`. A test says which of them is missing.

mod documents;
#[cfg(test)]
mod tests;

use crate::{apply, observe, sys};

/// Something that reads.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of its binary and of the directory with its corpus.
    pub name: &'static str,
    /// What it reads.
    pub reads: &'static str,
    run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "answer",
        reads: "the answer of a daemon on its socket, shown as `status` shows it",
        run: documents::answer,
    },
    Target {
        name: "cpu_sets",
        reads: "lists and masks of CPUs",
        run: |bytes| text(bytes, documents::cpu_sets),
    },
    Target {
        name: "ethtool",
        reads: "answers of the ethtool ioctl: RSS, channels, names, offloads, moderation",
        run: sys::fuzzing::ethtool,
    },
    Target {
        name: "irq_names",
        reads: "the names of interrupts, by every driver's custom",
        run: |bytes| text(bytes, observe::fuzzing::irq_names),
    },
    Target {
        name: "irqbalance",
        reads: "answers of irqbalance on its socket",
        run: sys::fuzzing::irqbalance,
    },
    Target {
        name: "journal",
        reads: "journals, with their checksum and with a right one",
        run: apply::journal::any_bytes,
    },
    Target {
        name: "netlink",
        reads: "datagrams of netlink: ethtool, netdev, rtnetlink, sock_diag, families",
        run: sys::fuzzing::netlink,
    },
    Target {
        name: "problem",
        reads: "planning problems as files; small ones are planned",
        run: |bytes| text(bytes, documents::problem),
    },
    Target {
        name: "proc",
        reads: "files of /proc: stat, net/snmp, the system's hash key; and the group database",
        run: |bytes| {
            text(bytes, observe::fuzzing::proc);
            text(bytes, sys::fuzzing::groups);
        },
    },
    Target {
        name: "request",
        reads: "requests to a daemon on its socket",
        run: documents::request,
    },
    Target {
        name: "rules",
        reads: "answers of the ethtool ioctl about exact-match rules",
        run: sys::fuzzing::rules,
    },
    Target {
        name: "scenario",
        reads: "simulation scenarios as files",
        run: |bytes| text(bytes, documents::scenario),
    },
    Target {
        name: "tree",
        reads: "whole trees of /proc and /sys, recorded ones among them, as NICs and topology",
        run: |bytes| text(bytes, observe::fuzzing::tree),
    },
    Target { name: "types", reads: "the kernel's type information", run: observe::fuzzing::types },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Reads `bytes`.
    pub fn run(&self, bytes: &[u8]) {
        (self.run)(bytes);
    }
}

/// For what takes text: bytes that are none are refused before it comes to be read.
fn text(bytes: &[u8], run: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        run(text);
    }
}
