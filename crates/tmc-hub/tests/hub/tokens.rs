use std::sync::Arc;
use std::sync::atomic::Ordering;

use rstest::rstest;
use serde_json::{Value, json};
use tmc_hub::storage::Layout;
use tmc_runtime::client::DeleteParams;

use crate::support::{AheadClock, TestHub, eventually, start, start_at, start_with};

const RBAC: &str = "rbac.authorization.k8s.io";

async fn account(hub: &TestHub, path: &str, name: &str) -> Value {
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    hub.admin(path, "", "v1", "serviceaccounts")
        .create("default", &object)
        .await
        .unwrap()
}

async fn request(hub: &TestHub, path: &str, name: &str, spec: Value) -> Result<Value, kube::Error> {
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("{path}/api/v1/namespaces/default/serviceaccounts/{name}/token");
    hub.post(&path, &body).await
}

async fn token(hub: &TestHub, path: &str, name: &str) -> String {
    token_for(hub, path, name, json!({})).await
}

async fn token_for(hub: &TestHub, path: &str, name: &str, spec: Value) -> String {
    let answer = request(hub, path, name, spec).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

async fn review(hub: &TestHub, path: &str, token: &str, audiences: &[&str]) -> Value {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    let path = format!("{path}/apis/authentication.k8s.io/v1/tokenreviews");
    hub.post(&path, &body).await.unwrap()["status"].clone()
}

/// Who the bearer of a token is at a path.
async fn whoami(hub: &TestHub, token: &str, path: &str) -> Result<Value, Option<u16>> {
    let group = "authentication.k8s.io";
    let client = hub.bearer(token, path, group, "v1", "selfsubjectreviews");
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    match client.create("", &asked).await {
        Ok(answer) => Ok(answer["status"]["userInfo"].clone()),
        Err(error) => Err(error.code()),
    }
}

async fn bind(hub: &TestHub, path: &str, subject: Value, role: &str) {
    let object = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"generateName": "grant-"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": [subject]});
    let client = hub.admin(path, RBAC, "v1", "clusterrolebindings");
    client.create("", &object).await.unwrap();
}

#[tokio::test]
async fn a_token_is_its_account_in_its_workspace() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    let robot = account(&hub, &a, "robot").await;
    let answer = request(&hub, &a, "robot", json!({"expirationSeconds": 600}))
        .await
        .unwrap();
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["metadata"]["name"], "robot");
    assert!(answer["status"]["expirationTimestamp"].is_string());
    let token = answer["status"]["token"].as_str().unwrap();
    let user = whoami(&hub, token, &a).await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(user["uid"], robot["metadata"]["uid"]);
    let scope = format!("system:tmc:scope:{}", hub.hub.resolve("root:a").unwrap());
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated",
            scope
        ])
    );
}

#[tokio::test]
async fn roles_bound_to_an_account_are_its_tokens_and_reviews_tell_so() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    account(&hub, &a, "robot").await;
    let token = token(&hub, &a, "robot").await;
    let maps = hub.bearer(&token, &a, "", "v1", "configmaps");
    let error = maps.list("default", &Default::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
    let subject = json!({"kind": "ServiceAccount", "namespace": "default", "name": "robot"});
    bind(&hub, &a, subject, "view").await;
    maps.list("default", &Default::default()).await.unwrap();
    let group = "authorization.k8s.io";
    let rules = hub.bearer(&token, &a, group, "v1", "selfsubjectrulesreviews");
    let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"}});
    let answer = rules.create("", &asked).await.unwrap().to_string();
    assert!(answer.contains("deployments"), "{answer}");
    let access = hub.bearer(&token, &a, group, "v1", "selfsubjectaccessreviews");
    for (verb, allowed) in [("list", true), ("delete", false)] {
        let asked = json!({"apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "resource": "configmaps"}}});
        let answer = access.create("", &asked).await.unwrap();
        assert_eq!(answer["status"]["allowed"], allowed, "{verb}");
    }
}

#[tokio::test]
async fn an_account_of_another_workspace_is_a_user_of_its_own_name() {
    let hub = start().await;
    let (a, b) = (hub.workspace("a").await, hub.workspace("b").await);
    account(&hub, &a, "robot").await;
    account(&hub, &b, "robot").await;
    let local = json!({"kind": "ServiceAccount", "namespace": "default", "name": "robot"});
    bind(&hub, &b, local, "cluster-admin").await;
    let everyone = json!({"kind": "Group", "apiGroup": RBAC, "name": "system:serviceaccounts"});
    bind(&hub, &b, everyone, "cluster-admin").await;
    let token = token(&hub, &a, "robot").await;
    let maps = hub.bearer(&token, &b, "", "v1", "configmaps");
    let error = maps.list("default", &Default::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
    let home = hub.hub.resolve("root:a").unwrap();
    let name = format!("system:kcp:serviceaccount:{home}:default:robot");
    bind(
        &hub,
        &b,
        json!({"kind": "User", "apiGroup": RBAC, "name": name}),
        "view",
    )
    .await;
    maps.list("default", &Default::default()).await.unwrap();
    let reviewed = review(&hub, &b, &token, &[]).await;
    assert_eq!(reviewed["user"]["username"], name.as_str());
    assert_eq!(reviewed["user"]["groups"], json!(["system:authenticated"]));
}

#[tokio::test]
async fn a_workspace_made_by_an_account_belongs_to_that_account_and_not_to_a_namesake() {
    let hub = start().await;
    account(&hub, "/clusters/root", "robot").await;
    let subject = json!({"kind": "ServiceAccount", "namespace": "default", "name": "robot"});
    bind(&hub, "/clusters/root", subject, "cluster-admin").await;
    let robot = token(&hub, "/clusters/root", "robot").await;
    let tenancy = ("tenancy.kcp.io", "v1alpha1", "workspaces");
    let client = hub.bearer(&robot, "/clusters/root", tenancy.0, tenancy.1, tenancy.2);
    let object = json!({"apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "made"}, "spec": {}});
    client.create("", &object).await.unwrap();
    eventually(|| async { client.get("", "made").await.unwrap()["status"]["phase"] == "Ready" })
        .await;
    let made = "/clusters/root:made";
    let own = hub.bearer(&robot, made, "", "v1", "secrets");
    own.list("default", &Default::default()).await.unwrap();
    account(&hub, made, "robot").await;
    let namesake = token(&hub, made, "robot").await;
    let other = hub.bearer(&namesake, made, "", "v1", "secrets");
    let error = other
        .list("default", &Default::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
}

#[tokio::test]
async fn a_request_without_a_workspace_goes_to_the_tokens_own() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    account(&hub, &a, "robot").await;
    let token = token(&hub, &a, "robot").await;
    let user = whoami(&hub, &token, "").await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    let subject = json!({"kind": "ServiceAccount", "namespace": "default", "name": "robot"});
    bind(&hub, &a, subject, "view").await;
    let accounts = hub.bearer(&token, "", "", "v1", "serviceaccounts");
    let found = accounts.get("default", "robot").await.unwrap();
    let cluster = hub.hub.resolve("root:a").unwrap();
    assert_eq!(
        found["metadata"]["annotations"]["kcp.io/cluster"],
        cluster.as_str()
    );
    // A forged claim leads there, and is refused there.
    let (head, tail) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", tail.chars().rev().collect::<String>());
    assert_eq!(whoami(&hub, &forged, "").await, Err(Some(401)));
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_outlives_the_key_that_signed_it() {
    let clock = Arc::new(AheadClock::default());
    let hub = start_at(Layout::Workspaces, clock.clone()).await;
    let root = "/clusters/root";
    account(&hub, root, "robot").await;
    let brief = token(&hub, root, "robot").await;
    let long = token_for(
        &hub,
        root,
        "robot",
        json!({"expirationSeconds": 90 * 86_400}),
    )
    .await;
    clock.0.store(3601, Ordering::SeqCst);
    assert_eq!(whoami(&hub, &brief, root).await, Err(Some(401)));
    let reviewed = review(&hub, root, &brief, &[]).await;
    assert_eq!(reviewed.get("authenticated"), None);
    let why = "[invalid bearer token, service account token has expired]";
    assert_eq!(reviewed["error"], why);
    clock.0.store(60 * 86_400, Ordering::SeqCst);
    let rotated = token(&hub, root, "robot").await;
    let head = |token: &str| token.split('.').next().unwrap().to_owned();
    assert_ne!(head(&rotated), head(&long), "another key signs");
    assert!(whoami(&hub, &rotated, root).await.is_ok());
    assert!(whoami(&hub, &long, root).await.is_ok());
}

#[tokio::test]
async fn audiences_are_honoured() {
    let hub = start().await;
    let root = "/clusters/root";
    account(&hub, root, "robot").await;
    let vault = token_for(
        &hub,
        root,
        "robot",
        json!({"audiences": ["vault", "other"]}),
    )
    .await;
    assert_eq!(whoami(&hub, &vault, root).await, Err(Some(401)));
    let reviewed = review(&hub, root, &vault, &["x", "vault"]).await;
    assert_eq!(reviewed["authenticated"], true);
    assert_eq!(reviewed["audiences"], json!(["vault"]));
    for wrong in [&[][..], &["vaul"]] {
        let reviewed = review(&hub, root, &vault, wrong).await;
        assert_eq!(reviewed.get("authenticated"), None, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_account_even_if_one_of_that_name_is_made_again() {
    let hub = start().await;
    let root = "/clusters/root";
    account(&hub, root, "robot").await;
    let old = token(&hub, root, "robot").await;
    assert!(whoami(&hub, &old, root).await.is_ok());
    let accounts = hub.admin(root, "", "v1", "serviceaccounts");
    let delete = DeleteParams::default();
    accounts.delete("default", "robot", &delete).await.unwrap();
    assert_eq!(whoami(&hub, &old, root).await, Err(Some(401)));
    account(&hub, root, "robot").await;
    assert_eq!(whoami(&hub, &old, root).await, Err(Some(401)));
    let reviewed = review(&hub, root, &old, &[]).await;
    let why = "[invalid bearer token, service account token has been invalidated]";
    assert_eq!(reviewed["error"], why);
}

#[tokio::test]
async fn an_account_that_is_being_deleted_neither_gets_tokens_nor_keeps_them() {
    let hub = start().await;
    let root = "/clusters/root";
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    let accounts = hub.admin(root, "", "v1", "serviceaccounts");
    accounts.create("default", &object).await.unwrap();
    let old = token(&hub, root, "held").await;
    let delete = DeleteParams::default();
    accounts.delete("default", "held", &delete).await.unwrap();
    assert_eq!(whoami(&hub, &old, root).await, Err(Some(401)));
    assert!(request(&hub, root, "held", json!({})).await.is_err());
}

#[rstest]
#[case::secret("secrets", json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}}))]
#[case::pod("pods", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"},
    "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]}}))]
#[tokio::test]
async fn a_bound_token_ends_with_its_object(#[case] resource: &str, #[case] object: Value) {
    let hub = start().await;
    let root = "/clusters/root";
    account(&hub, root, "robot").await;
    let objects = hub.admin(root, "", "v1", resource);
    let made = objects.create("default", &object).await.unwrap();
    let uid = made["metadata"]["uid"].clone();
    let bound = |uid: &Value| {
        json!({"boundObjectRef":
        {"kind": object["kind"], "apiVersion": "v1", "name": "x", "uid": uid}})
    };
    let error = request(&hub, root, "robot", bound(&json!("another"))).await;
    assert!(error.unwrap_err().to_string().contains("does not match"));
    let token = token_for(&hub, root, "robot", bound(&uid)).await;
    assert!(whoami(&hub, &token, root).await.is_ok());
    let delete = DeleteParams::default();
    objects.delete("default", "x", &delete).await.unwrap();
    assert_eq!(whoami(&hub, &token, root).await, Err(Some(401)));
    objects.create("default", &object).await.unwrap();
    assert_eq!(whoami(&hub, &token, root).await, Err(Some(401)));
}

#[rstest]
#[case::secret("secrets", json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}}))]
#[case::pod("pods", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"},
    "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]}}))]
#[case::node("nodes", json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "x"}}))]
#[tokio::test]
async fn a_finalizer_does_not_keep_a_bound_token_alive(
    #[case] resource: &str,
    #[case] mut object: Value,
) {
    let hub = start_with(Layout::Plain).await;
    account(&hub, "", "robot").await;
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let namespace = if resource == "nodes" { "" } else { "default" };
    let objects = hub.admin("", "", "v1", resource);
    objects.create(namespace, &object).await.unwrap();
    let bound = json!({"boundObjectRef":
        {"kind": object["kind"], "apiVersion": "v1", "name": "x"}});
    let token = token_for(&hub, "", "robot", bound).await;
    assert!(whoami(&hub, &token, "").await.is_ok());
    let delete = DeleteParams::default();
    objects.delete(namespace, "x", &delete).await.unwrap();
    objects.get(namespace, "x").await.unwrap();
    assert_eq!(whoami(&hub, &token, "").await, Err(Some(401)));
}

const AGENT: &str = "agent-of-east";

/// An agent's account with its rights, as the controllers make them.
async fn agent(hub: &TestHub, path: &str) {
    let made_for = json!({"name": AGENT,
        "labels": {"tmc.kcp.io/synctarget-uid": "u"},
        "annotations": {"tmc.kcp.io/synctarget": "c/east/u"}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": made_for});
    let accounts = hub.admin(path, "", "v1", "serviceaccounts");
    accounts.create("default", &account).await.unwrap();
    let role = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": made_for, "rules": [
            {"verbs": ["access"], "nonResourceURLs": ["/"]},
            {"verbs": ["create"], "apiGroups": [""], "resources": ["serviceaccounts/token"]},
            {"verbs": ["get", "sync"], "apiGroups": ["workload.kcp.io"],
             "resources": ["synctargets"], "resourceNames": ["east"]}]});
    let roles = hub.admin(path, RBAC, "v1", "clusterroles");
    roles.create("", &role).await.unwrap();
    let binding = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
        "metadata": made_for,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": AGENT},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": AGENT}]});
    let bindings = hub.admin(path, RBAC, "v1", "clusterrolebindings");
    bindings.create("", &binding).await.unwrap();
}

fn token_request(spec: &Value) -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
}

#[tokio::test]
async fn a_token_of_an_agent_is_for_itself_and_for_who_may_sync() {
    let hub = start().await;
    let root = "/clusters/root";
    agent(&hub, root).await;
    account(&hub, root, "robot").await;
    let entry = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": {"name": "entry"},
        "rules": [{"verbs": ["access"], "nonResourceURLs": ["/"]}]});
    let roles = hub.admin(root, RBAC, "v1", "clusterroles");
    roles.create("", &entry).await.unwrap();
    for (user, role) in [
        ("ann", "edit"),
        ("ann", "entry"),
        ("bob", "edit"),
        ("bob", AGENT),
    ] {
        hub.grant(root, user, role).await;
    }
    let asked = token_request(&json!({}));
    let ask = async |client: &tmc_runtime::ResourceClient, name: &str| {
        let answer = client.create_subresource("default", name, "token", &asked);
        answer
            .await
            .map_err(|error| (error.code(), error.to_string()))
    };
    let ann = hub.user("ann", root, "", "v1", "serviceaccounts");
    ask(&ann, "robot").await.unwrap();
    let (code, said) = ask(&ann, AGENT).await.unwrap_err();
    assert_eq!(code, Some(403));
    assert!(said.contains("the verb \"sync\""), "{said}");
    let bob = hub.user("bob", root, "", "v1", "serviceaccounts");
    ask(&bob, AGENT).await.unwrap();
    let own = token(&hub, root, AGENT).await;
    let own = hub.bearer(&own, root, "", "v1", "serviceaccounts");
    ask(&own, AGENT).await.unwrap();
    // Made again without the label, it has the agent's rights all the same.
    let delete = DeleteParams::default();
    ann.delete("default", AGENT, &delete).await.unwrap();
    let again = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": AGENT}});
    ann.create("default", &again).await.unwrap();
    assert_eq!(ask(&ann, AGENT).await.unwrap_err().0, Some(403));
    ask(&bob, AGENT).await.unwrap();
}

#[tokio::test]
async fn a_token_of_an_agent_lives_for_a_day_at_most_and_is_for_the_hub() {
    let hub = start().await;
    let root = "/clusters/root";
    agent(&hub, root).await;
    let year = json!({"expirationSeconds": 365 * 86_400});
    let answer = request(&hub, root, AGENT, year).await.unwrap();
    assert_eq!(answer["spec"]["expirationSeconds"], 86_400);
    let vault = json!({"audiences": ["vault"]});
    let error = request(&hub, root, AGENT, vault)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("spec.audiences"), "{error}");
    let hubs = json!({"audiences": ["https://tmc.default.svc"]});
    request(&hub, root, AGENT, hubs).await.unwrap();
}

#[rstest]
#[case::no_account("nobody", json!({}), "serviceaccounts \"nobody\" not found")]
#[case::too_short("robot", json!({"expirationSeconds": 10}), "spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes")]
#[case::no_such_secret("robot", json!({"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "x"}}), "secrets \"x\" not found")]
#[case::not_bindable("robot", json!({"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "x"}}), "cannot bind token to object of type")]
#[tokio::test]
async fn a_request_that_cannot_be_met_says_why(
    #[case] name: &str,
    #[case] spec: Value,
    #[case] why: &str,
) {
    let hub = start().await;
    account(&hub, "/clusters/root", "robot").await;
    let error = request(&hub, "/clusters/root", name, spec)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn every_namespace_has_a_default_account_which_comes_back() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    let accounts = hub.admin(&a, "", "v1", "serviceaccounts");
    let first = accounts.get("default", "default").await.unwrap();
    let namespaces = hub.admin(&a, "", "v1", "namespaces");
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    namespaces.create("", &object).await.unwrap();
    eventually(|| async { accounts.get("shop", "default").await.is_ok() }).await;
    let delete = DeleteParams::default();
    accounts
        .delete("default", "default", &delete)
        .await
        .unwrap();
    eventually(|| async {
        let again = accounts.get("default", "default").await;
        again.is_ok_and(|again| again["metadata"]["uid"] != first["metadata"]["uid"])
    })
    .await;
}

#[tokio::test]
async fn a_plain_cluster_has_tokens_without_a_workspace() {
    let hub = start_with(Layout::Plain).await;
    account(&hub, "", "robot").await;
    let token = token(&hub, "", "robot").await;
    let user = whoami(&hub, &token, "").await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert!(!user.to_string().contains("tmc"), "{user}");
}

#[tokio::test]
async fn a_token_of_another_hub_is_401() {
    let (ours, theirs) = (start().await, start().await);
    account(&theirs, "/clusters/root", "robot").await;
    let token = token(&theirs, "/clusters/root", "robot").await;
    assert_eq!(
        whoami(&ours, &token, "/clusters/root").await,
        Err(Some(401))
    );
}
