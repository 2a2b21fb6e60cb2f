//! Listeners: that they changed, and which group each is in.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_ktime_get_ns, bpf_seq_write, bpf_skc_to_tcp_sock},
};
use steer_common::accept::ListenerRecord;

use crate::{
    accept_knob,
    field::{Sock, is_present, knob},
    maps,
};

/// `include/net/tcp_states.h`.
const TCP_LISTEN: i32 = 10;
const TCP_CLOSE: i32 = 7;

/// A socket begins or ends to listen. Runs before it can be found, so that no connection is given away
/// that a new listener with a more exact address should have.
#[inline(always)]
pub(crate) fn changed(sock: *const c_void, old: i32, new: i32) {
    // A connection begins as a copy of its listener, in that state, and leaves it for SYN_RECV.
    if new != TCP_LISTEN && (old != TCP_LISTEN || new != TCP_CLOSE) {
        return;
    }
    let sock = Sock::new(sock);
    if sock.netns() != knob!(netns) {
        return;
    }
    if let Some(changed_ns) = maps::CHANGED_NS.get_ptr_mut(sock.num()) {
        // SAFETY: a value of the map. Of two that change at once either time will do.
        unsafe { *changed_ns = bpf_ktime_get_ns() };
    }
}

/// `struct bpf_iter__tcp` (`net/ipv4/tcp_ipv4.c`), as far as it is read.
#[repr(C)]
pub(crate) struct IterContext {
    meta: *const IterMeta,
    sock: *mut c_void,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h), likewise.
#[repr(C)]
struct IterMeta {
    seq: *mut seq_file,
}

/// Writes a record for a listener. Listeners come first: at the first other socket it asks to stop.
#[inline(always)]
pub(crate) fn list(ctx: *const IterContext) -> i32 {
    // SAFETY: the context is the kernel's.
    let (meta, common) = unsafe { ((*ctx).meta, (*ctx).sock) };
    if common.is_null() {
        return 0;
    }
    let state = Sock::new(common).state();
    if i32::from(state) != TCP_LISTEN {
        return 1;
    }
    // SAFETY: the helper checks what it is given.
    let sock = unsafe { bpf_skc_to_tcp_sock(common) }.cast::<c_void>();
    if sock.is_null() {
        return 0;
    }
    let fields = Sock::new(sock);
    let mut record = ListenerRecord {
        // SAFETY: the offset is that of a field of this width.
        cookie: unsafe { read(sock, accept_knob!(skc_cookie), 0u64) },
        incoming_cpu: fields.incoming_cpu(),
        port: fields.num(),
        group: 0,
        state,
        program: 0,
        pad: 0,
    };
    // SAFETY: the offsets are those of pointers.
    unsafe {
        let none = core::ptr::null::<c_void>();
        let group = read(sock, accept_knob!(sk_reuseport_cb), none);
        if !group.is_null() {
            record.group = 1;
            let program = read(group, accept_knob!(reuse_prog), none);
            if !program.is_null() {
                record.group = 2;
                let more = read(program, accept_knob!(prog_aux), none);
                if !more.is_null() {
                    record.program = read(more, accept_knob!(aux_id), 0u32);
                }
            }
        }
        let bytes = (&raw mut record).cast::<c_void>();
        bpf_seq_write((*meta).seq, bytes, ListenerRecord::BYTES as u32);
    }
    0
}

/// Reads a field at an offset; `absent` where this kernel has not got it.
///
/// # Safety
///
/// `base` points to a kernel structure in which a field as wide as `T` is at `offset`.
#[inline(always)]
unsafe fn read<T: Copy>(base: *const c_void, offset: u32, absent: T) -> T {
    if !is_present(offset) {
        return absent;
    }
    // SAFETY: promised by the caller; the kernel aligns its fields.
    unsafe { base.byte_add(offset as usize).cast::<T>().read() }
}
