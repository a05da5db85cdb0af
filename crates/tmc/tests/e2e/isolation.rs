//! Workspaces do not see each other.

use http::Method;
use serde_json::{Value, json};

use crate::support::http::{Api, Content};
use crate::support::hub::{self, Hub};

/// In every object of the neighbour: must be in no answer.
const MARKER: &str = "sesame-of-the-neighbour";

/// A request to try.
struct Attempt {
    method: Method,
    path: String,
    content: Option<Content>,
}

impl Attempt {
    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            content: None,
        }
    }

    fn with(method: Method, path: String, content: Content) -> Self {
        Self {
            method,
            path,
            content: Some(content),
        }
    }
}

/// Makes the same objects in a workspace, with `word` in them.
fn furnish(api: &Api, workspace: &str, word: &str) {
    let base = format!("/clusters/{workspace}");
    let meta = |namespace: Option<&str>| {
        let mut meta = json!({"name": "same"});
        if let Some(namespace) = namespace {
            meta["namespace"] = namespace.into();
        }
        meta
    };
    let namespaced = format!("{base}/api/v1/namespaces/shared");
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shared"}});
    api.post(&format!("{base}/api/v1/namespaces"), &namespace)
        .expect(&[201]);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(Some("shared")),
        "data": {"word": word}});
    api.post(&format!("{namespaced}/configmaps"), &map)
        .expect(&[201]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta(Some("shared")),
        "stringData": {"word": word}});
    api.post(&format!("{namespaced}/secrets"), &secret)
        .expect(&[201]);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": meta(Some("shared")),
        "spec": {"selector": {"matchLabels": {"app": "same"}}, "template": {
            "metadata": {"labels": {"app": "same"}, "annotations": {"word": word}},
            "spec": {"containers": [{"name": "same", "image": "nginx"}]}}}});
    let collection = format!("{base}/apis/apps/v1/namespaces/shared/deployments");
    api.post(&collection, &deployment).expect(&[201]);
    let target = json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "same", "annotations": {"word": word}}, "spec": {}});
    api.post(
        &format!("{base}/apis/workload.kcp.io/v1alpha1/synctargets"),
        &target,
    )
    .expect(&[201]);
}

/// Every collection to try, below a workspace's URL, with the kind of its objects.
const COLLECTIONS: [(&str, &str, &str); 8] = [
    ("/api/v1/namespaces/shared/configmaps", "v1", "ConfigMap"),
    ("/api/v1/namespaces/shared/secrets", "v1", "Secret"),
    (
        "/apis/apps/v1/namespaces/shared/deployments",
        "apps/v1",
        "Deployment",
    ),
    ("/api/v1/namespaces", "v1", "Namespace"),
    (
        "/apis/workload.kcp.io/v1alpha1/synctargets",
        "workload.kcp.io/v1alpha1",
        "SyncTarget",
    ),
    (
        "/apis/scheduling.kcp.io/v1alpha1/placements",
        "scheduling.kcp.io/v1alpha1",
        "Placement",
    ),
    (
        "/apis/tenancy.kcp.io/v1alpha1/workspaces",
        "tenancy.kcp.io/v1alpha1",
        "Workspace",
    ),
    (
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
    ),
];

/// Every verb on every collection below `base`.
fn every_verb(base: &str) -> Vec<Attempt> {
    let mut all = Vec::new();
    for (collection, api_version, kind) in COLLECTIONS {
        let collection = format!("{base}{collection}");
        let item = format!("{collection}/same");
        let mut object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": "same", "labels": {"mine": "yes"}}});
        if kind == "ClusterRoleBinding" {
            let group = "rbac.authorization.k8s.io";
            object["roleRef"] =
                json!({"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"});
            object["subjects"] = json!([{"apiGroup": group, "kind": "User", "name": "alice"}]);
        }
        for path in [&collection, &item] {
            all.push(Attempt::new(Method::GET, path.clone()));
            all.push(Attempt::new(
                Method::GET,
                format!("{path}?watch=true&timeoutSeconds=1"),
            ));
            all.push(Attempt::new(Method::DELETE, path.clone()));
        }
        all.push(Attempt::with(
            Method::POST,
            collection.clone(),
            Content::json(&object),
        ));
        for path in [item.clone(), format!("{item}/status")] {
            all.push(Attempt::with(
                Method::PUT,
                path.clone(),
                Content::json(&object),
            ));
            all.push(Attempt::new(Method::GET, path.clone()));
            for (kind, body) in patches() {
                all.push(Attempt::with(
                    Method::PATCH,
                    path.clone(),
                    Content::raw(kind, body),
                ));
            }
        }
    }
    let deployment = format!("{base}/apis/apps/v1/namespaces/shared/deployments/same");
    all.push(Attempt::new(Method::GET, format!("{deployment}/scale")));
    let scale = Content::raw("application/merge-patch+json", r#"{"spec":{"replicas":9}}"#);
    all.push(Attempt::with(
        Method::PATCH,
        format!("{deployment}/scale"),
        scale,
    ));
    all
}

fn patches() -> [(&'static str, &'static str); 4] {
    let merge = r#"{"metadata":{"labels":{"mine":"yes"}}}"#;
    [
        ("application/merge-patch+json", merge),
        ("application/strategic-merge-patch+json", merge),
        (
            "application/json-patch+json",
            r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]"#,
        ),
        ("application/apply-patch+yaml", merge),
    ]
}

/// Entry points of a workspace that tell about it or give power in it.
fn entry_points(base: &str) -> Vec<Attempt> {
    let mut all: Vec<Attempt> = [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/version",
        "/metrics",
    ]
    .iter()
    .map(|path| Attempt::new(Method::GET, format!("{base}{path}")))
    .collect();
    let reviews = "/apis/authorization.k8s.io/v1";
    let attributes = json!({"namespace": "shared", "verb": "get", "resource": "secrets"});
    for (resource, kind, spec) in [
        (
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": attributes}),
        ),
        (
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            json!({"namespace": "shared"}),
        ),
        (
            "subjectaccessreviews",
            "SubjectAccessReview",
            json!({"user": "alice", "resourceAttributes": attributes}),
        ),
    ] {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
        let path = format!("{base}{reviews}/{resource}");
        all.push(Attempt::with(Method::POST, path, Content::json(&review)));
    }
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "same"}, "spec": {"request": "", "usages": ["client auth"],
        "signerName": "kubernetes.io/kube-apiserver-client"}});
    let path = format!("{base}/apis/certificates.k8s.io/v1/certificatesigningrequests");
    all.push(Attempt::with(Method::POST, path, Content::json(&request)));
    all
}

/// Tries everything and lists what was not refused as it must be.
fn not_refused(api: &Api, attempts: Vec<Attempt>, refusals: &[u16]) -> Vec<String> {
    let mut wrong = Vec::new();
    for attempt in attempts {
        let answer = api.send(&attempt.method, &attempt.path, attempt.content);
        if !refusals.contains(&answer.code) || answer.text.contains(MARKER) {
            wrong.push(answer.to_string());
        }
    }
    wrong
}

/// Two workspaces with the same objects; alice administers the first.
struct Neighbours {
    hub: &'static Hub,
    red: String,
    blue: String,
    alice: Api,
    alice_kubeconfig: String,
}

impl Neighbours {
    fn new(suffix: &str) -> Self {
        let hub = hub::shared();
        let admin = hub.api();
        let red = hub.workspace(&format!("red-{suffix}"));
        let blue = hub.workspace(&format!("blue-{suffix}"));
        furnish(&admin, &red, "her-own-word");
        furnish(&admin, &blue, MARKER);
        hub.grant(&red, "alice", "admin");
        let file = hub.user(&red, "alice");
        let alice_kubeconfig = std::fs::read_to_string(file).unwrap();
        let alice = Api::from_kubeconfig(&alice_kubeconfig);
        Self {
            hub,
            red,
            blue,
            alice,
            alice_kubeconfig,
        }
    }

    /// What is in the neighbour's workspace, exactly.
    fn blue_objects(&self) -> Vec<Value> {
        let admin = self.hub.api();
        let lists = COLLECTIONS.iter().map(|(collection, ..)| {
            let list = admin
                .get(&format!("/clusters/{}{collection}", self.blue))
                .expect(&[200])
                .json();
            list["items"].clone()
        });
        lists.collect()
    }
}

#[test]
fn no_verb_reaches_across_the_border_of_a_workspace() {
    let neighbours = Neighbours::new("verbs");
    let before = neighbours.blue_objects();
    // Her own is hers.
    let own = format!(
        "/clusters/{}/api/v1/namespaces/shared/secrets/same",
        neighbours.red
    );
    neighbours.alice.get(&own).expect(&[200]);
    let cluster = neighbours.hub.logical_cluster(&neighbours.blue);
    let mut wrong = Vec::new();
    for name in [neighbours.blue.as_str(), cluster.as_str(), "root"] {
        let base = format!("/clusters/{name}");
        let mut attempts = every_verb(&base);
        attempts.extend(entry_points(&base));
        wrong.extend(not_refused(&neighbours.alice, attempts, &[403, 404]));
    }
    assert!(
        wrong.is_empty(),
        "{} were not refused:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(
        neighbours.blue_objects(),
        before,
        "nothing has changed over there"
    );
}

#[test]
fn the_wildcard_is_closed_to_tenants() {
    let neighbours = Neighbours::new("wildcard");
    let before = neighbours.blue_objects();
    let mut attempts = every_verb("/clusters/*");
    for path in [
        "/api/v1/configmaps",
        "/api/v1/secrets",
        "/apis/apps/v1/deployments",
    ] {
        for query in [
            "",
            "?watch=true&timeoutSeconds=1",
            "?limit=1",
            "?resourceVersion=0",
        ] {
            attempts.push(Attempt::new(
                Method::GET,
                format!("/clusters/*{path}{query}"),
            ));
        }
    }
    let encoded = Attempt::new(Method::GET, "/clusters/%2A/api/v1/secrets".to_owned());
    let mut wrong = not_refused(&neighbours.alice, vec![encoded], &[400, 403, 404]);
    wrong.extend(not_refused(&neighbours.alice, attempts, &[403, 404, 405]));
    assert!(
        wrong.is_empty(),
        "{} were not refused:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(
        neighbours.blue_objects(),
        before,
        "nothing has changed over there"
    );
}

#[test]
fn crooked_urls_and_views_of_others_lead_nowhere() {
    let neighbours = Neighbours::new("crooked");
    let (red, blue) = (&neighbours.red, &neighbours.blue);
    let admin = neighbours.hub.api();
    let cluster = neighbours.hub.logical_cluster(blue);
    let target = format!("/clusters/{blue}/apis/workload.kcp.io/v1alpha1/synctargets/same");
    let target = admin.get(&target).expect(&[200]).json();
    let uid = target["metadata"]["uid"].as_str().unwrap();
    let secret = "api/v1/namespaces/shared/secrets/same";
    let encoded = blue.replace(':', "%3A");
    let mut paths = vec![
        format!("/{secret}"),
        format!("//clusters/{blue}/{secret}"),
        format!("/clusters//{blue}/{secret}"),
        format!("/clusters/{encoded}/{secret}"),
        format!("/clusters/{red}/../{blue}/{secret}"),
        format!("/clusters/{red}/%2e%2e/{blue}/{secret}"),
        format!("/clusters/{red}/clusters/{blue}/{secret}"),
        format!("/clusters/{red},{blue}/{secret}"),
        format!("/clusters/{red}%00{blue}/{secret}"),
        format!("/clusters/{}/{secret}", blue.to_uppercase()),
    ];
    for view in ["syncer", "upsyncer"] {
        for inner in ["*", cluster.as_str()] {
            let base = format!("/services/{view}/{cluster}/same/{uid}/clusters/{inner}");
            paths.push(format!("{base}/api"));
            paths.push(format!("{base}/apis"));
            paths.push(format!("{base}/api/v1/secrets"));
            paths.push(format!("{base}/{secret}"));
        }
        let base = format!("/services/{view}/{cluster}/same/{uid}/apis/syncer.kcp.io/v1alpha1");
        paths.extend(["connect", "heartbeat", "resources"].map(|end| format!("{base}/{end}")));
    }
    for fleet in ["*", blue.as_str(), cluster.as_str()] {
        let base = format!("/services/fleet/clusters/{fleet}/apis/fleet.kcp.io/v1alpha1");
        paths.extend(["targetresources", "fleetresources"].map(|end| format!("{base}/{end}")));
    }
    let attempts = paths
        .into_iter()
        .map(|path| Attempt::new(Method::GET, path))
        .collect();
    // A path that is no cluster name at all may be called so.
    let wrong = not_refused(&neighbours.alice, attempts, &[400, 403, 404, 405]);
    assert!(
        wrong.is_empty(),
        "{} were not refused:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn headers_and_forged_tokens_make_nobody_another() {
    let neighbours = Neighbours::new("headers");
    let path = format!(
        "/clusters/{}/api/v1/namespaces/shared/secrets/same",
        neighbours.blue
    );
    let forged: [&[(&str, &str)]; 5] = [
        &[
            ("X-Remote-User", "system:admin"),
            ("X-Remote-Group", "system:masters"),
        ],
        &[("X-Remote-Extra-Cluster", "root")],
        &[("Impersonate-User", "system:admin")],
        &[
            ("Impersonate-User", "alice"),
            ("Impersonate-Group", "system:masters"),
        ],
        &[("Authorization", "Bearer system:masters")],
    ];
    for headers in forged {
        let answer = neighbours.alice.get_with_headers(&path, headers);
        assert!(!answer.text.contains(MARKER), "{headers:?}: {answer}");
        answer.expect(&[401, 403, 404]);
    }
    let own = format!(
        "/clusters/{}/api/v1/namespaces/shared/secrets/same",
        neighbours.red
    );
    let impersonating = [("Impersonate-User", "bob")];
    neighbours
        .alice
        .get_with_headers(&own, &impersonating)
        .expect(&[403]);
    let nobody = Api::anonymous(&neighbours.alice_kubeconfig);
    nobody.get(&path).expect(&[401, 403]);
    nobody.get(&own).expect(&[401, 403]);
    Api::with_token(&neighbours.alice_kubeconfig, "eyJhbGciOiJub25lIn0.e30.")
        .get(&own)
        .expect(&[401]);
}

#[test]
fn a_confined_identity_cannot_be_stretched() {
    let neighbours = Neighbours::new("stretch");
    // The neighbour lets a user of the same name in: the certificate was still signed elsewhere.
    neighbours.hub.grant(&neighbours.blue, "alice", "admin");
    let path = format!(
        "/clusters/{}/api/v1/namespaces/shared/secrets/same",
        neighbours.blue
    );
    let answer = neighbours.alice.get(&path).expect(&[403, 404]);
    assert!(!answer.text.contains(MARKER));
    let refused = neighbours
        .hub
        .tmc(
            "root",
            &[
                "workspace",
                "kubeconfig",
                &neighbours.red,
                "--user",
                "system:admin",
            ],
        )
        .fails_with(1);
    assert!(refused.contains("system:"), "{refused}");
}
