//! What a daemon gives up once it observes: every right that only the start needed.
//!
//! Programs and maps are held by descriptors, and the kernel removes them with these, so loading is
//! done with once and for all. What is put back at the end is written by ethtool, /proc/irq and
//! sysfs; for that two capabilities stay. The user stays as well: root owns the files in /proc/irq.

use rustix::thread::CapabilitySet;

use crate::observe::kernel::is_refusal;
use crate::sys::caps::{self, Settled};

/// What is kept to the end. `writes`: the NIC may be written. `detaches`: programs were attached to
/// the NIC itself, which before 5.9 are detached by netlink, not with their descriptor
/// (net/core/rtnetlink.c `IFLA_XDP`).
#[must_use]
pub fn needed(writes: bool, detaches: bool) -> CapabilitySet {
    let files = CapabilitySet::DAC_OVERRIDE;
    if writes || detaches { files | CapabilitySet::NET_ADMIN } else { files }
}

/// What may have to stay for the maps, the least first: nothing where the descriptor is all that the
/// kernel asks for; else what bpf(2) wants of every caller before 5.19 where unprivileged BPF is off
/// (kernel/bpf/syscall.c `__sys_bpf`): `CAP_BPF`, which before 5.8 is part of `CAP_SYS_ADMIN`.
const FOR_MAPS: [CapabilitySet; 3] = [
    CapabilitySet::empty(),
    CapabilitySet::BPF,
    CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN),
];

/// Gives up all but `keep` and whatever `try_maps` turns out to need, which is found by trying with
/// less before it is final. Returns the sentence that says what is left.
pub fn give_up(
    keep: CapabilitySet,
    mut try_maps: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let permitted = caps::permitted()?;
    let mut outcome = Ok(());
    let mut left = keep & permitted;
    for more in FOR_MAPS {
        left = (keep | more) & permitted;
        caps::lower(left)?;
        outcome = try_maps();
        match &outcome {
            Err(error) if is_refusal(error) => {}
            _ => break,
        }
    }
    outcome?;
    Ok(describe(caps::settle(left)?))
}

fn describe(settled: Settled) -> String {
    let kept = caps::names(settled.kept);
    let kept = if kept.is_empty() { "none".to_owned() } else { kept };
    let bounding = if settled.unbounded {
        ""
    } else {
        " (the bounding set stays: emptying it needs CAP_SETPCAP)"
    };
    format!("capabilities kept: {kept}; all others are given up, and no_new_privs is set{bounding}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// In a thread of its own: what is given up here, other tests may need.
    fn aside(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().expect("the test passes");
    }

    fn effective() -> CapabilitySet {
        rustix::thread::capabilities(None).expect("told").effective
    }

    fn refused() -> anyhow::Error {
        anyhow::Error::new(io::Error::from(io::ErrorKind::PermissionDenied)).context("reading maps")
    }

    #[test]
    fn looking_keeps_less_than_writing() {
        let files = CapabilitySet::DAC_OVERRIDE;
        assert_eq!(needed(false, false), files);
        assert_eq!(needed(true, false), files | CapabilitySet::NET_ADMIN);
        assert_eq!(needed(false, true), files | CapabilitySet::NET_ADMIN);
    }

    #[test]
    fn nothing_stays_that_the_maps_do_not_need() {
        aside(|| {
            let had = caps::permitted().expect("told");
            let said = give_up(needed(true, false), || Ok(())).expect("given up");
            assert_eq!(effective(), had & needed(true, false));
            assert!(said.starts_with("capabilities kept: "), "{said}");
        });
    }

    #[test]
    fn a_kernel_that_asks_for_more_at_every_call_keeps_it() {
        aside(|| {
            let had = caps::permitted().expect("told");
            let asks = |right: CapabilitySet| {
                move || if effective().contains(right & had) { Ok(()) } else { Err(refused()) }
            };
            let said = give_up(needed(true, false), asks(CapabilitySet::BPF)).expect("given up");
            let all = needed(true, false) | CapabilitySet::BPF;
            assert_eq!(effective(), had & all, "{said}");
        });
    }

    #[test]
    fn what_fails_with_every_right_is_said() {
        aside(|| {
            let error = give_up(needed(true, false), || Err(refused())).expect_err("refused");
            assert!(is_refusal(&error), "{error:#}");
        });
        aside(|| {
            let mut tries = 0;
            let gone = || {
                tries += 1;
                Err(anyhow::anyhow!("the NIC has outgrown its maps"))
            };
            give_up(needed(true, false), gone).expect_err("gone");
            assert_eq!(tries, 1, "more rights are no help against that");
        });
    }

    #[test]
    fn the_sentence_names_what_is_left() {
        let kept = needed(true, false);
        let said = describe(Settled { kept, unbounded: true });
        assert_eq!(
            said,
            "capabilities kept: CAP_DAC_OVERRIDE, CAP_NET_ADMIN; all others are given up, and \
             no_new_privs is set"
        );
        let said = describe(Settled { kept: CapabilitySet::empty(), unbounded: false });
        assert!(said.contains("kept: none") && said.contains("CAP_SETPCAP"), "{said}");
    }
}
