//! A recording of a machine with 256 CPUs and two NICs, one with 128 queues and one with names as long as
//! they may be, whose table is written in the middle.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use steer_agent::model::{
    CpuSet, Fact, Facts, Flow, FlowAddr, InterruptRow, Interrupts, Matrix, Neighbours, Nic,
    NicCounters, NicSample, Queue, Rss, Sample, Topology,
};
use steer_agent::policy::Policy;
use steer_agent::report::recording::{Header, Record, Writer};

const CPUS: usize = 256;
/// `IFNAMSIZ` less the zero; `TASK_COMM_LEN` less the zero.
const LONG_NAME: &str = "enp129s0f1np1v9";
const LONG_COMM: &str = "<b>worker-12345";

fn header() -> Header {
    let fact = || Fact::Unknown("a_word_without_any_place_to_break_it_".repeat(4));
    Header {
        steer_recording: Header::FORMAT,
        version: "0.1.0".to_owned(),
        began_unix_s: 1_790_000_000,
        every_s: 1.0,
        facts: Facts {
            kernel_release: "6.12.1-with-a-long-local-version-string".to_owned(),
            btf: Fact::Yes,
            may_trace: Fact::Yes,
            may_set_nic: Fact::Yes,
            may_set_irq: fact(),
            netlink_rss_get: Fact::Yes,
            netlink_rss_set: fact(),
            netlink_queues: Fact::Yes,
            neighbours: Neighbours::default(),
            rps_sock_flow_entries: None,
        },
        policies: [(LONG_NAME.to_owned(), Policy::default())].into(),
        anonymised: false,
        host: None,
        observer: None,
    }
}

fn nic(name: &str, ifindex: u32, queues: u32, corrected: bool) -> Nic {
    let shift = u32::from(corrected);
    Nic {
        name: name.to_owned(),
        ifindex,
        driver: Some("mlx5_core".to_owned()),
        up: true,
        rss: Some(Rss {
            table: (0..queues).cycle().skip(usize::from(corrected)).take(1024).collect(),
            ..Rss::default()
        }),
        queues: (0..queues)
            .map(|id| Queue {
                id,
                irq: Some(1000 * ifindex + id),
                affinity: Some(CpuSet::single(id + shift)),
                xps: Some(CpuSet::single(id + shift)),
                ..Queue::default()
            })
            .collect(),
        ..Nic::default()
    }
}

fn counters(second: u64, queues: usize) -> NicCounters {
    let square = || Matrix::new(CPUS, CPUS);
    let mut counters = NicCounters {
        queue_packets: Matrix::new(queues, CPUS),
        queue_consumed: Matrix::new(queues, CPUS),
        consumed_by_napi: square(),
        consumed_by_protocol: square(),
        ..NicCounters::default()
    };
    for at in 0..queues {
        counters.queue_packets.add(at, at, 123_456 * second);
        for (step, count) in [(0, 900), (1, 5_000), (100, 700)] {
            counters.queue_consumed.add(at, at + step, count * second);
            counters.consumed_by_napi.add(at, at + step, count * second);
            counters.consumed_by_protocol.add(at, at + step, count * second);
        }
    }
    counters
}

fn flow(number: u16, ifindex: u32, second: u64) -> Flow {
    let end = |last: u16| {
        SocketAddr::from((
            Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xeeee, 0xdddd, 0xcccc, 0xbbbb, last),
            65_000 + last % 500,
        ))
    };
    Flow {
        addr: FlowAddr { protocol: 6, local: end(1), remote: end(number) },
        ifindex: Some(ifindex),
        queue: Some(u32::from(number) % 128),
        hash: Some(u32::from(number)),
        hash_computed: false,
        softirq_cpu: Some(u32::from(number) % 128),
        protocol_cpu: None,
        consumer_cpu: 200,
        consumed: 1000 * second,
        mismatched: 1000 * second,
        consumer_moves: 0,
        first_ns: 0,
        last_ns: second * 1_000_000_000,
        pid: Some(4_194_303),
        comm: LONG_COMM.to_owned(),
    }
}

fn sample(second: u64) -> Sample {
    let corrected = second > 4;
    let row = |number: u32| InterruptRow {
        id: number.to_string(),
        what: format!(
            "IR-PCI-MSIX-0000:81:00.1 {}-edge mlx5_comp{number}@pci:0000:81:00.1",
            number % 1000
        ),
        ifindex: Some(number / 1000),
        counts: (0..256).map(|cpu| second * cpu * 1000).collect(),
    };
    Sample {
        at_ns: second * 1_000_000_000,
        topology: Topology::regular(2, 64, 2),
        softirq_ns: Some((0..256).map(|cpu| (cpu, second * 90_000_000)).collect()),
        nics: vec![
            NicSample { nic: nic(LONG_NAME, 2, 128, corrected), counters: counters(second, 128) },
            NicSample { nic: nic("eth1", 3, 2, false), counters: counters(second, 2) },
        ],
        flows: (2..300).map(|number| flow(number, 2, second)).collect(),
        interrupts: Some(Interrupts {
            cpus: (0..256).collect(),
            rows: (2000..2128).chain(3000..3002).map(row).collect(),
        }),
        missing: vec!["a_word_without_any_place_to_break_it_".repeat(6)],
        ..Sample::default()
    }
}

/// Writes it.
pub(crate) fn write(path: &Path) {
    let mut writer = Writer::begin(Vec::new(), &header()).expect("begun");
    for second in 1..=8 {
        writer.add(&Record::Sample(Box::new(sample(second)))).expect("added");
    }
    std::fs::write(path, writer.finish().expect("ended")).expect("written");
}
