//! What the tests of the kernel side share.
#![allow(dead_code, reason = "each test file uses a part")]

use steer_agent::model::HashFields;

/// Whether programs can be loaded here. Without root the tests are skipped, and say so; where they
/// must run (`CI=true`), that is a failure.
pub(crate) fn may_load() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "these tests need root, and must not be skipped in CI"
    );
    println!("skipped: loading BPF programs needs root");
    false
}

/// A NIC that hashes everything with ports.
pub(crate) fn ports() -> HashFields {
    HashFields {
        tcp4_ports: Some(true),
        tcp6_ports: Some(true),
        udp4_ports: Some(true),
        udp6_ports: Some(true),
    }
}
