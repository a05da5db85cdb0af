//! Reserved keys, with hostile spellings.

use super::*;

fn labelled(key: &str, value: &str) -> Value {
    json!({"metadata": {"name": "east", "labels": {key: value}}})
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"name": "east", "annotations": {key: value}}})
}

fn finalized(key: &str) -> Value {
    json!({"metadata": {"name": "east", "finalizers": [key]}})
}

#[tokio::test]
async fn a_user_cannot_set_a_reserved_key_and_is_told_which() {
    for key in [
        "state.workload.kcp.io/K",
        "kcp.io/tenant-id",
        "tmc.kcp.io/owner-cluster",
        "State.Workload.KCP.io/K",
        "kcp.io/",
        "internal.workload.kcp.io/key",
    ] {
        for groups in [USER, MASTER] {
            for (field, object) in [
                ("labels", labelled(key, "Sync")),
                ("labels", labelled(key, "")),
                ("annotations", annotated(key, "x")),
                ("finalizers", finalized(key)),
            ] {
                let found = Write::new(CONFIG_MAP, groups).faults(object).await;
                assert_eq!(found, [format!("metadata.{field}[{key}]")]);
            }
        }
    }
}

#[tokio::test]
async fn keys_that_only_look_reserved_are_free() {
    for key in [
        "evil-kcp.io/x",
        "evilkcp.io/x",
        "kcp.io.example.com/x",
        "example.com/kcp.io",
        "kcp.io",
        "",
        "/",
        "experimental.summarizing.workload.kcp.io",
    ] {
        for object in [labelled(key, "x"), annotated(key, "x"), finalized(key)] {
            Write::new(CONFIG_MAP, USER).admit(object).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_exceptions_are_annotations_only() {
    for key in [
        "tmc.kcp.io/force-drain",
        "workload.kcp.io/skip-default-object-creation",
        "experimental.spec-diff.workload.kcp.io/K",
        "experimental.workload.kcp.io/upsync-derived-resources",
        "featuregates.experimental.workload.kcp.io/advancedscheduling",
    ] {
        Write::new(CONFIG_MAP, USER)
            .admit(annotated(key, "x"))
            .await
            .unwrap();
        Write::new(CONFIG_MAP, USER)
            .faults(labelled(key, "x"))
            .await;
    }
}

#[tokio::test]
async fn controllers_and_virtual_workspaces_write_reserved_keys() {
    for groups in [CONTROLLER, VIEW] {
        let write =
            Write::new(CONFIG_MAP, groups).over(labelled("state.workload.kcp.io/A", "Sync"));
        let object = write
            .admit(labelled("state.workload.kcp.io/B", "Sync"))
            .await
            .unwrap();
        assert_eq!(
            object["metadata"]["labels"],
            json!({"state.workload.kcp.io/B": "Sync"})
        );
    }
}

#[tokio::test]
async fn an_update_that_omits_reserved_keys_keeps_them() {
    let old = json!({"metadata": {
        "name": "east",
        "labels": {"state.workload.kcp.io/K": "Sync", "mine": "1"},
        "annotations": {"diff.syncer.internal.kcp.io/K": "{}", "other": "1"},
        "finalizers": ["example.com/x", "workload.kcp.io/syncer-K"],
    }});
    for new in [
        json!({"metadata": {"name": "east"}}),
        json!({}),
        json!({"metadata": {"labels": null, "finalizers": null}}),
    ] {
        let kept = Write::new(CONFIG_MAP, USER)
            .over(old.clone())
            .admit(new)
            .await
            .unwrap();
        let kept = &kept["metadata"];
        assert_eq!(kept["labels"], json!({"state.workload.kcp.io/K": "Sync"}));
        assert_eq!(
            kept["annotations"],
            json!({"diff.syncer.internal.kcp.io/K": "{}"})
        );
        assert_eq!(kept["finalizers"], json!(["workload.kcp.io/syncer-K"]));
    }
}

#[tokio::test]
async fn a_changed_reserved_key_is_refused_and_an_unchanged_one_passes() {
    let old = labelled("state.workload.kcp.io/K", "Sync");
    let write = Write::new(CONFIG_MAP, USER).over(old.clone());
    write.admit(old).await.unwrap();
    let found = write
        .faults(labelled("state.workload.kcp.io/K", "Upsync"))
        .await;
    assert_eq!(found, ["metadata.labels[state.workload.kcp.io/K]"]);
    let found = write
        .faults(labelled("state.workload.kcp.io/K2", "Sync"))
        .await;
    assert_eq!(found, ["metadata.labels[state.workload.kcp.io/K2]"]);
}

#[tokio::test]
async fn masters_may_remove_reserved_keys_but_a_manifest_that_never_knew_them_removes_nothing() {
    let old = json!({"metadata": {
        "name": "east",
        "labels": {"state.workload.kcp.io/K": "Sync"},
        "annotations": {"kcp.io/cluster": "root", "kcp.io/path": "root"},
        "finalizers": ["workload.kcp.io/syncer-K"],
    }});
    let write = Write::new(CONFIG_MAP, MASTER).over(old);
    let edited = json!({"metadata": {"name": "east", "annotations": {"kcp.io/cluster": "root"}}});
    let removed = write.admit(edited).await.unwrap();
    assert!(removed["metadata"].get("labels").is_none());
    assert!(removed["metadata"].get("finalizers").is_none());
    assert_eq!(removed["metadata"]["annotations"]["kcp.io/path"], "root");
    let kept = write
        .admit(json!({"metadata": {"name": "east"}}))
        .await
        .unwrap();
    assert_eq!(
        kept["metadata"]["labels"]["state.workload.kcp.io/K"],
        "Sync"
    );
    assert_eq!(
        kept["metadata"]["finalizers"],
        json!(["workload.kcp.io/syncer-K"])
    );
}

#[tokio::test]
async fn what_comes_from_the_url_is_never_taken_from_the_client() {
    let lie = json!({"metadata": {"name": "east", "annotations": {"kcp.io/cluster": "other", "kcp.io/path": "root:other", "a": "b"}}});
    for groups in [USER, MASTER] {
        let object = Write::new(CONFIG_MAP, groups)
            .admit(lie.clone())
            .await
            .unwrap();
        assert_eq!(object["metadata"]["annotations"], json!({"a": "b"}));
        let old = annotated("kcp.io/path", "root:mine");
        let object = Write::new(CONFIG_MAP, groups)
            .over(old)
            .admit(lie.clone())
            .await
            .unwrap();
        assert_eq!(
            object["metadata"]["annotations"],
            json!({"kcp.io/path": "root:mine", "a": "b"})
        );
    }
}

#[tokio::test]
async fn an_agent_writes_the_display_annotation_of_its_own_imports_only() {
    let import = (
        "apiresource.kcp.io",
        "APIResourceImport",
        "apiresourceimports",
    );
    let object = |location: &str| {
        let mut object = annotated("apiresource.kcp.io/apiVersion", "v1");
        object["spec"] = json!({"location": location});
        object
    };
    Write::new(import, USER)
        .by("agent")
        .admit(object("east"))
        .await
        .unwrap();
    for write in [
        Write::new(import, USER)
            .by("agent")
            .over(json!({"spec": {"location": "west"}})),
        Write::new(import, USER).by("other"),
        Write::new(CONFIG_MAP, USER).by("agent"),
    ] {
        write.faults(object("east")).await;
    }
    Write::new(import, USER)
        .by("agent")
        .faults(object("west"))
        .await;
    let mut other = object("east");
    other["metadata"]["labels"] = json!({"state.workload.kcp.io/K": "Sync"});
    assert_eq!(
        Write::new(import, USER)
            .by("agent")
            .faults(other)
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn keys_that_the_hub_gives_a_new_workspace_are_not_held_against_its_creator() {
    let given = json!({"metadata": {
        "name": "shop",
        "annotations": {"experimental.tenancy.kcp.io/owner": "{}", "internal.tenancy.kcp.io/shard": "x"},
        "finalizers": ["core.kcp.io/logicalcluster"],
    }, "spec": {"cluster": "2abc", "URL": "https://hub/clusters/root:shop"}});
    let user = UserInfo::new("someone", USER);
    let cluster = ClusterName::new("root");
    let gvk = GroupVersionKind::new("tenancy.kcp.io", "v1alpha1", "Workspace");
    let gvr = GroupVersionResource::new("tenancy.kcp.io", "v1alpha1", "workspaces");
    let request = AdmissionRequest {
        operation: Operation::Create,
        cluster: &cluster,
        gvk: &gvk,
        gvr: &gvr,
        subresource: "",
        namespace: "",
        name: "shop",
        user: &user,
        dry_run: false,
        old: None,
    };
    let guards = guards(config());
    guards.validate(&request, Some(&given)).await.unwrap();
    let error = guards
        .mutate(&request, &mut given.clone())
        .await
        .unwrap_err();
    assert_eq!(
        error.causes.len(),
        3,
        "the client itself may not send them: {error}"
    );
}

/// The hub gives tokens of accounts with these keys to few; nobody may shed them.
#[tokio::test]
async fn what_marks_an_agents_account_is_neither_set_nor_changed_nor_removed_by_users() {
    const ACCOUNT: (&str, &str, &str) = ("", "ServiceAccount", "serviceaccounts");
    let (label, annotation) = (keys::AGENT_UID_LABEL, keys::AGENT_OWNER_ANNOTATION);
    let marked = json!({"metadata": {"name": "east",
        "labels": {label: "u"}, "annotations": {annotation: "c/east/u"}}});
    let mark = |field: &str, key: &str| vec![format!("metadata.{field}[{key}]")];
    let create = Write::new(ACCOUNT, USER);
    assert_eq!(
        create.faults(labelled(label, "u")).await,
        mark("labels", label)
    );
    let found = create.faults(annotated(annotation, "c/east/u")).await;
    assert_eq!(found, mark("annotations", annotation));
    let update = Write::new(ACCOUNT, USER).over(marked.clone());
    for bare in [json!({}), json!({"labels": {}, "annotations": {}})] {
        let mut bare = json!({"metadata": bare});
        bare["metadata"]["name"] = "east".into();
        let stored = update.admit(bare).await.unwrap();
        assert_eq!(stored["metadata"]["labels"][label], "u");
        assert_eq!(stored["metadata"]["annotations"][annotation], "c/east/u");
    }
    let mut other = marked;
    other["metadata"]["annotations"][annotation] = "c/west/u".into();
    assert_eq!(update.faults(other).await, mark("annotations", annotation));
}
