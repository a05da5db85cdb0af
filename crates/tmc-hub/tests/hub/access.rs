use rstest::rstest;
use serde_json::{Value, json};
use tmc_apimachinery::user::UserInfo;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind};

use crate::support::{configmap, eventually, start};

#[tokio::test]
async fn two_workspaces_with_same_named_objects_never_meet() {
    let hub = start().await;
    let (a, b) = (hub.workspace("a").await, hub.workspace("b").await);
    hub.grant(&a, "ann", "edit").await;
    hub.grant(&b, "bob", "edit").await;
    for path in [&a, &b] {
        hub.configmaps(path)
            .create("default", &configmap("same"))
            .await
            .unwrap();
    }
    let own = hub.user("ann", &a, "", "v1", "configmaps");
    assert!(own.get("default", "same").await.is_ok());
    let border = hub.user("ann", &b, "", "v1", "configmaps");
    let none = DeleteParams::default();
    let codes = [
        border
            .get("default", "same")
            .await
            .map(drop)
            .unwrap_err()
            .code(),
        border
            .list("default", &ListParams::default())
            .await
            .map(drop)
            .unwrap_err()
            .code(),
        border
            .create("default", &configmap("x"))
            .await
            .map(drop)
            .unwrap_err()
            .code(),
        border
            .replace("default", "same", "", &configmap("same"))
            .await
            .map(drop)
            .unwrap_err()
            .code(),
        border
            .patch("default", "same", "", PatchKind::Merge, &json!({}))
            .await
            .map(drop)
            .unwrap_err()
            .code(),
        border
            .delete("default", "same", &none)
            .await
            .unwrap_err()
            .code(),
    ];
    assert_eq!(codes, [Some(403); 6]);
    let everywhere = hub.user("ann", "/clusters/*", "", "v1", "configmaps");
    assert_eq!(
        everywhere
            .list("", &ListParams::default())
            .await
            .unwrap_err()
            .code(),
        Some(403)
    );
}

#[tokio::test]
async fn the_wildcard_lists_all_workspaces_for_the_privileged_and_takes_no_other_verb() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    hub.configmaps(&a)
        .create("default", &configmap("x"))
        .await
        .unwrap();
    hub.configmaps("/clusters/root")
        .create("default", &configmap("x"))
        .await
        .unwrap();
    let all = hub.configmaps("/clusters/*");
    let list = all.list("", &ListParams::default()).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let error = all.get("default", "x").await.unwrap_err();
    assert_eq!(error.code(), Some(405));
    assert!(
        error.to_string().ends_with("in the `*` logical cluster"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_workspace_is_not_found_for_the_privileged_and_forbidden_for_others() {
    let hub = start().await;
    for path in ["/clusters/root:nope", "/clusters/nope"] {
        let admin = hub.configmaps(path).get("default", "x").await.unwrap_err();
        assert_eq!(admin.code(), Some(404), "{path}: {admin}");
        let user = hub
            .user("eve", path, "", "v1", "configmaps")
            .get("default", "x")
            .await;
        assert_eq!(user.unwrap_err().code(), Some(403), "{path}");
    }
    let error = hub
        .configmaps("/clusters/No_Good")
        .get("default", "x")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(400));
    assert!(
        error.to_string().contains("does not match the regex"),
        "{error}"
    );
}

#[tokio::test]
async fn the_creator_of_a_workspace_is_its_administrator_and_nobody_else_is() {
    let hub = start().await;
    hub.grant("/clusters/root", "ann", "cluster-admin").await;
    let mine = hub.user(
        "ann",
        "/clusters/root",
        "tenancy.kcp.io",
        "v1alpha1",
        "workspaces",
    );
    let object = json!({"apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "mine"}, "spec": {}});
    mine.create("", &object).await.unwrap();
    crate::support::eventually(|| async {
        mine.get("", "mine").await.unwrap()["status"]["phase"] == "Ready"
    })
    .await;
    let path = "/clusters/root:mine";
    hub.user("ann", path, "", "v1", "configmaps")
        .create("default", &configmap("x"))
        .await
        .unwrap();
    let eve = hub
        .user("eve", path, "", "v1", "configmaps")
        .get("default", "x")
        .await;
    assert_eq!(eve.unwrap_err().code(), Some(403));
}

fn role(verbs: &[&str], resources: &[&str]) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"generateName": "r-"},
        "rules": [{"verbs": verbs, "apiGroups": [""], "resources": resources}]})
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let hub = start().await;
    let api = "rbac.authorization.k8s.io";
    let bindings = hub.admin("/clusters/root", api, "v1", "clusterrolebindings");
    let roles = hub.admin("/clusters/root", api, "v1", "clusterroles");
    let mut helper = role(&["get"], &["pods"]);
    helper["metadata"] = json!({"name": "helper"});
    helper["rules"].as_array_mut().unwrap().extend([
        json!({"verbs": ["access"], "nonResourceURLs": ["/"]}),
        json!({"verbs": ["create"], "apiGroups": [api], "resources": ["clusterroles", "clusterrolebindings"]}),
    ]);
    roles.create("", &helper).await.unwrap();
    let binding = |role: &str| {
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"generateName": "b-"},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": api, "kind": "User", "name": "ann"}]})
    };
    bindings.create("", &binding("helper")).await.unwrap();
    let ann_roles = hub.user("ann", "/clusters/root", api, "v1", "clusterroles");
    ann_roles
        .create("", &role(&["get"], &["pods"]))
        .await
        .unwrap();
    let error = ann_roles
        .create("", &role(&["get"], &["secrets"]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(error.to_string().contains("not currently held"), "{error}");
    let ann_bindings = hub.user("ann", "/clusters/root", api, "v1", "clusterrolebindings");
    let error = ann_bindings
        .create("", &binding("cluster-admin"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
    ann_bindings.create("", &binding("helper")).await.unwrap();
}

#[tokio::test]
async fn a_permission_ends_with_its_binding() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    hub.grant(&a, "ann", "view").await;
    let own = hub.user("ann", &a, "", "v1", "configmaps");
    own.list("default", &ListParams::default()).await.unwrap();
    let bindings = hub.admin(&a, "rbac.authorization.k8s.io", "v1", "clusterrolebindings");
    let list = bindings.list("", &ListParams::default()).await.unwrap();
    for item in list["items"].as_array().unwrap() {
        let name = item["metadata"]["name"].as_str().unwrap();
        bindings
            .delete("", name, &DeleteParams::default())
            .await
            .unwrap();
    }
    assert_eq!(
        own.list("default", &ListParams::default())
            .await
            .unwrap_err()
            .code(),
        Some(403)
    );
}

#[rstest]
#[case("view", "get", "configmaps", true)]
#[case("view", "get", "secrets", false)]
#[case("view", "delete", "configmaps", false)]
#[case("edit", "delete", "configmaps", true)]
#[case("edit", "create", "secrets", true)]
#[case("tmc:use", "get", "configmaps", false)]
#[case("cluster-admin", "create", "secrets", true)]
#[tokio::test]
async fn a_review_answers_what_a_role_permits(
    #[case] role: &str,
    #[case] verb: &str,
    #[case] resource: &str,
    #[case] expected: bool,
) {
    let hub = start().await;
    hub.grant("/clusters/root", "ann", role).await;
    let asked =
        json!({"resourceAttributes": {"verb": verb, "resource": resource, "namespace": "default"}});
    let api = "authorization.k8s.io";
    let selves = hub.user(
        "ann",
        "/clusters/root",
        api,
        "v1",
        "selfsubjectaccessreviews",
    );
    let kind = |kind: &str, spec: Value| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let answer = selves
        .create("", &kind("SelfSubjectAccessReview", asked.clone()))
        .await
        .unwrap();
    assert_eq!(answer["status"]["allowed"], expected);
    let others = hub.admin("/clusters/root", api, "v1", "subjectaccessreviews");
    let mut spec = asked;
    spec["user"] = "ann".into();
    let answer = others
        .create("", &kind("SubjectAccessReview", spec))
        .await
        .unwrap();
    assert_eq!(answer["status"]["allowed"], expected);
}

#[tokio::test]
async fn a_review_of_nobody_is_refused_and_one_of_oneself_tells_who_one_is() {
    let hub = start().await;
    let api = "authorization.k8s.io";
    let others = hub.admin("/clusters/root", api, "v1", "subjectaccessreviews");
    let nobody = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    assert_eq!(
        others.create("", &nobody).await.unwrap_err().code(),
        Some(422)
    );
    let who = hub.admin(
        "/clusters/root",
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
    );
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = who.create("", &asked).await.unwrap();
    assert_eq!(answer["status"]["userInfo"]["username"], "admin");
}

#[tokio::test]
async fn an_identity_issued_for_one_workspace_is_nobody_in_another() {
    let hub = start().await;
    let (a, b) = (hub.workspace("a").await, hub.workspace("b").await);
    hub.grant(&a, "ann", "view").await;
    hub.grant(&b, "ann", "view").await;
    let scope = hub.hub.resolve("root:a").unwrap();
    let scoped = UserInfo::new("ann", &[&format!("{}{scope}", tmc_hub::SCOPE_GROUP_PREFIX)]);
    let all = ListParams::default();
    hub.client(scoped.clone(), &a, "", "v1", "configmaps")
        .list("", &all)
        .await
        .unwrap();
    let error = hub
        .client(scoped, &b, "", "v1", "configmaps")
        .list("", &all)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(
        error.to_string().contains("issued for another workspace"),
        "{error}"
    );
}

#[tokio::test]
async fn a_built_in_role_cannot_be_shadowed_and_so_not_bound_by_a_trick() {
    let hub = start().await;
    let roles = hub.admin(
        "/clusters/root",
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
    );
    let mut empty = role(&[], &[]);
    empty["metadata"] = json!({"name": "cluster-admin"});
    empty["rules"] = json!([]);
    let error = roles.create("", &empty).await.unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(error.to_string().contains("built in"), "{error}");
}

#[tokio::test]
async fn a_custom_resource_cannot_alias_what_the_hub_serves() {
    let hub = start().await;
    let crds = hub.admin(
        "/clusters/root",
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
    );
    for (group, plural) in [
        ("tenancy.kcp.io", "workspaces"),
        ("other.kcp.io", "things"),
        ("apps", "deployments"),
    ] {
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Cluster",
                "names": {"plural": plural, "kind": "Foo"},
                "versions": [{"name": "v9", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        });
        let error = crds.create("", &crd).await.unwrap_err();
        assert_eq!(error.code(), Some(422), "{group}: {error}");
        assert!(error.to_string().contains("spec.group"), "{error}");
    }
}

#[tokio::test]
async fn a_role_that_was_taken_away_by_somebody_who_left_is_gone_all_the_same() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    hub.grant(&a, "ann", "view").await;
    let maps = hub.user("ann", &a, "", "v1", "configmaps");
    maps.list("default", &ListParams::default()).await.unwrap();
    let api = "rbac.authorization.k8s.io";
    let bindings = hub.admin(&a, api, "v1", "clusterrolebindings");
    let left = || async {
        let all = bindings.list("", &ListParams::default()).await.unwrap();
        let all = all["items"].as_array().unwrap().clone();
        let names = all
            .iter()
            .map(|b| b["metadata"]["name"].as_str().unwrap().to_owned());
        names
            .filter(|name| name.starts_with("grant-"))
            .collect::<Vec<_>>()
    };
    let names = left().await;
    assert_eq!(names.len(), 1);
    hub.delete_and_leave(&format!(
        "{a}/apis/{api}/v1/clusterrolebindings/{}",
        names[0]
    ));
    eventually(|| async { left().await.is_empty() }).await;
    let refused = maps.list("default", &ListParams::default()).await;
    assert_eq!(refused.unwrap_err().code(), Some(403));
}
