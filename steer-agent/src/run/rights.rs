//! What a daemon gives up once it observes: every right that it does not need to go on.
//!
//! What is put back at the end is written by ethtool, /proc/irq and sysfs; for that two capabilities
//! stay effective. A NIC that comes back or outgrows its maps is observed anew, by programs that are
//! loaded again; what that takes is held in reserve, and effective only meanwhile. The user stays:
//! root owns the files in /proc/irq.

use rustix::thread::CapabilitySet;

use crate::observe::kernel::is_refusal;
use crate::sys::SysError;
use crate::sys::caps::{self, Settled};

/// What is kept to the end. `writes`: the NIC may be written. `detaches`: programs were attached to
/// the NIC itself, which before 5.9 are detached by netlink, not with their descriptor
/// (net/core/rtnetlink.c `IFLA_XDP`).
#[must_use]
pub fn needed(writes: bool, detaches: bool) -> CapabilitySet {
    let files = CapabilitySet::DAC_OVERRIDE;
    if writes || detaches { files | CapabilitySet::NET_ADMIN } else { files }
}

/// What accept steering takes now and then: finding out who holds a socket, and duplicating it
/// (`proc_pid_fd(5)`, `pidfd_getfd(2)`).
pub const FOR_SOCKETS: CapabilitySet = CapabilitySet::SYS_PTRACE;

/// What may have to stay for the maps, the least first: nothing where the descriptor is all that the
/// kernel asks for; else what bpf(2) wants of every caller before 5.19 where unprivileged BPF is off
/// (kernel/bpf/syscall.c `__sys_bpf`): `CAP_BPF`, which before 5.8 is part of `CAP_SYS_ADMIN`.
const FOR_MAPS: [CapabilitySet; 3] = [
    CapabilitySet::empty(),
    CapabilitySet::BPF,
    CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN),
];

/// What is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Or why nothing could be given up.
    settled: Result<Settled, SysError>,
}

impl Rights {
    /// Gives up all but `keep`, the reserve, and whatever `try_maps` turns out to need, which is found
    /// by trying with less before it is final. Where the kernel lets nothing be given up (a filter of
    /// system calls), nothing is less safe than before: it is said, and steer goes on.
    pub fn give_up(
        keep: CapabilitySet,
        try_maps: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        Self::give_up_beside(keep, CapabilitySet::empty(), try_maps)
    }

    /// The same with more in the reserve: what following other processes' sockets takes.
    pub fn give_up_beside(
        keep: CapabilitySet,
        reserve: CapabilitySet,
        try_maps: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        match settle(keep, reserve, try_maps) {
            Ok(settled) => Ok(Self { settled: Ok(settled) }),
            Err(error) => error.downcast().map(|error: SysError| Self { settled: Err(error) }),
        }
    }

    /// Does something that takes the reserve: loading the programs again.
    pub fn with_reserve<T>(&self, act: impl FnOnce() -> T) -> anyhow::Result<T> {
        let Ok(settled) = self.settled else { return Ok(act()) };
        caps::lower(settled.kept | settled.reserve)?;
        let done = act();
        caps::lower(settled.kept)?;
        Ok(done)
    }

    /// The sentence that says what is left.
    #[must_use]
    pub fn describe(&self) -> String {
        let Settled { kept, reserve, unbounded } = match &self.settled {
            Ok(settled) => *settled,
            Err(error) => return format!("capabilities kept: all there were; {error}"),
        };
        let kept = if kept.is_empty() { "none".to_owned() } else { caps::names(kept) };
        let reserve = if reserve.is_empty() {
            String::new()
        } else {
            format!(", and to observe anew {}", caps::names(reserve))
        };
        let bounding =
            if unbounded { "" } else { " (the bounding set stays: emptying it needs CAP_SETPCAP)" };
        format!(
            "capabilities kept: {kept}{reserve}; all others are given up, and no_new_privs is \
             set{bounding}"
        )
    }
}

fn settle(
    keep: CapabilitySet,
    reserve: CapabilitySet,
    mut try_maps: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Settled> {
    let permitted = caps::permitted()?;
    let mut outcome = Ok(());
    let mut left = keep;
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
    Ok(caps::settle(left, to_load(permitted) | reserve)?)
}

/// What loading takes: before 5.8, and for whoever was given only that, it is `CAP_SYS_ADMIN`.
fn to_load(permitted: CapabilitySet) -> CapabilitySet {
    let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
    if permitted.contains(both) { both } else { CapabilitySet::SYS_ADMIN }
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
            let rights = Rights::give_up(needed(true, false), || Ok(())).expect("given up");
            let left = had & needed(true, false);
            assert_eq!(effective(), left);
            let reserve = had & to_load(had);
            assert_eq!(rights.with_reserve(effective).expect("raised"), left | reserve);
            assert_eq!(effective(), left, "lowered again");
            assert_eq!(caps::permitted(), Ok(left | reserve));
        });
    }

    #[test]
    fn a_kernel_that_asks_for_more_at_every_call_keeps_it() {
        aside(|| {
            let had = caps::permitted().expect("told");
            let asks = |right: CapabilitySet| {
                move || if effective().contains(right & had) { Ok(()) } else { Err(refused()) }
            };
            let keep = needed(true, false);
            let rights = Rights::give_up(keep, asks(CapabilitySet::BPF)).expect("given up");
            assert_eq!(effective(), had & (keep | CapabilitySet::BPF), "{}", rights.describe());
        });
    }

    #[test]
    fn what_fails_with_every_right_is_said() {
        aside(|| {
            let error =
                Rights::give_up(needed(true, false), || Err(refused())).expect_err("refused");
            assert!(is_refusal(&error), "{error:#}");
        });
        aside(|| {
            let mut tries = 0;
            let gone = || {
                tries += 1;
                Err(anyhow::anyhow!("the NIC has outgrown its maps"))
            };
            Rights::give_up(needed(true, false), gone).expect_err("gone");
            assert_eq!(tries, 1, "more rights are no help against that");
        });
    }

    #[test]
    fn the_sentence_names_what_is_left() {
        let said = |kept, reserve, unbounded| {
            Rights { settled: Ok(Settled { kept, reserve, unbounded }) }.describe()
        };
        let (kept, reserve) = (needed(true, false), to_load(CapabilitySet::all()));
        assert_eq!(
            said(kept, reserve, true),
            "capabilities kept: CAP_DAC_OVERRIDE, CAP_NET_ADMIN, and to observe anew CAP_PERFMON, \
             CAP_BPF; all others are given up, and no_new_privs is set"
        );
        let nothing = CapabilitySet::empty();
        let said = said(nothing, nothing, false);
        assert!(said.contains("kept: none;") && said.contains("CAP_SETPCAP"), "{said}");
        let filtered = SysError::unexpected("capset", "capabilities", "not permitted");
        let rights = Rights { settled: Err(filtered) };
        assert_eq!(rights.with_reserve(|| 1).expect("done as before"), 1);
        assert!(rights.describe().contains("kept: all there were; capset"), "{rights:?}");
        assert_eq!(to_load(CapabilitySet::SYS_ADMIN), CapabilitySet::SYS_ADMIN);
    }
}
