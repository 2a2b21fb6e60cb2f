//! The kernel's fields that the connect program reads.

use anyhow::{Context as _, Result};
use steer_common::connect::ConnectKnobs;
use steer_common::knobs::ABSENT;

use super::btf::{self, Types};
use super::kernel_types;

/// Where they are in the running kernel, and a sentence for each that is missing where it matters.
pub fn connect_fields() -> Result<(ConnectKnobs, Vec<String>)> {
    let types = kernel_types()?;
    let types = Types::parse(&types).with_context(|| btf::VMLINUX.to_owned())?;
    let field = |structure, path, bits| {
        types
            .member(structure, path)
            .filter(|member| member.bits == bits)
            .map_or(ABSENT, |member| member.bit_offset / 8)
    };
    let knobs = ConnectKnobs {
        // Where there is none, no socket can have a range of its own.
        local_port_range: field("tcp_sock", "inet_conn.icsk_inet.local_port_range", 32),
        tw_ts_recent_stamp: field("tcp_timewait_sock", "tw_ts_recent_stamp", 32),
        tw_substate: field("tcp_timewait_sock", "tw_sk.tw_substate", 8),
    };
    let mut missing = Vec::new();
    if knobs.tw_ts_recent_stamp == ABSENT || knobs.tw_substate == ABSENT {
        missing.push(
            "this kernel does not show how old a TIME-WAIT is: none is taken over by connect steering"
                .to_owned(),
        );
    }
    Ok((knobs, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_them() {
        if !std::path::Path::new(btf::VMLINUX).exists() {
            println!("skipped: no {}", btf::VMLINUX);
            return;
        }
        let (knobs, missing) = connect_fields().expect("readable");
        assert_eq!(missing, Vec::<String>::new());
        assert_ne!(knobs.tw_substate, ABSENT);
    }
}
