use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use super::findings::*;
use super::{Finding, Format, Mark, http_date, render, summary};
use crate::context::Flags;

const NOW: &str = "2030-01-01T01:00:00Z";

/// The kubeconfig leads to the workspace that is looked from.
fn here(workspace: &str) -> Here {
    Here {
        workspace: workspace.to_owned(),
        flags: Flags(Some(workspace.to_owned())),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn object(name: &str, conditions: Value) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"kcp.io/cluster": "c", "kcp.io/path": "root:compute"}},
        "status": {"conditions": conditions},
    })
}

fn not(kind: &str, reason: &str) -> Value {
    json!([{"type": kind, "status": "False", "reason": reason, "message": "m",
        "lastTransitionTime": "2030-01-01T00:55:00Z"}])
}

#[rstest]
#[case::same("2030-01-01T01:00:00Z", Mark::Well, "agree")]
#[case::within_the_second("2030-01-01T00:59:59Z", Mark::Well, "agree")]
#[case::bearable("2030-01-01T01:00:04Z", Mark::Well, "agree")]
#[case::we_are_behind("2030-01-01T01:01:00Z", Mark::Bad, "58 s behind the hub")]
#[case::we_are_ahead("2030-01-01T00:59:00Z", Mark::Bad, "59 s ahead of the hub")]
fn clocks_may_differ_by_as_much_as_a_beat_may(
    #[case] date: &str,
    #[case] mark: Mark,
    #[case] says: &str,
) {
    let found = clock(at(date), at(NOW), at("2030-01-01T01:00:02Z"));
    assert_eq!(found.mark, mark, "{found:?}");
    assert!(found.text.contains(says), "{found:?}");
}

#[rstest]
#[case::long("2031-01-01T00:00:00Z", 365, Mark::Well)]
#[case::near("2030-01-03T00:00:00Z", 365, Mark::Note)]
#[case::made_for_a_day_just_now("2030-01-02T00:30:00Z", 1, Mark::Well)]
#[case::made_for_a_day_and_almost_over("2030-01-01T02:00:00Z", 1, Mark::Note)]
#[case::over("2030-01-01T00:30:00Z", 1, Mark::Bad)]
fn the_end_of_a_credential_is_near_by_its_own_measure(
    #[case] ends: &str,
    #[case] days: i64,
    #[case] mark: Mark,
) {
    let whole = SignedDuration::from_hours(24 * days);
    assert_eq!(own_credential(at(ends), whole, at(NOW)).mark, mark);
}

#[rstest]
#[case::silent("Hosted", json!("2030-01-01T00:50:00Z"), "ErrorHeartbeat", "cluster describe east")]
#[case::never_started(
    "External",
    Value::Null,
    "ErrorHeartbeat",
    "sync east | kubectl --kubeconfig <the cluster's> apply"
)]
#[case::orphan("Hosted", Value::Null, "ClusterNotFound", "cluster unregister east")]
#[case::no_kinds("Hosted", Value::Null, "NoAcceptedAPIs", "install them there")]
fn a_target_that_is_not_ready_says_why_and_what_to_do(
    #[case] mode: &str,
    #[case] heard: Value,
    #[case] reason: &str,
    #[case] remedy: &str,
) {
    let mut target = object("east", not("Ready", reason));
    target["spec"]["syncerConfig"]["mode"] = mode.into();
    target["status"]["lastHeartbeatTime"] = heard;
    let found = targets(&[target], &here("root"), at(NOW));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].mark, Mark::Bad);
    assert_eq!(found[0].text, format!("not Ready for 5m: {reason}: m"));
    assert!(found[0].remedy.contains(remedy), "{found:?}");
}

#[test]
fn a_remedy_leads_to_the_workspace_of_the_object_only_if_it_is_another() {
    let target = [object("east", not("Ready", "Other"))];
    let from = |workspace| targets(&target, &here(workspace), at(NOW)).remove(0).remedy;
    assert!(from("root").contains("tmc --workspace root:compute cluster describe"));
    assert!(from("root:compute").contains("tmc cluster describe"));
}

#[test]
fn a_remedy_names_the_workspace_that_the_kubeconfig_does_not_lead_to() {
    let target = [object("east", not("Ready", "Other"))];
    let from = |flags| {
        let workspace = "root:compute".to_owned();
        targets(&target, &Here { workspace, flags }, at(NOW)).remove(0)
    };
    let elsewhere = from(Flags(Some("root:shop".to_owned())));
    assert_eq!(elsewhere.about, "synctarget east");
    let described = "tmc --workspace root:compute cluster describe east";
    assert!(elsewhere.remedy.ends_with(described), "{elsewhere:?}");
    let bare = from(Flags(None));
    assert!(
        bare.remedy.ends_with(": tmc cluster describe east"),
        "{bare:?}"
    );
}

#[test]
fn what_a_hub_is_decides_about_rights_and_about_how_it_is_started() {
    assert_eq!(all_seen(true).text, "you may look at every workspace");
    assert_eq!(all_seen(false).text, "you may look at everything");
    assert!(no_answer(true).contains("tmc start"));
    assert!(no_answer(false).starts_with("start its API server"));
    let remedy = forbidden_on_bare("clusters").remedy;
    assert!(remedy.contains("clusterrolebinding"), "{remedy}");
}

#[test]
fn ready_targets_are_one_line_and_none_at_all_is_worth_knowing() {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let found = targets(
        &[object("a", ready.clone()), object("b", ready)],
        &here("root"),
        at(NOW),
    );
    assert_eq!(found, [Finding::well("synctargets", "2 Ready")]);
    assert_eq!(targets(&[], &here("root"), at(NOW))[0].mark, Mark::Note);
}

#[rstest]
#[case("2030-01-01T00:58:00Z", 0)]
#[case("2030-01-01T00:50:00Z", 1)]
fn a_removal_may_take_its_time_but_not_for_ever(#[case] asked: &str, #[case] found: usize) {
    let mut target = object("east", json!([]));
    target["metadata"]["deletionTimestamp"] = asked.into();
    let mut all = targets(std::slice::from_ref(&target), &here("root"), at(NOW));
    all.retain(|f| f.mark == Mark::Bad);
    assert_eq!(all.len(), found);
    assert_eq!(clusters(&[target], &here("root"), at(NOW)).len(), found);
}

#[rstest]
#[case::secret("CredentialsValid", "SecretNotFound", "cluster register east")]
#[case::network("Connected", "ConnectionTimeout", "network")]
#[case::refused("Connected", "Unauthorized", "cluster register east")]
#[case::certificate("Connected", "TLSError", "certificate")]
#[case::rights("RBACReady", "RBACFailed", "cluster register east")]
#[case::address("Connected", "EndpointForbidden", "start the hub on 127.0.0.1 only")]
#[case::other("Connected", "Other", "cluster describe east")]
fn a_cluster_that_cannot_be_used_names_the_first_gate(
    #[case] gate: &str,
    #[case] reason: &str,
    #[case] remedy: &str,
) {
    let found = clusters(&[object("east", not(gate, reason))], &here("root"), at(NOW));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text, format!("{reason}: m"));
    assert!(found[0].remedy.contains(remedy), "{found:?}");
}

#[test]
fn a_credential_that_ends_soon_is_a_note() {
    let mut cluster = object("east", not("CredentialsCurrent", "ExpiringSoon"));
    cluster["status"]["credentials"]["expirationTime"] = "2030-01-01T03:00:00Z".into();
    let found = clusters(&[cluster], &here("root"), at(NOW));
    assert_eq!(found[0].mark, Mark::Note);
    assert_eq!(found[0].text, "its credential ends in 120m");
}

#[rstest]
#[case(
    "LocationForbidden",
    "workspace grant root:far --workspace root:compute --role use"
)]
#[case("NoValidTarget", "tmc --workspace root:far get targets")]
#[case("ScheduleLocationNotFound", "spec.locationSelectors")]
fn a_placement_without_a_place_says_why_and_what_to_do(#[case] reason: &str, #[case] remedy: &str) {
    let mut placement = object("p", not("Scheduled", reason));
    placement["spec"]["locationWorkspace"] = "root:far".into();
    let placed = object("q", json!([{"type": "Scheduled", "status": "True"}]));
    let found = placements(&[placement, placed], &here("root"));
    assert_eq!(found[0], Finding::well("placements", "1 placed"));
    assert_eq!(found[1].about, "placement root:compute/p");
    assert!(found[1].remedy.contains(remedy), "{found:?}");
}

#[test]
fn objects_that_wait_for_a_lost_target_are_counted_and_named() {
    let east = object("east", not("Ready", "ErrorHeartbeat"));
    let west = object("west", json!([{"type": "Ready", "status": "True"}]));
    let both = [east, west];
    let lost = lost(&both);
    assert_eq!(lost.len(), 1);
    let key = lost.keys().next().expect("one").clone();
    let held = |name: &str, deleting: bool, key: &str| {
        let mut held = object(name, json!([]));
        held["metadata"]["namespace"] = "shop".into();
        held["metadata"]["finalizers"] = json!([format!("workload.kcp.io/syncer-{key}")]);
        if deleting {
            held["metadata"]["deletionTimestamp"] = NOW.into();
        }
        ("deployments".to_owned(), held)
    };
    let objects = [
        held("a", true, &key),
        held("b", true, &key),
        held("c", true, &key),
        held("d", true, &key),
        held("stays", false, &key),
        held("elsewhere", true, "OTHER"),
    ];
    let found = stuck(&objects, &lost, &here("root"));
    assert_eq!(found.len(), 1);
    assert!(found[0].text.starts_with(
        "holds up the deletion of deployments/a in namespace shop of workspace root:compute,"
    ));
    assert!(found[0].text.ends_with("and 1 more"), "{found:?}");
    assert!(found[0].remedy.contains("cluster unregister east --force"));
}

#[test]
fn workload_controllers_leave_signs() {
    let idle = object("web", json!([]));
    assert_eq!(workload_controllers(std::slice::from_ref(&idle), &[]), None);
    let mut revised = idle.clone();
    revised["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1".into();
    let found = workload_controllers(&[revised], &[]).expect("a sign");
    assert!(found.text.contains("deployment web") && found.remedy.contains("--controllers="));
    let mut owned = idle;
    owned["metadata"]["ownerReferences"] =
        json!([{"kind": "Deployment", "name": "web", "controller": true}]);
    assert!(workload_controllers(&[], &[owned]).is_some());
}

#[test]
fn a_location_without_a_usable_target_is_worth_knowing() {
    let mut location = object("eu", json!([]));
    location["status"] = json!({"instances": 2, "availableInstances": 0});
    let found = locations(&[location.clone()], &here("root:compute"));
    assert_eq!(found[0].about, "location eu");
    location["status"]["availableInstances"] = 1.into();
    assert_eq!(locations(&[location], &here("root")), []);
}

#[test]
fn a_date_header_is_a_time() {
    assert_eq!(http_date("Tue, 01 Jan 2030 01:00:00 GMT"), Some(at(NOW)));
    assert_eq!(http_date("soon"), None);
}

#[test]
fn the_summary_counts_what_is_wrong() {
    let well = Finding::well("a", "b");
    let bad = Finding::bad("a", "b", "c");
    assert_eq!(summary(std::slice::from_ref(&well)), "All is well.");
    assert_eq!(summary(&[well.clone(), bad.clone()]), "1 thing is wrong.");
    assert_eq!(summary(&[bad.clone(), bad.clone()]), "2 things are wrong.");
    let text = render(Format::Table, &[well, bad]).expect("text");
    assert_eq!(text, "✓   a   b\n✗   a   b → c\n\n1 thing is wrong.");
}

#[test]
fn the_remedy_for_a_lacking_kubeconfig_is_given_once() {
    let told = no_kubeconfig("no kubeconfig: name one with --kubeconfig".to_owned());
    assert_eq!(told.remedy, "");
    let other = no_kubeconfig("x is no kubeconfig".to_owned());
    assert!(other.remedy.contains("--kubeconfig"));
}
