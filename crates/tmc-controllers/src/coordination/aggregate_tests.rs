use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::super::kinds::{Polarity, polarity, presence};
use super::*;

const EARLY: &str = "2030-01-01T00:00:00Z";
const LATE: &str = "2030-01-01T00:01:00Z";

fn now() -> Timestamp {
    "2030-01-01T01:00:00Z".parse().unwrap()
}

fn resource(name: &str) -> GroupResource {
    let group = match name {
        "deployments" | "statefulsets" | "daemonsets" | "replicasets" => "apps",
        "jobs" | "cronjobs" => "batch",
        "ingresses" => "networking.k8s.io",
        "widgets" => "example.com",
        _ => "",
    };
    GroupResource::new(group, name)
}

/// Reports as JSON: null is a missing one, `{"lost": …}` one of a lost target, everything else is
/// heard.
fn report(value: &Value) -> Report<'_> {
    match value.get("lost") {
        None if value.is_null() => Report::Missing,
        None => Report::Heard(value),
        Some(last) => Report::Lost {
            last: Some(last).filter(|last| !last.is_null()),
            since: Some(Time::new(EARLY.parse().unwrap())),
        },
    }
}

fn status(name: &str, reports: &Value, previous: &Value) -> Value {
    let reports: Vec<Report<'_>> = reports.as_array().unwrap().iter().map(report).collect();
    let previous = Some(previous).filter(|previous| !previous.is_null());
    let resource = resource(name);
    aggregate(&resource, presence(&resource), &reports, previous, now()).unwrap_or_default()
}

#[rstest]
#[case::deployments("deployments",
    json!([{"replicas": 3, "readyReplicas": 2, "unavailableReplicas": 1, "observedGeneration": 4, "collisionCount": 1},
           {"replicas": 2, "readyReplicas": 2, "observedGeneration": 3}]),
    json!({"replicas": 5, "readyReplicas": 4, "unavailableReplicas": 1, "observedGeneration": 3}))]
#[case::nothing_is_observed_while_one_has_not_reported("deployments",
    json!([{"replicas": 3, "observedGeneration": 4}, null]),
    json!({"replicas": 3}))]
#[case::one_that_does_not_say_what_it_observed("deployments",
    json!([{"replicas": 3, "observedGeneration": 4}, {"replicas": 1}]),
    json!({"replicas": 4}))]
#[case::the_figures_of_a_lost_one_do_not_count("deployments",
    json!([{"replicas": 3, "observedGeneration": 4}, {"lost": {"replicas": 2, "observedGeneration": 3}}]),
    json!({"replicas": 3, "observedGeneration": 3}))]
#[case::figures_stay_if_all_are_lost("widgets",
    json!([{"lost": {"replicas": 3}}, {"lost": {"replicas": 3}}]),
    json!({"replicas": 3}))]
#[case::nobody_counts_below_zero_or_beyond_what_a_counter_holds("deployments",
    json!([{"replicas": -7, "readyReplicas": 2_147_483_647, "updatedReplicas": "many"}, {"replicas": 2, "readyReplicas": 9_000_000_000_000_000_000_i64}]),
    json!({"replicas": 2, "readyReplicas": 2_147_483_647, "updatedReplicas": 0}))]
#[case::required_counters_are_there("daemonsets",
    json!([{"numberReady": 1}, null]),
    json!({"numberReady": 1, "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0}))]
#[case::stateful_sets("statefulsets",
    json!([{"replicas": 1, "currentRevision": "a", "updateRevision": "b"}, {"replicas": 2, "currentRevision": "a", "updateRevision": "c"}]),
    json!({"replicas": 3, "currentRevision": "a"}))]
#[case::a_job_is_over_when_all_are("jobs",
    json!([{"succeeded": 1, "startTime": LATE, "completionTime": LATE}, {"active": 1, "startTime": EARLY}]),
    json!({"succeeded": 1, "active": 1, "startTime": EARLY}))]
#[case::a_job_that_is_over("jobs",
    json!([{"completionTime": EARLY}, {"completionTime": LATE}]),
    json!({"completionTime": LATE}))]
#[case::cron_jobs("cronjobs",
    json!([{"lastScheduleTime": LATE, "active": [{"name": "b"}]}, {"lastScheduleTime": EARLY, "active": [{"name": "a"}, {"name": "b"}]}]),
    json!({"lastScheduleTime": LATE, "active": [{"name": "a"}, {"name": "b"}]}))]
#[case::services("services",
    json!([{"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}]}}, {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}]}}]),
    json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}]}}))]
#[case::services_without_an_address("services",
    json!([{"loadBalancer": {}}, {"loadBalancer": {}}]),
    json!({"loadBalancer": {}}))]
#[case::ingresses("ingresses",
    json!([{"loadBalancer": {}}, {"loadBalancer": {"ingress": [{"hostname": "a"}]}}]),
    json!({"loadBalancer": {"ingress": [{"hostname": "a"}]}}))]
#[case::the_worst_phase("persistentvolumeclaims",
    json!([{"phase": "Bound", "capacity": {"storage": "1Gi"}}, {"phase": "Lost", "capacity": {"storage": "2Gi"}}]),
    json!({"phase": "Lost", "capacity": {}}))]
#[case::a_claim_that_is_not_reported_is_pending("persistentvolumeclaims",
    json!([{"phase": "Bound"}, null]),
    json!({"phase": "Pending"}))]
#[case::an_unknown_phase_is_the_worst("persistentvolumeclaims",
    json!([{"phase": "Bound"}, {"phase": "Odd"}, {"phase": "Lost"}]),
    json!({"phase": "Odd"}))]
#[case::other_kinds_that_agree("widgets",
    json!([{"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}]),
    json!({"a": {"b": [1, 2]}}))]
#[case::other_kinds_that_do_not("widgets",
    json!([{"a": {"b": 1, "c": 2}, "d": [1], "e": 1}, {"a": {"b": 1, "c": 3}, "d": [2]}]),
    json!({"a": {"b": 1}}))]
#[case::what_is_no_object_is_no_status("widgets",
    json!(["text", {"a": 1}]),
    json!({"a": 1}))]
fn fields_of_several_places_become_one(
    #[case] name: &str,
    #[case] reports: Value,
    #[case] expected: Value,
) {
    assert_eq!(status(name, &reports, &json!(null)), expected);
}

#[test]
fn a_single_place_that_is_heard_is_taken_at_its_word() {
    let odd =
        json!({"replicas": -1, "conditions": [{"type": "Available", "status": "True"}], "x": null});
    assert_eq!(
        status("deployments", &json!([odd]), &json!({"replicas": 5})),
        odd
    );
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": EARLY})
}

fn said(kind: &str, status: &str) -> Value {
    json!({"conditions": [condition(kind, status, "R", "m")]})
}

/// What is said of the condition in one word each (`-` says nothing of it, `missing` did not
/// report, `lost:…` is lost and said so before) and what follows: status, reason and message.
#[rstest]
#[case("Available", "True True", "True R: m")]
#[case("Available", "True False", "False R: 1 of 2 places: R: m")]
#[case("Available", "False False True", "False R: 2 of 3 places: R: m")]
#[case(
    "Available",
    "True missing",
    "Unknown NotReported: 1 of 2 places: NotReported: not reported yet"
)]
#[case("Available", "False missing", "False R: 1 of 2 places: R: m")]
#[case(
    "Available",
    "True -",
    "Unknown NotReported: 1 of 2 places: NotReported: not reported yet"
)]
#[case(
    "Available",
    "True lost:True",
    "Unknown TargetLost: 1 of 2 places: TargetLost: not heard from since 2030-01-01T00:00:00Z"
)]
#[case("Available", "False lost:True", "False R: 1 of 2 places: R: m")]
#[case(
    "Available",
    "lost:True",
    "Unknown TargetLost: not heard from since 2030-01-01T00:00:00Z"
)]
#[case(
    "Available",
    "lost:True lost:False",
    "Unknown TargetLost: not heard from since 2030-01-01T00:00:00Z"
)]
#[case(
    "Ready",
    "lost:True missing",
    "Unknown NotReported: 1 of 2 places: NotReported: not reported yet; 1 of 2 places: TargetLost: not heard from since 2030-01-01T00:00:00Z"
)]
#[case("ReplicaFailure", "True -", "True R: 1 of 2 places: R: m")]
#[case("ReplicaFailure", "False -", "False R: 1 of 2 places: R: m")]
#[case(
    "ReplicaFailure",
    "False missing",
    "Unknown NotReported: 1 of 2 places: NotReported: not reported yet"
)]
#[case("ReplicaFailure", "lost:True", "True R: m")]
#[case("Failed", "True True", "True R: m")]
#[case("Complete", "True True", "True R: m")]
#[case("Complete", "True -", "")]
#[case("Complete", "True lost:True", "True R: m")]
#[case(
    "Complete",
    "True lost:-",
    "Unknown TargetLost: 1 of 2 places: TargetLost: not heard from since 2030-01-01T00:00:00Z"
)]
#[case("Odd", "True True", "True R: m")]
#[case("Odd", "True False", "Unknown R: m")]
#[case("Odd", "Maybe Maybe", "Unknown R: m")]
fn a_condition_of_several_places_becomes_one(
    #[case] kind: &str,
    #[case] words: &str,
    #[case] expected: &str,
) {
    let one = |word: &str| match word {
        "-" => json!({}),
        "missing" => json!(null),
        status => said(kind, status),
    };
    let reports = words
        .split(' ')
        .map(|word| match word.strip_prefix("lost:") {
            Some(word) => json!({"lost": one(word)}),
            None => one(word),
        });
    let merged = status("widgets", &reports.collect(), &json!(null));
    let conditions = merged["conditions"].as_array().unwrap();
    let text = conditions.iter().map(|c| {
        let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(c["type"], kind);
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    });
    assert_eq!(text.collect::<Vec<_>>().join(" | "), expected);
}

/// Type and status of the conditions that follow; of the live ones that name the loss, marked.
#[rstest]
#[case::deployments("deployments", json!([{"lost": {"replicas": 3}}]), "Available=Unknown!")]
#[case::stateful_sets("statefulsets", json!([{"lost": {"replicas": 3, "readyReplicas": 3}}]), "Available=Unknown!")]
#[case::daemon_sets("daemonsets", json!([{"lost": {"numberReady": 3}}, {"lost": {"numberReady": 1}}]), "Available=Unknown!")]
#[case::one_that_is_lost_and_one_that_never_spoke("daemonsets", json!([{"lost": {"numberReady": 3}}, null]), "Available=Unknown")]
#[case::one_is_heard("statefulsets", json!([{"lost": {"replicas": 3}}, {"replicas": 1}]), "")]
#[case::replica_sets("replicasets", json!([{"lost": said("ReplicaFailure", "True")}]), "Available=Unknown! ReplicaFailure=True")]
#[case::claims("persistentvolumeclaims", json!([{"lost": {"phase": "Bound"}}]), "Ready=Unknown!")]
#[case::services("services", json!([{"lost": {"loadBalancer": {}}}]), "Ready=Unknown!")]
#[case::a_job_that_runs("jobs", json!([{"lost": {"active": 1}}]), "Ready=Unknown!")]
#[case::a_job_that_is_done("jobs", json!([{"lost": said("Complete", "True")}]), "Complete=True")]
#[case::a_job_that_failed("jobs", json!([{"lost": said("Failed", "True")}]), "Failed=True")]
#[case::said_by_its_own("deployments", json!([{"lost": said("Progressing", "True")}]), "Progressing=Unknown!")]
#[case::no_conditions("ingresses", json!([{"lost": {"loadBalancer": {}}}]), "")]
#[case::a_kind_of_others("widgets", json!([{"lost": {"ready": true}}]), "")]
fn a_loss_is_told_of_every_kind_that_has_conditions(
    #[case] name: &str,
    #[case] reports: Value,
    #[case] expected: &str,
) {
    let merged = status(name, &reports, &json!(null));
    let conditions = merged["conditions"].as_array().cloned().unwrap_or_default();
    let words = conditions.iter().map(|c| {
        let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
        let mark = if text("reason") == "TargetLost" {
            "!"
        } else {
            ""
        };
        format!("{}={}{mark}", text("type"), text("status"))
    });
    assert_eq!(words.collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn what_most_say_comes_first_and_nobody_is_named() {
    let say = |reason: &str| json!({"conditions": [condition("Available", "False", reason, "")]});
    let merged = status(
        "deployments",
        &json!([say("B"), say("A"), say("B"), say("C")]),
        &json!(null),
    );
    let expected = "2 of 4 places: B; 1 of 4 places: A; 1 of 4 places: C";
    assert_eq!(merged["conditions"][0]["message"], expected);
    assert_eq!(merged["conditions"][0]["reason"], "B");
}

#[test]
fn a_transition_time_moves_with_the_status_alone() {
    let time = |reports: Value, before: Value| {
        let previous = json!({"conditions": [before]});
        status("deployments", &reports, &previous)["conditions"][0]["lastTransitionTime"].clone()
    };
    let reports = json!([said("Available", "True"), said("Available", "True")]);
    let mut before = condition("Available", "True", "Other", "text");
    before["lastTransitionTime"] = LATE.into();
    assert_eq!(
        time(reports.clone(), before.clone()),
        LATE,
        "the same status"
    );
    before["status"] = "False".into();
    assert_eq!(
        time(reports, before.clone()),
        EARLY,
        "as the places have it"
    );
    let lost = json!([said("Available", "True"), {"lost": said("Available", "True")}]);
    assert_eq!(
        time(lost.clone(), before.clone()),
        "2030-01-01T01:00:00Z",
        "it is new"
    );
    before["status"] = "Unknown".into();
    assert_eq!(time(lost, before), LATE);
}

#[test]
fn other_times_and_generations_of_a_condition_are_kept_in_order() {
    let with = |time: &str, generation: i64, extra: i64| {
        let mut condition = condition("Progressing", "True", "R", "m");
        condition["lastUpdateTime"] = time.into();
        condition["observedGeneration"] = generation.into();
        condition["extra"] = extra.into();
        json!({"conditions": [condition]})
    };
    let merged = status(
        "deployments",
        &json!([with(EARLY, 3, 1), with(LATE, 2, 2)]),
        &json!(null),
    );
    let condition = &merged["conditions"][0];
    assert_eq!(condition["lastUpdateTime"], LATE);
    assert_eq!(condition["observedGeneration"], 2);
    assert_eq!(condition.get("extra"), None);
}

#[test]
fn without_any_report_there_is_nothing_to_say() {
    for reports in [
        json!([]),
        json!([null, null]),
        json!([null, {"lost": null}]),
        json!(["text", null]),
    ] {
        assert_eq!(
            status("statefulsets", &reports, &well()),
            json!(null),
            "{reports}"
        );
    }
}

fn well() -> Value {
    json!({"replicas": 3, "conditions": [condition("Available", "True", "R", "m")]})
}

#[test]
fn a_long_message_is_cut() {
    let long = "ä".repeat(5000);
    let say =
        |message: &str| json!({"conditions": [condition("Available", "False", "R", message)]});
    let merged = status("deployments", &json!([say(&long), say("m")]), &json!(null));
    let message = merged["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message.chars().count(), 1024);
}

#[test]
fn every_condition_that_is_about_the_present_is_good_news() {
    for kind in ["Available", "Progressing", "Ready"] {
        assert_eq!(polarity(kind), Polarity::Good);
    }
}

fn any_condition() -> impl Strategy<Value = Value> + Clone {
    let kinds = [
        "Available",
        "Progressing",
        "ReplicaFailure",
        "Complete",
        "Odd",
    ];
    let times = [EARLY, LATE];
    (
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(vec!["True", "False", "Unknown"]),
        prop::sample::select(vec!["A", "B", ""]),
        prop::sample::select(times.to_vec()),
    )
        .prop_map(|(kind, status, reason, time)| {
            json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": time})
        })
}

fn any_report() -> impl Strategy<Value = Value> {
    let status = (
        prop::option::of(-1_i64..5),
        prop::option::of(0_i64..3),
        prop::collection::btree_map(0_u8..5, any_condition(), 0..4),
        prop::option::of(prop::sample::select(vec!["x", "y"])),
    )
        .prop_map(|(replicas, generation, conditions, other)| {
            let mut status = json!({});
            if let Some(replicas) = replicas {
                status["replicas"] = replicas.into();
            }
            if let Some(generation) = generation {
                status["observedGeneration"] = generation.into();
            }
            if let Some(other) = other {
                status["other"] = json!({"a": other, "list": [{"ip": other}]});
            }
            if !conditions.is_empty() {
                // One of a type, as an API server has it.
                let mut seen = BTreeSet::new();
                let all = conditions.into_values();
                let kept = all.filter(|c| seen.insert(c["type"].to_string()));
                status["conditions"] = kept.collect();
            }
            status
        });
    prop_oneof![
        1 => Just(json!(null)),
        4 => status.clone(),
        1 => status.prop_map(|status| json!({"lost": status})),
    ]
}

fn any_kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "deployments",
        "daemonsets",
        "jobs",
        "services",
        "persistentvolumeclaims",
        "widgets",
    ])
}

proptest! {
    #[test]
    fn the_order_of_reports_does_not_matter(
        kind in any_kind(),
        (reports, shuffled) in prop::collection::vec(any_report(), 0..6)
            .prop_flat_map(|reports| (Just(reports.clone()), Just(reports).prop_shuffle())),
        previous in any_report().prop_filter("no loss", |report| report.get("lost").is_none()),
    ) {
        prop_assert_eq!(
            status(kind, &json!(reports), &previous),
            status(kind, &json!(shuffled), &previous)
        );
    }

    #[test]
    fn a_second_pass_changes_nothing_at_any_later_time(
        kind in any_kind(), reports in prop::collection::vec(any_report(), 1..6),
        previous in any_report().prop_filter("no loss", |report| report.get("lost").is_none()),
    ) {
        let once = status(kind, &json!(reports), &previous);
        let reports: Vec<Report<'_>> = reports.iter().map(report).collect();
        let later = "2031-01-01T00:00:00Z".parse().unwrap();
        let kind = resource(kind);
        let before = Some(&once).filter(|status| !status.is_null());
        let again = aggregate(&kind, presence(&kind), &reports, before, later);
        prop_assert_eq!(again.unwrap_or_default(), once);
    }

    #[test]
    fn nothing_is_available_while_a_place_is_silent(
        reports in prop::collection::vec(any_report(), 2..6),
    ) {
        let merged = status("deployments", &json!(reports), &json!(null));
        let conditions = merged["conditions"].as_array().cloned().unwrap_or_default();
        let available = conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True");
        let all = reports.iter().all(|report| {
            let said = report["conditions"].as_array().cloned().unwrap_or_default();
            said.iter().any(|c| c["type"] == "Available" && c["status"] == "True")
        });
        prop_assert_eq!(available, all);
    }
}
