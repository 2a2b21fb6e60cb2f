//! The rows hold together, and the document follows them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::document::{LAB_BEGIN, LAB_END, document};
use super::*;

#[test]
fn every_name_is_there_once_and_every_claim_has_a_source() {
    let mut names = BTreeSet::new();
    for driver in Driver::all() {
        assert!(!driver.names.is_empty());
        for name in driver.names {
            assert!(names.insert(*name), "{name} twice");
            assert_eq!(Driver::of(name).names, driver.names);
        }
        let name = driver.names[0];
        assert!(driver.is_known() && !driver.sources.is_empty(), "{name}");
        assert!(!driver.write_note.is_empty() && !driver.table.is_empty(), "{name}");
        for irq in driver.irq_names {
            assert!(irq.pattern.contains("%n"), "{name}: {}", irq.pattern);
        }
        let has_no_table = driver.lost == Loss::NoTable;
        assert_eq!(driver.write == TableWrite::Impossible, has_no_table, "{name}");
    }
}

#[test]
fn a_write_that_resets_the_link_is_never_automatic() {
    let refusal = Driver::of("bnxt_en").automatic("bnxt_en").expect_err("closes the NIC");
    assert!(refusal.can_be_lifted());
    assert_eq!(
        refusal.to_string(),
        "the table is not written: bnxt_en closes and reopens the NIC for it, with the carrier off in \
         between (`policy.allow_link_reset = true` permits it)"
    );
    for driver in Driver::all().filter(|driver| driver.write == TableWrite::LinkReset) {
        assert!(driver.automatic(driver.names[0]).is_err());
    }
}

#[test]
fn an_unknown_driver_is_taken_for_the_worse() {
    let driver = Driver::of("nobody");
    assert!(!driver.is_known());
    let refusal = driver.automatic("nobody").expect_err("nobody knows");
    assert!(refusal.to_string().contains("nobody is a driver that steer does not know"));
    assert!(refusal.can_be_lifted());
    for cause in [Cause::Reopen, Cause::Channels, Cause::Reset] {
        assert!(driver.loses_table_on(cause));
    }
    assert!(driver.irq_names.is_empty(), "no guess");
}

#[test]
fn what_cannot_be_written_cannot_be_permitted() {
    for name in ["e1000e", "r8169", "ixgbevf", "mlx4_core", "enic"] {
        let refusal = Driver::of(name).automatic(name).expect_err(name);
        assert!(!refusal.can_be_lifted(), "{name}");
        assert!(!refusal.to_string().contains("allow_link_reset"), "{name}");
    }
}

#[test]
fn drivers_of_the_lab_are_automatic_and_lose_their_tables_as_seen() {
    for name in ["igb", "virtio_net", "vmxnet3"] {
        assert_eq!(Driver::of(name).automatic(name), Ok(()));
    }
    assert!(Driver::of("vmxnet3").loses_table_on(Cause::Reopen));
    assert!(Driver::of("igb").loses_table_on(Cause::Channels));
    assert!(!Driver::of("igb").loses_table_on(Cause::Reopen));
    assert!(Driver::of("ena").overwrites_affinity() && !Driver::of("igb").overwrites_affinity());
}

/// After a change of the rows: `STEER_ACCEPT=1 cargo test -p steer-agent drivers_md`.
#[test]
fn drivers_md_is_what_the_rows_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/drivers.md");
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    // What the lab has put there stays.
    let lab = present.split_once(LAB_BEGIN).and_then(|(_, rest)| Some(rest.split_once(LAB_END)?.0));
    let lab = lab.map_or("No run yet.\n", |lab| lab.trim_start_matches('\n'));
    let wanted = document(lab);
    if std::env::var_os("STEER_ACCEPT").is_some() {
        std::fs::write(&path, &wanted).expect("written");
        return;
    }
    assert_eq!(present, wanted, "docs/drivers.md differs; renew it with STEER_ACCEPT=1");
}
