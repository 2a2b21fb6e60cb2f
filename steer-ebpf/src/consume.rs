//! The reader's side: a flow was consumed here, and its packets came from there.
//!
//! `tcp_rcv_space_adjust` is called by everything that takes data out of a TCP socket (recvmsg,
//! splice, zero-copy receive, sockmap), on the reader's CPU; `skb_consume_udp` once for each datagram
//! that was read. The one exception is kTLS: its parser may take data in softirq context, which
//! looks like a consumer on the protocol CPU (`net/tls/tls_strp.c`).
//!
//! "Consumption" is one call of these hooks. A large recvmsg calls the TCP one several times, so that
//! it weighs more, as it should.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    maps::PerCpuArray,
    programs::{BtfTracePointContext, FEntryContext},
};
use aya_log_ebpf::info;
use steer_common::{
    cells::Block,
    flow::{FlowKey, NONE, UDP, mapped},
    health::Health,
    nic::{HASH_COMPUTED, HASH_REPORTED, NicConfig},
};

use crate::{
    field::{Skb, Sock, knob, present},
    flow::{self, Touch},
    health::{add_one, note},
    key::{bytes, tcp_key},
    maps,
    origin::{NO_NIC, Origin, Trace},
    receive::{cpu, has_counter, queue_counter},
};

/// Kinds of network header as they stand in memory.
const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// `include/net/tcp_states.h`; a connected UDP socket has this state too.
const TCP_ESTABLISHED: u8 = 1;

/// What is consumed: the way to its key. Looked up only where the flow itself is touched, which
/// sampling makes rare.
#[derive(Clone, Copy)]
enum Source {
    Tcp(Sock),
    Udp(Skb),
}

/// One consumption.
struct Consumption {
    origin: Origin,
    /// Hash that the NIC reported; 0 for none.
    hash: u32,
    /// CPU of the protocol work, or [`NONE`].
    protocol_cpu: u16,
}

/// Data was taken out of a TCP socket.
#[inline(always)]
pub(crate) fn tcp(ctx: &BtfTracePointContext) {
    let sock = Sock::new(ctx.arg::<*const c_void>(0));
    let source = Source::Tcp(sock);
    let origin = if knob!(xdp) != 0 {
        source.received()
    } else {
        Origin::traced(&Trace {
            napi_id: sock.napi_id(),
            ifindex: sock.rx_dst_ifindex(),
            netns: sock.netns(),
            // `NO_QUEUE_MAPPING` of a socket that knows none is `NONE`.
            queue: sock.rx_queue_mapping(),
            hash: sock.rxhash(),
        })
    };
    if origin.nic == NO_NIC {
        return;
    }
    if knob!(debug) != 0 {
        info!(ctx, "tcp: nic {} queue {} polled on {}", origin.nic, origin.queue, origin.napi_cpu);
    }
    let protocol_cpu = protocol_cpu(sock);
    count(&Consumption { origin, hash: sock.rxhash(), protocol_cpu }, source);
}

/// A datagram was read from a UDP socket.
#[inline(always)]
pub(crate) fn udp(ctx: &FEntryContext) {
    // Negative for a look without taking (MSG_PEEK) and for errors (`udp_recvmsg`).
    if ctx.arg::<i32>(2) < 0 {
        return;
    }
    let sock = Sock::new(ctx.arg::<*const c_void>(0));
    let skb = Skb::new(ctx.arg::<*const c_void>(1));
    let source = Source::Udp(skb);
    let origin = if knob!(xdp) != 0 {
        source.received()
    } else {
        Origin::traced(&Trace {
            napi_id: skb.napi_id(),
            // Not `skb->dev`: UDP keeps its own numbers there (`udp_set_dev_scratch`).
            ifindex: skb.iif(),
            netns: sock.netns(),
            queue: skb.rx_queue(),
            hash: skb.nic_hash(),
        })
    };
    if origin.nic == NO_NIC {
        return;
    }
    if knob!(debug) != 0 {
        info!(ctx, "udp: nic {} queue {} polled on {}", origin.nic, origin.queue, origin.napi_cpu);
    }
    // An unconnected socket takes datagrams from anywhere and does not note their CPU.
    let connected = sock.state() == TCP_ESTABLISHED;
    let protocol_cpu = if connected { protocol_cpu(sock) } else { NONE };
    count(&Consumption { origin, hash: skb.nic_hash(), protocol_cpu }, source);
}

/// Counts a consumption in all tables that it belongs to.
#[inline(always)]
fn count(consumption: &Consumption, source: Source) {
    let Origin { nic, queue, napi_cpu } = consumption.origin;
    let Some(config) = maps::NIC_CONFIG.get(nic) else {
        return;
    };
    if !has_counter(config, queue) {
        note(if queue == NONE { Health::NoQueue } else { Health::QueueOutOfRange });
        return add_one(&maps::UNATTRIBUTED, nic);
    }
    add_one(&maps::CONSUMED_QUEUE, queue_counter(nic, queue));
    if napi_cpu == NONE {
        note(Health::NoNapi);
    } else {
        count_cpu(&maps::BY_NAPI_CPU, nic, napi_cpu);
    }
    if consumption.protocol_cpu != NONE {
        count_cpu(&maps::BY_PROTOCOL_CPU, nic, consumption.protocol_cpu);
    }
    count_demand(consumption, config, source);
}

#[inline(always)]
fn count_cpu(table: &PerCpuArray<Block>, nic: u32, cpu: u16) {
    let stride = knob!(cpu_stride);
    if u32::from(cpu) < stride {
        add_one(table, nic * stride + u32::from(cpu));
    } else {
        note(Health::CpuOutOfRange);
    }
}

/// Counts the bucket's demand, and touches the flow where its turn has come.
#[inline(always)]
fn count_demand(consumption: &Consumption, config: &NicConfig, source: Source) {
    let Consumption { origin, hash, protocol_cpu } = *consumption;
    // The hash of a NIC that reports none is the stack's own.
    let mut hash = if config.hash_source == HASH_REPORTED { hash } else { 0 };
    let weight = flow::sample();
    // A computed hash is kept with its flow, so that the flow is looked up each time.
    if weight != 0 || config.hash_source == HASH_COMPUTED {
        let mut key = FlowKey::EMPTY;
        if source.key(&mut key) {
            let touch = Touch { origin, hash, protocol_cpu, consumer_cpu: cpu(), weight };
            hash = flow::touch(&key, &touch, config);
        } else {
            note(Health::FieldAbsent);
        }
    }
    let bucket = hash & config.bucket_mask;
    let stride = knob!(bucket_stride);
    if hash == 0 {
        // Where nobody expects one, its absence is no failure.
        if config.hash_source == HASH_REPORTED {
            note(Health::NoHash);
        }
    } else if bucket >= stride {
        note(Health::BucketOutOfRange);
    } else {
        add_one(&maps::DEMAND, origin.nic * stride + bucket);
    }
}

/// `sk_incoming_cpu`: -1 until the first packet.
#[inline(always)]
fn protocol_cpu(sock: Sock) -> u16 {
    let cpu = sock.incoming_cpu();
    if cpu < u32::from(NONE) { cpu as u16 } else { NONE }
}

impl Source {
    /// The origin as the XDP observer noted it.
    #[inline(always)]
    fn received(self) -> Origin {
        let mut key = FlowKey::EMPTY;
        // An empty key is in no table.
        self.key(&mut key);
        Origin::of_flow(&key)
    }

    /// Fills in the key; false where fields that it needs are absent.
    #[inline(always)]
    fn key(self, key: &mut FlowKey) -> bool {
        match self {
            Self::Tcp(sock) => tcp_key(sock, key),
            Self::Udp(skb) => udp_key(skb, key),
        }
    }
}

/// The key of a datagram, from its own headers: an unconnected socket has many flows.
#[inline(always)]
fn udp_key(skb: Skb, key: &mut FlowKey) -> bool {
    if !present!(skb_head, skb_network_header, skb_transport_header, skb_protocol) {
        return false;
    }
    let network = skb.head() + u64::from(skb.network_header());
    let transport = skb.head() + u64::from(skb.transport_header());
    let read = match skb.protocol() {
        ETH_P_IP => {
            let mut addresses = [[0u8; 4]; 2];
            // Source and destination are the last eight bytes of the fixed header.
            let read = header(network + 12, &mut addresses);
            key.remote = mapped(addresses[0]);
            key.local = mapped(addresses[1]);
            read
        }
        ETH_P_IPV6 => {
            let mut addresses = [[0u64; 2]; 2];
            let read = header(network + 8, &mut addresses);
            key.remote = bytes(addresses[0]);
            key.local = bytes(addresses[1]);
            read
        }
        _ => false,
    };
    let mut ports = [[0u8; 2]; 2];
    if !read || !header(transport, &mut ports) {
        note(Health::DatagramUnreadable);
        return false;
    }
    key.remote_port = ports[0];
    key.local_port = ports[1];
    key.protocol = UDP;
    true
}

/// Reads from a packet's buffer, which has no type that the verifier could check.
#[inline(always)]
fn header<T>(address: u64, value: &mut T) -> bool {
    // SAFETY: the helper checks the address and fails where it is none of the kernel's.
    match unsafe { bpf_probe_read_kernel(address as *const T) } {
        Ok(read) => {
            *value = read;
            true
        }
        Err(_) => false,
    }
}
