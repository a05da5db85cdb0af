//! Bad input gets the right status code or condition, and a message that names the field and the
//! remedy.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::support::http::{Answer, Api, Content};
use crate::support::hub::{self, Hub, condition};
use crate::support::pki::Authority;
use crate::support::wait::{seconds, until};

/// The workspace of these tests, as its administrator.
struct Desk {
    hub: &'static Hub,
    admin: Api,
    /// `/clusters/<workspace>`
    base: String,
}

const WORKSPACE: &str = "root:desk";

fn desk() -> Desk {
    static MADE: OnceLock<()> = OnceLock::new();
    let hub = hub::shared();
    MADE.get_or_init(|| {
        hub.workspace("desk");
        hub.grant(WORKSPACE, "clerk", "admin");
    });
    Desk {
        hub,
        admin: hub.api(),
        base: format!("/clusters/{WORKSPACE}"),
    }
}

impl Desk {
    fn config_maps(&self) -> String {
        format!("{}/api/v1/namespaces/default/configmaps", self.base)
    }

    fn deployments(&self) -> String {
        format!("{}/apis/apps/v1/namespaces/default/deployments", self.base)
    }

    fn targets(&self) -> String {
        format!("{}/apis/workload.kcp.io/v1alpha1/synctargets", self.base)
    }

    /// Makes a ConfigMap and returns it.
    fn config_map(&self, name: &str) -> Value {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name}, "data": {"a": "b"}});
        self.admin
            .post(&self.config_maps(), &map)
            .expect(&[201])
            .json()
    }

    /// Somebody who administers this workspace only.
    fn clerk(&self, name: &str) -> Api {
        self.hub.grant(WORKSPACE, name, "admin");
        Api::from_kubeconfig(&std::fs::read_to_string(self.hub.user(WORKSPACE, name)).unwrap())
    }
}

/// Checks that an answer is a `Status` with a code, a reason and these words in its message.
#[track_caller]
fn refused(answer: &Answer, code: u16, reason: &str, words: &[&str]) {
    let status = answer.json();
    assert_eq!(answer.code, code, "{answer}");
    assert_eq!(status["kind"], "Status", "{answer}");
    assert_eq!(status["code"], code, "{answer}");
    assert_eq!(status["reason"], reason, "{answer}");
    for word in words {
        assert!(answer.message().contains(word), "names {word}: {answer}");
    }
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}})
}

#[test]
fn malformed_yaml_is_a_bad_request() {
    let desk = desk();
    for (kind, text) in [
        ("application/yaml", "metadata: {name: [unclosed"),
        ("application/yaml", "kind: ConfigMap: v1"),
        ("application/json", "{\"kind\": \"ConfigMap\","),
        ("application/json", "\u{0}\u{1}"),
        ("application/json", ""),
    ] {
        let content = Content::raw(kind, text);
        let answer = desk
            .admin
            .send(&Method::POST, &desk.config_maps(), Some(content));
        refused(&answer, 400, "BadRequest", &[]);
        assert!(answer.message().len() > 10, "{answer}");
    }
}

#[test]
fn an_unknown_field_is_named_under_strict_validation_and_dropped_otherwise() {
    let desk = desk();
    let mut object = deployment("strict");
    object["spec"]["replicsa"] = 3.into();
    let strict = format!("{}?fieldValidation=Strict", desk.deployments());
    let answer = desk.admin.post(&strict, &object);
    refused(
        &answer,
        400,
        "BadRequest",
        &["strict", "unknown field \"spec.replicsa\""],
    );
    let ignoring = format!("{}?fieldValidation=Ignore&dryRun=All", desk.deployments());
    let made = desk.admin.post(&ignoring, &object).expect(&[201]).json();
    assert!(made["spec"].get("replicsa").is_none(), "{made:#}");
    let nonsense = format!("{}?fieldValidation=Severe", desk.deployments());
    let answer = desk.admin.post(&nonsense, &object).expect(&[400, 422]);
    assert!(answer.message().contains("Severe"), "{answer}");
}

#[test]
fn a_wrong_api_version_or_kind_is_named_with_the_right_one() {
    let desk = desk();
    let mut object = deployment("old");
    object["apiVersion"] = "apps/v1beta1".into();
    let answer = desk.admin.post(&desk.deployments(), &object);
    refused(&answer, 400, "BadRequest", &["apps/v1beta1", "apps/v1)"]);
    object["apiVersion"] = "v1".into();
    object["kind"] = "Service".into();
    let answer = desk.admin.post(&desk.deployments(), &object);
    refused(&answer, 400, "BadRequest", &["apps/v1"]);
    let path = format!(
        "{}/apis/apps/v1beta1/namespaces/default/deployments",
        desk.base
    );
    desk.admin.post(&path, &object).expect(&[404]);
}

#[test]
fn a_body_over_3_mib_is_too_large() {
    let desk = desk();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"},
        "data": {"a": "x".repeat(3 * 1024 * 1024)}});
    // The refusal may come, and the connection end, while the body is still being sent: then a
    // client cannot always read it.
    let answer = until("the refusal is read", seconds(20), || {
        desk.admin.try_send(
            &Method::POST,
            &desk.config_maps(),
            Some(Content::json(&map)),
        )
    });
    refused(&answer, 413, "RequestEntityTooLarge", &["3145728"]);
    // Nor may it notice in time that a connection that it would use again has ended.
    let path = format!("{}/large", desk.config_maps());
    let answer = until("the hub is asked", seconds(20), || {
        desk.admin.try_send(&Method::GET, &path, None)
    });
    answer.expect(&[404]);
}

#[test]
fn a_patch_of_10_001_operations_is_too_large() {
    let desk = desk();
    desk.config_map("patched");
    let path = format!("{}/patched", desk.config_maps());
    let patch = |count: usize| {
        let operation = json!({"op": "test", "path": "/data/a", "value": "b"});
        let body = Value::Array(vec![operation; count]).to_string();
        let content = Content::raw("application/json-patch+json", body);
        desk.admin.send(&Method::PATCH, &path, Some(content))
    };
    refused(
        &patch(10_001),
        413,
        "RequestEntityTooLarge",
        &["10000", "10001"],
    );
    patch(10_000).expect(&[200]);
}

#[test]
fn a_conflicting_resource_version_is_a_conflict_that_says_what_to_do() {
    let desk = desk();
    let old = desk.config_map("contended");
    let path = format!("{}/contended", desk.config_maps());
    desk.admin
        .merge(&path, &json!({"data": {"a": "c"}}))
        .expect(&[200]);
    let mut stale = old.clone();
    stale["data"]["a"] = "d".into();
    let words = ["contended", "has been modified", "latest version"];
    refused(&desk.admin.put(&path, &stale), 409, "Conflict", &words);
    let version = json!({"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}});
    refused(&desk.admin.merge(&path, &version), 409, "Conflict", &words);
    let preconditions = json!({"apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": "another"}});
    let answer = desk
        .admin
        .send(&Method::DELETE, &path, Some(Content::json(&preconditions)));
    refused(&answer, 409, "Conflict", &["contended"]);
    let kept = desk.admin.get(&path).expect(&[200]).json();
    assert_eq!(kept["data"]["a"], "c");
}

#[test]
fn an_unknown_workspace_is_named() {
    let desk = desk();
    for path in [
        "/clusters/root:nowhere",
        "/clusters/root:desk:nowhere",
        "/clusters/nowhere",
    ] {
        let answer = desk
            .admin
            .get(&format!("{path}/api/v1/namespaces"))
            .expect(&[403, 404]);
        assert!(answer.message().contains("nowhere"), "{answer}");
    }
    for bad in ["Root", "root:", ":root", "root::desk", "a_b"] {
        let answer = desk
            .admin
            .get(&format!("/clusters/{bad}/api/v1/namespaces"));
        assert!(matches!(answer.code, 400 | 403 | 404), "{answer}");
        assert!(answer.message().len() > 10, "{answer}");
    }
    let message = desk
        .hub
        .tmc("root:nowhere", &["get", "targets"])
        .fails_with(1);
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn an_identity_for_another_workspace_is_refused() {
    let desk = desk();
    let other = desk.hub.workspace("elsewhere");
    let clerk = desk.clerk("clerk");
    clerk.get(&desk.config_maps()).expect(&[200]);
    let answer = clerk.get(&format!(
        "/clusters/{other}/api/v1/namespaces/default/configmaps"
    ));
    refused(&answer, 403, "Forbidden", &["clerk"]);
    let token = Api::with_token(&desk.hub.kubeconfig(), "a-token-of-another-hub");
    refused(&token.get(&desk.config_maps()), 401, "Unauthorized", &[]);
}

#[test]
fn a_stale_uid_in_a_views_url_is_not_found() {
    let desk = desk();
    let target = json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "again"}, "spec": {}});
    let first = desk
        .admin
        .post(&desk.targets(), &target)
        .expect(&[201])
        .json();
    let uid = first["metadata"]["uid"].as_str().unwrap();
    let cluster = desk.hub.logical_cluster(WORKSPACE);
    let view = format!("/services/syncer/{cluster}/again/{uid}/clusters/*/api/v1/configmaps");
    until("the view of the target is served", seconds(10), || {
        let answer = desk.admin.get(&view);
        if answer.code == 200 {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
    let path = format!("{}/again", desk.targets());
    desk.admin.delete(&path).expect(&[200]);
    until("the target is gone", seconds(10), || {
        let answer = desk.admin.get(&path);
        if answer.code == 404 {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    });
    let second = desk
        .admin
        .post(&desk.targets(), &target)
        .expect(&[201])
        .json();
    assert_ne!(second["metadata"]["uid"], uid);
    desk.admin.get(&view).expect(&[404]);
}

#[test]
fn a_reserved_key_set_by_a_user_is_named() {
    let desk = desk();
    desk.config_map("reserved");
    let path = format!("{}/reserved", desk.config_maps());
    let clerk = desk.clerk("labeller");
    for (place, key) in [
        ("labels", "state.workload.kcp.io/abc"),
        ("labels", "kcp.io/tenant-id"),
        ("annotations", "kcp.io/namespace-locator"),
        ("annotations", "diff.syncer.internal.kcp.io/abc"),
    ] {
        let patch = json!({"metadata": {place: {key: "Sync"}}});
        for api in [&clerk, &desk.admin] {
            let answer = api.merge(&path, &patch);
            refused(&answer, 422, "Invalid", &[key, place]);
        }
    }
    let patch = json!({"metadata": {"finalizers": ["workload.kcp.io/syncer-abc"]}});
    let answer = clerk.merge(&path, &patch);
    refused(
        &answer,
        422,
        "Invalid",
        &["workload.kcp.io/syncer-abc", "finalizers"],
    );
    let mut made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "reserved-too", "labels": {"internal.workload.kcp.io/cluster": "x"}}});
    let answer = clerk.post(&desk.config_maps(), &made);
    refused(
        &answer,
        422,
        "Invalid",
        &["internal.workload.kcp.io/cluster"],
    );
    // The name of the logical cluster comes from the URL, whatever somebody writes.
    let patch = json!({"metadata": {"annotations": {"kcp.io/cluster": "elsewhere"}}});
    clerk.merge(&path, &patch).expect(&[200, 422]);
    let kept = desk.admin.get(&path).expect(&[200]).json();
    let cluster = desk.hub.logical_cluster(WORKSPACE);
    assert_eq!(kept["metadata"]["annotations"]["kcp.io/cluster"], cluster);
    // What only looks like it is free.
    made["metadata"]["labels"] =
        json!({"notkcp.io/x": "y", "kcp.io.example.org/x": "y", "kcp.io": "y"});
    clerk.post(&desk.config_maps(), &made).expect(&[201]);
}

#[test]
fn a_placement_on_a_location_it_may_not_use_says_who_can_help() {
    let desk = desk();
    let provider = desk.hub.workspace("walled");
    let consumer = desk.hub.workspace("hopeful");
    let post = |workspace: &str, resource: &str, object: &Value| {
        let path = format!("/clusters/{workspace}/apis/{resource}");
        desk.admin.post(&path, object).expect(&[201]);
    };
    post(
        &provider,
        "workload.kcp.io/v1alpha1/synctargets",
        &json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "garden"}, "spec": {}}),
    );
    let synctargets =
        json!({"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"});
    post(
        &consumer,
        "scheduling.kcp.io/v1alpha1/placements",
        &json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
        "metadata": {"name": "inside"},
        "spec": {"locationSelectors": [{}], "locationResource": synctargets,
            "namespaceSelector": {}, "locationWorkspace": provider}}),
    );
    let path = format!("/clusters/{consumer}/apis/scheduling.kcp.io/v1alpha1/placements/inside");
    let scheduled = || {
        let placement = desk.admin.get(&path).expect(&[200]).json();
        condition(&placement, "Scheduled")
            .cloned()
            .ok_or_else(|| placement.to_string())
    };
    let why = until("the Placement is refused", seconds(20), || {
        let found = scheduled()?;
        if found["reason"] == "LocationForbidden" {
            Ok(found)
        } else {
            Err(found.to_string())
        }
    });
    assert_eq!(why["status"], "False");
    let message = why["message"].as_str().unwrap();
    assert!(
        message.contains(&provider) || message.contains("use"),
        "{message}"
    );
    let said = desk
        .hub
        .tmc(&consumer, &["bind", "compute", &provider, "--timeout", "5"])
        .fails_with(1);
    assert!(said.contains("grant") && said.contains(&provider), "{said}");
    // The remedy is one.
    let grant = ["workspace", "grant", &provider, "--role", "use"];
    desk.hub.tmc(&consumer, &grant).ok();
    until("the Placement may use the Location", seconds(20), || {
        let found = scheduled()?;
        if found["reason"] == "LocationForbidden" {
            Err(found.to_string())
        } else {
            Ok(())
        }
    });
}

/// Registers a kubeconfig by hand; the condition by which it is refused.
fn credentials(desk: &Desk, name: &str, data: &Value) -> Value {
    let secrets = format!("{}/api/v1/namespaces/default/secrets", desk.base);
    let clusters = format!(
        "{}/apis/workload.kcp.io/v1alpha1/namespaces/default/clusters",
        desk.base
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "tmc.kcp.io/kubeconfig",
        "metadata": {"name": name}, "stringData": data});
    desk.admin.post(&secrets, &secret).expect(&[201]);
    let cluster = json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {"kubeconfigSecretRef": {"name": name, "key": "kubeconfig"}}});
    desk.admin.post(&clusters, &cluster).expect(&[201]);
    until("the kubeconfig is judged", seconds(20), || {
        let found = desk
            .admin
            .get(&format!("{clusters}/{name}"))
            .expect(&[200])
            .json();
        match condition(&found, "CredentialsValid") {
            Some(found) if found["status"] == "False" => Ok(found.clone()),
            other => Err(format!("{other:?}")),
        }
    })
}

fn kubeconfig(server: &str, user: &Value) -> String {
    let authority = STANDARD.encode(Authority::new().pair.certificate);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": server, "certificate-authority-data": authority,
        }}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    })
    .to_string()
}

#[test]
fn a_kubeconfig_that_cannot_be_accepted_is_refused_with_the_field_named() {
    let desk = desk();
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "steal",
        "interactiveMode": "Never"}});
    let https = "https://127.0.0.1:1";
    let cases = [
        (
            "no-key",
            json!({"config": "x"}),
            "InvalidCredentials",
            "kubeconfig",
        ),
        (
            "no-yaml",
            json!({"kubeconfig": "{".repeat(200)}),
            "InvalidCredentials",
            "document",
        ),
        (
            "with-exec",
            json!({"kubeconfig": kubeconfig(https, &exec)}),
            "CredentialsForbidden",
            "exec",
        ),
        (
            "with-http",
            json!({"kubeconfig": kubeconfig("http://127.0.0.1:1", &json!({"token": "t"}))}),
            "CredentialsForbidden",
            "server",
        ),
        (
            "with-file",
            json!({"kubeconfig": kubeconfig(https, &json!({"tokenFile": "/etc/shadow"}))}),
            "CredentialsForbidden",
            "tokenFile",
        ),
    ];
    for (name, data, reason, field) in cases {
        let found = credentials(&desk, name, &data);
        assert_eq!(found["reason"], reason, "{name}: {found}");
        let message = found["message"].as_str().unwrap();
        assert!(message.contains(field), "{name} names {field}: {message}");
        assert!(
            !message.contains("steal") && !message.contains("shadow"),
            "{message}"
        );
    }
}

#[test]
fn register_says_what_is_wrong_with_a_kubeconfig() {
    let desk = desk();
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x"}});
    let file = desk
        .hub
        .scratch()
        .write("exec.kubeconfig", kubeconfig("https://127.0.0.1:1", &exec));
    let args = [
        "cluster",
        "register",
        "bad",
        "--member-kubeconfig",
        file.to_str().unwrap(),
        "--raw",
    ];
    let message = desk.hub.tmc(WORKSPACE, &args).fails_with(1);
    assert!(message.contains("user.exec"), "{message}");
    let absent = [
        "cluster",
        "register",
        "bad",
        "--member-kubeconfig",
        "/absent",
        "--raw",
    ];
    let message = desk.hub.tmc(WORKSPACE, &absent).fails_with(1);
    assert!(
        message.contains("/absent") && message.contains("--member-kubeconfig"),
        "{message}"
    );
    let without_raw = [
        "cluster",
        "register",
        "bad",
        "--member-kubeconfig",
        file.to_str().unwrap(),
    ];
    let message = desk.hub.tmc(WORKSPACE, &without_raw).fails_with(1);
    assert!(
        message.contains("the exec plugin x is not installed"),
        "{message}"
    );
}

#[test]
fn a_value_of_the_wrong_type_or_shape_is_named_by_its_path() {
    let desk = desk();
    let mut wrong = deployment("typed");
    wrong["spec"]["replicas"] = "three".into();
    let answer = desk
        .admin
        .post(&desk.deployments(), &wrong)
        .expect(&[400, 422]);
    assert!(answer.message().contains("replicas"), "{answer}");
    let mut nameless = deployment("x");
    nameless["metadata"] = json!({});
    refused(
        &desk.admin.post(&desk.deployments(), &nameless),
        422,
        "Invalid",
        &["name"],
    );
    let mut misnamed = deployment("x");
    misnamed["metadata"]["name"] = "No_Name".into();
    refused(
        &desk.admin.post(&desk.deployments(), &misnamed),
        422,
        "Invalid",
        &["metadata.name"],
    );
    let mut target = json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "odd"}, "spec": {"syncerConfig": {"mode": "Sideways"}}});
    let answer = desk.admin.post(&desk.targets(), &target);
    refused(
        &answer,
        422,
        "Invalid",
        &["spec.syncerConfig.mode", "Sideways", "Hosted"],
    );
    target["spec"] = json!({"podSecurity": 7});
    let answer = desk.admin.post(&desk.targets(), &target);
    refused(&answer, 422, "Invalid", &["spec.podSecurity"]);
}
