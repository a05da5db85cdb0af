//! Seeds that every change has to pass, and the proof that a seed replays.

use std::time::Duration;

use parking_lot::Mutex;
use rstest::rstest;

use super::run::{Outcome, Plan, run};
use super::{EVENTS, each, report, watchdog};

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        loud: false,
        events: EVENTS,
        quiet: Duration::from_secs(600),
    }
}

/// Where two runs of one seed part.
fn difference(one: &Outcome, two: &Outcome) -> String {
    let pairs = one.log.iter().zip(&two.log);
    match pairs.into_iter().find(|(a, b)| a != b) {
        Some((a, b)) => format!(
            "revision {}: {} {}\n     and {}: {} {}",
            a.revision,
            a.key,
            watchdog::change(a),
            b.revision,
            b.key,
            watchdog::change(b)
        ),
        None => format!("{} and {} revisions", one.log.len(), two.log.len()),
    }
}

#[rstest]
#[case::without_faults(Plan { events: 0, ..plan(0) })]
#[case::in_a_storm(plan(4))]
fn a_seed_replays_exactly(#[case] plan: Plan) {
    let runs = Mutex::new(Vec::new());
    each(0..2, 1, |_| {
        let outcome = run(&plan);
        runs.lock().push(outcome);
    })
    .unwrap();
    let runs = runs.into_inner();
    let (one, two) = (&runs[0], &runs[1]);
    assert!(one.wrong.is_empty(), "{}", report(plan.seed, one));
    assert!(one.log.len() > 50);
    assert_eq!(one.hash, two.hash, "{}", difference(one, two));
}

#[test]
fn another_seed_is_another_run() {
    let hashes = Mutex::new(Vec::new());
    each(1..3, 1, |seed| {
        let outcome = run(&Plan {
            events: 5,
            quiet: Duration::ZERO,
            ..plan(seed)
        });
        hashes.lock().push(outcome.hash);
    })
    .unwrap();
    let hashes = hashes.into_inner();
    assert_ne!(hashes[0], hashes[1]);
}

/// How many seeds one case runs.
const SHARD: u64 = 50;

#[rstest]
fn after_every_storm_the_fleet_comes_to_rest(#[values(0, 1, 2, 3)] shard: u64) {
    let failed = Mutex::new(Vec::new());
    each(shard * SHARD..(shard + 1) * SHARD, 1, |seed| {
        let outcome = run(&plan(seed));
        if !outcome.wrong.is_empty() {
            failed.lock().push(report(seed, &outcome));
        }
    })
    .unwrap();
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
