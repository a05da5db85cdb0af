use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::user::UserInfo;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::{
    DeleteParams, ListParams, PatchKind, WatchEvent, WatchEvents, WatchParams, get_path, post_path,
};
use tokio::time::timeout;

use crate::session::{External, PATIENCE, targets};
use crate::support::{World, eventually};

/// A user who may `get` and `sync` the SyncTargets of root:compute, as an External agent has it.
pub(crate) async fn agent(world: &World) -> UserInfo {
    let api = "rbac.authorization.k8s.io";
    let compute = world.context("root:compute");
    let role = json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole",
        "metadata": {"name": "agent"}, "rules": [
            {"verbs": ["get", "sync"], "apiGroups": ["workload.kcp.io"], "resources": ["synctargets"]},
            {"verbs": ["access"], "nonResourceURLs": ["/"]}]});
    compute
        .resource(api, "v1", "clusterroles")
        .create("", &role)
        .await
        .unwrap();
    let binding = json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "agent"},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "agent"},
        "subjects": [{"apiGroup": api, "kind": "User", "name": "agent"}]});
    compute
        .resource(api, "v1", "clusterrolebindings")
        .create("", &binding)
        .await
        .unwrap();
    UserInfo::new("agent", &[])
}

struct View {
    path: String,
    cluster: String,
    uid: String,
}

async fn view_of(world: &World) -> View {
    let target = world.target().await;
    let (cluster, uid) = (
        meta(&target).cluster().to_owned(),
        meta(&target).uid().to_owned(),
    );
    let path = format!("/services/syncer/{cluster}/{}/{uid}", meta(&target).name());
    View { path, cluster, uid }
}

fn configmaps(world: &World, user: &UserInfo, path: &str) -> ResourceClient {
    let client = world.embedded.connection_as(user.clone()).client(path);
    ResourceClient::new(client, GroupVersionResource::new("", "v1", "configmaps"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_open_to_who_may_sync_and_shows_only_what_is_placed() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let agent = agent(&world).await;
    let view = view_of(&world).await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}});
    shop.resource("", "v1", "configmaps")
        .create("default", &object)
        .await
        .unwrap();
    // root is bound to nothing.
    let root = world.context("root").resource("", "v1", "configmaps");
    let hidden = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hidden"}});
    root.create("default", &hidden).await.unwrap();

    let all = configmaps(&world, &agent, &format!("{}/clusters/*", view.path));
    let names = || async {
        let list = all.list("", &ListParams::default()).await.unwrap();
        let items = list["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|i| meta(i).name().to_owned())
            .collect::<Vec<_>>()
    };
    eventually("the placed object is in the view", || async {
        names().await == ["seen"]
    })
    .await;
    let in_root = configmaps(&world, &agent, &format!("{}/clusters/root", view.path));
    assert!(
        in_root
            .get("default", "hidden")
            .await
            .unwrap_err()
            .is_not_found()
    );
    let stranger = UserInfo::new("eve", &[]);
    let denied = configmaps(&world, &stranger, &format!("{}/clusters/*", view.path));
    assert_eq!(
        denied
            .list("", &ListParams::default())
            .await
            .unwrap_err()
            .code(),
        Some(403)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_view_an_agent_makes_and_deletes_nothing_and_changes_only_its_own() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let shop = world.bound_workspace("shop", "one").await;
    let agent = agent(&world).await;
    let view = view_of(&world).await;
    let upstream = shop.resource("", "v1", "configmaps");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c"}, "data": {"k": "v"}});
    let made = upstream.create("default", &object).await.unwrap();
    let path = format!("{}/clusters/{}", view.path, meta(&made).cluster());
    let client = configmaps(&world, &agent, &path);
    eventually("it is in the view and held by its syncer", || async {
        client
            .get("default", "c")
            .await
            .is_ok_and(|o| !meta(&o).finalizers().is_empty())
    })
    .await;
    let error = client.create("default", &object).await.unwrap_err();
    assert_eq!(error.code(), Some(405), "{error}");
    let error = client
        .delete("default", "c", &DeleteParams::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(405), "{error}");
    let patch = json!({"data": {"k": "forged"}, "metadata": {"labels": {"forged": "yes"}}});
    client
        .patch("default", "c", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    let after = upstream.get("default", "c").await.unwrap();
    assert_eq!(after["data"]["k"], "v");
    assert_eq!(meta(&after).label("forged"), None);
    let shed = json!({"metadata": {"finalizers": null}});
    let error = client
        .patch("default", "c", "", PatchKind::Merge, &shed)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_uid_a_foreign_target_and_a_path_are_not_found() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let agent = agent(&world).await;
    let view = view_of(&world).await;
    let list = |path: String| {
        let client = configmaps(&world, &agent, &path);
        async move {
            client
                .list("", &ListParams::default())
                .await
                .unwrap_err()
                .code()
        }
    };
    let stale = view
        .path
        .replace(&view.uid, "00000000-0000-0000-0000-000000000000");
    let prefix = view.path[..view.path.len() - 1].to_owned();
    let foreign = view.path.replace(&view.cluster, "root");
    for path in [stale, prefix, foreign] {
        let code = list(format!("{path}/clusters/*")).await;
        assert!(matches!(code, Some(403 | 404)), "{path}: {code:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_of_a_target_has_its_endpoints_and_no_objects() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let agent = agent(&world).await;
    let view = view_of(&world).await;
    let root = world.embedded.connection_as(agent).client(&view.path);
    let admin = world.context("root").connection.client(&view.path);
    let read = |path: &'static str| {
        let root = root.clone();
        async move {
            let bytes = get_path(&root, path).await?;
            Ok::<serde_json::Value, tmc_runtime::client::Error>(
                serde_json::from_slice(&bytes).unwrap(),
            )
        }
    };
    let groups = read("/apis").await.unwrap();
    let groups = groups["groups"].as_array().unwrap();
    let names: Vec<_> = groups.iter().map(|group| group["name"].clone()).collect();
    assert_eq!(names, ["syncer.kcp.io"]);
    let list = read("/apis/syncer.kcp.io/v1alpha1").await.unwrap();
    let list = list["resources"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["connect", "heartbeat", "resources"]);
    for path in [
        "/api",
        "/apis/syncer.kcp.io",
        "/openapi/v3",
        "/openapi/v3/apis/syncer.kcp.io/v1alpha1",
        "/clusters/*/api/v1/configmaps",
    ] {
        read(path)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    for path in [
        "/api/v1",
        "/api/v1/configmaps",
        "/api/v1/namespaces/default/configmaps",
        "/apis/apps/v1/deployments",
        "/version",
    ] {
        // Nobody's path: who may read nobody's paths is told that there is none.
        let error = read(path).await.unwrap_err();
        assert_eq!(error.code(), Some(403), "{path}: {error}");
        let error = get_path(&admin, path).await.unwrap_err();
        assert!(error.is_not_found(), "{path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_has_its_own_discovery_and_endpoints() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let agent = agent(&world).await;
    let view = view_of(&world).await;
    let client = world
        .embedded
        .connection_as(agent.clone())
        .client(&view.path);
    eventually("deployments are accepted", || async {
        let bytes = get_path(&client, "/apis/syncer.kcp.io/v1alpha1/resources")
            .await
            .unwrap();
        let rows = tmc_syncer::connect::accepted(&serde_json::from_slice(&bytes).unwrap());
        rows.iter().any(|row| row.resource == "deployments")
    })
    .await;
    let apps = get_path(&client, "/clusters/*/apis/apps/v1").await.unwrap();
    let apps: serde_json::Value = serde_json::from_slice(&apps).unwrap();
    let deployments = apps["resources"].as_array().unwrap();
    let deployments = deployments
        .iter()
        .find(|r| r["name"] == "deployments")
        .unwrap();
    assert_eq!(
        deployments["verbs"],
        json!(["get", "list", "patch", "update", "watch"])
    );
    let beat = |uid: &str, sequence: u64| {
        json!({"uid": uid, "identity": "test", "sequence": sequence,
               "sentAt": jiff::Timestamp::now().to_string()})
    };
    let post = |body: serde_json::Value| {
        let client = client.clone();
        async move { post_path(&client, "/apis/syncer.kcp.io/v1alpha1/heartbeat", &body).await }
    };
    assert_eq!(post(beat("other", 1)).await.unwrap_err().code(), Some(409));
    post(beat(&view.uid, 1)).await.unwrap();
    assert_eq!(
        post(beat(&view.uid, 1)).await.unwrap_err().code(),
        Some(422)
    );
    let mut early = beat(&view.uid, 2);
    early["sentAt"] = "2099-01-01T00:00:00Z".into();
    assert_eq!(post(early).await.unwrap_err().code(), Some(422));
    let wrong = get_path(&client, "/apis/syncer.kcp.io/v1alpha1/heartbeat")
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Some(405));
}

/// A watch of the target's view that is under way: all that there was has been told.
async fn watching(external: &External) -> WatchEvents {
    let params = WatchParams {
        timeout: Duration::from_secs(3600),
        send_initial_events: true,
        ..WatchParams::default()
    };
    let mut events = external.configmaps().watch("", &params).await.unwrap();
    let first = timeout(PATIENCE, events.next()).await.unwrap();
    assert!(
        matches!(first, Some(Ok(WatchEvent::Bookmark(_)))),
        "{first:?}"
    );
    events
}

/// The watch is ended by the hub in good order.
async fn ends(events: WatchEvents) {
    let last = timeout(PATIENCE, events.collect::<Vec<_>>()).await;
    let last = last.expect("a watch that goes on");
    assert!(last.iter().all(Result::is_ok), "{last:?}");
}

async fn refused(view: &ResourceClient) {
    let listed = view.list("", &ListParams::default()).await;
    let code = listed.unwrap_err().code();
    assert!(matches!(code, Some(403 | 404)), "{code:?}");
}

async fn remove(external: &External) {
    let targets = targets(&external.world);
    targets
        .delete("", "far", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the target is gone", || async {
        let found = targets.get("", "far").await;
        found.is_err_and(|error| error.is_not_found())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_a_view_ends_with_its_target() {
    let external = External::start().await;
    let watch = watching(&external).await;
    remove(&external).await;
    ends(watch).await;
    refused(&external.configmaps()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_a_view_does_not_outlive_its_uid_in_a_target_of_the_same_name() {
    let mut external = External::start().await;
    let (former, watch) = (external.configmaps(), watching(&external).await);
    remove(&external).await;
    let object = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "far"}, "spec": {},
    });
    let made = targets(&external.world).create("", &object).await.unwrap();
    ends(watch).await;
    external.target.uid = meta(&made).uid().to_owned();
    let view = external.configmaps();
    eventually("the new target has a view", || async {
        view.list("", &ListParams::default()).await.is_ok()
    })
    .await;
    refused(&former).await;
    drop(watching(&external).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_a_view_ends_when_its_agent_may_not_sync_any_more() {
    let external = External::start().await;
    let watch = watching(&external).await;
    external.take_permission().await;
    ends(watch).await;
    refused(&external.configmaps()).await;
}
