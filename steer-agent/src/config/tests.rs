//! Files, variables and command lines to values, and what is said of those that are wrong. After a
//! wanted change run the tests with `STEER_ACCEPT=1` in the environment and look at the difference in
//! `golden/` and `deploy/`.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::form::Form;
use super::keys::{OnExit, OnIrqbalance, SECTIONS, nearest};
use super::*;
use crate::golden::golden;
use crate::policy::Placement;

fn read(text: &str) -> Result<Config, Faulty> {
    Config::read(Some((Path::new("/etc/steer/steer.toml"), text)), &[])
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A file that says something of everything.
const FILE: &str = r#"# A load balancer with two NICs.
[run]
interfaces = ["eth0", "eth1"]
period = "500ms"
on-exit = "keep"
irqbalance = "ban"

[policy]
allowed_cpus = "0-7"
softirq_cap = 0.5
load_slack = 1

[interface.eth1]
placement = "same-llc"
denied_cpus = "0,4"
irqbalance = "report"
maintenance_window = ["Sat,Sun", "Mon-Fri 22:00-06:00"]
move_table = false
"#;

#[test]
fn what_is_said_of_one_interface_holds_there_only() {
    let config = read(FILE).expect("valid");
    let (all, eth1) = (config.values(None), config.values(Some("eth1")));
    assert_eq!(config.values(Some("eth0")), all);
    assert_eq!(all.interfaces, ["eth0", "eth1"]);
    assert_eq!((all.period, all.on_exit), (Duration::from_millis(500), OnExit::Keep));
    assert_eq!((all.irqbalance, eth1.irqbalance), (OnIrqbalance::Ban, OnIrqbalance::Report));
    assert_eq!(all.policy.placement, Placement::SameCore);
    assert_eq!(eth1.policy.placement, Placement::SameLlc);
    assert_eq!(eth1.policy.softirq_cap.to_bits(), 0.5f64.to_bits());
    assert!(eth1.policy.allows(3) && !eth1.policy.allows(4) && !eth1.policy.allows(8));
    assert!(all.policy.allows(4) && all.policy.move_table && !eth1.policy.move_table);
    assert!(!eth1.maintenance_window.texts().is_empty());
}

#[test]
fn an_interface_section_counts_for_more_wherever_it_stands() {
    let config = read("[interface.eth0]\npins = 4\n[policy]\npins = 2\n").expect("valid");
    let pins = |interface| config.values(interface).policy.pins;
    assert_eq!((pins(None), pins(Some("eth0")), pins(Some("eth1"))), (2, 4, 2));
}

#[test]
fn the_environment_counts_for_more_than_the_file_and_the_command_line_for_most() {
    let environment = variables(&[
        ("STEER_LOG", "info"),
        ("STEER_POLICY_PLACEMENT", "same-node"),
        ("STEER_RUN_MAINTENANCE_WINDOW", "Mon 01:00-02:00; Sat,Sun"),
        ("STEER_RUN_INTERFACES", "eth2, eth3"),
        ("STEER_RUN_PERIOD", ""),
        ("STEER_ROOT", "/host/"),
        ("STEER_PATHS_SYS", "/elsewhere"),
    ]);
    let file = (Path::new("steer.toml"), FILE);
    let config = Config::read(Some(file), &environment).expect("valid");
    let eth1 = config.values(Some("eth1"));
    assert_eq!(eth1.policy.placement, Placement::SameNode);
    assert_eq!(eth1.maintenance_window.texts(), ["Mon 01:00-02:00", "Sat,Sun"]);
    assert_eq!(eth1.interfaces, ["eth2", "eth3"]);
    assert_eq!(eth1.period, Duration::from_millis(500), "an empty variable is not set");
    assert_eq!((eth1.proc, eth1.sys), ("/host/proc".into(), "/elsewhere".into()));
    let words = vec![("policy.placement", Value::choice(&Placement::Dedicated))];
    let config = config.over(words);
    assert_eq!(config.values(Some("eth1")).policy.placement, Placement::Dedicated);
    let origin = |path: &str, interface| {
        let key = KEYS.iter().find(|key| key.path() == path).expect("a key");
        config.origin(key, interface).to_string()
    };
    assert_eq!(origin("policy.placement", Some("eth1")), "command line");
    assert_eq!(origin("run.interfaces", None), "STEER_RUN_INTERFACES");
    assert_eq!(origin("paths.proc", None), "STEER_ROOT");
    assert_eq!(origin("policy.denied_cpus", Some("eth1")), "steer.toml:15");
    assert_eq!(origin("policy.denied_cpus", None), "default");
}

#[test]
fn faults_are_all_found_and_named() {
    let text = r#"[run]
perod = "1s"
period = "2h"
interfaces = "eth0"
on_exit = "explode"
on-exit = "keep"
irqbalance = ["ban"]
group = 5
maintenance_window = ["Mon-Fri 22:00"]

[polcy]
pins = 1

[policy]
allowed_cpus = "3-1"
softirq_cap = -1.0
load_slack = nan
pins = 1.5
most_irq_moves = 99999
move_table = "yes"
seed = 99999999999999999999

[interface]
eth0 = "same-core"

[interface.eth1]
plcement = "same-llc"
period = "1s"
quite_another_thing = { a = 1, b = "a text that goes on for much longer than anybody wants to read it" }

[paths]
proc = "host/proc"

[what_is_this]
"#;
    let mut said = read(text).expect_err("faulty").to_string();
    said += "\n\n";
    said += &read("[run]\nperiod = \"1s\nperiod").expect_err("not TOML").to_string();
    said += "\n\n";
    said += &read("period = \"1s\"\n").expect_err("no section").to_string();
    said += "\n\n";
    said += &read("[run]\nperiod = \"1s\"\nperiod = \"2s\"\n").expect_err("twice").to_string();
    said += "\n\n";
    let environment = variables(&[
        ("STEER_POLICY_PLACEMNT", "same-core"),
        ("STEER_POLICY_PINS", "many"),
        ("STEER_ROOT", "host"),
        ("STEER_RUN_MAINTENANCE_WINDOW", "Mon 1:00-02:00"),
        ("STEER_ACCEPT", "1"),
    ]);
    said += &Config::read(None, &environment).expect_err("faulty").to_string();
    golden("config-faults.txt", &(said + "\n"));
}

#[test]
fn what_is_right_beside_a_fault_is_known() {
    let faulty = read("[run]\nperiod = \"0s\"\n[paths]\nstate_dir = \"/srv/steer\"\n");
    let Faulty { problems, rest } = faulty.expect_err("faulty");
    assert_eq!(problems.len(), 1);
    assert_eq!(rest.values(None).state_dir, PathBuf::from("/srv/steer"));
}

#[test]
fn what_is_shown_says_where_it_comes_from_and_reads_as_the_same() {
    let environment = variables(&[("STEER_PATHS_PROC", "/host/proc")]);
    let file = (Path::new("/etc/steer/steer.toml"), FILE);
    let config = Config::read(Some(file), &environment).expect("valid");
    let config = config.over(vec![("run.dry_run", Value::Flag(true))]);
    let shown = describe(&config, &[]);
    golden("config-show.txt", &shown);
    let again = read(&shown).expect("what is shown is a configuration");
    for interface in [None, Some("eth0"), Some("eth1")] {
        assert_eq!(again.values(interface), config.values(interface));
    }
    let json = serde_json::to_string_pretty(&json(&config, &["eth1".to_owned()])).expect("written");
    golden("config-show.json", &(json + "\n"));
}

#[test]
fn the_example_has_every_key_and_its_default() {
    let example = example();
    golden("../../../deploy/steer.toml", &example);
    assert!(example.lines().all(|line| line.chars().count() <= 140), "readable");
    assert_eq!(read(&example).expect("valid").keys_set(), 0, "all is commented out");
    // With the `#` of the keys taken away, and without the section of an interface.
    let (keys, _) = example.split_once("#[interface").expect("at the end");
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let on: Vec<&str> =
        keys.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    let config = read(&on.join("\n")).expect("every line of it is valid");
    assert_eq!(config.keys_set(), KEYS.len());
    assert_eq!(config.values(None), Config::default().values(None));
}

#[test]
fn keys_are_what_they_say() {
    for key in KEYS {
        assert!(SECTIONS.iter().any(|(section, _)| *section == key.section), "{key:?}");
        let default = (key.get)(&Values::default());
        let mut values = Values::default();
        assert_eq!((key.set)(&mut values, &default), Some(()), "{key:?} takes its own default");
        assert_eq!(values, Values::default(), "{key:?}");
        assert!(key.doc.ends_with('.'), "{key:?} is explained in sentences");
        if let Form::Choice(words) = key.form {
            for word in words {
                let value = Value::Choice((*word).to_owned());
                assert_eq!((key.set)(&mut values, &value), Some(()), "{key:?} = {word}");
                assert_eq!((key.get)(&values), value, "{key:?} = {word}");
            }
        }
        if key.per_interface {
            let same = KEYS.iter().filter(|other| other.name == key.name).count();
            assert_eq!(same, 1, "{key:?} stands without its section in [interface.NAME]");
        }
    }
}

#[test]
fn the_policy_has_a_key_for_everything() {
    let fields = toml::Value::try_from(crate::policy::Policy::default()).expect("a table");
    for field in fields.as_table().expect("a table").keys() {
        assert!(keys::find("policy", field).is_some(), "policy.{field} cannot be configured");
    }
}

#[test]
fn differences_are_those_that_count() {
    let of = |old: &str, new: &str| -> Vec<String> {
        let (old, new) = (read(old).expect("valid"), read(new).expect("valid"));
        old.differences(&new).iter().map(ToString::to_string).collect()
    };
    assert!(of(FILE, FILE).is_empty());
    assert!(of("", "[run]\nperiod = \"1000ms\"").is_empty(), "the same in other words");
    assert_eq!(of("", "[policy]\npins = 2"), ["policy.pins 0 -> 2"]);
    assert_eq!(of("", "[interface.eth0]\npins = 2"), ["eth0: policy.pins 0 -> 2"]);
    assert_eq!(
        of("[interface.eth0]\npins = 1", "[policy]\npins = 2"),
        ["policy.pins 0 -> 2", "eth0: policy.pins 1 -> 2"]
    );
}

#[test]
fn the_nearest_is_near() {
    let known = ["placement", "period", "pins"];
    assert_eq!(nearest("placemnt", known), Some("placement"));
    assert_eq!(nearest("perido", known), Some("period"));
    assert_eq!(nearest("xyzzyxyzzy", known), None);
    assert_eq!(nearest(&"p".repeat(1 << 20), known), None);
}

proptest! {
    #[test]
    fn no_file_is_too_odd(text in "(\\[|\\]|run|policy|interface|\\.|=|\"|'|\n|[a-z]{1,4}|[0-9]{1,3}|.){0,60}") {
        let _ = read(&text);
    }

    #[test]
    fn no_value_is_too_odd(key in 0..KEYS.len(), value in "([0-9a-z:,.\"\\[\\]-]| |.){0,30}") {
        let key = &KEYS[key];
        let _ = read(&format!("[{}]\n{} = {value}", key.section, key.name));
        let _ = Config::read(None, &[(key.variable(), value)]);
    }
}
