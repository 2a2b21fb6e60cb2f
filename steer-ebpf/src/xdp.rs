//! The XDP observer: the same facts as `receive`, taken before the kernel makes a packet of the frame.
//!
//! Opt-in, because attaching a program resets most NICs. What it gives in return is a queue and a CPU
//! for each flow that does not depend on what the driver writes into the packet. Every frame
//! passes on untouched.

use aya_ebpf::programs::XdpContext;
use steer_common::{
    flow::{FlowKey, RxFlow},
    health::Health,
};

use crate::{
    field::knob,
    health::note,
    maps,
    parse::{Outcome, parse},
    receive::{Watched, count_queue, cpu, watched},
};

/// A frame arrived.
#[inline(always)]
pub(crate) fn packet(ctx: &XdpContext) {
    let Some(Watched { slot, config }) = watched(ctx.ingress_ifindex() as u32, knob!(netns)) else {
        return;
    };
    let cpu = cpu();
    let queue = ctx.rx_queue_index() as u16;
    count_queue(slot, config, queue, cpu, 0);
    let mut key = FlowKey::EMPTY;
    match parse(ctx, &mut key) {
        Outcome::Flow => {}
        Outcome::Other => return,
        Outcome::Short => return note(Health::HeaderShort),
        Outcome::Deep => return note(Health::HeaderDeep),
    }
    if let Some(flow) = maps::RX_FLOWS.get_ptr_mut(key) {
        // SAFETY: a value of the map; a flow's packets are polled on one CPU at a time.
        unsafe {
            (*flow).packets += 1;
            (*flow).nic = slot as u16;
            (*flow).queue = queue;
            (*flow).cpu = cpu;
        }
    } else {
        let flow = RxFlow { packets: 1, nic: slot as u16, queue, cpu, pad: 0 };
        if maps::RX_FLOWS.insert(key, flow, 0).is_err() {
            note(Health::TableFull);
        }
    }
}
