use serde_json::json;
use tmc_apimachinery::meta::meta;
use tmc_hub::storage::Layout;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind};

use crate::support::{configmap, start, start_with};

#[tokio::test]
async fn an_object_is_made_read_changed_and_removed() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    let made = client.create("default", &configmap("a")).await.unwrap();
    assert_eq!(meta(&made).cluster(), "root");
    assert!(!meta(&made).uid().is_empty());
    let read = client.get("default", "a").await.unwrap();
    assert_eq!(made, read);
    let patch = json!({"data": {"k": "w"}});
    let changed = client
        .patch("default", "a", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    assert_eq!(changed["data"]["k"], "w");
    assert_ne!(
        meta(&changed).resource_version(),
        meta(&made).resource_version()
    );
    client
        .delete("default", "a", &DeleteParams::default())
        .await
        .unwrap();
    assert!(client.get("default", "a").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn making_an_object_twice_is_a_conflict_and_an_unknown_namespace_is_named() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    client.create("default", &configmap("a")).await.unwrap();
    let error = client.create("default", &configmap("a")).await.unwrap_err();
    assert_eq!(error.code(), Some(409));
    assert_eq!(error.to_string(), "configmaps \"a\" already exists");
    let error = client.create("nowhere", &configmap("a")).await.unwrap_err();
    assert_eq!(error.to_string(), "namespaces \"nowhere\" not found");
}

#[tokio::test]
async fn a_stale_update_is_refused_and_an_unconditional_one_goes_through() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    let first = client.create("default", &configmap("a")).await.unwrap();
    let patch = json!({"data": {"k": "w"}});
    client
        .patch("default", "a", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    let error = client
        .replace("default", "a", "", &first)
        .await
        .unwrap_err();
    assert!(error.is_conflict());
    assert!(
        error.to_string().contains("the object has been modified"),
        "{error}"
    );
    let mut free = first.clone();
    free["metadata"]["resourceVersion"].take();
    client.replace("default", "a", "", &free).await.unwrap();
}

#[tokio::test]
async fn an_update_that_changes_nothing_makes_no_new_version() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    let made = client.create("default", &configmap("a")).await.unwrap();
    let again = client.replace("default", "a", "", &made).await.unwrap();
    assert_eq!(
        meta(&made).resource_version(),
        meta(&again).resource_version()
    );
}

#[tokio::test]
async fn the_cluster_annotation_comes_from_the_url_whatever_the_body_says() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    let mut forged = configmap("a");
    forged["metadata"]["annotations"] = json!({"kcp.io/cluster": "other"});
    let made = client.create("default", &forged).await.unwrap();
    assert_eq!(meta(&made).cluster(), "root");
    let patch = json!({"metadata": {"annotations": {"kcp.io/cluster": null}}});
    let after = client
        .patch("default", "a", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    assert_eq!(meta(&after).cluster(), "root");
}

#[tokio::test]
async fn a_generated_name_keeps_its_prefix_and_finalizers_hold_an_object() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    let mut object = configmap("");
    object["metadata"] = json!({"generateName": "run-", "finalizers": ["example.org/held"]});
    let made = client.create("default", &object).await.unwrap();
    let name = meta(&made).name().to_owned();
    assert!(name.starts_with("run-") && name.len() == 9, "{name}");
    client
        .delete("default", &name, &DeleteParams::default())
        .await
        .unwrap();
    let marked = client.get("default", &name).await.unwrap();
    assert!(!meta(&marked).deletion_timestamp().is_empty());
    let patch = json!({"metadata": {"finalizers": ["example.org/held", "example.org/more"]}});
    let error = client
        .patch("default", &name, "", PatchKind::Merge, &patch)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(422), "{error}");
    let patch = json!({"metadata": {"finalizers": null}});
    client
        .patch("default", &name, "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    assert!(
        client
            .get("default", &name)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn spec_and_status_of_a_deployment_are_written_apart_and_generation_counts_the_spec() {
    let hub = start().await;
    let client = hub.admin("/clusters/root", "apps", "v1", "deployments");
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]}}},
        "status": {"replicas": 9},
    });
    let made = client.create("default", &object).await.unwrap();
    assert_eq!(made["spec"]["replicas"], 1, "defaulted");
    assert_eq!(
        made["status"].get("replicas"),
        None,
        "a creator does not set status"
    );
    assert_eq!(meta(&made).generation(), 1);
    let patch = json!({"spec": {"replicas": 2}, "status": {"replicas": 7}});
    let after = client
        .patch("default", "web", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    assert_eq!(
        (meta(&after).generation(), after["status"].get("replicas")),
        (2, None)
    );
    let after = client
        .patch("default", "web", "status", PatchKind::Merge, &patch)
        .await
        .unwrap();
    assert_eq!(
        (meta(&after).generation(), &after["status"]["replicas"]),
        (2, &json!(7))
    );
    let patch = json!({"spec": {"replicas": 3}});
    let after = client
        .patch("default", "web", "status", PatchKind::Merge, &patch)
        .await
        .unwrap();
    assert_eq!(
        after["spec"]["replicas"], 2,
        "a status write leaves the spec alone"
    );
}

#[tokio::test]
async fn pages_of_a_list_join_to_the_whole_at_one_revision() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    for number in 0..7 {
        client
            .create("default", &configmap(&format!("c{number}")))
            .await
            .unwrap();
    }
    let mut params = ListParams {
        limit: 3,
        ..ListParams::default()
    };
    let mut names = Vec::new();
    loop {
        let page = client.list("default", &params).await.unwrap();
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|item| meta(item).name().to_owned()));
        // What is made meanwhile is not part of this list.
        let late = format!("c{}x", names.len());
        client.create("default", &configmap(&late)).await.unwrap();
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => params.continue_token = token.to_owned(),
            _ => break,
        }
    }
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
}

#[tokio::test]
async fn a_continue_token_opens_nothing_but_its_own_list() {
    let hub = start().await;
    let secrets = hub.admin("/clusters/root", "", "v1", "secrets");
    for name in ["a", "b"] {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        secrets.create("default", &object).await.unwrap();
    }
    let params = ListParams {
        limit: 1,
        ..ListParams::default()
    };
    let page = secrets.list("default", &params).await.unwrap();
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    let params = ListParams {
        continue_token: token,
        ..ListParams::default()
    };
    let error = hub
        .configmaps("/clusters/root")
        .list("default", &params)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(400), "{error}");
}

#[tokio::test]
async fn a_custom_resource_is_served_in_its_workspace_at_once_and_in_no_other() {
    let hub = start().await;
    let other = hub.workspace("other").await;
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "default": 1}}}}}}}],
        },
    });
    let crds = hub.admin(
        "/clusters/root",
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
    );
    crds.create("", &crd).await.unwrap();
    let widget = json!({"apiVersion": "example.org/v1", "kind": "Widget",
        "metadata": {"name": "w"}, "spec": {"unknown": 1}});
    let widgets = hub.admin("/clusters/root", "example.org", "v1", "widgets");
    let made = widgets.create("default", &widget).await.unwrap();
    assert_eq!(made["spec"], json!({"size": 1}), "pruned and defaulted");
    let elsewhere = hub.admin(&other, "example.org", "v1", "widgets");
    assert!(
        elsewhere
            .create("default", &widget)
            .await
            .unwrap_err()
            .is_not_found()
    );
    crds.delete("", "widgets.example.org", &DeleteParams::default())
        .await
        .unwrap();
    crate::support::eventually(|| async { crds.get("", "widgets.example.org").await.is_err() })
        .await;
    assert!(
        widgets
            .get("default", "w")
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn a_plain_hub_has_neither_prefix_nor_kcp_keys() {
    let hub = start_with(Layout::Plain).await;
    let made = hub
        .configmaps("")
        .create("default", &configmap("a"))
        .await
        .unwrap();
    assert_eq!(made["metadata"].get("annotations"), None);
    assert!(
        hub.configmaps("/clusters/root")
            .get("default", "a")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_object_that_no_reader_could_take_is_not_stored_even_in_pieces() {
    let hub = start().await;
    let client = hub.admin("/clusters/root", "apps", "v1", "deployments");
    let env = |count: usize| {
        let value = "x".repeat(900 * 1024);
        let list: Vec<_> = (0..count)
            .map(|n| json!({"name": format!("E{n}"), "value": value}))
            .collect();
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "nginx", "env": list}]}}},
        })
    };
    client.create("default", &env(1)).await.unwrap();
    let error = client
        .patch("default", "web", "", PatchKind::Merge, &env(2))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(413), "{error}");
}

#[tokio::test]
async fn a_page_of_large_objects_ends_early_and_goes_on() {
    let hub = start().await;
    let client = hub.configmaps("/clusters/root");
    for number in 0..12 {
        let mut object = configmap(&format!("c{number}"));
        object["data"]["k"] = "x".repeat(1024 * 1024 - 100).into();
        client.create("default", &object).await.unwrap();
    }
    let mut params = ListParams {
        limit: 500,
        ..ListParams::default()
    };
    let page = client.list("default", &params).await.unwrap();
    let first = page["items"].as_array().unwrap().len();
    assert!(first < 12, "{first}");
    params.continue_token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = client.list("default", &params).await.unwrap();
    assert_eq!(first + rest["items"].as_array().unwrap().len(), 12);
}
