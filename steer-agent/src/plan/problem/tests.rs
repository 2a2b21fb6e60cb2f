//! A worked document, every error, and text that is none.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::solve::{Budget, Workspace};
use super::*;

/// Two crossed buckets: each is consumed where the other is polled.
fn crossed() -> Value {
    json!({
        "format": 1, "buckets": 2, "queues": 2, "cpus": 2, "allowed_cpus": [0, 1],
        "current": { "table": [0, 1], "affinity": [0, 1] },
        "eps": 0.1, "lambda_load": 8.0, "lambda_move": 0.2, "kappa": 0.5,
        "max_table_changes": null, "max_affinity_changes": null,
        "distance": [[0.0, 1.0], [1.0, 0.0]],
        "consumed": [[0.0, 10.0], [10.0, 0.0]],
        "load": [10.0, 10.0]
    })
}

fn solve(document: &Value) -> Result<Solution, ProblemError> {
    let problem = ProblemFile::parse(&document.to_string())?.problem()?;
    let mut workspace = Workspace::default();
    let mut solution = workspace.solve(&problem, &Budget::THOROUGH, 1, &mut || true);
    solution.bound = workspace.bound(&problem, &solution, Budget::BOUND_STEPS);
    Ok(solution)
}

/// `document` with `value` at `pointer`.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = crossed();
    *document.pointer_mut(pointer).expect("a field of the document") = value;
    document
}

#[test]
fn a_worked_document() {
    // Exchanging the two interrupts aligns all 20 packets for 0.2 * 0.5 * 20 = 2; exchanging the
    // entries would cost 0.2 * 20 = 4, and leaving things as they are 20.
    let solution = solve(&crossed()).expect("a problem");
    assert_eq!((solution.table.clone(), solution.affinity.clone()), (vec![0, 1], vec![1, 0]));
    let plan = PlanFile::new(&solution, 7);
    assert!((plan.objective - 2.0).abs() < 1e-12, "{plan:?}");
    assert!((plan.distance + plan.overload + plan.moved - plan.objective).abs() < 1e-12);
    assert!(plan.bound.is_some_and(|bound| bound <= 2.0));
    // Where no interrupt may move, the entries change places.
    let solution = solve(&with("/max_affinity_changes", json!(0))).expect("a problem");
    assert_eq!((solution.table, solution.affinity), (vec![1, 0], vec![0, 1]));
}

#[test]
fn stale_entries_are_repaired_and_counted() {
    let mut document = with("/current/table", json!([0, 4_000_000_000u64]));
    document["max_table_changes"] = json!(0);
    let solution = solve(&document).expect("a problem");
    assert!(solution.table[1] < 2, "{solution:?}");
    assert_eq!(solution.table[0], 0, "no other entry may change");
}

#[test]
fn every_mistake_has_its_sentence() {
    for (pointer, value, says) in [
        ("/format", json!(2), "this steer reads format 1"),
        ("/buckets", json!(0), "buckets is empty"),
        ("/buckets", json!(3), "current.table has 2 entries, 3 are needed"),
        ("/queues", json!(0), "queues is empty"),
        ("/allowed_cpus", json!([]), "allowed_cpus is empty"),
        ("/allowed_cpus", json!([0, 2]), "allowed_cpus names CPU 2: there are fewer CPUs"),
        ("/allowed_cpus", json!([1, 1]), "allowed_cpus names CPU 1: a second time"),
        ("/current/affinity", json!([0, 9]), "current.affinity names CPU 9"),
        ("/current/affinity", json!([0]), "current.affinity has 1 entries, 2 are needed"),
        ("/distance", json!([[0.0, 1.0]]), "distance has 1 entries, 2 are needed"),
        ("/distance/1", json!([0.0]), "distance[1] has 1 entries, 2 are needed"),
        ("/distance/0/1", json!(-1.0), "distance[0][1] is -1"),
        ("/consumed/1/0", json!(1e19), "consumed[1][0] is 1"),
        ("/load/0", json!(-0.5), "load[0] is -0.5"),
        ("/load", json!([1.0]), "load has 1 entries, 2 are needed"),
        ("/eps", json!(-0.1), "eps is -0.1"),
        ("/lambda_load", json!("8"), "invalid type: string"),
        ("/lambda_move", json!(null), "invalid type: null"),
        ("/max_table_changes", json!(-1), "not a planning problem"),
    ] {
        let error = solve(&with(pointer, value)).expect_err(pointer).to_string();
        assert!(error.contains(says), "{pointer}: {error}");
    }
    let text = crossed().to_string().replace("0.1", "NaN");
    assert!(ProblemFile::parse(&text).is_err());
    let text = crossed().to_string().replace("0.1", "1e999");
    assert!(ProblemFile::parse(&text).is_err());
    let mut document = crossed();
    document.as_object_mut().expect("an object").remove("eps");
    assert!(solve(&document).expect_err("no cap").to_string().contains("neither eps nor cap"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = ProblemFile::parse(&text);
    }

    #[test]
    fn no_document_makes_it_panic(
        field in 0usize..17,
        value in prop_oneof![
            Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!("x")),
            Just(json!([[1.0]])), Just(json!(u64::MAX)), Just(json!(f64::MAX)),
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(|number| json!(number)),
            prop::collection::vec(any::<u32>(), 0..4).prop_map(|list| json!(list)),
        ],
    ) {
        let mut document = crossed();
        let fields = document.as_object_mut().expect("an object");
        let name = fields.keys().nth(field % fields.len()).expect("a field").clone();
        fields.insert(name, value);
        let _ = solve(&document);
    }
}
