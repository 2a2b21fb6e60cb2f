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
    programs::{BtfTracePointContext, FEntryContext},
};
use aya_log_ebpf::info;
use steer_common::{
    flow::{FlowKey, NONE, TCP, UDP, mapped},
    health::Health,
    nic::{HASH_COMPUTED, HASH_REPORTED, NicConfig, NicKey},
};

use crate::{
    field::{Skb, Sock, knob, netns},
    flow::{self, Touch},
    health::{add_one, note},
    maps,
    origin::{Origin, Trace},
    receive::{bucket_counter, cpu, queue_counter},
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// EtherTypes as they stand in memory.
const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// `include/net/tcp_states.h`; a connected UDP socket has this state too.
const TCP_ESTABLISHED: u8 = 1;

/// `sk_rx_queue_mapping` of a socket that knows no queue (`NO_QUEUE_MAPPING`).
const NO_QUEUE: u16 = u16::MAX;

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
    let origin = if knob!(xdp) != 0 {
        tcp_key(sock).and_then(|key| Origin::of_flow(&key))
    } else {
        Origin::traced(&Trace {
            napi_id: sock.napi_id().unwrap_or(0),
            nic: sock
                .rx_dst_ifindex()
                .map(|ifindex| NicKey { ifindex, netns: netns(sock.net()) }),
            queue: sock.rx_queue_mapping().filter(|queue| *queue != NO_QUEUE),
        })
    };
    let Some(origin) = origin else {
        return;
    };
    if knob!(debug) != 0 {
        info!(ctx, "tcp: nic {} queue {} polled on {}", origin.nic, origin.queue, origin.napi_cpu);
    }
    let consumption = Consumption {
        origin,
        hash: sock.rxhash().unwrap_or(0),
        protocol_cpu: protocol_cpu(sock),
    };
    count(&consumption, || tcp_key(sock));
}

/// A datagram was read from a UDP socket.
#[inline(always)]
pub(crate) fn udp(ctx: &FEntryContext) {
    // Negative for a look without taking (MSG_PEEK, `__skb_recv_udp`) and for errors.
    if ctx.arg::<i32>(2) < 0 {
        return;
    }
    let sock = Sock::new(ctx.arg::<*const c_void>(0));
    let skb = Skb::new(ctx.arg::<*const c_void>(1));
    let origin = if knob!(xdp) != 0 {
        udp_key(skb).and_then(|key| Origin::of_flow(&key))
    } else {
        Origin::traced(&Trace {
            napi_id: skb.napi_id().unwrap_or(0),
            // Not `skb->dev`: UDP keeps its own numbers there (`udp_set_dev_scratch`).
            nic: skb.iif().map(|ifindex| NicKey { ifindex, netns: netns(sock.net()) }),
            queue: skb.rx_queue(),
        })
    };
    let Some(origin) = origin else {
        return;
    };
    if knob!(debug) != 0 {
        info!(ctx, "udp: nic {} queue {} polled on {}", origin.nic, origin.queue, origin.napi_cpu);
    }
    // An unconnected socket takes datagrams from anywhere and does not note their CPU.
    let connected = sock.state() == Some(TCP_ESTABLISHED);
    let consumption = Consumption {
        origin,
        hash: skb.nic_hash().unwrap_or(0),
        protocol_cpu: if connected { protocol_cpu(sock) } else { NONE },
    };
    count(&consumption, || udp_key(skb));
}

/// Counts a consumption in all tables that it belongs to. `key` is called where the flow itself is
/// touched, which sampling makes rare.
#[inline(always)]
fn count(consumption: &Consumption, key: impl Fn() -> Option<FlowKey>) {
    let Origin { nic, queue, napi_cpu } = consumption.origin;
    let Some(config) = maps::NIC_CONFIG.get(nic) else {
        return;
    };
    if queue == NONE {
        note(Health::NoQueue);
        return add_one(&maps::UNATTRIBUTED, nic);
    }
    match queue_counter(nic, config, queue) {
        Some(counter) => add_one(&maps::CONSUMED_QUEUE, counter),
        None => {
            note(Health::QueueOutOfRange);
            return add_one(&maps::UNATTRIBUTED, nic);
        }
    }
    match napi_cpu {
        NONE => note(Health::NoNapi),
        cpu => count_cpu(&maps::BY_NAPI_CPU, nic, cpu),
    }
    if consumption.protocol_cpu != NONE {
        count_cpu(&maps::BY_PROTOCOL_CPU, nic, consumption.protocol_cpu);
    }
    count_demand(consumption, config, key);
}

#[inline(always)]
fn count_cpu(table: &aya_ebpf::maps::PerCpuArray<steer_common::cells::Block>, nic: u32, cpu: u16) {
    let stride = knob!(cpu_stride);
    if u32::from(cpu) < stride {
        add_one(table, nic * stride + u32::from(cpu));
    } else {
        note(Health::CpuOutOfRange);
    }
}

#[inline(always)]
fn count_demand(
    consumption: &Consumption,
    config: &NicConfig,
    key: impl Fn() -> Option<FlowKey>,
) {
    let computed = config.hash_source == HASH_COMPUTED;
    let reported = config.hash_source == HASH_REPORTED && consumption.hash != 0;
    if config.hash_source == HASH_REPORTED && !reported {
        note(Health::NoHash);
    }
    let weight = flow::sample();
    let mut hash = if reported { Some(consumption.hash) } else { None };
    // A computed hash is kept with its flow, so that the flow is looked up each time.
    if weight != 0 || computed {
        let Some(key) = key() else {
            return note(Health::FieldAbsent);
        };
        let touch = Touch {
            origin: consumption.origin,
            hash,
            protocol_cpu: consumption.protocol_cpu,
            consumer_cpu: cpu(),
            weight,
        };
        hash = flow::touch(&key, &touch, config);
    }
    if let Some(hash) = hash {
        match bucket_counter(consumption.origin.nic, config, hash) {
            Some(counter) => add_one(&maps::DEMAND, counter),
            None => note(Health::BucketOutOfRange),
        }
    }
}

/// `sk_incoming_cpu`: -1 until the first packet.
#[inline(always)]
fn protocol_cpu(sock: Sock) -> u16 {
    match sock.incoming_cpu() {
        Some(cpu) if cpu < u32::from(NONE) => cpu as u16,
        _ => NONE,
    }
}

#[inline(always)]
fn tcp_key(sock: Sock) -> Option<FlowKey> {
    let (local, remote) = match sock.family()? {
        AF_INET => (mapped(sock.rcv_saddr()?), mapped(sock.daddr()?)),
        // An IPv4 connection of an IPv6 socket has its addresses in mapped form here already.
        AF_INET6 => (bytes(sock.v6_rcv_saddr()?), bytes(sock.v6_daddr()?)),
        _ => return None,
    };
    Some(FlowKey {
        local,
        remote,
        local_port: sock.num()?,
        remote_port: u16::from_be(sock.dport()?),
        protocol: TCP,
        pad: [0; 3],
    })
}

/// The key of a datagram, from its own headers: an unconnected socket has many flows.
#[inline(always)]
fn udp_key(skb: Skb) -> Option<FlowKey> {
    let head = skb.head()?;
    let network = head + u64::from(skb.network_header()?);
    let transport = head + u64::from(skb.transport_header()?);
    let (local, remote) = match skb.protocol()? {
        ETH_P_IP => {
            // Source and destination are the last eight bytes of the fixed header.
            let [remote, local] = header::<[[u8; 4]; 2]>(network + 12)?;
            (mapped(local), mapped(remote))
        }
        ETH_P_IPV6 => {
            let [remote, local] = header::<[[u64; 2]; 2]>(network + 8)?;
            (bytes(local), bytes(remote))
        }
        _ => return None,
    };
    let [remote_port, local_port] = header::<[u16; 2]>(transport)?;
    Some(FlowKey {
        local,
        remote,
        local_port: u16::from_be(local_port),
        remote_port: u16::from_be(remote_port),
        protocol: UDP,
        pad: [0; 3],
    })
}

/// Reads from a packet's buffer, which has no type that the verifier could check.
#[inline(always)]
fn header<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails where it is none of the kernel's.
    match unsafe { bpf_probe_read_kernel(address as *const T) } {
        Ok(value) => Some(value),
        Err(_) => {
            note(Health::DatagramUnreadable);
            None
        }
    }
}

/// The bytes of an address in the order in which they lie in memory.
#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    let [high, low] = words.map(u64::to_ne_bytes);
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&high);
    second.copy_from_slice(&low);
    bytes
}
