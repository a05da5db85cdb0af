use serde_json::{Value, json};
use tmc_api::keys;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind};

use crate::support::{World, copies, deployment, eventually, named};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_goes_down_its_status_comes_back_and_it_leaves_no_trace() {
    let world = World::start().await;
    let member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 2))
        .await
        .unwrap();

    eventually("the Deployment is available on the hub", || async {
        let web = deployments.get("default", "web").await.unwrap();
        web["status"]["availableReplicas"] == 2
            && web["status"]["observedGeneration"] == web["metadata"]["generation"]
    })
    .await;
    let below = member.resource("apps", "v1", "deployments");
    let copy = copies(&below).await.remove(0);
    let namespace = meta(&copy).namespace().to_owned();
    assert!(namespace.starts_with("kcp-"), "{namespace}");
    let mapped = member
        .resource("", "v1", "namespaces")
        .get("", &namespace)
        .await
        .unwrap();
    assert_eq!(
        meta(&mapped).label("pod-security.kubernetes.io/enforce"),
        Some("baseline")
    );
    let accounts = member.resource("", "v1", "serviceaccounts");
    let account = accounts.get(&namespace, "default").await.unwrap();
    assert_eq!(
        account["automountServiceAccountToken"], false,
        "pods that ask for no token get none"
    );

    let patch = json!({"spec": {"replicas": 3}});
    deployments
        .patch("default", "web", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    eventually("an edit on the hub arrives and is observed", || async {
        let web = deployments.get("default", "web").await.unwrap();
        web["status"]["availableReplicas"] == 3 && web["status"]["observedGeneration"] == 2
    })
    .await;

    let drift = json!({"spec": {"replicas": 9}});
    below
        .patch(&namespace, "web", "", PatchKind::Merge, &drift)
        .await
        .unwrap();
    eventually("drift in the member is repaired", || async {
        below.get(&namespace, "web").await.unwrap()["spec"]["replicas"] == 3
    })
    .await;

    deployments
        .delete("default", "web", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the copy is gone", || async {
        copies(&below).await.is_empty()
    })
    .await;
    eventually("the deletion completes on the hub", || async {
        deployments.get("default", "web").await.is_err()
    })
    .await;
    world.embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_named_objects_of_two_workspaces_land_in_two_namespaces() {
    let world = World::start().await;
    let member = world.member("one").await;
    let mut contexts = Vec::new();
    for name in ["a", "b"] {
        let context = world.bound_workspace(name, "one").await;
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "same"}, "data": {"of": name}});
        context
            .resource("", "v1", "configmaps")
            .create("default", &object)
            .await
            .unwrap();
        contexts.push(context);
    }
    let below = member.resource("", "v1", "configmaps");
    eventually("both arrive", || async { copies(&below).await.len() == 2 }).await;
    let found = copies(&below).await;
    assert_ne!(meta(&found[0]).namespace(), meta(&found[1]).namespace());
    let mut values: Vec<&str> = found
        .iter()
        .filter_map(|c| c["data"]["of"].as_str())
        .collect();
    values.sort_unstable();
    assert_eq!(values, ["a", "b"]);
    let client = contexts[0].resource("", "v1", "configmaps");
    client
        .delete("default", "same", &DeleteParams::default())
        .await
        .unwrap();
    eventually("only its own copy goes", || async {
        copies(&below).await.len() == 1
    })
    .await;
    assert_eq!(copies(&below).await[0]["data"]["of"], "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_placement_chooses_its_own_cluster() {
    let world = World::start().await;
    let (one, two) = (world.member("one").await, world.member("two").await);
    for (workspace, location) in [("first", "one"), ("second", "two")] {
        let context = world.bound_workspace(workspace, location).await;
        let client = context.resource("apps", "v1", "deployments");
        client
            .create("default", &deployment(workspace, 1))
            .await
            .unwrap();
        eventually("it is available", || async {
            client.get("default", workspace).await.unwrap()["status"]["availableReplicas"] == 1
        })
        .await;
    }
    let on_one = copies(&one.resource("apps", "v1", "deployments")).await;
    let on_two = copies(&two.resource("apps", "v1", "deployments")).await;
    assert!(named(&on_one, "first").is_some() && named(&on_one, "second").is_none());
    assert!(named(&on_two, "second").is_some() && named(&on_two, "first").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_kubeconfig_reaches_no_member_even_if_its_secret_is_placed() {
    let world = World::start().await;
    let member = world.member("one").await;
    let compute = world.context("root:compute");
    tmc::commands::bind::compute(&compute, &crate::support::bind_args("one"))
        .await
        .unwrap();
    let secrets = compute.resource("", "v1", "secrets");
    let plain = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"},
        "stringData": {"k": "v"}});
    secrets.create("default", &plain).await.unwrap();
    let below = member.resource("", "v1", "secrets");
    eventually("an ordinary Secret arrives", || async {
        named(&copies(&below).await, "plain").is_some()
    })
    .await;
    assert!(named(&copies(&below).await, "one-kubeconfig").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_a_cluster_names_later_leaves_the_member_and_the_hub_lets_go_of_it() {
    let world = World::start().await;
    let member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let secrets = shop.resource("", "v1", "secrets");
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "stringData": {"kubeconfig": "none"}});
    let made = secrets.create("default", &object).await.unwrap();
    let below = member.resource("", "v1", "secrets");
    eventually("it arrives", || async {
        named(&copies(&below).await, "s").is_some()
    })
    .await;
    let cluster = json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "late"}, "spec": {"kubeconfigSecretRef": {"name": "s"}}});
    shop.resource("workload.kcp.io", "v1alpha1", "clusters")
        .create("default", &cluster)
        .await
        .unwrap();
    eventually("the copy goes", || async {
        named(&copies(&below).await, "s").is_none()
    })
    .await;
    eventually("nobody holds it any more", || async {
        let secret = secrets.get("default", "s").await.unwrap();
        assert_eq!(secret["data"], made["data"]);
        let marks = meta(&secret);
        !marks
            .finalizers()
            .iter()
            .any(|f| f.starts_with(keys::SYNCER_FINALIZER_PREFIX))
            && !marks
                .labels()
                .keys()
                .any(|label| label.starts_with(keys::STATE_PREFIX))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_takes_its_copies_along_and_its_own_copy_goes_later() {
    let world = World::start().await;
    let member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let namespaces = shop.resource("", "v1", "namespaces");
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "extra"}});
    namespaces.create("", &object).await.unwrap();
    let configmap = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c"}, "data": {"k": "v"}});
    shop.resource("", "v1", "configmaps")
        .create("extra", &configmap)
        .await
        .unwrap();
    let below = member.resource("", "v1", "configmaps");
    eventually("it arrives", || async {
        named(&copies(&below).await, "c").is_some()
    })
    .await;
    namespaces
        .delete("", "extra", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the copy goes", || async {
        named(&copies(&below).await, "c").is_none()
    })
    .await;
    eventually("the namespace goes", || async {
        namespaces.get("", "extra").await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_refuses_is_said_on_the_object_until_the_member_has_it() {
    let world = World::start().await;
    let member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let maps = shop.resource("", "v1", "configmaps");
    let map =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    maps.create("default", &map("first")).await.unwrap();
    let below = member.resource("", "v1", "configmaps");
    eventually("it arrives", || async { !copies(&below).await.is_empty() }).await;
    let namespace = meta(&copies(&below).await[0]).namespace().to_owned();

    // Somebody takes the namespace for himself.
    let taken = json!({"metadata": {
        "labels": {keys::DOWNSTREAM_CLUSTER_LABEL: null},
        "annotations": {keys::NAMESPACE_LOCATOR_ANNOTATION: null},
    }});
    let namespaces = member.resource("", "v1", "namespaces");
    namespaces
        .patch("", &namespace, "", PatchKind::Merge, &taken)
        .await
        .unwrap();
    maps.create("default", &map("second")).await.unwrap();
    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 1))
        .await
        .unwrap();
    let said = || async {
        let second = maps.get("default", "second").await.unwrap();
        meta(&second)
            .annotation(keys::MESSAGE_ANNOTATION)
            .map(str::to_owned)
    };
    eventually("the object says so", || async {
        said()
            .await
            .is_some_and(|said| said.contains("refuses it") && said.contains(&namespace))
    })
    .await;
    let web = || async { deployments.get("default", "web").await.unwrap() };
    eventually("what has conditions says so in one", || async {
        let web = web().await;
        let message = meta(&web)
            .annotation(keys::MESSAGE_ANNOTATION)
            .map(Value::from);
        let conditions = web["status"]["conditions"].as_array().cloned();
        let synced = conditions.into_iter().flatten();
        let mut synced = synced.filter(|condition| condition["type"] == "Synced");
        synced.any(|condition| {
            condition["status"] == "False"
                && condition["reason"] == "RefusedByMember"
                && Some(&condition["message"]) == message.as_ref()
        })
    })
    .await;
    let events = shop.resource("", "v1", "events");
    eventually("so does an Event", || async {
        let events = events
            .list("default", &ListParams::default())
            .await
            .unwrap();
        let mut events = events["items"].as_array().unwrap().iter();
        events.any(|event| {
            event["reason"] == "RefusedByMember" && event["involvedObject"]["name"] == "second"
        })
    })
    .await;

    namespaces
        .delete("", &namespace, &DeleteParams::default())
        .await
        .unwrap();
    eventually("both are there in a new namespace", || async {
        let copies = copies(&below).await;
        named(&copies, "first").is_some() && named(&copies, "second").is_some()
    })
    .await;
    eventually("there is nothing to say any more", || async {
        said().await.is_none()
    })
    .await;
    eventually("the condition is good beside the member's own", || async {
        let web = web().await;
        tmc::output::condition(&web, "Synced") == "True"
            && tmc::output::condition(&web, "Available") == "True"
    })
    .await;
    world.embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_says_whether_its_objects_have_targets() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let namespaces = shop.resource("", "v1", "namespaces");
    let scheduled = |wanted: &'static str| {
        let namespaces = namespaces.clone();
        move || {
            let namespaces = namespaces.clone();
            async move {
                let namespace = namespaces.get("", "default").await.unwrap();
                tmc::output::condition(&namespace, "NamespaceScheduled") == wanted
            }
        }
    };
    eventually("it has", scheduled("True")).await;
    let placements = shop.resource("scheduling.kcp.io", "v1alpha1", "placements");
    let list = placements.list("", &ListParams::default()).await.unwrap();
    let name = meta(&list["items"][0]).name().to_owned();
    let mut nowhere = list["items"][0].clone();
    placements
        .delete("", &name, &DeleteParams::default())
        .await
        .unwrap();
    eventually("nobody asks for any", scheduled("Unknown")).await;
    nowhere["metadata"] = json!({"name": "nowhere"});
    nowhere["spec"]["locationSelectors"] = json!([{"matchLabels": {"location": "nowhere"}}]);
    placements.create("", &nowhere).await.unwrap();
    eventually("it has not", scheduled("False")).await;
    world.embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_on_a_location_that_may_not_be_used_says_so() {
    let world = World::start().await;
    let _member = world.member("one").await;
    tmc::commands::workspace::create(&world.context("root"), "shop", false)
        .await
        .unwrap();
    let shop = world.context("root:shop");
    let error = tmc::commands::bind::compute(&shop, &crate::support::bind_args("one"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("LocationForbidden"), "{error}");
    assert!(
        error.contains("tmc workspace grant root:compute"),
        "{error}"
    );
    let placements = shop.resource("scheduling.kcp.io", "v1alpha1", "placements");
    let list = placements.list("", &Default::default()).await.unwrap();
    let scheduled = list["items"][0]["status"]["conditions"]
        .as_array()
        .unwrap()
        .clone();
    let scheduled = scheduled.iter().find(|c| c["type"] == "Scheduled").cloned();
    assert_eq!(
        scheduled.as_ref().map(|c| &c["status"]),
        Some(&Value::from("False"))
    );
}
