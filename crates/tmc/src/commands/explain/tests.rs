use rstest::rstest;
use serde_json::{Value, json};

use super::steps::{Explanation, explain};
use super::world::{Kind, Seen, World};
use super::*;
use crate::context::Flags;

const KEY: &str = "K";

/// Everything is well: one Deployment, placed on one Ready target and reported back.
fn well() -> World {
    let meta = |name: &str| {
        json!({"name": name, "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2030-01-01T00:00:00Z",
            "annotations": {"kcp.io/cluster": "tenant"}})
    };
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"),
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, "readyReplicas": 2, "conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": "2030-01-01T00:01:00Z"}]},
    });
    object["metadata"]["namespace"] = "shop".into();
    object["metadata"]["labels"] = json!({"state.workload.kcp.io/K": "Sync"});
    object["metadata"]["finalizers"] = json!(["workload.kcp.io/syncer-K"]);
    object["metadata"]["annotations"]["diff.syncer.internal.kcp.io/K"] =
        r###"{"status":"##promoted##"}"###.into();
    let mut home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta("shop")});
    home["metadata"]["labels"] = json!({"team": "a", "state.workload.kcp.io/K": "Sync"});
    home["status"]["conditions"] = json!([{"type": "NamespaceScheduled", "status": "True",
        "lastTransitionTime": "2030-01-01T00:00:40Z"}]);
    let placement = json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement", "metadata": meta("p"),
        "spec": {"namespaceSelector": {}, "locationSelectors": [{}], "locationWorkspace": "root:compute"},
        "status": {
            "observedGeneration": 1, "phase": "Bound",
            "selectedLocation": {"path": "root:compute", "locationName": "eu"},
            "syncTargets": [{"key": KEY, "cluster": "provider", "name": "east", "uid": "uid-east"}],
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "Scheduled", "status": "True", "lastTransitionTime": "2030-01-01T00:00:30Z"}],
        },
    });
    let target = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget", "metadata": meta("east"),
        "spec": {"syncerConfig": {"mode": "Hosted"}},
        "status": {
            "lastHeartbeatTime": "2030-01-01T00:09:00Z",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:10Z"},
                {"type": "APIAvailable", "status": "True", "lastTransitionTime": "2030-01-01T00:00:12Z"}],
            "syncedResources": [{"group": "apps", "resource": "deployments", "versions": ["v1"], "state": "Accepted"}],
        },
    });
    World {
        workspace: "root:team".into(),
        flags: Flags(Some("root:team".into())),
        kind: deployments(),
        name: "web".into(),
        namespace: "shop".into(),
        object: Some(object),
        home: Some(home),
        placements: Seen::All(vec![placement]),
        targets: BTreeMap::from([("root:compute".to_owned(), Seen::All(vec![target]))]),
        now: "2030-01-01T00:10:00Z".parse().expect("a time"),
    }
}

fn deployments() -> Kind {
    Kind {
        group: "apps".into(),
        version: "v1".into(),
        resource: "deployments".into(),
        kind: "Deployment".into(),
        namespaced: true,
    }
}

impl World {
    fn object(&mut self) -> &mut Value {
        self.object.as_mut().expect("an object")
    }

    fn home(&mut self) -> &mut Value {
        self.home.as_mut().expect("a namespace")
    }

    fn placement(&mut self) -> &mut Value {
        match &mut self.placements {
            Seen::All(list) => &mut list[0],
            Seen::Hidden => panic!("hidden"),
        }
    }

    fn target_object(&mut self) -> &mut Value {
        match self.targets.get_mut("root:compute") {
            Some(Seen::All(list)) => &mut list[0],
            _ => panic!("hidden"),
        }
    }
}

/// What nothing can record a time of: an object that is not there, what may not be seen, and a rule
/// about a kind.
const TIMELESS: [(&str, &str); 5] = [
    ("object", "NotFound"),
    ("placement", "Forbidden"),
    ("view", "Forbidden"),
    ("view", "TargetGone"),
    ("status", "NoStatus"),
];

/// Explains a world; each step has a reason in one word, and a time wherever one can be recorded.
fn told(world: &World) -> Explanation {
    let mut world = world.clone();
    stamp(&mut world);
    let explanation = explain(&world);
    for step in &explanation.steps {
        let reason = step.reason.as_str();
        let is_word = reason.starts_with(|c: char| c.is_ascii_uppercase())
            && reason.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(is_word, "a reason: {step:?}");
        let timeless = TIMELESS.contains(&(step.name, reason));
        assert!(step.moment.is_some() || timeless, "a time: {step:?}");
    }
    explanation
}

/// Gives each condition a time, as whoever writes conditions does.
fn stamp(world: &mut World) {
    let lists = std::iter::once(&mut world.placements).chain(world.targets.values_mut());
    let listed = lists.flat_map(|seen| match seen {
        Seen::All(items) => items.as_mut_slice(),
        Seen::Hidden => &mut [],
    });
    for object in listed.chain(&mut world.object).chain(&mut world.home) {
        let conditions = object.pointer_mut("/status/conditions");
        for condition in conditions
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if condition["lastTransitionTime"].is_null() {
                condition["lastTransitionTime"] = "2030-01-01T00:05:00Z".into();
            }
        }
    }
}

/// The signs and names of the steps, in one line.
fn line(explanation: &Explanation) -> String {
    let steps = explanation.steps.iter();
    let parts: Vec<String> = steps
        .map(|s| format!("{}{}", s.mark.sign(), s.name))
        .collect();
    parts.join(" ")
}

#[test]
fn a_world_in_which_all_is_well_says_so_from_object_to_status() {
    let explanation = told(&well());
    assert_eq!(
        line(&explanation),
        "✓object ✓placement ✓location ✓target –reservation ✓label ✓view ✓downstream ✓status"
    );
    assert_eq!(
        explanation.conclusion,
        "Nothing to do: it is as it should be on east."
    );
    let status = explanation.steps.last().expect("a step");
    assert_eq!(status.text, "Available: 2 of 2 replicas ready");
    let available = "2030-01-01T00:01:00Z".parse().expect("a time");
    assert_eq!(status.moment, Some(Moment::At(available)));
}

#[test]
fn the_table_reads_from_top_to_bottom() {
    let world = well();
    let shown = table(&world, &explain(&world));
    insta::assert_snapshot!(shown, @r"
deployment web in namespace shop of workspace root:team

    STEP          TARGET   SINCE    REASON             WHAT
✓   object                 10m      Exists             deployment web in namespace shop exists, generation 1
✓   placement              10m      Selected           p selects namespace shop
✓   location               9m30s    LocationSelected   eu of root:compute
✓   target        east     9m50s    Ready              Ready
–   reservation            9m30s    NotChecked         this version has no quotas
✓   label         east     <9m20s   Labelled           namespace and object are labelled for it
✓   view          east     <9m48s   Accepted           deployments.apps are accepted
✓   downstream    east     >9m      TakenBySyncer      its syncer has it, in namespace kcp-2o7rw0p8dcd9 of the cluster
✓   status                 9m       Available          Available: 2 of 2 replicas ready

Nothing to do: it is as it should be on east.
");
}

type Break = fn(&mut World);

/// One thing is broken at a time: which step tells, with which reason, and what it says to do.
#[rstest]
#[case::no_such_object(|w: &mut World| w.object = None, "object", "NotFound", "-n")]
#[case::a_hub_namespace(|w: &mut World| w.namespace = "kube-system".into(), "object", "StaysOnHub", "rule of the hub")]
#[case::placements_hidden(|w: &mut World| w.placements = Seen::Hidden, "placement", "Forbidden", "--role view")]
#[case::no_placement(|w: &mut World| w.placements = Seen::All(vec![]), "placement", "NoPlacement", "tmc bind compute")]
#[case::none_selects(|w: &mut World| w.placement()["spec"]["namespaceSelector"] = json!({"matchLabels": {"team": "b"}}),
    "placement", "NoPlacement", "Label namespace shop")]
#[case::bad_selector(|w: &mut World| w.placement()["spec"]["namespaceSelector"] = json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
    "placement", "InvalidSelector", "namespaceSelector")]
#[case::new_placement(|w: &mut World| { w.placement()["status"] = json!({}); }, "location", "NotObserved", "tmc doctor")]
#[case::changed_placement(|w: &mut World| { w.placement()["metadata"]["generation"] = 2.into(); }, "location", "NotObserved", "tmc doctor")]
#[case::forbidden_location(|w: &mut World| unscheduled(w, "LocationForbidden", "may not use", true),
    "location", "LocationForbidden", "tmc workspace grant root:compute")]
#[case::no_location_matches(|w: &mut World| unscheduled(w, "ScheduleLocationNotFound", "none matches", true),
    "location", "ScheduleLocationNotFound", "spec.locationSelectors")]
#[case::location_went_bad(|w: &mut World| w.placement()["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "reason": "LocationInvalid", "message": "m"}),
    "location", "LocationInvalid", "stays where it is")]
#[case::no_target(|w: &mut World| unscheduled(w, "NoValidTarget", "1 not Ready", false),
    "target", "NoValidTarget", "get targets")]
#[case::quota(|w: &mut World| unscheduled(w, "QuotaExceeded", "cpu", false), "target", "QuotaExceeded", "Ask for less")]
#[case::target_lost(|w: &mut World| not_ready(w), "target", "ErrorHeartbeat", "cluster describe east")]
#[case::external_never_started(|w: &mut World| {
        not_ready(w);
        w.target_object()["spec"]["syncerConfig"]["mode"] = "External".into();
        w.target_object()["status"]["lastHeartbeatTime"] = Value::Null;
    }, "target", "ErrorHeartbeat", "sync east | kubectl --kubeconfig <the cluster's> apply -f -")]
#[case::target_made_again(|w: &mut World| w.target_object()["metadata"]["uid"] = "other".into(), "target", "TargetGone", "pick another")]
#[case::target_removed(|w: &mut World| w.target_object()["metadata"]["deletionTimestamp"] = "2030-01-01T00:05:00Z".into(),
    "target", "Terminating", "Wait")]
#[case::target_drained(|w: &mut World| w.target_object()["spec"]["evictAfter"] = "2030-01-01T00:05:00Z".into(),
    "target", "Draining", "uncordon east")]
#[case::namespace_without_label(|w: &mut World| w.home()["metadata"]["labels"] = json!({}), "label", "NamespaceNotLabelled", "tmc doctor")]
#[case::object_without_label(|w: &mut World| w.object()["metadata"]["labels"] = json!({}), "label", "NotLabelled", "tmc doctor")]
#[case::kind_not_synced(|w: &mut World| {
        w.object()["metadata"]["labels"] = json!({});
        w.target_object()["status"]["syncedResources"] = json!([]);
    }, "label", "KindNotSynced", "--sync-resources")]
#[case::waits_for_a_coordinator(|w: &mut World| w.object()["metadata"]["labels"]["state.workload.kcp.io/K"] = "".into(), "label", "Pending", "Wait")]
#[case::leaves_the_target(|w: &mut World| annotate(w, "deletion.internal.workload.kcp.io/K", "2030-01-01T00:05:00Z"),
    "label", "Leaving", "remove the copy")]
#[case::soft_finalizer(|w: &mut World| {
        annotate(w, "deletion.internal.workload.kcp.io/K", "2030-01-01T00:05:00Z");
        annotate(w, "finalizers.workload.kcp.io/K", "dns");
    }, "label", "Leaving", "Wait for dns")]
#[case::kind_not_served(|w: &mut World| w.target_object()["status"]["syncedResources"][0]["state"] = "Incompatible".into(),
    "view", "Incompatible", "Install deployments.apps in cluster east")]
#[case::kind_not_known_yet(|w: &mut World| w.target_object()["status"]["syncedResources"][0]["state"] = "Pending".into(),
    "view", "Pending", "first report")]
#[case::not_taken(|w: &mut World| w.object()["metadata"]["finalizers"] = json!([]), "downstream", "NotTaken", "syncer")]
#[case::refused_by_the_member(|w: &mut World| annotate(w, "status.workload.kcp.io/message", "violates PodSecurity"),
    "downstream", "Refused", "Change the object")]
#[case::status_lost(|w: &mut World| w.object()["status"]["conditions"][0] = json!({"type": "Available", "status": "Unknown", "reason": "TargetLost"}),
    "status", "TargetLost", "Bring the cluster back (east)")]
#[case::not_synced(|w: &mut World| w.object()["status"]["conditions"] = json!([{"type": "Synced", "status": "False", "reason": "Invalid", "message": "m"}]),
    "status", "Invalid", "Change the object")]
#[case::no_status(|w: &mut World| w.object()["status"] = json!({}), "status", "NotReported", "Wait")]
#[case::old_status(|w: &mut World| w.object()["metadata"]["generation"] = 3.into(), "status", "NotObserved", "last change")]
#[case::stuck_rollout(|w: &mut World| w.object()["status"]["conditions"] = json!([
        {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"},
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}]),
    "status", "ProgressDeadlineExceeded", "image, resources, probes")]
#[case::pods_not_ready(|w: &mut World| w.object()["status"]["conditions"] = json!([
        {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"}]),
    "status", "MinimumReplicasUnavailable", "Wait for its pods")]
#[case::failed_job(|w: &mut World| w.object()["status"]["conditions"] = json!([
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]),
    "status", "Failed", "Correct")]
fn what_is_broken_is_told_by_its_step_and_the_last_line_says_what_to_do(
    #[case] change: Break,
    #[case] step: &str,
    #[case] reason: &str,
    #[case] advice: &str,
) {
    let mut world = well();
    change(&mut world);
    let explanation = told(&world);
    let bad = |s: &&Step| matches!(s.mark.sign(), "✗" | "…");
    let first = explanation
        .steps
        .iter()
        .find(bad)
        .expect("something is broken");
    assert_eq!(
        (first.name, first.reason.as_str()),
        (step, reason),
        "{}",
        line(&explanation)
    );
    assert!(
        explanation.conclusion.contains(advice),
        "{}",
        explanation.conclusion
    );
    let said = &explanation.conclusion;
    let is_command = [": tmc ", ": kubectl "]
        .iter()
        .any(|start| said.contains(start));
    assert_eq!(said.ends_with('.'), !is_command, "to be copied: {said}");
}

#[test]
fn a_hub_without_workspaces_is_advised_commands_without_a_workspace() {
    let mut world = well();
    not_ready(&mut world);
    let end = |world: &World| explain(world).conclusion;
    let elsewhere = "tmc --workspace root:compute cluster describe east";
    assert!(end(&world).ends_with(elsewhere), "{}", end(&world));
    world.flags = Flags(None);
    assert!(
        end(&world).ends_with(": tmc cluster describe east"),
        "{}",
        end(&world)
    );
    world.object = None;
    assert!(!end(&world).contains("--workspace"), "{}", end(&world));
}

fn unscheduled(world: &mut World, reason: &str, message: &str, without_location: bool) {
    let status = &mut world.placement()["status"];
    status["syncTargets"] = json!([]);
    if without_location {
        status["selectedLocation"] = Value::Null;
    }
    status["conditions"][1] =
        json!({"type": "Scheduled", "status": "False", "reason": reason, "message": message});
}

fn not_ready(world: &mut World) {
    world.target_object()["status"]["conditions"][0] = json!({"type": "Ready", "status": "False",
        "reason": "ErrorHeartbeat", "message": "No heartbeat since"});
}

fn annotate(world: &mut World, key: &str, text: &str) {
    world.object()["metadata"]["annotations"][key] = text.into();
}

#[test]
fn a_lost_target_does_not_hide_what_is_known_of_the_copy() {
    let mut world = well();
    not_ready(&mut world);
    assert_eq!(
        line(&told(&world)),
        "✓object ✓placement ✓location ✗target –reservation ✓label ✓view ✓downstream ✓status"
    );
    world.object()["metadata"]["finalizers"] = json!([]);
    let explanation = told(&world);
    let downstream = explanation
        .steps
        .iter()
        .find(|s| s.name == "downstream")
        .expect("a step");
    assert_eq!(downstream.reason, "TargetLost");
}

#[test]
fn a_deletion_that_waits_for_a_lost_target_says_how_to_give_it_up() {
    let mut world = well();
    not_ready(&mut world);
    world.object()["metadata"]["deletionTimestamp"] = "2030-01-01T00:05:00Z".into();
    annotate(
        &mut world,
        "deletion.internal.workload.kcp.io/K",
        "2030-01-01T00:05:00Z",
    );
    let explanation = told(&world);
    assert!(line(&explanation).starts_with("…object ✓placement ✓location ✗target"));
    let label = explanation
        .steps
        .iter()
        .find(|s| s.name == "label")
        .expect("a step");
    assert!(
        label.advice.contains("cluster unregister east --force"),
        "{}",
        label.advice
    );
}

#[test]
fn a_deletion_that_others_hold_up_names_their_finalizers() {
    let mut world = well();
    world.placements = Seen::All(vec![]);
    world.object()["metadata"]["deletionTimestamp"] = "2030-01-01T00:05:00Z".into();
    world.object()["metadata"]["finalizers"] =
        json!(["example.com/x", "workload.kcp.io/syncer-OLD"]);
    let explanation = told(&world);
    let last = explanation.steps.last().expect("a step");
    assert!(
        last.text
            .contains("an earlier target (OLD) still has a copy"),
        "{}",
        last.text
    );
}

#[test]
fn whoever_may_not_see_the_targets_is_told_what_they_may_know() {
    let mut world = well();
    world.targets = BTreeMap::from([("root:compute".to_owned(), Seen::Hidden)]);
    let explanation = told(&world);
    assert_eq!(
        line(&explanation),
        "✓object ✓placement ✓location ✓target –reservation ✓label –view ✓downstream ✓status"
    );
    let target = explanation
        .steps
        .iter()
        .find(|s| s.name == "target")
        .expect("a step");
    assert_eq!(target.text, "picked; how it is, only root:compute may see");
    assert_eq!(target.target, "east");
}

#[rstest]
#[case::later(json!({"reason": "Unreachable"}), "as soon as its time has come", "it moves by itself")]
#[case::kept(json!({"reason": "Draining", "held": "NoReplacement"}), "no other cluster is fit", "made fit to take over")]
#[case::in_line(json!({"reason": "Draining", "held": "RateLimited"}), "waits for its turn", "it moves by itself")]
fn a_target_that_is_to_be_left_says_what_holds_it(
    #[case] leaving: Value,
    #[case] says: &str,
    #[case] advice: &str,
) {
    let mut world = well();
    world.targets = BTreeMap::from([("root:compute".to_owned(), Seen::Hidden)]);
    world.placement()["status"]["decisions"] = json!([{"key": KEY, "leaving": leaving}]);
    let explanation = told(&world);
    let target = explanation
        .steps
        .iter()
        .find(|s| s.name == "target")
        .expect("a step");
    assert!(target.text.contains(says), "{}", target.text);
    assert!(
        explanation.conclusion.contains(advice),
        "{}",
        explanation.conclusion
    );
    world.placement()["status"]["decisions"] = json!([{"key": KEY, "message": "no other is fit"}]);
    let explanation = told(&world);
    let target = explanation
        .steps
        .iter()
        .find(|s| s.name == "target")
        .expect("a step");
    assert!(
        target.text.ends_with("; picked: no other is fit"),
        "{}",
        target.text
    );
}

#[test]
fn every_target_of_a_wide_placement_has_its_own_steps() {
    let mut world = well();
    let second = json!({"key": "K2", "cluster": "provider", "name": "west", "uid": "uid-west"});
    world.placement()["status"]["syncTargets"]
        .as_array_mut()
        .expect("a list")
        .push(second);
    let explanation = told(&world);
    let of = |target: &str| {
        explanation
            .steps
            .iter()
            .filter(|s| s.target == target)
            .count()
    };
    assert_eq!((of("east"), of("west")), (4, 4), "{}", line(&explanation));
}

#[rstest]
#[case("secrets", json!({"type": "tmc.kcp.io/kubeconfig"}), true)]
#[case("secrets", json!({"type": "Opaque"}), false)]
#[case("configmaps", json!({}), false)]
#[case("configmaps", json!({"labels": {"tmc.kcp.io/tombstone": "true"}}), true)]
fn what_never_leaves_the_hub_is_said_to_stay(
    #[case] resource: &str,
    #[case] content: Value,
    #[case] stays: bool,
) {
    let mut world = well();
    world.kind = Kind {
        group: String::new(),
        resource: resource.into(),
        kind: "X".into(),
        ..world.kind
    };
    world.object()["type"] = content["type"].clone();
    if let Some(labels) = content["labels"].as_object() {
        for (key, value) in labels {
            world.object()["metadata"]["labels"][key] = value.clone();
        }
    }
    let explanation = told(&world);
    assert_eq!(explanation.steps[0].reason == "StaysOnHub", stays);
    if !stays {
        assert!(
            line(&explanation).ends_with("✓view ✓downstream –status"),
            "{}",
            line(&explanation)
        );
    }
}

#[test]
fn a_kind_is_found_by_any_of_its_names() {
    let resources = json!({"groupVersion": "apps/v1", "resources": [
        {"name": "deployments/scale", "singularName": "", "kind": "Scale", "namespaced": true},
        {"name": "deployments", "singularName": "deployment", "kind": "Deployment", "namespaced": true, "shortNames": ["deploy"]},
    ]});
    for name in [
        "deployment",
        "deployments",
        "Deployment",
        "deploy",
        "deployments.apps",
        "deploy.apps",
    ] {
        assert_eq!(named(&resources, name), Some(deployments()), "{name}");
    }
    for name in ["deployments.batch", "scale", "dep", ""] {
        assert_eq!(named(&resources, name), None, "{name}");
    }
}

/// The moment of a step, as a table shows it.
fn moment(explanation: &Explanation, name: &str) -> String {
    let mut steps = explanation.steps.iter();
    let step = steps.find(|s| s.name == name).expect("a step");
    let moment = step.moment.expect("a time");
    moment.age(well().now)
}

#[rstest]
#[case::placement_with_an_open_selector(|_: &mut World| (), "placement", "10m")]
#[case::placement_that_asks_for_labels(|w: &mut World| w.placement()["spec"]["namespaceSelector"] = json!({"matchLabels": {"team": "a"}}),
    "placement", "<10m")]
#[case::placement_that_asked_for_something_else(|w: &mut World| {
        w.placement()["metadata"]["generation"] = 2.into();
        w.placement()["status"]["observedGeneration"] = 2.into();
    }, "placement", "<10m")]
#[case::no_placement(|w: &mut World| {
        w.placements = Seen::All(vec![]);
        w.object()["metadata"]["creationTimestamp"] = "2030-01-01T00:08:00Z".into();
    }, "placement", "<2m")]
#[case::picked_after_it_was_ready(|w: &mut World| decide(w), "target", "7m")]
#[case::nothing_reserved_when_picked(|w: &mut World| decide(w), "reservation", "7m")]
#[case::labelled_after_it_was_picked(|w: &mut World| decide(w), "label", "<7m")]
#[case::reports_of_an_earlier_copy(|w: &mut World| decide(w), "downstream", "<7m")]
#[case::labelled_after_it_was_made(|w: &mut World| w.object()["metadata"]["creationTimestamp"] = "2030-01-01T00:08:00Z".into(),
    "label", "<2m")]
#[case::refused_since(|w: &mut World| {
        annotate(w, "status.workload.kcp.io/message", "no");
        w.object()["status"]["conditions"] = json!([{"type": "Synced", "status": "False",
            "reason": "RefusedByMember", "lastTransitionTime": "2030-01-01T00:07:00Z"}]);
    }, "downstream", "3m")]
#[case::refused_without_a_condition(|w: &mut World| annotate(w, "status.workload.kcp.io/message", "no"),
    "downstream", "<9m20s")]
#[case::nothing_accepted(|w: &mut World| {
        w.target_object()["status"]["syncedResources"][0]["state"] = "Incompatible".into();
        w.target_object()["status"]["conditions"][1] = json!({"type": "APIAvailable", "status": "False",
            "reason": "NoAcceptedAPIs", "lastTransitionTime": "2030-01-01T00:06:00Z"});
    }, "view", ">4m")]
fn a_time_is_as_exact_as_its_evidence(
    #[case] change: Break,
    #[case] step: &str,
    #[case] expected: &str,
) {
    let mut world = well();
    change(&mut world);
    assert_eq!(moment(&told(&world), step), expected);
}

/// The target was picked long after it became Ready.
fn decide(world: &mut World) {
    world.placement()["status"]["decisions"] = json!([{"key": KEY, "reason": "OnlyFit",
        "message": "no other is fit", "time": "2030-01-01T00:03:00Z"}]);
}

#[test]
fn a_document_says_what_is_known_of_each_time() {
    let world = well();
    let document = document(&world, &explain(&world));
    let step = |at: usize, key: &str| document["steps"][at][key].clone();
    assert_eq!(step(0, "since"), "2030-01-01T00:00:00Z");
    assert_eq!(step(5, "notBefore"), "2030-01-01T00:00:40Z");
    assert_eq!(step(7, "by"), "2030-01-01T00:01:00Z");
    assert_eq!(step(7, "reason"), "TakenBySyncer");
}
