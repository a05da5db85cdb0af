//! Roles that every workspace has without storing them, so that an empty workspace stays small. They
//! cannot be shadowed: a role that could be emptied, bound and removed again would be an escalation.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use tmc_apimachinery::user::{GROUP_AUTHENTICATED, UserInfo};

use super::rules::Rule;

type Rules = Arc<Vec<Rule>>;

const READ: [&str; 3] = ["get", "list", "watch"];

fn rules(value: &Value) -> Rules {
    Arc::new(Rule::list(value))
}

/// Entry to the workspace.
fn access() -> Value {
    json!({"verbs": ["access"], "nonResourceURLs": ["/"]})
}

/// Rules for what an application uses, with the verbs given; RBAC only for administrators.
fn application(verbs: &[&str]) -> Vec<Value> {
    let on = |groups: &[&str], resources: &[&str]| json!({"verbs": verbs, "apiGroups": groups, "resources": resources});
    vec![
        on(
            &[""],
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "pods",
                "podtemplates",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
            ],
        ),
        on(
            &["apps"],
            &[
                "controllerrevisions",
                "daemonsets",
                "deployments",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
        ),
        on(&["batch"], &["cronjobs", "jobs"]),
        on(&["autoscaling"], &["horizontalpodautoscalers"]),
        on(&["networking.k8s.io"], &["ingresses", "networkpolicies"]),
        on(&["policy"], &["poddisruptionbudgets"]),
        on(&["discovery.k8s.io"], &["endpointslices"]),
        on(&["coordination.k8s.io"], &["leases"]),
    ]
}

fn read_only() -> Vec<Value> {
    let mut all = application(&READ);
    all.push(json!({"verbs": READ, "apiGroups": [""], "resources": [
        "events", "limitranges", "namespaces", "namespaces/status", "pods/log", "pods/status",
        "resourcequotas", "services/status",
    ]}));
    all.push(json!({"verbs": READ, "apiGroups": ["apps"], "resources": ["*/status"]}));
    all.push(json!({"verbs": READ, "apiGroups": ["scheduling.kcp.io"], "resources": ["placements", "locations"]}));
    all.push(access());
    all
}

fn edit_rules() -> Vec<Value> {
    let mut all = read_only();
    let verbs = ["create", "delete", "deletecollection", "patch", "update"];
    all.extend(application(&verbs));
    let full = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    all.push(json!({"verbs": full, "apiGroups": [""], "resources": ["secrets"]}));
    all.push(json!({"verbs": full, "apiGroups": [""], "resources": ["namespaces"]}));
    all.push(
        json!({"verbs": full, "apiGroups": ["scheduling.kcp.io"], "resources": ["placements"]}),
    );
    all.push(
        json!({"verbs": ["create"], "apiGroups": [""], "resources": ["serviceaccounts/token"]}),
    );
    all.push(json!({"verbs": ["create", "patch"], "apiGroups": [""], "resources": ["events"]}));
    all
}

static CLUSTER_ADMIN: LazyLock<Rules> = LazyLock::new(|| {
    rules(&json!([
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ]))
});
static ADMIN: LazyLock<Rules> = LazyLock::new(|| {
    let mut all = edit_rules();
    let full = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    all.push(json!({"verbs": full, "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]}));
    all.push(json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"]}));
    rules(&Value::Array(all))
});
static EDIT: LazyLock<Rules> = LazyLock::new(|| rules(&Value::Array(edit_rules())));
static VIEW: LazyLock<Rules> = LazyLock::new(|| rules(&Value::Array(read_only())));
static USE: LazyLock<Rules> = LazyLock::new(|| {
    rules(&json!([
        {"verbs": ["use", "get", "list", "watch"], "apiGroups": ["scheduling.kcp.io"], "resources": ["locations"]},
        access(),
    ]))
});
static ACCESS: LazyLock<Rules> = LazyLock::new(|| rules(&json!([access()])));
/// For services that let others check tokens and permissions for them.
static DELEGATOR: LazyLock<Rules> = LazyLock::new(|| {
    rules(&json!([
        {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"]},
        {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"]},
    ]))
});
static BASIC: LazyLock<Rules> = LazyLock::new(|| {
    rules(&json!([
        {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
         "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
        {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
        {"verbs": ["get"], "nonResourceURLs": [
            "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/",
            "/healthz", "/livez", "/readyz",
        ]},
    ]))
});

/// The rules of a built-in ClusterRole.
pub(super) fn cluster_role(name: &str) -> Option<Rules> {
    let rules = match name {
        "cluster-admin" => &CLUSTER_ADMIN,
        "admin" => &ADMIN,
        "edit" => &EDIT,
        "view" => &VIEW,
        "tmc:use" => &USE,
        "system:kcp:workspace:access" => &ACCESS,
        "system:auth-delegator" => &DELEGATOR,
        "system:basic-user" | "system:discovery" => &BASIC,
        _ => return None,
    };
    Some((*rules).clone())
}

/// What everyone who authenticated may do in a workspace that they may enter: discovery and
/// questions about themselves.
pub(super) fn implicit(user: &UserInfo) -> Option<Rules> {
    user.in_group(GROUP_AUTHENTICATED).then(|| BASIC.clone())
}
