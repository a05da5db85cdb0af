//! A hub and a member in order, and what is said when one thing of them is not.

use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::hashes::{Locator, SyncTargetLocator, downstream_namespace, sync_target_key};

use super::*;
use crate::sim::snapshot::Work;

const URL: &str = "https://hub/services/syncer/compute/east-1/uid-1";

fn key() -> String {
    sync_target_key("compute", "east-1")
}

fn home() -> Locator {
    Locator {
        sync_target: SyncTargetLocator {
            cluster: "compute".into(),
            name: "east-1".into(),
            uid: "uid-1".into(),
        },
        cluster: "a".into(),
        namespace: "shop".into(),
    }
}

fn conditions(kinds: &[&str]) -> Value {
    let of = |kind: &&str| json!({"type": kind, "status": "True"});
    kinds.iter().map(of).collect()
}

fn target() -> Value {
    json!({
        "kind": "SyncTarget",
        "metadata": {"name": "east-1", "uid": "uid-1", "labels": {
            "internal.workload.kcp.io/key": key(), "location": "east",
        }, "annotations": {"kcp.io/cluster": "compute"}},
        "spec": {"clusterRef": {"name": "east"}},
        "status": {
            "phase": "Ready", "virtualWorkspaces": [{"syncerURL": URL}], "virtualWorkspaceURL": URL,
            "allocatable": {"cpu": "4"},
            "conditions": conditions(&["Ready", "ClusterAvailable", "SyncerReady",
                                       "HeartbeatHealthy", "APIAvailable", "SyncerAuthorized"]),
        },
    })
}

fn placement() -> Value {
    let locations =
        json!({"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"});
    json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
        "metadata": {"name": "p", "annotations": {
            "kcp.io/cluster": "a", "internal.workload.kcp.io/synctarget": key(),
        }},
        "spec": {"locationSelectors": [{}], "namespaceSelector": {}, "locationResource": locations},
        "status": {
            "phase": "Bound", "selectedLocation": {"path": "root:compute", "locationName": "east"},
            "syncTargets": [{"cluster": "compute", "name": "east-1", "uid": "uid-1", "key": key()}],
        },
    })
}

fn namespace() -> Value {
    json!({
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {format!("state.workload.kcp.io/{}", key()): "Sync"},
            "annotations": {"kcp.io/cluster": "a", "scheduling.kcp.io/placement": ""}},
    })
}

fn deployment() -> Value {
    json!({
        "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "generation": 4,
            "labels": {format!("state.workload.kcp.io/{}", key()): "Sync"},
            "annotations": {"kcp.io/cluster": "a", ORIGIN: "team-a/shop/web"},
            "finalizers": [format!("workload.kcp.io/syncer-{}", key())],
        },
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": "v1"}]}}},
        "status": {"availableReplicas": 2, "observedGeneration": 4},
    })
}

fn copy() -> Value {
    let mut copy = deployment();
    copy["metadata"] = json!({
        "name": "web", "namespace": downstream_namespace(&home()), "generation": 1,
        "labels": {"internal.workload.kcp.io/cluster": key()},
        "annotations": {ORIGIN: "team-a/shop/web"},
    });
    copy["status"]["observedGeneration"] = 1.into();
    copy
}

fn in_order() -> Snapshot {
    let member_namespace = json!({"metadata": {"name": downstream_namespace(&home()),
        "annotations": {"kcp.io/namespace-locator": home().to_json()}}});
    let member = InMember {
        namespaces: vec![member_namespace],
        work: vec![Work {
            resource: "deployments",
            object: copy(),
        }],
        disturbed: Vec::new(),
    };
    Snapshot {
        targets: vec![target()],
        clusters: vec![json!({
            "metadata": {"name": "east", "namespace": "default"},
            "status": {"phase": "Ready", "conditions": conditions(&["Ready", "CapabilitiesDiscovered"]),
                       "syncTargetRef": {"name": "east-1", "uid": "uid-1"}},
        })],
        locations: vec![json!({
            "metadata": {"name": "east", "labels": {"location": "east"}},
            "spec": {"resource": placement()["spec"]["locationResource"],
                     "instanceSelector": {"matchLabels": {"location": "east"}}},
            "status": {"instances": 1, "availableInstances": 1},
        })],
        placements: vec![placement()],
        namespaces: vec![namespace()],
        work: vec![Work {
            resource: "deployments",
            object: deployment(),
        }],
        teams: [("a".to_owned(), "team-a".to_owned())].into(),
        members: [("east".to_owned(), member)].into(),
        ..Snapshot::default()
    }
}

#[test]
fn nothing_is_wrong_with_what_is_in_order() {
    let snapshot = in_order();
    assert_eq!(always(&snapshot), Vec::<String>::new());
    assert_eq!(at_rest(&snapshot), Vec::<String>::new());
}

fn member_of(snapshot: &mut Snapshot) -> &mut InMember {
    snapshot.members.get_mut("east").unwrap()
}

#[rstest]
#[case::ready_without_its_phase("has Ready=True and phase NotReady", |s: &mut Snapshot| {
    s.targets[0]["status"]["phase"] = "NotReady".into();
})]
#[case::ready_without_a_beat("is Ready with HeartbeatHealthy=False", |s: &mut Snapshot| {
    s.targets[0]["status"]["conditions"][3]["status"] = "False".into();
})]
#[case::ready_without_a_component("is Ready with SyncerReady=Unknown", |s: &mut Snapshot| {
    s.targets[0]["status"]["conditions"].as_array_mut().unwrap().remove(2);
})]
#[case::url_of_another_uid("has a URL without its uid", |s: &mut Snapshot| {
    s.targets[0]["metadata"]["uid"] = "uid-2".into();
})]
#[case::url_that_is_no_mirror("mirrors another URL", |s: &mut Snapshot| {
    s.targets[0]["status"]["virtualWorkspaceURL"] = "https://elsewhere".into();
})]
#[case::terminating_but_alive("is Terminating", |s: &mut Snapshot| {
    s.targets[0]["status"]["phase"] = "Terminating".into();
})]
#[case::cluster_without_its_phase("Cluster /default/east has Ready=True", |s: &mut Snapshot| {
    s.clusters[0]["status"]["phase"] = "Unavailable".into();
})]
#[case::more_available_than_there_are("more available instances", |s: &mut Snapshot| {
    s.locations[0]["status"]["availableInstances"] = 2.into();
})]
#[case::bound_to_nothing("is Bound, selectedLocation: false", |s: &mut Snapshot| {
    s.placements[0]["status"]["selectedLocation"] = Value::Null;
})]
#[case::pending_with_a_location("is Pending, selectedLocation: true", |s: &mut Snapshot| {
    s.placements[0]["status"]["phase"] = "Pending".into();
})]
#[case::a_stranger_touched("a stranger's object was touched", |s: &mut Snapshot| {
    member_of(s).disturbed.push("east: web".into());
})]
#[case::another_workspaces_object("is in the place of", |s: &mut Snapshot| {
    let annotations = &mut member_of(s).work[0].object["metadata"]["annotations"];
    annotations[ORIGIN] = "team-b/shop/web".into();
})]
#[case::an_object_in_no_namespace_of_ours("which no syncer made", |s: &mut Snapshot| {
    member_of(s).namespaces.clear();
})]
fn what_must_never_be_is_told(#[case] says: &str, #[case] break_it: fn(&mut Snapshot)) {
    let mut snapshot = in_order();
    break_it(&mut snapshot);
    let wrong = always(&snapshot);
    assert!(wrong.iter().any(|text| text.contains(says)), "{wrong:?}");
}

fn state() -> String {
    format!("state.workload.kcp.io/{}", key())
}

#[rstest]
#[case::a_target_not_ready("SyncTarget compute//east-1 is not Ready", |s: &mut Snapshot| {
    s.targets[0]["status"]["conditions"][0]["status"] = "False".into();
})]
#[case::a_target_without_its_key("does not carry its key", |s: &mut Snapshot| {
    s.targets[0]["metadata"]["labels"] = json!({"location": "east"});
})]
#[case::a_target_that_takes_who_knows_what("can take is not known", |s: &mut Snapshot| {
    s.targets[0]["status"].as_object_mut().unwrap().remove("allocatable");
})]
#[case::an_agent_of_unknown_rights("is not known to have its rights", |s: &mut Snapshot| {
    s.targets[0]["status"]["conditions"].as_array_mut().unwrap().pop();
})]
#[case::a_cluster_with_old_capabilities("has old capabilities", |s: &mut Snapshot| {
    let list = s.clusters[0]["status"]["conditions"].as_array_mut().unwrap();
    list.retain(|condition| condition["type"] != "CapabilitiesDiscovered");
})]
#[case::a_cluster_without_target("has no SyncTarget", |s: &mut Snapshot| {
    s.clusters[0]["status"]["syncTargetRef"]["uid"] = "uid-0".into();
})]
#[case::a_deletion_that_hangs("does not go away", |s: &mut Snapshot| {
    s.work[0].object["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
})]
#[case::an_annotation_of_another_target("and names", |s: &mut Snapshot| {
    let annotations = &mut s.placements[0]["metadata"]["annotations"];
    annotations["internal.workload.kcp.io/synctarget"] = "other".into();
})]
#[case::no_target_though_one_is_open("has no target though one is open", |s: &mut Snapshot| {
    s.placements[0]["status"]["syncTargets"] = json!([]);
})]
#[case::a_target_that_is_gone("has a target that does not exist", |s: &mut Snapshot| {
    s.placements[0]["status"]["syncTargets"][0]["key"] = "gone".into();
})]
#[case::bound_without_a_namespace("is Bound, bound namespaces: false", |s: &mut Snapshot| {
    s.placements[0]["spec"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
})]
#[case::a_namespace_nobody_placed("is for {", |s: &mut Snapshot| s.placements.clear())]
#[case::a_namespace_not_placed("should be for {", |s: &mut Snapshot| {
    s.namespaces[0]["metadata"]["labels"] = json!({});
})]
#[case::a_namespace_still_leaving("still is to be removed somewhere", |s: &mut Snapshot| {
    let mark = format!("deletion.internal.workload.kcp.io/{}", key());
    s.namespaces[0]["metadata"]["annotations"][mark] = "2030-01-01T00:00:00Z".into();
})]
#[case::an_object_not_placed("Deployment\" a/shop/web is for {}", |s: &mut Snapshot| {
    s.work[0].object["metadata"]["labels"] = json!({});
})]
#[case::an_object_not_held("is held by {}", |s: &mut Snapshot| {
    s.work[0].object["metadata"]["finalizers"] = json!([]);
})]
#[case::an_object_in_another_state("a state other than Sync", |s: &mut Snapshot| {
    s.work[0].object["metadata"]["labels"][state()] = "Upsync".into();
})]
#[case::a_copy_missing("is missing", |s: &mut Snapshot| member_of(s).work.clear())]
#[case::a_copy_of_another_image("/spec/template/spec/containers/0/image differs", |s: &mut Snapshot| {
    let spec = &mut member_of(s).work[0].object["spec"];
    spec["template"]["spec"]["containers"][0]["image"] = "v0".into();
})]
#[case::a_status_that_is_old("the hub shows status", |s: &mut Snapshot| {
    member_of(s).work[0].object["status"]["availableReplicas"] = 1.into();
})]
#[case::a_generation_of_the_member("observedGeneration is not the hub's", |s: &mut Snapshot| {
    s.work[0].object["status"]["observedGeneration"] = 1.into();
})]
#[case::not_available("Some(1) of Some(2) replicas", |s: &mut Snapshot| {
    s.work[0].object["status"]["availableReplicas"] = 1.into();
    member_of(s).work[0].object["status"]["availableReplicas"] = 1.into();
})]
#[case::a_report_that_is_old("its report is null", |s: &mut Snapshot| {
    s.work[0].object["metadata"]["labels"]["state.workload.kcp.io/other"] = json!("Sync");
})]
#[case::a_copy_without_owner("has no owner", |s: &mut Snapshot| s.work.clear())]
#[case::a_namespace_without_owner("has no owner any more", |s: &mut Snapshot| s.namespaces.clear())]
fn what_is_left_to_do_is_told(#[case] says: &str, #[case] break_it: fn(&mut Snapshot)) {
    let mut snapshot = in_order();
    break_it(&mut snapshot);
    let wrong = at_rest(&snapshot);
    assert!(wrong.iter().any(|text| text.contains(says)), "{wrong:?}");
}

#[test]
fn a_draining_target_is_left_only_if_another_is_open() {
    let mut snapshot = in_order();
    snapshot.targets[0]["spec"]["evictAfter"] = "1969-01-01T00:00:00Z".into();
    assert_eq!(at_rest(&snapshot), Vec::<String>::new());
    let mut other = target();
    other["metadata"]["name"] = "west-1".into();
    other["metadata"]["labels"]["internal.workload.kcp.io/key"] =
        sync_target_key("compute", "west-1").into();
    snapshot.targets.push(other);
    let wrong = at_rest(&snapshot);
    assert!(
        wrong.iter().any(|text| text.contains("which drains")),
        "{wrong:?}"
    );
}
