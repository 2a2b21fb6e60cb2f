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
fn another_cpu_lowers_the_cap_where_queues_outnumber_cpus() {
    // Two queues on CPU 0, which consumes all 20: nothing to pay under a cap of 1.1 * 20 / 1.
    let mut document = with("/consumed", json!([[10.0, 0.0], [10.0, 0.0]]));
    document["current"]["affinity"] = json!([0, 0]);
    document["allowed_cpus"] = json!([0]);
    let objective = |document: &Value| solve(document).expect("a problem").cost.total();
    assert!(objective(&document).abs() < 1e-12);
    // CPU 1 may be used as well, and the cap is 1.1 * 20 / 2 = 11: staying costs 8 * 9 = 72, moving an
    // interrupt 10 for distance and 0.2 * 0.5 * 10 for the move. No plan costs less than 11.
    document["allowed_cpus"] = json!([0, 1]);
    assert!((objective(&document) - 11.0).abs() < 1e-9);
    // With a cap that stays, so does the plan.
    document["cap"] = json!(22.0);
    assert!(objective(&document).abs() < 1e-12);
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
        ("/buckets", json!(0), "buckets: there is none, at least one is needed"),
        ("/buckets", json!(3), "current.table has 2 entries, 3 are needed"),
        ("/queues", json!(0), "queues: there is none"),
        ("/allowed_cpus", json!([]), "allowed_cpus: there is none"),
        ("/allowed_cpus", json!([0, 2]), "allowed_cpus[1] is CPU 2: there are 2, from 0 on"),
        (
            "/allowed_cpus",
            json!([1, 1]),
            "allowed_cpus[1] is CPU 1 a second time: each is named once",
        ),
        ("/current/affinity", json!([0, 9]), "current.affinity[1] is CPU 9: there are 2"),
        ("/current/affinity", json!([0]), "current.affinity has 1 entries, 2 are needed"),
        ("/distance", json!([[0.0, 1.0]]), "distance has 1 entries, 2 are needed"),
        ("/distance/1", json!([0.0]), "distance[1] has 1 entries, 2 are needed"),
        ("/distance/0/1", json!(-1.0), "distance[0][1] is -1"),
        ("/consumed/1/0", json!(1e19), "consumed[1][0] is 1"),
        ("/load/0", json!(-0.5), "load[0] is -0.5"),
        ("/load", json!([1.0]), "load has 1 entries, 2 are needed"),
        ("/eps", json!(-0.1), "eps is -0.1"),
        ("/lambda_load", json!("8"), "lambda_load: invalid type: string \"8\", expected a number"),
        ("/lambda_move", json!(null), "lambda_move: invalid type: null, expected a number"),
        (
            "/max_table_changes",
            json!(-1),
            "max_table_changes: invalid value: integer `-1`, expected a whole number from 0 on",
        ),
        ("/allowed_cpus/1", json!(-1), "allowed_cpus[1]: invalid value: integer `-1`"),
        ("/current/table/0", json!(0.5), "current.table[0]: invalid type: floating point `0.5`"),
        (
            "/consumed/1/0",
            json!("x"),
            "consumed[1][0]: invalid type: string \"x\", expected a number",
        ),
        (
            "/buckets",
            json!(4_000_000_000u64),
            "consumed: 4000000000 times 2 is too large (at most 16777216)",
        ),
    ] {
        let error = solve(&with(pointer, value)).expect_err(pointer).to_string();
        assert!(error.contains(says), "{pointer}: {error}");
    }
    let whole = crossed().to_string();
    for (text, says) in [
        (whole.replace("0.1", "NaN"), "eps: expected a value; NaN and Infinity are none"),
        (whole.replace("0.1", "1e999"), "eps: number out of range"),
        (whole.replace("0.1", &"[".repeat(5000)), "eps: "),
        (whole[..whole.len() / 2].to_owned(), "EOF while parsing"),
        (format!("{whole} {{}}"), "trailing characters"),
        (String::new(), "EOF while parsing"),
        ("[".repeat(100_000), "invalid type: list, expected an object"),
        (whole.replace("\"kappa\":0.5,", ""), "missing field `kappa`"),
    ] {
        let error = ProblemFile::parse(&text).expect_err(says).to_string();
        assert!(error.contains(says), "{error} instead of {says}");
    }
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
