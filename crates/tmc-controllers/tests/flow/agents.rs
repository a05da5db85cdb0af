//! What is made in members and on the hub for syncers: accounts, rights, tokens, Deployments.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tmc_api::agent::AgentId;
use tmc_api::agent::registration::NAMESPACE as REGISTRATIONS;

use crate::hub::FakeHub;
use crate::member::HOME;
use crate::world::{World, condition, ready};
use crate::{
    ACCOUNTS, BINDINGS, CLUSTER_BINDINGS, CLUSTER_ROLES, CLUSTERS, DEPLOYMENTS, EVENTS, LEASES,
    NAMESPACES, ROLES, SECRETS, TARGETS,
};

pub(crate) fn agent(target: &Value) -> AgentId {
    let metadata = &target["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap().to_owned();
    AgentId::new("compute", &text("name"), &text("uid"))
}

fn east(hub: &FakeHub) -> Value {
    hub.get("compute", CLUSTERS, "default/east").unwrap()
}

fn deployment_mode() -> Value {
    json!({"syncTargetTemplate": {"syncerConfig": {"mode": "Deployment"}}})
}

#[tokio::test(start_paused = true)]
async fn a_hosted_syncer_works_as_an_account_of_its_own_with_exact_rights() {
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let member = world.members.of("east");
    let name = agent(&world.target()).name();
    assert!(member.get(HOME, NAMESPACES, &name).is_some());
    assert!(
        member
            .get(HOME, ACCOUNTS, &format!("{name}/{name}"))
            .is_some()
    );
    assert!(member.get(HOME, CLUSTER_BINDINGS, &name).is_some());
    let role = member.get(HOME, CLUSTER_ROLES, &name).unwrap();
    let rules = role["rules"].to_string();
    assert!(
        rules.contains("deployments") && !rules.contains('*'),
        "{rules}"
    );
    assert!(
        member.all(HOME, DEPLOYMENTS).is_empty(),
        "no workload for a Hosted syncer"
    );
    let uid = world.target()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let (syncer, _) = world.syncers.started.lock()[&uid].clone();
    // Only the account's own token gets an answer to this question in these members.
    let rules = tmc_api::agent::rules::syncer_rules(&[]);
    let client = syncer.member.base_client();
    let lacking = tmc_controllers::install::rights::lacking(&client, &name, &rules).await;
    assert_eq!(lacking.unwrap(), []);
    assert_eq!(syncer.pod_security, "baseline");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drifted_rights_are_repaired() {
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let member = world.members.of("east");
    let name = agent(&world.target()).name();
    let before = member.get(HOME, CLUSTER_ROLES, &name).unwrap()["rules"].clone();
    member.patch(HOME, CLUSTER_ROLES, &name, json!({"rules": []}));
    member.delete(HOME, CLUSTER_BINDINGS, &name);
    tokio::time::sleep(Duration::from_secs(360)).await;
    world
        .hub
        .until("a repair", |_| {
            member.get(HOME, CLUSTER_BINDINGS, &name).is_some()
                && member.get(HOME, CLUSTER_ROLES, &name).unwrap()["rules"] == before
        })
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missing_rights_are_reported_by_name_and_start_no_syncer() {
    let world = World::start().await;
    world.members.withhold("apps");
    world.register("compute", "east", &json!({}));
    world
        .hub
        .until("a report", |hub| {
            condition(&east(hub), "RBACReady").1 == "RBACFailed"
        })
        .await;
    let (_, _, message) = condition(&east(&world.hub), "RBACReady");
    assert!(message.contains("delete deployments.apps"), "{message}");
    assert!(!ready(&east(&world.hub)));
    assert!(world.syncers.running.lock().is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_may_make_nothing_is_told_what_it_may_not() {
    let world = World::start().await;
    world.members.make_read_only("east");
    world.register("compute", "east", &json!({}));
    world
        .hub
        .until("a report", |hub| {
            condition(&east(hub), "RBACReady").1 == "RBACFailed"
        })
        .await;
    let (_, _, message) = condition(&east(&world.hub), "RBACReady");
    assert!(
        message.contains("applying Namespace") && message.contains("403"),
        "{message}"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_are_renewed_in_time_without_a_new_syncer() {
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let member = world.members.of("east");
    assert_eq!(member.issued(), 1);
    tokio::time::sleep(Duration::from_secs(40 * 60)).await;
    assert_eq!(member.issued(), 1, "not before four fifths of an hour");
    tokio::time::sleep(Duration::from_secs(11 * 60)).await;
    assert_eq!(member.issued(), 2);
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    assert!(ready(&east(&world.hub)));
    let times: Vec<usize> = world
        .syncers
        .started
        .lock()
        .values()
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(times, [1]);
    let all = world.hub.dump();
    assert!(
        !all.contains("e30."),
        "no token of the account is ever stored"
    );
    world.stop().await;
}

/// A token of a registration account as a member issues it, with full rights in these members.
pub(crate) fn registration_secret(member: &FakeHub, life: i64) -> Value {
    let account = "tmc-register-east-12345678";
    let now = 1_893_456_000; // 2030-01-01
    let claims = json!({
        "sub": format!("system:serviceaccount:{REGISTRATIONS}:{account}"),
        "iat": now, "exp": now + life,
    });
    let marks = json!({"app.kubernetes.io/managed-by": "tmc", "app.kubernetes.io/name": "tmc-registration"});
    let local = json!({"name": account, "namespace": REGISTRATIONS, "labels": marks});
    member.create(HOME, ACCOUNTS, json!({"metadata": local}));
    for kind in [CLUSTER_ROLES, CLUSTER_BINDINGS] {
        member.create(
            HOME,
            kind,
            json!({"metadata": {"name": account, "labels": marks}}),
        );
    }
    let token = format!("right.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    crate::world::kubeconfig_secret("east-kubeconfig", "east", &token)
}

fn stored_token(hub: &FakeHub) -> String {
    let secret = hub
        .get("compute", SECRETS, "default/east-kubeconfig")
        .unwrap();
    let text = STANDARD
        .decode(secret["data"]["kubeconfig"].as_str().unwrap())
        .unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    config["users"][0]["user"]["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A world in which `east` is registered with a token good for an hour, and Ready; and its member.
pub(crate) async fn registered() -> (World, FakeHub) {
    let world = World::start().await;
    let member = world.members.of("east");
    member.trust_all_registrations();
    register_with(&world, registration_secret(&member, 3600));
    let hub = &world.hub;
    hub.until("a ready Cluster", |hub| ready(&east(hub))).await;
    (world, member)
}

pub(crate) fn register_with(world: &World, secret: Value) {
    world.hub.create("compute", SECRETS, secret);
    world.hub.create(
        "compute",
        CLUSTERS,
        json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east", "namespace": "default"},
            "spec": {"kubeconfigSecretRef": {"name": "east-kubeconfig", "key": "kubeconfig"}},
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn a_registration_token_is_renewed_in_its_secret_and_its_account_goes_with_the_cluster() {
    let (world, member) = registered().await;
    let hub = &world.hub;
    let first = stored_token(hub);
    tokio::time::sleep(Duration::from_secs(40 * 60)).await;
    assert_eq!(stored_token(hub), first);
    tokio::time::sleep(Duration::from_secs(12 * 60)).await;
    let second = stored_token(hub);
    assert_ne!(second, first);
    assert!(ready(&east(hub)), "{}", east(hub));
    let end = east(hub)["status"]["credentials"]["expirationTime"].clone();
    assert!(end.as_str().unwrap() > "2030-01-01T01:00:00Z", "{end}");
    let times: Vec<usize> = world
        .syncers
        .started
        .lock()
        .values()
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(times, [1], "the syncer does not notice");

    hub.delete("compute", CLUSTERS, "default/east");
    hub.until("no Cluster", |hub| {
        hub.get("compute", CLUSTERS, "default/east").is_none()
    })
    .await;
    assert!(member.all(HOME, ACCOUNTS).is_empty());
    assert!(member.all(HOME, CLUSTER_ROLES).is_empty());
    assert!(member.all(HOME, CLUSTER_BINDINGS).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_is_warned_about_once_and_measured() {
    let world = World::start().await;
    let claims = json!({"exp": 1_893_456_000 + 3600});
    let token = format!("right.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    register_with(
        &world,
        crate::world::kubeconfig_secret("east-kubeconfig", "east", &token),
    );
    let hub = &world.hub;
    hub.until("a ready Cluster", |hub| ready(&east(hub))).await;
    let measured = world.expiries.0.lock()["east"].unwrap();
    assert_eq!(measured.to_string(), "2030-01-01T01:00:00Z");
    let warnings = |hub: &FakeHub| {
        let events = hub.all("compute", EVENTS);
        events
            .into_iter()
            .filter(|e| e["reason"] == "ExpiringSoon")
            .collect::<Vec<_>>()
    };
    assert!(warnings(hub).is_empty());
    tokio::time::sleep(Duration::from_secs(51 * 60)).await;
    let events = warnings(hub);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "Warning");
    assert_eq!(
        condition(&east(hub), "CredentialsCurrent").1,
        "ExpiringSoon"
    );
    tokio::time::sleep(Duration::from_secs(8 * 60)).await;
    assert_eq!(warnings(hub).len(), 1);
    hub.until("expired", |hub| {
        condition(&east(hub), "Ready").1 == "CredentialsExpired"
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_silence_is_no_loss_and_a_longer_one_is_until_the_first_answer() {
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let hub = &world.hub;
    let connected = |hub: &FakeHub| condition(&east(hub), "Connected");
    // One probe fails, the next is answered.
    world.members.silence("east", true);
    tokio::time::sleep(Duration::from_secs(80)).await;
    world.members.silence("east", false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let since = east(hub)["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Connected")
        .unwrap()["lastTransitionTime"]
        .clone();
    assert_eq!(since, "2030-01-01T00:00:00Z", "nobody saw it");
    assert_eq!(connected(hub).0, "True");
    world.members.silence("east", true);
    hub.until("a loss", |hub| connected(hub).0 == "False").await;
    assert_eq!(connected(hub).1, "ConnectionTimeout");
    assert_eq!(east(hub)["status"]["phase"], "Unavailable");
    assert_eq!(condition(&east(hub), "CapabilitiesDiscovered").1, "Stale");
    world.members.silence("east", false);
    hub.until("the return", |hub| ready(&east(hub))).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_black_holes_delay_nobody_by_more_than_a_probe_interval() {
    let world = World::start().await;
    for n in 0..100 {
        let name = format!("hole{n:03}");
        world.members.silence(&name, true);
        world.register("compute", &name, &json!({}));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let start = tokio::time::Instant::now();
    world.register("compute", "east", &json!({}));
    world
        .hub
        .until("a ready Cluster", |hub| ready(&east(hub)))
        .await;
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    // One that answers is not kept from being probed.
    world.members.silence("east", true);
    world
        .hub
        .until("a loss", |hub| {
            condition(&east(hub), "Connected").0 == "False"
        })
        .await;
    world.members.silence("east", false);
    let start = tokio::time::Instant::now();
    world.hub.until("the return", |hub| ready(&east(hub))).await;
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_installed_followed_repaired_and_its_token_rotated() {
    let world = World::start().await;
    world.register("compute", "east", &deployment_mode());
    let hub = &world.hub;
    let member = world.members.of("east");
    let the_deployment = |member: &FakeHub| member.all(HOME, DEPLOYMENTS).into_iter().next();
    hub.until("a Deployment", |_| the_deployment(&member).is_some())
        .await;
    let agent = agent(&world.target());
    let name = agent.name();
    let at = format!("{name}/{name}");
    let deployment = member.get(HOME, DEPLOYMENTS, &at).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "tmc:test");
    let role = member.get(HOME, ROLES, &at).unwrap();
    assert!(role["rules"].to_string().contains("leases"), "{role}");
    assert!(member.get(HOME, BINDINGS, &at).is_some());
    let secret = member.get(HOME, SECRETS, &at).unwrap();
    let token = tmc_api::agent::workload::hub_token(&secret).unwrap();
    let account = hub.account_of(&token);
    assert_eq!(
        account,
        Some(("default".into(), name.clone())),
        "a token of the hub's account"
    );
    assert!(hub.get("compute", CLUSTER_ROLES, &name).is_some());
    assert!(
        world.syncers.running.lock().is_empty(),
        "nothing runs in the hub"
    );
    let ready_condition = |world: &World| condition(&world.target(), "SyncerReady");
    hub.until("it is followed", |_| {
        ready_condition(&world).1 == "SyncerUnhealthy"
    })
    .await;
    // Its controller in the member gets it running; the agent beats.
    member.patch_status(
        HOME,
        DEPLOYMENTS,
        &at,
        &json!({
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
        }),
    );
    let id = tmc_controllers::heartbeat::TargetId::new(
        &tmc_apimachinery::ClusterName::new("compute"),
        &agent.target,
        &agent.uid,
    );
    world
        .beats
        .record(&id, crate::world::beat(world.clock.now()));
    hub.until("ready", |_| {
        world.target()["status"]["syncerStatus"]["ready"] == true
    })
    .await;
    // Drift of any part of the spec is repaired.
    member.patch(HOME, DEPLOYMENTS, &at, json!({"spec": {"template": {"spec":
        {"containers": [{"name": "syncer", "image": "evil:1"}, {"name": "more", "image": "evil:2"}]}}}}));
    hub.until("a repair", |_| {
        let containers =
            &the_deployment(&member).unwrap()["spec"]["template"]["spec"]["containers"];
        containers[0]["image"] == "tmc:test" && containers[1].is_null()
    })
    .await;
    // The token is replaced after four fifths of a day.
    tokio::time::sleep(Duration::from_secs(19 * 3600)).await;
    let stored = |member: &FakeHub| {
        tmc_api::agent::workload::hub_token(&member.get(HOME, SECRETS, &at).unwrap()).unwrap()
    };
    assert_eq!(stored(&member), token);
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert_ne!(stored(&member), token);
    assert!(
        !hub.dump().contains("e30."),
        "no token is stored on the hub"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_hub_uses_the_agents_token_on() {
    let world = World::start().await;
    world.register("compute", "east", &deployment_mode());
    let member = world.members.of("east");
    world
        .hub
        .until("a Deployment", |_| {
            !member.all(HOME, DEPLOYMENTS).is_empty()
        })
        .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let (deployment, issued) = (member.all(HOME, DEPLOYMENTS), world.hub.issued());
    let world = world.restart().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(member.all(HOME, DEPLOYMENTS), deployment);
    assert_eq!(world.hub.issued(), issued);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_loopback_hub_refuses_deployments_and_installs_nothing() {
    let world = World::start().await;
    *world.url.lock() = "https://127.0.0.1:6443".into();
    world.register("compute", "east", &deployment_mode());
    let hub = &world.hub;
    hub.until("a refusal", |hub| {
        let targets = hub.all("compute", TARGETS);
        targets
            .iter()
            .any(|t| condition(t, "Ready").1 == "SyncerDeploymentFailed")
    })
    .await;
    let (_, _, message) = condition(&world.target(), "Ready");
    assert!(message.contains("--external-url"), "{message}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.members.of("east").all(HOME, DEPLOYMENTS).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_mode_removes_what_the_former_had() {
    let world = World::start().await;
    world.register("compute", "east", &deployment_mode());
    let hub = &world.hub;
    let member = world.members.of("east");
    hub.until("a Deployment", |_| {
        !member.all(HOME, DEPLOYMENTS).is_empty()
    })
    .await;
    let agent = agent(&world.target());
    // Its pods make it.
    let lease = |name: &str, marks: Value| {
        let mut lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": marks, "spec": {"holderIdentity": "a"}});
        lease["metadata"]["name"] = name.into();
        lease["metadata"]["namespace"] = agent.name().into();
        member.create(HOME, LEASES, lease);
    };
    lease(&agent.lease(), agent.lease_marks());
    lease("strangers", json!({}));
    let set = |mode: &str| {
        hub.patch(
            "compute",
            TARGETS,
            &agent.target,
            json!({"spec": {"syncerConfig": {"mode": mode}}}),
        );
    };
    set("Hosted");
    hub.until("a task", |_| world.syncers.running.lock().len() == 1)
        .await;
    assert!(member.all(HOME, DEPLOYMENTS).is_empty());
    assert!(member.all(HOME, SECRETS).is_empty());
    let leases = member.all(HOME, LEASES);
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(leases[0]["metadata"]["name"], "strangers");
    for rights in [ROLES, BINDINGS] {
        assert!(
            member.all(HOME, rights).is_empty(),
            "a Hosted syncer has no Lease"
        );
    }
    assert!(
        hub.all("compute", CLUSTER_ROLES).is_empty(),
        "nor an account on the hub"
    );
    world.syncers.busy.store(true, Ordering::Relaxed);
    set("External");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(
        member.get(HOME, CLUSTER_ROLES, &agent.name()).is_some(),
        "the task is still at something"
    );
    assert!(hub.all("compute", CLUSTER_ROLES).is_empty());
    world.syncers.busy.store(false, Ordering::Relaxed);
    hub.until("an account on the hub", |hub| {
        !hub.all("compute", CLUSTER_ROLES).is_empty()
    })
    .await;
    assert!(world.syncers.running.lock().is_empty());
    assert!(member.all(HOME, CLUSTER_ROLES).is_empty());
    assert!(member.all(HOME, NAMESPACES).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_external_target_gets_an_account_on_the_hub_and_nothing_else() {
    let world = World::start().await;
    let hub = &world.hub;
    hub.create(
        "compute",
        TARGETS,
        json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "west"}, "spec": {},
        }),
    );
    hub.until("an account", |hub| !hub.all("compute", ACCOUNTS).is_empty())
        .await;
    let name = agent(&world.target()).name();
    hub.until("its rights", |hub| {
        hub.get(
            "compute",
            "rolebindings/rbac.authorization.k8s.io",
            &format!("default/{name}"),
        )
        .is_some()
    })
    .await;
    assert_eq!(hub.issued(), 0);
    hub.delete("compute", TARGETS, "west");
    hub.until("gone", |hub| hub.all("compute", TARGETS).is_empty())
        .await;
    assert!(hub.all("compute", ACCOUNTS).is_empty());
    assert!(hub.all("compute", CLUSTER_ROLES).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_anything_but_secrets() {
    let world = World::start().await;
    let token = "right.canary-4711";
    register_with(
        &world,
        crate::world::kubeconfig_secret("east-kubeconfig", "east", token),
    );
    let hub = &world.hub;
    hub.until("a ready Cluster", |hub| ready(&east(hub))).await;
    world.members.withhold("apps");
    world.members.make_read_only("east");
    tokio::time::sleep(Duration::from_secs(400)).await;
    world.members.silence("east", true);
    hub.until("a loss", |hub| {
        condition(&east(hub), "Connected").0 == "False"
    })
    .await;
    assert!(
        !hub.dump().contains("canary"),
        "the Secret itself has it as base64 only"
    );
    world.stop().await;
}
