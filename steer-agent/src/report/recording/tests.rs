//! What is written is read again, whole or up to a cut, and nothing that somebody made up does harm.

use std::io::Write as _;
use std::net::IpAddr;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::model::testkit::crossed_sample;
use crate::model::{Fact, Neighbours, Rule, RuleTable, World};

fn header() -> Header {
    Header {
        steer_recording: Header::FORMAT,
        version: "0.1.0".to_owned(),
        began_unix_s: 1_790_000_000,
        every_s: 1.0,
        facts: Facts {
            kernel_release: "6.12.1".to_owned(),
            btf: Fact::Yes,
            may_trace: Fact::Yes,
            may_set_nic: Fact::Yes,
            may_set_irq: Fact::No("it is not root's".to_owned()),
            netlink_rss_get: Fact::Yes,
            netlink_rss_set: Fact::Unknown("nobody asked".to_owned()),
            netlink_queues: Fact::Yes,
            neighbours: Neighbours::default(),
            rps_sock_flow_entries: None,
        },
        policies: BTreeMap::from([("eth0".to_owned(), Policy::default())]),
        anonymised: false,
        host: None,
        observer: None,
    }
}

fn record(seconds: u64) -> Record {
    Record::Sample(Box::new(crossed_sample(seconds)))
}

/// A recording of so many seconds, and where each record of it ends.
fn written(seconds: u64) -> (Vec<u8>, Vec<usize>) {
    let mut writer = Writer::begin(Vec::new(), &header()).expect("begun");
    let mut ends = Vec::new();
    for second in 1..=seconds {
        writer.add(&record(second)).expect("added");
        ends.push(writer.written());
    }
    (writer.finish().expect("ended"), ends)
}

fn read(bytes: &[u8], limits: Limits) -> Result<(Vec<Record>, bool), ReadError> {
    let mut reader = Reader::open(bytes, limits)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok((records, reader.was_cut()))
}

fn packed(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).expect("packed");
    gzip.finish().expect("packed")
}

#[test]
fn what_is_written_is_read() {
    let (bytes, _) = written(3);
    let (records, cut) = read(&bytes, Limits::default()).expect("good");
    assert_eq!((records, cut), (vec![record(1), record(2), record(3)], false));
    let reader = Reader::open(bytes.as_slice(), Limits::default()).expect("good");
    assert_eq!(*reader.header(), header());
}

#[test]
fn a_file_that_was_cut_is_good_up_to_the_cut() {
    let (bytes, ends) = written(4);
    for cut in 0..bytes.len() {
        // What follows a record's last byte is the mark of the flush.
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match read(&bytes[..cut], Limits::default()) {
            Ok((records, was_cut)) => {
                assert!(was_cut, "cut at {cut}");
                assert!((whole..=whole + 1).contains(&records.len()), "cut at {cut}");
                for (second, found) in (1..).zip(&records) {
                    assert_eq!(*found, record(second), "cut at {cut}");
                }
            }
            Err(error) => assert_eq!(whole, 0, "cut at {cut}: {error}"),
        }
    }
}

#[test]
fn what_is_no_recording_is_said_to_be_none() {
    let of = |bytes: &[u8]| match read(bytes, Limits::default()) {
        Err(error) => error.to_string(),
        Ok(_) => "good".to_owned(),
    };
    let mut said = vec![
        of(b""),
        of(b"{\"steer_recording\":1}"),
        of(&packed("")),
        of(&packed("hello\n")),
        of(&packed("{\"steer_recording\":1}\n")),
        of(&packed("{\"steer_recording\":7,\"version\":\"9.0\\u001b[2J\"}\n")),
    ];
    let (mut bytes, _) = written(2);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    assert_ne!(of(&bytes), "good");
    let line = |second: Record| {
        let lines = [
            serde_json::to_string(&header()).expect("written"),
            serde_json::to_string(&record(2)).expect("written"),
            serde_json::to_string(&second).expect("written"),
        ];
        of(&packed(&(lines.join("\n") + "\n")))
    };
    assert_eq!(line(record(3)), "good");
    said.push(line(record(2)));
    let with = |change: fn(&mut Sample)| {
        let mut sample = crossed_sample(3);
        change(&mut sample);
        line(Record::Sample(Box::new(sample)))
    };
    said.push(with(|sample| sample.flows[0].consumer_cpu = 1 << 30));
    said.push(with(|sample| sample.nics[0].nic.queues[0].id = u32::MAX));
    said.push(with(|sample| sample.nics[0].nic.queues.reverse()));
    said.push(with(|sample| sample.flows[0].consumed = u64::MAX));
    said.push(with(|sample| sample.topology.cpus[0].id = 8192));
    said.push(with(|sample| {
        let torn = r#"{"columns":3,"cells":[1,2,3,4]}"#;
        sample.nics[0].counters.queue_packets = serde_json::from_str(torn).expect("a table");
    }));
    said.push(of(&packed(&format!(
        "{}\n{{\"sample\":{}\n",
        serde_json::to_string(&header()).expect("written"),
        "[".repeat(100_000)
    ))));
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("tests/golden/recording-faults.txt");
    let said = said.join("\n") + "\n";
    if std::env::var_os("STEER_ACCEPT").is_some() {
        std::fs::write(&path, &said).expect("written");
    }
    assert_eq!(said, std::fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn a_bomb_is_not_unpacked() {
    // A thousand times as much as is in the file.
    let header = serde_json::to_string(&header()).expect("written");
    let bomb = packed(&format!("{header}\n{}\n", " ".repeat(8 << 20)));
    assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    let limits = Limits { line_bytes: 1 << 20, ..Limits::default() };
    let error = read(&bomb, limits).expect_err("too long").to_string();
    assert_eq!(error, "line 2: longer than 1048576 bytes");
    let record = serde_json::to_string(&record(1)).expect("written");
    let padded = format!("{}{record}\n", " ".repeat(1 << 20));
    let many = packed(&format!("{header}\n{padded}"));
    let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
    let error = read(&many, limits).expect_err("too much").to_string();
    assert_eq!(error, "line 2: more than 1048576 bytes by here");
}

#[test]
fn an_anonymised_recording_leads_to_the_same_and_names_nobody() {
    let mut samples = [crossed_sample(1), crossed_sample(2)];
    let rule = Rule { flow: samples[0].flows[3].addr, queue: 1 };
    for sample in &mut samples {
        let nic = &mut sample.nics[0].nic;
        nic.address = Some("52:54:00:12:34:56".to_owned());
        nic.rules =
            Some(RuleTable { size: 8, rules: [(1, Some(rule))].into(), ..RuleTable::default() });
        nic.queues[0].irq_name = Some("eth0-TxRx-0".to_owned());
        sample.missing = vec!["eth0: 10.0.0.2 is silent".to_owned()];
    }
    let mut anonymiser = Anonymiser::new(Extent::All);
    let text = serde_json::to_string(&anonymiser.header(header())).expect("written");
    let [first, second] =
        samples.clone().map(|sample| match anonymiser.record(Record::Sample(Box::new(sample))) {
            Record::Sample(sample) => *sample,
            Record::Daemon(_) => panic!("a sample stays one"),
        });
    let text = text + &serde_json::to_string(&[&first, &second]).expect("written");
    for name in ["10.0.0.1", "10.0.0.2", "52:54", "worker", "eth0"] {
        assert!(!text.contains(name), "{name} is in {text}");
    }
    assert!(text.contains("nic0-TxRx-0") && text.contains("process-1"));
    let of_rule = first.nics[0].nic.rules.as_ref().and_then(|table| table.rules[&1]);
    assert_eq!(of_rule.map(|rule| rule.flow), Some(first.flows[3].addr), "the same by the same");
    assert_eq!(first.flows[3].addr, second.flows[3].addr);

    let before = World::between(&samples[0], &samples[1], samples[0].at_ns);
    let after = World::between(&first, &second, first.at_ns);
    let (before, after) = (&before.nics[0], &after.nics[0]);
    assert_eq!(after.alignment, before.alignment);
    assert_eq!(after.demand_per_s, before.demand_per_s);
    assert_eq!(after.mapping.evidence(), before.mapping.evidence());
    assert_eq!(after.mismatches.len(), before.mismatches.len());
}

fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => panic!("of one family"),
    }
}

proptest! {
    #[test]
    fn prefixes_stay_prefixes(a: u32, shared in 0u32..=32, b: u32, c: u128, d: u128, over in 0u32..128) {
        let anonymiser = Anonymiser::new(Extent::Addresses);
        let pairs = [
            (IpAddr::V4(a.into()), IpAddr::V4((a ^ b.checked_shr(shared).unwrap_or(0)).into())),
            (IpAddr::V6(c.into()), IpAddr::V6((c ^ d >> over).into())),
        ];
        for (one, other) in pairs {
            let stays = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
            prop_assume!(!stays(one) && !stays(other));
            let (new_one, new_other) = (anonymiser.ip(one), anonymiser.ip(other));
            prop_assert_eq!(common_bits(new_one, new_other), common_bits(one, other));
            prop_assert_eq!(anonymiser.ip(one), new_one, "the same each time");
        }
    }

    #[test]
    fn damage_is_an_error_or_nothing(at in any::<prop::sample::Index>(), to: u8, count in 1usize..4) {
        let (mut bytes, _) = written(2);
        for step in 0..count {
            let at = (at.index(bytes.len()) + step * 37) % bytes.len();
            bytes[at] = to;
        }
        let _ = read(&bytes, Limits::default());
    }

    /// Lines that parse, with numbers and words that no machine has: what passes the check can be
    /// worked with.
    #[test]
    fn made_up_samples_do_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..8), 1..6),
    ) {
        let mut lines = vec![serde_json::to_string(&header()).expect("written")];
        for second in 1..=2 {
            lines.push(serde_json::to_string(&record(second)).expect("written"));
        }
        let with = ["0", "1", "7", "255", "65535", "4294967295", "1152921504606846975", "null"];
        for (at, with_what) in edits {
            // A number of the last sample becomes another one.
            let line = lines.pop().expect("there");
            let starts: Vec<usize> = line
                .match_indices(|c: char| c.is_ascii_digit())
                .map(|(at, _)| at)
                .filter(|at| line[..*at].ends_with([':', ',', '[']))
                .collect();
            let start = starts[at.index(starts.len())];
            let rest = line[start..].trim_start_matches(|c: char| c.is_ascii_digit());
            lines.push(format!("{}{}{rest}", &line[..start], with[with_what]));
        }
        if let Ok((records, _)) = read(&packed(&(lines.join("\n") + "\n")), Limits::default())
            && let [Record::Sample(first), Record::Sample(second)] = records.as_slice()
        {
            let world = World::between(first, second, first.at_ns);
            for nic in &world.nics {
                let _ = nic.mapping.evidence();
            }
        }
    }
}
