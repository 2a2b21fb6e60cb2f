//! Intel's NICs, and others of their kind: one or few queues, registers.

use super::{
    Affinity, Atr, Cause, Count, Driver, Hash, IN_PART, Key, Loss, READ, TableWrite, UNKNOWN, named,
};

pub(super) static ROWS: [Driver; 11] = [
    Driver {
        names: &["igb"],
        table: "128",
        key: Key::System, // igb_get_rxfh shows none; 7.3 does
        write: TableWrite::Free,
        write_note: "writes registers",
        // igb_setup_mrqc fills its default in when rss_indir_tbl_init differs from the queues, over
        // a user's table as well.
        lost: Loss::After(&[Cause::Channels]),
        affinity: Affinity::Left,
        follows_busy: Some(false),
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("%i-TxRx-%n", Count::Queue), named("%i-rx-%n", Count::Queue)],
        notes: &[
            "the boot default is blocks (`bucket * queues / 128`), not the kernel's `bucket % queues`",
            "the hash is tagged L3 up to 6.12, so RPS, RFS and XPS compute one of their own",
            "UDP is hashed by addresses only unless `rx-flow-hash` says otherwise",
        ],
        evidence: READ,
        sources: &["intel/igb/igb_ethtool.c igb_set_rxfh", "intel/igb/igb_main.c igb_setup_mrqc"],
        ..UNKNOWN
    },
    Driver {
        names: &["igc"],
        table: "128",
        key: Key::System, // igc_ethtool_get_rxfh, 6.12
        write: TableWrite::Free,
        write_note: "writes registers",
        lost: Loss::After(&[Cause::Channels]),
        affinity: Affinity::Left,
        follows_busy: Some(false),
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("%i-TxRx-%n", Count::Queue), named("%i-rx-%n", Count::Queue)],
        evidence: READ,
        sources: &[
            "intel/igc/igc_ethtool.c igc_ethtool_set_rxfh",
            "intel/igc/igc_main.c igc_setup_mrqc",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["e1000e"],
        table: "none",
        key: Key::Absent,
        write: TableWrite::Impossible,
        write_note: "has one RX queue and no table",
        lost: Loss::NoTable,
        affinity: Affinity::Left,
        follows_busy: Some(false),
        rules: Some(false),
        hash: Hash::Reported,
        irq_names: &[named("%i-rx-%n", Count::Queue)],
        evidence: READ,
        sources: &[
            "intel/e1000e/ethtool.c e1000_ethtool_ops",
            "intel/e1000e/netdev.c e1000_request_msix",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["ixgbe"],
        table: "128; 512 from X550 on (64 with SR-IOV)",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "writes registers",
        // ixgbe_setup_reta writes the default unconditionally, and every reconfiguration calls it;
        // the mark of a user's table stays set.
        lost: Loss::After(&[Cause::Reopen, Cause::Channels, Cause::Reset]),
        affinity: Affinity::Hinted,
        follows_busy: Some(false),
        // ixgbe_set_features, ixgbe_set_rss_queues: sample rate 20, not with SR-IOV or several
        // traffic classes, not on 82598.
        atr: Some(Atr::UnlessNtuple),
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("%i-TxRx-%n", Count::Queue), named("%i-rx-%n", Count::Queue)],
        notes: &[
            "the table of 82599 and X540 can only name queues 0 to 15",
            "switching `ntuple` resets the device",
            "UDP is hashed by addresses only unless `rx-flow-hash` says otherwise",
        ],
        evidence: READ,
        sources: &[
            "intel/ixgbe/ixgbe_ethtool.c ixgbe_set_rxfh, ixgbe_rss_indir_tbl_max",
            "intel/ixgbe/ixgbe_main.c ixgbe_setup_reta, ixgbe_set_features, ixgbe_atr",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["ixgbevf"],
        table: "64 from X550 on, else none of its own",
        key: Key::IfOffered,
        write: TableWrite::Impossible,
        write_note: "only reads its table: the physical function owns it",
        lost: Loss::NoTable,
        affinity: Affinity::Left,
        follows_busy: Some(false),
        rules: Some(false),
        hash: Hash::Reported,
        irq_names: &[named("%i-TxRx-%n", Count::Queue), named("%i-rx-%n", Count::Queue)],
        evidence: IN_PART,
        sources: &["intel/ixgbevf/ethtool.c ixgbevf_ethtool_ops (no set_rxfh)"],
        ..UNKNOWN
    },
    Driver {
        names: &["i40e"],
        table: "512",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a command to firmware or writes registers",
        // Dropped only when queues become fewer: i40e_reconfig_rss_queues.
        lost: Loss::After(&[Cause::Channels]),
        affinity: Affinity::Hinted,
        follows_busy: Some(true),
        atr: Some(Atr::PrivateFlag("flow-director-atr")),
        flags: &["flow-director-atr"],
        rules: Some(true),
        hash: Hash::Reported,
        irq_names: &[named("i40e-%i-TxRx-%n", Count::Queue), named("i40e-%i-rx-%n", Count::Queue)],
        notes: &[
            "setting the key alone fills the default table in",
            "ATR pauses while exact-match rules exist",
            "`rx-hashing off` clears the table: everything goes to queue 0",
        ],
        evidence: READ,
        sources: &[
            "intel/i40e/i40e_ethtool.c i40e_set_rxfh, i40e_gstrings_priv_flags",
            "intel/i40e/i40e_main.c i40e_reconfig_rss_queues, i40e_set_features",
            "intel/i40e/i40e_txrx.c i40e_napi_poll",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["iavf"],
        table: "as the physical function says, 64 or more",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a message to the physical function",
        lost: Loss::After(&[Cause::Reset]), // iavf_reset_task calls iavf_init_rss
        affinity: Affinity::Hinted,
        follows_busy: Some(true),
        rules: Some(true),
        hash: Hash::Reported,
        misreads_no_change: true, // iavf_set_rxfh tests RXH_XFRM_SYM_XOR
        irq_names: &[named("iavf-%i-TxRx-%n", Count::Queue), named("iavf-%i-rx-%n", Count::Queue)],
        notes: &["entries are bytes: queues above 255 cannot be named"],
        evidence: IN_PART,
        sources: &[
            "intel/iavf/iavf_ethtool.c iavf_set_rxfh",
            "intel/iavf/iavf_main.c iavf_reset_task, iavf_irq_affinity_notify",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["ice"],
        table: "64, 512 or 2048, by capability",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a command to firmware",
        lost: Loss::Kept, // rss_lut_user, ice_vsi_cfg_rss_lut_key
        affinity: Affinity::Hinted,
        follows_busy: Some(false),
        arfs: true,
        rules: Some(true),
        hash: Hash::Reported,
        misreads_no_change: true, // ice_set_rxfh tests RXH_XFRM_SYM_XOR
        irq_names: &[named("ice-%i-TxRx-%n", Count::Queue), named("ice-%i-rx-%n", Count::Queue)],
        notes: &[
            "`ethtool -L` is refused while RDMA is bound or exact-match rules exist",
            "`rx-hashing off` sends everything to queue 0 (ice_vsi_manage_rss_lut)",
            "newer kernels restore the user's affinity after a reopen (netif_set_affinity_auto)",
        ],
        evidence: READ,
        sources: &[
            "intel/ice/ice_ethtool.c ice_set_rxfh, ice_set_channels",
            "intel/ice/ice_lib.c ice_vsi_cfg_rss_lut_key",
            "intel/ice/ice_main.c ice_vsi_req_irq_msix",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["idpf"],
        table: "as the device says",
        key: Key::Readable,
        write: TableWrite::Free,
        write_note: "sends a message to the device",
        lost: Loss::Kept, // idpf_initiate_soft_reset keeps it if it is a user's
        affinity: Affinity::AtOpen,
        follows_busy: Some(false),
        rules: Some(false),
        hash: Hash::Reported,
        notes: &["its interrupts are numbered by vector: their queues are not told by name"],
        evidence: IN_PART,
        sources: &[
            "intel/idpf/idpf_ethtool.c idpf_set_rxfh",
            "intel/idpf/idpf_lib.c idpf_initiate_soft_reset",
            "intel/idpf/idpf_txrx.c idpf_vport_intr_req_irq",
        ],
        ..UNKNOWN
    },
    Driver {
        names: &["txgbe", "ngbe"],
        table: "128",
        key: Key::Absent,
        write: TableWrite::Impossible,
        write_note: "offers no table to ethtool",
        lost: Loss::NoTable,
        affinity: Affinity::Managed, // wx_acquire_msix_vectors passes PCI_IRQ_AFFINITY
        follows_busy: Some(false),
        hash: Hash::Reported,
        evidence: IN_PART,
        sources: &["wangxun/libwx/wx_lib.c wx_acquire_msix_vectors"],
        ..UNKNOWN
    },
    Driver {
        names: &["r8169"],
        table: "none",
        key: Key::Absent,
        write: TableWrite::Impossible,
        write_note: "has one RX queue and no table",
        lost: Loss::NoTable,
        affinity: Affinity::Left,
        rules: Some(false),
        hash: Hash::Never,
        evidence: READ,
        sources: &["realtek/r8169_main.c rtl8169_ethtool_ops"],
        ..UNKNOWN
    },
];
