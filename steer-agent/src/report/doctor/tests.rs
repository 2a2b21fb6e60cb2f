//! What is said, in words.

use super::*;
use crate::model::{Nic, Queue, Rss};
use crate::policy::Policy;

fn facts() -> Facts {
    Facts {
        kernel_release: "6.12.1".to_owned(),
        btf: Fact::Yes,
        may_trace: Fact::Yes,
        may_set_nic: Fact::Yes,
        may_set_irq: Fact::Yes,
        netlink_rss_get: Fact::Yes,
        netlink_rss_set: Fact::No("the kernel is older than the call".to_owned()),
        netlink_queues: Fact::Yes,
        irqbalance_pid: None,
        tuned_pid: None,
        rps_sock_flow_entries: Some(0),
    }
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

#[test]
fn a_healthy_host_has_no_warning() {
    let findings = host(&facts(), &Topology::regular(1, 4, 1));
    assert_eq!(worst(&findings), Level::Note, "{findings:?}");
    assert!(findings.iter().all(|finding| !finding.consequence.is_empty()));
}

#[test]
fn a_host_without_btf_fails_with_the_reason() {
    let mut facts = facts();
    facts.btf = Fact::No("there is no /sys/kernel/btf/vmlinux".to_owned());
    facts.irqbalance_pid = Some(7);
    let text = text(&host(&facts, &Topology::regular(1, 4, 1)));
    assert!(text.contains("FAIL  kernel type information (BTF): no, there is no /sys"), "{text}");
    assert!(text.contains("WARN  irqbalance runs (process 7)"), "{text}");
}

#[test]
fn a_nic_is_told_what_it_lacks() {
    let nic = Nic {
        name: "eth0".to_owned(),
        driver: Some("vmxnet3".to_owned()),
        up: true,
        rss: Some(Rss { table: vec![0; 128], ..Rss::default() }),
        queues: (0..2).map(|id| Queue { id, ..Queue::default() }).collect(),
        threaded_napi: Some(true),
        ..Nic::default()
    };
    let text =
        text(&super::nic(&nic, None, &facts(), &Topology::regular(1, 4, 1), &Policy::default()));
    for part in [
        "table of 128 buckets, naming 1 of 2 queues",
        "packets carry no hash and the key is hidden",
        "2 RX queues for 4 CPUs",
        "the interrupt of queues [0, 1] is not known",
        "threaded NAPI",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
