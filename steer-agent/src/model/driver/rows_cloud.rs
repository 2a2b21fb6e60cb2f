//! NICs that a hypervisor or a cloud shows its guests.

use super::{
    Affinity, Cause, Count, Driver, Hash, IN_PART, Key, Loss, READ, TableWrite, UNKNOWN, named,
};

pub(super) static ROWS: [Driver; 6] = [
    Driver {
        names: &["ena"],
        table: "128",
        key: Key::IfOffered,
        write: TableWrite::Free,
        write_note: "sends an admin command",
        // A change of channels always brings the default back (ena_update_queue_count); ring sizes
        // and MTU keep the table. A reset starts from probe's default.
        lost: Loss::After(&[Cause::Channels, Cause::Reset]),
        affinity: Affinity::AtOpen,
        follows_busy: Some(false),
        rules: Some(false), // newer devices: not in 6.12
        hash: Hash::Reported,
        irq_names: &[named("%i-Tx-Rx-%n", Count::Queue)],
        notes: &[
            "old devices refuse key and hash function while the table works",
            "fragments and what is neither TCP nor UDP carry no hash",
        ],
        evidence: IN_PART,
        sources: &[
            "amazon/ena/ena_ethtool.c ena_set_rxfh, ena_set_rxnfc",
            "amazon/ena/ena_netdev.c ena_update_queue_count, ena_rss_configure, ena_request_io_irq",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["gve", "gvnic"],
        table: "as the device says; none in 6.1",
        key: Key::IfOffered,
        write: TableWrite::Free,
        write_note: "sends an admin command, if the device offers it",
        lost: Loss::After(&[Cause::Channels, Cause::Reset]), // 6.12 writes nothing back
        affinity: Affinity::AtStart,
        follows_busy: Some(true),
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[
            named("gve-ntfy-blk%n@", Count::SecondHalf),
            named("%i-ntfy-block.%n", Count::SecondHalf), // older kernels
        ],
        evidence: IN_PART,
        sources: &[
            "google/gve/gve_ethtool.c gve_set_rxfh",
            "google/gve/gve_main.c gve_alloc_notify_blocks, gve_is_napi_on_home_cpu",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["virtio_net"],
        table: "as the device says, with VIRTIO_NET_F_RSS only",
        key: Key::IfOffered,
        write: TableWrite::Free,
        // virtnet_set_rxfh drops the result of virtnet_commit_rss_command.
        write_note: "sends a control command, and reports success whatever comes of it",
        lost: Loss::Kept, // virtnet_set_channels
        affinity: Affinity::Respread,
        follows_busy: Some(false),
        rules: Some(false),
        hash: Hash::IfOffered, // VIRTIO_NET_F_HASH_REPORT
        irq_names: &[named("%d-input.%n", Count::Queue)],
        notes: &["spreads interrupts and XPS anew when channels change or a CPU comes or goes"],
        evidence: READ,
        sources: &["drivers/net/virtio_net.c virtnet_set_rxfh, virtnet_commit_rss_command, \
             virtnet_set_affinity, virtnet_find_vqs"],
        ..UNKNOWN
    },
    Driver {
        names: &["vmxnet3"],
        table: "128",
        key: Key::System,
        write: TableWrite::Free,
        write_note: "sends a device command",
        // vmxnet3_setup_driver_shared fills the default in on each activation.
        lost: Loss::After(&[Cause::Reopen, Cause::Channels, Cause::Reset]),
        affinity: Affinity::Left,
        follows_busy: Some(false),
        rules: Some(false),
        hash: Hash::Reported,
        irq_names: &[named("%i-rxtx-%n", Count::Vector), named("%i-rx-%n", Count::Vector)],
        notes: &["as emulated by QEMU it takes a table and ignores it"],
        evidence: READ,
        sources: &[
            "drivers/net/vmxnet3/vmxnet3_ethtool.c vmxnet3_set_rss",
            "drivers/net/vmxnet3/vmxnet3_drv.c vmxnet3_setup_driver_shared, vmxnet3_request_irqs",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["hv_netvsc"],
        table: "128, or as the host says",
        key: Key::Readable,
        write: TableWrite::Brief,
        // rndis_filter_set_rss_param.
        write_note: "switches RSS off and on again: for a moment one channel gets everything",
        lost: Loss::Kept, // rndis_set_subchannel
        affinity: Affinity::Channel,
        rules: Some(false),
        hash: Hash::Reported,
        notes: &[
            "with a VF beside it, traffic is the VF's: steer that one",
            "a channel's CPU is in /sys/bus/vmbus/devices/UUID/channels/ID/cpu",
        ],
        evidence: IN_PART,
        sources: &[
            "drivers/net/hyperv/netvsc_drv.c netvsc_set_rxfh",
            "drivers/net/hyperv/rndis_filter.c rndis_filter_set_rss_param, rndis_set_subchannel",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["mana"],
        table: "64, or as the port says (up to 512)",
        key: Key::Readable,
        write: TableWrite::Brief,
        write_note: "sends a message and waits for every queue; the port must be up",
        // mana_alloc_queues, at every attach: channels, MTU, XDP.
        lost: Loss::After(&[Cause::Reopen, Cause::Channels, Cause::Reset]),
        affinity: Affinity::AtStart,
        rules: Some(false),
        hash: Hash::Reported,
        irq_names: &[named("mana_q%n@", Count::Queue)],
        evidence: READ,
        sources: &[
            "microsoft/mana/mana_ethtool.c mana_set_rxfh",
            "microsoft/mana/mana_en.c mana_rss_table_init, mana_alloc_queues",
            "microsoft/mana/gdma_main.c mana_gd_setup_irqs",
        ],
        ..UNKNOWN
    },
];
