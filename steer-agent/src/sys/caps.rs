//! Capabilities of the calling thread (capabilities(7)): read, lowered, given up for good.
//!
//! `lower` can be taken back, as the permitted set stays; `settle` cannot. Both are about one thread,
//! as the kernel keeps these sets by thread: a program calls them before it has a second one.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::SysError;

/// What is left after [`settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Effective.
    pub kept: CapabilitySet,
    /// Permitted beside them: `lower` can make them effective again.
    pub reserve: CapabilitySet,
    /// The bounding set is empty. Without `CAP_SETPCAP` the kernel does not let it be emptied
    /// (security/commoncap.c `cap_prctl_drop`).
    pub unbounded: bool,
}

/// What the thread could make effective.
pub fn permitted() -> Result<CapabilitySet, SysError> {
    Ok(read()?.permitted)
}

/// Makes of the permitted capabilities those in `to` effective, and no other.
pub fn lower(to: CapabilitySet) -> Result<(), SysError> {
    let sets = read()?;
    write(CapabilitySets { effective: sets.permitted & to, ..sets })
}

/// Gives up all capabilities but those in `keep` and, not effective, in `reserve`, and every way to
/// more: the inheritable, ambient and bounding sets are emptied and `no_new_privs` is set.
pub fn settle(keep: CapabilitySet, reserve: CapabilitySet) -> Result<Settled, SysError> {
    // Under it execve(2) gives no more than there was, to root neither
    // (security/commoncap.c `cap_bprm_creds_from_file`).
    set_no_new_privs(true).map_err(|errno| failed("PR_SET_NO_NEW_PRIVS", errno))?;
    clear_ambient_capability_set().map_err(|errno| failed("PR_CAP_AMBIENT_CLEAR_ALL", errno))?;
    let permitted = permitted()?;
    let unbounded = permitted.contains(CapabilitySet::SETPCAP);
    if unbounded {
        lower(keep | CapabilitySet::SETPCAP)?;
        empty_the_bounding_set()?;
    }
    let (kept, reserve) = (permitted & keep, permitted & (reserve - keep));
    write(CapabilitySets {
        effective: kept,
        permitted: kept | reserve,
        inheritable: CapabilitySet::empty(),
    })?;
    Ok(Settled { kept, reserve, unbounded })
}

fn empty_the_bounding_set() -> Result<(), SysError> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // One past the last that this kernel has.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(failed("PR_CAPBSET_DROP", errno)),
        }
    }
    Ok(())
}

/// The names of capabilities, as capabilities(7) has them, with commas between.
#[must_use]
pub fn names(set: CapabilitySet) -> String {
    let names: Vec<String> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(", ")
}

fn read() -> Result<CapabilitySets, SysError> {
    capabilities(None).map_err(|errno| failed("capget", errno))
}

fn write(sets: CapabilitySets) -> Result<(), SysError> {
    set_capabilities(None, sets).map_err(|errno| failed("capset", errno))
}

fn failed(call: &'static str, errno: Errno) -> SysError {
    // No capability is a way out, so the errno is told in words.
    SysError::unexpected(call, "the capabilities of this process", errno.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: what is given up here, other tests may need.
    fn aside<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(test).join().expect("the test passes")
    }

    #[test]
    fn lowered_comes_back_and_settled_does_not() {
        aside(|| {
            let all = permitted().expect("read");
            lower(CapabilitySet::empty()).expect("lowered");
            assert_eq!(read().expect("read").effective, CapabilitySet::empty());
            lower(all).expect("raised again");
            assert_eq!(read().expect("read").effective, all);

            let keep = CapabilitySet::NET_ADMIN | CapabilitySet::DAC_OVERRIDE;
            let reserve = CapabilitySet::BPF;
            let settled = settle(keep, reserve).expect("settled");
            assert_eq!((settled.kept, settled.reserve), (all & keep, all & reserve));
            assert_eq!(read().expect("read").effective, all & keep);
            lower(all).expect("no more than is permitted");
            let sets = read().expect("read");
            let left = all & (keep | reserve);
            assert_eq!((sets.effective, sets.permitted), (left, left));
            assert_eq!(sets.inheritable, CapabilitySet::empty());
            assert_eq!(rustix::thread::no_new_privs(), Ok(true));
            let bounded = rustix::thread::capability_is_in_bounding_set(CapabilitySet::SYS_ADMIN);
            assert!(!settled.unbounded || bounded == Ok(false));
            assert!(settle(keep, reserve).is_ok(), "twice is no harm");
        });
    }

    #[test]
    fn names_are_those_of_the_manual() {
        let set = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        assert_eq!(names(set), "CAP_NET_ADMIN, CAP_BPF");
        assert_eq!(names(CapabilitySet::empty()), "");
    }
}
