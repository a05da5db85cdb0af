//! What is left of a target after any life: nothing.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;
use tmc_api::hashes::sync_target_key;
use tmc_controllers::cluster::derived;

use crate::member::HOME;
use crate::removal::nothing_is_left;
use crate::world::{World, deployment, namespace, placement, syncer};
use crate::{CLUSTER_ROLES, CLUSTERS, DEPLOYMENTS, EVENTS, NAMESPACES, PLACEMENTS, TARGETS};

/// What happens in the life of a target.
#[derive(Clone, Debug)]
enum Happening {
    /// Its syncer is to run another way.
    Mode(&'static str),
    /// Its member answers, or does not.
    Silence(bool),
    /// Its agent beats although the hub does not run it, or does not.
    Beats(bool),
    /// The hub restarts.
    Restart,
    /// Rights of the syncer are taken away in the member.
    Drift,
    /// Time passes, in seconds.
    Wait(u64),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let modes = prop::sample::select(vec!["Hosted", "Deployment", "External"]);
    prop_oneof![
        3 => modes.prop_map(Happening::Mode),
        1 => any::<bool>().prop_map(Happening::Silence),
        1 => any::<bool>().prop_map(Happening::Beats),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Drift),
        3 => (0_u64..100).prop_map(Happening::Wait),
    ]
}

/// The same 32 lives each time, unless `PROPTEST_CASES` and `PROPTEST_RNG_SEED` say otherwise. The seed
/// that was given is what reproduces a failure.
fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    let cases = std::env::var("PROPTEST_CASES").map_or(32, |_| given.cases);
    let rng_seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        fixed => fixed,
    };
    ProptestConfig {
        cases,
        rng_seed,
        failure_persistence: None,
        ..given
    }
}

async fn happens(world: World, what: &Happening) -> World {
    let target = world.hub.all("compute", TARGETS).pop();
    let name = target.map(|t| t["metadata"]["name"].as_str().unwrap().to_owned());
    match (what, name) {
        (Happening::Mode(mode), Some(name)) => {
            let spec = json!({"spec": {"syncerConfig": {"mode": mode}}});
            world.hub.patch("compute", TARGETS, &name, spec);
        }
        (Happening::Silence(silent), _) => world.members.silence("east", *silent),
        (Happening::Beats(beats), Some(_)) => {
            let target = world.target();
            let id = tmc_controllers::heartbeat::TargetId::new(
                &tmc_apimachinery::ClusterName::new("compute"),
                target["metadata"]["name"].as_str().unwrap(),
                target["metadata"]["uid"].as_str().unwrap(),
            );
            let mut elsewhere = world.syncers.elsewhere.lock();
            elsewhere.clear();
            elsewhere.extend(beats.then_some(id));
        }
        (Happening::Restart, _) => return world.restart().await,
        (Happening::Drift, _) => {
            let member = world.members.of("east");
            for role in member.all(HOME, CLUSTER_ROLES) {
                let name = role["metadata"]["name"].as_str().unwrap();
                member.delete(HOME, CLUSTER_ROLES, name);
            }
        }
        (Happening::Wait(seconds), _) => {
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
        }
        (Happening::Mode(_) | Happening::Beats(_), None) => {}
    }
    world
}

/// Places a Deployment of `demo` in `compute`, whose agent does its work throughout: gives the key of
/// the target that `east` will have.
fn place(world: &World) -> (String, tokio::task::JoinHandle<()>) {
    let hub = &world.hub;
    hub.grant("demo", "compute");
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    hub.create("demo", PLACEMENTS, placement("root:compute"));
    let cluster = hub.get("compute", CLUSTERS, "default/east").unwrap();
    let name = derived::name(&serde_json::from_value(cluster).unwrap());
    let key = sync_target_key("compute", &name);
    let agent = syncer(hub, &key);
    (key, agent)
}

async fn live_and_go(life: Vec<Happening>, end: Vec<Happening>, deletion: serde_json::Value) {
    let mut world = World::start().await;
    world.register("compute", "east", &json!({}));
    let (key, agent) = place(&world);
    for what in &life {
        world = happens(world, what).await;
    }
    let is_forced = deletion["force"] == true;
    let how = json!({"spec": {"deletion": deletion}});
    world.hub.patch("compute", CLUSTERS, "default/east", how);
    world.hub.delete("compute", CLUSTERS, "default/east");
    // The hub may restart, and the agent go on, while it goes.
    for what in &end {
        world = happens(world, what).await;
    }
    world.members.silence("east", false);
    world.syncers.elsewhere.lock().clear();
    for _ in 0..10 {
        if world.hub.get("compute", CLUSTERS, "default/east").is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let left = world.hub.get("compute", CLUSTERS, "default/east");
    assert_eq!(left, None, "it ends");
    let told = world.hub.all("compute", EVENTS);
    let told = told.iter().any(|event| event["reason"] == "LeftBehind");
    assert!(!told || is_forced, "the member came back in time");
    nothing_is_left(&world).await;
    let object = world.hub.get("demo", DEPLOYMENTS, "web/nginx").unwrap();
    assert!(!object.to_string().contains(&key), "{object}");
    agent.abort();
    world.stop().await;
}

/// While what a mode had is being removed and another is asked for already, nobody knows yet what is
/// made for that one.
#[tokio::test(start_paused = true)]
async fn a_mode_that_is_asked_for_before_the_last_change_is_done_leaves_nothing_either() {
    use Happening::{Mode, Restart, Wait};
    let life = vec![Wait(1), Mode("External"), Wait(1), Mode("Hosted")];
    live_and_go(life, vec![Restart], json!({})).await;
}

proptest! {
    // Each is a life of minutes, in virtual time.
    #![proptest_config(config())]

    #[test]
    fn after_any_life_and_any_end_nothing_is_left_of_a_target(
        life in prop::collection::vec(any_happening(), 0..10),
        end in prop::collection::vec(
            prop_oneof![Just(Happening::Restart), (0_u64..20).prop_map(Happening::Wait)], 0..3),
        (force, keep) in (any::<bool>(), any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        let deletion = json!({"force": force, "keepWorkloads": keep});
        runtime.block_on(live_and_go(life, end, deletion));
    }
}
