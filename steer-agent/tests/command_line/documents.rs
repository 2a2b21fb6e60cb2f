//! What the real program prints as JSON, of live interfaces, keeps to the published schemas.

use std::process::Command;

use serde_json::Value;

use super::in_namespace;

/// What `steer` with the words of `line` prints.
fn document(line: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command.args(line.split_whitespace()).args(["--config", "/dev/null"]);
    let output = command.output().expect("started");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "`steer {line}` prints no JSON ({error}): {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn keeps_to(of: &str, document: &Value) {
    let path = format!("{}/../docs/{of}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema = std::fs::read_to_string(path).expect("a published schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let faults: Vec<String> = validator
        .iter_errors(document)
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{of}: {faults:?}\n{document:#}");
}

#[test]
fn live_documents_keep_to_the_schemas() {
    in_namespace("documents::live_documents_keep_to_the_schemas", || {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = dir.path().display();
        for line in ["status v0 v1 --json --for 200ms", "status v0 --json --flows --for 200ms"] {
            let status = document(&format!("{line} --runtime-dir {runtime}"));
            keeps_to("status", &status);
            assert_eq!(status["source"], "self");
            assert_eq!(status["nics"][0]["name"], "v0");
            assert!(status["cost"]["cpu_share"].as_f64().is_some_and(|share| share > 0.0));
        }
        let findings = document("doctor v0 --json");
        keeps_to("doctor", &findings);
        assert!(findings.as_array().is_some_and(|all| all.len() > 5), "{findings}");
        keeps_to("plan", &document("plan v0 --json --for 200ms"));
    });
}
