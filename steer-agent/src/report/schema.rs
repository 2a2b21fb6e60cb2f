//! The published JSON Schemas, docs/*.schema.json: they are made from the types, so they say what the
//! types say, and documents are held against them. After a wanted change run the tests with
//! `STEER_ACCEPT=1` in the environment and look at the difference.

use std::path::PathBuf;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::Status;
use super::doctor::Finding;
use crate::plan::Plan;

/// Of what is written: a field that is always there is required.
fn schema<T: JsonSchema>(title: &str) -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    schema["title"] = json!(title);
    schema
}

fn path(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(format!("{of}.schema.json"))
}

/// The faults of `document` by the schema of `of`.
pub(super) fn faults(of: &str, document: &Value) -> Vec<String> {
    let text = std::fs::read_to_string(path(of)).expect("a published schema");
    let schema = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let fault =
        |fault: jsonschema::ValidationError<'_>| format!("{}: {fault}", fault.instance_path());
    validator.iter_errors(document).map(fault).collect()
}

#[test]
fn the_published_schemas_are_those_of_the_types() {
    for (of, schema) in [
        ("status", schema::<Status>("What `steer status --json` prints")),
        ("doctor", schema::<Vec<Finding>>("What `steer doctor --json` prints")),
        ("plan", schema::<Vec<Plan>>("What `steer plan --json` prints")),
    ] {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).expect("serialised"));
        if std::env::var_os("STEER_ACCEPT").is_some() {
            std::fs::write(path(of), &text).expect("written");
        }
        let published = std::fs::read_to_string(path(of)).unwrap_or_default();
        assert_eq!(text, published, "differs from docs/{of}.schema.json");
    }
}

#[test]
fn golden_documents_keep_to_them() {
    let golden = |name: &str| -> Value {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).expect("a golden file")).expect("JSON")
    };
    assert_eq!(faults("status", &golden("status-crossed.json")), [""; 0]);
    assert_eq!(faults("doctor", &golden("doctor-beside.json")), [""; 0]);
}

/// What scripts rely on: the fields that were there first, and their names.
const PROMISED: &[(&str, &[&str])] = &[
    ("", &["schema", "source", "window_s", "nics"]),
    (
        "/nics/0",
        &[
            "name",
            "driver",
            "state",
            "reason",
            "table",
            "queues",
            "alignment",
            "mismatches",
            "health",
        ],
    ),
    ("/nics/0/table", &["size", "entries"]),
    ("/nics/0/queues/0", &["queue", "irq", "cpu", "effective_cpu", "softirq_cpu", "packets_per_s"]),
    (
        "/nics/0/alignment",
        &[
            "share",
            "protocol_share",
            "achievable",
            "by_distance",
            "consumed_per_s",
            "cost_ns_per_s",
        ],
    ),
    (
        "/nics/0/mismatches/0",
        &[
            "proto",
            "local",
            "remote",
            "bucket",
            "queue",
            "softirq_cpu",
            "consumer_cpu",
            "distance",
            "per_s",
            "cost_ns_per_s",
            "pid",
            "comm",
        ],
    ),
];

#[test]
fn a_document_without_a_promised_field_is_refused() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/status-crossed.json");
    let text = std::fs::read_to_string(path).expect("a golden file");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    for (at, fields) in PROMISED {
        for field in *fields {
            let mut without = document.clone();
            let object = without.pointer_mut(at).and_then(Value::as_object_mut).expect("an object");
            assert!(object.remove(*field).is_some(), "{at} has no {field}");
            assert_ne!(faults("status", &without), [""; 0], "nobody misses {at}/{field}");
        }
    }
    // And fields may be added.
    let mut with = document;
    with["something_new"] = json!(1);
    with["nics"][0]["something_new"] = json!("x");
    assert_eq!(faults("status", &with), [""; 0]);
}
