//! Accounts of agents that are gone and made anew: a token of the old one is worth nothing.

use std::time::Duration;

use serde_json::json;
use tmc_api::agent::AgentId;
use tmc_api::agent::hub::NAMESPACE;
use tmc_api::agent::kubeconfig::claims;
use tmc_api::agent::workload::hub_token;

use crate::member::HOME;
use crate::removal::is_made;
use crate::world::World;
use crate::{ACCOUNTS, SECRETS, TARGETS};

fn agent(world: &World) -> AgentId {
    let target = world.target();
    let text = |field: &str| target["metadata"][field].as_str().unwrap().to_owned();
    AgentId::new("compute", &text("name"), &text("uid"))
}

/// With what the Hosted syncer was started last.
fn fingerprint(world: &World) -> Option<String> {
    let started = world.syncers.started.lock();
    let (syncer, _) = started.values().next()?;
    Some(syncer.fingerprint.clone())
}

fn set_mode(world: &World, mode: &str) {
    let spec = json!({"spec": {"syncerConfig": {"mode": mode}}});
    let name = world.target()["metadata"]["name"].clone();
    world
        .hub
        .patch("compute", TARGETS, name.as_str().unwrap(), spec);
}

#[tokio::test(start_paused = true)]
async fn a_syncer_that_comes_back_does_not_go_by_the_account_that_it_had() {
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let member = world.members.of("east");
    let before = fingerprint(&world).unwrap();
    set_mode(&world, "External");
    let account = format!("{}/{}", agent(&world).name(), agent(&world).name());
    world
        .hub
        .until("no account", |_| {
            member.get(HOME, ACCOUNTS, &account).is_none()
        })
        .await;
    let issued = member.issued();
    set_mode(&world, "Hosted");
    world
        .hub
        .until("another way in", |_| {
            is_made(&world, "Hosted") && fingerprint(&world).is_some_and(|now| now != before)
        })
        .await;
    assert!(member.get(HOME, ACCOUNTS, &account).is_some());
    assert_eq!(member.issued(), issued + 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_in_the_member_that_somebody_removed_gets_a_token_of_its_own() {
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let member = world.members.of("east");
    let issued = member.issued();
    let account = format!("{}/{}", agent(&world).name(), agent(&world).name());
    member.delete(HOME, ACCOUNTS, &account);
    // Long before the old token is due.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(member.get(HOME, ACCOUNTS, &account).is_some());
    assert_eq!(member.issued(), issued + 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_account_on_the_hub_was_made_anew_gets_a_token_of_that() {
    let world = World::start().await;
    let spec = json!({"syncTargetTemplate": {"syncerConfig": {"mode": "Deployment"}}});
    world.register("compute", "east", &spec);
    let hub = &world.hub;
    hub.until("a syncer", |_| is_made(&world, "Deployment"))
        .await;
    let account = format!("{NAMESPACE}/{}", agent(&world).name());
    hub.delete("compute", ACCOUNTS, &account);
    // It is made anew on the hub while nothing can be written into the member.
    world.members.silence("east", true);
    hub.until("another account", |hub| {
        hub.get("compute", ACCOUNTS, &account).is_some()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.members.silence("east", false);
    let uid = hub.get("compute", ACCOUNTS, &account).unwrap()["metadata"]["uid"].clone();
    hub.until("a token of it", |_| {
        token_uid(&world) == Some(uid.as_str().unwrap().to_owned())
    })
    .await;
    world.stop().await;
}

/// The uid of the account on the hub that the token of the agent in `east` is tied to.
fn token_uid(world: &World) -> Option<String> {
    let secrets = world.members.of("east").all(HOME, SECRETS);
    let token = secrets.iter().find_map(hub_token)?;
    Some(claims(&token)?.uid)
}
