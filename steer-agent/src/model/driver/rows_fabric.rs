//! NICs of servers and fabrics, from 25 Gb/s up as a rule, other than Intel's.

use super::{
    Affinity, Cause, Count, Driver, Hash, IN_PART, Key, Loss, READ, TableWrite, UNKNOWN, named,
};

pub(super) static ROWS: [Driver; 17] = [
    Driver {
        names: &["mlx4_core", "mlx4_en"],
        table: "a power of two, as many as queues",
        key: Key::Readable,
        write: TableWrite::Impossible,
        // Every entry must be `bucket % n`, and n a power of two; and the write stops the port.
        write_note: "takes only the even spread over a power of two of queues, and stops its port for \
                     the write",
        lost: Loss::NoTable,
        affinity: Affinity::Hinted,
        follows_busy: Some(true),
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        notes: &["vectors are shared between ports: their queues are not told by name"],
        evidence: READ,
        sources: &[
            "mellanox/mlx4/en_ethtool.c mlx4_en_set_rxfh",
            "mellanox/mlx4/en_rx.c mlx4_en_poll_rx_cq",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["mlx5_core"],
        table: "256 or more: twice the channels, to a power of two (6.1: 256)",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "modifies the table object in place",
        lost: Loss::Kept, // mlx5e_num_channels_changed
        affinity: Affinity::AtStart,
        follows_busy: Some(true),
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("mlx5_comp%n@", Count::Queue)],
        notes: &[
            "`ethtool -L` is refused where the table's size would change",
            "compressed completions carry no hash (mini CQEs; private flag rx_cqe_compress)",
            "the hash function may be XOR",
        ],
        flags: &["rx_cqe_compress"],
        evidence: READ,
        sources: &[
            "mellanox/mlx5/core/en_ethtool.c mlx5e_set_rxfh, mlx5e_ethtool_set_channels",
            "mellanox/mlx5/core/en/rqt.c mlx5e_rqt_size",
            "mellanox/mlx5/core/en_rx.c mlx5e_decompress_cqe",
            "mellanox/mlx5/core/pci_irq.c mlx5_irq_alloc",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["bnxt_en"],
        table: "128; 64 for each 64 rings from P5 on",
        key: Key::Readable,
        write: TableWrite::LinkReset,
        // bnxt_set_rxfh: bnxt_close_nic, bnxt_open_nic; bnxt_tx_disable: netif_carrier_off.
        write_note: "closes and reopens the NIC for it, with the carrier off in between",
        lost: Loss::Kept,
        affinity: Affinity::AtOpen,
        follows_busy: Some(false),
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("%i-TxRx-%n", Count::Queue), named("%i-rx-%n", Count::Queue)],
        notes: &[
            "`ethtool -L` is refused across steps of 64 rings while the table is a user's",
            "the table falls back to the default where rings cannot be reserved (bnxt_check_rss_tbl_no_rmgr)",
        ],
        evidence: READ,
        sources: &[
            "broadcom/bnxt/bnxt_ethtool.c bnxt_set_rxfh, bnxt_set_channels",
            "broadcom/bnxt/bnxt.c bnxt_tx_disable, bnxt_request_irq",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["bnx2x"],
        table: "128",
        write: TableWrite::Free,
        write_note: "sends a ramrod to firmware",
        affinity: Affinity::Left,
        hash: Hash::Reported,
        rules: Some(false),
        evidence: IN_PART,
        sources: &["broadcom/bnx2x/bnx2x_ethtool.c bnx2x_set_rxfh"],
        ..UNKNOWN
    },
    Driver {
        names: &["tg3"],
        table: "128, over at most 4 queues",
        key: Key::System,
        write: TableWrite::Free,
        write_note: "writes registers",
        lost: Loss::Kept, // tg3_rss_check_indir_tbl
        affinity: Affinity::Left,
        follows_busy: Some(false),
        rules: Some(false),
        hash: Hash::Never,
        irq_names: &[
            named("%i-txrx-%n", Count::QueueFromOne),
            named("%i-rx-%n", Count::QueueFromOne),
        ],
        notes: &["packets carry no queue either"],
        evidence: READ,
        sources: &["broadcom/tg3.c tg3_set_rxfh, tg3_rss_check_indir_tbl, tg3_request_irq"],
        ..UNKNOWN
    },
    Driver {
        names: &["qede"],
        table: "128",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a vport update to firmware; 100G devices refuse it",
        lost: Loss::After(&[Cause::Channels]), // qede_set_channels clears QEDE_RSS_INDIR_INITED
        affinity: Affinity::Left,
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        evidence: READ,
        sources: &[
            "qlogic/qede/qede_ethtool.c qede_set_rxfh, qede_set_channels",
            "qlogic/qede/qede_filter.c qede_fill_rss_params",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["sfc"],
        table: "128",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a command to firmware",
        lost: Loss::Kept,
        affinity: Affinity::AtStart,
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("%i-%n", Count::Queue), named("%i-rx-%n", Count::Queue)],
        notes: &[
            "EF100 sets the affinity of its interrupts at each open",
            "the table stays as it is when channels change, even all zeros",
        ],
        evidence: IN_PART,
        sources: &[
            "sfc/ethtool_common.c efx_ethtool_set_rxfh",
            "sfc/mcdi_filters.c efx_mcdi_filter_rx_push_rss_config",
            "sfc/efx_channels.c efx_set_interrupt_affinity, efx_get_channel_name",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["nfp", "nfp_netvf"],
        table: "128",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "writes registers and sends a reconfiguration to firmware",
        lost: Loss::Kept, // nfp_net_dp_swap
        affinity: Affinity::AtOpen,
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("%i-rxtx-%n", Count::Queue)],
        evidence: READ,
        sources: &[
            "netronome/nfp/nfp_net_ethtool.c nfp_net_set_rxfh",
            "netronome/nfp/nfp_net_common.c nfp_net_dp_swap, nfp_net_prepare_vector",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["hns3"],
        table: "512, or as firmware says",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends commands to firmware",
        lost: Loss::Kept, // hclge_set_channels leaves a user's alone
        affinity: Affinity::AtStart,
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("hns3-%d-TxRx-%n", Count::Queue), named("hns3-%d-Rx-%n", Count::Queue)],
        notes: &["the hash function may be XOR"],
        evidence: IN_PART,
        sources: &[
            "hisilicon/hns3/hns3_ethtool.c hns3_set_rss",
            "hisilicon/hns3/hns3_enet.c hns3_nic_init_irq, hns3_set_channels",
            "hisilicon/hns3/hns3pf/hclge_main.c hclge_set_channels",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["fsl_enetc", "fsl_enetc_vf"],
        table: "as the device says (64)",
        key: Key::IfOffered, // physical function only: enetc_get_rxfh
        write: TableWrite::Free,
        write_note: "sends a command to the control ring",
        lost: Loss::Kept, // the default is written at probe only: enetc_configure_si
        affinity: Affinity::AtOpen,
        rules: Some(true),
        hash: Hash::Never,
        irq_names: &[named("%i-rxtx%n", Count::Queue)],
        notes: &["`rx-hashing` switches RSS itself and reports nothing"],
        evidence: IN_PART,
        sources: &[
            "freescale/enetc/enetc_ethtool.c enetc_set_rxfh, enetc_get_rxfh",
            "freescale/enetc/enetc.c enetc_configure_si, enetc_setup_irqs, enetc_set_features",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["atlantic"],
        table: "64",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "writes registers",
        lost: Loss::Kept,
        affinity: Affinity::AtOpen,
        rules: Some(true),
        hash: Hash::Reported,
        notes: &[
            "at most 8 queues",
            "all its interrupts have the interface's name: their queues are not told by it",
        ],
        evidence: IN_PART,
        sources: &[
            "aquantia/atlantic/aq_ethtool.c aq_ethtool_set_rss",
            "aquantia/atlantic/aq_pci_func.c aq_pci_func_alloc_irq",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["be2net"],
        table: "128",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a command to firmware",
        affinity: Affinity::Hinted,
        rules: Some(false),
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &[
            "emulex/benet/be_ethtool.c be_set_rxfh",
            "emulex/benet/be_main.c be_msix_register",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["cxgb4"],
        table: "as the port says",
        write: TableWrite::Free,
        write_note: "sends work requests to firmware; the interface must have been up once",
        affinity: Affinity::AtOpen,
        rules: Some(true),
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &[
            "chelsio/cxgb4/cxgb4_ethtool.c set_rss_table",
            "chelsio/cxgb4/cxgb4_main.c cxgb4_set_msix_aff",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["enic"],
        table: "none",
        key: Key::Readable,
        write: TableWrite::Impossible,
        write_note: "takes a key and no table",
        lost: Loss::NoTable,
        affinity: Affinity::Hinted,
        arfs: true,
        rules: Some(false),
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &["cisco/enic/enic_ethtool.c enic_set_rxfh"],
        ..UNKNOWN
    },
    Driver {
        names: &["ionic"],
        table: "as the device says",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a command to firmware",
        affinity: Affinity::AtOpen,
        rules: Some(false),
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &[
            "pensando/ionic/ionic_ethtool.c ionic_set_rxfh",
            "pensando/ionic/ionic_lif.c ionic_request_irq",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["rvu_nicpf", "rvu_nicvf"],
        table: "256",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends commands to the admin function",
        lost: Loss::Kept, // otx2_rss_init keeps a user's
        affinity: Affinity::AtOpen,
        rules: Some(true),
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &[
            "marvell/octeontx2/nic/otx2_ethtool.c otx2_set_rxfh",
            "marvell/octeontx2/nic/otx2_common.c otx2_rss_init, otx2_set_cints_affinity",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["nicvf"],
        table: "as the device says",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends messages to the physical function",
        affinity: Affinity::AtOpen,
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &[
            "cavium/thunder/nicvf_ethtool.c nicvf_set_rxfh",
            "cavium/thunder/nicvf_main.c nicvf_set_irq_affinity",
        ],
        ..UNKNOWN
    },
];
