//! Which listener a new connection is given to, whoever asks: the lookup or a program in the group.
//!
//! Where nobody consumes on this CPU, or anything is in doubt, nobody is chosen and the kernel goes on by
//! itself.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_smp_processor_id};
use steer_common::{
    accept::{ALL, GROUPS, NOBODY, Outcomes, Pending, TRIED, Target, WAYS, socket},
    flow::FlowKey,
};

use crate::{accept_knob, maps};

const ANY: [u8; 16] = [0; 16];

/// How a connection is given to a listener.
pub(crate) trait Give {
    /// Gives it to the socket with this number; false where the kernel does not take it.
    fn give(&self, socket: u32) -> bool;
}

/// Until when the agent knows the listeners of a port; `None` where it follows none there.
#[inline(always)]
pub(crate) fn known_ns(port: u16) -> Option<u64> {
    // SAFETY: the value is read once; the agent replaces it as a whole.
    unsafe { maps::KNOWN_NS.get(port) }.copied()
}

/// Whether a connection comes from another host, by its address.
#[inline(always)]
pub(crate) fn comes_from_outside(key: &FlowKey) -> bool {
    let loopback = key.is_v4() && key.remote[12] == 127;
    // SAFETY: only its presence counts.
    !loopback && unsafe { maps::OWN_ADDRESSES.get(key.remote) }.is_none()
}

/// Gives a connection to a listener where one lives on this CPU.
#[inline(always)]
pub(crate) fn choose(by: &impl Give, key: &FlowKey, port: u16, version: u8, known_ns: u64) {
    let group = group(key, port, version);
    if group >= GROUPS {
        return;
    }
    let Some(outcomes) = maps::OUTCOMES.get_ptr_mut(group) else {
        return;
    };
    // SAFETY: a value of this CPU; softirqs do not interrupt each other.
    let outcomes = unsafe { &mut *outcomes };
    // SAFETY: the helper has no conditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: the value is read once.
    let changed_ns = unsafe { maps::CHANGED_NS.get(port) }.copied().unwrap_or(0);
    let member = if changed_ns >= known_ns {
        outcomes.suspended += 1;
        u32::from(NOBODY)
    } else {
        assign(by, group, cpu, outcomes)
    };
    let pending = Pending { group: group as u16, member: member as u16, cpu: cpu as u16, pad: 0 };
    // A connection that cannot be remembered is not counted; it is served all the same.
    let _ = maps::PENDING_FLOWS.insert(key, pending, 0);
}

/// The group of the most exact match; a number that is none where it is not steered.
#[inline(always)]
fn group(key: &FlowKey, port: u16, version: u8) -> u32 {
    let mut target = Target { address: key.local, port, version, pad: 0 };
    // SAFETY: the value is read once.
    if let Some(group) = unsafe { maps::TARGET_GROUPS.get(target) } {
        return u32::from(*group);
    }
    target.address = ANY;
    // SAFETY: the value is read once.
    match unsafe { maps::TARGET_GROUPS.get(target) } {
        Some(group) => u32::from(*group),
        None => u32::from(NOBODY),
    }
}

/// Assigns one of the members that live on this CPU, or one that is tried; returns its number, or
/// `NOBODY`.
#[inline(always)]
fn assign(by: &impl Give, group: u32, cpu: u32, outcomes: &mut Outcomes) -> u32 {
    // SAFETY: the helper has no conditions.
    let random = unsafe { bpf_get_prandom_u32() };
    // The low half decides whether, the high half who.
    let (whether, who) = (random & (ALL - 1), random >> 16);
    if let Some(trial) = maps::TRIALS.get(group)
        && whether < trial.share
        && trial.count > 0
    {
        let at = (who % trial.count) & (TRIED - 1);
        let member = u32::from(trial.members[at as usize]);
        return give(by, group, member, &mut outcomes.tried, &mut outcomes.missed);
    }
    // The same number must not decide twice.
    // SAFETY: the helper has no conditions.
    let whether = unsafe { bpf_get_prandom_u32() } & (ALL - 1);
    let stride = accept_knob!(cpu_stride);
    if cpu >= stride {
        return u32::from(NOBODY);
    }
    let Some(choice) = maps::CHOICES.get(group * stride + cpu) else {
        return u32::from(NOBODY);
    };
    if choice.ways == 0 {
        outcomes.nobody_here += 1;
        return u32::from(NOBODY);
    }
    if whether >= choice.share {
        outcomes.over_share += 1;
        return u32::from(NOBODY);
    }
    let at = (who % choice.ways) & (WAYS - 1);
    let member = u32::from(choice.members[at as usize]);
    give(by, group, member, &mut outcomes.steered, &mut outcomes.missed)
}

#[inline(always)]
fn give(by: &impl Give, group: u32, member: u32, given: &mut u64, missed: &mut u64) -> u32 {
    if by.give(socket(group, member)) {
        *given += 1;
        member
    } else {
        *missed += 1;
        u32::from(NOBODY)
    }
}
