//! The fleet benchmark with numbers so small that they say nothing: each of its parts still runs, and
//! measures each of its rows.

use std::process::Command;

use serde_json::Value;

/// Times that are long enough to see something happen.
const SHORT: [&str; 8] = [
    "--settle",
    "0",
    "--idle",
    "0",
    "--beat",
    "1",
    "--black-hole-window",
    "5",
];

/// The rows of a part.
fn rows(part: &str, numbers: &[&str]) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("numbers.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tmc-bench"));
    bench.args(["fleet", "--only", part]).args(SHORT);
    let output = bench.args(numbers).arg("--json").arg(&file).output();
    let output = output.expect("the benchmark starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let written = std::fs::read(&file).expect("the numbers are written");
    let mut written: Value = serde_json::from_slice(&written).expect("JSON");
    match written["rows"].take() {
        Value::Array(rows) => rows,
        other => panic!("no rows: {other}"),
    }
}

/// The only row of a part.
fn row(part: &str, numbers: &[&str]) -> Value {
    let rows = rows(part, numbers);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

/// A number of a row. What is not a number (NaN) is written as null.
fn number(row: &Value, path: &str) -> f64 {
    let found = row["raw"].pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{path} is no number: {row:#}"))
}

/// Numbers of a row that cannot be zero.
#[track_caller]
fn assert_positive(row: &Value, paths: &[&str]) {
    for path in paths {
        assert!(number(row, path) > 0.0, "{path}: {row:#}");
    }
}

#[test]
fn every_row_of_targets_is_measured() {
    let rows = rows("targets", &["--targets", "20", "--quiet", "1"]);
    let named = |name: &str| {
        let name = format!("20 targets: {name}");
        let found = rows.iter().find(|row| {
            let row = row["row"].as_str().unwrap_or_default();
            row.starts_with(&name)
        });
        found.unwrap_or_else(|| panic!("no row {name}: {rows:#?}"))
    };
    assert_positive(named("start"), &["/made_s", "/ready_s", "/watches_each"]);
    let memory = named("memory each");
    assert!(number(memory, "/kib_each").is_finite());
    assert_positive(
        memory,
        &["/before/rss_kb", "/sessions/rss_kb", "/with/rss_kb"],
    );
    for (name, of_zero) in [
        ("persisted writes", "/writes"),
        ("processor time", "/processor_s"),
    ] {
        assert!(number(named(name), of_zero) >= 0.0);
        assert_positive(named(name), &["/window_s"]);
    }
    for (name, agents) in [
        ("silence of a tenth to NotReady", 2.0),
        ("silence of all to NotReady", 20.0),
        ("all back at once to Ready", 20.0),
    ] {
        assert_eq!(number(named(name), "/count"), agents, "{name}");
        assert_positive(named(name), &["/p50_ms", "/p99_ms", "/max_ms"]);
    }
    assert_eq!(rows.len(), 7, "{rows:#?}");
}

#[test]
fn the_scheduling_of_placements_is_measured() {
    let numbers = ["--placements", "50", "--placement-targets", "20"];
    let row = row("placements", &numbers);
    assert_positive(&row, &["/made_s", "/took_s"]);
    assert!(number(&row, "/writes") >= 50.0, "{row:#}");
}

#[test]
fn passes_of_controllers_are_measured() {
    let row = row("objects", &["--objects", "200", "--more-objects", "100"]);
    assert_positive(&row, &["/filled_s"]);
    let controllers = row["raw"]["by_controller"]
        .as_object()
        .expect("controllers");
    let measured = controllers.values().filter(|one| {
        let some = |field: &str| one[field].as_f64().is_some_and(|number| number > 0.0);
        some("passes") && some("p50_ms") && some("p99_ms")
    });
    assert!(measured.count() > 0, "{row:#}");
}

#[test]
fn looks_at_clusters_beside_black_holes_are_measured() {
    let row = row("black-holes", &["--black-holes", "3"]);
    assert_positive(&row, &["/beside_s", "/alone_s"]);
}
