//! Clusters and their credentials: what is read of them, and what is asked of whom.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};

use crate::agents::{register_with, registered, registration_secret};
use crate::hub::FakeHub;
use crate::world::{World, condition, kubeconfig_secret, ready};
use crate::{CLUSTERS, EVENTS, SECRETS, TARGETS};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn cluster(hub: &FakeHub, name: &str) -> Value {
    hub.get("compute", CLUSTERS, &format!("default/{name}"))
        .unwrap()
}

/// The data of a Secret with a kubeconfig of `east` that is changed at a place.
fn changed(at: &str, value: Value) -> Value {
    let secret = kubeconfig_secret("s", "east", "right");
    let text = STANDARD
        .decode(secret["data"]["kubeconfig"].as_str().unwrap())
        .unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    let (parent, field) = at.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[field] = value;
    json!({"kubeconfig": STANDARD.encode(config.to_string())})
}

const CLUSTER: &str = "/clusters/0/cluster";
const USER: &str = "/users/0/user";

#[tokio::test(start_paused = true)]
async fn with_a_credential_that_is_refused_no_member_is_contacted() {
    let world = World::start().await;
    let hub = &world.hub;
    let cases = [
        (json!({"other": "YQ=="}), "InvalidCredentials"),
        (json!({"kubeconfig": "*"}), "InvalidCredentials"),
        (
            changed("/current-context", json!("x")),
            "InvalidCredentials",
        ),
        (
            changed(
                &format!("{CLUSTER}/certificate-authority-data"),
                json!("YQ=="),
            ),
            "InvalidCredentials",
        ),
        (
            changed(&format!("{USER}/exec"), json!({"command": "sh"})),
            "CredentialsForbidden",
        ),
        (
            changed(&format!("{CLUSTER}/insecure-skip-tls-verify"), json!(true)),
            "CredentialsForbidden",
        ),
        (
            changed(
                &format!("{CLUSTER}/server"),
                json!("http://east.sim.tmc.internal"),
            ),
            "CredentialsForbidden",
        ),
    ];
    // What is refused from the beginning.
    for (number, (data, _)) in cases.iter().enumerate() {
        let name = format!("c{number}");
        world.register("compute", &name, &json!({}));
        let secret = format!("default/{name}-kubeconfig");
        hub.patch("compute", SECRETS, &secret, json!({"data": null}));
        hub.patch("compute", SECRETS, &secret, json!({"data": data}));
    }
    pass(100).await;
    for (number, (_, reason)) in cases.iter().enumerate() {
        let valid = condition(&cluster(hub, &format!("c{number}")), "CredentialsValid");
        assert_eq!((&*valid.0, &*valid.1), ("False", *reason), "case {number}");
    }
    assert!(world.members.asked("east", "").is_empty());
    assert!(hub.all("compute", TARGETS).is_empty());
    // And what is refused later, though it was good.
    world.register("compute", "east", &json!({}));
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
    for (data, reason) in cases {
        let secret = "default/east-kubeconfig";
        hub.patch("compute", SECRETS, secret, json!({"data": null}));
        hub.patch("compute", SECRETS, secret, json!({"data": data}));
        let refused = |hub: &FakeHub| condition(&cluster(hub, "east"), "CredentialsValid").1;
        hub.until(reason, |hub| refused(hub) == reason).await;
        let asked = world.members.asked("east", "").len();
        pass(200).await;
        assert_eq!(world.members.asked("east", "").len(), asked, "{reason}");
        assert!(!ready(&cluster(hub, "east")));
    }
    world.stop().await;
}

/// Waits until a member was asked for a path once more.
async fn asked_again(world: &World, path: &str) {
    let before = world.members.asked("east", path).len();
    let asked = |_: &FakeHub| world.members.asked("east", path).len() > before;
    world.hub.until(path, asked).await;
}

/// Takes the Secret away and puts it back: in between the member must hear nothing, whatever was under
/// way, and afterwards it is visited again.
async fn take_the_secret_away(world: &World) {
    let hub = &world.hub;
    let valid = |hub: &FakeHub| condition(&cluster(hub, "east"), "CredentialsValid").0;
    hub.delete("compute", SECRETS, "default/east-kubeconfig");
    hub.until("a refusal", |hub| valid(hub) == "False").await;
    let asked = world.members.asked("east", "").len();
    pass(100).await;
    assert_eq!(world.members.asked("east", "").len(), asked);
    world.members.slow_down("east", Duration::ZERO);
    hub.create(
        "compute",
        SECRETS,
        kubeconfig_secret("east-kubeconfig", "east", "right"),
    );
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_visit_under_way_makes_no_further_request_once_its_credential_is_refused() {
    let world = World::start().await;
    world.members.slow_down("east", Duration::from_secs(3));
    world.register("compute", "east", &json!({}));
    asked_again(&world, "/version").await;
    take_the_secret_away(&world).await;
    world.stop().await;
    // And one that makes the syncer's account, with many requests.
    let world = World::start().await;
    world.members.slow_down("east", Duration::from_secs(1));
    world.register("compute", "east", &json!({}));
    let is_made = |hub: &FakeHub| !hub.all("compute", TARGETS).is_empty();
    world.hub.until("a target", is_made).await;
    let agent = crate::agents::agent(&world.target()).name();
    asked_again(&world, &format!("/api/v1/namespaces/{agent}")).await;
    take_the_secret_away(&world).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_visit_with_an_old_credential_ends_before_one_with_the_new_one_begins() {
    let world = World::start().await;
    let hub = &world.hub;
    world.members.slow_down("east", Duration::from_secs(4));
    world.register("compute", "east", &json!({}));
    asked_again(&world, "/version").await;
    pass(1).await;
    let other = kubeconfig_secret("s", "east", "right.2");
    let secret = "default/east-kubeconfig";
    hub.patch("compute", SECRETS, secret, json!({"data": other["data"]}));
    asked_again(&world, "/version").await;
    asked_again(&world, "/api").await;
    let (version, next) = (
        world.members.asked("east", "/version"),
        world.members.asked("east", "/api"),
    );
    assert_eq!(version.len(), 2);
    assert_eq!(next.len(), 1);
    let gap = next[0] - version[1];
    assert!(gap >= Duration::from_secs(4), "the old one asked: {gap:?}");
    world.members.slow_down("east", Duration::ZERO);
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_credential_is_told_again_until_it_is_written_and_then_no_more() {
    let world = World::start().await;
    let claims = json!({"exp": 1_893_456_000 + 3600});
    let token = format!("right.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    register_with(&world, kubeconfig_secret("east-kubeconfig", "east", &token));
    pass(50 * 60 - 5).await;
    let warnings = |world: &World| {
        let events = world.hub.all("compute", EVENTS).into_iter();
        events.filter(|e| e["reason"] == "ExpiringSoon").count()
    };
    // A pass a second.
    let passes = async |world: &World, count: u64| {
        for number in 0..count {
            let change = json!({"metadata": {"annotations": {"pass": number.to_string()}}});
            world.hub.patch("compute", CLUSTERS, "default/east", change);
            pass(1).await;
        }
    };
    world.hub.faults.refuse(Method::POST, EVENTS, "", 500);
    passes(&world, 30).await;
    let current = |world: &World| condition(&cluster(&world.hub, "east"), "CredentialsCurrent").1;
    assert_eq!(current(&world), "ExpiringSoon");
    assert_eq!(warnings(&world), 0);
    // The process ends before it could be told.
    let world = world.restart().await;
    passes(&world, 10).await;
    let tries = world.hub.faults.relent();
    assert!(
        (4..=12).contains(&tries.len()),
        "not on every pass: {tries:?}"
    );
    pass(60).await;
    assert_eq!(warnings(&world), 1);
    world.hub.faults.refuse(Method::POST, EVENTS, "", 500);
    passes(&world, 10).await;
    assert_eq!(world.hub.faults.relent(), [], "it was told");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_another_namespace_is_nobodys_credential() {
    let world = World::start().await;
    let hub = &world.hub;
    world.register("compute", "east", &json!({}));
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
    let mut elsewhere = kubeconfig_secret("east-kubeconfig", "east", "right");
    elsewhere["metadata"]["namespace"] = "other".into();
    hub.create("compute", SECRETS, elsewhere);
    hub.delete("compute", SECRETS, "default/east-kubeconfig");
    let missing = |hub: &FakeHub| condition(&cluster(hub, "east"), "Ready").1 == "SecretNotFound";
    hub.until("no Secret", missing).await;
    pass(100).await;
    assert!(missing(hub));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_is_not_a_missing_one() {
    let world = World::start().await;
    let hub = &world.hub;
    world.register("compute", "east", &json!({}));
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
    hub.faults.refuse(Method::GET, SECRETS, "", 503);
    let secret = "default/east-kubeconfig";
    hub.patch(
        "compute",
        SECRETS,
        secret,
        json!({"data": {"more": "YQ=="}}),
    );
    pass(60).await;
    assert!(ready(&cluster(hub, "east")), "the last verdict stands");
    let tries = hub.faults.relent();
    assert!((4..=24).contains(&tries.len()), "{tries:?}");
    hub.delete("compute", SECRETS, secret);
    hub.until("no Secret", |hub| {
        condition(&cluster(hub, "east"), "Ready").1 == "SecretNotFound"
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_told_though_the_target_cannot_be_made_which_is_tried_again() {
    let world = World::start().await;
    let hub = &world.hub;
    hub.faults.refuse(Method::POST, TARGETS, "", 422);
    world.register("compute", "east", &json!({}));
    hub.until("a connection", |hub| {
        condition(&cluster(hub, "east"), "Connected").0 == "True"
    })
    .await;
    pass(60).await;
    assert_eq!(
        condition(&cluster(hub, "east"), "Ready").1,
        "NotArranged",
        "{}",
        cluster(hub, "east")
    );
    assert_eq!(cluster(hub, "east")["status"]["phase"], "Registered");
    let tries = hub.faults.relent();
    assert!((4..=24).contains(&tries.len()), "not hot: {tries:?}");
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_answers_is_asked_each_minute_and_one_that_fails_ever_less_often() {
    let world = World::start().await;
    let hub = &world.hub;
    world.members.break_down("west");
    world.register("compute", "east", &json!({}));
    world.register("compute", "west", &json!({}));
    hub.until("a ready Cluster", |hub| ready(&cluster(hub, "east")))
        .await;
    let reason = condition(&cluster(hub, "west"), "Connected").1;
    assert_eq!(reason, "ConnectionFailed");
    pass(1200).await;
    let gaps = |name: &str| -> Vec<u64> {
        let asked = world.members.asked(name, "/version");
        let pairs = asked.windows(2);
        pairs.map(|pair| (pair[1] - pair[0]).as_secs()).collect()
    };
    let steady: Vec<u64> = gaps("east").into_iter().skip(3).collect();
    assert!(
        steady.len() > 10 && steady.iter().all(|gap| (60..=72).contains(gap)),
        "{steady:?}"
    );
    let varied = steady.iter().any(|gap| *gap != steady[0]);
    assert!(varied, "not all at once: {steady:?}");
    let failing = gaps("west");
    assert!(failing.len() < 30, "{failing:?}");
    // Twice as long each time, up to a minute, and a little more by chance.
    let (doubling, rest) = failing.split_at(6);
    assert!(
        doubling.is_sorted() && doubling[0] <= 1 && doubling[5] >= 32,
        "{failing:?}"
    );
    assert!(
        rest.iter().all(|gap| (60..=72).contains(gap)),
        "{failing:?}"
    );
    world.stop().await;
}

/// What is said at the end of a Cluster of what is left of its registration.
async fn said_at_the_end(world: &World) -> Vec<String> {
    let hub = &world.hub;
    hub.delete("compute", CLUSTERS, "default/east");
    let start = tokio::time::Instant::now();
    while hub.get("compute", CLUSTERS, "default/east").is_some() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < Duration::from_secs(300), "it must end");
    }
    let events = hub.all("compute", EVENTS).into_iter();
    events
        .filter(|e| e["reason"] == "LeftBehind" && e["involvedObject"]["kind"] == "Cluster")
        .map(|e| e["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_registration_account_whose_token_has_ended_is_told_to_be_left_behind() {
    let world = World::start().await;
    let member = world.members.of("east");
    register_with(&world, registration_secret(&member, -60));
    let hub = &world.hub;
    hub.until("expired", |hub| {
        condition(&cluster(hub, "east"), "Ready").1 == "CredentialsExpired"
    })
    .await;
    let said = said_at_the_end(&world).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("the registration account"), "{said:?}");
    assert!(
        said[0].contains(tmc_api::agent::registration::NAMESPACE),
        "{said:?}"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_registration_whose_secret_is_gone_is_told_what_may_be_left_behind() {
    let (world, _) = registered().await;
    let hub = &world.hub;
    hub.delete("compute", SECRETS, "default/east-kubeconfig");
    hub.until("it is missed", |hub| {
        condition(&cluster(hub, "east"), "CredentialsValid").1 == "SecretNotFound"
    })
    .await;
    let said = said_at_the_end(&world).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("may have made"), "{said:?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_an_ended_credential_that_somebody_else_made_nothing_is_told() {
    let world = World::start().await;
    let claims = json!({"exp": 1_893_456_000 - 60});
    let token = format!("right.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    register_with(&world, kubeconfig_secret("east-kubeconfig", "east", &token));
    world
        .hub
        .until("expired", |hub| {
            condition(&cluster(hub, "east"), "Ready").1 == "CredentialsExpired"
        })
        .await;
    assert_eq!(said_at_the_end(&world).await, [] as [String; 0]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_tokens_are_always_due_costs_a_renewal_a_minute() {
    let (world, member) = registered().await;
    let hub = &world.hub;
    member.issue_old_tokens();
    pass(55 * 60).await;
    let before = member.issued();
    pass(10 * 60).await;
    let renewals = member.issued() - before;
    assert!((4..=11).contains(&renewals), "{renewals}");
    assert!(ready(&cluster(hub, "east")));
    world.stop().await;
}
