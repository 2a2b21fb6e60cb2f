//! What is on disk, whatever happens to it.

use super::*;
use proptest::prelude::*;

fn device() -> DeviceId {
    DeviceId { ifindex: 2, bus: None, address: None, driver: Some("igb".to_owned()) }
}

fn change(from: &[u32], to: &[u32]) -> Change {
    Change {
        target: Target::Table,
        from: Value::Table(from.to_vec()),
        to: Value::Table(to.to_vec()),
    }
}

fn journal(dir: &Path) -> Journal {
    Journal::new(dir, "eth0", device(), "boot".to_owned())
}

#[test]
fn the_first_value_is_the_original_for_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = journal(dir.path());
    journal.intend(&[change(&[0, 1], &[1, 1])], |_| None).expect("saved");
    journal.intend(&[change(&[1, 1], &[1, 0])], |_| None).expect("saved");
    let loaded = Journal::load(dir.path(), "eth0").expect("readable").expect("there");
    let entry = loaded.entry(&Target::Table).expect("noted");
    assert_eq!(entry.original, Value::Table(vec![0, 1]));
    assert_eq!(entry.ours, [Value::Table(vec![1, 1]), Value::Table(vec![1, 0])]);
    assert_eq!(Journal::all(dir.path()).expect("listed"), ["eth0"]);
}

#[test]
fn the_last_entry_takes_the_file_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = journal(dir.path());
    journal.intend(&[change(&[0], &[1])], |_| None).expect("saved");
    journal.forget(&[Target::Table].into()).expect("forgotten");
    assert!(Journal::load(dir.path(), "eth0").expect("readable").is_none());
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn a_damaged_journal_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    journal(dir.path()).intend(&[change(&[0], &[1])], |_| None).expect("saved");
    let path = Journal::path_in(dir.path(), "eth0");
    let good = fs::read(&path).expect("readable");

    let mut flipped = good.clone();
    let digit = flipped.iter().position(u8::is_ascii_digit).expect("a digit");
    flipped[digit] ^= 1;
    for (bytes, why) in [
        (flipped, "checksum does not match"),
        (good[..good.len() / 2].to_vec(), "no checksum line"),
        (Vec::new(), "no checksum line"),
        (vec![0xff; 64], "not text"),
    ] {
        fs::write(&path, bytes).expect("written");
        let error = Journal::load(dir.path(), "eth0").expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains("nothing was changed"), "{error}");
    }
}

#[test]
fn another_format_is_refused() {
    let mut record = journal(Path::new("/nowhere")).record;
    record.format = 7;
    let bytes = encode(&record).expect("encoded");
    let error = decode::<Record>(&bytes, Path::new("j")).expect_err("refused").to_string();
    assert!(error.contains("format 7"), "{error}");
}

#[test]
fn an_unwritable_place_is_named() {
    let mut journal = journal(Path::new("/proc/steer"));
    let error = journal.intend(&[change(&[0], &[1])], |_| None).expect_err("refused");
    assert!(error.to_string().contains("/proc/steer"), "{error}");
    assert!(std::error::Error::source(&error).is_none(), "the reason is in the text already");
    assert!(journal.record.entries.is_empty(), "what is not on disk is not noted");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        any_bytes(&bytes);
    }
}
